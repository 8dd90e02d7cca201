"""How a suite's commands reach a host: testinfra's SSH backend over the client configuration of our run. A host that
cannot be reached is told apart from a check that fails, and is asked once only."""

from __future__ import annotations

import shlex
from typing import Any

from testinfra.backend.base import CommandResult, HostSpec  # type: ignore[import-untyped]
from testinfra.backend.ssh import SshBackend  # type: ignore[import-untyped]
from testinfra.host import Host as Machine  # type: ignore[import-untyped]

from ismgr_automation.engines.ssh.words import one_line, reach_of
from ismgr_automation.engines.testinfra.job import Job
from ismgr_automation.ports.hosts import Host, Reach

SSH_FAILED = 255
"""What ssh ends with when it could not do its own work."""


class HostUnreachable(Exception):
    """The host cannot be worked on, so no check on it can be made."""


class Connection(SshBackend):  # type: ignore[misc]
    """Commands on one host, through ``ssh -F CONFIG NAME``."""

    NAME = "ssh"

    def __init__(self, host: Host, job: Job) -> None:
        super().__init__(host.name, ssh_config=job.ssh_config, sudo=job.become and host.user != "root")
        # testinfra would look for a user and a port inside the name
        self.host = HostSpec(host.name, None, None, None)
        self.hostname = host.name
        self._closed = job.excluded.get(host.name, "")

    def get_pytest_id(self) -> str:
        """The name alone: how we reach it is the same for all."""
        return self.hostname

    def get_sudo_command(self, command: str, sudo_user: str | None) -> str:
        """Never ask for a password: nobody is there to type one."""
        who = f"-u {shlex.quote(sudo_user)} " if sudo_user is not None else ""
        return f"sudo -n {who}/bin/sh -c {shlex.quote(command)}"

    def run_ssh(self, command: str) -> CommandResult:
        """Run a command; raises ``HostUnreachable`` when the host cannot be worked on."""
        if self._closed:
            raise HostUnreachable(self._closed)
        result = self.run_local("ssh -F %s -- %s %s", str(self.ssh_config), self.hostname, command)
        result.command = self.encode(command)
        words = result.stderr_bytes.decode("utf-8", "replace")
        reach = reach_of(words)
        if result.rc == SSH_FAILED and reach is not None:
            self._closed = f"{self.hostname} cannot be reached ({reach}): {one_line(words)}"
        elif result.rc != 0 and reach is Reach.SUDO and words.lstrip().startswith("sudo:"):
            self._closed = f"{self.hostname} lets us in, and not become root: {one_line(words)}"
        elif result.rc == SSH_FAILED:
            raise RuntimeError(f"ssh to {self.hostname} ended with 255: {one_line(words) or 'without a word'}")
        if self._closed:
            raise HostUnreachable(self._closed)
        return result


def machine(host: Host, job: Job) -> Machine:
    """Testinfra's view of a host: what suites get as ``host``."""
    backend: Any = Connection(host, job)
    return Machine(backend)
