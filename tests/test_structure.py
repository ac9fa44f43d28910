"""The structure that the design asks for."""

import ast
import importlib
import inspect
import re
import sys
import typing
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from support.code_lines import code_lines, functions
from support.paths import TESTS
from support.rooms import FLOORS

import journal

PACKAGE = Path(journal.__file__).parent

FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms.split()}


def module_name(path: Path) -> str:
    name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    return name.removesuffix("__init__").removesuffix(".")


FS = sorted(module_name(path) for path in (PACKAGE / "fs").rglob("*.py"))


def room_of(module: str) -> str:
    """``cli.run`` of ``cli.run.options``; the first part of most."""
    first_two = ".".join(module.split(".")[:2])
    return first_two if first_two in FLOOR_OF else module.split(".", maxsplit=1)[0]


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(tree(path)))


@cache
def imports(path: Path) -> set[str]:
    found = set()
    for node in nodes(path):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            is_a_room = (PACKAGE.parent / node.module.replace(".", "/")).is_dir()
            found |= names if node.module.startswith("journal") and is_a_room else {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def own_imports(path: Path) -> set[str]:
    return {i.removeprefix("journal.") for i in imports(path) if i.startswith("journal.")}


SOURCES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
ABOVE_FS = {name: path for name, path in SOURCES.items() if name not in FS}
TESTS_SOURCES = {str(path.relative_to(TESTS)): path for path in sorted(TESTS.rglob("*.py"))}


def found_in(paths: dict[str, Path], check: Callable[[str, Path], Any]) -> dict[str, Any]:
    """What the check finds in each of the files, of those in which it finds something."""
    return {name: found for name, path in paths.items() if (found := check(name, path))}


def test_a_room_imports_only_from_floors_below() -> None:
    def imports_from_above(name: str, path: Path) -> set[str]:
        room = room_of(name)
        others = {room_of(module) for module in own_imports(path)} - {room}
        return {other for other in others if FLOOR_OF[other] >= FLOOR_OF[room]}

    modules = {name: path for name, path in SOURCES.items() if name}  # without the package itself
    assert found_in(modules, imports_from_above) == {}


def test_no_two_test_files_have_the_same_name() -> None:
    """Without packages, pytest imports each file by its name alone."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(set(names)) == sorted(names)


def test_each_room_stands_on_a_floor() -> None:
    assert FLOOR_OF.keys() == {room_of(name) for name in SOURCES} - {""}


def test_no_modules_import_each_other_in_a_circle() -> None:
    below = {name: own_imports(path) for name, path in SOURCES.items()}
    while ground := {name for name, needs in below.items() if not needs & below.keys() - {name}}:
        for name in ground:
            del below[name]
    assert below == {}


def test_only_the_floor_of_the_disk_locks_or_opens_what_belongs_to_a_journal() -> None:
    def touches(name: str, path: Path) -> set[str]:
        of_run = name.startswith("run.platform")
        modules = {"fcntl", "filelock", "mmap"} | ({"shutil"} if not of_run else set())
        calls = {"os.rename", "os.unlink", "os.replace", "os.fsync", "os.fdatasync"}
        calls |= {"os.chmod", "os.fchmod"}
        if not of_run and not name.startswith("cli"):  # the standard streams
            calls |= {"os.open", "os.write"}
        called = {
            f"{node.value.id}.{node.attr}"
            for node in nodes(path)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        }
        return imports(path) & modules | called & calls

    assert found_in(ABOVE_FS, touches) == {}


MODULES_OF_PLATFORMS = {"fcntl", "msvcrt", "pwd", "resource", "termios", "winreg", "_winapi"}
_VARYING = r"(system\.)?(os|signal|socket|select|time|subprocess|threading|ctypes)"
_QUESTION = re.compile(
    r"sys\.(platform|getwindowsversion)|os\.name|platform\.\w+"
    rf"|(hasattr|getattr)\({_VARYING}, '\w+'.*\)"
)
# The rooms of tests that test `fs` and `run`, or drive a system's own faults.
ASKING_TESTS = {"conftest", "support", "store", "index", "crash", "run", "windows", "macos"}


def questions_about_the_platform(path: Path) -> set[str]:
    source = path.read_text(encoding="utf-8")
    if not re.search(r"\bplatform\b|getwindowsversion|os\.name|attr\(", source):
        return set()  # quickly: unparsing all tests takes two seconds
    asked = (node for node in nodes(path) if _name(node) in _ASKED)
    return {text for text in map(ast.unparse, asked) if _QUESTION.fullmatch(text)}


_ASKED = {"sys", "os", "platform", "hasattr", "getattr"}


def _name(node: ast.AST) -> str | None:
    """Return NAME for ``NAME.x`` and for ``NAME(...)``."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return node.value.id
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else None


def test_only_fs_and_run_ask_for_the_platform() -> None:
    def asks(name: str, path: Path) -> set[str]:
        if room_of(name) in ("fs", "fs.shell", "run"):
            return set()
        return questions_about_the_platform(path) | (imports(path) & MODULES_OF_PLATFORMS)

    assert found_in(SOURCES, asks) == {}


# What a command's output is kept in, a pack that somebody asks for, the input and
# the script of a run, and the standard streams: none of it belongs to a journal.
OTHERS_FILES = {
    "cli.run.subprocesses": {"open"},
    "transfer.pack": {"open"},
    "inputs.read": {"open"},
    "inputs.excel": {"open"},
    "cli.main": {"open"},
}


def test_only_the_floor_of_the_disk_makes_and_removes_files() -> None:
    def makes(name: str, path: Path) -> set[str]:
        functions = [n.func for n in nodes(path) if isinstance(n, ast.Call)]
        called = {f.id for f in functions if isinstance(f, ast.Name)} | {
            f.attr
            for f in functions
            if isinstance(f, ast.Attribute) and ast.unparse(f.value) != "os"
        }
        names = {"open", "mkdir", "touch", "unlink", "rmdir", "write_text", "write_bytes", "chmod"}
        return called & names - OTHERS_FILES.get(name, set())

    assert found_in(ABOVE_FS, makes) == {}


def test_a_room_has_no_more_than_fifteen_files_and_the_root_no_more_than_ten() -> None:
    sizes = Counter(path.parent for path in SOURCES.values())
    assert sizes.pop(PACKAGE) <= 10
    assert {room.name: size for room, size in sizes.items() if size > 15} == {}


def test_no_file_has_over_400_lines_of_code_and_no_function_over_50() -> None:
    def too_long(name: str, path: Path) -> dict[str, int]:
        source = path.read_text(encoding="utf-8")
        whole_functions = (
            n for n in nodes(path) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
        )
        longest = max(((n.end_lineno or 0) - n.lineno for n in whole_functions), default=0)
        if source.count("\n") <= 400 and longest < 50:
            return {}  # without a look at each token
        lines = code_lines(source)
        is_long = len(lines) > 400 and name != "service"
        whole = {"the file": len(lines)} if is_long else {}
        return whole | {each: length for each, length in functions(source, lines) if length > 50}

    assert found_in(SOURCES, too_long) == {}


def test_what_tests_share_stands_in_support_and_imports_no_test() -> None:
    rooms = {room.name for room in TESTS.iterdir() if room.is_dir()}

    def wrong_imports(name: str, path: Path) -> set[str]:
        source = path.read_text(encoding="utf-8")
        if not name.startswith("support") and not re.search(r"(from|import) .*\btest_", source):
            return set()  # quickly: parsing all tests takes a second
        found = imports(path)
        of_tests = {other for other in found if other.split(".")[-1].startswith("test_")}
        of_rooms = {other.split(".")[0] for other in found} & rooms - {"support"}
        return of_tests | (of_rooms if name.startswith("support") else set())

    assert found_in(TESTS_SOURCES, wrong_imports) == {}


def test_other_tests_ask_for_the_platform_by_the_marks_in_support() -> None:
    others = {
        name: path
        for name, path in TESTS_SOURCES.items()
        if Path(name).parts[0].removesuffix(".py") not in ASKING_TESTS
    }
    assert found_in(others, lambda _, path: questions_about_the_platform(path)) == {}


def test_what_the_methods_of_a_service_take_and_give_is_exported() -> None:
    named = set()
    for name, method in vars(journal.JobService).items():
        if not name.startswith("_") and inspect.isfunction(method):
            for hint in typing.get_type_hints(method).values():
                named |= set(re.findall(r"\bjournal\.[a-z_.]+\.(\w+)", str(hint)))
    assert {"Job", "JobRow", "Entry", "Position"} <= named <= set(journal.__all__)


def test_the_annotations_of_public_classes_can_be_evaluated() -> None:
    for name in journal.__all__:
        public = getattr(journal, name)
        if inspect.isclass(public):
            typing.get_type_hints(public)
            for method, function in vars(public).items():
                makes_table = public is journal.Rows and method.startswith("to_")
                is_private = re.match("_[a-z]", method) is not None
                # A table is a class of an optional library.
                if inspect.isfunction(function) and not is_private and not makes_table:
                    typing.get_type_hints(function)


def test_what_type_checkers_and_programs_get_by_a_name_is_the_same() -> None:
    declared = {
        alias.name: node.module
        for node in ast.walk(ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert declared.keys() >= set(journal.__all__)
    for name in journal.__all__:
        module = importlib.import_module(str(declared[name]))
        assert getattr(journal, name) is getattr(module, name)


# Imported within functions only, when what needs them is used; see the extras in pyproject.toml.
OPTIONAL = {"jinja2", "numpy", "openpyxl", "pandas", "polars", "pyarrow"}


def test_the_package_needs_nothing_but_its_three_libraries() -> None:
    used = {i.split(".")[0] for path in SOURCES.values() for i in imports(path)}
    needed = used - set(sys.stdlib_module_names) - OPTIONAL - {"colorama"}  # click's, on Windows
    assert needed == {"journal", "click", "filelock", "msgspec"}


def test_libraries_of_extras_are_imported_only_where_they_are_used() -> None:
    def imported_at_import(_: str, path: Path) -> set[str]:
        names = set[str]()
        for node in tree(path).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                names |= {getattr(node, "module", None) or "", *(each.name for each in node.names)}
        return {name.split(".")[0] for name in names} & OPTIONAL

    assert found_in(SOURCES, imported_at_import) == {}


def test_the_workflow_runs_the_suite_on_three_systems_with_every_supported_python() -> None:
    declared = (TESTS.parent / "pyproject.toml").read_text(encoding="utf-8")
    versions = ", ".join(f'"{v}"' for v in re.findall(r"Python :: (3\.[0-9]+)", declared))
    workflow = (TESTS.parent / ".github/workflows/tests.yml").read_text(encoding="utf-8")
    assert f"python: [{versions}]\n" in workflow
    assert "system: [ubuntu-latest, macos-latest, windows-latest]\n" in workflow
