"""`journal report`: one page that says how a job went, and does nothing else."""

import errno
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count, pairwise
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from support.attempts import try_again
from support.browser import Browser, in_browser
from support.commands import journal

from journal import Entry, Fail, JobRow, JobService, Position, open_job
from journal.cli.main import main
from journal.cli.watch.follow import Seen
from journal.errors import StorageError
from journal.format.records import (
    CallRecord,
    HoldRecord,
    JobPauseRecord,
    JobReopenedRecord,
    JobStatusRecord,
    RowStatusRecord,
    RunEndedRecord,
    RunRecord,
    now,
)
from journal.fs.system import host_name, user_name
from journal.history.statistics import MAX_BUCKETS, JobStatistics, SpanReader
from journal.model import Policy
from journal.report.page import MAX_GROUPS, MAX_ROWS, _lanes, report_page, write_report
from journal.service import existing_job
from journal.store.interrupted_rows import start_run
from journal.store.transitions import put_record

START = datetime(2026, 11, 24, 13, 35, 0, 1, tzinfo=UTC)  # no whole second: its record is another
VOID = {"meta", "link", "input", "br"}


class Page(HTMLParser):
    """The page as elements: each with its attributes and the text below it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text_of: list[str] = []
        self._open: list[int] = []
        self.feed(text)
        self.close()
        assert not self._open, "an element is left open"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.text_of.append("")
        if tag not in VOID:
            self._open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.text_of.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.elements[self._open.pop()][0] == tag

    def handle_data(self, data: str) -> None:
        for number in self._open:
            self.text_of[number] += data

    def texts(self, tag: str, **attributes: str) -> list[str]:
        """What stands in each element of a kind, white space made one."""
        return [
            " ".join(text.split())
            for (kind, given), text in zip(self.elements, self.text_of, strict=True)
            if kind == tag and attributes.items() <= given.items()
        ]

    def rows(self) -> list[dict[str, str | None]]:
        return [given for tag, given in self.elements if tag == "tr" and "data-status" in given]


UNSEEN = "\u202e\u061c\u2060\xad\U000e0041\x85"  # turn around what follows, or hide
HOSTILE = """</script></title><script>document.title='bad'</script><img src="URL" onerror='x'>"""


def hostile_store(root: Path, url: str) -> str:
    """A job that says HOSTILE wherever text can be said; its id."""
    bad = HOSTILE.replace("URL", url)
    with JobService(root, sync="none") as service:
        job = service.create_job(
            bad,
            bad,
            bad,
            metadata={bad: bad},
            job_id="hostile",
            row_data=[{"data": {bad: bad, "nested": [{bad: bad}]}} for _ in range(3)],
        )
        service.start_job(job.id)
        service.set_error(job.id, bad, bad)
        service.fail_row("hostile:1", bad, bad)
        service.start_row("hostile:2")
        service.review_row("hostile:2", f'" onload="{bad}', UNSEEN + bad)
        service.skip_row("hostile:3", bad)
        service.update_status(job.id, "failed")
    return job.id


def failed_job(root: Path, rows: int, *, codes: int = 2, job_id: str = "job") -> None:
    with JobService(root, sync="none") as service:
        data = ({"data": {"order": f"A-{n}", "Email": "z@example.com"}} for n in range(1, rows + 1))
        service.create_job("Ship", "./ship {order}", job_id=job_id, row_data=data)
        service.start_job(job_id)
        with service.batch(job_id):
            for n in range(1, rows + 1):
                service.start_row(f"{job_id}:{n}")
                if n % 5 == 0:
                    service.complete_row(f"{job_id}:{n}", cost_cents=250)
                else:
                    service.fail_row(f"{job_id}:{n}", f"E{n % codes}", f"message {n}")
        service.update_status(job_id, "failed")


def page_of(root: Path, job_id: str = "job") -> Page:
    with JobService(root) as service:
        return Page(report_page(service, job_id))


def test_the_page_states_counts_errors_and_rows(tmp_path: Path) -> None:
    failed_job(tmp_path, 10)
    page = page_of(tmp_path)
    assert page.texts("h1") == ["Ship failed"]
    assert page.texts("dl", **{"class": "tiles"}) == ["rows10 completed2 failed8 cost500 cents"]
    assert page.texts("h3") == ["E1 failed 4 rows", "E0 failed 4 rows"]
    assert page.texts("p", **{"class": "ranges"}) == ["rows 1, 3, 7, 9", "rows 2, 4, 6, 8"]
    assert page.texts("p", **{"class": "message"}) == ["message 1", "message 2"]
    assert page.texts("title")[0].endswith(" failed, 2 of 10 rows done")
    assert [row["data-code"] for row in page.rows()] == [
        f"E{number % 2}" for number in (1, 2, 3, 4, 6, 7, 8, 9)
    ]
    assert any("A-1" in text and "message 1" in text for text in page.texts("tr"))
    assert [text.split()[0] for text in page.texts("figure")] == ["Attempts", "Time", "Runs"]


def test_a_job_without_rows_has_a_page_too(tmp_path: Path) -> None:
    with JobService(tmp_path) as service:
        service.create_job("Nothing yet", job_id="job")
    page = page_of(tmp_path)
    assert page.texts("h1") == ["Nothing yet pending"]
    assert "No row has ended yet." in page.texts("p", **{"class": "note"})
    assert page.rows() == []


def test_a_job_whose_run_died_is_interrupted(tmp_path: Path) -> None:
    with JobService(tmp_path, sync="none") as service:
        service.create_job("Dies", job_id="job", row_data=[{"data": {}}])
        service.start_job("job")
        service.start_row("job:1")
        assert page_of(tmp_path).texts("h1") == ["Dies running"]
    page = page_of(tmp_path)
    assert page.texts("h1") == ["Dies interrupted"]
    assert any("1 row in flight" in text for text in page.texts("p", **{"class": "alert"}))


def test_a_page_says_why_its_job_starts_no_rows(tmp_path: Path) -> None:
    with JobService(tmp_path, sync="none", person="kim@here") as service:
        service.create_job("Waits", job_id="job", row_data=[{"data": {}}])
        service.start_job("job")
        with service.store.committing_run("job", "no") as (journal, _):
            put_record(journal, HoldRecord(until=START, reason="E503: down", at=START))
        (held,) = Page(report_page(service, "job")).texts("p", **{"class": "alert"})
        service.pause_job("job")  # the run waits, and no longer for the service
        (paused,) = Page(report_page(service, "job")).texts("p", **{"class": "alert"})
    assert held.startswith("Holding since 2")
    assert held.endswith(f", one row is tried after {START:%Y-%m-%d %H:%M:%S}: E503: down")
    assert paused.startswith("Paused by kim@here since 2")


def test_nothing_of_the_data_becomes_markup(tmp_path: Path) -> None:
    job_id = hostile_store(tmp_path, "http://127.0.0.1:9/x")
    page = page_of(tmp_path, job_id)
    assert {tag for tag, _ in page.elements} <= {
        *("html", "head", "meta", "link", "title", "style", "body", "header", "section", "footer"),
        *("h1", "h2", "h3", "p", "b", "i", "bdi", "span", "code", "time", "dl", "dt", "dd", "div"),
        *(
            "figure",
            "figcaption",
            "details",
            "summary",
            "table",
            "thead",
            "tbody",
            "tfoot",
            "tr",
            "th",
            "td",
            "article",
        ),
        *("label", "input", "select", "option", "output", "script"),
    }
    assert [tag for tag, _ in page.elements].count("script") == 1
    for tag, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
    assert page.texts("h1")[0].startswith(HOSTILE[:20])
    assert not set(UNSEEN) & set("".join(page.text_of))


def test_the_page_names_nothing_to_load(tmp_path: Path) -> None:
    failed_job(tmp_path, 10)
    with JobService(tmp_path) as service:
        text = report_page(service, "job")
    page = Page(text)
    for tag, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "action", "data", "srcset", "poster"):
            assert attributes.get(name) in {None, "data:,"}, (tag, attributes)
    assert "http:" not in text
    assert "https:" not in text
    assert "url(" not in text
    assert "@import" not in text
    (policy,) = [
        given["content"]
        for tag, given in page.elements
        if tag == "meta" and given.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy is not None
    assert policy.startswith("default-src 'none';")


def test_of_many_rows_the_first_are_shown_and_how_many_more(tmp_path: Path) -> None:
    failed_job(tmp_path, 2000, codes=150)
    page = page_of(tmp_path)
    assert len(page.rows()) == MAX_ROWS
    assert any("The first 1,000 of 1,600" in text for text in page.texts("p"))
    assert len(page.texts("h3")) == MAX_GROUPS
    assert any("more rows have codes that are not shown" in text for text in page.texts("p"))


def test_a_job_of_several_passes_is_told_with_them(tmp_path: Path) -> None:
    failed_job(tmp_path, 10)
    with JobService(tmp_path, sync="none") as service:
        assert "passes" not in report_page(service, "job")
        service.reopen_job("job", "the carrier is back")
        service.retry_failed_rows("job")
        service.start_job("job")
        service.start_row("job:1")
        service.complete_row("job:1")
    page = page_of(tmp_path)
    (passes,) = [text for text in page.texts("div") if text.startswith("passes")]
    assert passes.startswith("passes2, the last one since 20")
    events = [text for text in page.texts("td") if "reopened" in text]
    assert events == ["reopened: the carrier is back"]


def test_the_file_is_whole_or_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    failed_job(tmp_path / "store", 3)
    monkeypatch.chdir(tmp_path)
    assert main(["--root", "store", "report", "job"]) == 0
    written = (tmp_path / "job.html").read_text(encoding="utf-8")
    assert written.endswith("</html>")
    assert capsys.readouterr().err == "wrote job.html\n"
    assert main(["--root", "store", "report", "job", "-o", "job.html"]) == 2
    assert "--force" in capsys.readouterr().err
    assert main(["--root", "store", "report", "job", "-o", "-"]) == 0
    assert capsys.readouterr().out.startswith("<!DOCTYPE html>")
    assert main(["--root", "store", "report", "none", "-o", "x.html"]) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job.html", "store"]


def test_the_extra_is_named_when_it_is_missing(tmp_path: Path) -> None:
    failed_job(tmp_path, 3)
    code = (
        "import sys; sys.modules['jinja2'] = None; "
        "from journal.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--root", tmp_path, "report", "job", "-o", "-"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert "pip install 'rowjournal[report]'" in done.stderr


# --- what the history says


def test_throughput_and_latency_follow_from_the_history(tmp_path: Path) -> None:
    with JobService(tmp_path, sync="none") as service:
        service.create_job("Counts", job_id="job", row_data=[{"data": {}} for _ in range(4)])
        service.start_job("job")
        for number in (1, 2):
            service.start_row(f"job:{number}")
        service.complete_row("job:1")
        try_again(service, "job:2", "E", "try again")  # as a run does that has tries left
        service.start_row("job:2")
        service.fail_row("job:2", "E", "for good")
        service.skip_row("job:3")
        service.start_row("job:4")
        service.review_row("job:4", "E", "who knows")
        service.complete_row("job:4")  # as a person does who has looked: no other try
        service.update_status("job", "paused")
        statistics = JobStatistics(service.get_history("job"))
        attempts = sum(row.attempts for row in service.get_rows("job"))
    ended = {status for bucket in statistics.buckets for status in bucket.ended.elements()}
    assert ended == {"completed", "failed", "repeated", "needs_review"}
    assert sum(bucket.ended.total() for bucket in statistics.buckets) == attempts == 4
    assert len(statistics.took_s) == 4
    assert statistics.repeated == 1
    events = [(event.kind, event.text) for event in statistics.events]
    assert [kind for kind, _ in events] == ["created", "run", "job"]
    assert events[-1] == ("job", "paused")


def test_each_run_of_a_job_is_told_with_who_began_it_and_each_pause(tmp_path: Path) -> None:
    with JobService(tmp_path, sync="none") as service:
        service.create_job("Killed", job_id="job", row_data=[{"data": {}} for _ in range(3)])
    for number in (1, 2):  # a service that is closed with the job running is a run that has died
        with JobService(tmp_path, sync="none") as service:
            service.start_job("job")
            service.complete_row(f"job:{number}")
    with JobService(tmp_path, sync="none") as service:
        start_run(service.store, "job", keep=True)
        service.log("job", "not a run", details={"run": "of luck"})
        service.update_status("job", "paused")
        service.update_status("job", "running")  # the same run goes on
        service.pause_job("job")
        page = Page(report_page(service, "job"))
    run = f"run: on {host_name()} by {user_name()} as process {os.getpid()}"
    told = [text for text in page.texts("td") if not text.startswith("20")]
    assert told == ["created: Killed", run, run, run, "job: paused", "paused", "job: paused"]
    assert f"process {os.getpid()} on {host_name()}" in page.texts("dd")


@pytest.mark.parametrize("policy", ["review", "retry", "fail"])
def test_an_attempt_whose_run_died_is_counted_but_nobody_knows_how_long_it_took(
    tmp_path: Path, policy: Policy
) -> None:
    with JobService(tmp_path, sync="none") as service:
        service.create_job("Died", job_id="job", row_data=[{"data": {}}])
        service.start_job("job")
        service.start_row("job:1")
    with JobService(tmp_path, sync="none") as service:
        service.recover_job("job", policy)
        statistics = JobStatistics(service.get_history("job"))
        assert sum(bucket.ended.total() for bucket in statistics.buckets) == 1
        assert statistics.took_s == []
        assert report_page(service, "job")


def test_the_charts_show_tries_that_were_repeated(tmp_path: Path) -> None:
    with JobService(tmp_path, sync="none") as service:
        service.create_job("Tries", job_id="job", row_data=[{"data": {}}])
        service.start_job("job")
        for _ in range(3):
            service.start_row("job:1")
            try_again(service, "job:1", "E", "try again")
    page = page_of(tmp_path)
    assert "repeated" in page.texts("figcaption")[0]
    assert "No row has ended yet." not in page.texts("p")
    assert "repeated3 attempts failed and were repeated" in page.texts("div")


def history_of(*statuses: tuple[float, int, Any]) -> Iterator[Entry]:
    """Records of rows: after so many seconds, the number, the status."""
    for at_s, number, status in statuses:
        at = START + timedelta(seconds=at_s)
        yield Entry(0, RowStatusRecord(row=number, status=status, at=at), Position(0, 0), True)


@pytest.mark.parametrize("step_s", [0.001, 1.7, 3600, 10_000_000])
def test_a_timeline_is_bounded_however_long_the_job_was(step_s: float) -> None:
    attempts = [
        (step_s * number + at_s, number, status)
        for number in range(1000)
        for at_s, status in ((-1, "processing"), (0, "completed"))
    ]
    statistics = JobStatistics(history_of(*attempts))
    buckets = statistics.buckets
    assert len(buckets) <= MAX_BUCKETS
    assert sum(bucket.ended["completed"] for bucket in buckets) == 1000
    assert sum(len(bucket.took_s) for bucket in buckets) == 1000
    begins = [bucket.begin.timestamp() for bucket in buckets]
    steps = {round(after - before, 6) for before, after in pairwise(begins)}
    assert steps <= {statistics.width_s}
    assert begins[0] <= START.timestamp() < begins[0] + statistics.width_s


# --- in a browser


def dumped(path: Path, fragment: str = "") -> str:
    """The page as Chromium has it once its script has run."""
    with Browser() as browser:
        browser.open(path, fragment)
        return str(browser.value("document.documentElement.outerHTML"))


@contextmanager
def listening() -> Iterator[tuple[str, list[str]]]:
    """A server on this machine: its address, and what it was asked for so far."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@in_browser
