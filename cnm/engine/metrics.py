"""The daemon's numbers in Prometheus' text format (version 0.0.4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import cnm
from cnm.core.facade import Core

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_ANSWERS = {
    "answered": "with addresses or names of ours",
    "nodata": "names of ours without that type",
    "forwarded": "asked of another server",
    "refused": "REFUSED, NOTIMP, BADVERS",
    "malformed": "FORMERR",
    "unavailable": "SERVFAIL: nobody may be asked, or too much is under way",
    "dropped": "no answer at all",
}
_FURTHER = {
    "truncated": "Answers that did not fit the client's UDP size.",
    "tcp_connections": "TCP connections accepted.",
    "tcp_closed_by_us": "TCP connections closed for being slow, many or wrong.",
}
_FORWARDING = {
    "asked_upstream": "Questions that went out.",
    "joined": "Questions answered by the answer to another's.",
    "from_cache": "Questions answered from the cache.",
    "stale": "Questions answered out of date, for want of a server.",
    "failed": "Questions that no server answered.",
    "second_server": "Questions put to a further server.",
    "over_tcp": "Questions put over TCP.",
    "ignored": "Datagrams that were no answer to what was asked.",
}


def render(core: Core) -> str:
    """All metrics. Those of the resolver are absent while none runs."""
    lines = [*_overview(core), *_resolver(core.names.statistics())]
    return "".join(f"{line}\n" for line in lines)


def _overview(core: Core) -> Iterator[str]:
    yield from _head("cnm_info", "gauge", "The daemon's version.")
    yield f'cnm_info{{version="{cnm.__version__}"}} 1'
    yield from _head("cnm_networks", "gauge", "Networks, by driver.")
    drivers = Counter(network.driver for network in core.networks.all())
    yield from (f'cnm_networks{{driver="{key}"}} {drivers[key]}' for key in sorted(drivers))
    yield from _head("cnm_containers", "gauge", "Containers, by state.")
    states = Counter(str(record.status) for record in core.containers.everything())
    yield from (f'cnm_containers{{state="{key}"}} {states[key]}' for key in sorted(states))


def _resolver(found: Mapping[str, Any]) -> Iterator[str]:
    if not found:
        return
    total, forwarding = found["total"], found["forwarding"]
    yield from _head("cnm_dns_queries_total", "counter", "Messages that arrived.")
    yield f"cnm_dns_queries_total {total['queries']}"
    yield from _head("cnm_dns_answers_total", "counter", f"What became of them: {_kinds()}.")
    yield from (f'cnm_dns_answers_total{{kind="{kind}"}} {total[kind]}' for kind in _ANSWERS)
    for key, text in _FURTHER.items():
        yield from _head(f"cnm_dns_{key}_total", "counter", text)
        yield f"cnm_dns_{key}_total {total[key]}"
    for key, text in _FORWARDING.items():
        yield from _head(f"cnm_dns_forwarding_{key}_total", "counter", text)
        yield f"cnm_dns_forwarding_{key}_total {forwarding[key]}"
    yield from _head("cnm_dns_sandboxes", "gauge", "Sandboxes that are served.")
    yield f"cnm_dns_sandboxes {len(found['sandboxes'])}"
    yield from _latency(found["latency"])


def _latency(kinds: Mapping[str, Any]) -> Iterator[str]:
    name = "cnm_dns_latency_seconds"
    text = "From reading a query to its answer: local from names of ours, upstream from others."
    yield from _head(name, "histogram", text)
    for kind, found in kinds.items():
        label, below = f'from="{kind}"', 0
        for bound, number in zip(found["bounds_s"], found["buckets"], strict=False):
            below += number
            yield f'{name}_bucket{{{label},le="{bound:g}"}} {below}'
        count = sum(found["buckets"])
        yield f'{name}_bucket{{{label},le="+Inf"}} {count}'
        yield f"{name}_sum{{{label}}} {found['sum_s']:.6f}"
        yield f"{name}_count{{{label}}} {count}"


def _head(name: str, kind: str, text: str) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"


def _kinds() -> str:
    return "; ".join(f"{kind}: {text}" for kind, text in _ANSWERS.items())
