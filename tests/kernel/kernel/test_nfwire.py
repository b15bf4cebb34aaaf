"""nf_tables messages of our own packing, judged by the nft command; and the other way round."""

from __future__ import annotations

import errno

import pytest
from kernel.namespaces import Namespace

from cnm.errors import KernelError
from cnm.runtime.kernel import nfwire
from cnm.runtime.kernel.nfwire import WireRule, WireTable

pytestmark = [pytest.mark.kernel, pytest.mark.both_kernels]

TABLE = WireTable(
    nfwire.IPV4,
    "cnmt",
    "rewrite",
    nfwire.OUTPUT,
    nfwire.RAW,
    (
        WireRule(
            (
                *nfwire.network_field_is(16, bytes([10, 1, 2, 3])),
                *nfwire.protocol_is(17),
                *nfwire.transport_field_is(2, bytes([0, 53])),
                *nfwire.untracked(),
                *nfwire.set_transport_field(2, bytes([4, 1]), checksum_at=6),
            ),
            "a comment",
        ),
        WireRule(nfwire.protocol_is(6)),
    ),
)
TEXT = """\
table ip cnmt {
	chain rewrite {
		type filter hook output priority raw; policy accept;
		ip daddr 10.1.2.3 udp dport 53 notrack udp dport set 1025 comment "a comment"
		meta l4proto tcp
	}
}
"""


def ruleset(namespace: Namespace) -> str:
    return namespace.run("nft", "list", "ruleset")


def test_a_table_is_made_and_goes(host_ns: Namespace) -> None:
    assert not nfwire.exists(nfwire.IPV4, "cnmt")
    nfwire.add(TABLE)
    assert ruleset(host_ns) == TEXT
    assert nfwire.exists(nfwire.IPV4, "cnmt")
    assert nfwire.comments(TABLE) == ["a comment", ""]
    nfwire.delete(nfwire.IPV4, "cnmt")
    nfwire.delete(nfwire.IPV4, "cnmt")
    assert ruleset(host_ns) == ""
    assert nfwire.comments(TABLE) == []


def test_one_that_is_there_is_not_made_twice(host_ns: Namespace) -> None:
    host_ns.run("nft", "add table ip cnmt; add chain ip cnmt other")
    before = ruleset(host_ns)
    with pytest.raises(KernelError) as caught:
        nfwire.add(TABLE)
    assert caught.value.errno == errno.EEXIST
    assert ruleset(host_ns) == before
    nfwire.replace(TABLE)
    assert ruleset(host_ns) == TEXT


def test_what_others_did_to_it_is_seen(host_ns: Namespace) -> None:
    nfwire.add(TABLE)
    host_ns.run("nft", "flush", "chain", "ip", "cnmt", "rewrite")
    assert nfwire.comments(TABLE) == []
    host_ns.run("nft", 'add rule ip cnmt rewrite drop comment "of others"')
    assert nfwire.comments(TABLE) == ["of others"]
    nfwire.replace(TABLE)
    assert ruleset(host_ns) == TEXT


def test_a_refused_table_leaves_nothing(host_ns: Namespace) -> None:
    wrong = WireTable(nfwire.IPV4, "cnmt", "rewrite", 99, nfwire.RAW, TABLE.rules)
    with pytest.raises(KernelError):
        nfwire.add(wrong)
    assert ruleset(host_ns) == ""
