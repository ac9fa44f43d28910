"""What programs rely on is written down in ``frozen.txt``, one fact a line.

``python tests/test_frozen.py`` writes that file anew. ``journal/docs/stability.md`` says when one may.
"""

from __future__ import annotations

import difflib
import inspect
import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from enum import Enum
from functools import cached_property
from importlib import import_module
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from typing import Any, get_args

import click
import msgspec

import journal
from journal import repair, transfer, verify
from journal.cli.main import cli, main
from journal.cli.run import outcomes
from journal.format.records import KnownRecord
from journal.run import exit_codes
from journal.tables.export import TABLES

FROZEN = Path(__file__).with_name("frozen.txt")
# Modules with public names, or with what programs get from those. Some have an ``__all__``.
PUBLIC = {"journal.verify": "verify_job", "journal.run.plan": "Plan", "journal": ""}
PUBLIC |= {f"journal.{room}": "" for room in ("repair", "report", "sets", "tables", "transfer")}
NOT_MADE_BY_CALLERS = ("AttemptedRow", "Batch", "JobRun", "JournalError", "Rows")
# Members for other modules of the package.
INTERNAL = {"begin", "call", "leave", "numbers", "reader", "take", "take_logs"}
SHOWN = "list|shards j|show p|show p --row 1|rows p|errors p|log p|verify p|repair p"
SHOWN += "|prune --older-than 0s --dry-run|pull COPY --dry-run|pull COPY"


def python_facts() -> Iterator[str]:
    """Each public name, what it takes, and which members it has."""
    for module, names in PUBLIC.items():
        found = import_module(module)
        for name in sorted(names.split() or found.__all__):
            yield from facts_of(f"{module}.{name}", getattr(found, name))


def facts_of(name: str, value: Any) -> Iterator[str]:
    value = getattr(value, "__func__", value)
    if isinstance(value, property | cached_property):
        yield f"{name} (property)"
    elif inspect.isfunction(value):
        yield f"{name}() -> {words_of(value.__annotations__.get('return'))}"
        for taken in inspect.signature(value).parameters.values():
            if taken.name not in ("self", "how_to"):
                text = re.sub(r"<function .*>|'(?=\w)|(?<=[\w\]])'", "", str(taken))
                mark = "*, " if taken.kind is taken.KEYWORD_ONLY else ""
                yield f"{name}({mark}{text})"
    elif isinstance(value, type):
        code = f", exit code {value.exit_code}" if issubclass(value, journal.JournalError) else ""
        yield f"{name} (class {', '.join(base.__name__ for base in value.__bases__)}{code})"
        yield from members_of(name, value)
    else:
        yield f"{name} = {json.dumps(dict(value) if isinstance(value, Mapping) else value)}"


def words_of(annotation: Any) -> str:
    return str(getattr(annotation, "__forward_arg__", getattr(annotation, "__name__", annotation)))


def members_of(name: str, kind: type) -> Iterator[str]:
    if issubclass(kind, Enum):
        yield from (f"{name}.{each.name} = {each.value!r}" for each in kind)
    own = [each for each in reversed(kind.__mro__) if each.__module__.split(".")[0] == "journal"]
    members: dict[str, Any] = {}
    for each in own:
        for member, found in inspect.get_annotations(each).items():
            annotation = words_of(found)
            if "ClassVar" not in annotation and not member.startswith("_"):
                yield f"{name}.{member}: {annotation}"
        members |= vars(each)
    made_by = members.get("__init__")
    if made_by and made_by.__qualname__.partition(".")[0] not in NOT_MADE_BY_CALLERS:
        yield from facts_of(name, made_by)
    for member, value in members.items():
        is_own = isinstance(value, property | cached_property | classmethod | staticmethod)
        is_public = not member.startswith("_") and member not in INTERNAL
        if is_public and (is_own or inspect.isfunction(value)):
            yield from facts_of(f"{name}.{member}", value)


def schema_facts(what: str, kinds: Any) -> Iterator[str]:
    """Each member of structs as JSON, and of the structs in them."""
    for kind, schema in msgspec.json.schema_components(kinds)[1].items():
        members = schema.get("properties", {})
        name = members.pop("type")["enum"][0] if "type" in members else kind
        for member, held in members.items():
            default = f" = {json.dumps(held.pop('default'))}" if "default" in held else ""
            yield f"{what} {name}.{member}: {schema_text(held)}{default}"


