"""Run the rows of a job through a handler.

- ``open_job``: opens a job with its input (``input_match``, ``plan``) and runs it.
- ``driver``: the loop of a run. Its thread is the only one that writes to the job. ``held_job``:
  the job that the run holds. ``row_queue``: chooses the next row and records outcomes.
  ``in_flight``: the dispatched attempts.
- ``attempts``: the caller's own loop instead.
- ``outcome``: what a handler returns or raises. ``retries``: which attempts are retried, and when.
  ``limits``: rate, cost, when to give up. ``signals``: what each Ctrl-C does.
- ``workers``: where handlers run. ``handover``: what they share with the driver.

May import: ``service`` and what is below.
"""
