"""Questions to other servers: which is asked, which answer counts, what is checked."""

from __future__ import annotations

import pytest
from kernel.dns.conftest import ClientFactory, ServerFactory
from kernel.dns.upstreams import ADDRESS, addresses, well

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("leaves_nothing")]


def test_an_answer_is_passed_on(serve: ServerFactory, client: ClientFactory) -> None:
    server = serve("127.0.0.2", well())
    reply = client(server).ask()
    assert addresses(reply) == [ADDRESS]
    (seen,) = server.seen
    assert seen.transport == "udp"
    assert str(seen.parsed.q.qname) == "www.example.com."
