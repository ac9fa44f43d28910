"""Names of artifacts that are one name on some file systems: refused, and never mixed."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.copies import JOB, content_of, go_on, make_job, put_artifact
from support.folding import FoldingOs
from support.platforms import needs_any_names

import journal.fs.system
from journal import StorageError
from journal.transfer import pack_to_file, pull_job, unpack_job

pytestmark = needs_any_names

COMPOSED, DECOMPOSED = "caf\u00e9.txt", "cafe\u0301.txt"
PAIRS = [("A.txt", "a.txt"), (COMPOSED, DECOMPOSED), ("x/STRASSE.txt", "x/Stra\u00dfe.txt")]


@pytest.fixture(name="copies")
def fixture_copies(tmp_path: Path) -> tuple[Path, Path]:
    """A job without artifacts, and its copy, in two stores."""
    here, there = tmp_path / "here", tmp_path / "there"
    make_job(here)
    pack_to_file(here / JOB, tmp_path / "pack")
    unpack_job(there, tmp_path / "pack")
    return here, there


def fold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal.fs.system, "os", FoldingOs())


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("relation", ["identical", "behind", "diverged"])
def test_a_pull_of_two_artifacts_that_are_one_name_here_is_refused_and_changes_nothing(
    copies: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, relation: str, pair: tuple[str, str]
) -> None:
    here, there = copies
    for name in pair:
        put_artifact(there, name, name.encode())
    if relation != "identical":
        go_on(there, 3)
    if relation == "diverged":
        go_on(here, 4)
    before = content_of(here)
    fold(monkeypatch)
    with pytest.raises(StorageError, match=f"'artifacts/{max(pair)}' and another file .* one name"):
        pull_job(here, there / JOB, merge=True)
    assert content_of(here) == before
    assert not (here / JOB / ".pull").exists()


@pytest.mark.parametrize("pair", PAIRS)
def test_two_artifacts_that_are_two_names_here_are_both_pulled(
    copies: tuple[Path, Path], pair: tuple[str, str]
) -> None:
    here, there = copies
    for name in pair:
        put_artifact(there, name, name.encode())
    pulled = pull_job(here, there / JOB)
    assert set(pulled.artifacts) == {f"artifacts/{name}" for name in pair}


@pytest.mark.parametrize("pair", PAIRS[:2])
def test_a_pack_of_two_artifacts_that_are_one_name_here_is_refused_as_a_whole(
    copies: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pair: tuple[str, str],
) -> None:
    _, there = copies
    for name in pair:
        put_artifact(there, name, name.encode())
    pack_to_file(there / JOB, tmp_path / "both")
    fold(monkeypatch)
    with pytest.raises(StorageError, match="are one name on this file system"):
        unpack_job(tmp_path / "third", tmp_path / "both")
    assert not (tmp_path / "third" / JOB).exists()


@pytest.mark.parametrize(("ours", "theirs"), PAIRS[:2])
def test_an_artifact_under_another_form_of_its_name_is_the_same_file_here(
    copies: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, ours: str, theirs: str
) -> None:
    here, there = copies
    put_artifact(here, ours, b"the same")
    put_artifact(there, theirs, b"the same")
    fold(monkeypatch)
    before = content_of(here)
    pulled = pull_job(here, there / JOB)
    assert (pulled.action, pulled.artifacts, pulled.differing) == ("identical", [], [])
    assert content_of(here) == before


@pytest.mark.parametrize(("ours", "theirs"), PAIRS[:2])
@pytest.mark.parametrize("action", ["forwarded", "merged"])
def test_an_artifact_with_another_content_under_another_form_of_its_name_loses_neither(
    copies: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    ours: str,
    theirs: str,
    action: str,
) -> None:
    here, there = copies
    put_artifact(here, ours, b"this")
    put_artifact(there, theirs, b"that")
    go_on(there, 3)
    if action == "merged":
        go_on(here, 4)
    fold(monkeypatch)
    for _ in range(2):
        pull_job(here, there / JOB, merge=True)
        contents = {name: c for name, c in content_of(here).items() if "artifacts" in name}
        assert sorted(contents.values()) == [b"that", b"this"]
