"""When no row has ended for so long that a run counts as stalled."""

import math

import pytest

from journal.progress.rate import is_stalled


@pytest.mark.parametrize(
    ("took_s", "least_s"),
    [
        ([], math.inf),  # nobody knows how long an attempt takes
        ([0.1], 60),
        ([8.0, 9.0, 9.0, 10.0], 90),
        ([1.0, 1.0, 400.0], 800),  # one of three took long: so may the next
        ([600.0, *[1.0] * 30], 60),  # one of many
        ([600.0, *[1.0] * 9] * 3, 1200),
    ],
)
def test_a_run_has_stalled_after_a_minute_ten_medians_and_twice_a_long_attempt(
    took_s: list[float], least_s: float
) -> None:
    assert not is_stalled(took_s, min(least_s - 0.01, 1e9))
    assert is_stalled(took_s, least_s) == (least_s < math.inf)
