"""The short ``repr`` and the HTML of what a notebook shows."""

from __future__ import annotations

import html.parser
from pathlib import Path
from typing import Any

import pytest

import journal

EVIL = '<script>alert(1)</script>\u202e"&'


class Parser(html.parser.HTMLParser):
    """Notes the tags that are open, and all text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, _: Any) -> None:
        self.open.append(tag)
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def shown(value: Any) -> str:
    """The text of the value's HTML, which is well formed and holds nothing but harmless tags."""
    parsed = Parser(value._repr_html_())
    assert parsed.open == []
    assert parsed.tags <= {"div", "span", "b", "table", "thead", "tbody", "tr", "th", "td"}
    return parsed.text


@pytest.fixture(name="job")
def fixture_job(tmp_path: Path) -> Any:
    def handle(row: journal.AttemptedRow) -> journal.RowResult:
        if row.row_number == 2:
            raise journal.Fail("E-ZIP", EVIL)
        return journal.RowResult(result={"label": EVIL}, cost_cents=2.5, usage={"calls": 1})

    rows = [{"order": f"A-{n}", EVIL: "x" * 5000} for n in range(1, 31)]
    secret = ["curl", "-H", "token=hunter2"]
    with journal.open_job(tmp_path / "ship", rows, key="order", name=EVIL, argv=secret) as job:
        report = job.run(handle, max_rows=20, tell=lambda _text: None)
        yield job, report


def test_a_repr_is_a_line_that_says_what_it_is(job: Any) -> None:
    run, report = job
    counts = "ship: paused, 19 of 30 rows done, 1 failed"
    assert repr(run) == f"<JobRun {counts}>"
    assert repr(run.job) == f"<Job {counts}>"
    assert repr(report).startswith(
        f"<RunReport {counts}; this run: 30 new, 19 completed, 1 failed in "
    )
    assert "; ended early: 20 rows were started" in repr(report)
    assert repr(run.rows()) == "<30 rows of job 'ship'>"
    assert repr(run.rows("failed")) == "<1 row of job 'ship'>"
    row = repr(run.rows("failed")[0])
    assert row.startswith("<JobRow ship:2: failed after 1 attempt, {'order': 'A-2', ")
    assert row.endswith('…, E-ZIP: <script>alert(1)</script>\\u202e"&>')
    assert len(row) < 250


def test_html_escapes_and_shortens_all_values(job: Any) -> None:
    run, _ = job
    for value in (run, run.job):
        text = shown(value)
        assert EVIL.replace("\u202e", "\\u202e") in text
        assert len(value._repr_html_()) < 20_000


def test_the_html_of_a_job_has_counts_and_costs(job: Any) -> None:
    run, _ = job
    counts = "30 rows: ■ 19 completed \xa0 ■ 1 failed \xa0 ■ 10 pending"
    assert counts in shown(run)
    assert "47.5 cents, calls 19" in shown(run.job)
