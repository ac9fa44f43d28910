"""Files that aren't what their names say, or are broken: each message names what it is, the place,
the value, and what to do.
"""

import bz2
import gzip
import io
import lzma
import os
import re
import sqlite3
import sys
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.platforms import needs_devices

import journal
from journal.fs.shell import quote
from journal.inputs.read import RowInput
from journal.inputs.read_options import Source

LIBRARIES = {".xlsx": "openpyxl", ".parquet": "pyarrow"}  # of extras
CSV = b"order,zip\nA-1,90001\nA-2,90002\n"


def refusal(path: str, **options: Any) -> str:
    """What `journal run` says about an input."""
    with pytest.raises(journal.InvalidValueError) as caught:
        list(RowInput(Source(path, argument="ROWS", **options)))
    return str(caught.value)


def archive(name: str = "orders.csv", **more: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        for each, text in {name: "", **more}.items():
            file.writestr(each, text)
    return data.getvalue()


def tar() -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as file:
        file.addfile(tarfile.TarInfo("a"))
    return data.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"PAR1\x15", "is Parquet, not CSV: add --format parquet"),
        ("a.txt", b"ARROW1\0\0", "is an Arrow file, not lines of text: add --format arrow"),
        (
            "a.csv",
            archive(),
            "is an Excel workbook or another ZIP archive, not CSV: add --format xlsx",
        ),
        ("a.xlsx", archive(), "is a ZIP archive, and no Excel workbook: unzip it first, or save"),
        (
            "a.xlsx",
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
            "is an old Excel workbook (.xls), one with",
        ),
        ("a.xlsx", CSV, "can't be read as an Excel workbook: File is not a zip file"),
        ("a.parquet", CSV, "can't be read as Parquet: Parquet magic bytes not found in footer"),
        ("a.parquet", b"", "can't be read as Parquet: Parquet file size is 0 bytes"),
        ("a", b"%PDF-1.7\n", "is an archive, an image or a PDF: give a table"),
        ("a.csv.gz", gzip.compress(tar()), "is a tar archive: unpack it, as by tar xf"),
        ("a.csv.bz2", bz2.compress(CSV), "is compressed by bzip2: decompress it, as by bzcat"),
        ("a.csv.bz2", bz2.compress(b""), "is compressed by bzip2: decompress it, as by bzcat"),
        ("a.csv", b"\xef\xbb\xbf\n<!DOCTYPE html><html>", "is an HTML page: look at it, as it may"),
        (
            "a.parquet.gz",
            gzip.compress(b"PAR1\x15"),
            "is Parquet, which can't be compressed or a pipe, as it is read from its end: save it",
        ),
        (
            "a.csv.gz",
            gzip.compress(CSV * 999)[:-9],
            ("is gzip data that is cut short: copy it or download it again"),
        ),
        (
            "a.csv.xz",
            lzma.compress(CSV * 999)[:-9],
            ("is xz data that is cut short: copy it or download it again"),
        ),
        (
            "a.csv.xz",
            lzma.compress(CSV) + lzma.compress(CSV)[:6] + b"damaged",
            "is xz data that is damaged (",
        ),
        (
            "a.csv",
            b'"order";"zip"\n"A-1";"1"\n',
            "line 1: is not valid CSV; if another character than a comma separates its cells, add",
        ),
        ("a.csv", b"order,zip\rA-1,90001\r", "line 1: has a carriage return (CR) without a line"),
        ("a.tsv", b"order\tzip\rA-1\t90001\r", "line 1: has a carriage return (CR) without a line"),
        (
            "a.csv",
            b"order;zip\nA-1;90001\n",
            (
                f"looks like columns separated by ';': add --delimiter {quote(';')}; or, if this is the name of one "
                f"column, --delimiter {quote(',')} (got 'order;zip')"
            ),
        ),
        (
            "a.csv",
            b"order\nZ\xfcrich\n",
            "line 2: is not valid utf-8: give its encoding, such as --encoding cp1252 (got b'\\xfc')",
        ),
        (
            "a.json",
            b'{"a":1}',
            (
                "a.json: must be an array of JSON objects: if each line is an object, add --format jsonl; "
                "if an array is within an object, take it out by jq: jq .rows FILE > rows.json (got '{"
            ),
        ),
        ("a.json", b'[{"a":1},\n{"a', "a.json: is not valid JSON: Input data was truncated"),
        ("a.json", b'[{"a":1},\n\n{"a":1,}]', "trailing comma in object (byte 18)"),
        ("a.json", b'[{"a":1}\n{"a":1}]', "expected ',' or ']' (byte 9)"),
        ("a.json", b'[{"a":1},\n7]', "element 2: must be a JSON object, such as "),
        ("a.json", b"[{}] {}", "trailing characters (byte 6)"),
        ("a.csv", b'{"order":"A-1"}\n', "is JSON Lines, not CSV: add --format jsonl"),
        ("a.tsv", b'[{"order":"A-1"}]\n', "is JSON, not TSV: add --format json"),
        ("a.json", b'[{"a":NaN}]', "invalid character (byte 6)"),
        ("a.json", b'[{"a":1e999}]', "element 1: is not valid JSON: Number out of range"),
        ("a.json", b"[" * 99_999, "is not valid JSON: maximum recursion depth exceeded"),
        ("a.json", b'[{"a":' + b"[" * 150 + b"]" * 150 + b"}]", "must nest at most 99 deep"),
        ("a.json", b"", "a.json: must be an array of JSON objects"),
        ("a.jsonl", b'[{"a":1}]\n', "if the file is an array, add --format json (got"),
        (
            "a.jsonl",
            b"{\n}\n",
            "if an object has several lines, write one a line, as by jq -c (got",
        ),
    ],
    # Compressed data has the time in it, and ids must be the same in each worker of xdist.
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_is_named_for_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, said: str
) -> None:
    if library := LIBRARIES.get(Path(name).suffix):
        pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(content)
    message = refusal(name)
    assert message.startswith(name)
    assert said in message


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sheet": "x"}, "--sheet: is for an Excel workbook, and this is CSV (got 'x')"),
        (
            {"delimiter": ";;"},
            "--delimiter: must be one character, such as ; or |, or tab (got ';;')",
        ),
        (
            {"delimiter": ";", "format": "tsv"},
            "--delimiter: is for CSV, and this is TSV (got ';')",
        ),
        ({"encoding": "base64"}, "--encoding: is not a text encoding that Python knows"),
        ({"format": "xml"}, "--format: must be one of csv, tsv"),
    ],
)
def test_an_option_without_a_meaning_is_refused(
    tmp_path: Path, options: dict[str, str], said: str
) -> None:
    (tmp_path / "a.csv").write_bytes(CSV)
    assert refusal(str(tmp_path / "a.csv"), **options).startswith(said)


