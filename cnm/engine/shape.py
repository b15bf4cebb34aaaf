"""Documents as a client of an older or newer API expects them.

The core's documents have every key of every version; here keys are taken away.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cnm.engine.versions import ApiVersion

Document = dict[str, Any]

_DNS_NAMES = ApiVersion(1, 44)
_ALIASES_AS_ASKED = ApiVersion(1, 45)
_ENABLE_IPV4 = ApiVersion(1, 48)
_NO_FLAT_FIELDS = ApiVersion(1, 52)
_KEPT_SETTINGS = {"SandboxID", "SandboxKey", "Ports", "Networks"}
_SHORT_ID = 12


def network(document: Mapping[str, Any], version: ApiVersion, *, listed: bool) -> Document:
    """A network in a list, or by itself. The pools' use is told by itself from 1.52."""
    left_out = set()
    if version < _ENABLE_IPV4:
        left_out.add("EnableIPv4")
    if version < _NO_FLAT_FIELDS or listed:
        left_out.add("Status")
    shaped = {key: value for key, value in document.items() if key not in left_out}
    if listed:
        shaped["Containers"] = {}
        if version >= _NO_FLAT_FIELDS:
            del shaped["Containers"]
    return shaped


def container(document: Mapping[str, Any], version: ApiVersion) -> Document:
    """A container, in a list or by itself."""
    shaped = dict(document)
    settings = dict(shaped.get("NetworkSettings") or {})
    if version >= _NO_FLAT_FIELDS:
        settings = {key: value for key, value in settings.items() if key in _KEPT_SETTINGS}
    settings["Networks"] = {
        name: _endpoint(item, version, shaped["Id"])
        for name, item in (settings.get("Networks") or {}).items()
    }
    shaped["NetworkSettings"] = settings
    return shaped


def event(document: Mapping[str, Any], version: ApiVersion) -> Document:
    """An event; until 1.51 those of containers carry three fields more."""
    if version >= _NO_FLAT_FIELDS or document["Type"] != "container":
        return dict(document)
    actor = document["Actor"]
    old = {"status": document["Action"], "id": actor["ID"]}
    if "image" in actor["Attributes"]:
        old["from"] = actor["Attributes"]["image"]
    return {**old, **document}


def _endpoint(document: Mapping[str, Any], version: ApiVersion, container_id: str) -> Document:
    shaped = dict(document)
    if version < _ENABLE_IPV4:
        shaped.pop("GwPriority", None)
    if version < _DNS_NAMES:
        shaped.pop("DNSNames", None)
    if version < _ALIASES_AS_ASKED and shaped.get("Aliases"):
        short = container_id[:_SHORT_ID]
        shaped["Aliases"] = [*(name for name in shaped["Aliases"] if name != short), short]
    return shaped
