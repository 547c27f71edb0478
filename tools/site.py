"""Hooks of mkdocs: pages that are made from the code, and links that lead out of docs/.

The documents are read on a forge as well, where `../deploy/x.yaml` is a link to that file. In the site such files are
copied to `files/`, folders become a list of their files, and the links are changed to match.
"""

from __future__ import annotations

import posixpath
import re
import subprocess
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
LINK = re.compile(r"(\]\()((?:\.\./)+)([^)#\s]*)((?:#[^)\s]+)?\))")
HEADING = {"README.md": "README.md", "": "README.md"}  # the repository's first page is the site's own


def on_files(files: Any, config: Any) -> Any:
    """Add what is made, and what is linked to outside the folder."""
    for what in ("commands", "configuration"):
        command = [ROOT / ".venv/bin/python", ROOT / "tools/reference.py", what]
        text = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
        files.append(File.generated(config, f"reference-{what}.md", content=text))
    for place in sorted({outside for page in DOCS.rglob("*.md") for outside in _find_outside(page)}):
        source = ROOT / place
        if source.is_dir():
            listed = sorted(one.name for one in source.iterdir() if not one.name.startswith((".", "__")))
            text = f"# {place}\n\n" + "".join(f"- `{name}`\n" for name in listed)
            files.append(File.generated(config, f"files/{place}/index.md", content=text))
        elif source.suffix == ".md":
            text = re.sub(r"\]\((?!https?://)[^)]*\)", "]", source.read_text())  # it is not at home here
            files.append(File.generated(config, f"files/{place}", content=text))
        else:
            files.append(File.generated(config, f"files/{place}", abs_src_path=str(source)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Change links that lead out of the folder."""
    folder = posixpath.dirname(page.file.src_uri)

    def change(found: re.Match[str]) -> str:
        place = _place(folder, found[2] + found[3])
        if place is None:
            return found[0]
        goal = HEADING.get(place) or f"files/{place}" + ("/index.md" if (ROOT / place).is_dir() else "")
        return found[1] + posixpath.relpath(goal, folder or ".") + (found[4] if goal.endswith(".md") else ")")

    return LINK.sub(change, markdown)


def _find_outside(page: Path) -> set[str]:
    folder = page.parent.relative_to(DOCS).as_posix()
    places = {_place("" if folder == "." else folder, one[2] + one[3]) for one in LINK.finditer(page.read_text())}
    return {place for place in places if place is not None and place not in HEADING}


def _place(folder: str, link: str) -> str | None:
    """The path from the repository's root that a link out of docs/ leads to; None for others."""
    path = posixpath.normpath(posixpath.join("docs", folder, link))
    if path == "docs" or path.startswith("docs/"):
        return None
    return "" if path == "." else path
