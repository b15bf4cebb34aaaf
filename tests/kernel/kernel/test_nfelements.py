"""Elements of our own packing, judged by the nft command, beside what libnftables makes of them."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import pytest
from kernel.namespaces import Namespace, NamespaceFactory

from cnm.errors import KernelError
from cnm.runtime.kernel import nfelements, nfwire
from cnm.runtime.kernel.netns import NetNS
from cnm.runtime.kernel.nft import Batch, LibNft, Map, Set, Table
from cnm.runtime.kernel.nftgen import generation

pytestmark = [pytest.mark.kernel, pytest.mark.both_kernels]

_SERVICE = "inet_service"
KINDS: dict[str, Set | Map] = {
    kind.name: kind
    for kind in (
        Set("open4", ("inet_proto", "ipv4_addr", _SERVICE)),
        Set("open6", ("inet_proto", "ipv6_addr", _SERVICE)),
        Set("numbers", ("inet_proto", _SERVICE)),
        Set("hosts", ("ipv4_addr",)),
        Set("single", (_SERVICE,)),
        Set("bridges", ("ifname",)),
        Map("any4", ("inet_proto", _SERVICE), ("ipv4_addr", _SERVICE), counter=True),
        Map("one6", ("inet_proto", "ipv6_addr", _SERVICE), ("ipv6_addr", _SERVICE)),
        Map("ranges", ("inet_proto", _SERVICE), ("ipv4_addr",), flags=("interval",)),
    )
}
TABLE = Table(
    "inet",
    "cnmt",
    sets=tuple(kind for kind in KINDS.values() if isinstance(kind, Set)),
    maps=tuple(kind for kind in KINDS.values() if isinstance(kind, Map)),
)
ELEMENTS = (
    ("open4", "udp . 10.1.2.3 . 53", None),
    ("open6", "sctp . fd00::2 . 65535", None),
    ("numbers", "tcp . 1", None),
    ("numbers", "tcp . 8080", None),
    ("hosts", "192.0.2.7", None),
    ("any4", "tcp . 5005", "10.1.2.3 . 80"),
    ("any4", "udp . 5005", "10.1.2.4 . 81"),
    ("one6", "tcp . 2001:db8::1 . 443", "fd00::2 . 8443"),
)


def batch(*elements: tuple[str, str, str | None], known: bool = True) -> Batch:
    made = Batch("inet", "cnmt", kinds=KINDS if known else {})
    for element in elements:
        made.add(*element)
    return made


@pytest.fixture
def nft(host_ns: Namespace) -> Iterator[LibNft]:
    opened = LibNft()
    opened.replace(TABLE)
    yield opened
    opened.close()


def shown(namespace: Namespace) -> str:
    return namespace.run("nft", "list", "ruleset")


def test_the_kernel_holds_what_libnftables_would_have_written(
    host_ns: Namespace, nft: LibNft
) -> None:
    empty = shown(host_ns)
    texts = []
    for known in (False, True):
        made = batch(*ELEMENTS, known=known)
        assert (nfelements.packed(made) is not None) is known
        before = generation()
        for _ in range(2):  # again is fine
            nft.apply(made)
        assert generation() == before + 1
        texts.append(shown(host_ns))
        for _ in range(2):
            nft.apply(made.reversed())
        assert shown(host_ns) == empty
    assert texts[0] == texts[1]
    assert "tcp . 2001:db8::1 . 443 : fd00::2 . 8443" in texts[1]
    assert "tcp . 5005 counter packets 0 bytes 0 : 10.1.2.3 . 80" in texts[1]


def test_all_of_a_batch_or_nothing(host_ns: Namespace, nft: LibNft) -> None:
    nft.apply(batch(("any4", "tcp . 5005", "10.1.2.3 . 80")))
    before = shown(host_ns)
    wrong = batch(("any4", "tcp . 1", "10.1.2.3 . 80"), ("any4", "tcp . 5005", "10.9.9.9 . 80"))
    for _ in range(2):  # what was said of the first is no answer to the second
        with pytest.raises(KernelError) as caught:
            nft.apply(wrong)
        assert caught.value.errno in (errno.EBUSY, errno.EEXIST)  # kernels differ
        assert shown(host_ns) == before
    nft.apply(batch(("any4", "tcp . 5005", "10.1.2.3 . 80")).reversed())
    assert nft.elements("inet", "cnmt", "any4") == set()


def test_several_refusals_are_not_the_next_answer(nft: LibNft) -> None:
    nft.apply(batch(("any4", "tcp . 1", "10.1.1.1 . 1"), ("any4", "udp . 1", "10.1.1.1 . 1")))
    absent: dict[str, Set | Map] = {"absent": KINDS["numbers"], "any4": KINDS["any4"]}
    wrong = (
        Batch("inet", "cnmt", kinds=absent)
        .add("absent", "tcp . 1")
        .add("any4", "tcp . 1", "10.1.1.2 . 1")
    )
    with pytest.raises(KernelError) as caught:
        nft.apply(wrong.add("absent", "tcp . 2"))
    assert caught.value.errno == errno.ENOENT
    nft.apply(batch(("numbers", "tcp . 7", None)))
    assert nft.elements("inet", "cnmt", "numbers") == {"tcp . 7"}


def test_a_table_that_was_flushed_is_told(nft: LibNft) -> None:
    nft.delete("inet", "cnmt")
    with pytest.raises(KernelError) as caught:
        nft.apply(batch(*ELEMENTS))
    assert caught.value.errno == errno.ENOENT


@pytest.mark.parametrize("number", [499, 500, 501, 1000, 1001, 3000])
def test_many(nft: LibNft, number: int) -> None:
    """More than a message holds, and more than a transaction of ours does."""
    many = [("any4", f"tcp . {port}", "10.1.2.3 . 80") for port in range(1, number + 1)]
    made = batch(*many)
    assert (nfelements.packed(made) is None) is (number > 1000)
    nft.apply(made)
    assert nft.elements("inet", "cnmt", "any4") == {f"{key} : {value}" for _, key, value in many}
    nft.apply(made.reversed())
    assert nft.elements("inet", "cnmt", "any4") == set()


def test_a_host_whose_sockets_are_small(nft: LibNft, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a small net.core.wmem_default, too: what does not fit at once comes and goes."""
    opened = nfwire.opened

    def small() -> socket.socket:
        link = opened()
        link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        return link

    monkeypatch.setattr(nfwire, "opened", small)
    many = batch(*(("any4", f"tcp . {port}", "10.1.2.3 . 80") for port in range(1, 501)))
    assert nfelements.packed(many) is not None
    nft.apply(many)
    assert len(nft.elements("inet", "cnmt", "any4")) == 500
    nft.apply(many.reversed())
    assert nft.elements("inet", "cnmt", "any4") == set()


