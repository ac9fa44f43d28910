"""The command line by which cmd runs a .bat or .cmd file without interpreting its arguments.

Each argument is put in quotes. Inside quotes, cmd doesn't interpret ``& | < > ^ ( )``. Quotes don't
protect ``%`` and ``"``, so arguments with these characters are refused. Arguments with line ends
are refused too, since cmd stops reading at a line end. The advisory CVE-2024-24576 for Rust has the
reasons.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

EXTENSIONS = (".bat", ".cmd")

_REFUSED = re.compile('["%\r\n\0]')
_SLASHES_AT_END = re.compile(r"(\\+)\Z")


def batch_line(path: str, arguments: Sequence[str]) -> str:
    """The command line for the program cmd.exe. Raises ValueError for a refused argument.

    With ``/d``, cmd doesn't run the AutoRun commands of the registry. With ``/v:off``, ``!`` is an
    ordinary character. With ``/s``, cmd removes the first and the last quote, and nothing else.
    """
    for word in (path, *arguments):
        found = _REFUSED.search(word)
        if found is not None:
            raise ValueError(
                f"{word!r} can't be an argument of a batch file, since cmd would interpret its "
                f"{found[0]!r}: let the batch file be a program, such as a script of Python"
            )
    # If the batch file passes an argument on to a program, the program would read \" as a quote.
    words = [_SLASHES_AT_END.sub(r"\1\1", word) for word in arguments]
    quoted = " ".join(f'"{word}"' for word in (path, *words))
    return f'cmd.exe /d /e:on /v:off /s /c "{quoted}"'
