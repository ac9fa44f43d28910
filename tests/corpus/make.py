"""Writes the corpus beside this file: journals, and the verdict of a reader on each journal.

    python tests/corpus/make.py

This module is written from the specification alone, and uses nothing of the package. A reader of
fifty lines finds the rows and counts of good commits. Verdicts and places are written by hand.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the command; pytest has it there already

from corpus.cases import CASES, JOB, SHARD, Case

HERE = Path(__file__).parent
STATUSES = ("pending", "processing", "completed", "failed", "skipped", "needs_review")
COUNTS = ("total", "processed", "successful", "failed")
OF_A_STATUS = (
    "tracking_number", "label_path", "cost_cents", "result", "error_code", "error_message", "reason",
    "version",
)  # fmt: skip
OF_A_STEP = ("state", "attempt", "result", "error_code", "error_message")


class Good(NamedTuple):
    """The good commits that a file begins with: their records, and how many there are."""

    records: list[dict[str, Any]]
    commits: int


def good_commits(content: bytes) -> Good:
    records: list[dict[str, Any]] = []
    crc = start = commits = 0
    pending: list[bytes] = []
    for line in content.split(b"\n"):
        seal = re.fullmatch(rb',"crc":"([0-9a-f]{8})"}', line[-18:])
        if seal is None:
            pending.append(line)
            continue
        body = b"\n".join([*pending, line[:-18]])
        crc = crc32(body, crc)
        if b"%08x" % crc != seal[1]:
            break
        records += [json.loads(one) for one in [*pending, line[:-18] + b"}"]]
        start, commits, pending = len(records), commits + 1, []
    return Good(records[:start], commits)


def key_of(job: dict[str, Any], record: dict[str, Any]) -> str:
    """The idempotency key of a row, of the row's ``row`` or ``row_data``."""
    key = record.get("key")
    return f"{job['id']}:{record['row']}" if key is None else str(key)


