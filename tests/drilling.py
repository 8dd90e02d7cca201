"""Random schedules for drills on real machines: what is broken, and when the controller is killed; clients that attack
both sides all the while; and what must be true of every write that was confirmed to them."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

from ismgr_automation.lab import Lab
from ismgr_automation.lab.topology import Segment
from tests import client_of_databases
from tests.fixtures_lab import until
from tests.test_two_sites import LONG_SECONDS, Said, Site, said

HOME, AWAY = "db1.dc1", "db1.dc2"
RECORDS, BY_POWER = "records", "records-by-power"
KINDS = (
    *(
        (RECORDS, "failover", name)
        for name in ("", "cut", "cut-in", "cut-out", "frozen", "rolling", "read-only", "full")
    ),
    *((BY_POWER, "failover", name) for name in ("", "dark", "stale")),
    (RECORDS, "switchover", ""),
)
"""A plan, a mode, and what is broken first."""
LINES = 40
"""About how many lines the journal of a whole drill has."""
_LOOK_SECONDS = 0.002
_BROKEN = """\
  - {name: cut-in, do: partition, gateways: nameservers, direction: in}
  - {name: cut-out, do: partition, gateways: nameservers, direction: out}
  - {name: rolling, do: rolling, gateways: nameservers}
  - {name: read-only, do: read-only}
  - {name: full, do: disk-full}
"""
_BY_POWER = """\
  - {name: dark, do: power-off}
  - {name: stale, do: stale-primary}
"""


def broken_things(estate: Path) -> None:
    """Write what else can be broken into the estate's plan, and beside it one whose fence cuts the power."""
    path = estate / "recovery.yaml"
    text = path.read_text().replace("reprotect:\n", f"{_BROKEN}reprotect:\n", 1)
    path.write_text(text)
    by_power = text.replace(f"name: {RECORDS}\n", f"name: {BY_POWER}\n", 1).replace("way: network", "way: power", 1)
    by_power = by_power.replace("reprotect:\n", f"{_BY_POWER}reprotect:\n", 1)
    (estate / "recovery-by-power.yaml").write_text(by_power)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """The controller is killed once its journal has so many more lines, and so much later."""

    lines: int
    after: timedelta
    resume: tuple[str, ...]
    """The command that goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """One drill, and what happens to it."""

    seed: int
    plan: str
    mode: str
    fault: str
    kills: tuple[Kill, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """The command that begins it."""
        fault = ("--fault", self.fault) if self.fault else ()
        return "drill", "run", self.plan, "--mode", self.mode, *fault, "--yes"


def draw(seed: int) -> Schedule:
    """The schedule of that number."""
    chance = Random(seed)  # noqa: S311  what happens must happen again with the same number
    plan, mode, fault = chance.choice(KINDS)
    return Schedule(seed=seed, plan=plan, mode=mode, fault=fault, kills=tuple(_kills(chance)))


def _kills(chance: Random) -> Iterator[Kill]:
    most = LINES
    for _ in range(chance.choice((0, 1, 1, 2))):
        lines = chance.randint(1, most)
        after = timedelta(milliseconds=chance.choice((0, chance.randint(1, 500))))
        yield Kill(lines=lines, after=after, resume=chance.choice((("resume",), ("drill", "resume"))))
        most = max(1, LINES - lines)


# the drill


def carried_out(site: Site, schedule: Schedule) -> tuple[Said, Path]:
    """Do it, and go on with it after each kill. What the last process said, and the drill's folder."""
    drills = site.estate / ".ismgr" / "drills"
    drills.mkdir(parents=True, exist_ok=True)
    before = set(drills.iterdir())
    running = site.start(*schedule.words)
    with ThreadPoolExecutor(max_workers=1 + len(schedule.kills)) as pool:
        told = pool.submit(running.communicate, timeout=LONG_SECONDS)
        for kill in schedule.kills:
            if not _killed(running, drills, before, kill):
                break
            told.result()
            (folder,) = set(drills.iterdir()) - before
            running = site.start(*kill.resume, folder.name, "--wait", "2m")
            told = pool.submit(running.communicate, timeout=LONG_SECONDS)
        out, errors = told.result()
    (folder,) = set(drills.iterdir()) - before
    return said(running.returncode, out, errors), folder


def _killed(running: subprocess.Popen[str], drills: Path, before: set[Path], kill: Kill) -> bool:
    """Kill it when its time has come; False when it has ended before."""

    def lines() -> int:
        return sum(len(entries(one)) for one in set(drills.iterdir()) - before)

    pause, wanted = threading.Event(), lines() + kill.lines
    while lines() < wanted:
        if running.poll() is not None:
            return False
        pause.wait(_LOOK_SECONDS)
    pause.wait(kill.after.total_seconds())
    running.kill()
    return running.wait() < 0


