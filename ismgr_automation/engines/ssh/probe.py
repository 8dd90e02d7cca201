"""Looks whether hosts can be worked on: logs in to all of them at once, and tells the ways to fail apart. Changes
nothing on a host."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ismgr_automation.core.errors import Cancelled
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines.ssh.links import Links, in_thread
from ismgr_automation.engines.ssh.words import one_line
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Host, Reach, Reachability, Ssh
from ismgr_automation.ports.secrets import SecretStore

if TYPE_CHECKING:
    import asyncssh

BECOME_SECONDS = 5.0
_ROOT_OR_SUDO = 'if [ "$(id -u)" = 0 ]; then exit 0; fi; '


class SshProber:
    """Implements ``ports.hosts.Prober`` with asyncssh, which costs a tenth of an ssh process per host."""

    def __init__(self, store: SecretStore, become_password: SecretRef | None = None) -> None:
        self._store = store
        self._become_password = become_password

    def probe(self, hosts: Sequence[Host], ssh: Ssh, become: bool, context: Context) -> tuple[Reachability, ...]:
        """One answer per host, in the order given. A bastion must be among the hosts.

        Raises ``InputError`` for hosts that cannot be rendered or a key that cannot be used, ``Cancelled``; never for
        what a host does.
        """
        if not hosts:
            return ()
        links = Links.to(hosts, ssh, self._store)
        way = self._become() if become else None

        async def look(connection: asyncssh.SSHClientConnection, host: Host) -> Reachability:
            return answer(host.name, *await _try_become(connection, way))

        def answer(name: str, reach: Reach, detail: str) -> Reachability:
            return Reachability(host=name, reach=reach, detail=detail, seconds=links.seconds(name))

        names = [host.name for host in hosts]
        try:
            return in_thread(lambda: links.each(names, look, answer), context.cancelled, "The probe of hosts")
        except Cancelled as error:
            error.untouched = "No host was touched."
            raise

    def _become(self) -> _Become:
        if self._become_password is None:
            return _Become(script=_ROOT_OR_SUDO + "exec sudo -n true", words="")
        password = self._store.open(self._become_password).reveal()
        return _Become(script=_ROOT_OR_SUDO + "exec sudo -S -k -p '' true", words=password + "\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Become:
    """How to find out whether we may become root. ``words`` go to its standard input."""

    script: str
    words: str = field(repr=False)


async def _try_become(connection: asyncssh.SSHClientConnection, way: _Become | None) -> tuple[Reach, str]:
    if way is None:
        return Reach.OK, ""
    try:
        done = await asyncio.wait_for(connection.run(way.script, input=way.words or None, check=False), BECOME_SECONDS)
    except TimeoutError:
        return Reach.SUDO, f"sudo did not answer in {BECOME_SECONDS:g} s"
    if done.exit_status == 0:
        return Reach.OK, ""
    return Reach.SUDO, one_line(str(done.stderr)) or f"sudo ended with {done.exit_status}"