def test_a_browser_asks_for_nothing_and_runs_nothing_of_the_data(tmp_path: Path) -> None:
    with listening() as (address, asked):
        job_id = hostile_store(tmp_path / "store", f"{address}/image")
        out = tmp_path / "report.html"
        assert main(["--root", str(tmp_path / "store"), "report", job_id, "-o", str(out)]) == 0
        dom = dumped(out)
        title = Page(out.read_text(encoding="utf-8")).texts("title")[0]
        assert "2 of 2 shown" in dom  # our own script has run
        assert " ".join(Page(dom).texts("title")[0].split()) == title
        assert asked == []
        bare = tmp_path / "bare.html"  # that the server would have heard of it
        bare.write_text(f"<img src={address}/bare>", encoding="utf-8")
        dumped(bare)
        assert asked == ["/bare"]


# What a reader has done to the page: scrolled, closed and typed.
STATE = """[scrollY, document.querySelector("details").open, document.activeElement.id,
    document.getElementById("filter-text").value, document.querySelector("output").textContent]"""


@contextmanager
def written_anew(store: Path, job_id: str, out: Path) -> Iterator[subprocess.Popen[str]]:
    """A command that has written a page for the first time, and writes it until the job ends."""
    words = ("--root", store, "report", job_id, "-o", out, "--every", "0.5s")
    command = [sys.executable, "-m", "journal", *map(str, words)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            assert process.stderr.readline() == f"wrote {out}, and write it anew until job ends\n"
            yield process
        finally:
            process.kill()


@in_browser
def test_a_page_reloads_itself_until_its_job_ends_and_stays_where_its_reader_was(
    tmp_path: Path,
) -> None:
    can_end, out = Event(), tmp_path / "page.html"

    def ship(row: JobRow) -> None:
        if row.row_number <= 40:
            raise Fail(f"E{row.row_number}", "no such street")
        can_end.wait()

    with (
        open_job(tmp_path / "store" / "job", [{"n": n} for n in range(1, 42)]) as job,
        ThreadPoolExecutor(1) as thread,
        Browser() as browser,
    ):
        try:
            run = thread.submit(job.run, ship, progress=False)
            with written_anew(tmp_path / "store", "job", out) as process:
                browser.open(out)
                while len(browser.value("[...document.querySelectorAll('#rows tbody tr')]")) < 40:
                    browser.wait_for_load()
                browser.value(
                    'document.querySelector("details").open = false;'
                    'const text = document.getElementById("filter-text");'
                    'text.value = "E1"; text.dispatchEvent(new Event("input")); text.focus();'
                    "scrollTo(0, 300)"
                )
                before = browser.value(f"[...{STATE}, document.body.dataset.written]")
                assert before[:5] == [300, False, "filter-text", "E1", "11 of 40 shown"]
                for _ in range(2):
                    browser.wait_for_load()
                after = browser.value(f"[...{STATE}, document.body.dataset.written]")
                assert after[:5] == before[:5]
                assert after[5] > before[5]
                can_end.set()
                assert run.result().exit_code == process.wait() == 3
            while browser.value("document.body.dataset.every ?? null") is not None:
                browser.wait_for_load()
            assert browser.value(STATE) == before[:5]
            assert browser.value("document.querySelector('h1 .badge').textContent") == "failed"
            quiet = "new Promise(done => setTimeout(() => done('still here'), 1500))"
            assert browser.value(quiet) == "still here"
            assert not browser.has_loaded
        finally:
            can_end.set()


@in_browser
@pytest.mark.parametrize("width", [400, 1200])
def test_no_text_of_a_page_overlaps_another_and_nothing_is_wider_than_the_window(
    tmp_path: Path, width: int
) -> None:
    job_id = hostile_store(tmp_path / "store", "x" * 300)
    out = tmp_path / "report.html"
    with JobService(tmp_path / "store", sync="none", person="kim@" + "host" * 30) as service:
        service.pause_job(job_id)
        service.resume_job(job_id, "reason " * 100)
        write_report(service, job_id, out, every_s=60)
    with Browser() as browser:
        browser.open(out, width=width)
        assert browser.value("document.documentElement.scrollWidth") == width
        overlaps = """(() => {
            const range = document.createRange(), boxes = [];
            const nodes = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
            while (nodes.nextNode()) {
                if (["SCRIPT", "OPTION"].includes(nodes.currentNode.parentNode.tagName)) continue;
                range.selectNodeContents(nodes.currentNode);
                for (const box of range.getClientRects()) boxes.push([box, range.toString()]);
            }
            return boxes.flatMap(([a, text], i) => boxes.slice(i + 1).filter(([b]) =>
                Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
                Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 6
            ).map(([b, other]) => [text, other]));
        })()"""
        assert browser.value(overlaps) == []


@in_browser
@pytest.mark.parametrize(("age_s", "is_old"), [(0, False), (600, True)])
def test_a_page_that_is_not_written_any_more_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age_s: int, is_old: bool
) -> None:
    failed_job(tmp_path / "store", 3)
    out = tmp_path / "report.html"
    written_at = datetime.now(UTC) - timedelta(seconds=age_s)
    monkeypatch.setattr("journal.report.page.now", lambda: written_at)
    with JobService(tmp_path / "store") as service:
        write_report(service, "job", out, every_s=100)
    page = Page(dumped(out))
    assert (page.texts("p", id="stale", hidden="") == []) is is_old
    text = f"Written {written_at:%Y-%m-%d %H:%M:%S} UTC, and expected anew every 1m40s"
    assert any(each.startswith(text) for each in page.texts("p"))


