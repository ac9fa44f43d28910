"""The rows of a run, read from each format; what is wrong is named by file, line and value."""

import io
import itertools
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from support.effort import sample

from journal import InvalidValueError
from journal.format.size_limits import MAX_LINE_BYTES
from journal.inputs.formats import FORMATS, NULL, format_of
from journal.inputs.read import open_stream, read_rows
from journal.inputs.read_options import Source

TEXT_FORMATS = ("csv", "tsv", "jsonl", "lines", NULL)


def opened(stream: Any, kind: str | None, **options: Any) -> Iterator[dict[str, Any]]:
    return open_stream(stream, Source("in", kind, argument="ROWS", **options), ExitStack()).rows


def rows(content: bytes, kind: str | None, **options: Any) -> list[dict[str, Any]]:
    return list(opened(io.BytesIO(content), kind, **options))


def refusal(content: bytes, kind: str | None, **options: Any) -> str:
    with pytest.raises(InvalidValueError) as caught:
        rows(content, kind, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("orders.csv", "csv"),
        ("a.b/orders.TSV", "tsv"),
        ("orders.tab", "tsv"),
        ("orders.jsonl", "jsonl"),
        ("orders.ndjson", "jsonl"),
        ("names.txt", "lines"),
        ("orders.json", "json"),
        ("orders.csv.gz", "csv"),
        ("ORDERS.JSONL.ZST", "jsonl"),
        ("orders.feather", "arrow"),
        ("orders.xlsm", "xlsx"),
        ("-", None),
        ("a.tsv/orders", None),
        ("orders", None),
        ("orders.gz", None),
    ],
)
def test_the_name_of_a_file_says_what_is_in_it(name: str, kind: str | None) -> None:
    assert format_of(name) == kind
    assert kind is None or kind in FORMATS


@pytest.mark.parametrize("column", ["ORCID", "PAR1", "FEA1", "BZh9", "Rar!"])
def test_a_column_may_be_called_as_files_of_a_format_begin(column: str) -> None:
    content = f"{column},name\n0000-0002,Ada\n".encode()
    assert rows(content, None) == [{column: "0000-0002", "name": "Ada"}]


@pytest.mark.parametrize(
    ("path", "options", "said"),
    [
        (b"in.csv", {}, "path: must be the path of a file"),
        (io.StringIO("a"), {}, "path: must be the path of a file"),
        ("in.csv", {"delimiter": 5}, "delimiter: must be text"),
        ("in.xlsx", {"sheet": 0}, "sheet: must be text"),
        ("in.csv", {"encoding": 5}, "encoding: must be text"),
    ],
)
def test_an_argument_of_a_wrong_type_is_named(
    path: Any, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidValueError, match=said):
        read_rows(path, **options)


@pytest.mark.parametrize("cell", ['"Smith, John"', '"5"" pipe"'])
def test_a_cell_that_a_spreadsheet_has_put_in_quotes_is_refused(cell: str) -> None:
    said = refusal(f"order\tname\nA-1\t{cell}\n".encode(), "tsv")
    assert said.startswith("in, line 2: is a cell in quotes, as spreadsheets write it")
    assert cell in said


@pytest.mark.parametrize("end", [b"", b"\0"])
def test_items_that_end_with_nul_may_hold_line_ends(end: bytes) -> None:
    long = "y" * 3 * io.DEFAULT_BUFFER_SIZE
    items = ["a\nb\n", "\n", long, "caf\xe9 ", "c\r"]
    assert rows("\0".join(["", *items]).encode() + end, NULL) == [{"line": item} for item in items]


def test_members_of_json_lines_keep_their_types_and_each_line_has_its_own() -> None:
    content = b'{"n":1,"f":1.5,"b":true,"x":null}\n\n  \n{"o":{"a":["x:y",{"a":1}]}}\r\n{}'
    assert rows(content, "jsonl") == [
        {"n": 1, "f": 1.5, "b": True, "x": None},
        {"o": {"a": ["x:y", {"a": 1}]}},
        {},
    ]


