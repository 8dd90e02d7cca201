"""What there is to patch in a lab: six small packages of the service, each in a version that machines have and one that
mends something, and how machines get the first. Nothing here decides whether a patch is due."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum

from ismgr_automation.core.errors import EngineFailed
from ismgr_automation.engines.process import Finished
from ismgr_automation.lab import firmware, repository, shell
from ismgr_automation.lab.debs import Package
from ismgr_automation.lab.shell import ENGINE

MOTD, AGENT, TOOLS = "records-motd", "records-agent", "records-tools"
BROKEN, YOUNG, AUDIT = "records-broken", "records-young", "records-audit"
SECURITY = "stable-security"
PREPARE_DEADLINE = timedelta(minutes=3)
_HANDS = 4

_AGENT = """#!/usr/bin/python3
# Holds its library open as a compiled service does: replaced on the disk, the old one stays in memory until a restart.
import mmap
import os
import signal

with open("/usr/lib/records-agent/librecords.so.2", "rb") as library:
    held = mmap.mmap(library.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_EXEC)
with open("/run/records-agent/version", "w") as told:
    told.write(held[:].decode())
signal.signal(signal.SIGTERM, lambda _number, _frame: os._exit(0))
while True:
    signal.pause()
"""
_AGENT_UNIT = """[Unit]
Description=Agent of the records application

[Service]
ExecStart=/usr/bin/python3 /usr/lib/records-agent/agent
RuntimeDirectory=records-agent
Restart=always

[Install]
WantedBy=multi-user.target
"""
_AGENT_SCRIPTS: Mapping[str, str] = {
    # started when it is new; after an upgrade the restart is somebody's decision
    "postinst": """#!/bin/sh
set -e
if [ "$1" = configure ] && [ -z "$2" ]; then
    systemctl daemon-reload
    systemctl enable --now --quiet records-agent.service
fi
""",
    "prerm": """#!/bin/sh
set -e
if [ "$1" = remove ]; then systemctl disable --now --quiet records-agent.service; fi
""",
}
_FAILS = """#!/bin/sh
if [ "$1" = configure ]; then
    echo "records-broken: cannot migrate the records: no such table" >&2
    exit 1
fi
"""


def _simple(name: str, version: str, what: str, suite: str) -> Package:
    files = {f"/usr/share/{name}/version": f"{version}\n"}
    return Package(name=name, version=version, summary=f"{what} of the records application", suite=suite, files=files)


def _agent(version: str, suite: str) -> Package:
    return Package(
        name=AGENT,
        version=version,
        summary="agent of the records application",
        suite=suite,
        section="net",
        files={
            "/usr/lib/records-agent/agent": _AGENT,
            "/usr/lib/records-agent/librecords.so.2": f"{version}\n",
            "/lib/systemd/system/records-agent.service": _AGENT_UNIT,
        },
        scripts=_AGENT_SCRIPTS,
    )


def _tools(version: str, suite: str) -> Package:
    return Package(
        name=TOOLS,
        version=version,
        summary="command line of the records application",
        suite=suite,
        section="utils",
        files={"/usr/bin/records-tools": f"#!/bin/sh\necho 'records-tools {version}'\n"},
        # as most binary packages, it has a source of another name
        fields={"Source": "records-utils"},
    )


FIRST: tuple[Package, ...] = (
    _simple(MOTD, "1.0", "message of the day", "stable"),
    _agent("2.0", "stable"),
    _tools("1:3.0-1", "stable"),
    _simple(BROKEN, "1.0", "archive", "stable"),
    _simple(YOUNG, "1.0", "theme", "stable"),
    _simple(AUDIT, "1.4~rc1", "audit log", "stable"),
)
"""The versions that machines have at first."""
SECOND: tuple[Package, ...] = (
    _simple(MOTD, "1.1", "message of the day", SECURITY),
    _agent("2.1", SECURITY),
    _tools("1:3.0-1+deb12u1", SECURITY),
    replace(_simple(BROKEN, "1.1", "archive", SECURITY), scripts={"postinst": _FAILS}),
    _simple(YOUNG, "1.1", "theme", "stable"),
    _simple(AUDIT, "1.4", "audit log", SECURITY),
)
"""What they are patched with. ``records-broken`` cannot be configured; ``records-young`` mends nothing, and is new."""
ALL = FIRST + SECOND
FIRMWARE: Mapping[str, str] = {
    "firmware/bios-2.18.1.json": firmware.image("BIOS", "2.18.1"),
    "firmware/bmc-4.40.40.json": firmware.image("BMC", "4.40.40"),
    "firmware/nic-22.31.6.json": firmware.image("NIC.1", "22.31.6"),
    "firmware/damaged.json": firmware.image("BIOS", "2.18.2").replace('"payload": "', '"payload": "not '),
}
"""Firmware images, by their path below the repository's address; the last one is refused by every BMC."""