# --- written anew until the job ends


def test_a_page_is_written_anew_no_sooner_than_ten_times_as_long_as_writing_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed_job(tmp_path, 3)
    clock_s, written_s = [100.0], []

    def look(service: JobService, job_id: str) -> Iterator[Seen]:
        job = existing_job(service, job_id)
        for number in range(301):
            yield Seen(job, number == 300, job.status)
            clock_s[0] += 1

    def write(*_: object, every_s: float | None = None, **__: object) -> None:
        written_s.append((clock_s[0], every_s))
        clock_s[0] += 1 if len(written_s) == 1 else 5

    monkeypatch.setattr("journal.cli.commands.report.monotonic", lambda: clock_s[0])
    monkeypatch.setattr("journal.cli.commands.report.follow_job", look)
    monkeypatch.setattr("journal.cli.commands.report.write_report", write)
    assert main(["--root", str(tmp_path), "report", "job", "--every", "20s"]) == 3
    # 20 s after the first one, which took 1 s. Later ones take 5 s.
    assert [s for s, _ in written_s][:4] == [100, 121, 176, 231]
    assert {every_s for _, every_s in written_s[:-1]} == {20}
    assert written_s[-1][1] is None


def test_a_page_that_a_full_disk_has_no_room_for_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failed_job(tmp_path, 3)
    tries = Counter[str]()

    def look(service: JobService, job_id: str) -> Iterator[Seen]:
        job = existing_job(service, job_id)
        yield from (Seen(job, number == 5, job.status) for number in range(6))

    def write(*_: object, **__: object) -> None:
        tries["all"] += 1
        if tries["all"] in (2, 3):
            raise StorageError(tmp_path / "job.html", "write", errno.ENOSPC, "no space left")

    monkeypatch.setattr("journal.cli.commands.report.MIN_PAUSES", 0)
    monkeypatch.setattr("journal.cli.commands.report.monotonic", count(100, 100).__next__)
    monkeypatch.setattr("journal.cli.commands.report.follow_job", look)
    monkeypatch.setattr("journal.cli.commands.report.write_report", write)
    words = ["--root", str(tmp_path), "report", "job", "--every", "20s"]
    assert (main(words), tries["all"]) == (3, 6)
    assert capsys.readouterr().err.count("no space left; the last version stays") == 1