# --- byte order marks, delimiters, compression -------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("is_given", [False, True])
def test_a_byte_order_mark_shows_the_encoding_and_is_no_text(
    tmp_path: Path, encoding: str, *, is_given: bool
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("ordér,zip\n1,2\n".encode(encoding))
    given = encoding.removesuffix("-sig") if is_given else None
    assert list(journal.read_rows(path, encoding=given)) == [{"ordér": "1", "zip": "2"}]


@pytest.mark.parametrize(
    ("given", "cell"), [(";", "4,5"), ("|", "x"), ("tab", ";"), ("\\t", "a b")]
)
def test_a_delimiter_separates_cells_of_csv(tmp_path: Path, given: str, cell: str) -> None:
    delimiter = "\t" if given in ("tab", "\\t") else given
    (tmp_path / "a.csv").write_text(f'a{delimiter}b\n{cell}{delimiter}"x{delimiter}""y"\n')
    rows = list(journal.read_rows(tmp_path / "a.csv", delimiter=given))
    assert rows == [{"a": cell, "b": f'x{delimiter}"y'}]


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress, None])
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.csv.xz", "a"])
def test_compressed_data_is_read_whatever_its_name(
    tmp_path: Path, name: str, compress: Callable[[bytes], bytes] | None
) -> None:
    (tmp_path / name).write_bytes(compress(CSV) if compress else CSV)
    assert len(list(journal.read_rows(tmp_path / name))) == 2


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress])
def test_compressed_streams_one_after_the_other_are_read_with_their_padding(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(compress(CSV) + bytes(8) + compress(b"A-3,90003\n" * 30_000) + bytes(512))
    assert len(list(journal.read_rows(path))) == 30_002


def test_a_file_of_a_parallel_zstd_is_read(tmp_path: Path) -> None:
    module = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    zstd = pytest.importorskip(module)
    path = tmp_path / "a.csv.zst"
    path.write_bytes(b"\x50\x2a\x4d\x18\4\0\0\0size" + zstd.compress(CSV))
    assert len(list(journal.read_rows(path))) == 2


@pytest.mark.parametrize("kind", ["file", "stream", "parquet"])
def test_a_damaged_file_of_arrow_is_refused_and_does_not_crash(tmp_path: Path, kind: str) -> None:
    pa = pytest.importorskip("pyarrow")
    path = tmp_path / "a"
    table = pa.table({"order": ["A-1", "A-2", "A-3"] * 9})
    if kind == "parquet":
        from pyarrow import parquet  # noqa: PLC0415  (an extra)

        parquet.write_table(
            table, path, write_page_checksum=True, use_dictionary=False, compression="none"
        )
        content = path.read_bytes().replace(b"A-2", b"B-2", 1)
    else:
        with (pa.ipc.new_file if kind == "file" else pa.ipc.new_stream)(path, table.schema) as out:
            out.write_table(table)
        offset = (6).to_bytes(4, "little") + (9).to_bytes(4, "little")
        content = path.read_bytes().replace(offset, b"\xff\xff\xff\x7f" * 2, 1)
    assert content != path.read_bytes()
    path.write_bytes(content)
    assert "after row 0: can't be read as " in refusal(str(path))


@needs_devices
def test_a_pipe_cannot_be_read_again() -> None:
    reading, writing = os.pipe()
    os.write(writing, CSV * 999)
    os.close(writing)
    rows = journal.read_rows(f"/dev/fd/{reading}", format="csv")
    next(iter(rows))
    with pytest.raises(journal.InvalidValueError, match="can be read only once"):
        list(rows)
    os.close(reading)


@needs_devices
def test_a_pipe_is_read_once_and_not_as_parquet(tmp_path: Path) -> None:
    def pipe_of(content: bytes) -> str:
        reading, writing = os.pipe()
        os.write(writing, content)
        os.close(writing)
        return f"/dev/fd/{reading}"

    assert len(list(journal.read_rows(pipe_of(gzip.compress(CSV)), format="csv"))) == 2
    pytest.importorskip("pyarrow")
    with pytest.raises(
        journal.InvalidValueError, match="is Parquet, which can't be compressed or a pipe"
    ):
        journal.read_rows(pipe_of(b"PAR1\x15"))


# --- SQLite ------------------------------------------------------------------------------------


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect("shop.db")) as connection:
        connection.execute("CREATE TABLE orders (id, big)")
        connection.execute("INSERT INTO orders VALUES ('A', 9e999), (x'00ff', 1)")
        connection.commit()
    return tmp_path / "shop.db"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (
            "shop.db",
            "shop.db: is a SQLite database: give a query: 'sqlite:shop.db?SELECT * FROM TABLE'",
        ),
        (
            "sqlite:shop.db",
            "has no query: give 'sqlite:shop.db?SELECT * FROM TABLE'",
        ),
        (
            "sqlite:shop.db?SELECT * FROM order",
            'near "order": syntax error: give one SELECT, such as',
        ),
        ("sqlite:shop.db?SELECT 1; SELECT 2", "one statement at a time"),
        ("sqlite:shop.db?SELECT ?", "Incorrect number of bindings"),
        (
            "sqlite:shop.db?DELETE FROM orders",
            "attempt to write a readonly database: give one SELECT, such as",
        ),
        ("sqlite:shop.db?ATTACH 'new.db' AS new", "query: too many attached databases"),
        ("sqlite:shop.db?SELECT id, id FROM orders", "query: two columns have this name"),
        ("sqlite:shop.db?SELECT * FROM orders", "row 1, column 'big': must be a finite number"),
        ("sqlite:none.db?SELECT 1", "sqlite:none.db: there is no such file"),
        ("sqlite:a.csv?SELECT * FROM a", "is not a SQLite database, or it is encrypted"),
    ],
)
def test_a_query_that_is_wrong_is_named_and_changes_nothing(
    shop: Path, path: str, said: str
) -> None:
    before = shop.read_bytes()
    Path("a.csv").write_bytes(CSV * 99)
    assert said in refusal(path)
    assert shop.read_bytes() == before
    assert sorted(os.listdir()) == ["a.csv", "shop.db"]


