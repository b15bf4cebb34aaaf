"""Results of checks as a table and as JUnit XML."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from cnm.netlab import report
from cnm.netlab.check import Result
from cnm.netlab.model import Check, Lab, Ping, Place

_PING = Ping(Place("n1"), Place("n2"))
_GOOD = Result(Check("n1 pings n2", "ping", _PING, line=7), True, "1 received", 0.25, 1)
_BAD = Result(Check("apart", "ping", _PING, expect=False, line=9), False, "1 <received>", 5.0, 12)
_LAB = Lab("two", Path("two.yaml"))


def test_the_table_has_a_line_for_each_check() -> None:
    assert report.table([_GOOD, _BAD]).splitlines() == [
        "CHECK              RESULT   TIME   SEEN",
        "n1 pings n2        ok       0.2s   1 received",
        "apart (must not)   FAILED   5.0s   1 <received>",
    ]


def test_the_summary_counts() -> None:
    assert report.summary([_GOOD, _BAD]) == "2 checks: 1 ok, 1 failed"
    assert report.summary([_GOOD]) == "1 check: 1 ok, 0 failed"


def test_a_failed_line_says_what_was_seen_and_how_often_it_was_tried() -> None:
    assert "it must not, but: 1 <received> (12 tries)" in report.line(_BAD)
    assert "received" not in report.line(_GOOD)


def test_junit_is_xml_with_a_failure_and_its_place() -> None:
    root = ElementTree.fromstring(report.junit([(_LAB, [_GOOD, _BAD])]))
    suite = root.find("testsuite")
    assert suite is not None
    assert (suite.get("name"), suite.get("tests"), suite.get("failures")) == ("two", "2", "1")
    good, bad = suite.findall("testcase")
    assert good.find("failure") is None
    failure = bad.find("failure")
    assert failure is not None
    assert "1 <received>" in (failure.text or "")
    assert (bad.get("file"), bad.get("line")) == ("two.yaml", "9")


def test_what_xml_has_no_way_to_say_is_replaced() -> None:
    odd = Result(_GOOD.check, False, "bell \x07, null \x00", 0.1, 1)
    root = ElementTree.fromstring(report.junit([(_LAB, [odd])]))
    assert "bell ?, null ?" in "".join(root.itertext())
