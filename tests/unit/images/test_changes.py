"""The instructions of `cnm import --change`."""

import pytest

from cnm.errors import InvalidParameter
from cnm.imageapi import ImageConfig
from cnm.runtime.container.imagechanges import apply_changes


@pytest.mark.parametrize(
    ("changes", "config"),
    [
        (['CMD ["sh", "-c", "a b"]'], ImageConfig(cmd=("sh", "-c", "a b"))),
        (["CMD sleep 1d"], ImageConfig(cmd=("/bin/sh", "-c", "sleep 1d"))),
        (["cmd []"], ImageConfig()),
        (["CMD [not json"], ImageConfig(cmd=("/bin/sh", "-c", "[not json"))),
        (['ENTRYPOINT ["/x"]', "CMD y"],
         ImageConfig(entrypoint=("/x",), cmd=("/bin/sh", "-c", "y"))),
        (["ENV A=1 B='2 3' C=\"4 $A\" D=\\$x"], ImageConfig(env=("A=1", "B=2 3", "C=4 ", "D=$x"))),
        (["ENV A=1", "ENV B=$A${A}x C=${N:-d} D=${A:+e} A=2"],
         ImageConfig(env=("B=11x", "C=d", "D=e", "A=2"))),
        (["ENV A some words"], ImageConfig(env=("A=some words",))),
        (["ENV A='$B' "], ImageConfig(env=("A=$B",))),
        (["LABEL a=b c.d='e f'", "LABEL a=g"], ImageConfig(labels={"a": "g", "c.d": "e f"})),
        (["EXPOSE 80 53/UDP 8000-8002"],
         ImageConfig(exposed_ports=("80/tcp", "53/udp", "8000/tcp", "8001/tcp", "8002/tcp"))),
        (["USER nobody:users"], ImageConfig(user="nobody:users")),
        (["WORKDIR /a", "WORKDIR b/../c"], ImageConfig(working_dir="/a/c")),
        (["WORKDIR a"], ImageConfig(working_dir="/a")),
        (['VOLUME ["/a", "/b"]', "VOLUME /b /c"], ImageConfig(volumes=("/a", "/b", "/c"))),
        (["STOPSIGNAL SIGQUIT"], ImageConfig(stop_signal="SIGQUIT")),
        (["STOPSIGNAL RTMIN+3"], ImageConfig(stop_signal="RTMIN+3")),
        (["STOPSIGNAL 9"], ImageConfig(stop_signal="9")),
        (["USER a\n\nWORKDIR /b"], ImageConfig(user="a", working_dir="/b")),
        ([], ImageConfig()),
    ],
)  # fmt: skip
def test_applied(changes: list[str], config: ImageConfig) -> None:
    assert apply_changes(changes) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("FROM x", "FROM is not a valid change command"),
        ("HEALTHCHECK CMD x", "HEALTHCHECK is not a valid change command"),
        ("\x1b[2J x", "\\x1b[2J is not a valid change command"),
        ("CMD", "CMD requires at least one argument"),
        ("USER a b", "USER requires exactly one argument"),
        ("WORKDIR ''", "WORKDIR requires exactly one argument"),
        ("ENV A", "ENV must have two arguments"),
        ("ENV A=1 B", 'Syntax error - can\'t find = in "B". Must be of the form: name=value'),
        ("ENV =1", "ENV names can not be blank"),
        ("LABEL a='b", "unexpected end of statement while looking for matching '"),
        ("EXPOSE x", "Invalid containerPort: x"),
        ("EXPOSE 0", "Invalid containerPort: 0"),
        ("EXPOSE 65536", "Invalid containerPort: 65536"),
        ("EXPOSE 9-8", "Invalid containerPort: 9-8"),
        ("EXPOSE 80/icmp", "Invalid containerPort: 80/icmp"),
        ("STOPSIGNAL NOPE", "Invalid signal: NOPE"),
        ("STOPSIGNAL 65", "Invalid signal: 65"),
        ('VOLUME [""]', "VOLUME specified can not be an empty string"),
    ],
)
def test_refused(change: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        apply_changes(["USER x", change])
    assert str(caught.value) == message
