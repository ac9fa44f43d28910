"""The site: README.md, and the pages of `journal help`. `nox -s docs` builds it."""

import re
from pathlib import Path

from journal.version import VERSION

project = "rowjournal"
release = version = VERSION
extensions = ["myst_parser"]
html_theme = "furo"
html_title = f"rowjournal {VERSION}"
myst_heading_anchors = 3

HERE = Path(__file__).parent
TOP = HERE.parent
SOURCE = "https://github.com/rowjournal/rowjournal/blob/main/"
TOCTREE = """
```{toctree}
:hidden:
:glob:

*
```
"""


def with_links(text: str) -> str:
    """Point links to files that aren't on the site to the repository."""
    return re.sub(
        r"\]\((?:\.\./)*((?:benchmarks|examples|tests)\b[^)]*|[A-Z]+(?:\.md)?)\)",
        rf"]({SOURCE}\1)",
        text,
    )


# The pages stand in the package, since `journal help` shows them. Here they stand beside the README.
for page in (TOP / "journal" / "docs").glob("*.md"):
    (HERE / page.name).write_text(with_links(page.read_text(encoding="utf-8")), encoding="utf-8")
readme = (TOP / "README.md").read_text(encoding="utf-8").replace("](journal/docs/", "](")
readme = with_links(readme).replace(f"]({SOURCE}benchmarks/show.svg)", "](../benchmarks/show.svg)")
(HERE / "index.md").write_text(readme + TOCTREE, encoding="utf-8")
