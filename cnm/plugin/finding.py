"""Where others' plugins are: Docker's directories, in Docker's order, read anew at each call.

A socket ``NAME.sock`` or ``NAME/NAME.sock`` in the first; a file of the same kind of name in
the others: ``.spec`` holds an address, ``.json`` an address and how to trust it.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, ValidationError

from cnm.engine.wire import Wire
from cnm.errors import CNMError

SOCKETS = Path("/run/docker/plugins")
SPECS = (Path("/etc/docker/plugins"), Path("/usr/lib/docker/plugins"))

# A name becomes a part of paths and of texts: no slash, no dots in front, not without end.
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
_SPEC_MAX = 64 << 10  # bytes


@dataclass(frozen=True, slots=True)
class Trust:
    """TLS of a plugin that is reached over TCP. Without ``ca`` it is not verified, as Docker's."""

    ca: str = ""
    certificate: str = ""
    key: str = ""
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class Address:
    """A socket's path, or a host and port."""

    path: str = ""
    host: str = ""
    port: int = 0
    trust: Trust | None = None

    def __str__(self) -> str:
        return f"unix://{self.path}" if self.path else f"tcp://{self.host}:{self.port}"


class _Trust(Wire):
    ca: str = Field(default="", alias="CAFile")
    certificate: str = Field(default="", alias="CertFile")
    key: str = Field(default="", alias="KeyFile")
    insecure: bool = Field(default=False, alias="InsecureSkipVerify")


class _Spec(Wire):
    address: str = Field(alias="Addr")
    trust: _Trust | None = Field(default=None, alias="TLSConfig")


def find(name: str, sockets: Path = SOCKETS, specs: Sequence[Path] = SPECS) -> Address | None:
    """The plugin of a name; ``None``: there is none, or no plugin can have that name.

    :raises CNMError: its file cannot be understood.
    """
    if not NAME.fullmatch(name):
        return None
    for path in (sockets / f"{name}.sock", sockets / name / f"{name}.sock"):
        if _is_socket(path):
            return Address(str(path))
    for folder in specs:
        for ending, read in ((".spec", _read_spec), (".json", _read_json)):
            for path in (folder / f"{name}{ending}", folder / name / f"{name}{ending}"):
                if path.is_file():
                    return read(path)
    return None


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.stat().st_mode)
    except OSError:
        return False


def _text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(_SPEC_MAX).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CNMError(f"plugin file {path}: {error}") from error


def _read_spec(path: Path) -> Address:
    return _address(_text(path), None, path)


def _read_json(path: Path) -> Address:
    try:
        spec = _Spec.model_validate(json.loads(_text(path)))
    except (ValueError, ValidationError) as error:
        first = str(error).splitlines()[0]
        raise CNMError(f"plugin file {path}: no plugin's JSON: {first}") from error
    trust = spec.trust
    if trust is None:
        return _address(spec.address, None, path)
    return _address(
        spec.address, Trust(trust.ca, trust.certificate, trust.key, trust.insecure), path
    )


def _address(text: str, trust: Trust | None, path: Path) -> Address:
    try:
        parts = urlsplit(text)
        if parts.scheme == "unix" and parts.path.startswith("/") and not parts.netloc:
            return Address(parts.path)
        if parts.scheme in ("tcp", "http", "https") and parts.hostname and parts.port:
            if parts.scheme == "https" and trust is None:
                trust = Trust()
            return Address(host=parts.hostname, port=parts.port, trust=trust)
    except ValueError:
        pass
    raise CNMError(
        f"plugin file {path}: {ascii(text[:80])} is no address: unix:///PATH or tcp://HOST:PORT"
    )
