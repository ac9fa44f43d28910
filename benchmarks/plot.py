"""How costs grow with the number of rows: ``python -m benchmarks.plot --max-rows 1000000``.

Prints each cost at 10^3, 10^4, ... rows with its ratio to the cost at a tenth of the rows, so that
"linear" can be read: a cost a row that stays the same has ratios near 1. ``--plot FILE.png`` draws
it, which needs matplotlib: ``pip install '.[bench]'``.
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
from benchmarks.ours import complete_rows, open_service
from benchmarks.setting import JOB, Clock, Setting, in_child, row_dicts, row_ids

SAMPLE = 2_000  # single commits in a job of that size

CURVES = {  # by name: what it is, and the unit
    "create": ("create_rows", "µs a row"),
    "single": ("complete_row, one at a time, unsynced", "µs a commit"),
    "batch": ("complete_row in a batch", "µs a row"),
    "open": ("open with a hint, summary", "µs a row"),
    "replay": ("open without a hint, summary", "µs a record"),
    "read": ("all rows as JobRow", "µs a row"),
    "memory": ("memory of the open job", "bytes a row"),
}


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


def _open_s(root: Path) -> float:
    with Clock() as clock:
        service = open_service(root)
        service.get_job_summary(JOB)
    service.close()
    return clock.s


def measure(setting: Setting, sizes: list[int], rounds: int) -> dict[str, dict[int, float]]:
    """Medians by curve and size."""
    medians: dict[str, dict[int, float]] = {name: {} for name in CURVES}
    for rows in sizes:
        figures: dict[str, list[float]] = {name: [] for name in CURVES}
        for _ in range(rounds):
            for name, figure in costs(setting, rows):
                figures[name].append(figure)
        for name, values in figures.items():
            if values:
                medians[name][rows] = statistics.median(values)
        print(f"{rows:,} rows measured", file=sys.stderr, flush=True)
    return medians


def print_table(medians: dict[str, dict[int, float]], sizes: list[int]) -> None:
    """A line a curve; behind each cost its ratio to the one before."""
    print("| cost | unit | " + " | ".join(f"{rows:,}" for rows in sizes) + " |")
    print("|---|---|" + "---|" * len(sizes))
    for name, (title, unit) in CURVES.items():
        cells, before = [], None
        for figure in medians[name].values():
            cells.append(f"{figure:.3g}" + (f" (x{figure / before:.2f})" if before else ""))
            before = figure
        print(f"| {title} | {unit} | " + " | ".join(cells) + " |")


def draw(medians: dict[str, dict[int, float]], path: str) -> None:
    import_module("matplotlib").use("Agg")
    pyplot = import_module("matplotlib.pyplot")
    figure, axes = pyplot.subplots(2, 4, figsize=(16, 7))
    for axis, (name, (title, unit)) in zip(axes.flat, CURVES.items(), strict=False):
        axis.plot(list(medians[name]), list(medians[name].values()), marker="o")
        axis.set(xscale="log", title=title, xlabel="rows", ylabel=unit)
        axis.set_ylim(bottom=0)
        axis.grid(visible=True, alpha=0.3)
    axes.flat[-1].axis("off")
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.plot",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--max-rows", type=int, default=1_000_000, help="default %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default %(default)s")
    parser.add_argument("--dir", help="where to work; it decides which disk is measured")
    parser.add_argument("--csv", metavar="FILE")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--plot", metavar="FILE.png")
    arguments = parser.parse_args()
    sizes = [10**power for power in range(3, 10) if 10**power <= arguments.max_rows]
    if not sizes or arguments.rounds < 1:
        parser.error("--max-rows must be 1000 or more, --rounds 1 or more")
    with tempfile.TemporaryDirectory(prefix="benchmarks-", dir=arguments.dir) as directory:
        medians = measure(Setting(Path(directory)), sizes, arguments.rounds)
    print_table(medians, sizes)
    if arguments.csv:
        with open(arguments.csv, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["rows", *(f"{name} ({unit})" for name, (_, unit) in CURVES.items())])
            for rows in sizes:
                writer.writerow([rows, *(medians[name].get(rows, "") for name in CURVES)])
    if arguments.json:
        told = {
            name: {"title": title, "unit": unit, "by_rows": medians[name]}
            for name, (title, unit) in CURVES.items()
        }
        Path(arguments.json).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    if arguments.plot:
        draw(medians, arguments.plot)


if __name__ == "__main__":
    main()
