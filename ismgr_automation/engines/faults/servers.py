"""The processes of a PostgreSQL server on its host, in shell. Decides nothing."""

from __future__ import annotations

from ismgr_automation.core.errors import InputError
from ismgr_automation.engines.postgresql.layout import Layout
from ismgr_automation.ports.faults import FaultRequest
from ismgr_automation.ports.upkeep import Cluster

OURS = """
ours() {
  for one in $(find /proc -mindepth 2 -maxdepth 2 -name cwd -lname "$data" 2>/dev/null); do
    one=${one%/cwd} one=${one#/proc/}
    [ "$(cat "/proc/$one/comm" 2>/dev/null)" = postgres ] && echo "$one"
  done
  :
}
"""
"""Defines ``ours``, which prints the processes of the server whose data folder is ``$data``: each works inside it, also
one that has lost its postmaster."""


def cluster_of(request: FaultRequest) -> Cluster:
    """The cluster that is meant. Raises ``InputError`` where none is named."""
    if request.cluster is None:
        raise InputError(f"{request.harm} is done to a database, and none is named.")
    return request.cluster


def layout_arguments(request: FaultRequest, host: str) -> tuple[str, ...]:
    """What scripts that begin with ``layout.FIRST`` are given."""
    return Layout().arguments(cluster_of(request), host)
