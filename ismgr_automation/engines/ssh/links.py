"""Logs in to many hosts at once on one event loop, each way to fail told apart; bastions are shared. Runs nothing by
itself and changes nothing on a host."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from ismgr_automation.core.errors import Cancelled, InputError
from ismgr_automation.engines.ssh import config as rendering
from ismgr_automation.engines.ssh.trust import Keys, Trust, lines_for, read_lines, trust_of, untrusted, without_revoked
from ismgr_automation.engines.ssh.words import one_line, reach_of
from ismgr_automation.ports.hosts import Host, Reach, Reachability, Ssh
from ismgr_automation.ports.secrets import SecretStore

if TYPE_CHECKING:
    import asyncssh

T = TypeVar("T")

AT_ONCE = 100
"""Connections that are being made at the same time."""

MISSED = 3
"""Signs of life that a connection may owe before it counts as lost."""

_LOOK_SECONDS = 0.1


@dataclass(slots=True, kw_only=True)
class Links:
    """The ways to a set of hosts; good for one ``each``, or for as many ``connect`` as one likes."""

    by_name: Mapping[str, Host]
    keys: Mapping[str, Keys]
    login: Mapping[str, object]
    timeout: float
    refused: Mapping[str, Reachability]
    """Hosts that must not be connected to, because no key is pinned for them or for a bastion on the way."""
    keepalive: float = 0.0
    """Seconds after which a silent connection is asked for a sign of life; 0: never."""
    bastions: dict[str, asyncio.Task[asyncssh.SSHClientConnection]] = field(default_factory=dict)
    began: dict[str, float] = field(default_factory=dict)

    @classmethod
    def to(cls, hosts: Sequence[Host], ssh: Ssh, store: SecretStore) -> Links:
        """The ways to these hosts; a bastion must be among them.

        Raises ``InputError`` for hosts that cannot be rendered or a key that cannot be used.
        """
        rendering.validate(hosts)
        known = read_lines(ssh.known_hosts)
        hosts = without_revoked(hosts, known)
        trusts = {host.name: trust_of(host, known) for host in hosts}
        return cls(
            by_name={host.name: host for host in hosts},
            keys={host.name: _keys(host, trusts[host.name], known) for host in hosts},
            login=_login(ssh, store),
            timeout=ssh.connect_timeout.total_seconds(),
            refused={one.host: one for one in untrusted(hosts, trusts)},
        )

    async def each(
        self,
        names: Iterable[str],
        work: Callable[[asyncssh.SSHClientConnection, Host], Awaitable[T]],
        failed: Callable[[str, Reach, str], T],
    ) -> tuple[T, ...]:
        """Do the work on a connection to each host, in the order of the names; ``failed`` makes the answer of a host
        that cannot be connected to, from its name, the reason and words for people. Never raises for a host."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(name: str) -> T:
            async with gate:
                if name in self.refused:
                    return failed(name, self.refused[name].reach, self.refused[name].detail)
                self.began[name] = time.monotonic()
                try:
                    connection = await self._connect(self.by_name[name])
                    try:
                        return await work(connection, self.by_name[name])
                    finally:
                        connection.abort()
                except Exception as error:  # noqa: BLE001  a host may fail in any way, and each way is an answer
                    return failed(name, *classify(error))

        try:
            return tuple(await asyncio.gather(*(one(name) for name in names)))
        finally:
            await self.close_bastions()

    async def connect(self, name: str) -> asyncssh.SSHClientConnection:
        """A connection to a host that is not refused, made anew; the caller closes it, and the bastions' in the end.
        Raises what ``classify`` understands."""
        return await self._connect(self.by_name[name])

    async def close_bastions(self) -> None:
        """Close the connections that others went through."""
        for task in self.bastions.values():
            task.cancel()
        for outcome in await asyncio.gather(*self.bastions.values(), return_exceptions=True):
            if not isinstance(outcome, BaseException):
                outcome.abort()

    def seconds(self, name: str) -> float:
        """How long a host has taken until now; 0 for one that nobody connects to."""
        return round(time.monotonic() - self.began[name], 3) if name in self.began else 0.0

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
                encryption_algs=_CIPHERS,
                keepalive_interval=self.keepalive,
                keepalive_count_max=MISSED,
                **self.login,
            ),
            # the whole way in, whatever the other side does in between
            self.timeout,
        )

    async def _bastion(self, name: str) -> asyncssh.SSHClientConnection:
        """One connection per bastion, shared by all hosts behind it."""
        if name not in self.bastions or over(self.bastions[name]):
            self.bastions[name] = asyncio.create_task(self._connect(self.by_name[name]))
        try:
            return await asyncio.shield(self.bastions[name])
        except Exception as error:
            raise _BastionFailed(name) from error


def over(way: asyncio.Task[asyncssh.SSHClientConnection]) -> bool:
    """Whether this connection was lost, or never came about."""
    return way.done() and (way.cancelled() or way.exception() is not None or way.result().is_closed())


def _login(ssh: Ssh, store: SecretStore) -> Mapping[str, object]:
    """The arguments of asyncssh that say who we are."""
    import asyncssh

    if ssh.key is not None:
        try:
            key = asyncssh.import_private_key(store.open(ssh.key).reveal() + "\n")
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


class _BastionFailed(Exception):
    """The way through a bastion is closed; the cause says why."""


_ERRNO = re.compile(r"\[Errno (\d+)\]")
_CIPHERS = "^aes128-gcm@openssh.com"
"""First, with all others behind it: processors encrypt it by themselves. A database that is copied through this process
costs it 0.6 times the processor time that it does with chacha20, which would be first (96 MB, once)."""
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


def in_thread(work: Callable[[], Awaitable[T]], cancelled: threading.Event, what: str) -> T:
    """Run on a loop of our own in a thread of our own: the caller may be inside a loop already. Raises ``Cancelled``,
    with ``what`` as what was stopped."""
    answers: list[T] = []
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
            problems.append(Cancelled(f"{what} was stopped on request."))
        except BaseException as error:  # noqa: BLE001  it is raised again in the caller's thread
            problems.append(error)

    thread = threading.Thread(target=body, name="ismgr-ssh")
    thread.start()
    try:
        thread.join()
    finally:
        stop.set()
        thread.join()
    if problems:
        raise problems[0]
    return answers[0]