def entries(folder: Path) -> list[dict[str, Any]]:
    """The journal of a drill."""
    path = folder / "journal.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Who took the role from whom. ``asked_ns``: since when somebody was asked to, for the first time."""

    leg: str
    old: str
    asked_ns: int


def moves(journal: Sequence[Mapping[str, Any]]) -> list[Move]:
    """The promotions that were carried out, in their order."""
    found: dict[str, int] = {}
    for one in journal:
        if one["what"] == "task-ended" and one["action"] == "promote" and one["ok"]:
            began = [
                other["ns"]
                for other in journal
                if other["what"] == "task-began" and (other["action"], other["leg"]) == ("promote", one["leg"])
            ]
            found.setdefault(one["leg"], min((*began, one["began_ns"])))
    return [
        Move(leg=leg, old=AWAY if leg == "failback" else HOME, asked_ns=at)
        for leg, at in sorted(found.items(), key=lambda item: item[1])
    ]


# who attacks


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """A row that somebody was told is written. Times are on the host's monotonic clock, which all machines share."""

    place: str
    number: int
    sent_ns: int
    quiet_ns: int
    """When the client looked for the last time and no answer was there."""
    ended_ns: int
    at_ns: int
    """When the server worked on it, by the server."""
    server: str
    timeline: int

    @property
    def direct(self) -> bool:
        """Whether nothing stood between client and server."""
        return " to " in self.place

    @property
    def not_before_ns(self) -> int:
        """It was surely not confirmed earlier. What came through a balancer may have waited there."""
        return max(self.at_ns, self.quiet_ns) if self.direct else self.at_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """Clients that write to both sides, directly and through both edges, and their answers."""

    servers: Mapping[str, str]
    """The machine of a server's address."""
    logs: tuple[Path, ...]
    through: frozenset[str]
    """Places that lead to the primary while it is at home."""

    def confirmed(self) -> list[Confirmed]:
        """Everything that was, so far."""
        lines = [line for log in self.logs for line in log.read_text().splitlines(keepends=True)]
        told = [json.loads(line) for line in lines if line.endswith("\n")]
        return [Confirmed(**{**one, "server": self.servers[one["server"]]}) for one in told]

    def everybody_writes(self, since_ns: int = 0) -> None:
        """Wait until each client that should come through has had a write confirmed that it began after that."""

        def places() -> set[str]:
            return {one.place for one in self.confirmed() if one.sent_ns > since_ns}

        until("clients write at every place that leads to the primary", lambda: places() >= self.through)


@contextmanager
def attacked(site: Site, folder: Path, schedule: str) -> Iterator[Attack]:
    """Have both sides attacked: from the web hosts, which may ask the databases themselves, and from outside, through
    the edges and over the network that a fence spares."""
    lab = site.lab
    _table(site)
    addresses = {name: str(lab.machine(name).address(segment)) for name, segment in _SIDES.items()}
    webs = ("web1.dc1", "web1.dc2")
    given = {web: {f"{web} to {name}": address for name, address in addresses.items()} for web in webs}
    edges = {f"edge1.{one}": str(lab.machine(f"edge1.{one}").address(one)) for one in _SIDES.values()}
    given[""] = {**edges, f"management to {HOME}": str(lab.machine(HOME).management)}
    password = (site.estate / ".secrets" / "postgresql" / "app").read_text().strip()
    running: list[subprocess.Popen[str]] = []
    logs = tuple(folder / f"{web or 'outside'}.attack" for web in given)
    try:
        for (web, places), log in zip(given.items(), logs, strict=True):
            running.append(_client(lab, web, log))
            conninfo = {place: _conninfo(address, password) for place, address in places.items()}
            (pipe,) = filter(None, [running[-1].stdin])
            pipe.write(json.dumps({"schedule": schedule, "places": conninfo}) + "\n")
            pipe.flush()
        attack = Attack(
            servers={address: name for name, address in addresses.items()},
            logs=logs,
            through=frozenset([*edges, *(f"{web} to {HOME}" for web in webs)]),
        )
        attack.everybody_writes()
        yield attack
    finally:
        for one in running:
            one.kill()
            one.communicate()


_SIDES = {HOME: Segment.DC1, AWAY: Segment.DC2}


def _client(lab: Lab, machine: str, log: Path) -> subprocess.Popen[str]:
    """A client in a machine's network, or on this host."""
    command = [sys.executable, "-I", str(Path(client_of_databases.__file__))]
    if machine:
        container = lab.topology.container(lab.machine(machine))
        asked = ["podman", "inspect", "--format", "{{.State.Pid}}", container]
        pid = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
        command = ["nsenter", f"--net=/proc/{pid}/ns/net", *command]
    with log.open("w") as file:
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=file, text=True)


