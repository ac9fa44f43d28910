"""The structure that the design asks for."""

import ast
import inspect
import re
import sys
import typing
from pathlib import Path

import pytest

import journal

PACKAGE = Path(journal.__file__).parent

# Each file imports only from floors below its own.
FLOORS = {
    "errors": 0,
    "version": 0,
    "text": 1,
    "files": 0.5,  # it raises one of the errors
    "outfile": 0.7,
    "model": 1,
    "format": 2,
    "ownfiles": 2.2,
    "redact": 2.5,
    "tabular": 2.5,
    "validate": 3,
    "replay": 3,
    "mend": 3.2,
    "scan": 3.4,
    "index": 3,
    "apply": 3.2,
    "jobs": 4,
    "reader": 4.5,
    "runlock": 4,
    "hint": 4,
    "group": 4,
    "recovery": 4.8,
    "log": 5,
    "batch": 5.2,
    "history": 5.2,
    "events": 5.4,
    "rows": 5.2,
    "timings": 5.3,
    "changes": 5.4,
    "store": 5.6,
    "service": 6,
    "chain": 6.2,
    "states": 6.1,
    "flatrows": 6.2,
    "errorgroups": 5.3,
    "parquet": 6.3,
    "plots": 6.3,
    "statistics": 5.4,
    "sqlite": 6.3,
    "export": 6.4,
    "report": 6.5,
    "outcome": 4,
    "template": 6.4,
    "command": 6.5,
    "inputs": 6.5,
    "limits": 6.5,
    "threads": 6.4,
    "executors": 6.45,
    "workers": 6.5,
    "rowqueue": 6.6,
    "signals": 6.6,
    "match": 7,
    "run": 7,
    "attempts": 7,
    "jobrun": 7.2,
    "archive": 4.2,
    "copies": 4.6,
    "snapshot": 4.8,
    "compare": 4.8,
    "artifacts": 5,
    "forward": 7.2,
    "parted": 7,
    "merge": 7.2,
    "transfer": 7.4,
    "verify": 7,
    "lines": 3.6,
    "salvage": 7.2,
    "repair": 7.4,
    "cli.output": 7.9,
    "cli.table": 7.95,
    "cli.listing": 8,
    "cli.when": 8,
    "cli.exits": 8,
    "cli.progress": 8.2,
    "cli.jobs": 8.2,
    "cli.rows": 8.2,
    "cli.follow": 8.3,
    "cli.log": 8.4,
    "cli.watch": 8.4,
    "cli.control": 8.4,
    "cli.settle": 8.4,
    "cli.joblist": 8.4,
    "cli.delete": 8.4,
    "cli.show": 8.5,
    "cli.advice": 8.4,
    "cli.throughput": 8,
    "cli.rowlist": 8.4,
    "cli.where": 8.2,
    "cli.export": 8.4,
    "cli.repair": 8.4,
    "cli.run_options": 8.3,
    "cli.report": 8.4,
    "cli.run": 8.4,
    "cli.transfer": 8.4,
    "cli.verify": 8.4,
    "cli": 8.6,
    "": 9,
    "__main__": 9,
}


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
    too_high = {other for other in own if FLOORS[other] >= FLOORS[name]}
    assert not too_high


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_only_files_py_locks_or_opens_what_belongs_to_a_journal(path: Path) -> None:
    if module_name(path) == "files":
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
    "command": {"mkdir", "open", "unlink"},
    "transfer": {"open"},
    "cli.run": {"open"},
    "cli": {"open"},
}


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_only_files_py_makes_and_removes_files(path: Path) -> None:
    name = module_name(path)
    if name == "files":
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
