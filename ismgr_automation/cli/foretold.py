"""What is expected of a plan of patches, for people: time, restarts, services. Values in, text out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

from rich.markup import escape

from ismgr_automation.planning.forecast import Forecast, HostForecast
from ismgr_automation.planning.plan import Plan
from ismgr_automation.planning.timing import spoken
from ismgr_automation.ports.packages import Need

HOSTS_SHOWN = 6
"""The others of a line are counted: the JSON has all."""

REBOOTS: Mapping[Need, str] = {
    Need.YES: "[yellow]reboot expected[/]",
    Need.UNKNOWN: "[magenta]reboot unknown[/]",
    Need.NO: "[dim]no reboot expected[/]",
}


def forecast_lines(one: Forecast) -> Iterator[str]:
    """The lines of a change, marked up: how long it takes and who says so, then what is expected of its hosts, those of
    which the same is expected together."""
    soak = f", after {spoken(one.soak)} of soaking" if one.soak else ""
    yield f"[dim]{escape(f'takes {spoken(one.takes.span)} ({one.takes.source}){soak}')}[/]"
    alike: dict[tuple[object, ...], list[HostForecast]] = {}
    for host in one.hosts:
        alike.setdefault((host.reboot, host.why, host.services, host.then), []).append(host)
    for hosts in alike.values():
        yield _line(hosts)


def whole_time(plan: Plan) -> str:
    """How long all waves take together, one after the other, and how long of that they only wait; empty for a plan of
    which nothing is foretold."""
    forecasts = plan.beside.forecasts
    if not forecasts:
        return ""
    waves = [[forecasts[key] for key in wave if key in forecasts] for wave in plan.waves]
    takes = sum((max((one.takes.span for one in wave), default=timedelta()) for wave in waves), timedelta())
    soaks = sum((max((one.soak for one in wave), default=timedelta()) for wave in waves), timedelta())
    count = len(plan.waves)
    soaking = f", {spoken(soaks)} of it soaking" if soaks else ""
    return f"expected to take {spoken(takes + soaks)} in {count} wave{'s' * (count != 1)}{soaking}"


def _line(hosts: Sequence[HostForecast]) -> str:
    one = hosts[0]
    names = ", ".join(host.host for host in hosts[:HOSTS_SHOWN])
    more = f" and {len(hosts) - HOSTS_SHOWN} more" if len(hosts) > HOSTS_SHOWN else ""
    why = f": {'; '.join(one.why)}" if one.why else ""
    then = f"; {one.then}" if one.then else ""
    # who is restarted as a whole needs no service restarted besides
    label = "services expected to restart" if one.reboot is Need.NO else "services otherwise"
    services = f"; {label}: {', '.join(one.services)}" if one.services else ""
    return f"{REBOOTS[one.reboot]} on {escape(f'{names}{more}{why}{then}{services}')}"
