"""Results of checks, for people (a table) and for machines (JUnit XML)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from cnm.netlab.check import Result
from cnm.netlab.model import Lab

# XML 1.0, section 2.2: what may not stand in a document at all
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def line(result: Result) -> str:
    """One check as it comes in: ``ok`` or ``FAILED``, name, seconds, what was seen."""
    word = "ok    " if result.passed else "FAILED"
    wanted = "" if result.check.expect else " (must not)"
    text = f"{word}  {result.check.name}{wanted}  {result.seconds:.1f}s"
    return text if result.passed else f"{text}\n        {_told(result)}"


def table(results: Sequence[Result]) -> str:
    """All checks below each other, with what was seen."""
    rows = [("CHECK", "RESULT", "TIME", "SEEN")]
    rows += [
        (
            result.check.name + ("" if result.check.expect else " (must not)"),
            "ok" if result.passed else "FAILED",
            f"{result.seconds:.1f}s",
            result.detail.replace("\n", "; "),
        )
        for result in results
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        "   ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[3]])
        for row in rows
    )


def summary(results: Sequence[Result]) -> str:
    """``12 checks: 11 ok, 1 failed``."""
    failed = sum(not result.passed for result in results)
    many = f"{len(results)} check{'' if len(results) == 1 else 's'}"
    return f"{many}: {len(results) - failed} ok, {failed} failed"


def junit(labs: Sequence[tuple[Lab, Sequence[Result]]]) -> str:
    """The results as JUnit XML, one suite a lab."""
    root = ElementTree.Element("testsuites")
    root.extend(_suite(lab, results) for lab, results in labs)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _suite(lab: Lab, results: Sequence[Result]) -> ElementTree.Element:
    failed = sum(not result.passed for result in results)
    taken = sum(result.seconds for result in results)
    suite = ElementTree.Element(
        "testsuite",
        name=lab.name,
        tests=str(len(results)),
        failures=str(failed),
        errors="0",
        skipped="0",
        time=f"{taken:.3f}",
    )
    suite.extend(_case(lab, result) for result in results)
    return suite


def _case(lab: Lab, result: Result) -> ElementTree.Element:
    case = ElementTree.Element(
        "testcase",
        classname=f"netlab.{lab.name}",
        name=_clean(result.check.name),
        time=f"{result.seconds:.3f}",
        file=str(lab.path),
        line=str(result.check.line),
    )
    if not result.passed:
        told = _clean(_told(result))
        ElementTree.SubElement(case, "failure", message=told).text = told
    return case


def write_junit(path: Path, labs: Sequence[tuple[Lab, Sequence[Result]]]) -> None:
    """:raises OSError: the file cannot be written."""
    path.write_text(junit(labs), encoding="utf-8")


def _told(result: Result) -> str:
    tries = f"{result.tries} tries" if result.tries > 1 else "one try"
    wanted = "" if result.check.expect else "it must not, but: "
    return f"{wanted}{result.detail} ({tries})"


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("?", text)
