"""What is looked up of patching, for people and as JSON: tables and records. Values in, text out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from ismgr_automation.cli.moves import COLORS
from ismgr_automation.cli.view import show_findings
from ismgr_automation.converge.patching import Standing
from ismgr_automation.converge.upkeep import Reading
from ismgr_automation.core.json import JsonObject
from ismgr_automation.engines.database.facts import facts_json
from ismgr_automation.patching.sla import State
from ismgr_automation.patching.status import Row, Tally
from ismgr_automation.patching.status import rows as rows_of
from ismgr_automation.patching.versions import newer
from ismgr_automation.planning.timing import spoken
from ismgr_automation.ports.advisories import Basis, SourceRead
from ismgr_automation.ports.packages import HostFacts, Installed, Move, Need, PackageResult
from ismgr_automation.ports.patching import Patched, Waiting

STATES: Mapping[State, str] = {
    State.BREACHED: "red",
    State.UNKNOWN: "magenta",
    State.DUE_SOON: "yellow",
    State.EXCEPTED: "cyan",
    State.OK: "green",
}
"""From the worst to the best, with their colors."""

MOVES_SHOWN = 3
ID_SHOWN = 8


def show_status(found: Standing, console: Console, *, tallies: Collection[Tally], rows: bool) -> None:
    """Rows or tallies, then how old everything is that they rest on, what is wrong, and one line that sums it up."""
    if not found.status.hosts:
        console.print("There is no host yet that a PatchBaseline selects.")
    elif rows:
        listed = [_row(one) for one in rows_of(found.status)]
        _print(("host", "package", "installed", "goes to", "cve", "severity", "state", "due", "why"), listed, console)
    else:
        names = ("", *(str(one) for one in STATES), "oldest due", "updates", "")
        _print(names, [_tally(one) for one in tallies], console)
    now = datetime.now(UTC)
    if found.oldest is not None:
        console.print(f"\n[dim]readings   the oldest is {_age(found.oldest, now)} old[/]")
    for one in found.sources:
        console.print(f"[dim]advisories {escape(_source(one, now))}[/]")
    show_findings(found.findings, console)
    console.print(f"\n{_summed(found.status.total, len(found.status.hosts))}")


def show_facts(reading: Reading, failed: Mapping[str, PackageResult], console: Console) -> None:
    """A line for each host, then whatever needs a word."""
    now = datetime.now(UTC)
    if not reading.facts and not reading.lost:
        console.print("No host was read: no baseline selects one, or nobody ever read it.")
        return
    titles = (
        "host",
        "release",
        "packages",
        "upgradable",
        "held",
        "broken",
        "restarts",
        "reboot",
        "boot",
        "lists",
        "read",
    )
    facts = [one for _, one in sorted(reading.facts.items())]
    _print(titles, [_facts(one, now) for one in facts], console)
    for one in facts:
        for word, lines in _reasons(one):
            for line in lines:
                console.print(f"{escape(one.host)}  {word}: {escape(line)}")
    for name, refused in sorted(failed.items()):
        words = " ".join(filter(None, (str(refused.trouble), refused.detail)))
        console.print(f"[red]not refreshed[/] [bold]{escape(name)}[/] {refused.fate} {escape(words)}".rstrip())
    for name, lost in sorted(reading.lost.items()):
        console.print(f"[red]not read[/] [bold]{escape(name)}[/] {lost.reach} {escape(lost.detail)}".rstrip())


def show_history(found: Sequence[Patched], console: Console) -> None:
    """A line for each run and host."""
    if not found:
        console.print("Nothing was patched yet.")
        return
    listed = [
        (
            Text(one.run),
            Text(one.host),
            Text(_minute(one.at)),
            Text(spoken(one.took)),
            Text("yes" if one.rebooted else ""),
            _undone(one),
            Text(_moves(one.moves)),
        )
        for one in found
    ]
    _print(("run", "host", "when (UTC)", "took", "rebooted", "rolled back", "packages"), listed, console)


def show_queue(found: Sequence[Waiting], now: datetime, console: Console) -> None:
    """A line for each host, those whose time is over marked."""
    if not found:
        console.print("Nobody waits to be patched.")
        return
    listed = [
        (
            Text(one.host),
            Text(one.baseline),
            Text(f"{_minute(one.since)} ({_age(one.since, now)} ago)"),
            Text(_minute(one.expires_at))
            if one.expires_at > now
            else Text(f"expired {_minute(one.expires_at)}", "red"),
            Text(one.run or "it was away when the plan was made"),
        )
        for one in found
    ]
    _print(("host", "baseline", "since (UTC)", "until (UTC)", "missed run"), listed, console)
    over = sum(one.expires_at <= now for one in found)
    if over:
        console.print(
            f"{over} expired: `ismgr patch catch-up` leaves {'it' if over == 1 else 'them'} out, the next "
            "`ismgr patch apply` does not."
        )


def facts_body(one: HostFacts) -> JsonObject:
    """A reading as JSON: as it is kept, and what tables count."""
    return {
        **facts_json(one),
        "upgradable": [f"{each.name}:{each.architecture}" for each in upgradable(one)],
        "held": [f"{each.name}:{each.architecture}" for each in one.installed if each.held],
        "unseen": one.unseen,
    }


def patched_body(one: Patched) -> JsonObject:
    """What one run did to one host, as JSON."""
    return {
        "run": one.run,
        "host": one.host,
        "at": _iso(one.at),
        "took_seconds": one.took.total_seconds(),
        "rebooted": one.rebooted,
        "restart_seconds": one.restart.total_seconds() if one.restart is not None else None,
        "rolled_back": one.rolled_back,
        "snapshot": one.snapshot,
        "moves": [
            {
                "package": move.name,
                "architecture": move.architecture,
                "before": move.before,
                "after": move.after,
                "digest": move.digest,
            }
            for move in one.moves
        ],
    }


def waiting_body(one: Waiting, now: datetime) -> JsonObject:
    """A host in the queue, as JSON."""
    return {
        "host": one.host,
        "baseline": one.baseline,
        "since": _iso(one.since),
        "expires_at": _iso(one.expires_at),
        "expired": one.expires_at <= now,
        "run": one.run,
    }


def source_body(one: SourceRead) -> JsonObject:
    """A source of advisories as it was read, as JSON."""
    return {
        "source": one.source,
        "format": one.format,
        "digest": one.digest,
        "dated": _iso(one.dated) if one.dated is not None else None,
        "basis": str(one.basis),
        "fetched_at": _iso(one.fetched_at),
        "entries": one.entries,
        "problem": one.problem,
    }


def upgradable(one: HostFacts) -> list[Installed]:
    """Installed packages of which something newer is offered."""
    offers: dict[tuple[str, str], list[str]] = {}
    for offer in one.offered:
        offers.setdefault((offer.name, offer.architecture), []).append(offer.version)
    return [
        each
        for each in one.installed
        if any(newer(version, each.version) for version in offers.get((each.name, each.architecture), ()))
    ]


def _print(titles: Sequence[str], listed: Sequence[Sequence[Text]], console: Console) -> None:
    """Aligned columns, one line each: a version that is cut helps nobody, a wrapped line no ``grep``."""
    lines = [[Text(title, "bold") for title in titles], *listed]
    widths = [max(cell.cell_len for cell in column) for column in zip(*lines, strict=True)]
    for cells in lines:
        line = Text("  ").join(_padded(cell, width) for cell, width in zip(cells, widths, strict=True))
        line.rstrip()
        console.print(line)


def _padded(cell: Text, width: int) -> Text:
    padded = cell.copy()
    padded.pad_right(width - cell.cell_len)
    return padded


def _tally(one: Tally) -> list[Text]:
    counts = [Text(str(one.counts[state]) if one.counts[state] else "", color) for state, color in STATES.items()]
    unread = Text("not read" if one.unread == 1 else f"{one.unread} not read" if one.unread else "", "magenta")
    due = one.oldest_due.isoformat() if one.oldest_due is not None else ""
    return [Text(one.name), *counts, Text(due), Text(str(one.updates or "")), unread]


def _row(one: Row) -> list[Text]:
    due = f"{one.due} ({_days(one.days_left)})" if one.due is not None and one.days_left is not None else ""
    severity = str(one.severity or "")
    return [
        Text(one.host),
        Text(one.package),
        Text(one.installed),
        Text(one.target or "-"),
        Text(f"{one.cve}{' (exploited)' if one.exploited else ''}"),
        Text(severity, COLORS.get(severity, "")),
        Text(str(one.state), STATES[one.state]),
        Text(due),
        Text(f"{one.standing}: {one.why}"),
    ]


def _days(left: int) -> str:
    return f"{-left} d ago" if left < 0 else "today" if left == 0 else f"in {left} d"


def _summed(total: Tally, hosts: int) -> str:
    counts = [f"[{color}]{total.counts[state]} {state}[/]" for state, color in STATES.items() if total.counts[state]]
    words = ", ".join(counts) or "[green]no vulnerability is known[/]"
    read = hosts - total.unread
    words += f" on {read} host{'s' * (read != 1)}"
    words += f", [magenta]{total.unread} not read[/]" if total.unread else ""
    due = f"; the oldest is due {total.oldest_due}" if total.oldest_due is not None else ""
    ready = f"; {total.updates} update{'s' * (total.updates != 1)} may go now" if total.updates else ""
    return f"{words}{due}{ready}."


def _source(one: SourceRead, now: datetime) -> str:
    problem = f", a copy: {one.problem}" if one.problem else ""
    return f"{one.source} ({one.format}), {_dated(one, now)}, {one.entries} entries{problem}"


def _dated(one: SourceRead, now: datetime) -> str:
    if one.since is None:
        return "undated"
    age = _age(one.since, now)
    return f"in Git since {age}" if one.basis is Basis.COMMIT else f"{age} old"


def _facts(one: HostFacts, now: datetime) -> list[Text]:
    color = {Need.NO: "", Need.YES: "yellow", Need.UNKNOWN: "magenta"}[one.reboot]
    lists = _age(one.lists_read_at, now) if one.lists_read_at is not None else ""
    return [
        Text(one.host),
        Text(f"{one.distribution} {one.release}"),
        Text(str(len(one.installed))),
        Text(str(len(upgradable(one)) or "")),
        Text(str(sum(each.held for each in one.installed) or "")),
        Text(str(len(one.broken) or ""), "red"),
        Text(str(len(one.services) or ""), "yellow"),
        Text(str(one.reboot), color),
        Text(one.boot.boot_id[:ID_SHOWN]),
        Text(f"{lists} old") if lists else Text("unknown", "magenta"),
        Text(f"{_age(one.read_at, now)} ago"),
    ]


def _reasons(one: HostFacts) -> list[tuple[str, Sequence[str]]]:
    """What stands behind the numbers of a host: names, and why."""
    held = [each.name for each in one.installed if each.held]
    files = {each.unit: each.files for each in one.stale if each.unit}
    restarts = [f"{unit}{_behind(files.get(unit, ()))}" for unit in one.services]
    color = "magenta" if one.reboot is Need.UNKNOWN else "yellow"
    return [
        ("[red]broken[/]", one.broken),
        ("held", [", ".join(held)] if held else []),
        ("[yellow]restart[/]", restarts),
        (f"[{color}]reboot {one.reboot}[/]", one.reboot_why if one.reboot is not Need.NO else ()),
        ("[magenta]unknown[/]", [f"{one.unseen} processes could not be looked at"] if one.unseen else []),
    ]


def _behind(files: Sequence[str]) -> str:
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return f", which has {files[0]}{more} mapped as it was before" if files else ""


def _undone(one: Patched) -> Text:
    if one.rolled_back == one.run:
        return Text("at once, by snapshot" if one.snapshot else "at once", "yellow")
    return Text(f"by {one.rolled_back}" if one.rolled_back else "")


def _moves(moves: Sequence[Move]) -> str:
    shown = [f"{one.name} {one.before or 'new'} -> {one.after}" for one in moves[:MOVES_SHOWN]]
    more = [f"and {len(moves) - MOVES_SHOWN} more"] if len(moves) > MOVES_SHOWN else []
    return ", ".join([*shown, *more])


def _age(moment: datetime, now: datetime) -> str:
    """How long ago, in the two largest units; what a clock that runs ahead says was just now."""
    return " ".join(spoken(max(now - moment, timedelta())).split()[:2])


def _minute(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()
