"""Takes servers out of HAProxy and back, through the runtime socket of each balancer over SSH. It touches the
administrative state of the one server that it is asked for, and never a configuration."""

from __future__ import annotations

import csv
import io
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from pathlib import PurePosixPath
from time import monotonic

from ismgr_automation.core.diagnostic import did_you_mean
from ismgr_automation.core.errors import Cancelled, InputError
from ismgr_automation.engines.ssh.remote import Answer, Job, Rights, Targets, run_on
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.secrets import SecretStore
from ismgr_automation.ports.upkeep import Drained, Pool

READY, DRAIN, MAINT = "ready", "drain", "maint"
POLL = (0.1, 0.2, 0.4, 0.8, 1.0)
"""Seconds between two looks; the last one repeats."""

AFTER_CUT = timedelta(seconds=5)
"""How long cut sessions may take to be gone."""

NAME = re.compile(r"[A-Za-z0-9_.:-]+")
_MARKED = "%% marked by ismgr"
STATES, STATISTICS = "# be_id ", "# pxname,"
"""How the tables of ``show servers state`` and ``show stat`` begin."""
_MAINTAINED, _DRAINED = 0x01 | 0x02 | 0x20 | 0x40, 0x08 | 0x10
"""Bits of ``srv_admin_state``: by whatever way it came to maintenance, and to draining. 0x04 remembers that it was
disabled in the configuration, and stays when it was made ready."""


class _Act(StrEnum):
    LOOK = "look"
    DRAIN = "drain"
    READY = "ready"
    CUT = "cut"


