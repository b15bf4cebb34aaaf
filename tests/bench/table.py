"""Tables of a run, for the terminal and for Markdown pages. All from the document."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.catalogue import CONTENDERS, METRICS
from bench.document import Document, Metric, advantage, best_peer, median
from bench.targets import outcomes

NOBODY = "–"
TITLES = {
    "cnm": "cnm",
    "docker": "Docker Engine",
    "netavark": "netavark",
    "cni": "CNI plugins",
    "floor": "kernel alone",
}
_NEITHER = 0.05  # a ratio so near to 1 is no difference


def figure(value: float | None) -> str:
    """Three digits that count."""
    if value is None:
        return NOBODY
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def verdict(metric: Metric) -> str:
    """Us against the best peer, in words."""
    ratio = advantage(metric, best_peer(metric))
    if ratio is None:
        return NOBODY
    if abs(ratio - 1) < _NEITHER:
        return "the same"
    if metric["unit"] == "MB":
        better, worse = "smaller", "larger"
    else:
        better, worse = "faster", "slower"
    return f"{ratio:.1f}x {better}" if ratio > 1 else f"{1 / ratio:.1f}x {worse}"


def text(metrics: Sequence[Metric]) -> str:
    """For the terminal: medians, our spread, and what they are beside one another."""
    rows = [["metric", "unit", "better", *CONTENDERS, "our min-max", "runs", "best peer", "floor"]]
    for metric in metrics:
        own = metric.get("cnm")
        spread = f"{figure(own['min'])}-{figure(own['max'])}" if own else NOBODY
        above = advantage(metric, median(metric, "floor"))
        rows.append(
            [
                metric["name"],
                metric["unit"],
                metric["better"],
                *(figure(median(metric, name)) for name in CONTENDERS),
                spread,
                str(own["runs"]) if own else NOBODY,
                verdict(metric),
                f"{1 / above:.1f}x" if above else NOBODY,
            ]
        )
    return _aligned(rows)


def targets_text(metrics: Sequence[Metric]) -> str:
    """For the terminal: what we want to reach."""
    rows = [["target", "wanted", "is", ""]]
    for outcome in outcomes(metrics):
        target = outcome.target
        bound = f"{figure(outcome.bound)} {outcome.unit} ({target.words})"
        rows.append(
            [
                target.metric,
                bound,
                f"{figure(outcome.value)} {outcome.unit}",
                "reached" if outcome.reached else "missed",
            ]
        )
    return _aligned(rows)


def markdown(document: Document) -> str:
    """The table of the README."""
    metrics = document["metrics"]
    present = [name for name in CONTENDERS if any(name in metric for metric in metrics)]
    head = ["median", *(TITLES[name] for name in present), "cnm beside the best peer"]
    rows = [
        [
            f"{METRICS[metric['name']].words} ({metric['unit']}, {metric['better']} is better)",
            *(figure(median(metric, name)) for name in present),
            verdict(metric),
        ]
        for metric in metrics
    ]
    return f"{_markdown(head, rows)}\n\n{origin(document)}"


def targets_markdown(document: Document) -> str:
    """The table of what we want to reach."""
    rows = [
        [
            f"`{outcome.target.metric}`",
            f"{outcome.target.words}: {figure(outcome.bound)} {outcome.unit}",
            f"{figure(outcome.value)} {outcome.unit}",
            "yes" if outcome.reached else "**no**",
        ]
        for outcome in outcomes(document["metrics"])
    ]
    table = _markdown(["metric", "wanted", "median", "reached"], rows)
    return f"{table}\n\n{origin(document)}"


def origin(document: Document) -> str:
    """When, where, beside what."""
    machine = document["machine"]
    versions = machine["versions"]
    beside = ", ".join(
        f"{TITLES[name]} {versions[name]}" for name in CONTENDERS if name in versions
    )
    return (
        f"One run of `make bench` on {machine['date']}: {machine['cpus']} CPUs"
        f" ({machine['cpu']}), Linux {machine['kernel']}, {machine['system']},"
        f" Python {machine['python']}; {beside}. {NOBODY}: it has no such thing."
    )


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """First column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if number == 0 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