def schema_text(schema: dict[str, Any]) -> str:
    """A schema in fewer words than JSON, and with 2^63 in place of its digits."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " | ".join(sorted(map(schema_text, schema["anyOf"])))
    if "enum" in schema:
        return " | ".join(map(json.dumps, schema["enum"]))
    left_out = {"type", "title", "propertyNames"}  # the last one is of newer versions of msgspec
    rest = {key: value for key, value in schema.items() if key not in left_out}
    if isinstance(inner := rest.get("items"), dict):
        rest["items"] = schema_text(inner)
    text = f"{schema.get('type', 'any JSON')}{f' {json.dumps(rest)}' if rest else ''}"
    return text.replace(str(2**63), "2^63").replace(str(2**63 - 1), "2^63-1")


def command_facts() -> Iterator[str]:
    """Each command, its arguments and options; the variables of commands."""
    for name in cli.list_commands(ctx := click.Context(cli)):
        for taken in cli.get_command(ctx, name).params:  # type: ignore[union-attr]
            if not isinstance(taken, click.Option):
                yield f"journal {name} {taken.human_readable_name}"
            elif taken.is_flag:
                yield f"journal {name} {'/'.join(taken.opts)}"
            else:
                takes = taken.metavar or "|".join(getattr(taken.type, "choices", [taken.type.name]))
                many = ", repeatable" if taken.multiple else ""
                has_default = isinstance(taken.default, str | int | float)
                default = f" = {taken.default}" if has_default else ""
                yield f"journal {name} {'/'.join(taken.opts)} {takes}{many}{default}"
    pages = "".join(
        page.read_text("utf-8") for page in (FROZEN.parents[1] / "journal/docs").glob("*.md")
    )
    yield from sorted({f"variable {each}" for each in re.findall(r"JOURNAL_[A-Z_]+", pages)})


def json_facts() -> Iterator[str]:
    """The members of what each command prints with --json, and the words of the end of `show`."""
    with tempfile.TemporaryDirectory() as directory:
        journal.open_job(f"{directory}/j", [{}], shard=(0, 1)).close()
        with journal.open_job(f"{directory}/p", [{}]) as job:
            job.run(lambda row: row.data["no"], progress=False, tell=lambda _: None)
        transfer.pack_to_file(f"{directory}/p", copy := f"{directory}/copy.tar")
        for line in SHOWN.split("|"):
            words = [copy if word == "COPY" else word for word in line.split()]
            found = json.loads(output_of(["--root", directory, *words, "--json"]))
            names = found[0] if isinstance(found, list) else found
            yield from (f"journal {line} --json: {name}" for name in sorted(names))
        last = output_of(["--root", directory, "show", "p"]).splitlines()[-1]
        yield f"the last line of `journal show`: {re.sub('=[^ ]*', '=', last)}"


def output_of(words: list[str]) -> str:
    out = TextIOWrapper(BytesIO(), "utf-8")
    with redirect_stdout(out), redirect_stderr(StringIO()):
        main(words)
    return out.buffer.getvalue().decode()


def facts() -> list[str]:
    """All facts. Those of records come first, since they may not change at all."""
    codes = {name: code for name, code in vars(exit_codes).items() if name.startswith("EXIT_")}
    shown = [journal.Job, journal.RowHistory, journal.Event, verify.Report, repair.Repair]
    shown += [transfer.Preview, transfer.Pulled]
    return [
        *schema_facts("record", get_args(KnownRecord)),
        *python_facts(),
        *command_facts(),
        *(f"exit code {code}: {name}" for name, code in codes.items()),
        *json_facts(),
        *schema_facts("JSON", shown),
        *(f"a command prints the outcome: {word}" for word in outcomes._WORDS),
        *(f"column of {table}: {name}" for table, names in TABLES.items() for name in names),
    ]


def test_what_programs_rely_on_has_not_changed() -> None:
    old = FROZEN.read_text("utf-8").splitlines()
    changes = [*difflib.unified_diff(old, facts(), "frozen.txt", "now", lineterm="", n=0)]
    what_to_do = "if journal/docs/stability.md allows it: python tests/test_frozen.py; CHANGELOG.md"
    assert not changes, "\n".join(["what programs rely on has changed", *changes, what_to_do])


if __name__ == "__main__":
    FROZEN.write_text("\n".join([*facts(), ""]), "utf-8", newline="\n")
