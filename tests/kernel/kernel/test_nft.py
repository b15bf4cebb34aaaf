"""nftables through the library, judged by the nft command."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest
from kernel.namespaces import Namespace, NamespaceFactory

from cnm.errors import KernelError
from cnm.runtime.kernel.netns import NetNS
from cnm.runtime.kernel.nft import Batch, Chain, Hook, LibNft, Map, Rule, Set, Table
from cnm.runtime.kernel.nftgen import Generations, generation

pytestmark = [pytest.mark.kernel, pytest.mark.both_kernels]

TABLE = Table(
    "inet",
    "cnmt",
    sets=(
        Set("bridges", ("ifname",), ('"br-1"', '"br-2"'), 'ours, "all" of them'),
        Set("ports", ("ifname", "inet_service", "nf_proto"), ('"br-1" . 80 . ipv4',)),
        Set("ranges", ("ipv4_addr",), ("10.0.0.0/8", "11.0.0.1-11.0.0.5"), flags=("interval",)),
    ),
    maps=(
        Map(
            "published",
            ("inet_proto", "inet_service"),
            ("ipv4_addr", "inet_service"),
            (("tcp . 80", "10.1.1.1 . 8080"),),
        ),
        Map("verdicts", ("ifname",), ("verdict",), (('"a"', "jump drops"), ('"b"', "accept"))),
    ),
    chains=(
        Chain(
            "forward",
            (
                Rule('iifname "drop" oifname @bridges jump drops', "counted", counter=True),
                Rule("iifname vmap @verdicts", counter=True),
            ),
            type="filter",
            hook="forward",
            priority="filter",
            policy="accept",
        ),
        Chain("drops", (Rule("drop"),)),
    ),
    comment="a test's",
)


@pytest.fixture
def nft(host_ns: Namespace) -> Iterator[LibNft]:
    opened = LibNft()
    yield opened
    opened.close()


def shown(namespace: Namespace) -> str:
    return namespace.run("nft", "list", "ruleset")


def test_a_table_is_as_it_was_written(host_ns: Namespace, nft: LibNft) -> None:
    nft.replace(TABLE)
    text = shown(host_ns)
    assert 'iifname "drop" oifname @bridges counter packets 0 bytes 0 jump drops' in text
    assert "counter packets 0 bytes 0 iifname vmap @verdicts" in text
    assert "type filter hook forward priority filter; policy accept;" in text
    assert "comment \"ours, 'all' of them\"" in text
    assert 'comment "a test\'s"' in text
    assert nft.list("inet", "cnmt").strip() == text.replace(" packets 0 bytes 0", "").strip()
    assert nft.tables() == [("inet", "cnmt")]


def test_a_table_is_replaced_whole(host_ns: Namespace, nft: LibNft) -> None:
    nft.replace(TABLE)
    once = shown(host_ns)
    nft.replace(TABLE)
    assert shown(host_ns) == once
    nft.replace(Table("inet", "cnmt", chains=(Chain("other"),)))
    assert "bridges" not in shown(host_ns)


def test_what_nft_refuses_changes_nothing(host_ns: Namespace, nft: LibNft) -> None:
    nft.replace(TABLE)
    before = shown(host_ns)
    for rule, number in (("bogus words", errno.EINVAL), ("jump nowhere", errno.ENOENT)):
        with pytest.raises(KernelError) as caught:
            nft.replace(Table("inet", "cnmt", chains=(Chain("c", (Rule(rule),)),)))
        assert caught.value.errno == number
        assert str(caught.value).startswith("replacing nft table inet cnmt: ")
        assert "\n" not in str(caught.value)
    with pytest.raises(KernelError) as caught:
        nft.apply(Batch("inet", "cnmt").add("bridges", '"new"').add("absent", '"x"'))
    assert caught.value.errno == errno.ENOENT
    assert shown(host_ns) == before


def test_elements_come_back_as_they_were_given(nft: LibNft) -> None:
    nft.replace(TABLE)
    for item in TABLE.sets:
        assert nft.elements("inet", "cnmt", item.name) == set(item.elements)
    for mapped in TABLE.maps:
        pairs = {f"{key} : {value}" for key, value in mapped.elements}
        assert nft.elements("inet", "cnmt", mapped.name) == pairs
    with pytest.raises(KernelError) as caught:
        nft.elements("inet", "cnmt", "absent")
    assert caught.value.errno == errno.ENOENT


def test_an_empty_set_has_no_elements(nft: LibNft) -> None:
    nft.replace(
        Table(
            "inet",
            "cnmt",
            sets=(Set("none", ("ifname",)),),
            maps=(Map("nothing", ("ifname",), ("ipv4_addr",)),),
        )
    )
    assert nft.elements("inet", "cnmt", "none") == set()
    assert nft.elements("inet", "cnmt", "nothing") == set()


def test_a_batch_can_be_repeated_and_reversed(host_ns: Namespace, nft: LibNft) -> None:
    nft.replace(TABLE)
    before = shown(host_ns)
    batch = (
        Batch("inet", "cnmt")
        .add("bridges", '"br-3"')
        .add("published", "udp . 53", "10.1.1.2 . 53")
        .remove("bridges", '"br-2"')
        .remove("published", "tcp . 80", "10.1.1.1 . 8080")
    )
    for _ in range(2):
        nft.apply(batch)
        assert nft.elements("inet", "cnmt", "bridges") == {'"br-1"', '"br-3"'}
        assert nft.elements("inet", "cnmt", "published") == {"udp . 53 : 10.1.1.2 . 53"}
    nft.apply(batch.reversed())
    assert shown(host_ns) == before


def test_an_empty_batch_is_no_transaction(host_ns: Namespace, nft: LibNft) -> None:
    nft.replace(TABLE)
    before = generation()
    nft.apply(Batch("inet", "cnmt"))
    assert generation() == before
    nft.apply(Batch("inet", "cnmt").add("bridges", '"br-9"'))
    assert generation() == before + 1


def test_a_generation_asked_for_by_one_socket(host_ns: Namespace, nft: LibNft) -> None:
    generations = Generations()
    for _ in range(2):  # closed, it opens another
        assert generations.current() == generation()
        nft.replace(TABLE)
        assert generations.current() == generation()
        generations.close()


def test_a_missing_table(nft: LibNft) -> None:
    assert nft.list("inet", "absent") == ""
    nft.delete("inet", "absent")
    assert nft.tables() == []


def test_a_deleted_table_leaves_others_alone(host_ns: Namespace, nft: LibNft) -> None:
    host_ns.run("nft", "add table ip theirs")
    nft.replace(TABLE)
    nft.delete("inet", "cnmt")
    assert shown(host_ns).split() == "table ip theirs { }".split()


@pytest.mark.usefixtures("leaves_nothing")
def test_another_namespace(host_ns: Namespace, make_ns: NamespaceFactory) -> None:
    box = make_ns("box")
    with NetNS(box.path) as inside:
        nft = LibNft(inside)
        nft.replace(TABLE)
        assert nft.tables() == [("inet", "cnmt")]
        nft.close()
    assert "cnmt" in shown(box)
    assert shown(host_ns) == ""


# chains of ours in tables of others


def test_a_jump_stands_behind_all_but_the_closing_rules(host_ns: Namespace, nft: LibNft) -> None:
    host_ns.run("nft", "add table ip other; add chain ip other one; add chain ip other two")
    for base in ("one", "two"):
        host_ns.run("nft", f"add rule ip other {base} tcp dport 1 counter accept")
        host_ns.run("nft", f"add rule ip other {base} counter drop")
    hooks = (Hook("one", ("drop",)), Hook("two"))
    ours = ("ip", "other", "OURS")
    with pytest.raises(KernelError) as gone:
        nft.rules(*ours)
    assert gone.value.errno == errno.ENOENT
    before = host_ns.run("nft", "-s", "list", "ruleset")
    nft.hook_chain(*ours, ['iifname "a" accept'], hooks)
    assert nft.is_hooked(*ours, hooks)
    assert nft.rules(*ours) == ['iifname "a" accept']
    assert nft.rules("ip", "other", "one") == ["tcp dport 1 accept", "jump OURS", "drop"]
    assert nft.rules("ip", "other", "two") == ["tcp dport 1 accept", "drop", "jump OURS"]
    assert not nft.is_hooked(*ours, (hooks[0], Hook("two", ("drop",))))
    nft.unhook_chain(*ours)
    nft.unhook_chain(*ours)
    assert host_ns.run("nft", "-s", "list", "ruleset") == before


@pytest.mark.parametrize(
    "change",
    [
        "add rule ip other one tcp dport 2 accept",  # behind ours
        "insert rule ip other one jump OURS",  # twice
        "flush chain ip other one",
    ],
)
def test_a_jump_is_put_back_to_its_place(change: str, host_ns: Namespace, nft: LibNft) -> None:
    host_ns.run("nft", "add table ip other; add chain ip other one")
    host_ns.run("nft", "add rule ip other one tcp dport 1 accept")
    hooks, ours = (Hook("one", ("drop",)),), ("ip", "other", "OURS")
    nft.hook_chain(*ours, [], hooks)
    host_ns.run("nft", change)
    assert not nft.is_hooked(*ours, hooks)
    nft.hook_chain(*ours, [], hooks)
    assert nft.is_hooked(*ours, hooks)
    assert nft.rules("ip", "other", "one")[-1] == "jump OURS"
