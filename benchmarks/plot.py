"""How costs grow with the number of rows and jobs: ``python -m benchmarks.plot --max-rows 1000000``.

Prints each cost at 10^3, 10^4, ... rows, and 10^2, 10^3, ... jobs, with its ratio to the cost at a
tenth of them, so that "linear" can be read: a cost a row that stays the same has ratios near 1.
``--plot FILE.svg`` draws it, which needs matplotlib: ``pip install '.[bench]'``. ``--from FILE``
draws figures that ``--json FILE`` has written before.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from benchmarks.child import STATUS_FILE
from benchmarks.large import list_status
from benchmarks.ours import complete_rows, list_jobs, open_service
from benchmarks.setting import JOB, Clock, Setting, in_child, row_dicts, row_ids
from journal.verify import verify_job

SAMPLE = 2_000  # single commits in a job of that size

CURVES = {  # by name: what it is, and the unit
    "create": ("create_rows", "µs a row"),
    "single": ("complete_row, one at a time, unsynced", "µs a commit"),
    "batch": ("complete_row in a batch", "µs a row"),
    "open": ("open with a hint, summary", "µs a row"),
    "replay": ("open without a hint, summary", "µs a record"),
    "read": ("all rows as JobRow", "µs a row"),
    "memory": ("memory of the open job", "bytes a row"),
    "verify": ("verify", "µs a record"),
    "row history": ("all about one row", "µs a record"),
    "list": ("the newest 50 jobs", "µs a job"),
    "list status": ("jobs of a status that none has", "µs a job"),
}
OF_JOBS = ("list", "list status")


def costs(setting: Setting, rows: int) -> Iterator[tuple[str, float]]:
    """One job of that many rows: made, worked on, opened, read."""
    ids = row_ids(rows)
    single = ids[: min(SAMPLE, rows // 4)]
    batch = ids[rows // 2 :]
    with setting.fresh() as root:
        with open_service(root) as service:
            service.create_job("Benchmark", job_id=JOB)
            with Clock() as clock:
                service.create_rows(JOB, ({"data": data} for data in row_dicts(rows)))
            yield "create", clock.s / rows * 1e6
            with Clock() as clock:
                complete_rows(service, single)
            yield "single", clock.s / len(single) * 1e6
            with Clock() as clock, service.batch(JOB):
                complete_rows(service, batch)
            yield "batch", clock.s / len(batch) * 1e6
        os.sync()
        yield "open", _open_s(root) / rows * 1e6
        if STATUS_FILE.exists():
            yield "memory", in_child("benchmarks.child", "open-held", str(root)) / rows
        (root / JOB / "index.hint").unlink(missing_ok=True)
        yield "replay", _open_s(root) / (rows + len(single) + len(batch)) * 1e6
        with open_service(root) as service:
            service.get_job_summary(JOB)
            with Clock() as clock:
                for row in service.get_rows(JOB):
                    _ = row
            yield "read", clock.s / rows * 1e6
            with Clock() as clock:
                service.get_row_history(ids[rows // 2])
            yield "row history", clock.s / (rows + len(single) + len(batch)) * 1e6
        with Clock() as clock:
            report = verify_job(root / JOB)
        yield "verify", clock.s / report.records * 1e6


def costs_of_jobs(setting: Setting, jobs: int) -> Iterator[tuple[str, float]]:
    """A store of that many jobs of three rows: listed."""
    yield "list status", list_status(setting, jobs) / jobs * 1e6
    yield "list", list_jobs(setting, jobs) / jobs * 1e6


def _open_s(root: Path) -> float:
    with Clock() as clock:
        service = open_service(root)
        service.get_job_summary(JOB)
    service.close()
    return clock.s


def measure(
    setting: Setting, sizes: list[int], jobs: list[int], rounds: int
) -> dict[str, dict[int, float]]:
    """Medians by curve and size."""
    medians: dict[str, dict[int, float]] = {name: {} for name in CURVES}
    of_rows = [(costs, rows, "rows") for rows in sizes]
    for work, count, unit in [*of_rows, *((costs_of_jobs, number, "jobs") for number in jobs)]:
        figures: dict[str, list[float]] = {name: [] for name in CURVES}
        for _ in range(rounds):
            for name, figure in work(setting, count):
                figures[name].append(figure)
        for name, values in figures.items():
            if values:
                medians[name][count] = statistics.median(values)
        print(f"{count:,} {unit} measured", file=sys.stderr, flush=True)
    return medians


def print_table(medians: dict[str, dict[int, float]]) -> None:
    """A line a curve; behind each cost its ratio to the one before."""
    sizes = sorted({size for by_size in medians.values() for size in by_size})
    print("| cost | unit | " + " | ".join(f"{size:,}" for size in sizes) + " |")
    print("|---|---|" + "---|" * len(sizes))
    for name, (title, unit) in CURVES.items():
        cells, before = [], None
        for size in sizes:
            figure = medians[name].get(size)
            ratio = f" (x{figure / before:.2f})" if figure and before else ""
            cells.append("" if figure is None else f"{figure:.3g}{ratio}")
            before = figure
        print(f"| {title} | {unit} | " + " | ".join(cells) + " |")


def read_figures(path: Path) -> dict[str, dict[int, float]]:
    """Medians as ``--json`` has written them."""
    curves = json.loads(path.read_text(encoding="utf-8"))
    return {
        name: {int(count): figure for count, figure in curve["by_count"].items()}
        for name, curve in curves.items()
    }


def draw(medians: dict[str, dict[int, float]], path: str) -> None:
    matplotlib = import_module("matplotlib")
    matplotlib.use("Agg")
    # Text stays text, and the same figures give the same file.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "benchmarks"})
    matplotlib.rcParams["font.sans-serif"] = ["DejaVu Sans"]
    pyplot = import_module("matplotlib.pyplot")
    figure, axes = pyplot.subplots(3, 4, figsize=(16, 10))
    for axis in axes.flat[len(CURVES) :]:
        axis.set_axis_off()
    for axis, (name, (title, unit)) in zip(axes.flat, CURVES.items(), strict=False):
        axis.plot(list(medians[name]), list(medians[name].values()), marker="o")
        counted = "jobs" if name in OF_JOBS else "rows"
        axis.set(xscale="log", title=title, xlabel=counted, ylabel=unit)
        axis.set_ylim(bottom=0)
        axis.minorticks_off()  # most of the size of the picture
        axis.grid(visible=True, alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.endswith(".svg") else None)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.plot",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--max-rows", type=int, default=1_000_000, help="default %(default)s")
    parser.add_argument("--max-jobs", type=int, default=10_000, help="default %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default %(default)s")
    parser.add_argument("--dir", help="where to work; it decides which disk is measured")
    parser.add_argument("--csv", metavar="FILE")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--plot", metavar="FILE.svg")
    parser.add_argument("--from", dest="source", metavar="FILE", help="figures of --json")
    arguments = parser.parse_args()
    sizes = [10**power for power in range(3, 10) if 10**power <= arguments.max_rows]
    jobs = [10**power for power in range(2, 8) if 10**power <= arguments.max_jobs]
    if not sizes or arguments.rounds < 1:
        parser.error("--max-rows must be 1000 or more, --rounds 1 or more")
    if arguments.source:
        medians = read_figures(Path(arguments.source))
    else:
        with tempfile.TemporaryDirectory(prefix="benchmarks-", dir=arguments.dir) as directory:
            medians = measure(Setting(Path(directory)), sizes, jobs, arguments.rounds)
    print_table(medians)
    if arguments.csv:
        with open(arguments.csv, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(
                ["rows or jobs", *(f"{name} ({unit})" for name, (_, unit) in CURVES.items())]
            )
            for count in sorted({*jobs, *sizes}):
                writer.writerow([count, *(medians[name].get(count, "") for name in CURVES)])
    if arguments.json:
        told = {
            name: {"title": title, "unit": unit, "by_count": medians[name]}
            for name, (title, unit) in CURVES.items()
        }
        Path(arguments.json).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    if arguments.plot:
        draw(medians, arguments.plot)


if __name__ == "__main__":
    main()
