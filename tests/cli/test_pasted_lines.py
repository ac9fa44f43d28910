"""Lines to paste, in the quoting of Windows: what they become when they are split again."""

import itertools

import pytest

from journal.fs import shell

SIGNS = 'a \\"&%'


def test_each_word_comes_back_from_the_quoting_of_windows() -> None:
    words = ["".join(signs) for n in range(5) for signs in itertools.product(SIGNS, repeat=n)]
    line = " ".join(map(shell.quote_for_windows, words))
    assert shell.split_for_windows(line) == words


@pytest.mark.parametrize(
    ("word", "quoted"),
    [
        ("C:\\jobs\\ship-ca.1", "C:\\jobs\\ship-ca.1"),
        ("\\\\server\\share", "\\\\server\\share"),
        ("two words\\", '"two words\\\\"'),
        ("{zip}", '"{zip}"'),
        ("a&b", '"a&b"'),
        ('say "x"', '"say ""x"""'),
        ("1,2", '"1,2"'),
        ("-a.b", '"-a.b"'),
        ("--max-cost-cents", "--max-cost-cents"),
        ("", '""'),
    ],
)
def test_words_that_cmd_or_powershell_would_change_are_quoted(word: str, quoted: str) -> None:
    assert shell.quote_for_windows(word) == quoted


def test_a_quotation_that_isnt_closed_is_refused() -> None:
    with pytest.raises(ValueError, match="No closing quotation"):
        shell.split_for_windows('"a')


@pytest.mark.parametrize(
    "line",
    ["cd /jobs && journal run 'a b' -- sh", 'pushd C:\\jobs && journal run "a b" -- sh'],
)
def test_a_line_is_split_as_the_system_that_recorded_it_quotes(line: str) -> None:
    assert shell.split_any(line)[2:] == ["&&", "journal", "run", "a b", "--", "sh"]
