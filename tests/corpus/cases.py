"""The journals of the corpus, and what is to be said of each; see ``make.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from zlib import crc32

JOB = "corpus"
SHARD = "corpus/003-of-064"
ORIGIN = '{"id":"0123456789abcdef","at":"2026-11-24T12:00:00.000001Z"}'
SINCE = '"since":"2026-11-24T13:35:02.000001Z",'
WAIT = f'"due":"2026-11-24T14:35:02.000001Z","after_s":3600,{SINCE}'
AT = b'"at":"2026-11-24T13:35:%02d.000001Z"}'


class Case(NamedTuple):
    """``line`` (from 1) and ``offset`` (bytes) are where what isn't good begins."""

    name: str
    why: str
    content: bytes
    verdict: str = "good"
    line: int = 0
    offset: int = 0


def rec(kind: str, members: str = "", second: int = 0) -> bytes:
    """A record, as a writer puts it."""
    return b'{"type":"%b",%b' % (kind.encode(), members.encode()) + AT % second


def job(members: str = "", name: str = "Corpus") -> bytes:
    return rec("job", f'"format":1,"id":"{JOB}","name":"{name}",{members}')


def row(number: int, data: str = "{}", more: str = "") -> bytes:
    return rec("row", f'"row":{number},"checksum":"c{number}","data":{data},{more}', 1)


def status(number: int, name: str, more: str = "", second: int = 2) -> bytes:
    return rec("row_status", f'"row":{number},"status":"{name}",{more}', second)


def row_data(number: int, data: str = "{}", more: str = "", second: int = 3) -> bytes:
    members = f'"row":{number},"checksum":"d{number}","data":{data},{more}'
    return rec("row_data", members + '"created_at":"2026-11-24T13:35:01.000001Z",', second)


def step(number: int, name: str, state: str, more: str = "", second: int = 3) -> bytes:
    members = f'"row":{number},"attempt":1,"step":"{name}","state":"{state}",{more}'
    return rec("row_step", members, second)


def steps(rows: str, name: str, state: str, more: str = "", second: int = 3) -> bytes:
    members = f'"rows":{rows},"attempt":1,"step":"{name}","state":"{state}",{more}'
    return rec("row_step", members, second)


def call(number: int, state: str, more: str = "", second: int = 4) -> bytes:
    return rec("call", f'"id":"{number:016x}","state":"{state}",{more}', second)


def reopened(more: str = "", second: int = 5) -> bytes:
    return rec("job_reopened", more, second)


def pause(more: str = "", second: int = 3) -> bytes:
    return rec("job_pause", more, second)


def hold(until: int | None, more: str = '"reason":"Down: 503",', second: int = 3) -> bytes:
    """``until``: a second, as ``second``."""
    time = "" if until is None else f'"until":"2026-11-24T13:35:{until:02}.000001Z",'
    return rec("hold", time + more, second)


def tune(
    number: int, values: str = '{"workers":8}', run_id: str = "0123456789abcdef", more: str = ""
) -> bytes:
    members = f'"id":"{number:016x}","run":"{run_id}","values":{values},{more}'
    return rec("tune", members, 4)


def tuned(number: int, changes: str = '{"workers":[4,8]}', more: str = "") -> bytes:
    return rec("tuned", f'"id":"{number:016x}","changes":{changes},{more}', 5)


def ended(status_text: str, second: int = 4) -> bytes:
    return rec("job_status", f'"status":"{status_text}",', second)


def run(more: str = "", second: int = 2, run_id: str = "0123456789abcdef") -> bytes:
    members = f'"id":"{run_id}","host":"h","user":"u","pid":7,"package":"0.1.0",{more}'
    return rec("run", members, second)


def log(more: str = "", second: int = 2) -> bytes:
    return rec("log", f'"message":"m",{more}', second)


def sealed(commits: Sequence[Sequence[bytes]], crc: int = 0) -> bytes:
    """A journal of these commits, each a list of records."""
    content = b""
    for records in commits:
        body = b"\n".join(records)[:-1]
        crc = crc32(body, crc)
        content += body + b',"crc":"%08x"}\n' % crc
    return content


def flip(content: bytes, at: int, bit: int = 0) -> bytes:
    changed = bytearray(content)
    changed[at] ^= 1 << bit
    return bytes(changed)


ROWS = [job()], [row(1, '{"n":1}'), row(2, '{"n":2}')]
BASE = sealed(ROWS)  # three lines, two commits
BASE_CRC = int(BASE[-11:-3], 16)
FIRST = sealed(ROWS[:1])
DONE = [status(1, "processing")], [status(1, "completed", '"tracking_number":"T","cost_cents":7,')]
WORK = sealed([*ROWS, *DONE])  # five lines, four commits
LAST = len(sealed([*ROWS, DONE[0]]))  # where the last commit begins
BATCH = sealed([[status(1, "skipped", second=3), *([log(second=3)] * 20)]], BASE_CRC)
LONG = sealed([*ROWS, [status(1, "completed", '"result":"' + "x" * 12_000 + '",')]])
NEW_1 = job().replace(b'"format":1', b'"format":2')


def good(name: str, why: str, *commits: Sequence[bytes]) -> Case:
    return Case(f"good-{name}", why, sealed(commits))


def bad_record(
    name: str, why: str, record: bytes, verdict: str = "damaged", before: Sequence[bytes] = (log(),)
) -> Case:
    """In a good commit, behind other records of it, and with one more commit behind."""
    content = sealed([*ROWS, [*before, record], [log()]])
    offset = len(BASE) + sum(len(line) + 1 for line in before)
    return Case(f"{verdict}-{name}", why, content, verdict, 4 + len(before), offset)


def _text(member: str, value: str) -> str:
    return f'"{member}":"{value}",'


