"""Decides which attempts are retried, and when: after an error, a timeout or a lost worker."""

from __future__ import annotations

import random
from typing import Literal

import msgspec

from journal.model import JobRow, Policy
from journal.run.outcome import Outcome
from journal.run.pacing.limits import Limits
from journal.store.interrupted_rows import NEIGHBOR_DIED

_LOST_ATTEMPTS = 3  # attempts of a row whose workers die, with on_interrupted="retry"


def with_unknown(outcome: Outcome, limits: Limits, on_interrupted: Policy) -> Outcome:
    """The outcome of a failed attempt whose call may have taken effect, as it is recorded.

    The row needs a review, or fails without another attempt if ``on_interrupted`` says so. If the
    author has said that repeating the call is harmless, the attempt has failed like any other.
    """
    is_named = outcome.error_code in limits.retry_kinds(str)
    if is_named or on_interrupted in ("retry", "resume"):
        return msgspec.structs.replace(outcome, unknown=False)
    return msgspec.structs.replace(
        outcome,
        kind="failed" if on_interrupted == "fail" else "review",
        error_message=f"{outcome.error_message}; the call may have taken effect",
        retryable=False,
    )


def fate_of(
    row: JobRow,
    outcome: Outcome,
    limits: Limits,
    on_interrupted: Policy,
    *,
    in_doubt: bool = False,
) -> Literal["retry", "fail", "review"]:
    """Decide what becomes of a row after an attempt that failed or was lost.

    ``in_doubt``: True if nobody knows whether a step of the row took effect.
    """
    attempts = _attempts_since_reset(row)
    if outcome.kind == "lost":
        if on_interrupted == "resume":
            on_interrupted = "review" if in_doubt else "retry"
        # Each death of a pool counts for the row that caused it, if that row is known.
        is_counted = on_interrupted == "retry" and outcome.error_code != NEIGHBOR_DIED
        if is_counted and attempts >= max(limits.max_attempts, _LOST_ATTEMPTS):
            return "fail"
        return on_interrupted
    is_named = outcome.retryable or outcome.error_code in limits.retry_kinds(str)
    return "retry" if is_named and attempts < limits.max_attempts else "fail"


def delay_s(row: JobRow, outcome: Outcome, limits: Limits) -> float:
    """Seconds until the next attempt: set by the handler, or computed by :func:`backoff_s`."""
    if outcome.after_s is not None:
        return outcome.after_s
    return backoff_s(_attempts_since_reset(row), limits)


def _attempts_since_reset(row: JobRow) -> int:
    """Return how often the row was attempted since its last retry or redo."""
    return row.attempts - row.earlier_attempts


def backoff_s(attempts: int, limits: Limits) -> float:
    """Seconds to wait after this number of attempts. The wait doubles each time, with jitter.

    Half of the wait is random, so that rows that failed together are not retried together. With
    calls of many rows there is no jitter: their rows would be retried in calls of a few rows.
    """
    longest = limits.backoff_s * 2.0 ** min(attempts - 1, 60)
    share = 1.0 if limits.batch else random.uniform(0.5, 1)  # noqa: S311  (no secret)
    return min(longest, limits.max_backoff_s) * share
