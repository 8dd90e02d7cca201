"""A lab of its own for a benchmark: its machines are on, and it is taken away at the end."""

from __future__ import annotations

import re
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from bench.measure import Failed
from ismgr_automation.core.errors import IsmgrError
from ismgr_automation.lab import Lab, down
from ismgr_automation.lab.topology import Segment

NAME = "bench"
"""The lab's name: that of the demo stays free."""
DEADLINE = timedelta(minutes=3)
ISMGR = Path(sys.executable).with_name("ismgr")


@contextmanager
def up(webs: int = 1, *, spare: bool = False) -> Iterator[Lab]:
    """A lab with its machines switched on, with one for clones where that is asked for. What the lab complains
    of is ``Failed``."""
    try:
        down(NAME)  # of a run that was killed
        lab = Lab.up(NAME, webs=webs, spare=spare)
        try:
            _switch_on(lab)
            yield lab
        finally:
            lab.down()
    except IsmgrError as error:
        raise Failed(f"the lab {NAME}: {error}", error.next_step) from error


def power(lab: Lab, name: str, state: str) -> None:
    """Set a machine's power over Redfish, as people do: ``On``, ``ForceOff``."""
    import sushy  # type: ignore[import-untyped]
    from sushy import auth

    user, password = lab.bmc_credential(name)
    login = auth.BasicAuth(user, password)
    root = sushy.Sushy(lab.bmc_url(name), verify=str(lab.folder.authority), auth=login)
    root.get_system().reset_system({"On": sushy.RESET_ON, "ForceOff": sushy.RESET_FORCE_OFF}[state])


def on(lab: Lab, name: str, *argv: str, stdin: bytes | None = None) -> str:
    """What a command on a machine says. Raises ``Failed``."""
    done = lab.run(name, argv, stdin=stdin, deadline=DEADLINE)
    if done.code != 0:
        raise Failed(f"{argv[0]} on {name} ended with {done.code}", done.stderr)
    return done.stdout


def moved(lab: Lab, text: str) -> str:
    """Text of the example, which has the addresses of the demo's lab, with those of this one."""
    networks = [str(lab.topology.network(one).network_address).removesuffix("0") for one in Segment]
    return re.sub(r"\b10\.4([0-3])\.0\.", lambda found: networks[int(found[1])], text)


def greets(address: str) -> bool:
    """Whether an SSH server answers there."""
    try:
        with socket.create_connection((address, 22), timeout=2) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _switch_on(lab: Lab) -> None:
    """All of them; waits until each machine's sshd greets."""
    for machine in lab.topology.servers:
        power(lab, machine.name, "On")
    end = time.monotonic() + DEADLINE.total_seconds()
    for machine in lab.topology.servers:
        while not greets(str(machine.management)):
            if time.monotonic() > end:
                raise Failed(f"{machine.name} did not come up", "its sshd does not answer")
            time.sleep(0.1)
