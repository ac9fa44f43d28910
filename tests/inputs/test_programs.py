"""Files of other programs are read right, to the value, if these programs are here."""

from pathlib import Path

import pytest
from inputs.programs import KINDS, Kind, first_difference

import journal

HERE = [kind for kind in KINDS if kind.is_here]


@pytest.mark.parametrize("kind", HERE, ids=lambda kind: kind.name)
def test_a_file_of_another_program_has_the_values_that_were_put_into_it(
    kind: Kind, tmp_path: Path
) -> None:
    made = kind.make(500, tmp_path)
    assert first_difference(kind, made, tmp_path, 500) is None


def test_rows_can_be_read_as_often_as_one_likes(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("a\n1\n2\n")
    rows = journal.read_rows(tmp_path / "in.csv")
    assert list(rows) == list(rows) == [{"a": "1"}, {"a": "2"}]
    assert next(iter(rows)) == {"a": "1"}