GOOD = [
    good("job-alone", "one commit of one record; a job without rows", [job()]),
    good("two-commits", "the worked example's shape: a job, and two rows in one commit", *ROWS),
    good(
        "every-status",
        "one row of each status; each state is that of the last row_status",
        [job()], [row(number) for number in range(1, 7)],
        [status(2, "processing")], [status(3, "completed", '"cost_cents":5,')],
        [status(4, "failed", '"error_code":"E","error_message":"m",')],
        [status(5, "skipped", '"reason":"r",')], [status(6, "needs_review", '"reason":"r",')],
    ),
    good(
        "row-made-and-changed-in-one-commit",
        "a row_status may stand in the commit that makes its row, behind it",
        [job(), row(1), status(1, "processing"), status(1, "completed", '"result":{"a":[1]},')],
    ),
    good(
        "attempts",
        "attempts count the records that say processing, also two of them in a row",
        [job(), row(1), row(2)], [status(1, "processing")], [status(1, "processing")],
        [status(1, "pending")], [status(1, "processing"), status(1, "failed")],
        [status(2, "completed")],
    ),
    good(
        "status-replaces-all-of-the-one-before",
        "members that the last row_status doesn't have are null again",
        [job(), row(1)],
        [status(1, "failed", '"error_code":"E","error_message":"m","cost_cents":3,')],
        [status(1, "pending", '"reason":"again",')],
    ),
    good(
        "cost-of-attempts",
        "the cost is the sum over all records but processing: 5 + 100 + 7 + 0.06; null is 0",
        [job(), row(1), row(2), row(3)], [status(1, "completed", '"cost_cents":5,')],
        [status(2, "failed", '"cost_cents":100,')], [status(2, "completed", '"cost_cents":7,')],
        [status(3, "processing", '"cost_cents":1000,')], [status(3, "pending", '"cost_cents":0.06,')],
        [status(3, "completed", '"cost_cents":null,')],
    ),
    good(
        "cost-in-millionths",
        "ten times 0.1 and once 1e-6, which floats don't sum to 1.000001; then 1.0, which is whole",
        [job(), row(1)], *[[status(1, "failed", '"cost_cents":0.1,')]] * 10,
        [status(1, "failed", '"cost_cents":1e-6,')], [status(1, "failed", '"cost_cents":1.0,')],
    ),
    good(
        "cost-of-many-digits",
        "each cost is rounded to millionths, halves to even, and then summed: 0 + 0 + 0 + 0.000002",
        [job(), row(1)],
        *[[status(1, "failed", f'"cost_cents":{cost},')] for cost in ("4e-7", "0.0000004", "5e-7", "15e-7")],
    ),
    good(
        "usage",
        "numbers are summed by name, over the same records as costs; the row has the last ones",
        [job(), row(1)], [status(1, "pending", '"usage":{"calls":1,"tokens":812},')],
        [status(1, "processing", '"usage":{"calls":1000},')],
        [status(1, "completed", '"usage":{"calls":2,"seconds":0.5},')],
    ),
    good(
        "cost-of-a-row-completed-twice",
        "each record that says completed counts: 5 + 7, though the row states 7",
        [job(), row(1)], [status(1, "completed", '"cost_cents":5,')],
        [status(1, "completed", '"cost_cents":7,')],
    ),
    good(
        "counts-set",
        "total is set to 15 with 2 rows there: one row more is 16; the others follow the rows",
        *ROWS, [rec("job_counts", '"total":15,')], [row(3), status(1, "completed")],
    ),
    good(
        "counts-not-below-zero",
        "failed is set to 0 while a row is failed; when that is repeated, it stays 0",
        *ROWS, [status(1, "failed")], [rec("job_counts", '"failed":0,"processed":null,')],
        [status(1, "processing")],
    ),
    good(
        "counts-below-zero-come-back",
        "what is set is a difference, held below 0 too: one failed row more is 0 and not 1",
        *ROWS, [status(1, "failed")], [rec("job_counts", '"failed":0,')],
        [status(1, "pending")], [status(2, "failed")],
    ),
    good(
        "counts-set-below-zero",
        "a count of -1 and one row more is 0",
        [job()], [rec("job_counts", '"total":-1,')], [row(1)],
    ),
    good(
        "job-times",
        "started at the first running, completed at the last end, also while it runs on",
        [job()], [rec("job_status", '"status":"running",', 3)],
        [rec("job_status", '"status":"paused",', 4)], [rec("job_status", '"status":"running",', 5)],
        [rec("job_status", '"status":"failed",', 6)],
        [rec("job_status", '"status":"completed",', 7)], [rec("job_status", '"status":"running",', 8)],
    ),
    good(
        "job-error",
        "the last error is the job's; that it was repaired is not forgotten",
        [job()], [rec("job_error", '"code":"repaired","message":"lost","by":"repair",')],
        [rec("job_error", '"code":"E","message":"m",')],
    ),
    good(
        "job-errors-of-a-program",
        "its codes have no other meaning: it wasn't repaired; no error survives a reopening",
        [job()], [rec("job_error", '"code":"repaired","message":"m",')],
        [rec("job_error", '"code":"repaired","message":"m","by":"moon",')], [ended("failed")], [reopened()],
    ),
    good(
        "row-numbers",
        "any order, gaps, up to 2^63-1",
        [job()], [row(7), row(3)], [row(2**63 - 1), row(1)], [status(3, "skipped")],
    ),
    good(
        "reopened",
        "three passes: the job is pending again, not completed, and its error is gone",
        *ROWS, [ended("running", 2)], [rec("job_error", '"code":"E","message":"m",')],
        [ended("failed")], [reopened('"reason":"r",')], [ended("running", 6)],
        [ended("completed", 7)], [reopened(second=8), status(1, "pending", '"reset":"retry",', 8)],
    ),
    good(
        "what-a-reopening-keeps",
        "hold, pause, counts, cost, rows, and that the job was repaired; nor does running end a pause",
        *ROWS, [status(1, "completed", '"cost_cents":5,')], [hold(9), rec("job_counts", '"total":7,', 3)],
        [rec("job_error", '"code":"repaired","message":"m","by":"merge",', 3), pause()],
        [reopened()], [ended("running", 6)],
    ),
    good(
        "pause",
        "the last pause holds, whatever follows; it changes no status",
        *ROWS, [pause('"person":"p",')], [ended("running", 4)], [pause('"person":"q",', 5)],
        [ended("completed", 6)], [reopened(second=7)],
    ),
    good(
        "pause-of-nobody-while-a-job-is-completed",
        "nobody is named, and the job stays completed",
        *ROWS, [ended("completed")], [pause()],
    ),
    good(
        "pause-that-has-ended",
        "once it has ended, no pause holds, and a second end changes nothing",
        *ROWS, [pause('"person":"p",'), ended("paused")], [pause('"ended":true,"person":"q",', 5)],
        [pause('"ended":true,', 6)],
    ),
    good(
        "hold",
        "the last hold says until when and why; it began with the first since the run or an end; the end of a run is none",
        *ROWS, [run("", 2), ended("running", 2)], [hold(5)], [hold(None, '"reason":"answered",', 4)],
        [hold(6, second=5)], [hold(9, '"reason":"Slow: 429",', 6), ended("paused", 6)],
        [rec("run_ended", '"kind":"hold","message":"m",', 7)],
    ),
    good(
        "hold-that-has-ended",
        "a hold ends by a record without a time, by the next run, and with the pass",
        *ROWS, [hold(None, "")], [hold(8)], [run("", 4)], [hold(8, "", 5)], [ended("failed", 6)],
    ),
    good(
        "hold-of-a-run-that-has-died",
        "the next run ends it, whatever its status",
        *ROWS, [run("", 2), ended("running", 2)], [hold(8)], [run("", 9, "e" * 16)],
    ),
    good(
        "run-that-was-tuned-twice",
        "the last value of each limit counts, and the end of a hold is no limit",
        *ROWS, [run('"limits":{"workers":4},')], [tune(1, '{"workers":8,"rate":{"rows":"5/s"},"end_hold":true}', more='"person":"p",')],
        [tuned(1, '{"workers":[4,8],"rate":[null,{"rows":"5/s"}],"end_hold":["2026-01-02T03:04:05.000000Z",null]}')],
        [tune(2, '{"rate":{"rows":"none"}}'), tune(3, '{"frobs":1,"workers":"many"}')],
        [tuned(2, '{"rate":[{"rows":"5/s"},null]}'), rec("tuned", f'"id":"{3:016x}","reason":"r",', 5)],
    ),
    good(
        "tunes-without-effect",
        "of no run, of another run, of one that has ended, and answers that nobody has asked for",
        *ROWS, [tune(1)], [tuned(1)], [run()], [tune(2, run_id="7" * 16)], [tuned(2)], [tune(3)],
        [run(run_id="8" * 16)], [tuned(3)], [tuned(4)], [tune(5, run_id="8" * 16)], [tuned(5)], [run(run_id="9" * 16)],
    ),
    good(
        "tunes-without-an-answer",
        "the last 100 count: of 101, the answer to the first has no effect",
        *ROWS, [run()], [tune(number, "{}") for number in range(101)], [tuned(0)], [tuned(1, '{"rate":[1,2]}')],
    ),
    good(
        "settled-by-hand",
        "a failed job is completed by the commit that settles its last row: no pass of its own",
        *ROWS, [ended("running", 2)], [status(1, "completed"), status(2, "failed")],
        [ended("failed")], [status(2, "skipped", second=5), ended("completed", 5)],
    ),
    good(
        "retries-and-redos",
        "earlier attempts are those before the last reset, also where nothing followed it",
        *ROWS, [status(1, "processing")], [status(1, "failed")],
        [status(1, "pending", '"reset":"retry",')], [status(1, "processing")],
        [status(1, "pending", '"error_code":"E",')], [status(1, "processing")],
        [status(1, "completed", '"cost_cents":5,')],
        [status(1, "pending", '"reset":"redo","reason":"r",')], [status(1, "processing")],
        [status(2, "processing")], [status(2, "failed", '"unknown":true,')],
        [status(2, "pending", '"reset":"redo",'), row(3)],
    ),
    good(
        "given-back",
        "attempts that were given back count with the earlier ones, but only right behind their start",
        *ROWS, [status(1, "processing")], [status(1, "pending", '"error_code":"E","error_message":"m",')],
        [status(1, "processing")],
        [status(1, "pending", '"error_code":"E","error_message":"m","reset":"given_back",')],
        [status(1, "pending", '"reset":"given_back",')], [status(1, "processing")],
        [status(1, "failed", '"reset":"given_back",')],
        [status(2, "processing")], [status(2, "pending", '"reset":"given_back",')], [status(2, "processing")],
        [status(2, "pending", '"reset":"retry",')], [status(2, "processing")],
        [status(2, "pending", '"reset":"given_back",'), row(3)], [status(3, "processing")],
        [status(3, "pending")],
    ),
    good(
        "waits",
        "a row waits after a pending with the reset wait and a due time, until its next status",
        *ROWS, [row(3), row(4)], [status(1, "processing")],
        [status(1, "pending", f'"error_code":"E","reason":"r","reset":"wait",{WAIT}')],
        [status(2, "processing")], [status(2, "pending", f'"reset":"wait",{WAIT}')], [status(2, "processing")],
        [status(2, "pending", f'"error_code":"E",{SINCE}'), status(3, "failed", f'"reset":"wait",{WAIT}')],
        [status(4, "processing")], [status(4, "pending", f'"reset":"given_back",{WAIT}')],
        [row(5), row(6), status(5, "pending", f'"reset":"wait",{WAIT}')],
        [status(6, "processing"), status(6, "pending", f'"reset":"wait","after_s":0.5,{SINCE}')],
    ),
    good(
        "versions",
        "an outcome has the version of its run; the next status doesn't",
        *ROWS, [run('"version":"v1",')],
        [status(1, "completed", '"version":"v1",')], [status(2, "failed", '"version":"v1",')],
        [status(2, "pending", '"reset":"retry",')],
    ),
    good(
        "runs",
        "what a run says of itself has no effect on the job; unknown policies and kinds of ends are text; log details mean nothing",
        *ROWS, [run('"argv":["journal","run","a b"],"directory":"/d","is_command":true,"on_interrupted":"resume","added":2,"gone":1,'),
                ended("running", 3)],
        [status(1, "processing", '"by":"run",'), rec("run_ended", '"kind":"moon","message":"m",', 3)], [run('"on_interrupted":"later","new":1,', 4, "f" * 16)],
        [log('"details":{"run":{"host":"h","nonce":"0123456789abcdef"},"merge":{"hosts":["h"]},'
             '"spent_elsewhere":{"id":"0123456789abcdef","cost_cents":9}},"row":1,', 4)],
    ),
    good(
        "shard",
        "numbers may have gaps, and each names its shard; the last input counts; a row keeps its place",
        [job('"key":"n","shard":{"index":3,"count":64,"key":["n"],"new":1},')],
        [row(4, '{"n":1}', '"key":"corpus:n=1","place":70,'), row(68, '{"n":9}', '"key":"corpus:n=9","place":2,'),
         rec("input", f'"rows":90,"digest":"{"0a" * 32}",')],
        [row_data(68, '{"n":9,"m":1}', '"key":"corpus:n=9","place":2,'),
         rec("input", f'"rows":91,"digest":"{"0b" * 32}",', 4)],
    ),
    good(
        "shard-with-data-of-another-copy",
        "a row's place and time of creation are those of its last row_data, too",
        [job('"key":"n","shard":{"index":3,"count":64,"key":["n"]},')],
        [row(4, "{}", '"key":"a","place":70,'), row(68, "{}", '"key":"b","place":2,')],
        [row_data(4, "{}", '"key":"a","place":71,').replace(b"01.000001Z", b"00.000001Z"),
         row_data(68, "{}", '"key":"b",')],
    ),
    good(
        "shard-of-a-function",
        "its key has no columns",
        [job('"shard":{"index":3,"count":64,"key":[]},')],
    ),
    good(
        "shard-by-position",
        "it has no key; the id of a row has that of the set",
        [job('"shard":{"index":3,"count":64},')], [row(4)],
    ),
    good(
        "shard-of-1000",
        "both numbers in the name of the directory have four digits",
        [job('"shard":{"index":3,"count":1000},')],
    ),
    good(
        "who-has-set-a-status",
        "none of them, nor anybody unknown, has an effect on the status",
        [job()], [row(number) for number in range(1, 8)],
        [status(1, "completed", '"by":"run",'), status(2, "needs_review", '"by":"policy",'),
         status(3, "skipped", '"by":"person","person":"ann@h",'), status(4, "needs_review", '"by":"merge",'),
         status(5, "needs_review", '"by":"repair",'), status(6, "failed", '"by":"moon","person":null,'),
         status(7, "failed", '"by":null,')],
    ),
    good(
        "evidence",
        "a traceback, until the next status; an attempt's log",
        *ROWS, [status(1, "failed", '"error_code":"E","traceback":"Traceback",')],
        [status(2, "failed", '"traceback":"Traceback",'), status(2, "pending", '"reset":"retry",')],
        [log('"row":1,"attempt":1,"logged_at":"2026-11-24T13:35:01.000001Z",')],
    ),
    good(
        "row-data",
        "it says what the row's record did, and leaves its status; the last one counts",
        *ROWS, [status(1, "failed")], [row_data(1, '{"n":3}', '"key":"corpus:1",')],
        [row_data(1, '{"n":4}', '"key":"corpus:1#2","key_count":2,', 4)],
        [row(3), row_data(3, '{"n":5}', '"key":"k",'),
         status(3, "skipped", second=4)],
        [row_data(2, '{"n":2}', '"key":"corpus:2","origin":{"id":"0123456789abcdef",'
                  '"at":"2026-11-24T12:00:00.000001Z"},', 4)],
    ),
    good(
        "steps",
        "of each step the first done counts, else the last record; unlike a status, a step has no effect on its row",
        *ROWS, [status(1, "processing"), step(1, "charge", "started")],
        [step(1, "charge", "done", '"result":{"id":"ch_1"},'), step(1, "mail", "started")],
        [step(1, "mail", "failed", '"error_code":"E","error_message":"m",')],
        [step(1, "print", "started"), step(1, "print", "failed"), step(1, "print", "started")],
        [step(1, "charge", "done", '"result":"ch_2",', 4), step(1, "charge", "started", second=4)],
        [step(2, "label", "done", second=5)],
    ),
    good(
        "steps-forgotten-by-a-redo",
        "a retry keeps the steps of a row, a redo forgets them; a step may follow the row's record in its commit",
        [job(), row(1), step(1, "a", "done", '"result":1,'), row(2), step(2, "b", "done", '"result":1,')],
        [status(1, "failed"), status(1, "pending", '"reset":"retry",')],
        [status(2, "failed"), status(2, "pending", '"reset":"redo",')],
        [step(2, "c", "done", '"result":2,')], [step(1, "a", "done", '"result":3,')],
    ),
    good(
        "steps-dropped",
        "a drop removes a step and those that began after it; a step that isn't known drops nothing",
        [job(), row(1), step(1, "a", "started"), step(1, "b", "started"), step(1, "b", "done", '"result":1,')],
        [step(1, "a", "done", '"result":2,'), step(1, "c", "done", '"result":3,'), step(1, "z", "dropped")],
        [step(1, "b", "dropped"), status(1, "failed"), status(1, "pending", '"reset":"retry",')],
        [step(1, "c", "done", '"result":4,'), row(2), step(2, "a", "dropped"), step(2, "a", "done")],
    ),
    good(
        "calls",
        "while a call waits, its rows that are in processing are pending; a step of rows is a step of each",
        *ROWS, [row(3), row(4), row(5), *(status(number, "processing") for number in (1, 2, 3, 5))],
        [call(1, "started", '"rows":[[3,4],[1,2]],'), steps("[[3,4],[1,2]]", "submit", "started")],
        [steps("[[3,4],[1,2]]", "submit", "done", '"row":9,"result":7,'), step(2, "own", "done")],
        [status(1, "completed"), call(1, "waiting", f'"reason":"r","by":"run",{WAIT}', 5)],
        [call(1, "started", second=6)], [call(1, "waiting", second=7)], [status(3, "failed")],
        [call(2, "waiting", f'"rows":[[5,5]],{WAIT}', 8)],
    ),
    good(
        "calls-that-rows-stay-in",
        "a status ends the wait of a row, but not its call; the last waiting counts; a row that waits by itself stays out",
        [job(), row(1), row(2), row(3), status(1, "processing"),
         status(2, "processing", '"usage":{"n":1},"traceback":"t","unknown":true,'),
         status(3, "pending", f'"reset":"wait",{WAIT}')],
        [call(1, "waiting", f'"rows":[[1,2]],"reason":"r",{WAIT}'), step(2, "a", "done")],
        [call(2, "started", '"rows":[[3,3]],')], [status(3, "processing"), call(2, "waiting", '"reason":"c",')],
        [status(1, "failed"), status(1, "pending", '"reset":"retry",'), status(1, "processing"),
         status(1, "pending", '"reset":"wait",'), status(1, "processing")],
        [call(1, "waiting", '"due":"2026-11-24T15:35:02.000001Z","reason":"again",', 5)],
    ),
    good(
        "calls-that-rows-have-left",
        "when the call waits again, rows with new data, a dropped step or a redo don't",
        [job(), *map(row, range(1, 5)), *(status(number, "processing") for number in range(1, 5))],
        [call(1, "waiting", '"rows":[[1,4]],'), step(3, "a", "done")],
        [row_data(1, "{}", '"key":"k",'), step(2, "z", "dropped"), status(3, "pending", '"reset":"redo",')],
        [status(3, "processing"), call(1, "waiting", '"reason":"again",', 5)],
    ),
    good(
        "calls-that-rows-leave",
        "by a redo, new data, a dropped step, a wait of their own, another call, and the end of the call",
        [job(), *map(row, range(1, 8)), *(status(number, "processing") for number in range(1, 8))],
        [call(1, "waiting", f'"rows":[[1,7]],{WAIT}'), steps("[[1,6]]", "a", "done"), step(3, "b", "done")],
        [status(1, "completed"), status(1, "pending", '"reset":"redo",'), row_data(2, "{}", '"key":"k",')],
        [steps("[[3,3]]", "a", "dropped"), status(4, "pending", f'"reset":"wait",{WAIT}')],
        [call(2, "waiting", '"rows":[[5,5]],'), call(1, "started"), call(1, "waiting", '"due":null,"since":null,')],
        [call(2, "ended"), call(1, "waiting", '"rows":[[7,7]],'), status(1, "processing")],
    ),
    good(
        "steps-from-another-copy",
        "an origin has no effect on what a step is; the highest attempt; a name of any text",
        *ROWS, [step(1, "", "started", '"origin":{"id":"0123456789abcdef","at":"2026-11-24T12:00:00.000001Z"},')],
        [step(1, "z\\u00fc \U0001f4e6", "started").replace(b'"attempt":1', b'"attempt":%d' % (2**32 - 1))],
        [step(2, "a", "done", '"attempt":0,"new":1,')],
    ),
    good(
        "keys-of-rows",
        "what a row's record says, else its id; the job's columns and what isn't known decide nothing",
        [job('"key":"n","idempotency_key":"k",'), row(1, '{"n":"A-7","k":"K-1"}'), row(2, "{}", '"key":"K-2",')],
        [row(3, "{}", '"key":"corpus:3.0123abcd",'), row(4, "{}", '"key":"corpus:n=A-7","nonce":"0123abcd",')],
        [row_data(2, "{}", '"key":"K-2#2.0123abcd","key_count":2,'), row(5, "{}", '"key":null,')],
    ),
    good(
        "transitions-are-not-judged",
        "a reader takes a completed row that is pending again, and a job that is, too",
        *ROWS, [status(1, "completed", '"cost_cents":2,')], [status(1, "pending")],
        [rec("job_status", '"status":"completed",')], [rec("job_status", '"status":"pending",')],
    ),
    good(
        "time-goes-back",
        "no writer does that; a reader takes it, and the last record says when the job changed",
        [job()], [log(second=30)], [log(second=10)],
    ),
    good(
        "unknown-members",
        "ignored wherever they stand, and whatever JSON they hold",
        [job('"new":{"a":[1,{"b":null}]},')],
        [row(1, "{}", '"new":1e400,'), status(1, "skipped", '"new":[[]],')],
    ),
    good(
        "order-and-white-space",
        "members in another order, and white space where JSON has it; the seal is as it is",
        [job()],
        [b'\t{ "at":"2026-11-24T13:35:01.000001Z", "data" : {} ,"checksum":"c","row":1,"type":"row" }\r'
         , b'{"message":"m","type":"log","at":"2026-11-24T13:35:02.000001Z"}',
         b'{"row":1,"at":"2026-11-24T13:35:02.000001Z","status":"skipped","type":"row_status"}'],
    ),
    good(
        "member-twice",
        "the last one counts, of the right type both",
        [job(), row(1, '{"a":1,"a":2}', '"row":9,')],
        [status(9, "failed", '"status":"completed","cost_cents":5,"cost_cents":7,"type":"row_status",')],
    ),
    good(
        "escapes",
        "in names and values; both halves of a surrogate",
        [job(), row(1, r'{"\u0061":"\ud83d\ude00\u0000\/"}').replace(b'"row":1', rb'"\u0072ow":1')],
    ),
    good(
        "utf-8",
        "line separators of Unicode end no line",
        [job(name="Z\u00fcrich"), row(1, '{"a":"\u2028\u0085\ufeff\U0001f600"}')],
    ),
    good(
        "text-like-a-seal",
        "in strings, where its quotes are escaped, and in objects within",
        [job(), row(1, r'{"a":",\"crc\":\"00000000\"}","b":{"x":1,"crc":"00000000"}}')],
    ),
    good(
        "crc-in-capitals",
        "a line that ends like this has no seal, but a member crc, which isn't known",
        [job()], [log()[:-1] + b',"crc":"ABCDEF01"}', log()[:-1] + b',"crc":"zzzzzzzz"}', log()],
    ),
    good(
        "numbers",
        "the bounds of costs and of what a writer puts into data",
        [job(), row(1, '{"a":[18446744073709551615,-9223372036854775808,1.5,-0.0,1e300]}'), row(2)],
        [status(1, "completed", f'"cost_cents":{2**63 - 1},')],
        [status(2, "completed", f'"cost_cents":{-(2**63)},')], [rec("job_counts", '"total":-1,')],
    ),
    good(
        "long-numbers",
        "4300 characters; digits in text are no number; the range of unknown members isn't bounded",
        [job(), row(1, '{"a":[0.' + "1" * 4298 + ",-" + "9" * 4299 + f',"{"1" * 5000}"]}}')],
        [log('"new":[1e400,-1E-400],')],
    ),
    good(
        "log-of-another-level",
        "a level is any text; a log is about any row number, and null where it has none",
        [job()], [log('"level":"LOUD","row":99,"more":{},')],
        [log('"row":null,"attempt":null,"details":null,"logged_at":null,')],
    ),
    good(
        "merged",
        "a status taken over from another copy, and what it did with a row that wasn't",
        *ROWS,
        [
            rec("merge", '"other":"journal.other-1","offset":9,"seal":"01234567","fork":5,"hosts":["h"],'
                '"job_status":"moon","message":"m",'),
            status(1, "completed", f'"cost_cents":5,"origin":{ORIGIN},'),
            rec("row_elsewhere", '"row":2,"change":{"status":"failed","cost_cents":9},'
                f'"origin":{ORIGIN},'),
            rec("row_spent", '"row":2,"id":"0123456789abcdef","attempt":1,"cost_cents":0.5,"usage":{"calls":2},'),
        ],
    ),
    good(
        "extensions",
        "records of other programs have no effect, whatever they say",
        *ROWS, [rec("x_note", '"row":9,"status":"failed","cost_cents":9,')],
        [status(1, "failed"), rec("x_", second=3), rec("x_job_status", '"status":7,', 3), status(2, "skipped", second=3)],
        [rec("x_last", second=4)],
    ),
    good(
        "nested-100-deep",
        "the record is one level",
        [job(), row(1, '{"a":' + "[" * 98 + "]" * 98 + "}")],
    ),
    good("nulls", "null is as good as absent where it is the default",
         [job('"metadata":null,'), row(1)], [status(1, "failed", '"result":null,')]),
    Case("good-padding", "spaces after the last LF are no commit, and no part of one", WORK + b" " * 700),
    Case("unended-last-commit", "a commit that lacks only its LF counts: an editor may have taken it",
         WORK[:-1], "unended", 5, LAST),
    Case("unended-first-commit", "a first commit, too", FIRST[:-1], "unended", 1, 0),
    Case("unended-commit-of-many-lines", "of a long commit, all lines", (BASE + BATCH)[:-1],
         "unended", 4, len(BASE)),
]  # fmt: skip