@pytest.mark.parametrize(
    ("kind", "content", "words"),
    [
        pytest.param("tsv", b"", "in: is empty", id="tsv: empty"),
        pytest.param(
            "tsv", b"a\tb\n1\t2\n\n3\n", "in, line 4: has 1 cells", id="tsv: missing cell"
        ),
        pytest.param("tsv", b"a\tb\n1\t2\t3\n", "(got ['1', '2', '3'])", id="tsv: one more cell"),
        pytest.param(
            "tsv", b"\na\ta\n1\t2\n", "in, line 2: two columns have this", id="tsv: twice"
        ),
        pytest.param("tsv", b"a\t\n1\t2\n", "column 2 has no name", id="tsv: no name"),
        pytest.param("tsv", b"a\n\xe9\n", "in, line 2: is not valid utf-8", id="tsv: not UTF-8"),
        pytest.param("csv", b'a\n"x"y\n', "in, line 2: is not valid CSV", id="csv: quotes"),
        pytest.param(
            "lines",
            b"a\nb\0c\0",
            "in: has NUL bytes: if its rows end with NUL, as those of find -print0, add -0",
            id="lines: NUL",
        ),
        pytest.param(
            "csv", b"a\0b\0", "in: has NUL bytes: if its rows end with NUL", id="csv: NUL"
        ),
        pytest.param("jsonl", b'{"a":1}\n{"a":\n', "in, line 2: is not valid JSON", id="cut"),
        pytest.param("jsonl", b"{}\n{'a':1}\n", "(got \"{'a':1}\")", id="jsonl: not JSON"),
        pytest.param("jsonl", b'{"a":1}{"a":2}\n', "trailing characters", id="jsonl: two objects"),
        pytest.param("jsonl", b'{"a":NaN}\n', "in, line 1: is not valid JSON", id="jsonl: NaN"),
        pytest.param(
            "jsonl",
            b'{"a":1e999}\n',
            "in, line 1: is not valid JSON: Number out of",
            id="jsonl: infinite",
        ),
        pytest.param("jsonl", b'{"a":"\\ud800"}\n', "not valid JSON", id="jsonl: lone surrogate"),
        pytest.param(
            "jsonl", b"{}\n[1,2]\n", "line 2: must be a JSON object", id="jsonl: an array"
        ),
        pytest.param(
            "jsonl", b'{"a":"\xe9"}\n', "in, line 1: is not valid utf-8", id="jsonl: not UTF-8"
        ),
        pytest.param(
            "jsonl", b'{"a":' + b"[" * 100_000 + b"\n", "line 1: must nest at most", id="deep"
        ),
    ],
)
def test_what_is_wrong_is_named_by_file_line_and_value(
    kind: str, content: bytes, words: str
) -> None:
    assert words in refusal(content, kind)


@pytest.mark.parametrize("kind", sample(TEXT_FORMATS, 2))
def test_a_line_without_end_is_refused_before_it_fills_the_memory(kind: str) -> None:
    class Endless(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            buffer[:] = b"x" * len(buffer)
            return len(buffer)

    with pytest.raises(InvalidValueError, match=r"in, (line|item) 1: is longer than 64 MiB"):
        list(opened(io.BufferedReader(Endless(), MAX_LINE_BYTES), kind))


@pytest.mark.parametrize(
    ("kind", "header", "line"),
    [
        ("csv", b"a,b\n", b"%d,x\n"),
        ("jsonl", b"", b'{"a":"%d"}\n'),
        (NULL, b"", b"%d\n\0"),
    ],
)
def test_rows_are_read_as_they_are_taken_and_memory_does_not_grow(
    kind: str, header: bytes, line: bytes
) -> None:
    class Stream(io.RawIOBase):
        """Lines made as they are asked for."""

        def __init__(self) -> None:
            self.lines = itertools.chain([header], (line % n for n in itertools.count(1)))
            self.rest = b""

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            while not self.rest:
                self.rest = next(self.lines)
            part, self.rest = self.rest[: len(buffer)], self.rest[len(buffer) :]
            buffer[: len(part)] = part
            return len(part)

    taken = opened(io.BufferedReader(Stream()), kind)
    for _ in itertools.islice(taken, 1000):
        pass
    tracemalloc.start()
    for _ in itertools.islice(taken, 20_000):
        pass
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 100_000
