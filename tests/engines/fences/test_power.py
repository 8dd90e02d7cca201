"""A power fence by a real Redfish service over TLS, and what is looked at before a machine is let out again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from ismgr_automation.core.errors import Cancelled
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines.fences import HostFences
from ismgr_automation.engines.fences import power as power_module
from ismgr_automation.engines.secrets import Backends, PrivateFiles
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.packages import Fleet
from ismgr_automation.ports.recovery import FenceRequest, Sight, Verb
from ismgr_automation.ports.upkeep import BmcAccess
from tests.engines.fences.conftest import Country, cluster, folder, until
from tests.engines.loopback import Loopback, free_port, loopback_server
from tests.provider.fake_bmc import PASSWORD, USER, Authority, FakeBmc, Faults

__all__ = ["loopback_server"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """A machine behind a BMC."""

    bmc: FakeBmc
    fences: HostFences
    request: FenceRequest
    context: Context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "estate-authority")


@pytest.fixture(scope="module")
def service(authority: Authority) -> Iterator[FakeBmc]:
    with FakeBmc(authority).running() as bmc:
        yield bmc


@pytest.fixture
def power(service: FakeBmc, authority: Authority, loopback: Loopback, tmp_path: Path) -> Power:
    """The machine is on, and its SSH is the loopback server."""
    service.machine, service.faults = type(service.machine)(power="On"), Faults()
    service.requests.clear()
    secrets = loopback.folder / "secrets"
    keep(secrets)
    access = BmcAccess(
        machine="db1.dc1", address=service.url, username=USER, password=SecretRef.parse("file:bmc"), ca=authority.file
    )
    request = FenceRequest(
        host="db1.dc1",
        fleet=Fleet(hosts=[loopback.host("db1.dc1")], names=["db1.dc1"], ssh=loopback.ssh),
        port=free_port(),
        deadline=timedelta(seconds=5),
        bmc=access,
    )
    fences = HostFences(Backends({"file": PrivateFiles(root=secrets)}))
    return Power(bmc=service, fences=fences, request=request, context=Context(work=tmp_path))


def keep(secrets: Path) -> None:
    """Put the BMC's password there."""
    (secrets / "bmc").touch(mode=0o600)
    (secrets / "bmc").write_text(PASSWORD)


@contextlib.contextmanager
def closing(verb: Verb) -> Iterator[Verb]:
    try:
        yield verb
    finally:
        verb.close()
        verb.close()


def posts(bmc: FakeBmc) -> int:
    return len([1 for method, _ in bmc.requests if method == "POST"])


def test_power_is_cut_by_one_order_and_one_look(power: Power) -> None:
    with closing(power.fences.fence(power.request, power.context)) as fence:
        staged = fence.stage()
        assert (staged.sight, staged.words) == (Sight.NOT_DONE, "its BMC says On")
        power.bmc.requests.clear()
        acted = fence.act()
        assert (acted.ok, acted.words) == (True, "its BMC says Off")
        assert [method for method, _ in power.bmc.requests] == ["POST", "GET"]
        assert power.bmc.machine.power == "Off"
        assert fence.observe().sight is Sight.DONE


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ("manual", "its BMC says On"),
        ("auto", "its BMC says On; after a boot its PostgreSQL would come up by itself as a primary"),
    ],
)
def test_what_a_boot_would_bring_is_looked_at_while_the_machine_answers(
    power: Power, country: Country, start: str, words: str
) -> None:
    cluster(country, folder(country.conf_root.parent / "data"), start)
    keep(country.conf_root.parent / "secrets")
    request = replace(country.request, bmc=power.request.bmc)
    with closing(country.fences.fence(request, country.context)) as fence:
        staged = fence.stage()
    assert (staged.sight, staged.words) == (Sight.NOT_DONE, words)
    assert staged.readings["boots"] == {"auto": "automatic"}.get(start, start)


def test_a_machine_that_is_off_stays_so(power: Power) -> None:
    power.bmc.machine.power = "Off"
    with closing(power.fences.fence(power.request, power.context)) as fence:
        assert fence.stage().sight is Sight.DONE
        assert fence.act().ok
        assert power.bmc.machine.power == "Off"


def test_the_operating_system_is_not_asked(power: Power) -> None:
    power.bmc.faults.ignores = frozenset({"GracefulShutdown"})
    with closing(power.fences.fence(power.request, power.context)) as fence:
        assert fence.act().ok
    assert posts(power.bmc) == 1


def test_a_bmc_that_lies_is_not_believed(power: Power) -> None:
    power.bmc.faults.lies = True
    request = replace(power.request, deadline=timedelta(seconds=2))
    with closing(power.fences.fence(request, power.context)) as fence:
        acted = fence.act()
        assert not acted.ok
        assert "accepted ForceOff and is still On" in acted.words
        assert fence.observe().sight is Sight.NOT_DONE


def test_an_order_whose_answer_was_lost_is_looked_at_and_not_repeated(power: Power) -> None:
    with closing(power.fences.fence(power.request, power.context)) as fence:
        fence.stage()
        power.bmc.faults.hang_up, power.bmc.faults.hang_up_methods = 1, frozenset({"POST"})
        assert fence.act().ok
    assert posts(power.bmc) == 1


def test_an_order_that_failed_is_given_again(power: Power) -> None:
    with closing(power.fences.fence(power.request, power.context)) as fence:
        fence.stage()
        power.bmc.faults.fail_reset = 1
        assert fence.act().ok
    assert posts(power.bmc) == 2


