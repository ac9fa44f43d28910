"""What a run in the caller's event loop rests on: cancelling, stopping, the setup, batches of tasks."""

from __future__ import annotations

from mutation.patch import Patch

ARUN = "tests/run/test_arun.py"
RUN = "tests/run/test_runs.py"
SETUP = "tests/run/test_setup.py"

PATCHES = [
    Patch(
        "a cancelled arun stops its run",
        "run/in_loop",
        "                stops.add(reason=_CANCELLED)\n",
        "                pass\n",
        ARUN,
    ),
    Patch(
        "a cancelled arun waits for its rows in flight",
        "run/in_loop",
        "                cancelled = error\n",
        "                raise\n",
        ARUN,
    ),
    Patch(
        "a cancelled arun raises CancelledError",
        "run/in_loop",
        "            raise cancelled\n",
        "            pass\n",
        ARUN,
    ),
    Patch(
        "an error of the run comes before its cancellation",
        "run/in_loop",
        "        if isinstance(outcome, BaseException):\n",
        "        if isinstance(outcome, BaseException) and cancelled is None:\n",
        ARUN,
    ),
    Patch(
        "a run whose loop is closed gives up its rows",
        "run/in_loop",
        "            stops.at_least(3)\n",
        "            pass\n",
        ARUN,
    ),
    Patch(
        "messages of arun are heard in the loop",
        "run/in_loop",
        '        callbacks["tell"] = functools.partial(loop.call_soon_threadsafe, tell)\n',
        "        pass\n",
        ARUN,
    ),
    Patch(
        "arun leaves signals to the loop's owner unless it is asked",
        "run/in_loop",
        "    with stopping_signals(stops.add) if handle_signals else nullcontext():\n",
        "    with nullcontext():\n",
        ARUN,
    ),
    Patch(
        "handlers run in the context of the caller",
        "run/in_loop",
        "target=context.run, args=(drive,)",
        "target=drive",
        ARUN,
    ),
    Patch(
        "what stops a loop is passed on to its owner",
        "run/workers/event_loop",
        "            raise raised\n",
        "            pass\n",
        ARUN,
    ),
    Patch(
        "a row whose task somebody else has cancelled is for a person",
        "run/workers/event_loop",
        "        return interrupted(error) if is_cut_short else outcome\n",
        "        return outcome\n",
        ARUN,
    ),
    Patch(
        "an error that is a cancellation only by its class fails its row",
        "run/workers/event_loop",
        "            is_cut_short = task is not None and task.cancelling() > 0\n",
        "            is_cut_short = True\n",
        ARUN,
    ),
    Patch(
        "a task that is cancelled before its first step gives its row back",
        "run/workers/event_loop",
        "            self._put_unstarted(ticket, claim)\n",
        "            pass\n",
        ARUN,
    ),
    Patch(
        "a row in a closed loop can't be asked to end",
        "run/workers/event_loop",
        "        except RuntimeError:  # the loop is closed\n            return False\n",
        "        except ZeroDivisionError:\n            return False\n",
        ARUN,
    ),
    Patch(
        "a row that a closed loop can't start is given back",
        "run/workers/event_loop",
        '            self._put_unstarted(ticket, claim, "RuntimeError", text)\n',
        "            pass\n",
        ARUN,
    ),
    Patch(
        "closed workers make no more tasks",
        "run/workers/event_loop",
        "                self._loop.call_soon_threadsafe(self._new.clear)\n",
        "                pass\n",
        ARUN,
    ),
    Patch(
        "a few coroutines begin in each turn of the loop",
        "run/workers/event_loop",
        "        for _ in range(self._begun):\n",
        "        for _ in range(1000):\n",
        ARUN,
    ),
    Patch(
        "the loop looks again for rows when one has ended",
        "run/workers/event_loop",
        "            task.exception()  # else asyncio would warn that nobody has looked at it\n"
        "        self._look_again()\n",
        "            task.exception()\n",
        RUN,
    ),
    Patch(
        "the end of a run waits for the batch of another task",
        "run/driver",
        "                if isinstance(error, JobLockedError) and self._may_wait(error):\n",
        "                if False:\n",
        ARUN,
    ),
    Patch(
        "job.stop() reaches a run",
        "run/open_job",
        '            stops.add(reason="job.stop() was called")\n',
        "            pass\n",
        ARUN,
    ),
    Patch(
        "a setup is closed at the end",
        "run/workers/setup",
        "        self._may_close.set()\n",
        "        self._cancel()\n",
        SETUP,
    ),
    Patch(
        "a setup stays open when a loop that shuts down cancels all tasks",
        "run/workers/setup",
        "        while not self._may_close.is_set():\n",
        "        for _ in range(1):\n",
        SETUP,
    ),
    Patch(
        "a stop cancels a setup that takes too long",
        "run/workers/setup",
        "                self._loop.call_soon_threadsafe(self._cancel)\n",
        "                pass\n",
        SETUP,
    ),
    Patch(
        "a setup that is interrupted is left",
        "run/workers/setup",
        "        if not self._is_open:\n            self._cancel()\n",
        "",
        SETUP,
    ),
    Patch(
        "an error of a setup is raised as it is",
        "run/workers/setup",
        "        self._raise_error()\n\n    def close",
        "\n    def close",
        SETUP,
    ),
    Patch(
        "a setup that is cancelled before its first step doesn't keep the run waiting",
        "run/workers/setup",
        "        self._task.add_done_callback(self._ended)\n",
        "",
        SETUP,
    ),
    Patch(
        "a run that was stopped makes no setup",
        "run/workers/setup",
        "        if self._stops.count:\n",
        "        if False:\n",
        SETUP,
    ),
    Patch(
        "the setup of threads is closed",
        "run/workers/threads",
        "        self._setup.close()\n",
        "        pass\n",
        SETUP,
    ),
    Patch(
        "executors have no setup",
        "run/workers/choose",
        "    if setup is not None:\n",
        "    if False:\n",
        SETUP,
    ),
]
