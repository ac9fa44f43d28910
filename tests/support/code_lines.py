"""Counts lines of code, without docstrings, comments and blank lines.

``python tests/support/code_lines.py [DIRECTORY]`` prints the count of each file, and the sum.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

_NO_CODE = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE),
    *(tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER),
}
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def code_lines(source: str) -> set[int]:
    """Return the numbers of the lines that contain code."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    found: set[int] = set()
    for token in tokens:
        if token.type not in _NO_CODE:
            found.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | _Function) and ast.get_docstring(node):
            text = node.body[0]
            found -= set(range(text.lineno, (text.end_lineno or 0) + 1))
    return found


def functions(source: str, lines: set[int]) -> Iterator[tuple[str, int]]:
    """Yield the name of each function, and the number of its lines that are in ``lines``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, _Function):
            own = range(node.lineno, (node.end_lineno or 0) + 1)
            yield node.name, len(lines.intersection(own))


def main() -> None:
    top = Path(sys.argv[1] if len(sys.argv) > 1 else "journal")
    counts = {path: len(code_lines(path.read_text())) for path in sorted(top.rglob("*.py"))}
    for path, count in counts.items():
        print(f"{count:6} {path}")
    print(f"{sum(counts.values()):6} in all")


if __name__ == "__main__":
    main()