# --- workbooks ---------------------------------------------------------------------------------


def workbook(path: Path, *tables: Sequence[Sequence[object]], **cells: object) -> str:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for number, table in enumerate(tables):
        sheet = book.active if not number else book.create_sheet(f"More {number}")
        for row in table:
            sheet.append(row)
    for place, value in cells.items():
        book.active[place] = value
    book.save(path)
    return str(path)


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (
            {"B2": "=1+1"},
            (
                "cell Sheet!B2: has a formula without a value: open the file in Excel and "
                "save it again (got '=1+1')"
            ),
        ),
        ({"B3": "#DIV/0!"}, "cell Sheet!B3: is an error: correct it (got '#DIV/0!')"),
        ({"C2": 5}, "cell Sheet!C2: is in a column without a name: give it one (got 5)"),
        (
            {"B1": "order"},
            "sheet 'Sheet', row 1: two columns have this name: rename one (got 'order')",
        ),
    ],
)
def test_a_wrong_cell_of_a_workbook_is_named(
    tmp_path: Path, cells: dict[str, object], said: str
) -> None:
    table: list[list[object]] = [["order", "sum"], ["A-1", 1], ["A-2", 2]]
    assert said in refusal(workbook(tmp_path / "a.xlsx", table, **cells))


def test_formulas_without_values_are_named_in_files_with_prefixes_too(tmp_path: Path) -> None:
    """As programs write them that use Microsoft's library for .NET."""
    plain = workbook(tmp_path / "plain.xlsx", [["order", "sum"], ["A-1", 1]], B2="=1+1")
    path = tmp_path / "prefixes.xlsx"
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name.startswith("xl/worksheets/"):
                data = re.sub(rb"<(/?)(\w)", rb"<\1x:\2", data).replace(b" xmlns=", b" xmlns:x=")
            new.writestr(name, data)
    assert "cell Sheet!B2: has a formula without a value" in refusal(str(path))


