"""Finds what a run left running on hosts, by a mark in the environment of all that it starts there, and ends it.
Nothing without the mark is ever touched."""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from ismgr_automation.core.address import Address
from ismgr_automation.core.errors import IsmgrError
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines.ssh.remote import Answer, Job, Rights, Targets, run_on
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.secrets import SecretStore

VARIABLE = "LC_ISMGR_RUN"
"""Debian's sshd takes over ``LC_*``, and sudo keeps it where the value has no slash and no per cent sign."""
_HEARD = "LC_ISMGR_SWEEP"

DEADLINE = timedelta(seconds=8)

_SCRIPT = r"""
printf 'a\0b' | grep -qzxF b || { echo "its grep cannot search in /proc" >&2; exit 3; }
[ -n "$LC_ISMGR_SWEEP" ] && echo heard
marked() { grep -lszxF -e "LC_ISMGR_RUN=$1" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3; }
words() { tr '\0\n' '  ' </proc/"$1"/cmdline | cut -c1-300; }
told() { for pid in $2; do printf '%s %s %s\n' "$1" "$pid" "$(words "$pid")"; done; }
found=$(marked "$1")
[ -n "$found" ] || exit 0
told found "$found" 2>/dev/null
turn=0
while [ -n "$found" ] && [ $turn -lt 30 ]; do
    if [ $turn -lt 20 ]; then kill -TERM $found; else kill -KILL $found; fi 2>/dev/null
    sleep 0.1
    found=$(marked "$1")
    turn=$((turn + 1))
done
told left "$found" 2>/dev/null
exit 0
"""


def mark_of(run: str, address: Address) -> str:
    """The mark of what a run starts on hosts for one address; a run without an id gets one that nobody else has.

    >>> mark_of("run-7", Address.parse("group/webs"))
    'run-7.6af64724eab9'
    """
    name = re.sub(r"[^A-Za-z0-9_-]", "-", run) or secrets.token_hex(8)
    return f"{name}.{hashlib.sha256(str(address).encode()).hexdigest()[:12]}"


def environment(mark: str) -> Mapping[str, str]:
    """What marks commands on hosts."""
    return {VARIABLE: mark}


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What was found, in sentences."""

    ended: tuple[str, ...] = ()
    """Hosts on which something still ran that was ended."""
    left: tuple[str, ...] = ()
    """A sentence for each process that would not end, and each host that could not be looked at."""


def sweep(
    mark: str, targets: Targets, become_password: SecretRef | None, store: SecretStore, clean: Callable[[str], str]
) -> Swept:
    """End everything with this mark on the targets, as root where we may: SIGTERM, two seconds, SIGKILL, one second.

    ``clean`` takes secrets out of command lines. Never raises for a host.
    """
    job = Job(
        script=_SCRIPT,
        arguments=(mark,),
        environment={_HEARD: "1"},
        rights=Rights.ROOT_IF_POSSIBLE,
        become_password=become_password,
        deadline=DEADLINE,
    )
    try:
        answers = run_on(targets, job, store, threading.Event())
    except IsmgrError as error:
        return Swept(left=(f"What still runs on {', '.join(targets.names)} is not known: {error.summary}",))
    read = [_read(one, clean) for one in answers]
    return Swept(
        ended=tuple(name for one in read for name in one.ended), left=tuple(line for one in read for line in one.left)
    )


def _read(answer: Answer, clean: Callable[[str], str]) -> Swept:
    if answer.reach is not Reach.OK or answer.code:
        why = f"code {answer.code}" if answer.reach is Reach.OK else str(answer.reach)
        words = ": ".join(filter(None, (why, clean(answer.detail))))
        return Swept(left=(f"{answer.host}: what still runs there is not known ({words}).",))
    lines = answer.output.splitlines()
    found = [line for line in lines if line.startswith("found ")]
    left = [line.split(" ", 2)[1:] for line in lines if line.startswith("left ")]
    if not found and "heard" not in lines:
        # which marks the processes of a run
        why = "its sshd does not take over LC_*, see AcceptEnv"
        return Swept(left=(f"{answer.host}: what still runs there is not known ({why}).",))
    return Swept(
        ended=(answer.host,) if len(found) > len(left) else (),
        left=tuple(f"{answer.host}: pid {pid} still runs: {clean(command.strip())}" for pid, command in left),
    )
