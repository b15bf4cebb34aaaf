"""Tables and batches as text."""

from __future__ import annotations

import pytest

from cnm.runtime.kernel.nfttext import Batch, Chain, Map, Rule, Set, Table


def test_a_table() -> None:
    table = Table(
        "inet",
        "cnm-x",
        sets=(Set("s", ("ifname", "inet_service"), ('"a" . 80', '"b" . 81'), "why"),),
        maps=(
            Map("m", ("ifname",), ("ipv4_addr",), (('"a"', "10.0.0.1"),)),
            Map("e", ("mark",), ("verdict",)),
        ),
        chains=(
            Chain("f", (Rule("accept", "all"),), "filter", "forward", "-5", "drop"),
            Chain("empty"),
        ),
        comment="ours",
    )
    assert table.render() == (
        "table inet cnm-x {\n"
        '\tcomment "ours"\n'
        "\tset s {\n"
        "\t\ttype ifname . inet_service\n"
        '\t\tcomment "why"\n'
        '\t\telements = { "a" . 80, "b" . 81 }\n'
        "\t}\n"
        "\tmap m {\n"
        "\t\ttype ifname : ipv4_addr\n"
        '\t\telements = { "a" : 10.0.0.1 }\n'
        "\t}\n"
        "\tmap e {\n"
        "\t\ttype mark : verdict\n"
        "\t}\n"
        "\tchain f {\n"
        "\t\ttype filter hook forward priority -5; policy drop;\n"
        '\t\taccept comment "all"\n'
        "\t}\n"
        "\tchain empty {\n"
        "\t}\n"
        "}\n"
    )


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        ("drop", "counter drop"),
        ("iifname @a accept", "iifname @a counter accept"),
        ('iifname "drop" jump x', 'iifname "drop" counter jump x'),
        ("oifname @a snat ip to 10.0.0.1", "oifname @a counter snat ip to 10.0.0.1"),
        ("iifname vmap @v", "counter iifname vmap @v"),
    ],
)
def test_a_counter_stands_before_the_verdict(text: str, counted: str) -> None:
    assert Rule(text, counter=True).line() == counted


def test_a_quotation_mark_cannot_end_a_comment() -> None:
    assert Rule("drop", 'x" accept comment "y').line() == "drop comment \"x' accept comment 'y\""


def test_a_batch_joins_neighbours_and_keeps_the_order() -> None:
    batch = Batch("inet", "t").add("s", "1").add("s", "2").remove("m", "3", "4").add("s", "5")
    assert batch.render() == (
        "add element inet t s { 1, 2 }\n"
        "add element inet t m { 3 : 4 }\n"
        "delete element inet t m { 3 }\n"
        "add element inet t s { 5 }\n"
    )


def test_a_batch_reversed_twice_is_itself() -> None:
    batch = Batch("inet", "t").add("s", "1").remove("m", "3", "4")
    assert batch.reversed().render() == (
        "add element inet t m { 3 : 4 }\n"
        "add element inet t s { 1 }\n"
        "delete element inet t s { 1 }\n"
    )
    assert batch.reversed().reversed() == batch


def test_an_empty_batch_is_false() -> None:
    assert not Batch("inet", "t")
    assert Batch("inet", "t").render() == ""
    assert Batch("inet", "t").add("s", "1")


def test_what_only_looks_like_a_verdict() -> None:
    rule = Rule("ct status dnat oifname @some masquerade", counter=True)
    assert rule.line() == "ct status dnat oifname @some counter masquerade"
    rule = Rule("icmpv6 type { nd-router-advert, nd-redirect } drop", counter=True)
    assert rule.line() == "icmpv6 type { nd-router-advert, nd-redirect } counter drop"


def test_elements_that_count() -> None:
    ports = Map("ports", ("inet_service",), ("ipv4_addr",), counter=True)
    assert [line.strip() for line in ports.lines()] == [
        "map ports {",
        "type inet_service : ipv4_addr",
        "counter",
        "}",
    ]