@pytest.mark.parametrize(
    "element",
    [
        ("bridges", '"br-1"', None),
        ("ranges", "tcp . 80-90", "10.1.2.3"),
        ("numbers", "tcp . https", None),
        ("single", "80", None),
    ],
    ids=["names", "intervals", "words", "alone"],
)
def test_what_cannot_be_packed_goes_through_libnftables(
    nft: LibNft, element: tuple[str, str, str | None]
) -> None:
    made = batch(("numbers", "tcp . 80", None), element)
    assert nfelements.packed(made) is None
    nft.apply(made)
    assert nft.elements("inet", "cnmt", "numbers") >= {"tcp . 80"}
    nft.apply(made.reversed())
    assert nft.elements("inet", "cnmt", element[0]) == set()


@pytest.mark.parametrize(
    "element",
    [
        ("numbers", "tcp . 65536", None),
        ("numbers", "tcp . 80 . 80", None),
        ("any4", "tcp . 80", "fd00::2 . 80"),
        ("any4", "80", "10.1.2.3 . 80"),
        ("any4", "tcp . 80", None),
        ("open4", "tcp . 10.1.2 . 80", None),
    ],
)
def test_what_makes_no_sense_is_refused_by_nft(
    nft: LibNft, element: tuple[str, str, str | None]
) -> None:
    made = batch(element)
    assert nfelements.packed(made) is None
    with pytest.raises(KernelError, match="cnmt"):
        nft.apply(made)


@pytest.mark.usefixtures("leaves_nothing")
def test_another_namespace(host_ns: Namespace, make_ns: NamespaceFactory) -> None:
    box = make_ns("box")
    with NetNS(box.path) as inside:
        nft = LibNft(inside)
        nft.replace(TABLE)
        nft.apply(batch(*ELEMENTS))
        assert nft.elements("inet", "cnmt", "numbers") == {"tcp . 1", "tcp . 8080"}
        nft.close()
    assert "sctp . fd00::2 . 65535" in shown(box)
    assert shown(host_ns) == ""