def test_a_page_of_a_job_that_has_ended_is_written_once(tmp_path: Path) -> None:
    failed_job(tmp_path / "jobs", 3)
    out = tmp_path / "page.html"
    words = ("--root", str(tmp_path / "jobs"), "report", "job", "--every", "10s", "-o", str(out))
    done = journal(*words)
    assert (done.returncode, done.stderr) == (3, f"wrote {out} for the last time: job is failed\n")
    assert "data-every" not in out.read_text(encoding="utf-8")
    assert journal(*words).returncode == 2  # OUT exists
    done = journal(*words[:-1], "-")
    assert (done.returncode, done.stdout) == (2, "")
    assert "give -o a file, not -" in done.stderr


@pytest.mark.parametrize("end", ["signal", "delete"])
def test_the_last_version_of_a_page_stays_when_its_command_ends_early(
    tmp_path: Path, end: str
) -> None:
    out = tmp_path / "page.html"
    with JobService(tmp_path / "store", sync="none") as service:
        service.create_job("Open", job_id="job", row_data=[{"data": {}}])
        with written_anew(tmp_path / "store", "job", out) as process:
            if end == "signal":
                process.terminate()
            else:
                service.delete_job("job")
            assert process.wait() == (4 if end == "delete" else 128 + signal.SIGTERM)
    text = out.read_text(encoding="utf-8")
    assert 'data-every="' in text
    assert text.endswith("</html>")
    assert list(tmp_path.glob(".journal-*")) == []


