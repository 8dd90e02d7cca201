"""Runs one short shell script on many hosts at once, over connections of its own. What the script does is the caller's
affair."""

from __future__ import annotations

import asyncio
import shlex
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines.ssh.links import Links, in_thread
from ismgr_automation.engines.ssh.words import one_line, reach_of
from ismgr_automation.ports.hosts import Host, Reach, Ssh
from ismgr_automation.ports.secrets import SecretStore

if TYPE_CHECKING:
    import asyncssh


_MARK = "-- begin --"
_SKIP = f'while IFS= read -r line && [ "$line" != "{_MARK}" ]; do :; done\n'
"""A password that nobody asked for stands before the script's own input: sudo without one, or root already."""


class Rights(StrEnum):
    """As whom a script runs."""

    USER = "user"
    ROOT = "root"
    """A host where that is refused answers with ``Reach.SUDO``."""
    ROOT_IF_POSSIBLE = "root-if-possible"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A POSIX shell script with its arguments. ``environment`` reaches it only where the host's sshd takes it over (on
    most hosts: names that begin with ``LC_``)."""

    script: str
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    rights: Rights = Rights.USER
    become_password: SecretRef | None = None
    input: Mapping[str, str] = field(default_factory=dict)
    """What each host's script reads from its standard input, by host. Without any, a script must not read."""
    deadline: timedelta = timedelta(seconds=10)
    """For the script alone; connecting has ``Ssh.connect_timeout``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """The hosts to work on, by name, and how to get there; ``hosts`` holds the bastions as well."""

    hosts: Sequence[Host]
    names: Sequence[str]
    ssh: Ssh


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of it on one host. ``code`` is the script's; it means something only when ``reach`` is OK."""

    host: str
    reach: Reach
    code: int = 0
    output: str = ""
    detail: str = ""
    """Words for people: why it could not be reached, or what the script said on standard error."""
    begun: bool = False
    """Whether the host was asked to run the script: after a lost connection it may still do so."""
    seconds: float = 0.0


def run_on(targets: Targets, job: Job, store: SecretStore, cancelled: threading.Event) -> tuple[Answer, ...]:
    """One answer for each name of the targets, in that order.

    Raises ``InputError`` for hosts that cannot be rendered or a key that cannot be used, ``Cancelled``; never for what
    a host does.
    """
    if not targets.names:
        return ()
    links = Links.to(targets.hosts, targets.ssh, store)
    command = command_of(job, store)
    begun: set[str] = set()

    async def work(connection: asyncssh.SSHClientConnection, host: Host) -> Answer:
        begun.add(host.name)
        words = command.words_for(host.name)
        ended = connection.run(command.line, input=words, env=job.environment, check=False, errors="replace")
        try:
            done = await asyncio.wait_for(ended, job.deadline.total_seconds())
        except TimeoutError:
            return failed(host.name, Reach.TIMEOUT, f"no end after {job.deadline.total_seconds():g} s")
        said = str(done.stderr)
        if done.exit_status == 1 and reach_of(said) is Reach.SUDO:
            return failed(host.name, Reach.SUDO, one_line(said) or "sudo is refused")
        if done.exit_status is None:
            return failed(host.name, Reach.TIMEOUT, "the connection was lost")
        return Answer(
            host=host.name,
            reach=Reach.OK,
            code=done.exit_status,
            output=str(done.stdout),
            detail=one_line(said),
            begun=True,
            seconds=links.seconds(host.name),
        )

    def failed(name: str, reach: Reach, detail: str) -> Answer:
        asked = name in begun and reach is not Reach.SUDO
        return Answer(host=name, reach=reach, detail=detail, begun=asked, seconds=links.seconds(name))

    return in_thread(lambda: links.each(targets.names, work, failed), cancelled, "Work on hosts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What is started on a host; it may hold a password."""

    line: str
    words: str = field(repr=False)
    input: Mapping[str, str] = field(repr=False)

    def words_for(self, host: str) -> str | None:
        """What is written to the standard input of one host's script; None: nothing, and it stays open."""
        own = f"{_MARK}\n{self.input.get(host, '')}" if self.input else ""
        return self.words + own or None


def command_of(job: Job, store: SecretStore) -> Command:
    """The shell line that runs a job with its rights, and what it is sent first. Raises ``SecretError``."""
    script = _SKIP + job.script if job.input else job.script
    plain = shlex.join(["sh", "-c", script, "sh", *job.arguments])
    words = ""
    sudo = f"sudo -n {plain}"
    if job.become_password is not None and job.rights is not Rights.USER:
        words = store.open(job.become_password).reveal() + "\n"
        sudo = f"sudo -S -k -p '' {plain}"
    match job.rights:
        case Rights.USER:
            line = f"exec {plain}"
        case Rights.ROOT:
            line = f'if [ "$(id -u)" = 0 ]; then exec {plain}; fi; exec {sudo}'
        case Rights.ROOT_IF_POSSIBLE:
            test = "sudo -n true 2>/dev/null" if not words else "command -v sudo >/dev/null"
            line = f'if [ "$(id -u)" != 0 ] && {test}; then exec {sudo}; fi; exec {plain}'
    return Command(line=line, words=words, input=job.input)
