"""The folder that a person works from, and how a script gets from there to a host. Texts only."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from ismgr_automation.core.errors import InputError
from ismgr_automation.engines.ssh.config import Places, client_config, known_hosts, validate
from ismgr_automation.engines.ssh.trust import Trust, read_lines, trust_of, without_revoked
from ismgr_automation.ports.packages import Fleet
from ismgr_automation.ports.paper import Order

FOLDER = "runbook"
"""Below the folder in which a person stands."""
KEY = "RUNBOOK_KEY"
"""The environment variable that names the private key to log in with."""


def prepare(fleet: Fleet, authorities: Mapping[str, str]) -> tuple[Order, ...]:
    """Files of the folder. Raises ``InputError`` for hosts that cannot be rendered."""
    validate(fleet.hosts)
    lines = read_lines(fleet.ssh.known_hosts)
    hosts = without_revoked(fleet.hosts, lines)
    by_name = {one.name for one in hosts if trust_of(one, lines) is Trust.BY_NAME}
    here = Path(FOLDER)
    places = Places(pinned=here / "known_hosts", extra=here / "known_hosts_extra", key_file=here / "key")
    files = {
        "ssh_config": client_config(hosts, fleet.ssh, places, by_name),
        "known_hosts": known_hosts(hosts),
        "known_hosts_extra": fleet.ssh.known_hosts.strip(),
        **{f"ca-{machine}.pem": text for machine, text in sorted(authorities.items())},
    }
    words = [
        f"mkdir -p -m 700 {FOLDER}",
        f'ln -sfn "$(realpath "${{{KEY}:?name the private key first: export {KEY}=/path/to/key}}")" {FOLDER}/key',
        *(f"cat > {FOLDER}/{shlex.quote(name)} <<'END'\n{_inert(text)}\nEND" for name, text in files.items()),
        f"test -r {FOLDER}/key && echo READY",
    ]
    title = f"Make the folder `{FOLDER}` where you stand: how each host is reached, and by which key it is known"
    fails = f"`{KEY}` names no private key that you may read. Where it lies is told above."
    return (Order(title=title, script="\n".join(words), sees="READY", fails=fails),)


def on(host: str, script: str, fleet: Fleet, *arguments: str) -> str:
    """A command that runs a script on a host, as root. ``arguments`` are words of the local shell, as they stand."""
    words = " ".join(arguments)
    shell = f"sh -seu{f' -- {words}' if words else ''}"
    return f"ssh -F {FOLDER}/ssh_config {host} {root(host, fleet)}{shell} <<'END'\n{_inert(script)}\nEND"


def at_once(script: str) -> str:
    """A script that a shell reads to its end before it begins: what asks at the keyboard must not take the next line of
    what was pasted for an answer."""
    return f"{{\n{script}\n}}"


def root(host: str, fleet: Fleet) -> str:
    """What stands before a command that root is to run."""
    user = next((one.user for one in fleet.hosts if one.name == host), "")
    return "" if user == "root" else "sudo "


def _inert(text: str) -> str:
    """Text that a here-document can hold. Raises ``InputError`` for one that would end it."""
    if "END" in text.splitlines():
        raise InputError("A text for a runbook has a line that ends it: END.")
    return text.strip("\n")
