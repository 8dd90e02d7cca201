"""What is expected of a plan of patches, as lines: time with its source, restarts with why, alike hosts once."""

from __future__ import annotations

from datetime import timedelta

from rich.text import Text

from ismgr_automation.cli.foretold import HOSTS_SHOWN, forecast_lines
from ismgr_automation.planning.forecast import Estimate, Forecast, HostForecast
from ismgr_automation.ports.packages import Need

ODD = "[/red] [bold] :key: \\ ."


def lines(*hosts: HostForecast, soak: int = 0, source: str = "p95 of 12 runs") -> list[str]:
    """Lines as a person reads them."""
    takes = Estimate(span=timedelta(minutes=12), source=source)
    one = Forecast(takes=takes, soak=timedelta(minutes=soak), hosts=hosts)
    return [Text.from_markup(line, emoji=False).plain for line in forecast_lines(one)]


def host(name: str, reboot: Need = Need.NO, *why: str, services: tuple[str, ...] = (), then: str = "") -> HostForecast:
    return HostForecast(host=name, reboot=reboot, why=why, services=services, then=then)


def test_time_is_said_with_where_it_comes_from_and_what_is_waited_for_before() -> None:
    assert lines() == ["takes 12m (p95 of 12 runs)"]
    assert lines(soak=90) == ["takes 12m (p95 of 12 runs), after 1h 30m of soaking"]


def test_each_host_has_a_line_and_those_of_which_the_same_is_expected_share_it() -> None:
    _, *found = lines(
        host(
            "web1", Need.YES, "PID 1 has libc6 mapped", "another kernel comes", then="restarted if that is found then"
        ),
        host("web2", services=("web.service",)),
        host("web3", services=("web.service",)),
        host("db1", Need.UNKNOWN, "it was not read", services=("web.service",)),
    )
    assert found == [
        "reboot expected on web1: PID 1 has libc6 mapped; another kernel comes; restarted if that is found then",
        "no reboot expected on web2, web3; services expected to restart: web.service",
        "reboot unknown on db1: it was not read; services otherwise: web.service",
    ]


def test_of_many_hosts_some_are_named_and_the_others_counted() -> None:
    _, found = lines(*(host(f"web{number}") for number in range(HOSTS_SHOWN + 3)))
    assert found == f"no reboot expected on {', '.join(f'web{number}' for number in range(HOSTS_SHOWN))} and 3 more"


def test_words_of_hosts_are_no_markup() -> None:
    assert lines(host("web1", Need.YES, ODD), source=ODD) == [
        f"takes 12m ({ODD})",
        f"reboot expected on web1: {ODD}",
    ]
