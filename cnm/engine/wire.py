"""Bodies of requests, as JSON brings them.

Keys match whatever their case, ``null`` means unset, unknown keys are ignored (as
Go reads JSON); a value of a wrong type is refused. The operational half of an
endpoint's settings, which clients send back, is not read.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


def _without_null(value: object) -> object:
    if isinstance(value, dict):
        return {key: "" if item is None else item for key, item in value.items()}
    return value


Strings = Annotated[dict[str, str], BeforeValidator(_without_null)]


class Wire(BaseModel):
    """A JSON object read as Go would read it."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)
    keys: ClassVar[dict[str, str]] = {}

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        names = (item.alias or name for name, item in cls.model_fields.items())
        cls.keys = {name.lower(): name for name in names}

    @model_validator(mode="before")
    @classmethod
    def _fold(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        known = ((cls.keys.get(str(key).lower()), value) for key, value in data.items())
        return {key: value for key, value in known if key and value is not None}


class PoolBody(Wire):
    """One entry of ``IPAM.Config``."""

    subnet: str = Field(default="", alias="Subnet")
    ip_range: str = Field(default="", alias="IPRange")
    gateway: str = Field(default="", alias="Gateway")
    aux_addresses: Strings = Field(default={}, alias="AuxiliaryAddresses")


class IpamBody(Wire):
    """``IPAM``. Options are shown again as they came: null and ``{}`` differ."""

    driver: str = Field(default="", alias="Driver")
    options: Strings | None = Field(default=None, alias="Options")
    config: list[PoolBody] = Field(default=[], alias="Config")


class ConfigFromBody(Wire):
    """``ConfigFrom``."""

    network: str = Field(default="", alias="Network")


class NetworkCreateBody(Wire):
    """``POST /networks/create``."""

    name: str = Field(default="", alias="Name")
    driver: str = Field(default="", alias="Driver")
    scope: str = Field(default="", alias="Scope")
    enable_ipv4: bool | None = Field(default=None, alias="EnableIPv4")
    enable_ipv6: bool | None = Field(default=None, alias="EnableIPv6")
    ipam: IpamBody = Field(default=IpamBody(), alias="IPAM")
    internal: bool = Field(default=False, alias="Internal")
    attachable: bool = Field(default=False, alias="Attachable")
    ingress: bool = Field(default=False, alias="Ingress")
    config_only: bool = Field(default=False, alias="ConfigOnly")
    config_from: ConfigFromBody = Field(default=ConfigFromBody(), alias="ConfigFrom")
    options: Strings = Field(default={}, alias="Options")
    labels: Strings = Field(default={}, alias="Labels")


class EndpointIpamBody(Wire):
    """``IPAMConfig`` of an endpoint."""

    ipv4_address: str = Field(default="", alias="IPv4Address")
    ipv6_address: str = Field(default="", alias="IPv6Address")
    link_local_ips: list[str] = Field(default=[], alias="LinkLocalIPs")


class EndpointBody(Wire):
    """The half of an endpoint's settings that is a wish."""

    ipam_config: EndpointIpamBody = Field(default=EndpointIpamBody(), alias="IPAMConfig")
    links: list[str] = Field(default=[], alias="Links")
    aliases: list[str] = Field(default=[], alias="Aliases")
    mac_address: str = Field(default="", alias="MacAddress")
    driver_opts: Strings = Field(default={}, alias="DriverOpts")
    gw_priority: int = Field(default=0, alias="GwPriority")


class ConnectBody(Wire):
    """``POST /networks/{id}/connect``."""

    container: str = Field(default="", alias="Container")
    endpoint: EndpointBody = Field(default=EndpointBody(), alias="EndpointConfig")


class DisconnectBody(Wire):
    """``POST /networks/{id}/disconnect``."""

    container: str = Field(default="", alias="Container")


class AdoptBody(Wire):
    """``POST /cnm/v1/adopt``: a namespace by its path or by a process in it."""

    name: str = Field(default="", alias="Name")
    netns: str = Field(default="", alias="Netns")
    pid: int = Field(default=0, alias="Pid")
    labels: Strings = Field(default={}, alias="Labels")