# --- what the time line shows


def test_the_time_line_shows_passes_runs_waits_and_pauses_and_why_rows_were_skipped(
    tmp_path: Path,
) -> None:
    with JobService(tmp_path, sync="none", person="kim@here") as service:
        service.create_job("Line", job_id="job", row_data=[{"data": {}} for _ in range(9)])
        service.start_job("job")
        for number in (1, 2, 3):
            service.skip_row(f"job:{number}", "on <holiday>")
        service.skip_row("job:4")
        for number in (5, 6, 7, 8, 9):
            service.start_row(f"job:{number}")
            service.complete_row(f"job:{number}")
        service.pause_job("job")
        service.resume_job("job")
        service.start_job("job")
        service.update_status("job", "completed")
        service.reopen_job("job", "smudged")
        page = Page(report_page(service, "job"))
    lanes = [each for each in page.texts("figure") if "in all" in each]
    assert [text.partition(" time")[0] for text in lanes] == [
        *("Passes 2", "Runs 2", "Pauses by a person 1")
    ]
    assert lanes[0].endswith("smudged")
    assert lanes[2].endswith(", by kim@here")
    assert page.texts("h3") == ["on <holiday> 3 rows", "no reason given 1 row"]


def test_the_page_of_a_run_that_ends_early_says_so_and_names_no_hold(tmp_path: Path) -> None:
    with JobService(tmp_path, sync="none") as service:
        service.create_job("Ends", job_id="job", row_data=[{"data": {}}] * 2)
        service.start_job("job")
        service.start_row("job:1")
        with service.store.committing_run("job", "no") as (journal, _):
            put_record(journal, HoldRecord(until=START, reason="E503: down", at=START))
            put_record(journal, RunEndedRecord(kind="max_rows", message="enough", at=START))
        (ends,) = Page(report_page(service, "job")).texts("p", **{"class": "alert"})
    assert ends == "Pausing, 1 row in flight: enough"


