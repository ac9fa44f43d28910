"""Text in braces in a command: what is a placeholder, what stays, and what is refused."""

from datetime import UTC, datetime
from typing import Any

import pytest

from journal import InvalidValueError, JobRow
from journal.cli.run.subprocesses import check_program
from journal.cli.run.template import Template
from journal.fs import shell

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def row(data: dict[str, Any]) -> JobRow:
    return JobRow("j:7", "j", 7, "", data, NOW, NOW, attempts=1)


def filled(argument: str, data: dict[str, Any]) -> str:
    template = Template(["echo", argument])
    template.check(list(data))
    assert list(template.checked([data])) == [data]
    return template.fill(row(data))[1]


# --- parts of paths


@pytest.mark.parametrize(
    ("path", "without", "name", "directory", "bare"),
    [
        # As GNU parallel does it.
        ("dir/photo.tar.gz", "dir/photo.tar", "photo.tar.gz", "dir", "photo.tar"),
        ("photo.jpg", "photo", "photo.jpg", ".", "photo"),
        ("/photo", "/photo", "photo", "/", "photo"),
        ("v1.2/photo", "v1.2/photo", "photo", "v1.2", "photo"),
        ("a b/c d.e f", "a b/c d", "c d.e f", "a b", "c d"),
        ("two\nlines/x\ny.z", "two\nlines/x\ny", "x\ny.z", "two\nlines", "x\ny"),
        ("dir/.profile", "dir/", ".profile", "dir", ""),
        ("dir//file.", "dir//file", "file.", "dir", "file"),
        ("dir/", "dir/", "", ".", ""),
        ("/a/b/", "/a/b/", "", "/a", ""),
        ("", "", "", ".", ""),
    ],
)
def test_parts_of_a_path_are_those_of_parallel(
    path: str, without: str, name: str, directory: str, bare: str
) -> None:
    line = filled("{.}|{/}|{//}|{/.}|{}", {"line": path})
    assert line == f"{without}|{name}|{directory}|{bare}|{path}"
    column = filled("{file.}|{file/}|{file//}|{file/.}|{file}", {"file": path, "n": 1})
    assert column == line


@pytest.mark.parametrize("part", ["", ".", "/", "//", "/."])
def test_the_parts_of_a_line_are_refused_where_rows_have_columns(part: str) -> None:
    with pytest.raises(
        InvalidValueError, match=r"stands for a line, but this input has columns: write \{COL"
    ):
        filled(f"{{{part}}}", {"a": 1, "b": 2})
    with pytest.raises(InvalidValueError, match="stands for a line"):
        filled(f"{{{part}}}", {"a": 1})


# --- other braces


DATA = {"email": "e@x", "first name": "Jo", "line": "l", "x-y": 1, "d\xe9j\xe0": 2}

STAYS = [
    "{print $1}",
    '{"a": 1}',
    '{"a": {"b": [1, {"c": 2}]}}',
    "${VAR}",
    "${emial}",
    "${VAR:-none}",
    "${VAR%.*}",
    "${#VAR}",
    "{ print NR; }",
    'BEGIN {FS=","} NR > 1 {s += $2} END {print s}',
    "f() { echo hi; }; f",
    "{a,b}{1..10}",
    "[0-9]{2,5}x{3,}",
    "{",
    "}",
    "}}",
    "a } b { c",
    "{\n  body\n}",
    "try { throw }}",
]
FILLED = {
    "{email}": "e@x",
    "{first name}{x-y}{d\xe9j\xe0}": "Jo12",
    "${email}": "$e@x",
    "{#} {id}": "7 j:7",
    '{"to": "{email}", "n": {x-y}}': '{"to": "e@x", "n": 1}',
    '{"a": {"to": {x-y}}}': '{"a": {"to": 1}}',
    "{print $1} {email}": "{print $1} e@x",
    "{{print $1}} {email}": "{print $1} e@x",
    '{{"a": {{"to": {x-y}}}}}': '{"a": {"to": 1}}',
    "{{email}}": "{email}",
    "{{{email}}}": "{e@x}",
    "{{}}": "{}",
    "${{VAR}}": "${VAR}",
    "{{.Names}}": "{.Names}",
}
REFUSED = {
    "{emial}": "did you mean 'email'",
    "{Email}": "did you mean 'email'",
    "{first  name}": "did you mean 'first name'",
    "{First Name}": "did you mean 'first name'",
    "{ email }": "did you mean 'email'",
    "{nothing.like-it}": "no such column",
    "{emial.}": "did you mean 'email'",
    "{emial/.}": "no such column",
    "{1}": "no such column",
    "{1.}": "no such column",
    "{%}": "no such column",
    "{print}": "double all braces",
    "{}": "stands for a line",
    "{{x}} {print $1}": "double all braces",
    "{{x}} ${VAR}": "double all braces",
}


@pytest.mark.parametrize("argument", STAYS)
def test_braces_of_other_languages_stay_as_they_are(argument: str) -> None:
    assert filled(argument, DATA) == argument


@pytest.mark.parametrize(("argument", "result"), FILLED.items())
def test_placeholders_are_filled_and_doubled_braces_are_single(argument: str, result: str) -> None:
    assert filled(argument, DATA) == result


@pytest.mark.parametrize(("argument", "words"), REFUSED.items())
def test_what_may_be_a_misspelt_placeholder_is_refused(argument: str, words: str) -> None:
    with pytest.raises(InvalidValueError, match=words):
        filled(argument, DATA)
    with pytest.raises(InvalidValueError, match="input row 1: has no"):
        list(Template(["echo", argument]).checked([DATA]))