def meaning(records: list[dict[str, Any]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The job and its rows, in the order of their numbers, as records say."""
    first = records[0]
    job: dict[str, Any] = {
        "id": first["id"], "name": first["name"], "status": "pending",
        "original_command": first.get("original_command", ""),
        "description": first.get("description"), "mode": first.get("mode", "confirm"),
        "metadata": first.get("metadata"), "key": first.get("key"),
        "passes": 1,
        "created_at": first["at"], "started_at": None, "completed_at": None,
        "updated_at": records[-1]["at"],
        "error_code": None, "error_message": None, "repaired": False,
    }  # fmt: skip
    if "shard" in first:
        part = first["shard"]
        job["shard"] = {name: part[name] for name in ("index", "count", "key") if name in part}
    rows: dict[int, dict[str, Any]] = {}
    unchanged = set[int]()  # the rows without a row_status
    calls: dict[str, list[int]] = {}  # the rows that are in each call
    own: dict[
        int, dict[str, Any]
    ] = {}  # of the rows that wait in a call: what their own records say
    distance = first.get("shard", {}).get("count", 1)

    def resume(number: int) -> None:
        rows[number] = with_steps_of(rows[number], own.pop(number, rows[number]))

    def leave(number: int) -> None:
        for numbers in calls.values():
            if number in numbers:
                numbers.remove(number)
                resume(number)

    set_by = dict.fromkeys(COUNTS, 0)
    cost, usage = Fraction(0), dict[str, Any]()
    run_id, asked = "", list[str]()  # of the last run, and what it was asked to change
    for record in records:
        at = record["at"]
        match record["type"]:
            case "row":
                rows[record["row"]] = {
                    "row": record["row"], "checksum": record["checksum"], "data": record["data"],
                    "status": "pending", "attempts": 0, "created_at": at, "updated_at": at,
                    "key": key_of(first, record), "earlier_attempts": 0, "unknown": False,
                    **dict.fromkeys(OF_A_STATUS),
                }  # fmt: skip
                if "place" in record:
                    rows[record["row"]]["place"] = record["place"]
                unchanged.add(record["row"])
            case "input":
                job["input"] = {name: record[name] for name in ("rows", "digest", "at")}
            case "row_data":
                leave(record["row"])
                row = rows[record["row"]]
                row |= {name: record[name] for name in ("checksum", "data", "key", "created_at")}
                if record["row"] in unchanged:
                    row["updated_at"] = record["created_at"]
                row.pop("place", None)
                if "place" in record:
                    row["place"] = record["place"]
            case "row_status":
                row = rows[record["row"]]
                own.pop(record["row"], None)
                unchanged.discard(record["row"])
                reset = record.get("reset") if record["status"] == "pending" else None
                if reset in {"given_back", "wait"} and row["status"] == "processing":
                    row["earlier_attempts"] += 1
                row |= {name: record.get(name) for name in OF_A_STATUS}
                row |= {"status": record["status"], "updated_at": at}
                row["unknown"] = record.get("unknown", False)
                for name in ("traceback", "due", "waiting_since"):  # which few rows have
                    row.pop(name, None)
                if reset == "wait" and record.get("due") is not None:
                    row |= due_and_since(record)
                if record.get("traceback") is not None:
                    row["traceback"] = record["traceback"]
                row["attempts"] += record["status"] == "processing"
                if reset in {"retry", "redo"}:
                    row["earlier_attempts"] = row["attempts"]
                if record["status"] != "processing":
                    cost, usage = added(cost, usage, record)
                if record.get("usage"):
                    row["usage"] = record["usage"]
                else:
                    row.pop("usage", None)
                if reset == "redo":
                    row.pop("steps", None)
                if reset == "redo" or "due" in row:
                    leave(record["row"])
            case "row_step":
                for number in numbers_of(record, distance) or [record["row"]]:
                    steps = rows[number].setdefault("steps", {})
                    if record["state"] == "dropped":
                        leave(number)
                        steps = rows[number].setdefault("steps", {})
                        names = list(steps)
                        place = (
                            names.index(record["step"]) if record["step"] in names else len(names)
                        )
                        for name in names[place:]:
                            del steps[name]
                        if not steps:
                            del rows[number]["steps"]
                    elif steps.get(record["step"], {}).get("state") != "done":
                        steps[record["step"]] = {name: record.get(name) for name in OF_A_STEP}
            case "call":
                if record.get("rows"):
                    for number in [*numbers_of(record, distance), *calls.get(record["id"], ())]:
                        leave(number)
                    numbers = numbers_of(record, distance)
                    calls[record["id"]] = [one for one in numbers if "due" not in rows[one]]
                in_call = calls[record["id"]]
                for number in list(in_call):
                    if record["state"] == "ended":
                        leave(number)
                    elif record["state"] == "started":
                        resume(number)
                    elif rows[number]["status"] == "processing" or number in own:
                        own.setdefault(number, rows[number])
                        rows[number] = with_steps_of(rows[number], waiting(own[number], record))
            case "job_status":
                job["status"] = record["status"]
                if record["status"] == "running":
                    job["started_at"] = job["started_at"] or at
                elif record["status"] in {"completed", "failed", "cancelled"}:
                    job["completed_at"] = at
                    job.pop("hold", None)
            case "job_reopened":
                job |= {"status": "pending", "completed_at": None, "passes": job["passes"] + 1}
                job |= {"error_code": None, "error_message": None}
            case "job_pause":
                job.pop("pause", None)
                if not record.get("ended"):
                    job["pause"] = {"since": at, "person": record.get("person")}
            case "run":
                job.pop("hold", None)
                for name in ("limits", "tuned"):
                    job.pop(name, None)
                if record.get("limits"):
                    job["limits"] = record["limits"]
                run_id, asked = record["id"], []
            case "hold":
                since = job.pop("hold", {"since": at})["since"]
                if record.get("until") is not None:
                    job["hold"] = {"reason": record.get("reason", ""), "until": record["until"]}
                    job["hold"]["since"] = since
            case "tune" if record["run"] == run_id:
                asked = [*asked, record["id"]][-100:]
            case "tuned" if record["id"] in asked:
                asked.remove(record["id"])
                limits = {
                    k: now for k, (_, now) in record.get("changes", {}).items() if k != "end_hold"
                }
                if tuned := job.get("tuned", {}) | limits:
                    job["tuned"] = tuned
            case "job_error":
                job |= {"error_code": record["code"], "error_message": record["message"]}
                is_ours = record.get("by") in {"merge", "repair"}
                job["repaired"] |= is_ours and record["code"] == "repaired"
            case "row_spent":
                cost, usage = added(cost, usage, record)
            case "job_counts":
                now = counts_of(rows)
                for name in COUNTS:
                    if record.get(name) is not None:
                        set_by[name] = record[name] - now[name]
    counted = Counter(row["status"] for row in rows.values())
    job["counts"] = {
        **{name: max(0, count + set_by[name]) for name, count in counts_of(rows).items()},
        "by_status": {status: counted[status] for status in STATUSES},
    }
    job["cost_cents"] = int(cost) if cost.denominator == 1 else float(cost)
    if usage:
        job["usage"] = usage
    return job, [rows[number] for number in sorted(rows)]


def numbers_of(record: dict[str, Any], distance: int) -> list[int]:
    """The rows of a record's ranges, in order."""
    ranges = record.get("rows", ())
    return [number for a, b in ranges for number in range(a, b + 1, distance)]


def with_steps_of(other: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    steps = {name: value for name, value in other.items() if name == "steps"}
    return {name: value for name, value in row.items() if name != "steps"} | steps


def waiting(row: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """A row in processing while the call that it is in waits."""
    row = {name: value for name, value in row.items() if name not in {"usage", "traceback"}}
    row |= dict.fromkeys(OF_A_STATUS) | {"status": "pending", "updated_at": record["at"]}
    row |= {"reason": record.get("reason"), "unknown": False}
    if record.get("due") is not None:
        row |= due_and_since(record)
    return row


def due_and_since(record: dict[str, Any]) -> dict[str, Any]:
    since = record.get("since")
    return {"due": record["due"]} | ({} if since is None else {"waiting_since": since})


def added(
    cost: Fraction, usage: dict[str, Any], record: dict[str, Any]
) -> tuple[Fraction, dict[str, Any]]:
    """The cost and the usage of the job, with those of a record."""
    more = record.get("usage") or {}
    sums = {name: usage.get(name, 0) + number for name, number in more.items()}
    millionths = round(Fraction(str(record.get("cost_cents") or 0)) * 10**6)  # halves to even
    return cost + Fraction(millionths, 10**6), usage | sums


def counts_of(rows: dict[int, dict[str, Any]]) -> dict[str, int]:
    by = Counter(row["status"] for row in rows.values())
    return {
        "total": len(rows),
        "processed": by["completed"] + by["failed"],
        "successful": by["completed"],
        "failed": by["failed"],
    }


def expected(case: Case) -> dict[str, Any]:
    """What the file beside a journal says."""
    directory = SHARD if case.name.startswith(("good-shard", "damaged-shard")) else JOB
    if case.name == "good-shard-of-1000":
        directory = f"{JOB}/0003-of-1000"
    said: dict[str, Any] = {"why": case.why, "directory": directory, "verdict": case.verdict}
    if case.verdict == "good":
        good = good_commits(case.content)
        assert len(good.records) == case.content.count(b"\n")
    elif case.verdict in {"torn", "unended"}:
        said |= {"line": case.line, "offset": case.offset}
        good = good_commits(case.content)
    else:
        return said | {"line": case.line, "offset": case.offset}
    job, rows = meaning(good.records)
    return said | {"commits": good.commits, "records": len(good.records), "job": job, "rows": rows}


def files() -> Iterator[tuple[str, bytes]]:
    """All files of the corpus by name."""
    for case in CASES:
        yield f"{case.name}.jsonl", case.content
        text = json.dumps(expected(case), ensure_ascii=False, indent=1)
        yield f"{case.name}.json", text.encode() + b"\n"


def main() -> None:
    for old in [*HERE.glob("*.json"), *HERE.glob("*.jsonl")]:
        old.unlink()
    for name, content in files():
        (HERE / name).write_bytes(content)


if __name__ == "__main__":
    main()
