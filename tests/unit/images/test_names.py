"""Docker's names of images: grammar, defaults, texts."""

import pytest

from cnm.errors import Forbidden, InvalidParameter
from cnm.runtime.container.imagename import id_prefix, parse, parse_target, whole_id

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("x", "x:latest"),
        ("x:1.2", "x:1.2"),
        ("x:V_1-a.b", "x:V_1-a.b"),
        ("library/x", "x:latest"),
        ("docker.io/x", "x:latest"),
        ("docker.io/library/x:1", "x:1"),
        ("index.docker.io/library/x", "x:latest"),
        ("docker.io/user/x", "user/x:latest"),
        ("library/user/x", "library/user/x:latest"),
        ("user/x", "user/x:latest"),
        ("localhost/x", "localhost/x:latest"),
        ("localhost:5000/x:1", "localhost:5000/x:1"),
        ("Reg.example/x", "Reg.example/x:latest"),
        ("UPPER/x", "UPPER/x:latest"),
        ("[::1]:5000/x", "[::1]:5000/x:latest"),
        ("a.b/c/d__e.f-g:t", "a.b/c/d__e.f-g:t"),
        (f"x@sha256:{HEX}", f"x@sha256:{HEX}"),
        (f"x:1@sha256:{HEX}", f"x:1@sha256:{HEX}"),
        ("x:" + "t" * 128, "x:" + "t" * 128),
    ],
)
def test_familiar(text: str, shown: str) -> None:
    assert str(parse(text).with_tag()) == shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "invalid reference format"),
        (":tag", "invalid reference format"),
        ("x:", "invalid reference format"),
        ("x y", "invalid reference format"),
        ("x\n", "invalid reference format"),
        ("-x", "invalid reference format"),
        ("x..y", "invalid reference format"),
        ("x/../y", "invalid reference format"),
        ("/x", "invalid reference format"),
        ("x/", "invalid reference format"),
        ("ä", "invalid reference format"),
        ("x:" + "t" * 129, "invalid reference format"),
        ("x@sha256:abc", "invalid reference format"),
        ("X", "invalid reference format: repository name (library/X) must be lowercase"),
        ("user/Xy:1", "invalid reference format: repository name (user/Xy) must be lowercase"),
        (f"x@sha256:{HEX}0", "invalid checksum digest length"),
        (f"x@sha256:{HEX.upper()}", "invalid checksum digest format"),
        (f"x@md5:{HEX}", "unsupported digest algorithm"),
        (
            HEX,
            f"invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings",
        ),
        ("a" * 256, "repository name must not be more than 255 characters"),
        ("a" * 5000, "repository name must not be more than 255 characters"),
    ],
    ids=lambda text: ascii(text)[:40],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        parse(text)
    assert str(caught.value) == message


@pytest.mark.parametrize("text", ["host", "host:latest", "host:1", "docker.io/library/host"])
def test_host_is_reserved(text: str) -> None:
    with pytest.raises(Forbidden, match='"host" is reserved'):
        parse_target(text, "")


def test_other_hosts_are_not() -> None:
    assert str(parse_target("user/host", "")) == "user/host:latest"


def test_ids() -> None:
    assert whole_id(HEX) == whole_id(f"sha256:{HEX}") == f"sha256:{HEX}"
    assert whole_id(HEX[:-1]) is None
    assert id_prefix("0123") == id_prefix("sha256:0123") == "sha256:0123"
    assert id_prefix("012x") is id_prefix("") is id_prefix("0123\n") is None