def test_the_page_of_a_run_lists_the_rows_in_flight_oldest_first_and_says_that_it_has_stalled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with JobService(tmp_path, sync="none") as service:
        service.create_job("Busy", job_id="job", row_data=[{"data": {"n": n}} for n in range(4)])
        service.start_job("job")
        for number in (3, 1, 2):
            service.start_row(f"job:{number}")
        service.complete_row("job:3")
        monkeypatch.setattr("journal.report.page.now", lambda: now() + timedelta(minutes=90))
        page = Page(report_page(service, "job"))
        assert [text.split()[0] for text in page.texts("tr")[1:3]] == ["11h30m1n", "21h30m1n"]
        assert "Stalled: no attempt has ended for 1h30m." in page.texts("p")
        service.update_status("job", "paused")
        assert "In flight" not in Page(report_page(service, "job")).texts("h2")


def test_the_line_of_holds_says_how_often_each_reason_held() -> None:
    records: list[Any] = [a_run(0)]
    for second, reason in ((1, "503"), (3, "429"), (5, "429")):
        records.append(HoldRecord(until=at_s(9), reason=reason, at=at_s(second)))
        records.append(HoldRecord(reason="over", at=at_s(second + 1)))
    statistics = JobStatistics(Entry(0, record, Position(0, 0), True) for record in records)
    lanes = {lane["name"]: lane["facts"] for lane in _lanes(statistics, 1)}
    assert lanes["holds"] == ["3 times", "3.0s in all", "2 x 429", "1 x 503"]


