"""The options that say how to read a file of rows: ``--format --encoding --delimiter --sheet``."""

from __future__ import annotations

import click

from journal.cli.shared_options import Option, option
from journal.inputs.formats import FORMATS, LINES


def input_options(what: str) -> tuple[Option, ...]:
    """The options in the order of the fields of ``Source``. ``what``: the file, such as ROWS."""
    return (
        option(
            "--format file_format",
            f"The format of {what}. Default: by its extension, else by its content, else CSV.",
            type=click.Choice([each for each in FORMATS if each != LINES]),
        ),
        option(
            "--encoding NAME",
            "The encoding of text, such as cp1252. Default: by its byte order mark, else UTF-8.",
        ),
        option(
            "--delimiter CHARACTER",
            "The character between the cells of CSV, such as ';' or tab. Default: a comma.",
        ),
        option(
            "--sheet NAME",
            "The sheet of an Excel workbook. Default: the only one that isn't empty.",
        ),
    )
