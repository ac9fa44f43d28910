"""Makes input files by the programs that people use, for `test_programs.py`."""

from __future__ import annotations

import csv
import datetime as dt
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import journal

Row = dict[str, Any]
COLUMNS = ("order", "name", "qty", "price", "day", "at", "note")
_DAY = dt.date(2020, 2, 28)
_AT = dt.datetime(1999, 12, 31, 23, 59, 59)  # noqa: DTZ001  (as tables have them)


def rows_of(count: int) -> Iterator[Row]:
    for n in range(count):
        yield {
            "order": f"{n:07d}",
            "name": f'Zoë "{n}", {n % 7}; |',
            "qty": n - 50,
            "price": n / 4,
            "day": _DAY + dt.timedelta(n % 1000),
            "at": _AT + dt.timedelta(seconds=n, milliseconds=n * 7919 % 1000, microseconds=n % 400),
            "note": None if n % 5 == 0 else f"n{n % 11}",
        }


def typed(row: Row) -> Row:
    """What a format with types gives."""
    return row | {"day": row["day"].isoformat(), "at": row["at"].isoformat()}


def as_text(row: Row) -> Row:
    """What a format without types gives."""
    return {name: "" if value is None else str(value) for name, value in typed(row).items()}


# --- makers ---------------------------------------------------------------------------------------


def _shell(command: str, directory: Path) -> None:
    subprocess.run(["bash", "-euo", "pipefail", "-c", command], cwd=directory, check=True)


def _csv(count: int, file: Path, **options: Any) -> None:
    with file.open("w", newline="", encoding=options.pop("encoding", "utf-8")) as stream:
        writer = csv.DictWriter(stream, COLUMNS, **options)
        writer.writeheader()
        writer.writerows(as_text(row) for row in rows_of(count))


def _json_lines(count: int, file: Path) -> None:
    with file.open("w") as stream:
        for row in rows_of(count):
            print(json.dumps(typed(row)), file=stream)


def _pandas(count: int) -> Any:
    import pandas as pd  # noqa: PLC0415  (may be missing)

    return pd.DataFrame(rows_of(count), columns=list(COLUMNS))


def _polars(count: int) -> Any:
    import polars as pl  # noqa: PLC0415  (may be missing)

    return pl.DataFrame(list(rows_of(count)))


def csv_gzip(count: int, directory: Path) -> str:
    _csv(count, directory / "in.csv")
    _shell("gzip in.csv", directory)
    return "in.csv.gz"


def csv_mark_crlf(count: int, directory: Path) -> str:
    _csv(count, directory / "in.csv", encoding="utf-8-sig", lineterminator="\r\n")
    return "in.csv"


def tsv_utf16_iconv(count: int, directory: Path) -> str:
    with (directory / "in.utf8").open("w") as stream:
        for cells in (COLUMNS, *(as_text(row).values() for row in rows_of(count))):
            print("\t".join(text.replace(",", "") for text in cells), file=stream)
    _shell("iconv -f utf-8 -t utf-16 in.utf8 > in.tsv", directory)
    return "in.tsv"


def json_lines_xz(count: int, directory: Path) -> str:
    _json_lines(count, directory / "in.jsonl")
    _shell("xz -1 in.jsonl", directory)
    return "in.jsonl.xz"


def json_lines_zstd(count: int, directory: Path) -> str:
    _json_lines(count, directory / "in.jsonl")
    _shell("zstd -q --rm in.jsonl", directory)
    return "in.jsonl.zst"


def json_jq(count: int, directory: Path) -> str:
    _json_lines(count, directory / "in.jsonl")
    _shell("jq -s . in.jsonl > in.json", directory)
    return "in.json"


def csv_pandas(count: int, directory: Path) -> str:
    _pandas(count).to_csv(directory / "in.csv.xz", index=False)
    return "in.csv.xz"


def parquet_pandas(count: int, directory: Path) -> str:
    _pandas(count).to_parquet(directory / "in.parquet")
    return "in.parquet"


def excel_pandas(count: int, directory: Path) -> str:
    _pandas(count).to_excel(directory / "in.xlsx", index=False)
    return "in.xlsx"


def parquet_polars(count: int, directory: Path) -> str:
    _polars(count).write_parquet(directory / "in.parquet")
    return "in.parquet"


def arrow_polars(count: int, directory: Path) -> str:
    _polars(count).write_ipc(directory / "in.arrow", compression="zstd")
    return "in.arrow"


def feather_pyarrow(count: int, directory: Path) -> str:
    import pyarrow as pa  # noqa: PLC0415  (may be missing)
    from pyarrow import feather  # noqa: PLC0415  (may be missing)

    feather.write_feather(pa.Table.from_pylist(list(rows_of(count))), str(directory / "in.feather"))
    return "in.feather"


def _duckdb(count: int, directory: Path, how: str) -> None:
    import duckdb  # noqa: PLC0415  (may be missing)

    _json_lines(count, directory / "in.jsonl")
    types = "{'order': 'VARCHAR', 'name': 'VARCHAR', 'qty': 'INTEGER', 'price': 'DECIMAL(18,2)', 'day': 'DATE', 'at': 'TIMESTAMP', 'note': 'VARCHAR'}"
    source = f"read_json('{directory}/in.jsonl', columns={types})"
    with closing(duckdb.connect()) as connection:
        connection.execute(f"COPY (FROM {source}) TO '{directory}/in.{how}")


