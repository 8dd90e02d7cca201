"""One run's way to its hosts: a client configuration, a private agent, warm connections. All end with the run."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from ismgr_automation.core.errors import EngineFailed, EngineMissing, EngineTimedOut
from ismgr_automation.core.secret import Redactor
from ismgr_automation.engines import process
from ismgr_automation.engines.ssh import config as rendering
from ismgr_automation.engines.ssh.agent import agent
from ismgr_automation.engines.ssh.scratch import scratch
from ismgr_automation.engines.ssh.trust import Trust, read_lines, trust_of, untrusted, without_revoked
from ismgr_automation.ports.hosts import Host, Reachability, Ssh
from ismgr_automation.ports.secrets import SecretStore

LONGEST_BASE = 20
"""Bytes of the path of the folder for temporary files. A socket's path must fit into 107: ours adds 27 for the run,
41 for the connection's hash, and OpenSSH 17 while it makes it."""

_CLOSE_SECONDS = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What ``session`` gives."""

    config: Path
    """An OpenSSH client configuration; use it as ``ssh -F CONFIG NAME``."""
    sockets: Path
    """A private folder with a short path, for sockets of the run."""
    excluded: tuple[Reachability, ...]
    """Hosts that must not be connected to, because no key is pinned for them or for a bastion on the way."""
    redactor: Redactor = field(default_factory=Redactor)
    """Has learnt the key: takes it out of what engines print."""


@contextlib.contextmanager
def session(
    hosts: Sequence[Host], ssh: Ssh, store: SecretStore, work: Path, *, environment: Mapping[str, str] | None = None
) -> Iterator[Session]:
    """Files below ``work``, an agent and sockets for these hosts; nothing of it is left after the ``with``.

    ``environment`` (words without blanks) is found by every command on a host whose sshd takes it over.
    ``hosts`` must hold the bastions as well. Raises ``InputError`` for hosts that cannot be rendered or a key that
    cannot be used, ``EngineFailed`` when the folder cannot be written, ``EngineMissing`` without an OpenSSH client.
    """
    rendering.validate(hosts)
    known = read_lines(ssh.known_hosts)
    hosts = without_revoked(hosts, known)
    trusts = {host.name: trust_of(host, known) for host in hosts}
    with contextlib.ExitStack() as stack:
        folder, sockets = _folders(work, stack)
        redactor = Redactor()
        agent_socket = None
        if ssh.key is not None:
            agent_socket = sockets / "agent"
            stack.enter_context(agent(redactor.learn(store.open(ssh.key)), ssh.key, agent_socket))
        places = rendering.Places(
            pinned=folder / "known_hosts",
            extra=folder / "known_hosts_extra",
            agent=agent_socket,
            key_file=ssh.key_file,
            sockets=sockets,
            environment=environment or {},
        )
        here = Session(config=folder / "config", sockets=sockets, excluded=untrusted(hosts, trusts), redactor=redactor)
        _write(hosts, ssh, places, here.config, trusts)
        _warm_bastions(hosts, here, ssh)
        yield here


def _folders(work: Path, stack: contextlib.ExitStack) -> tuple[Path, Path]:
    """The folder for files, below ``work``; and one for sockets, whose paths must be short."""
    try:
        work.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="ssh-", dir=work))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        base = Path(tempfile.gettempdir())
        if len(os.fsencode(base)) > LONGEST_BASE:
            base = Path("/tmp")  # noqa: S108  the folder in it is private
        sockets = stack.enter_context(scratch(base, close_masters))
    except OSError as error:
        raise _unwritable(error, work) from error
    return folder, sockets


def _write(
    hosts: Sequence[Host], ssh: Ssh, places: rendering.Places, config: Path, trusts: Mapping[str, Trust]
) -> None:
    by_name = {name for name, trust in trusts.items() if trust is Trust.BY_NAME}
    text = rendering.client_config(hosts, ssh, places, by_name)
    try:
        places.pinned.write_text(rendering.known_hosts(hosts))
        places.extra.write_text(ssh.known_hosts.rstrip("\n") + "\n" if ssh.known_hosts.strip() else "")
        config.write_text(text)
    except OSError as error:
        raise _unwritable(error, config.parent) from error


def _unwritable(error: OSError, folder: Path) -> EngineFailed:
    return EngineFailed(
        f"Cannot prepare SSH in {folder}: {error.strerror or error}.",
        engine="ssh",
        untouched="No host was touched.",
        next_step="Free space there, or set TMPDIR to a folder with some.",
    )


def _warm_bastions(hosts: Sequence[Host], here: Session, ssh: Ssh) -> None:
    """Connect to each bastion once, so that many hosts at a time do not run into its limit of unfinished logins.

    The outcome does not matter: hosts behind a dead bastion report it themselves.
    """
    excluded = {one.host for one in here.excluded}
    bastions = sorted({host.bastion for host in hosts if host.bastion and host.name not in excluded} - excluded)
    for name in _by_depth(bastions, hosts):
        with contextlib.suppress(EngineTimedOut):
            process.run(
                ["ssh", "-F", str(here.config), name, "true"],
                engine="ssh",
                subject=f"host/{name}",
                deadline=ssh.connect_timeout + timedelta(seconds=5),
                leashed=False,  # the connection that it leaves behind is what we want
            )


def _by_depth(names: Sequence[str], hosts: Sequence[Host]) -> list[str]:
    by_name = {host.name: host for host in hosts}
    return sorted(names, key=lambda name: len(rendering.chain(by_name[name], by_name)))


def close_masters(sockets: Path) -> None:
    """End every warm connection whose socket lies in the folder."""
    found = [path for path in sockets.iterdir() if path.is_socket() and path.name != "agent"]
    asked = []
    for path in found:
        with contextlib.suppress(FileNotFoundError):
            asked.append(
                subprocess.Popen(
                    ["ssh", "-F", "none", "-O", "exit", "-o", f"ControlPath={path}", "any"],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
    until = time.monotonic() + _CLOSE_SECONDS
    for child in asked:
        try:
            child.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    _end_stubborn(sockets, until)


def _end_stubborn(sockets: Path, until: float) -> None:
    """Wait for the masters to be gone; a master that hangs on a dead host is killed. Its title names its socket."""
    import psutil

    while masters := [pid for pid in psutil.pids() if _names(pid, str(sockets))]:
        if time.monotonic() > until:
            for pid in masters:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)
            return
        time.sleep(0.02)


def _names(pid: int, folder: str) -> bool:
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return line.startswith(b"ssh: ") and folder.encode() in line


def client() -> str:
    """The path of the OpenSSH client; raises ``EngineMissing``."""
    found = shutil.which("ssh")
    if found is None:
        raise EngineMissing(
            engine="ssh", needed="OpenSSH client", found=("PATH: no ssh",), ways=("apt-get install openssh-client",)
        )
    return found