def spans_of(*records: Any, until_s: float | None = None) -> dict[str, list[tuple[float, ...]]]:
    """The spans of records, in seconds after START. Each has its seconds in place of its time."""
    reader = SpanReader()
    entries = [Entry(0, record, Position(0, 0), True) for record in records]
    assert list(reader.read(iter(entries), None if until_s is None else at_s(until_s))) == entries
    return {
        name: [tuple((at - START).total_seconds() for at in span[:2]) for span in spans]
        for name, spans in reader.found.items()
        if spans
    }


def at_s(second: float) -> datetime:
    return START + timedelta(seconds=second)


def a_run(second: float) -> RunRecord:
    return RunRecord(id="0" * 16, host="a", user="b", pid=1, package="1", at=at_s(second))


def a_status(second: float, status: Any) -> JobStatusRecord:
    return JobStatusRecord(status=status, at=at_s(second))


def a_row(second: float, row: int, status: Any, **more: Any) -> RowStatusRecord:
    return RowStatusRecord(row=row, status=status, at=at_s(second), **more)


@pytest.mark.parametrize(
    ("until_s", "end_s"), [(99, 99), (None, 30)], ids=["a run works", "the run died"]
)
def test_a_run_that_died_ends_with_the_last_status_that_it_has_set(
    until_s: float | None, end_s: float
) -> None:
    records = [
        *(a_run(0), a_status(0, "running"), a_row(1, 1, "processing"), a_row(7, 1, "completed")),
        *(a_run(20), a_row(21, 2, "processing"), a_row(30, 3, "failed")),
        a_row(60, 2, "needs_review", by="person"),
    ]
    spans = spans_of(*records, until_s=until_s)
    assert spans == {"runs": [(0, 7), (20, end_s)], "passes": [(0, until_s or 60)]}


