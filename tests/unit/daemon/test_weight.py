"""What a daemon does not load: each of these costs megabytes and a tenth of a second."""

from __future__ import annotations

import subprocess
import sys


def test_a_daemon_starts_without_what_it_seldom_needs() -> None:
    code = (
        "import sys, cnm.daemon.run, cnm.daemon.wiring, cnm.daemon.server, cnm.engine.app;"
        "from cnm.runtime.kernel.nft import LibNft; import cnm.drivers.bridge.driver;"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "cnm.runtime.kernel.netlink" in loaded
    assert not loaded & {"pyroute2", "pyseccomp", "scapy", "yaml", "docker", "netlab"}