def parquet_duckdb(count: int, directory: Path) -> str:
    _duckdb(count, directory, "parquet' (FORMAT parquet)")
    return "in.parquet"


def csv_duckdb(count: int, directory: Path) -> str:
    _duckdb(count, directory, "csv' (DELIMITER '|')")
    return "in.csv"


def json_duckdb(count: int, directory: Path) -> str:
    _duckdb(count, directory, "json' (FORMAT json, ARRAY true)")
    return "in.json"


def sqlite_cli(count: int, directory: Path) -> str:
    _csv(count, directory / "in.csv")
    create = '"order" TEXT, name TEXT, qty INTEGER, price REAL, day TEXT, at TEXT, note TEXT'
    _shell(
        f"sqlite3 in.db 'CREATE TABLE t ({create})' '.import --csv --skip 1 in.csv t'", directory
    )
    return "sqlite:in.db?SELECT * FROM t ORDER BY rowid"


# --- what is read ---------------------------------------------------------------------------------


def without_commas(row: Row) -> Row:
    return {name: text.replace(",", "") for name, text in as_text(row).items()}


def of_pandas_csv(row: Row) -> Row:
    return as_text(row) | {"at": _pandas_time(row["at"])}


def _pandas_time(at: dt.datetime) -> str:
    return at.isoformat(" ", timespec="microseconds")


def with_decimals(row: Row) -> Row:
    return typed(row) | {"price": Decimal(f"{row['price']:.2f}")}


def of_duckdb_csv(row: Row) -> Row:
    at = row["at"].isoformat(" ").rstrip("0") if row["at"].microsecond else str(row["at"])
    return as_text(row) | {"price": f"{row['price']:.2f}", "at": at}


def of_duckdb_json(row: Row) -> Row:
    at = row["at"].isoformat(" ").rstrip("0") if row["at"].microsecond else str(row["at"])
    return typed(row) | {"at": at}


def of_sqlite(row: Row) -> Row:
    return typed(row) | {"note": row["note"] or ""}


def of_excel(row: Row) -> Row:
    """A workbook has times in milliseconds."""
    at = row["at"]
    at -= dt.timedelta(microseconds=at.microsecond % 1000)
    return typed(row) | {"at": at.isoformat()}


class Kind(NamedTuple):
    """``make`` returns what is read, in the directory. ``needs``: programs and libraries."""

    make: Callable[[int, Path], str]
    expected: Callable[[Row], Row]
    needs: tuple[str, ...] = ()
    options: dict[str, str] = {}  # noqa: RUF012  (never changed)

    @property
    def name(self) -> str:
        return self.make.__name__

    @property
    def is_here(self) -> bool:
        return all(map(_is_here, self.needs))


_LIBRARIES = ("backports", "duckdb", "openpyxl", "pandas", "polars", "pyarrow")


def _is_here(need: str) -> bool:
    return bool(importlib.util.find_spec(need) if need in _LIBRARIES else shutil.which(need))


KINDS = (
    Kind(csv_gzip, as_text, ("gzip",)),
    Kind(csv_mark_crlf, as_text),
    Kind(tsv_utf16_iconv, without_commas, ("iconv",)),
    Kind(json_lines_xz, typed, ("xz",)),
    Kind(
        json_lines_zstd, typed, ("zstd", "backports") if sys.version_info < (3, 14) else ("zstd",)
    ),
    Kind(json_jq, typed, ("jq",)),
    Kind(csv_pandas, of_pandas_csv, ("pandas",)),
    Kind(parquet_pandas, typed, ("pandas", "pyarrow")),
    Kind(excel_pandas, of_excel, ("pandas", "openpyxl")),
    Kind(parquet_polars, typed, ("polars", "pyarrow")),
    Kind(arrow_polars, typed, ("polars", "pyarrow")),
    Kind(feather_pyarrow, typed, ("pyarrow",)),
    Kind(parquet_duckdb, with_decimals, ("duckdb", "pyarrow")),
    Kind(csv_duckdb, of_duckdb_csv, ("duckdb",), {"delimiter": "|"}),
    Kind(json_duckdb, of_duckdb_json, ("duckdb",)),
    Kind(sqlite_cli, of_sqlite, ("sqlite3",)),
)


def open_rows(kind: Kind, made: str, directory: Path) -> Any:
    path = made.replace("sqlite:", f"sqlite:{directory}/") if ":" in made else directory / made
    return journal.read_rows(path, **kind.options)


def first_difference(kind: Kind, made: str, directory: Path, count: int) -> str | None:
    """The first row that isn't as expected; None if all are."""
    read = iter(open_rows(kind, made, directory))
    for number, row in enumerate(rows_of(count), 1):
        found, expected = next(read, None), kind.expected(row)
        if found != expected:
            return f"row {number} is {found} and not {expected}"
    return None if next(read, None) is None else "there are more rows"
