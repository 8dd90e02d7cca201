"""A PostgreSQL cluster in a recovery, as ``ports.recovery`` asks for it: verbs over connections that stay open."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Self

from ismgr_automation.core.diagnostic import did_you_mean
from ismgr_automation.core.errors import Cancelled, InputError
from ismgr_automation.engines.postgresql.layout import Layout
from ismgr_automation.engines.postgresql.moving import Demotion, Holding, Promotion, Reinstatement, Retirement
from ismgr_automation.engines.postgresql.rejoining import Rejoining, Way
from ismgr_automation.engines.postgresql.watching import WarmMembers, Watch, standings
from ismgr_automation.engines.ssh.warm import Warm
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.recovery import Standing, Verb
from ismgr_automation.ports.secrets import SecretStore
from ismgr_automation.ports.upkeep import Cluster


class PostgresqlStandby:
    """Implements ``ports.recovery.Standby``. Connections to a cluster's members are made at the first look or stage,
    and kept until ``close``, for whatever deadline a cluster is asked with; as a context manager it closes by
    itself."""

    def __init__(self, store: SecretStore, layout: Layout | None = None) -> None:
        """Connects to nobody yet."""
        self._store = store
        self._layout = layout or Layout()
        self._watches: list[tuple[Cluster, Watch]] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_error: object) -> None:
        """``close``."""
        self.close()

    def look(self, cluster: Cluster, context: Context) -> tuple[Standing, ...]:
        """Every member, all at once, within ``watching.LOOK`` where it could be reached before.

        Raises ``InputError`` for hosts or names that cannot be used, ``Cancelled``.
        """
        if context.cancelled.is_set():
            raise Cancelled("The look at the cluster was stopped on request.")
        return standings(tuple(self._watch(cluster).look().values()))

    def demote(self, cluster: Cluster, host: str, to: str, context: Context) -> Verb:
        """Planned: the primary ``host`` stops cleanly and is made a standby; ``to`` has all of it. Raises
        ``InputError``."""
        self._members(cluster, host, to)
        return Demotion(self._watch(cluster), host, to, context)

    def reinstate(self, cluster: Cluster, host: str, context: Context) -> Verb:
        """The old primary ``host``, which does not run, is the primary again. Raises ``InputError``."""
        self._members(cluster, host)
        return Reinstatement(self._watch(cluster), host, context)

    def retire(self, cluster: Cluster, host: str, context: Context) -> Verb:
        """The old primary ``host`` stops, and can only start as a standby. Raises ``InputError``."""
        self._members(cluster, host)
        return Retirement(self._watch(cluster), host, context)

    def promote(self, cluster: Cluster, to: str, context: Context) -> Verb:
        """``to`` takes the primary role. Raises ``InputError``."""
        self._members(cluster, to)
        return Promotion(self._watch(cluster), to, context)

    def hold(self, cluster: Cluster, host: str, context: Context) -> Verb:
        """The standby ``host`` is started anew, and forgets a promotion that it has not carried out. Raises
        ``InputError``."""
        self._members(cluster, host)
        return Holding(self._watch(cluster), host, context)

    def rejoin(self, cluster: Cluster, host: str, to: str, way: str, context: Context) -> Verb:
        """The old primary ``host`` becomes a standby of ``to``; ``way`` is one of ``rejoining.Way``. Raises
        ``InputError``."""
        self._members(cluster, host, to)
        if way not in tuple(Way):
            raise InputError(f"{way!r} is no way to rejoin: {', '.join(Way)}.")
        return Rejoining(self._watch(cluster), host, to, Way(way), context)

    def close(self) -> None:
        """Close all connections. Safe to call twice."""
        with self._lock:
            watches, self._watches = self._watches, []
        for _, watch in watches:
            watch.members.warm.close()

    def _watch(self, cluster: Cluster) -> Watch:
        with self._lock:
            for known, watch in self._watches:
                if replace(known, deadline=cluster.deadline) == cluster:
                    return replace(watch, members=replace(watch.members, cluster=cluster))  # with the same sessions
            self._known(cluster)
            warm = Warm(cluster.fleet, self._store, threading.Event()).__enter__()
            watch = Watch(WarmMembers(cluster, self._layout, self._store, warm))
            self._watches.append((cluster, watch))
            return watch

    def _known(self, cluster: Cluster) -> None:
        strangers = set(cluster.fleet.names) - {host.name for host in cluster.fleet.hosts}
        if strangers:
            raise InputError(f"{', '.join(sorted(strangers))}: no host of this name is known.")
        for name in cluster.fleet.names:
            self._layout.arguments(cluster, name)

    @staticmethod
    def _members(cluster: Cluster, *names: str) -> None:
        if len(set(names)) != len(names):
            raise InputError(f"{names[0]} cannot change places with itself.")
        for name in names:
            if name not in cluster.fleet.names:
                close = did_you_mean(name, cluster.fleet.names)
                raise InputError(f"{name!r} is no member" + (f" (did you mean {close!r}?)" if close else "") + ".")