class Fate(StrEnum):
    """What became of a machine."""

    PREPARED = "prepared"
    """It has the first versions now."""
    KEPT = "kept"
    """It had the packages, in whatever version; only its lists of what is offered are new."""
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """One machine of a site, and what became of it."""

    machine: str
    fate: Fate


_PREPARE = f"""
set -e
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 LC_ALL=C
mkdir --parents /etc/apt/keyrings
printf '%s' "$1" > {repository.KEYRING}
printf '%s' "$2" > {repository.SOURCES}
apt-get --quiet=2 --option APT::Update::Error-Mode=any update
reset=$3
shift 3
names=$(for one; do echo "${{one%%=*}}"; done)
if [ -n "$reset" ]; then
    # whatever a run has left: pins, holds, packages that are half there
    rm --force /etc/apt/preferences.d/*ismgr*
    apt-mark unhold $names > /dev/null 2>&1 || true
    dpkg --purge --force-remove-reinstreq $names > /dev/null 2>&1 || true
elif dpkg-query --show $names > /dev/null 2>&1; then
    echo kept
    exit 0
fi
apt-get --quiet=2 --yes --no-install-recommends --allow-downgrades install "$@" > /dev/null
echo prepared
"""


def prepare(repo: repository.Repository, on: Sequence[str], *, reset: bool) -> tuple[Prepared, ...]:
    """Let the machines ``on`` (by full name) know the repository and have the first versions, once or with ``reset``
    again. Those of other names are told as off. Raises ``EngineFailed`` that names each machine that could not.
    """
    topology = repo.topology
    wanted = [f"{package.name}={package.version}" for package in FIRST]
    words = ("ismgr-lab", repo.key, repo.sources, "reset" if reset else "", *wanted)

    def one(name: str) -> tuple[str, Finished]:
        container = topology.container(topology.machine(name))
        argv = ("podman", "exec", container, "sh", "-c", _PREPARE, *words)
        return name, shell.attempt(*argv, deadline=PREPARE_DEADLINE)

    names = [machine.name for machine in topology.servers if machine.name in on]
    with ThreadPoolExecutor(_HANDS) as hands:
        ended = dict(hands.map(one, names))
    problems = {name: finished.stderr for name, finished in ended.items() if finished.code != 0}
    if problems:
        raise EngineFailed(
            f"The packages could not be prepared on {', '.join(problems)}.",
            engine=ENGINE,
            subject=", ".join(problems),
            detail="\n".join(f"{name}: {' '.join(said.split()[-60:])}" for name, said in problems.items()),
            next_step="A site reaches packages through its gateway only: see with `ismgr lab status` whether it is on.",
        )
    return tuple(
        Prepared(
            machine=machine.name,
            fate=Fate(ended[machine.name].stdout.split()[-1]) if machine.name in ended else Fate.OFF,
        )
        for machine in topology.servers
    )