def torn(name: str, why: str, tail: bytes) -> Case:
    return Case(f"torn-{name}", why, BASE + tail, "torn", 4, len(BASE))


def with_block(content: bytes, number: int, block: bytes) -> bytes:
    """The file with a block of 512 bytes, counted from its beginning, replaced."""
    return content[: number * 512] + block + content[(number + 1) * 512 :]


_PAD = b"x" * (512 - len(BASE + sealed([[log(_text("pad", ""))]])) + 1)
_TO_A_BLOCK = sealed([[log(_text("pad", _PAD.decode()))]], BASE_CRC)[:-1]
assert len(BASE + _TO_A_BLOCK) == 512

_NULS = bytes(1100) + b"\n"  # one block at least was never written


def until(end: int, line: bytes = b"") -> bytes:
    """A line after BASE whose LF is the last byte before the offset ``end``; by default no JSON."""
    size = end - len(BASE) - 1
    return (line or b"#" * size).replace(b"?", b"x" * (size - len(line) + 1)) + b"\n"


def with_seal_at(end: int) -> bytes:
    """After a legible line that ends with block 1: an illegible line with a seal up to ``end``."""
    line = sealed([[log(_text("pad", "?"))]], 7)[:-1]
    line = b"##" + line[2:].replace(b"?", b"x" * (end - 1024 - len(line) + 1))
    return until(1024, log(_text("pad", "?"))) + line + b"\n" + log() + b"\n"


