"""What a run shows: tables, picture, pages."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from bench import pages, plot, table

MACHINE = {
    "date": "2024-02-03",
    "cpu": "A & B",
    "cpus": 2,
    "kernel": "6.1",
    "python": "3.11.2",
    "system": "Debian 12",
    "versions": {"cnm": "0.1", "docker": "20.10"},
}


def figures(median: float) -> dict[str, float]:
    return {"median": median, "min": median / 2, "max": median * 2, "runs": 3}


DOCUMENT: dict[str, Any] = {
    "machine": MACHINE,
    "metrics": [
        {
            "name": "endpoint.attach",
            "unit": "ms",
            "better": "lower",
            "cnm": figures(4.0),
            "docker": figures(32.0),
            "floor": figures(1.0),
        },
        {
            "name": "bridge.throughput",
            "unit": "Gbit/s",
            "better": "higher",
            "cnm": figures(12.0),
            "docker": figures(15.0),
        },
        {
            "name": "daemon.resident",
            "unit": "MB",
            "better": "lower",
            "cnm": figures(75.0),
            "docker": figures(150.0),
        },
        {"name": "cli.ls", "unit": "ms", "better": "lower", "cnm": figures(101.0)},
    ],
    "scaling": {},
}


def test_markdown() -> None:
    lines = table.markdown(DOCUMENT).splitlines()
    assert lines[:-2] == [
        "| median | cnm | Docker Engine | kernel alone | cnm beside the best peer |",
        "| --- | --- | --- | --- | --- |",
        (
            "| attach a container to a network (ms, lower is better) "
            "| 4.00 | 32.0 | 1.00 | 8.0x faster |"
        ),
        (
            "| one TCP stream between two containers of a host (Gbit/s, higher is better) "
            "| 12.0 | 15.0 | – | 1.2x slower |"
        ),
        (
            "| memory of daemon and helpers (PSS) (MB, lower is better) "
            "| 75.0 | 150 | – | 2.0x smaller |"
        ),
        "| the command `network ls` (ms, lower is better) | 101 | – | – | – |",
    ]
    assert lines[-1] == (
        "One run of `make bench` on 2024-02-03: 2 CPUs (A & B), Linux 6.1, Debian 12, Python"
        " 3.11.2; cnm 0.1, Docker Engine 20.10. –: it has no such thing."
    )


def test_targets_of_a_run() -> None:
    lines = table.targets_markdown(DOCUMENT).splitlines()
    assert lines[2:5] == [
        "| `endpoint.attach` | a fifth of the fastest peer's: 6.40 ms | 4.00 ms | yes |",
        "| `daemon.resident` | 90 MB: 90.0 MB | 75.0 MB | yes |",
        "| `cli.ls` | 100 ms: 100 ms | 101 ms | **no** |",
    ]


def test_text_shows_everybody_and_our_spread() -> None:
    head, attach, *_ = (line.split() for line in table.text(DOCUMENT["metrics"]).splitlines())
    assert head[:8] == "metric unit better cnm docker netavark cni floor".split()
    assert (
        attach == "endpoint.attach ms lower 4.00 32.0 – – 1.00 2.00-8.00 3 8.0x faster 4.0x".split()
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (0.0712, "0.07"), (9.99, "9.99"), (12.34, "12.3"), (151234.0, "151,234")],
)
def test_figure(value: float | None, shown: str) -> None:
    assert table.figure(value) == shown


def test_nearly_the_same_is_said_so() -> None:
    metric = {
        "name": "bridge.throughput",
        "unit": "Gbit/s",
        "better": "higher",
        "cnm": figures(16.3),
        "docker": figures(16.0),
    }
    assert table.verdict(metric) == "the same"


def test_picture_has_a_bar_for_each_figure() -> None:
    root = ElementTree.fromstring(plot.svg(DOCUMENT))
    space = {"svg": "http://www.w3.org/2000/svg"}
    bars = [item for item in root.findall("svg:rect", space) if item.get("x") == "360"]
    legend = 1  # the first colour's square stands there too
    assert len(bars) == 8 + legend
    # attach: Docker's is the longest, ours an eighth of it
    ours, docker = (float(bar.get("width", "0")) for bar in bars[legend : legend + 2])
    assert docker == pytest.approx(8 * ours, rel=0.01)
    words = "".join(root.itertext())
    assert "8.0x faster" in words
    assert "higher is better" in words


def make_pages(folder: Path, middle: str = "old\n") -> tuple[Path, Path]:
    (folder / "docs").mkdir()
    readme, performance = folder / "README.md", folder / "docs/performance.md"
    readme.write_text(
        f"before\n<!-- bench figures -->\n{middle}<!-- bench figures end -->\nafter\n"
    )
    performance.write_text("x\n<!-- bench targets -->\n<!-- bench targets end -->\n")
    return readme, performance


def test_pages_are_renewed_between_their_marks_only(tmp_path: Path) -> None:
    readme, performance = make_pages(tmp_path)
    assert pages.renew(tmp_path, DOCUMENT) == [readme, performance]
    text = readme.read_text()
    assert text.startswith("before\n<!-- bench figures -->\n| median |")
    assert text.endswith("no such thing.\n<!-- bench figures end -->\nafter\n")
    assert "old" not in text
    assert "| `cli.ls` |" in performance.read_text()
    assert pages.renew(tmp_path, DOCUMENT) == []


def test_a_page_without_its_mark_stops_all(tmp_path: Path) -> None:
    readme, performance = make_pages(tmp_path)
    performance.write_text("no marks\n")
    before = readme.read_text()
    with pytest.raises(ValueError, match="performance.md needs one '<!-- bench targets -->'"):
        pages.renew(tmp_path, DOCUMENT)
    assert readme.read_text() == before


def test_our_own_pages_have_their_marks(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    for name in pages.PAGES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((root / name).read_text())
    pages.renew(tmp_path, DOCUMENT)
    assert "8.0x faster" in (tmp_path / "README.md").read_text()