# --- rows that have columns of their own


def test_a_name_that_only_some_rows_have_is_refused_also_if_it_has_no_form_of_a_placeholder() -> (
    None
):
    template = Template(["echo", "{print $1}"])
    rows: list[dict[str, Any]] = [{"a": 1}, {"b": 2}, {"a": 1, "print $1": "x"}]
    with pytest.raises(InvalidValueError, match=r"input row 3: only some rows have 'print \$1'"):
        list(template.checked(rows))
    template = Template(["echo", "{print $1}"])
    with pytest.raises(InvalidValueError, match=r"input row 2: only some rows have 'print \$1'"):
        list(template.checked(rows[::-1]))


def test_a_row_of_an_earlier_input_is_filled_as_the_input_says() -> None:
    template = Template(["{a}", "{print $1}"])
    template.check(["a"])
    assert template.fill(row({"a": 1, "print $1": "$(harm)"})) == ["1", "{print $1}"]


# --- scripts of shells


@pytest.mark.parametrize(
    "script", ["echo ${line}", "echo ${id}", "cat {line//}", "f() {first name}", "echo {email}"]
)
def test_a_script_that_names_a_column_is_refused(script: str) -> None:
    with pytest.raises(InvalidValueError, match=r"run as a part of the script.*double all braces"):
        Template(["sh", "-c", script, "sh", "{email}"]).check(list(DATA))
    with pytest.raises(InvalidValueError, match="run as a part of the script"):
        list(Template(["sh", "-c", script, "sh", "{email}"]).checked([DATA]))


@pytest.mark.parametrize(
    "command",
    [
        *(f"{shell} -c SCRIPT sh x" for shell in ("rbash", "yash", "/bin/csh", "tcsh", "fish")),
        *("fish --command SCRIPT", "fish --command=SCRIPT", "csh -fc SCRIPT x"),
        *("su -c SCRIPT", "su - alice -c SCRIPT", "su --command=SCRIPT alice", "runuser -c SCRIPT"),
        *("script -c SCRIPT log", "script -qec SCRIPT log", "script -cSCRIPT"),
        *(
            "flock -n lock -c SCRIPT",
            "flock -w 5 lock --command SCRIPT",
            "nice flock lock -c SCRIPT",
        ),
        *("flock lock su alice -c SCRIPT", "flock lock fish -c SCRIPT {email}"),
    ],
)
def test_a_value_in_a_script_of_any_known_shell_is_refused(command: str) -> None:
    for script in ("echo {email}", "{email} x"):
        words = [word.replace("SCRIPT", script) for word in command.split()]
        with pytest.raises(InvalidValueError, match="run as a part of the script"):
            Template(words).check(list(DATA))


@pytest.mark.parametrize(
    "command",
    [
        ["cmd", "/c", "echo", "{email}"],
        ["C:/Windows/System32/CMD.EXE", "/d", "/C", "echo {email}"],
        ["powershell", "-NoProfile", "-Command", "echo {email}"],
        ["pwsh", "-c", "echo", "{email}"],
    ],
)
def test_a_value_in_a_line_that_cmd_or_powershell_runs_is_refused(command: list[str]) -> None:
    with pytest.raises(InvalidValueError, match="runs a value as a part of its line"):
        Template(command).check(list(DATA))


@pytest.mark.parametrize(
    "command",
    [["cmd", "/c", "{email}"], ["pwsh", "-File", "a.ps1", "{email}"], ["./cmd", "{email}"]],
)
def test_arguments_of_a_script_and_a_line_that_is_the_value_are_filled_in(
    command: list[str],
) -> None:
    template = Template(command)
    template.check(list(DATA))
    assert template.fill(row(DATA))[-1] == DATA["email"]


# --- a whole run


# --- a command line that was given as one word


@pytest.mark.parametrize(
    ("line", "advised"),
    [
        ("echo a {b}", "write -- echo a {b}"),
        ("echo {zip} | wc -c", f"after --, write {shell.A_SCRIPT} with each column as an argument"),
    ],
)
def test_a_quoted_command_line_is_refused_with_what_to_write(line: str, advised: str) -> None:
    with pytest.raises(InvalidValueError, match="the name of a program: ") as raised:
        check_program(line)
    assert raised.value.reason.endswith(advised)


@pytest.mark.parametrize(
    ("argument", "data", "reason"),
    [
        ("{To}", {"to": 1}, "there is no such column; did you mean 'to'?"),
        (
            "{to.city}",
            {"to": {}},
            "members of an object aren't filled in: {to} is all of it, as JSON",
        ),
        ("{to.city/}", {"to": {}}, "members of an object aren't filled in: {to} is all"),
        (
            "{x}",
            {"n": 1},
            "the columns are {n}, and {#} is the row's number and {id} is the row's id;",
        ),
        ("{x}", {"id": 1, "n": 1}, "the columns are {id}, {n}, and {#} is the row's number;"),
        ("{x}", {"id": 1, "#": 1}, "the columns are {id}, {#};"),
    ],
)
def test_what_a_placeholder_may_be_instead_is_said(
    argument: str, data: dict[str, Any], reason: str
) -> None:
    template = Template(["echo", argument])
    with pytest.raises(InvalidValueError) as raised:
        template.check(list(data))
    assert reason in raised.value.reason
    if "column" not in reason:
        with pytest.raises(InvalidValueError) as raised:
            list(template.checked([data]))
        assert reason in raised.value.reason