TORN = [
    torn("commit-in-text-mode-after-nuls", "a CR before the LF is no changed LF", _NULS
         + sealed(DONE[:1], BASE_CRC)[:-1] + b"\r\n" + log()[:20]),
    torn("flip-that-leaves-an-illegible-line", "with the bit flipped back, the seal fits, but a line is no JSON",
         flip(sealed([[log(), _NULS[:-1], log()]], BASE_CRC), 30)),
    torn("line-end-in-an-unwritten-block", "the byte after a line belongs to it", until(900, log(_text("pad", "?")))
         + b"#" * 124 + b"\n" + b"#" * 600 + b"\n" + sealed([[log()]], 7)),
    torn("nine-bytes-of-a-seal", "the block that has its tenth byte was written, no other", with_seal_at(1536 + 9)),
    torn("half-a-line", "a writer died within a record", status(1, "skipped")[:40]),
    torn("one-byte", "a writer died behind its first byte", b"{"),
    torn("lines-without-a-seal", "the beginning of a commit of many lines, whole lines all", BATCH[:600][: BATCH[:600].rfind(b"\n") + 1]),
    torn("half-a-seal", "all but the end of a seal", sealed(DONE[:1], BASE_CRC)[:-4]),
    torn("all-but-two-bytes", "the LF and the brace are missing", sealed(DONE[:1], BASE_CRC)[:-2]),
    torn("nuls", "blocks that were never written", bytes(700)),
    torn("garbage", "blocks that a deleted file has left", bytes(range(128, 256)) * 4),
    torn("a-block-of-nuls-before-the-seal", "the last block was written and one before it wasn't",
         with_block(BASE + BATCH, 2, bytes(512))[len(BASE) :]),
    torn("two-blocks-of-nuls", "the lines that are left are whole",
         with_block(with_block(BASE + BATCH, 1, bytes(512)), 3, bytes(512))[len(BASE) :]),
    torn("cut-after-what-looks-like-a-seal", "the line isn't whole: an object in it ends so",
         b'{"type":"log","message":"m","details":[{"n":1,"crc":"00000000"}'),
    torn("cut-after-what-looks-like-a-record", "an object in the line, behind one that ends like a commit",
         b'{"type":"log","message":"m","details":[{"n":1,"crc":"00000000"},{"type":"log"}'),
    torn("half-a-line-over-padding", "the writer died before it overwrote all of it", status(1, "skipped")[:40] + b" " * 700),
    torn("lines-before-padding", "they have no seal", BATCH[:600][: BATCH[:600].rfind(b"\n") + 1] + b" " * 700),
    torn("line-end-never-written-over-padding", "a commit, but for the block that its LF is in", _TO_A_BLOCK + b" " * 700),
    torn("tabs", "only spaces are padding", b"\t" * 9),
    torn("spaces-and-a-nul", "padding reaches to the end of the file", b" " * 700 + b"\0"),
    torn("line-end-never-written", "a commit, but for the block that its LF is in", _TO_A_BLOCK + b"\0"),
]  # fmt: skip


