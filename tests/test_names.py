"""What tools see of the public names: their completion, their signatures and their docstrings."""

from __future__ import annotations

import pydoc
from typing import Any

import pytest
from support.paths import TOP

import journal

jedi = pytest.importorskip("jedi")


@pytest.fixture(name="script", scope="module")
def fixture_script() -> Any:
    project = jedi.Project(str(TOP), load_unsafe_extensions=False)
    return lambda text: jedi.Script(text, project=project)


def test_an_editor_completes_the_public_names(script: Any) -> None:
    found = {name.name for name in script("import journal\njournal.").complete()}
    assert set(journal.__all__) <= found


@pytest.mark.parametrize("name", ["open_job", "JobService", "JobRow", "RowResult", "JobBusyError"])
def test_an_editor_shows_the_docstring_of_a_public_name(name: str, script: Any) -> None:
    (found,) = script(f"import journal\njournal.{name}").infer()
    doc = getattr(journal, name).__doc__
    assert found.docstring(raw=True).split() == doc.split()


def test_an_editor_knows_what_a_job_can_do(script: Any) -> None:
    found = script('import journal\nwith journal.open_job("j") as job:\n    job.').complete()
    assert {"run", "arun", "rows", "stop"} <= {name.name for name in found}
    (call,) = script('import journal\njob = journal.open_job("j")\njob.run(').get_signatures()
    assert {"handler", "workers", "progress"} <= {param.name for param in call.params}


def test_a_prompt_shows_the_options_of_arun() -> None:
    (call,) = jedi.Interpreter("run(", [{"run": journal.JobRun.arun}]).get_signatures()
    names = {param.name for param in call.params}
    assert {"handler", "workers", "progress"} <= names
    assert "executor" not in names


def test_help_has_the_public_names_with_their_docstrings() -> None:
    text = pydoc.plain(pydoc.render_doc(journal))
    for name in ("open_job", "JobRun", "Hold", "JobBusyError", "RowStatus"):
        first_line = getattr(journal, name).__doc__.splitlines()[0]
        assert first_line in text, name
    assert "importlib" not in text