def _conninfo(address: str, password: str) -> str:
    from psycopg.conninfo import make_conninfo

    return make_conninfo(host=address, port=5432, dbname="records", user="records", password=password)


def _table(site: Site) -> None:
    key = "PRIMARY KEY (schedule, place, number)"
    made = f"CREATE TABLE IF NOT EXISTS attacks (schedule text, place text, number bigint, {key})"
    _asked(site, f"{made}; GRANT INSERT ON attacks TO records")


def _asked(site: Site, statement: str) -> list[str]:
    """The rows of a statement at home."""
    command = f'cd / && runuser -u postgres -- psql -qXAt -F" " -d records -c "{statement}"'
    return site.on(HOME, command).splitlines()


# what must be true


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What was confirmed during a schedule, what the primary holds at its end, and what the drill's journals say."""

    confirmed: Sequence[Confirmed]
    held: frozenset[tuple[str, int]]
    journal: Sequence[Mapping[str, Any]]

    @property
    def lost(self) -> list[Confirmed]:
        """Confirmed, and not there."""
        return [one for one in self._fair() if (one.place, one.number) not in self.held]

    def _fair(self) -> list[Confirmed]:
        """All but what a stale primary took from clients that went to it themselves, until it was fenced: to be there
        without a fence is the fault that was asked for. That nobody is sent to it is what the drill is for."""
        began = [one["began_ns"] for one in self.journal if one["what"] == "came-back"]
        fenced = [one["ns"] for one in self.journal if one["what"] == "fenced-anew"]
        if not (began and fenced):
            return list(self.confirmed)
        stale = range(min(began), min(fenced))
        return [one for one in self.confirmed if not (one.direct and one.server == HOME and one.sent_ns in stale)]

    def judged(self) -> list[str]:
        """Every promise that was broken, a sentence each."""
        return [*self._late(), *self._two(), *self._more_lost()]

    def _late(self) -> Iterator[str]:
        """Nothing is confirmed by the old side after somebody was asked to follow it."""
        made = moves(self.journal)
        ends = [*(one.asked_ns for one in made[1:]), None]
        for move, end in zip(made, ends, strict=False):  # without a move there is no end either
            late = [
                one
                for one in self._fair()
                if one.server == move.old and one.not_before_ns > move.asked_ns and (end is None or one.sent_ns < end)
            ]
            if late:
                yield f"{len(late)} writes were confirmed by {move.old} after the promotion of {move.leg}: {late[:3]}"

    def _two(self) -> Iterator[str]:
        """A timeline is one server's, and takes nothing any more once the next one does."""
        lines: dict[int, list[Confirmed]] = {}
        for one in self._fair():
            lines.setdefault(one.timeline, []).append(one)
        for number, rows in lines.items():
            if len({one.server for one in rows}) > 1:
                yield f"timeline {number} is that of two servers"
        for older, newer in pairwise(sorted(lines)):
            first = min(one.ended_ns for one in lines[newer])
            both = [one for one in lines[older] if one.not_before_ns > first]
            if both:
                yield f"{len(both)} writes were confirmed on timeline {older} beside {newer}: {both[:3]}"

    def _more_lost(self) -> Iterator[str]:
        """Only a failover loses anything, and only the end of what the old side had written."""
        lost = self.lost
        failed = next((one for one in moves(self.journal) if one.leg == "failover"), None)
        allowed = [one for one in lost if failed and one.server == HOME and one.sent_ns < failed.asked_ns]
        if len(allowed) < len(lost):
            yield f"{len(lost) - len(allowed)} confirmed writes are lost and should not be: {lost[:3]}"
        for number in {one.timeline for one in allowed}:
            first = min(one.ended_ns for one in allowed if one.timeline == number)
            rest = {(one.place, one.number) for one in lost}
            later = [
                one
                for one in self._fair()
                if one.timeline == number and one.sent_ns > first and (one.place, one.number) not in rest
            ]
            if later:
                yield f"of timeline {number} a write is lost, and {len(later)} later ones are there: {later[:3]}"


def account(site: Site, attack: Attack, schedule: str, journal: Sequence[Mapping[str, Any]]) -> Account:
    """What there is to judge, once all is at home again."""
    confirmed = attack.confirmed()  # first: what is confirmed now must be there
    rows = _asked(site, f"SELECT number, place FROM attacks WHERE schedule = '{schedule}'")  # noqa: S608  our own
    pairs = [row.partition(" ") for row in rows]
    held = frozenset((place, int(number)) for number, _, place in pairs)
    return Account(confirmed=confirmed, held=held, journal=journal)


def of_the_probe(site: Site, run: str) -> frozenset[int]:
    """What the primary holds of a drill's own client."""
    return frozenset(map(int, _asked(site, f"SELECT number FROM ismgr_probe WHERE run = '{run}'")))  # noqa: S608  our own