def damaged(name: str, why: str, content: bytes, line: int, offset: int) -> Case:
    return Case(f"damaged-{name}", why, content, "damaged", line, offset)


_BEFORE_3 = len(BASE)  # where line 4, the third commit of WORK, begins
_STRANGER = sealed([[job()], [log(second=9)], [log(second=9)]])[len(FIRST) :]
_ILLEGIBLE_AT = len(BASE) + BATCH.index(b"\n", 300) + 1
while _ILLEGIBLE_AT % 512 < 80 or _ILLEGIBLE_AT % 512 > 300:
    _ILLEGIBLE_AT += len(log(second=3)) + 1
_PADDED = [*ROWS, DONE[0], [log(_text("pad", "x" * 200))], DONE[1]]
_IN_A_BLOCK = sealed(_PADDED[:-1]), sealed(_PADDED)  # up to the last commit, which is in one block
assert len(_IN_A_BLOCK[0]) // 512 == len(_IN_A_BLOCK[1]) // 512

DAMAGED = [
    damaged("empty", "a journal is made with its first commit in it", b"", 1, 0),
    damaged("spaces-alone", "the first commit isn't there", b" " * 600, 1, 0),
    damaged("flip-in-a-seal-s-frame-before-padding", "it was written whole", flip(WORK, len(WORK) - 16) + b" " * 700, 5, LAST),
    damaged("line-end-became-a-space-before-padding", "the seal fits", WORK[:-1] + b" " * 700, 5, LAST),
    damaged("edited-before-padding", "all of it is legible, and its seal doesn't fit",
            WORK.replace(b'"cost_cents":7', b'"cost_cents":4') + b" " * 700, 5, LAST),
    damaged("first-commit-torn", "a first commit is never torn", FIRST[:-20], 1, 0),
    damaged("first-commit-without-a-seal", "and not unended either: what counts is the seal", job(), 1, 0),
    damaged("nuls", "the first commit isn't there", bytes(600), 1, 0),
    damaged("no-job-record", "line 1 is another record", sealed([[log()], [log()]]), 1, 0),
    damaged("flip-in-text", "one bit, before the last commit", flip(WORK, _BEFORE_3 + 30), 4, _BEFORE_3),
    damaged("flip-in-a-seal", "the commit behind it continues what it should state", flip(WORK, LAST - 5), 4, _BEFORE_3),
    damaged("flip-in-a-line-end", "two commits in one line", flip(WORK, LAST - 1, 3), 4, _BEFORE_3),
    damaged("flip-in-the-last-seal", "its digits don't match", flip(WORK, len(WORK) - 5, 1), 5, LAST),
    damaged("flip-in-the-last-seal-s-frame", "no line has a seal, and yet it was written whole",
            flip(WORK, len(WORK) - 16), 5, LAST),
    damaged("flip-in-the-last-line-end", "the file ends with another byte", flip(WORK, len(WORK) - 1), 5, LAST),
    damaged("flip-in-the-last-commit", "one bit put back makes it match", flip(WORK, LAST + 30), 5, LAST),
    damaged("flip-in-a-long-last-commit", "of any length", flip(LONG, _BEFORE_3 + 6000), 4, _BEFORE_3),
    damaged("flip-in-a-long-last-seal", "of any length", flip(LONG, len(LONG) - 18), 4, _BEFORE_3),
    damaged("flip-makes-a-line-end", "a bit makes an LF of a J; all lines but these are records",
            flip(sealed([*ROWS, [log('"new":"J",')]]), len(BASE) + len(b'{"type":"log","message":"m","new":"'), 6), 4, _BEFORE_3),
    damaged("flip-in-the-format", "format 3, by one bit: it was format 1", flip(BASE, len(b'{"type":"job","format":'), 1), 1, 0),
    damaged("flip-in-the-format-alone", "of a journal of one commit, too", flip(FIRST, len(b'{"type":"job","format":'), 1), 1, 0),
    damaged("flip-before-a-torn-tail", "the last whole commit was changed, and the one behind it was torn",
            flip(WORK, LAST + 30) + BATCH[:100], 5, LAST),
    damaged("line-lost", "the seals behind it don't match", BASE + sealed([*ROWS, *DONE, [log()]])[LAST:], 4, _BEFORE_3),
    damaged("line-repeated", "a commit continues the one before, and not itself", WORK[:LAST] + WORK[_BEFORE_3:], 5, LAST),
    damaged("commits-swapped", "neither continues what is before it", BASE + WORK[LAST:] + WORK[_BEFORE_3:LAST], 4, _BEFORE_3),
    damaged("commits-of-another", "put in between two commits that fit each other",
            WORK[:LAST] + _STRANGER + WORK[LAST:], 5, LAST),
    damaged("last-commit-of-another", "all of it is legible, and its seal doesn't fit", BASE + sealed([[log()]], 1), 4, _BEFORE_3),
    damaged("edited", "a digit of the last commit was changed, two bits", WORK.replace(b'"cost_cents":7', b'"cost_cents":4'), 5, LAST),
    damaged("edited-into-no-record", "a long line is legible, whatever its members are called",
            LONG.replace(b'"row":1,"status"', b'"wor":1,"status"'), 4, _BEFORE_3),
    damaged("edited-before-a-torn-tail", "the commit is judged without the long line behind it",
            WORK.replace(b'"cost_cents":7', b'"cost_cents":4') + LONG[_BEFORE_3 : _BEFORE_3 + 1500], 5, LAST),
    damaged("edited-and-without-its-line-end", "a seal is a seal without the LF",
            WORK.replace(b'"cost_cents":7', b'"cost_cents":4')[:-1], 5, LAST),
    damaged("line-end-lost", "two commits in one line", WORK[: LAST - 1] + WORK[LAST:], 4, _BEFORE_3),
    damaged("line-ends-lost", "the last one, too", WORK[: LAST - 1] + WORK[LAST:-1], 4, _BEFORE_3),
    damaged("line-end-lost-before-a-torn-tail", "the seal fits", WORK[: LAST - 1] + WORK[LAST : LAST + 40], 4, _BEFORE_3),
    damaged("line-end-became-a-space", "an editor has joined two lines", WORK[: LAST - 1] + b" " + WORK[LAST:], 4, _BEFORE_3),
    damaged("line-end-became-nuls", "the seal fits", WORK[: LAST - 1] + bytes(9) + WORK[LAST + 8 :], 4, _BEFORE_3),
    damaged("line-end-lost-of-an-edited-commit", "a legible line follows its seal directly",
            LONG.replace(b"xxx", b"zxz", 1)[:-1] + sealed([[log(_text("pad", "x" * 900))]], 7), 4, _BEFORE_3),
    damaged("last-line-end-became-a-space", "its block was written: the seal is in it", WORK[:-1] + b" ", 5, LAST),
    damaged("space-before-the-last-line-end", "the seal fits", WORK[:-1] + b" \n", 5, LAST),
    damaged("json-before-the-last-commit", "a long line was put in: the last commit continues what is before it",
            WORK[:LAST] + b'{"note":"' + b"x" * 2000 + b'"}\n' + WORK[LAST:], 5, LAST),
    damaged("seal-overwritten", "the commit behind it continues the value that would be right",
            LONG[:-19] + b"#" * 18 + b"\n" + sealed([DONE[1]], int(LONG[-11:-3], 16)), 4, _BEFORE_3),
    damaged("two-seals-illegible", "each of them was a commit", BASE + b"\xff" + WORK[_BEFORE_3 + 1 : LAST] + b"\xff" + WORK[LAST + 1 :], 4, _BEFORE_3),
    damaged("two-seals-of-long-illegible-lines", "each of them was a commit, whatever of it was written",
            BASE + 2 * (b"\xff" + LONG[_BEFORE_3 + 1 :]), 4, _BEFORE_3),
    damaged("illegible-within-a-block", "a line isn't, in a block that was written: its neighbours are",
            (BASE + BATCH)[:_ILLEGIBLE_AT] + b"#'+*;" + (BASE + BATCH)[_ILLEGIBLE_AT + 5 :], 4, _BEFORE_3),
    damaged("illegible-beside-its-seal", "an editor has taken a quote: all of the line is in the block that its seal is in",
            _IN_A_BLOCK[1].replace(b':"T"', b':"T'), 6, len(_IN_A_BLOCK[0])),
    damaged("first-commit-after-nuls", "a commit of another journal, whose crc starts from 0", BASE + _NULS + FIRST, 4, len(BASE)),
    damaged("digits-without-a-seal", "the commit behind them continues them", BASE + _NULS
            + log()[:-1] + b',"sum":"01234567"}\n' + sealed([[log()]], 0x01234567), 4, len(BASE)),
    damaged("seal-without-digits", "the commit behind it continues the value that would be right", BASE + _NULS
            + log()[:-1] + b',"crc":"0123456z"}\n' + sealed([[log()]], crc32(log()[:-1], BASE_CRC)), 4, len(BASE)),
    damaged("short-line-after-an-illegible-one", "a seal in place of all of it would have the value of the line before",
            BASE + until(1014) + b"#" * 16 + b"\n" + sealed([[log()]], crc32(until(1014)[:-19], BASE_CRC)), 4, len(BASE)),
    damaged("line-behind-a-line-end", "the block was written: the byte after a line belongs to it", BASE
            + until(1025, log(_text("pad", "?"))) + b"#" * 510 + b"\n" + sealed([[log()]], 7), 4, len(BASE)),
    damaged("ten-bytes-of-a-seal", "its first block was written, and so was its last one: a legible line follows",
            BASE + with_seal_at(1536 + 8), 4, len(BASE)),
    damaged("format-of-an-illegible-line", "it isn't UTF-8, and so states no newer format",
            NEW_1[:-1] + b',"new":"\xff","sum":"00000000"}\n', 1, 0),
    damaged("extension-first", "line 1 is the record of the job", sealed([[rec("x_note")], [job()]]), 1, 0),
    damaged("text-mode", "a CR before each LF", WORK.replace(b"\n", b"\r\n"), 1, 0),
    damaged("last-line-of-a-tail-in-text-mode", "not torn, whatever is before it", BASE + _NULS + log() + b"\r\n", 4, len(BASE)),
    damaged("format-0", "there is none", sealed([[job().replace(b'"format":1', b'"format":0')]]), 1, 0),
    damaged("metadata-in-a-list", "an object", sealed([[job('"metadata":[],')]]), 1, 0),
    damaged("shard-of-too-many", "999999 at most", sealed([[job('"shard":{"index":3,"count":1000000},')]]), 1, 0),
    damaged("shard-of-a-numbered-key", "a list of text", sealed([[job('"shard":{"index":3,"count":64,"key":[1]},')]]), 1, 0),
    damaged("last-line-in-text-mode", "not torn: nobody dies like that", WORK[:-1] + b"\r\n", 5, LAST),
    damaged("line-in-text-mode-before-nuls", "nobody dies like that either", WORK[:-1] + b"\r\n" + bytes(600), 5, LAST),
    damaged("byte-order-mark", "an editor has saved it", b"\xef\xbb\xbf" + WORK, 1, 0),
    damaged("empty-line", "between two commits", WORK[:LAST] + b"\n" + WORK[LAST:], 5, LAST),
    damaged("nuls-in-between", "before a commit that isn't the last", BASE + bytes(64) + WORK[_BEFORE_3:], 4, _BEFORE_3),
    damaged("note-before-the-last-commit", "a line was put in: the last commit continues what is before it", WORK[:LAST] + b"# a note\n" + WORK[LAST:], 5, LAST),
    damaged("empty-line-in-a-commit", "no record, though the seal is good", sealed([*ROWS, [log(), b"", log()]]),
            5, _BEFORE_3 + len(log()) + 1),
    bad_record("not-json", "no record, though the seal is good", b'{"type":"log"'),
    bad_record("two-records-on-a-line", "no record", log() + log()),
    bad_record("utf-8-in-an-unknown-member", "a line is UTF-8, all of it", log('"new":"?",').replace(b"?", b"\xff")),
    damaged("utf-8-in-the-first-line", "also of line 1", sealed([[job('"new":"?",').replace(b"?", b"\xff")], [log()]]), 1, 0),
    bad_record("lone-surrogate", "half a pair, in an unknown member", log(r'"new":"\ud800",')),
    bad_record("row-twice", "each number once", row(2)),
    bad_record("row-0", "from 1", row(0)),
    bad_record("row-too-high", "up to 2^63-1", row(2**63)),
    bad_record("status-of-no-row", "no record before has made it", status(9, "failed")),
    bad_record("due-without-a-fraction", "each time has six digits",
               status(1, "pending", '"reset":"wait","due":"2026-11-24T14:35:02Z",')),
    bad_record("since-without-a-fraction", "in each status", status(1, "pending", '"since":"2026-11-24T14:35:02Z",')),
    bad_record("call-that-has-not-begun", "its first record has its rows", call(1, "waiting")),
    bad_record("call-that-has-ended", "but one with its rows, no record of it follows", call(1, "started"),
               before=(call(1, "started", '"rows":[[1,2]],'), call(1, "ended"))),
    bad_record("call-of-no-row", "no record before has made it", call(1, "started", '"rows":[[1,3]],')),
    bad_record("call-of-a-row-twice", "in no range that another one has", call(1, "started", '"rows":[[2,2],[1,2]],')),
    bad_record("call-of-id-0", "an id has a digit that isn't 0", call(0, "started", '"rows":[[1,2]],')),
    bad_record("call-of-a-row-alone", "a range has two numbers", call(1, "started", '"rows":[1],')),
    Case(
        "damaged-shard-step-up-to-no-row", "the last number of a range is one of its rows",
        sealed([[job('"shard":{"index":3,"count":64},')], [row(4), row(68)], [steps("[[4,69]]", "a", "done")]]),
        "damaged", 4, len(sealed([[job('"shard":{"index":3,"count":64},')], [row(4), row(68)]])),
    ),
    bad_record("step-of-rows-and-a-text", "a row number without a meaning is a row number", steps("[[1,2]]", "a", "done", '"row":"1",')),
    bad_record("step-of-rows-backwards", "the first number isn't the higher one", steps("[[2,1]]", "a", "done")),
    bad_record("step-of-neither-row-nor-rows", "it has one of them", steps("[]", "a", "done")),
    bad_record("data-of-no-row", "no record before has made it", row_data(9, "{}", '"key":"k",')),
    bad_record("data-of-row-0", "from 1", row_data(0, "{}", '"key":"k",')),
    bad_record("row-data-without-a-key", "it has the whole key", row_data(1)),
    bad_record("row-data-of-a-list", "any object", row_data(1, "[]", '"key":"k",')),
    bad_record("row-data-with-a-key-count-of-0", "from 1", row_data(1, "{}", '"key":"k","key_count":0,')),
    bad_record("row-data-created-not-in-utc", "each time in a record is", row_data(1, "{}", '"key":"k",')
               .replace(b'01.000001Z"', b'01.000001+01:00"')),
    bad_record("row-data-from-elsewhere-not-in-utc", "each time in a record is", row_data(1, "{}", '"key":"k",'
               '"origin":{"id":"0123456789abcdef","at":"2026-11-24T12:00:00-01:00"},')),
    bad_record("step-of-no-row", "no record before has made it", step(9, "a", "done")),
    bad_record("step-without-a-name", "text", step(1, "a", "done").replace(b'"step":"a",', b"")),
    bad_record("step-without-an-attempt", "an integer", step(1, "a", "done").replace(b'"attempt":1,', b"")),
    bad_record("step-in-attempt-minus-1", "from 0", step(1, "a", "done").replace(b'"attempt":1,', b'"attempt":-1,')),
    bad_record("step-in-an-attempt-too-high", "up to 2^32-1",
               step(1, "a", "done").replace(b'"attempt":1,', b'"attempt":%d,' % 2**32)),
    bad_record("key-of-a-number", "text", row(3, "{}", '"key":12345678,')),
    bad_record("cost-of-no-row", "a row added before", rec("row_spent", '"row":9,"id":"0123456789abcdef",')),
    bad_record("change-elsewhere-of-no-row", "a row added before",
               rec("row_elsewhere", f'"row":9,"change":{{}},"origin":{ORIGIN},')),
    bad_record("change-elsewhere-without-an-origin", "it has an id", rec("row_elsewhere", '"row":1,"change":{},')),
    bad_record("change-elsewhere-in-a-list", "an object", rec("row_elsewhere", f'"row":1,"change":[],"origin":{ORIGIN},')),
    bad_record("merge-up-to-a-short-seal", "8 hex digits",
               rec("merge", '"other":"o","offset":9,"seal":"0123","fork":5,"job_status":"paused","message":"m",')),
    bad_record("merge-of-one-host", "a list",
               rec("merge", '"other":"o","offset":9,"seal":"01234567","fork":5,"hosts":"h","job_status":"paused","message":"m",')),
    bad_record("merge-without-an-end", "an offset and a seal",
               rec("merge", '"other":"o","fork":5,"job_status":"paused","message":"m",')),
    bad_record("log-of-a-numbered-level", "text", log('"level":5,')),
    bad_record("log-about-row-0", "from 1", log('"row":0,')),
    bad_record("log-with-details-in-a-list", "an object", log('"details":[],')),
    bad_record("log-of-a-text-attempt", "an integer", log('"attempt":"1",')),
    bad_record("log-made-at-a-time-not-in-utc", "each time in a record is",
               log('"logged_at":"2026-11-24T13:35:01+01:00",')),
    bad_record("run-without-an-id", "16 hex digits", rec("run", '"host":"h","user":"u","pid":7,"package":"1",')),
    bad_record("run-with-a-short-id", "16 hex digits", run(run_id="0123")),
    bad_record("run-with-an-id-in-capitals", "hex digits are in lower case", run(run_id="0123456789ABCDEF")),
    bad_record("run-with-limits-in-a-list", "an object", run('"limits":[],')),
    bad_record("run-of-a-command-in-text", "true or false", run('"is_command":"true",')),
    bad_record("run-of-a-process-too-high", "64 bits", rec("run", f'"id":"{7:016x}","host":"h","user":"u","pid":{2**63},"package":"1",')),
    bad_record("run-with-a-line-for-words", "a list of text", run('"argv":"journal run",')),
    bad_record("input-without-a-digest", "a required member", rec("input", '"rows":1,', 3)),
    bad_record("input-of-fewer-than-no-rows", "from 0", rec("input", f'"rows":-1,"digest":"{"0a" * 32}",', 3)),
    bad_record("input-of-a-short-digest", "64 digits", rec("input", '"rows":1,"digest":"0a",', 3)),
    bad_record("row-at-place-0", "places are from 1", row(3, more='"place":0,')),
    Case(
        "damaged-shard-of-a-lower-count", "an index is lower than the count",
        sealed([[job('"shard":{"index":64,"count":64},')]]), "damaged", 1,
    ),
    bad_record("end-of-a-run-without-a-kind", "text", rec("run_ended", '"message":"m",')),
    bad_record("pause-that-has-ended-in-text", "true or false", pause('"ended":"true",')),
    bad_record("pause-of-a-numbered-person", "text", pause('"person":5,')),
    bad_record("hold-until-a-whole-second", "each time in a record has one spelling", hold(5).replace(b"05.000001Z", b"05Z")),
    bad_record("hold-for-no-reason", "null isn't the default", hold(5, '"reason":null,')),
    bad_record("hold-until-a-number", "a time", rec("hold", '"until":5,')),
    bad_record("hold-for-a-numbered-reason", "text", hold(5, '"reason":5,')),
    bad_record("tune-of-a-list", "an object", tune(1, '["workers"]')),
    bad_record("tune-by-a-number", "text", tune(1, more='"person":5,')),
    bad_record("tune-of-no-run", "16 digits", rec("tune", f'"id":"{1:016x}","values":{{}},')),
    bad_record("tuned-from-nothing", "a list of two values", tuned(1, '{"workers":[8]}')),
    bad_record("tuned-to-end-a-hold-by-true", "a list of two values, too", tuned(1, '{"end_hold":true}')),
    bad_record("tuned-for-a-numbered-reason", "text", tuned(1, more='"reason":5,')),
    bad_record("by-of-a-number", "text", status(1, "failed", '"by":1,')),
    bad_record("reset-of-a-number", "text", status(1, "pending", '"reset":1,')),
    bad_record("unknown-of-a-text", "true or false", status(1, "failed", '"unknown":"true",')),
    bad_record("unknown-of-null", "null is as good as absent only where it is the default", status(1, "failed", '"unknown":null,')),
    bad_record("cost-twice-and-once-a-text", "each value has the right type", status(1, "failed", '"cost_cents":"5","cost_cents":5,')),
    bad_record("traceback-of-a-list", "text", status(1, "failed", '"traceback":[],')),
    bad_record("version-of-a-number", "text", status(1, "failed", '"version":3,')),
    damaged("reopened-first", "line 1 is another record", sealed([[reopened()], [job()]]), 1, 0),
    bad_record("integer-with-a-fraction", "written in digits", rec("job_counts", '"total":1.0,')),
    bad_record("usage-of-text", "numbers by name", status(1, "completed", '"usage":{"tokens":"812"},')),
    bad_record("cost-too-high", "up to 2^63-1", status(1, "completed", f'"cost_cents":{2**63},')),
    bad_record("cost-near-infinity", "below 2^63", status(1, "completed", '"cost_cents":1e305,')),
    bad_record("count-too-high", "up to 2^63-1", rec("job_counts", f'"total":{2**63},')),
    bad_record("wait-near-infinity", "below 2^63", status(1, "pending", '"after_s":1e305,')),
    bad_record("call-that-waits-for-a-text", "a number", call(1, "waiting", '"rows":[[1,1]],"after_s":"5",'), before=(status(1, "processing"),)),
    bad_record("result-out-of-range", "no double is that large", status(1, "completed", '"result":[1e400],')),
    bad_record("usage-near-infinity", "below 2^63", status(1, "failed", '"usage":{"t":1e308},')),
    bad_record("second-job-record", "line 1, and only line 1", job()),
    bad_record("error-without-a-message", "code and message", rec("job_error", '"code":"E",')),
    bad_record("type-twice", "it must say the same", log('"type":"row",')),
    bad_record("extension-without-a-time", "each record has one", b'{"type":"x_note"}'),
    bad_record("extension-at-a-whole-second", "a time has one spelling", rec("x_note").replace(b"00.000001Z", b"00Z")),
    bad_record("number-too-long", "4300 characters are the bound, also of what isn't known",
               log('"new":[0.' + "1" * 4299 + "],")),
    bad_record("integer-too-long", "the same bound", log('"new":' + "1" * 4301 + ",")),
    bad_record("number-out-of-range", "no double is that large", row(3, '{"n":1e400}')),
    bad_record("no-type", "no record", b'{"message":"m",' + AT % 2),
    bad_record("no-time", "no record", b'{"type":"log","message":"m"}'),
    bad_record("time-not-utc", "another offset", log().replace(b'Z"', b'+01:00"')),
    bad_record("time-without-a-zone", "no offset", log().replace(b'Z"', b'"')),
    *[
        bad_record(f"time-{name}", "a time has one spelling", log().replace(b"02.000001Z", at))
        for name, at in (
            ("of-a-whole-second", b"02Z"), ("of-three-digits", b"02.001Z"), ("of-nine-digits", b"02.000001000Z"),
            ("with-an-offset-of-zero", b"02.000001+00:00"), ("with-an-offset-of-minus-zero", b"02.000001-00:00"),
            ("with-a-short-offset", b"02.000001+0000"), ("in-lower-case", b"02.000001z"),
        )
    ],
    bad_record("time-with-a-space", "a time has one spelling", log().replace(b"24T13", b"24 13")),
    bad_record("time-within-white-space", "a time has one spelling, wherever it stands",
               log().replace(b'Z"}', b'z" }')),
    bad_record("row-data-created-at-a-whole-second", "each time in a record has one spelling",
               row_data(1, "{}", '"key":"k",').replace(b'"created_at":"2026-11-24T13:35:01.000001Z"', b'"created_at":"2026-11-24T13:35:01Z"')),
    bad_record("origin-at-a-whole-second", "each time in a record has one spelling",
               status(1, "skipped", '"origin":{"id":"0123456789abcdef","at":"2026-11-24T12:00:00Z"},')),
    bad_record("origin-with-a-line-end", "16 digits and nothing else",
               status(1, "skipped", r'"origin":{"id":"0123456789abcdef\n","at":"2026-11-24T12:00:00.000001Z"},')),
    bad_record("year-0", "years are from 1", log().replace(b'"2026', b'"0000')),
    bad_record("leap-second", "a second 60", log().replace(b"35:02", b"35:60")),
    bad_record("nested-101-deep", "at most 100, the record included", log('"new":' + "[" * 100 + "]" * 100 + ",")),
]  # fmt: skip

