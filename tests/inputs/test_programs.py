"""Files of other programs are read right, to the value, if these programs are here."""

from pathlib import Path

import pytest
from inputs.programs import KINDS, Kind, first_difference

HERE = [kind for kind in KINDS if kind.is_here]


@pytest.mark.parametrize("kind", HERE, ids=lambda kind: kind.name)
def test_a_file_of_another_program_has_the_values_that_were_put_into_it(
    kind: Kind, tmp_path: Path
) -> None:
    made = kind.make(500, tmp_path)
    assert first_difference(kind, made, tmp_path, 500) is None