def test_one_of_several_sheets_must_be_named(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", [["a"], [1]], [["b"], [2]], [])
    said = "has 2 sheets: 'Sheet', 'More 1': choose one, as by --sheet Sheet"
    assert refusal(path).endswith(said)
    assert list(journal.read_rows(path, sheet="More 1")) == [{"b": 2}]
    assert "--sheet: there is no such sheet: the sheets are" in refusal(path, sheet="Mor 1")


def test_empty_cells_rows_and_texts_of_formulas_are_as_they_are_shown(tmp_path: Path) -> None:
    texts = [[None, "x_x000D_\n"], [None, "_x005F_x000D_"]]
    path = workbook(tmp_path / "a.xlsx", [["a", "b", None], [], [1, None], *texts, []])
    shown = [{"a": None, "b": "x\r\n"}, {"a": None, "b": "_x000D_"}]
    assert list(journal.read_rows(path)) == [{"a": 1, "b": None}, *shown]


# --- Parquet and Arrow -------------------------------------------------------------------------


def test_values_of_arrow_that_json_lacks_are_text_null_or_refused(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    file = tmp_path / "a.parquet"
    columns = {
        "ns": pa.array([0, 1_000], pa.timestamp("ns", tz="UTC")),
        "time": pa.array([1_000, None], pa.time64("ns")),
        "nan": pa.array([float("nan"), 1.5]),
        "bytes": pa.array([b"\0", None]),
        "list": pa.array([[{"at": 1_000}], []], pa.list_(pa.struct({"at": pa.timestamp("ns")}))),
    }
    parquet.write_table(pa.table(columns), file)
    assert list(journal.read_rows(file)) == [
        {
            "ns": "1970-01-01T00:00:00Z",
            "time": "00:00:00.000001",
            "nan": None,
            "bytes": "AA==",
            "list": [{"at": "1970-01-01T00:00:00.000001"}],
        },
        {
            "ns": "1970-01-01T00:00:00.000001Z",
            "time": None,
            "nan": 1.5,
            "bytes": None,
            "list": [],
        },
    ]
    for kind in (pa.timestamp("ns", tz="UTC"), pa.time64("ns"), pa.duration("ns")):
        parquet.write_table(pa.table({"at": pa.array([1_000, 1], kind)}), file)
        assert "column 'at': has times with nanoseconds" in refusal(str(file))
    parquet.write_table(pa.table({"rate": [1.0, float("inf")]}), file)
    said = "row 2, column 'rate': must be a finite number"
    assert said in refusal(str(file))
    with pa.ipc.new_file(str(tmp_path / "a.arrow"), pa.schema({"at": pa.timestamp("s")})) as writer:
        writer.write_batch(pa.record_batch({"at": pa.array([0, 2**62], pa.timestamp("s"))}))
    assert "row 2, column 'at': can't be read: " in refusal(str(tmp_path / "a.arrow"))
    file.write_bytes(file.read_bytes()[:-50])
    assert "can't be read as Parquet: " in refusal(str(file))


def test_an_arrow_stream_is_read_from_a_pipe(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    data = io.BytesIO()
    with pa.ipc.new_stream(data, pa.schema({"a": pa.int64()})) as writer:
        for number in range(3):
            writer.write_batch(pa.record_batch({"a": [number, number]}))
    (tmp_path / "a.gz").write_bytes(gzip.compress(data.getvalue()))
    rows = list(journal.read_rows(tmp_path / "a.gz"))
    assert [row["a"] for row in rows] == [0, 0, 1, 1, 2, 2]


def test_a_workbook_with_damaged_data_is_refused(tmp_path: Path) -> None:
    path = Path(workbook(tmp_path / "a.xlsx", [["order"], *[[f"A-{n}"] for n in range(99)]]))
    with zipfile.ZipFile(path) as archive:
        begin = archive.getinfo("xl/worksheets/sheet1.xml").header_offset
    content = bytearray(path.read_bytes())
    content[begin + 60 : begin + 90] = b"\xff" * 30
    path.write_bytes(content)
    assert "can't be read as an Excel workbook: " in refusal(str(path))


# --- nothing to do -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "columns"),
    [
        ("a.csv", b"order,zip\n", ["order", "zip"]),
        ("a.tsv", b"order\tzip", ["order", "zip"]),
        ("a.txt", b"\n\n", ["line"]),
        ("a.jsonl", b"\n", None),
        ("a.json", b"[ ]\n", None),
    ],
)
def test_an_input_without_rows_is_empty(
    tmp_path: Path, name: str, content: bytes, columns: list[str] | None
) -> None:
    (tmp_path / name).write_bytes(content)
    rows = journal.read_rows(tmp_path / name)
    assert (rows.columns, list(rows)) == (columns, [])


def test_formulas_have_the_values_that_a_program_computed(tmp_path: Path) -> None:
    plain = workbook(
        tmp_path / "plain.xlsx", [["order", "sum"], ["A-1", 1], ["A-2", 2], ["A-3", 3]], B3="=1+1"
    )
    path = tmp_path / "a.xlsx"
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            data = old.read(name).replace(b"<f>1+1</f><v />", b"<f>1+1</f><v>7</v>")
            new.writestr(name, data.replace(b"<f>1+1</f><v></v>", b"<f>1+1</f><v>7</v>"))
    assert [row["sum"] for row in journal.read_rows(path)] == [1, 7, 3]