_SCRIPT = f"""
act=$1 socket=$2 server=$3 mark=$4 note=$5
if [ ! -S "$socket" ]; then echo "there is no runtime socket $socket" >&2; exit 3; fi
if command -v python3 >/dev/null 2>&1; then
  ask() {{ python3 -c 'import socket, sys
one = socket.socket(socket.AF_UNIX)
one.settimeout(10)
one.connect(sys.argv[1])
one.sendall(sys.argv[2].encode() + b"\\n")
sys.stdout.write(b"".join(iter(lambda: one.recv(65536), b"")).decode(errors="replace"))' "$socket" "$1"; }}
elif command -v socat >/dev/null 2>&1; then
  ask() {{ printf '%s\\n' "$1" | socat -t 10 STDIO "UNIX-CONNECT:$socket"; }}
else
  echo "neither python3 nor socat is there to speak to $socket" >&2; exit 3
fi
order=
case $act in
  # the mark comes first and goes last: whoever dies in between leaves a server that can be put back
  drain) echo "$note" > "$mark" || exit 4; order="set server $server state drain;" ;;
  ready) order="set server $server state ready;" ;;
  cut) order="shutdown sessions server $server;" ;;
esac
answer=$(ask "${{order}}show servers state;show stat") || exit 4
printf '%s\n' "$answer"
if [ "$act" = ready ] && [ -z "$(printf '%s' "$answer" | head -n 1)" ]; then rm -f "$mark"; fi
if [ -e "$mark" ]; then echo '{_MARKED}'; fi
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Server:
    """The server as one balancer sees it. ``said`` is what HAProxy answered to an order; empty is well."""

    admin: str
    status: str
    check: str
    sessions: int
    ours: bool
    """Whether we drained it, as the mark on the balancer says."""
    said: str = ""

    @property
    def up(self) -> bool:
        return self.status.startswith("UP") or self.status == "no check"


class HaproxyBalancer:
    """Implements ``ports.upkeep.Balancer``.

    That *we* drained a server is written into a mark beside the runtime socket, where it lives as long as HAProxy's own
    runtime state does: so ``restore`` puts back what was ours after a crash too, and leaves what somebody else drained.
    """

    def __init__(self, store: SecretStore) -> None:
        self._store = store

    def drain(self, pool: Pool, context: Context) -> tuple[Drained, ...]:
        """Send the server nothing new, wait until it has no session; at the deadline the rest is cut off.

        One that somebody else drained, or put to maintenance, keeps that state. Raises ``InputError`` for names that
        HAProxy cannot have, ``Cancelled``: the server then stays drained, and ``restore`` puts it back.
        """
        work = _Work(pool, self._store, context)
        seen = work.ask(_Act.LOOK, pool.fleet.names)
        before = {name: READY if one.ours and one.admin == DRAIN else one.admin for name, one in seen.items()}
        seen |= work.ask(_Act.DRAIN, [name for name, one in seen.items() if one.admin == READY])
        refused = [name for name, one in seen.items() if one.admin == READY]
        waiting = [name for name in seen if name not in refused]
        seen |= work.until(waiting, lambda one: one.sessions == 0, pool.deadline)
        cut = {name: seen[name].sessions for name in waiting if name in seen and seen[name].sessions}
        seen |= work.ask(_Act.CUT, list(cut))
        seen |= work.until(list(cut), lambda one: one.sessions == 0, AFTER_CUT)

        def tell(name: str, one: _Server) -> Drained:
            told = Drained(
                balancer=name, ok=True, before=before[name], sessions=cut.get(name, 0), seconds=work.seconds()
            )
            if name in refused:
                return replace(told, ok=False, detail=f"HAProxy did not drain it: {one.said or 'it says nothing'}")
            if one.sessions:
                why = "sessions came after the others had been cut off: persistence sends them to a drained server too"
                return replace(told, ok=False, detail=f"{one.sessions} {why}")
            return replace(told, detail=_whose(before[name]))

        return work.results(seen, tell)

    def restore(self, pool: Pool, context: Context) -> tuple[Drained, ...]:
        """Make the server ready where we drained it, and wait until the health check says UP.

        Raises ``InputError`` for names that HAProxy cannot have, ``Cancelled``.
        """
        work = _Work(pool, self._store, context)
        seen = work.ask(_Act.LOOK, pool.fleet.names)
        before = {name: one.admin for name, one in seen.items()}
        # a mark on a server that is ready is left from before HAProxy was restarted: only the mark goes
        mine = [name for name, one in seen.items() if one.ours and one.admin in {DRAIN, READY}]
        seen |= work.ask(_Act.READY, mine)
        back = [name for name, one in seen.items() if one.admin == READY]
        seen |= work.until(back, lambda one: one.up, pool.deadline)

        def tell(name: str, one: _Server) -> Drained:
            told = Drained(balancer=name, ok=True, before=before[name], seconds=work.seconds())
            if name in mine and one.admin != READY:
                return replace(told, ok=False, detail=f"HAProxy did not make it ready: {one.said or 'it says nothing'}")
            if one.admin != READY:
                return replace(told, detail=_whose(one.admin))
            if not one.up:
                return replace(
                    told, ok=False, detail=f"it is ready, and the health check says {one.status} {one.check}"
                )
            return told

        return work.results(seen, tell)

    def states(self, pool: Pool, context: Context) -> tuple[Drained, ...]:
        """The administrative state on each balancer, with the number of sessions; changes nothing."""
        work = _Work(pool, self._store, context)

        def tell(name: str, one: _Server) -> Drained:
            detail = f"{one.status} {one.check}".strip()
            mark = ", drained by us" if one.ours and one.admin == DRAIN else ""
            return Drained(
                balancer=name,
                ok=True,
                before=one.admin,
                detail=f"{detail}, sessions: {one.sessions}{mark}",
                seconds=work.seconds(),
            )

        return work.results(work.ask(_Act.LOOK, pool.fleet.names), tell)


class _Work:
    """One call: asks the balancers, all at once, and remembers those that could not say."""

    def __init__(self, pool: Pool, store: SecretStore, context: Context) -> None:
        for what, name in (("backend", pool.backend), ("server", pool.server)):
            if not NAME.fullmatch(name):
                raise InputError(f"{name!r} cannot be the name of a {what} in HAProxy.")
        self.pool, self.store, self.context = pool, store, context
        self.began = monotonic()
        self.troubles: dict[str, str] = {}

    def seconds(self) -> float:
        return round(monotonic() - self.began, 3)

    def ask(self, act: _Act, names: Sequence[str]) -> dict[str, _Server]:
        """Do it on these balancers and look; those that could not say are left out."""
        pool = self.pool
        mark = PurePosixPath(pool.socket).parent / f"ismgr-drained-{pool.backend},{pool.server}"
        note = f"drained by ismgr, run {self.context.run or 'unnamed'}"
        job = Job(
            script=_SCRIPT,
            arguments=(act.value, pool.socket, f"{pool.backend}/{pool.server}", str(mark), note),
            rights=Rights.ROOT,
            become_password=pool.fleet.become_password,
            deadline=timedelta(seconds=30),
        )
        targets = Targets(hosts=pool.fleet.hosts, names=names, ssh=pool.fleet.ssh)
        found: dict[str, _Server] = {}
        for answer in run_on(targets, job, self.store, self.context.cancelled):
            one = _read(answer, pool)
            if isinstance(one, _Server):
                found[answer.host] = one
            else:
                self.troubles[answer.host] = one
        return found

    def until(self, names: Sequence[str], holds: Callable[[_Server], bool], within: timedelta) -> dict[str, _Server]:
        """Look at these until it holds on each, or the time is over; what was seen last."""
        end = monotonic() + within.total_seconds()
        seen: dict[str, _Server] = {}
        waiting = list(names)
        for pause in _pauses():
            looked = self.ask(_Act.LOOK, waiting)
            seen |= looked
            waiting = [name for name, one in looked.items() if not holds(one)]
            if not waiting or monotonic() > end:
                break
            _sleep(self.context.cancelled, min(pause, max(0.0, end - monotonic())))
        return seen

    def results(self, seen: dict[str, _Server], tell: Callable[[str, _Server], Drained]) -> tuple[Drained, ...]:
        """One for each balancer, in the order in which they were named."""
        return tuple(
            Drained(balancer=name, ok=False, detail=self.troubles[name], seconds=self.seconds())
            if name in self.troubles
            else tell(name, seen[name])
            for name in self.pool.fleet.names
        )


def _read(answer: Answer, pool: Pool) -> _Server | str:
    """What a balancer said, or why it could not."""
    if answer.reach is not Reach.OK:
        return f"cannot be reached ({answer.reach}): {answer.detail}"
    if answer.code:
        return answer.detail or f"the runtime socket could not be asked (exit {answer.code})"
    if STATES not in answer.output or STATISTICS not in answer.output:
        return f"this does not look like HAProxy's runtime socket: {answer.output.strip()[:200]!r}"
    text, mark, _ = answer.output.partition(_MARKED)
    said, _, tables = text.partition(f"1\n{STATES}")
    states, _, statistics = tables.partition(STATISTICS)
    rows = table(STATES + states)
    backends = {row["be_name"] for row in rows}
    if pool.backend not in backends:
        return f"HAProxy knows no backend {pool.backend!r}{_hint(pool.backend, backends)}"
    servers = {row["srv_name"]: row for row in rows if row["be_name"] == pool.backend}
    if pool.server not in servers:
        return f"backend {pool.backend!r} has no server {pool.server!r}{_hint(pool.server, servers)}"
    numbers = {(row["pxname"], row["svname"]): row for row in csv.DictReader(io.StringIO(f"pxname,{statistics}"))}
    mine = numbers.get((pool.backend, pool.server), {})
    return _Server(
        admin=admin_of(int(servers[pool.server]["srv_admin_state"])),
        status=mine.get("status", ""),
        # a star stands before what the last check said while the next one is under way
        check=f"{(mine.get('check_status') or '').removeprefix('* ')} {mine.get('last_chk') or ''}".strip(),
        sessions=int(mine.get("scur") or 0),
        ours=bool(mark),
        said=" ".join(said.split()),
    )


def table(text: str) -> list[dict[str, str]]:
    """``show servers state``: columns after ``# ``, separated by spaces."""
    head, _, body = text.partition("\n")
    columns = head.removeprefix("# ").split()
    return [dict(zip(columns, line.split(), strict=False)) for line in body.splitlines() if line.strip()]


def admin_of(bits: int) -> str:
    """``ready``, ``drain`` or ``maint``, by the bits of ``srv_admin_state``."""
    if bits & _MAINTAINED:
        return MAINT
    return DRAIN if bits & _DRAINED else READY


def _whose(before: str) -> str:
    return "" if before == READY else f"somebody else has put it to {before}: it stays so"


def _hint(word: str, known: Iterable[str]) -> str:
    names = sorted(known)
    close = did_you_mean(word, names)
    return f" (did you mean {close!r}?)" if close else f"; there are: {', '.join(names) or 'none'}"


def _pauses() -> Iterable[float]:
    yield from POLL
    while True:
        yield POLL[-1]


def _sleep(cancelled: threading.Event, seconds: float) -> None:
    if cancelled.wait(seconds):
        raise Cancelled("Waiting for HAProxy was stopped on request.")
