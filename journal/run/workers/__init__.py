"""Where handlers run: threads, event loops, executors.

A worker takes an attempt and gives a result; it writes nothing to the job.

May import: what ``run`` may, and of ``run`` itself the outcomes and the handover.
"""
