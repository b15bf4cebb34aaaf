"""Listings: tables for people, templates and JSON for scripts, as Docker prints them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

from cnm.cli.values import Row

# Docker's tabwriter: a column is at least 10 wide, 3 blanks of distance included.
_MINIMUM = 10
_PADDING = 3

FORMAT_HELP = (
    "Format the output: 'table' (default), 'table TEMPLATE', 'json', or 'TEMPLATE', a Go template"
)
INSPECT_FORMAT_HELP = "Format the output: 'json', or 'TEMPLATE', a Go template"


class Listing:
    """How one kind of object is listed: its columns' titles and its default table."""

    __slots__ = ("columns", "headers", "kind", "raw")

    def __init__(
        self, kind: str, headers: Mapping[str, str], columns: Sequence[str], raw: str = ""
    ) -> None:
        self.kind = kind
        self.headers = headers
        self.columns = columns
        self.raw = raw

    def row(
        self, fields: Mapping[str, str], methods: Mapping[str, Callable[[str], str]] | None = None
    ) -> Row:
        """A line of this listing."""
        return Row(self.kind, fields, methods)

    def show(self, rows: Sequence[Row], form: str, quiet: bool) -> None:
        """Prints rows.

        :raises TemplateError: when ``form`` is malformed or asks for what a row has not.
        """
        sys.stdout.write(self.render(rows, form, quiet))

    def render(self, rows: Sequence[Row], form: str, quiet: bool) -> str:
        """What ``show`` prints. ``quiet`` counts for the default table only.

        The default needs no template, and so not the 10 ms of loading their engine.
        """
        form = form.strip(" ")
        if form in ("", "table"):
            return self._ids(rows) if quiet else self._default(rows)
        source = self._source(form)
        if not source.startswith("table"):
            return self._lines(source, rows)
        source = source.removeprefix("table").strip(" ")
        body = self._lines(source, rows)
        return align(self._header(source) + "\n" + body)

    def _ids(self, rows: Sequence[Row]) -> str:
        return "".join(f"{row.fields['ID']}\n" for row in rows)

    def _default(self, rows: Sequence[Row]) -> str:
        lines = [self.headers, *(row.fields for row in rows)]
        cells = ("\t".join(line[column] for column in self.columns) for line in lines)
        return align("\n".join(cells) + "\n")

    def _source(self, form: str) -> str:
        if form == "json":
            return "{{json .}}"
        if form == "raw" and self.raw:
            return self.raw
        return form.replace("\\t", "\t").replace("\\n", "\n")

    def _lines(self, source: str, rows: Sequence[Row]) -> str:
        from cnm.cli.template import Template

        template = Template(source)
        return "".join(template.render(row) + "\n" for row in rows)

    def _header(self, source: str) -> str:
        from cnm.cli.template import Template
        from cnm.cli.template_functions import HEADER_FUNCTIONS

        titles = Row(self.kind, self.headers, {"Label": label_title})
        return Template(source, HEADER_FUNCTIONS).render(titles)


def label_title(name: str) -> str:
    """The column title of a label: its last part, as words."""
    return name.rpartition(".")[2].replace("-", " ").replace("_", " ")


def align(text: str, minimum: int = _MINIMUM) -> str:
    """Go's text/tabwriter: cells that end in a tab are padded to their column's width.

    A column, at least ``minimum`` wide, is a run of lines that have such a cell; what
    follows a line's last tab belongs to no column.
    """
    lines = [line.split("\t") for line in text.split("\n")]
    widths: list[list[int]] = [[] for _ in lines]
    for start in range(len(lines)):
        while len(widths[start]) < len(lines[start]) - 1:
            _measure(lines, widths, start, minimum)
    return "\n".join(
        "".join(cell.ljust(width) for cell, width in zip(cells, sizes, strict=False)) + cells[-1]
        for cells, sizes in zip(lines, widths, strict=True)
    )


def _measure(lines: list[list[str]], widths: list[list[int]], start: int, minimum: int) -> None:
    """Gives the next column that begins in line ``start`` its width, in all its lines."""
    column = len(widths[start])
    end = start
    while end < len(lines) and len(lines[end]) - 1 > column:
        end += 1
    size = max(len(cells[column]) + _PADDING for cells in lines[start:end])
    for place in range(start, end):
        widths[place].append(max(size, minimum))


def natural(name: str) -> list[tuple[bool, int, str]]:
    """A sort key in which net2 comes before net10."""
    parts: list[tuple[bool, int, str]] = []
    digits = ""
    for letter in name:
        if letter.isascii() and letter.isdigit():
            digits += letter
            continue
        if digits:
            parts.append((False, int(digits), digits))
            digits = ""
        parts.append((True, 0, letter))
    return [*parts, (False, int(digits), digits)] if digits else parts
