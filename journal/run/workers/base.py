"""The classes that the driver and the workers of a run share: workers, calls, and results."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Collection, Sequence

from journal.run.outcome import Outcome
from journal.run.workers.handler import Rows

_GATHER_S = 0.001  # how long a result may wait for others; its row is in doubt after a kill


class Call:
    """A call of the handler, with one row or many.

    Either a worker begins the call, or the driver cancels it. The first of the two that asks gets
    the call. If the same one asks again, it gets the same answer. While ``held`` has an item, no
    worker begins a call: see :class:`Results`.

    - ``ticket``: the number of the first row's attempt in this run. The tickets of the other rows
      follow.
    - ``dispatched_s``: when the call was passed to the workers. ``deadline_s``: when to end the
      call, by ``monotonic``. ``timed_out``: whether the call was ended at this deadline.
      ``ends_asked``: how often the call was asked to end.
    - ``is_ended``: whether the rows have outcomes. ``is_given_up``: whether the driver has given up
      the call and set these outcomes. ``slot_lost``: whether a given-up call still occupies its
      worker.
    """

    __slots__ = (
        "_owner",
        "deadline_s",
        "dispatched_s",
        "ends_asked",
        "held",
        "is_ended",
        "is_given_up",
        "rows",
        "slot_lost",
        "ticket",
        "timed_out",
    )

    def __init__(
        self,
        rows: Rows,
        ticket: int,
        held: Collection[Call] = (),
        deadline_s: float | None = None,
    ) -> None:
        self._owner: dict[str, str] = {}
        self.rows = rows
        self.ticket = ticket
        self.held = held
        self.dispatched_s = 0.0
        self.deadline_s = deadline_s
        self.timed_out = self.is_ended = self.is_given_up = self.slot_lost = False
        self.ends_asked = 0

    def begin(self) -> bool:
        """Return whether the worker may make the call. Called by the worker."""
        if self.held and not self._owner:
            return False
        return self._owner.setdefault("owner", "worker") == "worker"

    def give_back(self) -> None:
        """Undo :meth:`begin`, because the call could not be made.

        The call may be begun or cancelled again.
        """
        self._owner.clear()

    def cancel(self) -> bool:
        """Cancel the call if no worker has begun it. Return whether it is cancelled.

        No worker begins a cancelled call. Called by the driver.
        """
        return self._owner.setdefault("owner", "driver") == "driver"


class Workers:
    """The base of workers, which make up to ``count`` calls at a time. Only the driver uses them.

    - ``queues``: whether more than ``count`` calls may be dispatched, so that some wait for a free
      worker. This is False if a dying worker also loses calls that had not begun. Otherwise all
      rows of these calls would need a review.
    - ``maximum``: the largest possible ``count``, or None if there is no bound.
    """

    queues = True
    count: int

    @property
    def maximum(self) -> int | None:
        return None

    def resize(self, count: int) -> None:
        """Make up to ``count`` calls at a time from now on. Calls that have begun end as usual."""
        self.count = count

    def dispatch(self, call: Call) -> None:
        """Pass the call to a worker, which calls ``call.begin()`` before it calls the handler.

        If ``call.begin()`` returns True, the worker puts the outcome of each row into the
        :class:`Results`, once. If the call can't be made at all, these outcomes are "unstarted".
        Errors of a call become outcomes and are not raised.
        """
        raise NotImplementedError

    def flush(self) -> None:
        """Submit dispatched calls that wait in the driver, if workers are free.

        Blocks only while an executor's ``submit`` blocks. Raises TypeError for an executor that
        can't be used.
        """

    def cancel(self, call: Call, *, force: bool) -> bool:  # noqa: ARG002
        """Ask a call to end now.

        Returns False if the call can't be asked. Such a call may never end.
        """
        return False

    def abandon(self, call: Call) -> bool:  # noqa: ARG002
        """Give up a call. Returns True if another call can take the place of this call."""
        return False

    def close(self) -> None:
        """Take no more calls. Doesn't wait for calls that were given up."""


class Results:
    """The outcomes of calls, in the order in which workers have put them.

    ``held``: the calls that have an outcome "held" (see :class:`Hold`), until this outcome is
    recorded. While ``held`` has a call, workers begin no other call. Without this rule, workers
    would begin queued calls before the driver has seen the outcome.
    """

    def __init__(self) -> None:
        self.held: set[Call] = set()
        self._ended: deque[tuple[Call, Sequence[Outcome]]] = deque()
        self._wanted = math.inf  # when this number of calls have ended, the driver should look
        self._news = threading.Lock()  # released when the driver should look
        self._news.acquire()

    def put(self, call: Call, outcomes: Sequence[Outcome]) -> None:
        """Add the outcomes of a call's rows. Called by workers."""
        for outcome in outcomes:
            if outcome.kind == "held":
                self.held.add(call)
        self._ended.append((call, outcomes))
        if len(self._ended) >= self._wanted or self.held:
            self.wake()

    def put_for_each(self, call: Call, outcome: Outcome) -> None:
        """Add an outcome that all rows of the call have."""
        self.put(call, (outcome,) * len(call.rows))

    def put_unstarted(self, call: Call, code: str = "", message: str = "") -> None:
        """Add the outcome of a call that could not be made, for each row.

        ``code``: "" if the call was only cancelled.
        """
        self.put_for_each(call, Outcome(kind="unstarted", error_code=code, error_message=message))

    def wake(self) -> None:
        """Make the driver look for changes. May be called by any thread and by signal handlers."""
        try:  # noqa: SIM105  (suppress() takes longer than the rest of this method)
            self._news.release()
        except RuntimeError:
            pass  # the driver is about to look anyway

    def wait(self, timeout_s: float, wanted: int = 1) -> None:
        """Wait for an outcome or a call of :meth:`wake`, at most ``timeout_s`` seconds.

        First waits a short time until ``wanted`` calls have ended.
        """
        self._wanted = wanted
        if len(self._ended) < wanted:
            is_woken = self._news.acquire(timeout=max(0.0, min(timeout_s, _GATHER_S)))
            self._wanted = 1
            if not (is_woken or self._ended):
                self._news.acquire(timeout=max(0.0, timeout_s))
        self._wanted = math.inf

    def take(self) -> tuple[Call, Sequence[Outcome]] | None:
        """Return the next call that has ended, with its outcomes, or None."""
        return self._ended.popleft() if self._ended else None
