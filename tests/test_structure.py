"""The structure that the design asks for."""

import ast
import importlib
import inspect
import re
import sys
import typing
from pathlib import Path

import pytest

import journal

PACKAGE = Path(journal.__file__).parent

# The floors from the ground up. A file imports only from floors below its own, and on its own floor
# only what is named before it.
FLOORS = {
    "words": "errors version text model",
    "disk": "system handles syncmark locks directories files outputs below",
    "format": "format values decode outfile redact tabular validate idempotency",
    "replay and index": "columns index apply replay mend scan lines jobs",
    "hint and locks of a job": "group hint runlock",
    "one journal, read": "reader copies recovery verify",
    "copies and packs": "archive snapshot source compare artifacts",
    "one journal, written": "log batch rows changes runholds store catalog",
    "what was": "history events timings statistics errorgroups",
    "service": "service states",
    "exports": "flatrows parquet sqlite export plots report",
    "runs": "outcome handover template command inputs limits threads executors workers signals "
    "plan rowqueue attempts match inflight run jobrun",
    "copies brought together": "forward parted addedrows mergeplan mergewords merge transfer",
    "damage mended": "salvage repair",
    "command line, its parts": "cli.output cli.table cli.listing cli.exits cli.when cli.throughput "
    "cli.progress cli.jobs cli.redaction cli.rows cli.where cli.follow cli.advice cli.run_options",
    "command line, its commands": "cli.control cli.delete cli.export cli.joblist cli.log cli.repair "
    "cli.report cli.rowlist cli.run cli.settle cli.show cli.transfer cli.verify cli.watch cli",
    "package": " __main__",
}
BELOW = [name for names in FLOORS.values() for name in names.split(" ")]


def module_name(path: Path) -> str:
    name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    return name.removesuffix("__init__").removesuffix(".")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            if node.module == "journal":
                found |= {f"journal.{alias.name}" for alias in node.names}
                found.discard("journal")
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


SOURCES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_a_file_imports_only_from_floors_below(path: Path) -> None:
    name = module_name(path)
    own = {
        i.removeprefix("journal").removeprefix(".")
        for i in imports(path)
        if i.startswith("journal")
    }
    assert own <= set(BELOW[: BELOW.index(name)])


def test_each_file_stands_on_one_floor() -> None:
    assert sorted(BELOW) == sorted(map(module_name, SOURCES))


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_only_the_floor_of_the_disk_locks_or_opens_what_belongs_to_a_journal(path: Path) -> None:
    if module_name(path) in FLOORS["disk"].split():
        return
    assert not imports(path) & {"fcntl", "filelock", "shutil", "mmap"} - (
        {"shutil"} if module_name(path) == "cli.run" else set()
    )
    calls = {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    assert not calls & {
        *("os.open", "os.write", "os.rename", "os.unlink", "os.replace"),
        *("os.fsync", "os.fdatasync", "os.chmod", "os.fchmod"),
    } - ({"os.open", "os.write"} if module_name(path).startswith("cli") else set())


# What a command's output is kept in, a pack that somebody asks for, the input of a run, and the
# standard streams: none of it belongs to a journal.
OTHERS_FILES = {
    "command": {"mkdir"},
    "transfer": {"open"},
    "cli.run": {"open"},
    "cli": {"open"},
}


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_only_the_floor_of_the_disk_makes_and_removes_files(path: Path) -> None:
    name = module_name(path)
    if name in FLOORS["disk"].split():
        return
    functions = [n.func for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
    called = {f.id for f in functions if isinstance(f, ast.Name)} | {
        f.attr for f in functions if isinstance(f, ast.Attribute) and ast.unparse(f.value) != "os"
    }
    makes = {"open", "mkdir", "touch", "unlink", "rmdir", "write_text", "write_bytes", "chmod"}
    assert not called & makes - OTHERS_FILES.get(name, set())


def test_what_the_methods_of_a_service_take_and_give_is_exported() -> None:
    named = set()
    for name, method in vars(journal.JobService).items():
        if not name.startswith("_") and inspect.isfunction(method):
            for hint in typing.get_type_hints(method).values():
                named |= set(re.findall(r"\bjournal\.[a-z_.]+\.(\w+)", str(hint)))
    assert {"Job", "JobRow", "Entry", "Position"} <= named <= set(journal.__all__)


def test_what_type_checkers_and_programs_get_by_a_name_is_the_same() -> None:
    declared = {
        alias.name: node.module
        for node in ast.walk(ast.parse((PACKAGE / "__init__.py").read_text()))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert declared.keys() >= set(journal.__all__)
    for name in journal.__all__:
        module = importlib.import_module(str(declared[name]))
        assert getattr(journal, name) is getattr(module, name)


# Imported within functions only, when what needs them is used; see the extras in pyproject.toml.
OPTIONAL = {"jinja2", "pyarrow", "pygal"}


def test_the_package_needs_nothing_but_its_three_libraries() -> None:
    used = {i.split(".")[0] for path in SOURCES for i in imports(path)}
    needed = used - set(sys.stdlib_module_names) - OPTIONAL
    assert needed == {"journal", "click", "filelock", "msgspec"}


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_libraries_of_extras_are_imported_only_where_they_are_used(path: Path) -> None:
    at_import = {
        name.split(".")[0]
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([alias.name for alias in node.names] + [getattr(node, "module", None) or ""])
    }
    assert not at_import & OPTIONAL
