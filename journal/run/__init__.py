"""Run the rows of a job through a handler.

- ``open_job``: opens a job with its input, and runs the job. ``input_match`` compares the input
  with the job's rows, and ``plan`` decides which rows to run. ``advice``: says how to continue, in
  the words of a script or of the command line.
- ``driver``: the loop of a run. In a run, only the thread of this loop writes to the job. There is
  one exception: workers record steps. ``lifecycle``: starts and ends the run, and keeps the job's
  run lock meanwhile. ``row_queue``: chooses the next row. ``settling``: records outcomes.
  ``run_report``: the result of the run. ``exit_codes``: all exit codes of `journal`.
- ``outcome``: turns the return value or exception of a handler into an outcome, with a traceback.
  ``pacing``: limits rate and cost, decides about retries, and ends a run early. ``signals``: counts
  each Ctrl-C, and says what each Ctrl-C does.
- ``caller``: the thread or the coroutine that waits for the driver. The driver has its own thread.
- ``workers``: calls handlers in threads, in coroutines or in processes.

Imports allowed: ``service`` and the layers below it (see ``docs/architecture.md``).
"""
