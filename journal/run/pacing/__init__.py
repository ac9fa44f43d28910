"""How fast a run starts rows, and when it ends early.

``limits`` has all settings. ``starts`` says how many rows may start now. ``rate`` limits the rate
of starts, and ``usage_rate`` what calls use. ``halt`` counts failures, and ``bounds`` decides when
a run ends early. ``holds`` makes a run wait while the called service is down. ``retries`` decides
which attempts are retried, and when. ``waits`` stores what waits, and ``stalls`` notices that no row
ends any more. ``per_key`` limits the rows in flight by the values of columns. ``condition`` chooses
the rows of a run by ``where``. ``tune_requests`` changes limits while the run works, if somebody asks.
"""
