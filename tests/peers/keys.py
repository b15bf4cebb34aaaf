"""Keys and certificates for TLS on the loopback interface, made by ``openssl``."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def make_keys(folder: Path) -> Path:
    """``NAME.pem`` and ``NAME.key`` of two authorities, ``ca`` and ``other``, and by the first of a
    ``server`` called localhost and a ``client``."""
    for name in ("ca", "other"):
        _openssl(folder, name)
    for name, alias in (("server", "localhost"), ("client", "client")):
        by = ("-CA", "ca.pem", "-CAkey", "ca.key", "-addext", f"subjectAltName=DNS:{alias}")
        _openssl(folder, name, *by, "-addext", "basicConstraints=CA:FALSE")
    return folder


def server_context(keys: Path, *, client: bool = False) -> ssl.SSLContext:
    """Of the server; ``client``: it wants the client's certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(keys / "server.pem", keys / "server.key")
    if client:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(keys / "ca.pem")
    return context


def _openssl(folder: Path, name: str, *words: str) -> None:
    files = ("-keyout", f"{name}.key", "-out", f"{name}.pem")
    command = ["openssl", "req", "-x509", *_KEY, *files, "-subj", f"/CN={name}", "-days", "2"]
    subprocess.run([*command, *words], cwd=folder, check=True, capture_output=True)