@pytest.mark.parametrize(
    "broken",
    [{"password": SecretRef.parse("file:operator")}, {"address": f"https://127.0.0.1:{free_port()}"}],
    ids=["a wrong password", "a BMC that is not there"],
)
def test_a_bmc_that_cannot_be_asked_is_unknown(power: Power, broken: dict[str, object]) -> None:
    assert power.request.bmc is not None
    access = replace(power.request.bmc, **broken)  # type: ignore[arg-type]
    request = replace(power.request, bmc=access, deadline=timedelta(milliseconds=300))
    with closing(power.fences.fence(request, power.context)) as fence:
        staged = fence.stage()
        assert staged.sight is Sight.UNKNOWN
        assert "db1.dc1" in staged.words
        assert not fence.act().ok


def test_a_machine_is_let_out_when_it_answers_and_has_no_primary(power: Power) -> None:
    power.bmc.machine.power = "Off"
    with closing(power.fences.unfence(power.request, power.context)) as unfence:
        assert unfence.stage().sight is Sight.NOT_DONE
        acted = unfence.act()
        assert (acted.ok, acted.words) == (True, "it has no PostgreSQL on this port")
        assert power.bmc.machine.power == "On"
        assert unfence.observe().sight is Sight.DONE


def unreachable(power: Power, loopback: Loopback) -> FenceRequest:
    """Nobody listens for SSH there, however long it is waited for."""
    dead = replace(power.request.fleet, hosts=[loopback.host("db1.dc1", port=free_port())])
    return replace(power.request, fleet=dead, deadline=timedelta(seconds=2))


UNANSWERED = "it did not answer within 2 s, which must be enough for it to boot (refused: "


@pytest.mark.parametrize(
    ("before", "giving_back", "after"),
    [
        ("Off", False, ("Off", "it is off again: ")),
        ("Off", True, ("On", "it has power now: ")),
        ("On", False, ("On", "it was on before: ")),
    ],
    ids=["let out", "given back", "never fenced"],
)
def test_a_machine_that_does_not_answer_in_time_is_not_left_on_where_it_could_be_a_second_primary(
    power: Power, loopback: Loopback, before: str, giving_back: bool, after: tuple[str, str]
) -> None:
    power.bmc.machine.power = before
    request = replace(unreachable(power, loopback), giving_back=giving_back)
    with closing(power.fences.unfence(request, power.context)) as unfence:
        acted = unfence.act()
        assert unfence.observe().sight is Sight.NOT_DONE
    assert (acted.ok, power.bmc.machine.power) == (False, after[0])
    assert acted.words.startswith(f"{after[1]}{UNANSWERED}")


def test_a_machine_that_nobody_waits_for_any_more_is_off_again(power: Power, loopback: Loopback) -> None:
    power.bmc.machine.power = "Off"
    request = replace(unreachable(power, loopback), deadline=timedelta(minutes=5))
    with (
        closing(power.fences.unfence(request, power.context)) as unfence,
        ThreadPoolExecutor(max_workers=1) as pool,
    ):
        acting = pool.submit(unfence.act)
        until("the machine has power", lambda: power.bmc.machine.power == "On")
        power.context.cancelled.set()
        with pytest.raises(Cancelled):
            acting.result()
    assert power.bmc.machine.power == "Off"


def test_a_machine_whose_power_cannot_be_cut_again_is_said_to_be_dangerous(
    power: Power, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power_module, "CUT", timedelta(milliseconds=300))
    power.bmc.machine.power, power.bmc.faults.ignores = "Off", frozenset({"ForceOff"})
    with closing(power.fences.unfence(unreachable(power, loopback), power.context)) as unfence:
        acted = unfence.act()
    assert (acted.ok, power.bmc.machine.power) == (False, "On")
    assert acted.words.startswith("it may be on, and become a second primary: ")
    assert UNANSWERED in acted.words


@pytest.mark.parametrize("files", [(), ("standby.signal",)], ids=["primary", "standby"])
def test_a_machine_that_comes_up_with_a_primary_loses_its_power_again(
    power: Power, country: Country, tmp_path: Path, files: tuple[str, ...]
) -> None:
    power.bmc.machine.power = "Off"
    country.member.serve(cwd=folder(tmp_path / "data", *files))
    request = replace(country.request, bmc=power.request.bmc)
    keep(tmp_path / "secrets")
    with closing(country.fences.unfence(request, country.context)) as unfence:
        acted = unfence.act()
    if files:
        assert (acted.ok, power.bmc.machine.power) == (True, "On"), acted.words
    else:
        assert (acted.ok, power.bmc.machine.power) == (False, "Off")
        assert acted.words == "it is off again: its PostgreSQL runs as a primary"


def test_a_primary_that_is_given_back_keeps_its_power(power: Power, country: Country, tmp_path: Path) -> None:
    power.bmc.machine.power = "Off"
    country.member.serve(cwd=folder(tmp_path / "data"))
    keep(tmp_path / "secrets")
    request = replace(country.request, bmc=power.request.bmc, giving_back=True)
    with closing(country.fences.unfence(request, country.context)) as unfence:
        assert unfence.act().ok
        assert unfence.observe().sight is Sight.DONE
    assert power.bmc.machine.power == "On"


def test_the_power_of_a_primary_that_was_never_fenced_is_not_cut(
    power: Power, country: Country, tmp_path: Path
) -> None:
    country.member.serve(cwd=folder(tmp_path / "data"))
    keep(tmp_path / "secrets")
    with closing(country.fences.unfence(replace(country.request, bmc=power.request.bmc), country.context)) as unfence:
        acted = unfence.act()
    assert (acted.ok, acted.words) == (False, "it was on before: its PostgreSQL runs as a primary")
    assert power.bmc.machine.power == "On"
