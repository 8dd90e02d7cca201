"""The doubles of patching: exact moves, what refuses them, what is broken and taken back, lives of hosts."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ismgr_automation.core.errors import Cancelled
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Host, Reach, Reachability, Ssh
from ismgr_automation.ports.memory import MemoryFacts, MemoryPackages, MemoryPackageWorld, MemoryRestarter
from ismgr_automation.ports.packages import (
    Fleet,
    HostFacts,
    Installed,
    Move,
    Need,
    Offered,
    PackageFate,
    PackageRequest,
    PackageResult,
    Restart,
    Trouble,
)

NAMES = ("web1", "web2")
FLEET = Fleet(hosts=tuple(Host(name=one, address=one, origin="hosts.yml") for one in NAMES), names=NAMES, ssh=Ssh())
ONE = Fleet(hosts=FLEET.hosts, names=("web1",), ssh=Ssh())
WEB = Move(name="web", architecture="all", before="1.0", after="2.0", digest="sha256:new")
LIB = Move(name="lib", architecture="all", before="1.0", after="2.0")
MINUTE = timedelta(minutes=1)


def installed(name: str) -> Installed:
    return Installed(name=name, architecture="all", version="1.0", source=name, source_version="1.0")


def offered(name: str, version: str, digest: str = "") -> Offered:
    return Offered(
        name=name, architecture="all", version=version, source=name, source_version=version, digest=digest, origin="Lab"
    )


@pytest.fixture
def world() -> MemoryPackageWorld:
    offers = [offered("web", "1.0", "sha256:old"), offered("web", "2.0", "sha256:new"), offered("lib", "2.0")]
    made = MemoryPackageWorld(repository=offers)
    for name in NAMES:
        made.add(name, installed("web"), installed("lib"))
    return made


def context(token: int = 0) -> Context:
    return Context(work=Path("work"), token=token)


def request(*moves: Move, **more: object) -> PackageRequest:
    fields: dict[str, object] = {"fleet": FLEET, "moves": {"web1": moves}, "run": "r", "deadline": MINUTE}
    return PackageRequest(**(fields | more))  # type: ignore[arg-type]


def apply(world: MemoryPackageWorld, *moves: Move, **more: object) -> PackageResult:
    return MemoryPackages(world).apply(request(*moves, **more), context())[0]


def rollback(world: MemoryPackageWorld, *moves: Move) -> PackageResult:
    return MemoryPackages(world).rollback(request(*map(back, moves)), context())[0]


def back(move: Move) -> Move:
    return replace(move, before=move.after, after=move.before, digest="")


def facts(world: MemoryPackageWorld) -> HostFacts:
    found = MemoryFacts(world).read(FLEET, context())[0]
    assert isinstance(found, HostFacts)
    return found


def test_moves_are_made_pinned_and_found_again(world: MemoryPackageWorld) -> None:
    first, second = MemoryPackages(world).apply(request(WEB), context())
    assert (first.fate, first.made, first.former) == (PackageFate.DONE, (WEB,), ("web",))
    assert second.fate is PackageFate.NOTHING
    assert apply(world, WEB).made == (WEB,)
    assert apply(world, WEB, run="other").fate is PackageFate.NOTHING
    assert world.machines["web1"].pins == {"web": "2.0"}
    assert [one.version for one in facts(world).offered if one.name == "web"] == ["1.0"]


REFUSALS = {
    Trouble.VANISHED: lambda world: world.repository.clear(),
    Trouble.DIGEST: lambda world: (
        world.repository.insert(0, offered("web", "2.0", "sha256:other")),
        world.read_lists(world.machines["web1"]),
    ),
    Trouble.WIDER: lambda world: world.wider.update(web="lib"),
    Trouble.LOCKED: lambda world: world.locked.add("web1"),
    Trouble.NO_ROOM: lambda world: world.full.add("web1"),
    Trouble.MOVED: lambda world: world.machines["web1"].installed.pop("web"),
}


@pytest.mark.parametrize("trouble", REFUSALS)
def test_what_stands_in_the_way_is_told_by_check_and_by_apply(world: MemoryPackageWorld, trouble: Trouble) -> None:
    REFUSALS[trouble](world)
    for verb in (MemoryPackages(world).check, MemoryPackages(world).apply):
        result = verb(request(WEB), context())[0]
        assert (result.fate, result.trouble) == (PackageFate.REFUSED, trouble)


def test_a_broken_version_stops_the_host_and_the_way_back_heals_it(world: MemoryPackageWorld) -> None:
    world.broken.add(("web", "2.0"))
    result = apply(world, WEB, LIB)
    assert (result.fate, result.trouble, result.made) == (PackageFate.FAILED, Trouble.BROKEN, ())
    assert facts(world).broken == ("web: half configured",)
    assert rollback(world, WEB).fate is PackageFate.DONE
    assert facts(world).broken == ()


def test_a_former_version_that_is_neither_kept_nor_offered_is_told(world: MemoryPackageWorld) -> None:
    apply(world, LIB)
    assert rollback(world, LIB).trouble is Trouble.NO_FORMER


def test_a_host_that_dies_in_the_middle_goes_on_at_the_next_call(world: MemoryPackageWorld) -> None:
    world.dies["web1"] = 1
    assert apply(world, WEB, LIB).fate is PackageFate.UNKNOWN
    assert [one.version for one in facts(world).installed] == ["1.0", "2.0"]
    assert apply(world, WEB, LIB).made == (WEB, LIB)


def test_a_connection_that_is_lost_at_the_end_hides_that_all_is_done(world: MemoryPackageWorld) -> None:
    world.dies["web1"] = 2
    assert apply(world, WEB, LIB).fate is PackageFate.UNKNOWN
    assert apply(world, WEB, LIB).made == (WEB, LIB)


def test_a_host_refuses_a_smaller_token(world: MemoryPackageWorld) -> None:
    manager = MemoryPackages(world)
    assert manager.apply(request(WEB, fence="e"), context(4))[0].fate is PackageFate.DONE
    assert manager.apply(request(LIB, fence="e"), context(3))[0].trouble is Trouble.FENCED


def test_a_host_that_cannot_be_reached_is_a_result_everywhere(world: MemoryPackageWorld) -> None:
    away = replace(world, answers=lambda name: Reach.TIMEOUT if name == "web1" else Reach.OK)
    assert MemoryFacts(away).read(FLEET, context())[0] == Reachability(host="web1", reach=Reach.TIMEOUT)
    assert apply(away, WEB).fate is PackageFate.UNREACHABLE
    assert MemoryPackages(away).refresh(FLEET, MINUTE, context())[0].fate is PackageFate.UNREACHABLE
    restart = Restart(fleet=FLEET, boots={}, within=MINUTE)
    assert [one.ok for one in MemoryRestarter(away).reboot(restart, context())] == [False, True]


def test_a_restart_is_a_new_life_once_and_clears_what_wanted_it(world: MemoryPackageWorld) -> None:
    world.reboots["web"], world.restarts["lib"] = "another kernel", "lib.service"
    before = facts(world).boot
    apply(world, WEB, LIB)
    assert (facts(world).reboot, facts(world).services) == (Need.YES, ("lib.service",))
    restart = Restart(fleet=FLEET, boots=dict.fromkeys(NAMES, before), within=MINUTE)
    for _ in range(2):
        result = MemoryRestarter(world).reboot(restart, context())[0]
        assert (result.ok, result.boot, result.proof) == (True, facts(world).boot, "boot-1 became boot-2")
    assert (facts(world).reboot, facts(world).services) == (Need.NO, ())


def test_a_host_that_stays_down_and_a_unit_that_does_not_run_are_told(world: MemoryPackageWorld) -> None:
    world.stays_down.add("web1")
    world.stubborn.add("b.service")
    units = {"web2": ("a.service", "b.service")}
    restart = Restart(fleet=FLEET, boots={}, within=MINUTE, units=units)
    assert [one.ok for one in MemoryRestarter(world).await_back(restart, context())] == [False, True]
    services = MemoryRestarter(world).services(restart, context())[1]
    assert (services.ok, services.detail) == (False, "not active: b.service")


def test_what_nobody_can_tell_is_unknown(world: MemoryPackageWorld) -> None:
    world.unknown_reboot.add("web1")
    assert facts(world).reboot is Need.UNKNOWN


def test_a_watcher_can_cancel_between_two_hosts(world: MemoryPackageWorld) -> None:
    ours = context()
    world.watch.append(lambda call: ours.cancelled.set() if call == "apply web2" else None)
    with pytest.raises(Cancelled):
        MemoryPackages(world).apply(request(WEB), ours)
    assert world.machines["web1"].installed["web"].version == "2.0"


def test_where_former_versions_are_required_a_host_without_one_is_refused_before_anything(
    world: MemoryPackageWorld,
) -> None:
    packages = MemoryPackages(world)
    (found,) = packages.apply(request(WEB, LIB, fleet=ONE, former_required=True), context())
    assert (found.fate, found.trouble, found.detail) == (PackageFate.REFUSED, Trouble.NO_FORMER, "lib 1.0")
    assert world.machines["web1"].installed["web"].version == "1.0"
    (found,) = packages.apply(request(WEB, fleet=ONE, former_required=True), context())
    assert (found.fate, found.former) == (PackageFate.DONE, ("web",))


def needing(world: MemoryPackageWorld) -> None:
    """The new web needs new packages, one through the other."""
    world.needs[("web", "2.0")], world.needs[("libnew", "1.0")] = ("libnew",), ("libdeep",)
    world.repository.extend([offered("libnew", "1.0", "sha256:n"), offered("libdeep", "1.0")])
    world.read_lists(world.machines["web1"])


LIBNEW = Move(name="libnew", architecture="all", before="", after="1.0", digest="sha256:n")
LIBDEEP = Move(name="libdeep", architecture="all", before="", after="1.0")


def test_new_packages_are_named_by_check_and_made_when_they_are_asked_for(world: MemoryPackageWorld) -> None:
    needing(world)
    packages = MemoryPackages(world)
    (told,) = packages.check(request(WEB, fleet=ONE), context())
    assert (told.fate, told.trouble, told.detail) == (PackageFate.REFUSED, Trouble.WIDER, "libdeep=1.0,libnew=1.0")
    assert [(one.name, one.version, one.needed_by) for one in told.brings] == [
        ("libdeep", "1.0", ("libnew",)),
        ("libnew", "1.0", ("web",)),
    ]
    refused = apply(world, WEB, LIBNEW)
    assert (refused.trouble, refused.brings) == (Trouble.WIDER, ())
    done = apply(world, WEB, LIBNEW, LIBDEEP, former_required=True)
    assert (done.fate, done.made, done.former) == (PackageFate.DONE, (WEB, LIBNEW, LIBDEEP), ("web",))


def test_a_new_package_that_is_there_in_another_version_was_moved(world: MemoryPackageWorld) -> None:
    needing(world)
    world.machines["web1"].installed["libnew"] = installed("libnew")
    assert apply(world, WEB, replace(LIBNEW, after="2.0")).trouble is Trouble.MOVED


def test_on_the_way_back_a_new_package_stays_if_it_is_well_and_goes_if_it_never_was(world: MemoryPackageWorld) -> None:
    needing(world)
    world.broken.add(("libdeep", "1.0"))
    assert apply(world, WEB, LIBNEW, LIBDEEP).trouble is Trouble.BROKEN
    assert rollback(world, WEB).fate is PackageFate.DONE
    there = world.machines["web1"].installed
    assert (there["web"].version, there["libnew"].version) == ("1.0", "1.0")
    assert "libdeep" not in there


def test_what_was_left_half_installed_is_installed_again(world: MemoryPackageWorld) -> None:
    packages = MemoryPackages(world)
    world.broken.add(("web", "2.0"))
    (failed,) = packages.apply(request(WEB, fleet=ONE), context())
    assert failed.trouble is Trouble.BROKEN
    world.broken.clear()
    (again,) = packages.apply(request(WEB, fleet=ONE), context())
    assert again.fate is PackageFate.DONE
