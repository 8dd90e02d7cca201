"""Shows hosts the fencing token of our lease before the first task: a host that has seen a larger one refuses us.
Writes one small file on each host, and nothing else."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from datetime import timedelta

from ismgr_automation.core.errors import InputError, LeaseLost
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines.ssh.remote import Answer, Job, Rights, Targets, run_on
from ismgr_automation.ports.hosts import Reach, Reachability
from ismgr_automation.ports.secrets import SecretStore

PLACE = "/var/lib/ismgr/fence.json"
"""One JSON object a line, one line for each name of a lease. Without root: ``.ismgr/fence.json`` below the home."""

DEADLINE = timedelta(seconds=20)

LARGER = 76
"""What ``SCRIPT`` ends with where a host has seen a larger token; it prints the line that it knows."""
_NAME = re.compile(r"[A-Za-z0-9._/-]+")
_ODD = re.compile(r"[^A-Za-z0-9._:-]")
SCRIPT = r"""
umask 022
if [ "$(id -u)" = 0 ]; then place=/var/lib/ismgr; else place=$HOME/.ismgr; fi
mkdir -p "$place" && cd "$place" && exec 9>>fence.lock || exit 73
flock -w 3 9 || { echo "$place/fence.lock is held by somebody else" >&2; exit 75; }
key="{\"name\": \"$1\", \"token\": "
known=$(grep -sF "$key" fence.json | tail -n 1)
token=${known#"$key"}
token=${token%%,*}
case ${token:=0} in *[!0-9]*) echo "$place/fence.json cannot be read: $known" >&2; exit 74 ;; esac
if [ "$token" -gt "$2" ]; then echo "$known"; exit 76; fi
[ "$token" = "$2" ] && exit 0
{ grep -svF "$key" fence.json; printf '%s%s, "run": "%s"}\n' "$key" "$2" "$3"; } >fence.new || exit 73
sync fence.new && mv fence.new fence.json && sync . || exit 73
"""
"""Needs three arguments, as ``arguments`` makes them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """A lease as hosts are told of it: its name, our token, our run; and as whom they are told."""

    name: str
    token: int
    run: str
    rights: Rights
    become_password: SecretRef | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fenced:
    """Hosts that must not be worked on: those that did not answer, and those that could not keep the token."""

    unreachable: tuple[Reachability, ...] = ()
    broken: tuple[tuple[str, str], ...] = ()
    """Host and why."""


def fence(ours: Fence, targets: Targets, store: SecretStore, cancelled: threading.Event) -> Fenced:
    """Show all targets our token, at the same time.

    Raises ``LeaseLost`` naming each host that has seen a larger token: then nothing may run on any of them; and
    ``InputError`` for a name that cannot stand in the file.
    """
    job = Job(
        script=SCRIPT,
        arguments=arguments(ours.name, ours.token, ours.run),
        rights=ours.rights,
        become_password=ours.become_password,
        deadline=DEADLINE,
    )
    answers = run_on(targets, job, store, cancelled)
    larger = [f"{one.host} ({_token(one)})" for one in answers if one.code == LARGER]
    if larger:
        raise LeaseLost(
            f"Our token {ours.token} of {ours.name} is too old: a larger one was seen by {', '.join(larger)}.",
            untouched="No task was run on any host of this request.",
            next_step="Somebody else works on this environment: look with `ismgr lease`, then plan again.",
        )
    return Fenced(
        unreachable=tuple(
            Reachability(host=one.host, reach=one.reach, detail=one.detail, seconds=one.seconds)
            for one in answers
            if one.reach is not Reach.OK
        ),
        broken=tuple(
            (one.host, f"the host cannot keep the fencing token: {one.detail or f'code {one.code}'}")
            for one in answers
            if one.reach is Reach.OK and one.code
        ),
    )


def arguments(name: str, token: int, run: str) -> tuple[str, str, str]:
    """What ``SCRIPT`` must be called with.

    Raises ``InputError`` for a name that cannot stand in the file.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"The lease {name!r} cannot be shown to hosts: only letters, digits and . _ - / are.")
    return name, str(token), _ODD.sub("-", run)


def _token(answer: Answer) -> str:
    found = re.search(r'"token": (\d+), "run": "([^"]*)"', answer.output)
    return f"token {found[1]}, run {found[2] or 'unknown'}" if found else "it does not say which"
