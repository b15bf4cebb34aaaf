"""Names of images: Docker's grammar, its defaults and its error texts. No I/O.

``x`` is short for ``docker.io/library/x:latest``; the long form is what is compared,
the short (*familiar*) one what is shown.

Source: https://pkg.go.dev/github.com/distribution/reference (grammar and normalisation).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from cnm.errors import Forbidden, InvalidParameter
from cnm.imageapi import HOST_IMAGE

_DEFAULT_DOMAIN = "docker.io"
_LEGACY_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"
_DEFAULT_TAG = "latest"
_LONGEST_NAME = 255
_LONGEST_TEXT = 1024  # name, tag and digest at their longest are below 600

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?P<domain>{_DOMAIN})/(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?"
)
_HEX64 = re.compile(r"[0-9a-f]{64}")
_ID = re.compile(r"sha256:[0-9a-f]{64}")
_ID_PREFIX = re.compile(r"(?:sha256:)?([0-9a-f]{1,64})")


@dataclass(frozen=True, slots=True)
class Reference:
    """A name that was understood."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def repository(self) -> str:
        """The name without tag and digest, as shown."""
        if self.domain != _DEFAULT_DOMAIN:
            return f"{self.domain}/{self.path}"
        path = self.path.removeprefix(_OFFICIAL)
        return path if "/" not in path else self.path

    @property
    def reserved(self) -> bool:
        """Whether the repository is ``host``, which no image may have."""
        return self.repository == HOST_IMAGE

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return self.repository + tag + digest

    def with_tag(self) -> Reference:
        """With the tag ``latest``, unless it has a tag or a digest."""
        return self if self.tag or self.digest else replace(self, tag=_DEFAULT_TAG)


def parse(text: str) -> Reference:
    """The reference that a user or an archive wrote.

    :raises InvalidParameter: with Docker's text.
    """
    if _HEX64.fullmatch(text):
        raise InvalidParameter(
            f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
        )
    if len(text) > _LONGEST_TEXT:
        raise _too_long()
    domain, rest = _split_domain(text)
    name = rest.partition(":")[0]
    if name.lower() != name:
        raise InvalidParameter(
            f"invalid reference format: repository name ({name}) must be lowercase"
        )
    match = _REFERENCE.fullmatch(f"{domain}/{rest}")
    if match is None:
        raise InvalidParameter("invalid reference format")
    reference = Reference(domain, match["path"], match["tag"] or "", match["digest"] or "")
    _check(reference)
    return reference


def parse_target(text: str, digest_error: str) -> Reference:
    """A name that an image is to be given, with its tag.

    :raises InvalidParameter: bad, or a digest (then with ``digest_error``).
    :raises Forbidden: it is the reserved name ``host``.
    """
    reference = parse(text).with_tag()
    if reference.digest:
        raise InvalidParameter(digest_error)
    if reference.reserved:
        raise Forbidden(
            f'the image name "{HOST_IMAGE}" is reserved for the machine\'s own root file system: '
            "choose another name"
        )
    return reference


def whole_id(text: str) -> str | None:
    """``sha256:<64 hex>`` if the text is a whole id, with or without ``sha256:``."""
    if _HEX64.fullmatch(text):
        return f"sha256:{text}"
    return text if _ID.fullmatch(text) else None


def id_prefix(text: str) -> str | None:
    """``sha256:<hex>`` if the text can be the beginning of an id."""
    match = _ID_PREFIX.fullmatch(text)
    return f"sha256:{match[1]}" if match else None


def _split_domain(text: str) -> tuple[str, str]:
    """The first component is a domain if it has a dot, a colon, a capital, or is localhost."""
    first, slash, rest = text.partition("/")
    is_domain = any(mark in first for mark in ".:") or first == "localhost"
    if not slash or not (is_domain or first.lower() != first):
        first, rest = _DEFAULT_DOMAIN, text
    if first == _LEGACY_DOMAIN:
        first = _DEFAULT_DOMAIN
    if first == _DEFAULT_DOMAIN and "/" not in rest:
        rest = _OFFICIAL + rest
    return first, rest


def _check(reference: Reference) -> None:
    if len(f"{reference.domain}/{reference.path}") > _LONGEST_NAME:
        raise _too_long()
    if not reference.digest:
        return
    algorithm, _, value = reference.digest.partition(":")
    if algorithm != "sha256":
        raise InvalidParameter("unsupported digest algorithm")
    if len(value) != 64:
        raise InvalidParameter("invalid checksum digest length")
    if not _HEX64.fullmatch(value):
        raise InvalidParameter("invalid checksum digest format")


def _too_long() -> InvalidParameter:
    return InvalidParameter(f"repository name must not be more than {_LONGEST_NAME} characters")
