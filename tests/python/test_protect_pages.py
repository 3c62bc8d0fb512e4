"""docs/protect-*.md show code of the interop tests, as it runs there.

`python tests/python/test_protect_pages.py` puts the code into the pages anew.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
PAGES: Final = sorted(ROOT.glob("docs/protect-*.md"))
SHOWN: Final = re.compile(r"<!-- (?P<file>\S+): (?P<part>\w+) -->\n(?:\n```\w+\n.*?\n```\n)?", re.DOTALL)
MARK: Final = re.compile(r"^(?:#|//) docs: (\w+)\n", re.MULTILINE)
LANGUAGES: Final = {".py": "python", ".mjs": "js", ".rs": "rust"}


def _part(file: str, part: str) -> str:
    pieces = MARK.split((ROOT / file).read_text())
    [text] = [text for name, text in zip(pieces[1::2], pieces[2::2], strict=True) if name == part]
    return text.strip("\n")


def _with_code(page: str) -> str:
    def shown(found: re.Match[str]) -> str:
        file, part = found["file"], found["part"]
        return f"<!-- {file}: {part} -->\n\n```{LANGUAGES[Path(file).suffix]}\n{_part(file, part)}\n```\n"

    return SHOWN.sub(shown, page)


def test_there_are_pages() -> None:
    assert [page.name for page in PAGES] == ["protect-python.md", "protect-rust.md", "protect-typescript.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_shows_code_as_it_runs(page: Path) -> None:
    text = page.read_text()
    assert _with_code(text) == text
    languages = re.findall(r"^```(python|js|rust)$", text, re.MULTILINE)
    assert len(languages) == len(SHOWN.findall(text)) >= 4, "each piece of code is one of a file that runs"


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(_with_code(page.read_text()))
    sys.exit()
