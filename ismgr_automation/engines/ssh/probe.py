"""Looks whether hosts can be worked on: logs in to all of them at once, and tells the ways to fail apart. Changes
nothing on a host."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ismgr_automation.core.errors import Cancelled, InputError
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines.ssh import config as rendering
from ismgr_automation.engines.ssh.trust import Keys, Trust, lines_for, read_lines, trust_of, untrusted, without_revoked
from ismgr_automation.engines.ssh.words import one_line, reach_of
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Host, Reach, Reachability, Ssh
from ismgr_automation.ports.secrets import SecretStore

if TYPE_CHECKING:
    import asyncssh

AT_ONCE = 100
"""Connections that are being made at the same time."""

BECOME_SECONDS = 5.0
_LOOK_SECONDS = 0.1
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
        rendering.validate(hosts)
        known = read_lines(ssh.known_hosts)
        hosts = without_revoked(hosts, known)
        trusts = {host.name: trust_of(host, known) for host in hosts}
        refused = {one.host: one for one in untrusted(hosts, trusts)}
        look = _Look(
            by_name={host.name: host for host in hosts},
            keys={host.name: _keys(host, trusts[host.name], known) for host in hosts},
            login=self._login(ssh),
            timeout=ssh.connect_timeout.total_seconds(),
            become=self._become() if become else None,
            refused=refused,
        )
        return _in_thread(look.all, context.cancelled)

    def _become(self) -> _Become:
        if self._become_password is None:
            return _Become(script=_ROOT_OR_SUDO + "exec sudo -n true", words="")
        password = self._store.open(self._become_password).reveal()
        return _Become(script=_ROOT_OR_SUDO + "exec sudo -S -k -p '' true", words=password + "\n")

    def _login(self, ssh: Ssh) -> Mapping[str, object]:
        """The arguments of asyncssh that say who we are."""
        import asyncssh

        if ssh.key is not None:
            try:
                key = asyncssh.import_private_key(self._store.open(ssh.key).reveal() + "\n")
            except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError):
                # the cause may quote the key
                raise InputError(f"Secret {ssh.key} is not a usable private SSH key.") from None
            return {"client_keys": [key], "agent_path": None}
        if ssh.key_file is not None:
            try:
                key = asyncssh.read_private_key(str(ssh.key_file))
            except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError):
                # it has a passphrase: the person's own agent holds it
                return {}
            except OSError as error:
                raise InputError(f"Cannot read the SSH key {ssh.key_file}: {error.strerror or error}.") from error
            return {"client_keys": [key], "agent_path": None}
        return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Become:
    """How to find out whether we may become root. ``words`` go to its standard input."""

    script: str
    words: str = field(repr=False)


@dataclass(slots=True, kw_only=True)
class _Look:
    """One probe of all hosts, on one event loop."""

    by_name: Mapping[str, Host]
    keys: Mapping[str, Keys]
    login: Mapping[str, object]
    timeout: float
    become: _Become | None
    refused: Mapping[str, Reachability]
    bastions: dict[str, asyncio.Task[asyncssh.SSHClientConnection]] = field(default_factory=dict)

    async def all(self) -> tuple[Reachability, ...]:
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(host: Host) -> Reachability:
            async with gate:
                return await self._one(host)

        try:
            return tuple(await asyncio.gather(*(one(host) for host in self.by_name.values())))
        finally:
            await self._close_bastions()

    async def _one(self, host: Host) -> Reachability:
        if host.name in self.refused:
            return self.refused[host.name]
        started = time.monotonic()
        try:
            connection = await self._connect(host)
            try:
                reach, detail = await self._try_become(connection)
            finally:
                connection.abort()
        except Exception as error:  # noqa: BLE001  a host may fail in any way, and each way is an answer
            reach, detail = classify(error)
        return Reachability(host=host.name, reach=reach, detail=detail, seconds=round(time.monotonic() - started, 3))

    async def _connect(self, host: Host) -> asyncssh.SSHClientConnection:
        import asyncssh

        tunnel = await self._bastion(host.bastion) if host.bastion else None
        return await asyncio.wait_for(
            asyncssh.connect(
                host.address,
                host.port,
                tunnel=tunnel,
                username=host.user or (),
                known_hosts=self.keys[host.name],
                config=None,
                connect_timeout=self.timeout,
                login_timeout=self.timeout,
                preferred_auth="publickey",
                kex_algs=("curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256", *_OLDER_EXCHANGES),
                **self.login,
            ),
            # the whole way in, whatever the other side does in between
            self.timeout,
        )

    async def _bastion(self, name: str) -> asyncssh.SSHClientConnection:
        """One connection per bastion, shared by all hosts behind it."""
        if name not in self.bastions:
            self.bastions[name] = asyncio.create_task(self._connect(self.by_name[name]))
        try:
            return await asyncio.shield(self.bastions[name])
        except Exception as error:
            raise _BastionFailed(name) from error

    async def _close_bastions(self) -> None:
        for task in self.bastions.values():
            task.cancel()
        for outcome in await asyncio.gather(*self.bastions.values(), return_exceptions=True):
            if not isinstance(outcome, BaseException):
                outcome.abort()

    async def _try_become(self, connection: asyncssh.SSHClientConnection) -> tuple[Reach, str]:
        if self.become is None:
            return Reach.OK, ""
        try:
            done = await asyncio.wait_for(
                connection.run(self.become.script, input=self.become.words or None, check=False), BECOME_SECONDS
            )
        except TimeoutError:
            return Reach.SUDO, f"sudo did not answer in {BECOME_SECONDS:g} s"
        if done.exit_status == 0:
            return Reach.OK, ""
        return Reach.SUDO, one_line(str(done.stderr)) or f"sudo ended with {done.exit_status}"


class _BastionFailed(Exception):
    """The way through a bastion is closed; the cause says why."""


_ERRNO = re.compile(r"\[Errno (\d+)\]")
_OLDER_EXCHANGES = ("ecdh-sha2-nistp384", "diffie-hellman-group-exchange-sha256", "diffie-hellman-group14-sha256")


def classify(error: BaseException) -> tuple[Reach, str]:
    """What an exception of asyncssh or of the socket library means for a host."""
    if isinstance(error, _BastionFailed) and error.__cause__ is not None:
        reach, detail = classify(error.__cause__)
        return reach, f"bastion {error}: {detail}"
    for kind, reach in _exceptions():
        if isinstance(error, kind):
            return reach, one_line(str(error)) or _words(reach)
    # a refused channel of a bastion, a broken pipe, a closed connection: the words say what it was
    text = _ERRNO.sub(lambda found: os.strerror(int(found[1])), str(error))
    return reach_of(text) or Reach.TIMEOUT, one_line(text) or type(error).__name__


def _exceptions() -> tuple[tuple[type[BaseException], Reach], ...]:
    """Exceptions that say it by their type."""
    import asyncssh

    return (
        (asyncssh.HostKeyNotVerifiable, Reach.HOST_KEY),
        (asyncssh.PermissionDenied, Reach.AUTH),
        (asyncssh.KeyExchangeFailed, Reach.HOST_KEY),
        (socket.gaierror, Reach.DNS),
        (ConnectionRefusedError, Reach.REFUSED),
        (ConnectionResetError, Reach.REFUSED),
        (TimeoutError, Reach.TIMEOUT),
        (asyncssh.ConnectionLost, Reach.REFUSED),
    )


def _words(reach: Reach) -> str:
    return "no answer in time" if reach is Reach.TIMEOUT else str(reach)


def _keys(host: Host, trust: Trust, known: asyncssh.SSHKnownHosts | None) -> Keys:
    """What asyncssh may accept as this host's key."""
    import asyncssh

    match trust:
        case Trust.PINNED:
            return [asyncssh.import_public_key(key) for key in host.host_keys], [], []
        case Trust.BY_ADDRESS if known is not None:
            return lines_for(known, host.address, host.port)
        case Trust.BY_NAME if known is not None:
            return lines_for(known, host.name, 22)
        case _:
            return [], [], []


def _in_thread(
    work: Callable[[], Awaitable[tuple[Reachability, ...]]], cancelled: threading.Event
) -> tuple[Reachability, ...]:
    """Run on a loop of our own in a thread of our own: the caller may be inside a loop already."""
    answers: list[tuple[Reachability, ...]] = []
    problems: list[BaseException] = []
    stop = threading.Event()

    async def main() -> None:
        task = asyncio.ensure_future(work())
        while not task.done():
            if stop.is_set() or cancelled.is_set():
                task.cancel()
            await asyncio.wait({task}, timeout=_LOOK_SECONDS)
        answers.append(task.result())

    def body() -> None:
        try:
            asyncio.run(main())
        except asyncio.CancelledError:
            problems.append(Cancelled("The probe of hosts was stopped on request.", untouched="No host was touched."))
        except BaseException as error:  # noqa: BLE001  it is raised again in the caller's thread
            problems.append(error)

    thread = threading.Thread(target=body, name="ismgr-probe")
    thread.start()
    try:
        thread.join()
    finally:
        stop.set()
        thread.join()
    if problems:
        raise problems[0]
    return answers[0]