def test_a_run_that_was_paused_and_resumed_is_one_run() -> None:
    records = [
        *(a_run(0), a_status(0, "running")),
        *(JobPauseRecord(at=at_s(10)), a_status(10, "paused")),
        *(JobPauseRecord(ended=True, at=at_s(20)), a_status(20, "running")),
        *(a_status(30, "completed"), JobReopenedRecord(at=at_s(50)), a_run(60)),
        *(a_status(60, "running"), a_status(70, "failed")),
    ]
    assert spans_of(*records) == {
        "passes": [(0, 30), (50, 70)],
        "runs": [(0, 30), (60, 70)],
        "pauses": [(10, 20)],
    }


def test_holds_in_succession_are_one_until_the_service_answers_or_their_run_ends() -> None:
    def hold(second: float, until_s: float | None) -> HoldRecord:
        until = None if until_s is None else at_s(until_s)
        return HoldRecord(until=until, reason="down", at=at_s(second))

    records: list[Any] = [
        *(a_run(0), a_status(0, "running"), hold(1, 2), hold(3, 5), hold(6, None)),
        *(hold(7, 9), a_status(8, "paused"), a_run(20), a_status(20, "running")),
        *(hold(21, 25), a_run(40), a_status(40, "running"), a_status(41, "completed")),
    ]
    assert spans_of(*records)["holds"] == [(1, 6), (7, 8), (21, 21)]
    statistics = JobStatistics(Entry(0, record, Position(0, 0), True) for record in records)
    holds = [event.kind for event in statistics.events if event.kind.startswith("hold")]
    assert holds == ["hold", "hold_ended", "hold", "hold"]


def test_rows_wait_from_the_first_of_them_until_the_last_one_is_started() -> None:
    def wait(second: float, row: int) -> RowStatusRecord:
        return a_row(second, row, "pending", reset="wait", due=at_s(99))

    def call(second: float, state: Any) -> CallRecord:
        return CallRecord(id="c" * 16, state=state, at=at_s(second))

    records = [
        *(wait(1, 1), wait(2, 2), a_row(3, 1, "processing"), a_row(5, 2, "processing")),
        *(call(10, "started"), call(11, "waiting"), wait(12, 3), a_row(13, 3, "processing")),
        *(call(14, "started"), wait(20, 1), a_row(25, 9, "completed")),
    ]
    assert spans_of(*records) == {"waits": [(1, 5), (11, 14), (20, 25)]}


def test_the_bars_of_a_line_are_bounded_and_lie_within_it() -> None:
    records = [
        record
        for second in range(0, 20_000, 2)
        for record in (
            a_row(second, 1, "pending", reset="wait", due=at_s(0)),
            a_row(second + 1, 1, "processing"),
        )
    ]
    statistics = JobStatistics(Entry(0, record, Position(0, 0), True) for record in records)
    assert len(statistics.spans["waits"]) == 10_000
    (lane,) = _lanes(statistics, 1)
    assert 100 < len(lane["bars"]) < 700
    assert all(0 <= left <= right <= 100 for left, right, *_ in lane["bars"])
    assert lane["facts"][:2] == ["10000 times", "2h46m in all"]
