"""The body of ``POST /containers/create``, as far as it means something here.

What is not read is in ``REFUSED``: a value that asks for something is refused by name, so
that nobody believes in a setting without effect.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from cnm.engine.wire import EndpointBody, Strings, Wire


def _words(value: object) -> object:
    """A command may be a list or one string."""
    return [value] if isinstance(value, str) else value


Words = Annotated[list[str] | None, BeforeValidator(_words)]
Keys = dict[str, Any]


class RestartPolicyBody(Wire):
    """``RestartPolicy``."""

    name: str = Field(default="", alias="Name")
    maximum_retry_count: int = Field(default=0, alias="MaximumRetryCount")


class LogConfigBody(Wire):
    """``LogConfig``."""

    type: str = Field(default="", alias="Type")
    config: Strings = Field(default={}, alias="Config")


class UlimitBody(Wire):
    """One of ``Ulimits``."""

    name: str = Field(default="", alias="Name")
    soft: int = Field(default=0, alias="Soft")
    hard: int = Field(default=0, alias="Hard")


class BindOptionsBody(Wire):
    """``BindOptions``. A read-only bind is so all through: both its ``ReadOnly…`` hold."""

    propagation: str = Field(default="", alias="Propagation")
    non_recursive: bool = Field(default=False, alias="NonRecursive")
    create_mountpoint: bool = Field(default=False, alias="CreateMountpoint")


class TmpfsOptionsBody(Wire):
    """``TmpfsOptions``. ``mode`` has the bits of chmod."""

    size_bytes: int = Field(default=0, alias="SizeBytes", ge=0)
    mode: int = Field(default=0, alias="Mode", ge=0, le=0o7777)
    options: list[list[str]] = Field(default=[], alias="Options")


class MountBody(Wire):
    """One of ``Mounts``."""

    type: str = Field(default="", alias="Type")
    source: str = Field(default="", alias="Source")
    target: str = Field(default="", alias="Target")
    read_only: bool = Field(default=False, alias="ReadOnly")
    bind_options: BindOptionsBody | None = Field(default=None, alias="BindOptions")
    tmpfs_options: TmpfsOptionsBody | None = Field(default=None, alias="TmpfsOptions")
    volume_options: Keys | None = Field(default=None, alias="VolumeOptions")


class PortBody(Wire):
    """One binding of a port."""

    host_ip: str = Field(default="", alias="HostIp")
    host_port: str = Field(default="", alias="HostPort")


class HostConfigBody(Wire):
    """``HostConfig``."""

    binds: list[str] = Field(default=[], alias="Binds")
    mounts: list[MountBody] = Field(default=[], alias="Mounts")
    tmpfs: Strings = Field(default={}, alias="Tmpfs")
    network_mode: str = Field(default="", alias="NetworkMode")
    port_bindings: dict[str, list[PortBody] | None] = Field(default={}, alias="PortBindings")
    publish_all_ports: bool = Field(default=False, alias="PublishAllPorts")
    restart_policy: RestartPolicyBody = Field(default=RestartPolicyBody(), alias="RestartPolicy")
    auto_remove: bool = Field(default=False, alias="AutoRemove")
    cap_add: list[str] = Field(default=[], alias="CapAdd")
    cap_drop: list[str] = Field(default=[], alias="CapDrop")
    dns: list[str] = Field(default=[], alias="Dns")
    dns_options: list[str] = Field(default=[], alias="DnsOptions")
    dns_search: list[str] = Field(default=[], alias="DnsSearch")
    extra_hosts: list[str] = Field(default=[], alias="ExtraHosts")
    group_add: list[str] = Field(default=[], alias="GroupAdd")
    links: list[str] = Field(default=[], alias="Links")
    log_config: LogConfigBody = Field(default=LogConfigBody(), alias="LogConfig")
    privileged: bool = Field(default=False, alias="Privileged")
    readonly_rootfs: bool = Field(default=False, alias="ReadonlyRootfs")
    security_opt: list[str] = Field(default=[], alias="SecurityOpt")
    sysctls: Strings = Field(default={}, alias="Sysctls")
    shm_size: int = Field(default=0, alias="ShmSize")
    oom_score_adj: int = Field(default=0, alias="OomScoreAdj")
    init: bool = Field(default=False, alias="Init")
    memory: int = Field(default=0, alias="Memory")
    memory_swap: int = Field(default=0, alias="MemorySwap")
    nano_cpus: int = Field(default=0, alias="NanoCpus")
    cpu_period: int = Field(default=0, alias="CpuPeriod")
    cpu_quota: int = Field(default=0, alias="CpuQuota")
    pids_limit: int = Field(default=0, alias="PidsLimit")
    userns_mode: str = Field(default="", alias="UsernsMode")
    ulimits: list[UlimitBody] = Field(default=[], alias="Ulimits")
    console_size: list[int] = Field(default=[0, 0], alias="ConsoleSize")
    # read only to be refused
    blkio_weight: int = Field(default=0, alias="BlkioWeight")
    cgroup_parent: str = Field(default="", alias="CgroupParent")
    cgroupns_mode: str = Field(default="", alias="CgroupnsMode")
    cpu_shares: int = Field(default=0, alias="CpuShares")
    cpuset_cpus: str = Field(default="", alias="CpusetCpus")
    cpuset_mems: str = Field(default="", alias="CpusetMems")
    device_cgroup_rules: list[str] = Field(default=[], alias="DeviceCgroupRules")
    device_requests: list[Any] = Field(default=[], alias="DeviceRequests")
    devices: list[Any] = Field(default=[], alias="Devices")
    ipc_mode: str = Field(default="", alias="IpcMode")
    memory_reservation: int = Field(default=0, alias="MemoryReservation")
    oom_kill_disable: bool = Field(default=False, alias="OomKillDisable")
    pid_mode: str = Field(default="", alias="PidMode")
    uts_mode: str = Field(default="", alias="UTSMode")
    volume_driver: str = Field(default="", alias="VolumeDriver")
    volumes_from: list[str] = Field(default=[], alias="VolumesFrom")


# field: the flag of docker's that asks for it, and the values that ask for nothing
REFUSED: dict[str, tuple[str, tuple[object, ...]]] = {
    "blkio_weight": ("--blkio-weight", (0,)),
    "cgroup_parent": ("--cgroup-parent", ("",)),
    "cgroupns_mode": ("--cgroupns", ("", "private")),
    "cpu_shares": ("--cpu-shares", (0,)),
    "cpuset_cpus": ("--cpuset-cpus", ("",)),
    "cpuset_mems": ("--cpuset-mems", ("",)),
    "device_cgroup_rules": ("--device-cgroup-rule", ([],)),
    "device_requests": ("--gpus", ([],)),
    "devices": ("--device", ([],)),
    "ipc_mode": ("--ipc", ("", "private")),
    "memory_reservation": ("--memory-reservation", (0,)),
    "oom_kill_disable": ("--oom-kill-disable", (False,)),
    "pid_mode": ("--pid", ("",)),
    "uts_mode": ("--uts", ("",)),
    "volume_driver": ("--volume-driver", ("",)),
    "volumes_from": ("--volumes-from", ([],)),
}


class NetworkingBody(Wire):
    """``NetworkingConfig``."""

    endpoints: dict[str, EndpointBody | None] = Field(default={}, alias="EndpointsConfig")


class ContainerCreateBody(Wire):
    """``POST /containers/create``."""

    hostname: str = Field(default="", alias="Hostname")
    domainname: str = Field(default="", alias="Domainname")
    user: str = Field(default="", alias="User")
    attach_stdin: bool = Field(default=False, alias="AttachStdin")
    attach_stdout: bool = Field(default=False, alias="AttachStdout")
    attach_stderr: bool = Field(default=False, alias="AttachStderr")
    tty: bool = Field(default=False, alias="Tty")
    open_stdin: bool = Field(default=False, alias="OpenStdin")
    stdin_once: bool = Field(default=False, alias="StdinOnce")
    env: list[str] = Field(default=[], alias="Env")
    cmd: Words = Field(default=None, alias="Cmd")
    entrypoint: Words = Field(default=None, alias="Entrypoint")
    image: str = Field(default="", alias="Image")
    working_dir: str = Field(default="", alias="WorkingDir")
    labels: Strings = Field(default={}, alias="Labels")
    exposed_ports: Keys = Field(default={}, alias="ExposedPorts")
    volumes: Keys = Field(default={}, alias="Volumes")
    mac_address: str = Field(default="", alias="MacAddress")
    stop_signal: str = Field(default="", alias="StopSignal")
    stop_timeout: int | None = Field(default=None, alias="StopTimeout")
    healthcheck: Keys = Field(default={}, alias="Healthcheck")
    host_config: HostConfigBody = Field(default=HostConfigBody(), alias="HostConfig")
    networking: NetworkingBody = Field(default=NetworkingBody(), alias="NetworkingConfig")


class ExecBody(Wire):
    """``POST /containers/{id}/exec``."""

    attach_stdin: bool = Field(default=False, alias="AttachStdin")
    attach_stdout: bool = Field(default=False, alias="AttachStdout")
    attach_stderr: bool = Field(default=False, alias="AttachStderr")
    detach_keys: str = Field(default="", alias="DetachKeys")
    tty: bool = Field(default=False, alias="Tty")
    env: list[str] = Field(default=[], alias="Env")
    cmd: Words = Field(default=None, alias="Cmd")
    privileged: bool = Field(default=False, alias="Privileged")
    user: str = Field(default="", alias="User")
    working_dir: str = Field(default="", alias="WorkingDir")


class ExecStartBody(Wire):
    """``POST /exec/{id}/start``."""

    detach: bool = Field(default=False, alias="Detach")
    tty: bool = Field(default=False, alias="Tty")
    console_size: list[int] = Field(default=[0, 0], alias="ConsoleSize")
