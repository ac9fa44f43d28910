"""Mistakes on the command line: each is named in words that say what to do, and changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.platforms import needs_modes, needs_shell

from journal import JobService
from journal.cli.main import main

RUN = "run in.csv --job x"


@pytest.fixture(name="work", scope="module")
def fixture_work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an input, scripts, and a store with a job that has ended."""
    work = tmp_path_factory.mktemp("work")
    (work / "in.csv").write_text("order,zip\nA-1,90001\nA-2,9002\n")
    (work / "label.sh").write_text("#!/bin/sh\necho $1\n")
    (work / "windows.sh").write_text("#!/bin/sh\r\necho $1\r\n")
    (work / "windows.sh").chmod(0o755)
    (work / "empty").mkdir()
    with JobService(work / "jobs", sync="none") as service:
        rows = [{"data": {"order": f"A-{n}", "zip": str(n)}} for n in (1, 2)]
        service.create_job("Labels", job_id="labels", key="order", row_data=rows)
        service.start_job("labels")
        for row in service.get_rows("labels"):
            service.complete_row(row.id)
        service.update_status("labels", "completed")
    return work


# The words, the exit code, and what is said (a part of it).
MISTAKES: list[Any] = [
    # the job
    ([*["run", "in.csv", "--job", "Labels", "--", "true"]], 2, "such as 'labels' (got 'Labels')"),
    (["run", "in.csv", "--job", "my job", "--", "true"], 2, "such as 'my-job' (got 'my job')"),
    (
        [*["run", "in.csv", "--job", "jobs/x", "--", "true"]],
        2,
        "such as 'x'; the directory of the jobs is",
    ),
    (
        ["show", "lables"],
        4,
        "there is no job 'lables' here: `journal list` lists the jobs; did you",
    ),
    (["show", "in.csv"], 4, "it is a file; if it is a pack, `journal unpack` checks it"),
    (["show"], 2, "Missing argument 'JOB'. `journal list` lists the jobs."),
    (["rows", "labels", "--row", "9"], 4, "job labels has no row 9: its rows are 1 to 2"),
    # the root
    (["--root", "in.csv", "list"], 2, "it is not a directory; choose another root"),
    (
        ["--root", "jobs/labels", "list"],
        2,
        "is a job, and not the directory of the jobs: give --root",
    ),
    (["--root", "jobs/labels", *f"{RUN} -- true".split()], 2, "not the directory of the jobs"),
    (["--root", "empty", "list"], 0, "0 jobs in "),
    (["list", "--root", "jobs"], 2, "--root comes before the command: journal --root DIRECTORY"),
    # commands and options
    (["shwo", "labels"], 2, "there is no command 'shwo'; did you mean 'show'?"),
    (["status", "labels"], 2, "there is no command 'status'; did you mean 'show'?"),
    ([*f"{RUN} --kye order -- true".split()], 2, "Did you mean '--key'?"),
    (["rows", "labels", "--retry-failed"], 2, "it is an option of `journal run`"),
    (["rows", "labels", "--jobs", "3"], 2, "--jobs is not an option of this command; it is an"),
    ([*["run", "in.csv", "--", "true"]], 2, "Missing option '--job'. The id of the job."),
    (["prune"], 2, "Missing option '--older-than'."),
    (["stop", "labels"], 2, "did you mean 'pause'?"),
    (["slow", "labels"], 2, "did you mean 'tune'?"),
    (["cancel", "labels", "--row", "2"], 2, "For rows: `journal skip JOB --row N`"),
    (["rows", "labels", "--order", "A-1"], 2, "If it is a column: --where order=VALUE"),
    (["rows", "labels", "--status", "done"], 2, "did you mean 'completed'?"),
    (["tail", "labels"], 2, "did you mean 'log'?"),
    (["start"], 2, "did you mean 'run'?"),
    (["restart"], 2, "did you mean 'run'?"),
    (["history", "labels"], 2, "did you mean 'log'?"),
    (["abort", "labels"], 2, "did you mean 'cancel'?"),
    (["summary", "labels"], 2, "did you mean 'show'?"),
    (["info", "labels"], 2, "did you mean 'show'?"),
    (["ps"], 2, "did you mean 'list'?"),
    (["progress", "labels"], 2, "did you mean 'watch'?"),
    ([*f"{RUN} --delay 1 -- true".split()], 2, "Write --rate N/s: start at most N commands"),
    (
        [*f"{RUN} --joblog log -- true".split()],
        2,
        "The job is the log: the same command, run again",
    ),
    ([*f"{RUN} --resume -- true".split()], 2, "The job is the log: the same command, run again"),
    (["resolve", "labels", "--row", "1", "--failed"], 2, "requires an argument"),
    (["rows", "labels", "--failed"], 2, "No such option: --failed. Write --status failed"),
    (["list", "--failed"], 2, "No such option: --failed. Write --status failed"),
    (["prune", "--before", "2026-01-01"], 2, "Write --older-than WHEN, such as 90d"),
    (["retry", "labels", "--error-code", "1,2"], 0, "for several codes, repeat --error-code"),
    (["rows", "labels", "--status", "failed,needs_review"], 0, "labels: 0 of 2 rows"),
    (["retry", "labels", "--all"], 2, "Without options, the command retries all failed rows"),
    ([*f"{RUN} --workers 4 -- true".split()], 2, "No such option: --workers. Write -j N: the"),
    ([*f"{RUN} -P 4 -- true".split()], 2, "No such option: -P. Write -j N: the"),
    (["tune", "j", "--workers", "4"], 2, "No such option: --workers. Write -j N: the number"),
    ([*f"{RUN} --retries 3 -- true".split()], 2, "Write --max-attempts N"),
    ([*f"{RUN} -j 0 -- true".split()], 2, "0 is not in the range 1<=x<=1000"),
    ([*f"{RUN} --limit-per zip=0 -- true".split()], 2, "a number from 1, such as carrier=2"),
    ([*f"{RUN} --timeout 5x -- true".split()], 2, "'5x' is not a duration: give 90, 0.5s, 5m or"),
    ([*f"{RUN} --timeout 0m -- true".split()], 2, "'0m' must be above 0"),
    ([*f"{RUN} --rate 5 -- true".split()], 2, "must be a number above 0 and /s, /m or /h: 5/s"),
    (
        [*f"{RUN} --max-cost-cents $5 -- true".split()],
        2,
        "'$5' is not a number of cents: give 1250",
    ),
    (["rows", "labels", "--limit", "-1"], 2, "'-1' is not a whole number from 0, and not 'all'"),
    (["rows", "labels", "--row", "abc"], 2, "neither a row number nor a range such as 12-40"),
    (["rows", "labels", "--status", "done"], 2, "'done' is not one of pending, processing"),
    (["rows", "labels", "--where", "zip==1"], 2, "write zip=1, or 'zip=\"=1\"'"),
    (["rows", "labels", "--where", "zp=1"], 0, "; did you mean 'zip'?"),
    (["rows", "labels", "--columns", "ordr"], 0, "; did you mean 'order'?"),
    (["log", "labels", "--since", "yesterday"], 2, "or how long ago: 90s, 5m, 2h, 3d, 1w"),
    # ROWS and COMMAND
    ([*["run", "in.cvs", "--job", "x", "--", "true"]], 2, "'in.cvs'"),
    ([*["run", "empty", "--job", "x", "--", "true"]], 2, "'empty'"),
    (RUN.split(), 2, "there is no COMMAND: write it last, after --: journal run orders.csv"),
    (
        [*["run", "--job", "x", "--", "true"]],
        2,
        "there are no ROWS before --: give a file, or - for",
    ),
    ([*["run", "--job", "x", "--", "echo", "{zip}"]], 2, "there are no ROWS before --"),
    (
        [*["run", "my", "orders.csv", "--job", "x", "--", "true"]],
        2,
        "quote the name of a file with spaces",
    ),
    ([*f"{RUN} curl -s {{zip}}".split()], 2, "an option of COMMAND, write it after --"),
    ([*RUN.split(), "--", "echo {zip}"], 2, "the name of a program: write -- echo {zip}"),
    ([*f"{RUN} -- echo {{zpi}}".split()], 2, "there is no such column; did you mean 'zip'?"),
    ([*RUN.split(), "--", "sh", "-c", "echo {zip}"], 2, "give it as an argument: sh -c 'echo"),
    ([*RUN.split(), "--", "sh", "-c", "echo $1", "{zip}"], 2, "becomes its $0, and not its $1"),
    pytest.param(
        [*f"{RUN} -- ./label.sh {{zip}}".split()],
        2,
        "it is not executable: chmod +x it",
        marks=needs_modes,
    ),
    ([*f"{RUN} -- label.sh {{zip}}".split()], 2, "the file in this directory, write ./label.sh"),
    pytest.param(
        [*f"{RUN} -- ./windows.sh {{zip}}".split()],
        2,
        "the script has line ends of Windows",
        marks=needs_shell,
    ),
    ([*f"{RUN} -- nosuch {{zip}}".split()], 2, "check its name, or give its path (got 'nosuch')"),
    ([*f"{RUN} --dry-run -- echo".split()], 0, "COMMAND has no {column}, so it is the same"),
    ([*f"{RUN} --key ordr -- true".split()], 2, "; did you mean 'order'? (got 'ordr')"),
    (
        [*["run", "in.csv", "--job", "labels", "--key", "zip", "--", "true"]],
        2,
        "--key: rows of job 'labels' have",
    ),
    (["step", "mail", "--", "true"], 2, "use `journal step` inside the command of `journal run`"),
    # changes of rows and jobs
    (["retry", "labels", "--row", "1"], 4, "is completed, not failed or skipped; no row was"),
    (["redo", "labels"], 2, "choose rows by --row, --status, --error-code, --where or --version"),
    (["cancel", "labels"], 4, "there is nothing to cancel; `journal show labels` says what can"),
    # copies and files
    (["unpack", "in.csv"], 6, "Not a gzipped file (b'or'); nothing was unpacked"),
    (["unpack", "no.tar.gz"], 2, "there is no file or directory 'no.tar.gz': the copy to read"),
    (["pull", "labels", "two/labels"], 2, "'labels': the copy to read comes first, and is named"),
    (["pull", "empty"], 4, "empty is no copy of a job: it is a directory without a journal.jsonl"),
    (
        ["pull", "two:/srv/jobs/j"],
        2,
        "ssh two journal --root /srv/jobs pack j -o - | journal pull -",
    ),
    (["pack", "labels", "-o", "x.zip"], 2, "the name of a pack can't end with .zip: use .tar.gz"),
    (["export", "labels", "out.xls"], 2, "(got 'out.xls')"),
]


def contents(work: Path) -> tuple[list[Path], bytes]:
    """The files, except those that a writer may make beside a journal, and the journal."""
    job = work / "jobs" / "labels"
    files = [path for path in sorted(work.rglob("*")) if path.parent != job]
    return files, (job / "journal.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    MISTAKES,
    ids=[" ".join(getattr(each, "values", each)[0]) for each in MISTAKES],
)
def test_a_mistake_is_named_and_nothing_is_changed(
    words: list[str],
    code: int,
    said: str,
    work: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(work)
    for variable in ("JOURNAL_ROOT", "JOURNAL_JOB", "JOURNAL_ROW_ID", "JOURNAL_ATTEMPT"):
        monkeypatch.delenv(variable, raising=False)
    before = contents(work)
    found = main(words), capsys.readouterr().err
    assert (found[0], said in found[1]) == (code, True), found
    assert "Traceback" not in found[1]
    assert "unexpected" not in found[1]
    assert contents(work) == before
