"""The only place that knows concrete classes: settings in, a core out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cnm.config import Settings
from cnm.containerapi import ContainerSettings
from cnm.core import facade
from cnm.core.controller import CoreSettings
from cnm.core.facade import Core
from cnm.core.registry import Plugins, Registry
from cnm.core.runs import Machinery
from cnm.daemon import subids
from cnm.dns.handover import Handover
from cnm.driverapi import DriverContext, NetworkDriver
from cnm.errors import InvalidParameter
from cnm.hostapi import HostRoute, HostSettings
from cnm.idmap import IdMap
from cnm.ipam.addrspace import ula_prefix
from cnm.ipamapi import IpamContext, IpamDriver
from cnm.runtime.container.client import RuntimeClient
from cnm.runtime.container.imagefs import remove_tree
from cnm.runtime.container.imagestore import ImageStore
from cnm.runtime.kernel.monitor import RouteMonitor
from cnm.runtime.kernel.netlink import Netlink
from cnm.runtime.kernel.nftmonitor import RulesMonitor
from cnm.runtime.kernel.probe import WireProber
from cnm.runtime.kernel.sysctl import HostSysctls
from cnm.runtime.sandbox import NamespaceSandboxes
from cnm.store import SqliteStore
from cnm.types import NetworkID

log = logging.getLogger(__name__)

DATABASE = "cnm.db"
IMAGES = "images"  # under the root
NAMESPACES = "netns"  # under the exec root
_FORWARDING = ("net/ipv4/ip_forward", "net/ipv4/conf/all/forwarding", "net/ipv6/conf/")


class AskedRepairs:
    """Drivers may ask for a repair, but are made before the core: what they ask then is dropped."""

    def __init__(self) -> None:
        self.answer: Callable[[NetworkID], object] | None = None

    def ask(self, network_id: NetworkID) -> None:
        """See ``DriverContext``."""
        answer = self.answer
        if answer is not None:
            answer(network_id)


@dataclass(frozen=True, slots=True)
class Parts:
    """What has to be started, asked and closed by name."""

    store: SqliteStore
    sysctls: HostSysctls
    sandboxes: NamespaceSandboxes
    routes: RouteMonitor
    prober: WireProber
    runtime: RuntimeClient
    images: ImageStore
    resolver: Handover
    core: Core
    asked: AskedRepairs

    def watch_routes(self) -> None:
        """Tell of routes that come to lie on a subnet of ours."""
        self.routes.watch(self._route_added)

    def heed_drivers(self) -> None:
        """Look after a network when its driver says that something of it has changed."""
        self.asked.answer = self.core.reconciler.network_changed

    def watch_rules(self) -> RulesMonitor:
        """Put our rules right when others have changed theirs, a firewall that is loaded anew."""
        return RulesMonitor(lambda: self.core.reconciler.rules_changed())

    def _route_added(self, route: HostRoute) -> None:
        try:
            self.core.conflicts.route_added(route)
        except Exception as error:  # the watch must go on
            log.error("route %s: %s", route, error)

    def close(self) -> None:
        """Nothing of the kernel's is removed: containers and traffic live on."""
        self.asked.answer = None
        self.core.leases.close()
        self.core.claims.close()
        self.core.recovery.close()
        self.resolver.close()
        self.routes.close()
        self.prober.close()
        self.sandboxes.close()
        self.store.close()


def assemble(settings: Settings, database: Path | None = None) -> Parts:
    """Open the store and put the parts together. The kernel is not touched yet.

    :raises StoreError: the database is damaged or newer; it is left as it was.
    :raises CNMError: a driver cannot be loaded.
    """
    store = SqliteStore(database or settings.root / DATABASE)
    sysctls = HostSysctls(store.ledger)
    host: HostSettings = sysctls if settings.ip_forward else WithoutForwarding(sysctls)
    ipam = IpamContext(
        store=store.leases,
        ula_prefix=ula_prefix(store.daemon_id),
        local_pools=settings.address_pools,
        notes=store.notes,
    )
    with Netlink() as netlink:
        mtu = netlink.outside_mtu()
    sandboxes = NamespaceSandboxes()
    routes, prober = RouteMonitor(), WireProber()
    runtime = RuntimeClient(str(settings.exec_root))
    images = ImageStore(settings.root / IMAGES)
    resolver = Handover(str(settings.exec_root))
    asked = AskedRepairs()
    context = DriverContext(host, ask_repair=asked.ask, exec_root=str(settings.exec_root))
    core = facade.build(
        store=store,
        ledger=store.ledger,
        registry=Registry.load(context, ipam, OthersPlugins()),
        sandboxes=sandboxes,
        host_routes=routes,
        wire_probe=prober,
        settings=_core_settings(settings, mtu),
        machinery=Machinery(
            runtime, runtime, runtime, runtime, images, remove_tree, _container_settings(settings)
        ),
        names=resolver,
    )
    return Parts(store, sysctls, sandboxes, routes, prober, runtime, images, resolver, core, asked)


def _container_settings(settings: Settings) -> ContainerSettings:
    return ContainerSettings(
        settings.root,
        settings.exec_root / NAMESPACES,
        hidden_paths=(str(settings.root), str(settings.exec_root)),
        ids=_ids(settings),
        remapped=bool(settings.userns_remap),
        dns=settings.dns,
        dns_search=settings.dns_search,
        dns_options=settings.dns_options,
    )


def _ids(settings: Settings) -> IdMap:
    try:
        return subids.resolve(settings.userns_remap)
    except InvalidParameter as error:
        raise InvalidParameter(f"userns-remap: {error}") from error


def _core_settings(settings: Settings, mtu: int) -> CoreSettings:
    return CoreSettings(
        default_bridge_name=settings.bridge,
        default_bridge_subnet=settings.bip.network if settings.bip else None,
        default_bridge_gateway=settings.bip.ip if settings.bip else None,
        default_mtu=settings.mtu or mtu,
        default_bridge_options=settings.bridge_options,
        network_options=settings.network_options,
    )


class OthersPlugins:
    """``cnm.plugin.remote``, imported when a driver is named that is none of ours: 2 MB."""

    def __init__(self) -> None:
        self._plugins: Plugins | None = None

    def driver(self, name: str) -> NetworkDriver | None:
        """See :class:`cnm.core.registry.Plugins`."""
        return self._loaded().driver(name)

    def ipam(self, name: str) -> IpamDriver | None:
        """See :class:`cnm.core.registry.Plugins`."""
        return self._loaded().ipam(name)

    def _loaded(self) -> Plugins:
        from cnm.plugin import remote

        if self._plugins is None:
            self._plugins = remote.Plugins()
        return self._plugins


class WithoutForwarding:
    """``ip-forward`` false: the host's forwarding is its administrator's alone."""

    def __init__(self, inner: HostSettings) -> None:
        self._inner = inner

    def need(self, name: str, value: str, *, holder: str, reason: str) -> None:
        """As :meth:`HostSettings.need`, but for forwarding, which stays as it is."""
        if name.startswith(_FORWARDING):
            log.debug("%s is left as it is (ip-forward is false)", name)
        else:
            self._inner.need(name, value, holder=holder, reason=reason)

    def release(self, holder: str) -> None:
        """As :meth:`HostSettings.release`."""
        self._inner.release(holder)

    def values(self) -> Mapping[str, tuple[str, str]]:
        """As :meth:`HostSettings.values`."""
        return self._inner.values()
