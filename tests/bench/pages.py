"""Puts a run's tables into the pages that show them, between two marks. Never typed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench import table
from bench.document import Document

# page -> mark -> what stands there
PAGES: dict[str, dict[str, Callable[[Document], str]]] = {
    "README.md": {"figures": table.markdown},
    "docs/performance.md": {"targets": table.targets_markdown},
}


def renew(folder: Path, document: Document) -> list[Path]:
    """Write the tables of a document into the pages; the pages that have changed.

    :raises ValueError: a page lacks a mark; no page was changed.
    """
    texts = {
        folder / name: _renewed((folder / name).read_text(), name, parts, document)
        for name, parts in PAGES.items()
    }
    changed = [path for path, new in texts.items() if path.read_text() != new]
    for path in changed:
        path.write_text(texts[path])
    return changed


def _renewed(
    page: str, name: str, parts: dict[str, Callable[[Document], str]], document: Document
) -> str:
    for mark, render in parts.items():
        begin, end = f"<!-- bench {mark} -->", f"<!-- bench {mark} end -->"
        if page.count(begin) != 1 or page.count(end) != 1 or page.index(begin) > page.index(end):
            raise ValueError(f"{name} needs one '{begin}' and one '{end}' behind it")
        before, _, rest = page.partition(begin)
        _, _, after = rest.partition(end)
        page = f"{before}{begin}\n{render(document)}\n{end}{after}"
    return page