OTHERS = [
    Case("newer-format", "with seals as of format 1", sealed([[NEW_1], [log()]]), "newer", 1, 0),
    Case("newer-format-other-seals", "a newer format wins over a bad seal",
         NEW_1[:-1] + b',"sum":"00000000"}\n' + log() + b"\n", "newer", 1, 0),
    Case("newer-format-alone", "and over a missing LF", NEW_1, "newer", 1, 0),
    Case("newer-format-behind-a-byte-order-mark", "the mark is ignored", b"\xef\xbb\xbf" + NEW_1 + b"\n", "newer", 1, 0),
    Case("newer-format-of-another-first-record", "whatever its type is", NEW_1.replace(b'"job"', b'"head"') + b"\n", "newer", 1, 0),
    Case("newer-format-with-a-flipped-bit", "it is newer with the bit flipped back, too",
         flip(sealed([[NEW_1], [log()]]), len(NEW_1) - 12), "newer", 1, 0),
    Case("newer-format-made-illegible-by-a-bit", "with the bit flipped back, it states its format",
         flip(sealed([[NEW_1], [log()]]), 2), "newer", 1, 0),
    Case("newer-format-good-commits-behind", "and over what may follow",
         BASE.replace(b'"format":1', b'"format":12'), "newer", 1, 0),
    bad_record("format-raised", "the format of an old journal, raised from there on", rec("format", '"format":2,'), "newer"),
    Case("newer-format-raised-to-other-seals", "what follows isn't judged",
         sealed([*ROWS, [rec("format", '"format":2,')]]) + NEW_1[:-1] + b',"sum":"00000000"}\n', "newer", 4, len(BASE)),
    bad_record("type", "an unknown type in a good commit", rec("row_note", '"row":1,'), "newer"),
    bad_record("step-state", "a newer version may have more words", step(1, "a", "in doubt"), "newer"),
    bad_record("reset", "a newer version may have more words", status(1, "pending", '"reset":"again",'), "newer"),
    bad_record("row-status", "a newer version may have more words", status(1, "lost"), "newer"),
    bad_record("job-status", "a newer version may have more words", rec("job_status", '"status":"waiting",'), "newer"),
    Case("mismatch", "the id is that of another job: the directory is called corpus",
         sealed([[job().replace(b'"id":"corpus"', b'"id":"another"')], [row(1)]]), "mismatch", 1, 0),
    Case("mismatch-of-an-id-that-no-directory-has", "no damage",
         sealed([[job().replace(b'"id":"corpus"', b'"id":"An Other"')], [row(1)]]), "mismatch", 1, 0),
]  # fmt: skip

CASES = [*GOOD, *TORN, *DAMAGED, *OTHERS]
