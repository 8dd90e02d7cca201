"""New packages on a real Debian machine: what apt names, what is installed exactly, and what the way back leaves."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from ismgr_automation.cli.patch_views import upgradable
from ismgr_automation.engines.apt import AptFacts, AptManager
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.packages import HostFacts, Move, PackageFate, PackageResult, Trouble
from tests.engines.apt.world import LIB, NEW_DEBS, Box, back, move

pytestmark = pytest.mark.lab

HELLO = move("ismgr-hello", "1.0", "3.0")
NEW = move("ismgr-new2", "", "1.0")
DEEP = move("ismgr-deep", "", "1.0")
REAL = move("ismgr-real", "", "1.0")
TOOL = move("ismgr-tool", "1.0", "3.0")
ILL = move("ismgr-ill", "", "1.0")
SLOW = move("ismgr-slow", "1.0", "3.0")


@pytest.fixture(autouse=True)
def offered(box: Box, context: Context) -> None:
    box.repository.publish(*NEW_DEBS)
    assert AptManager(box.server.store).refresh(box.fleet, timedelta(seconds=30), context)[0].fate is PackageFate.DONE


def ask(verb: str, box: Box, context: Context, *moves: Move, **more: object) -> PackageResult:
    (found,) = getattr(AptManager(box.server.store), verb)(box.request(*moves, **more), context)
    return found


def test_a_check_names_new_packages_with_their_digest_and_who_needs_them(box, context):
    before = box.versions()
    found = ask("check", box, context, HELLO)
    assert (found.fate, found.trouble) == (PackageFate.REFUSED, Trouble.WIDER)
    assert [(one.name, one.architecture, one.version, one.needed_by) for one in found.brings] == [
        ("ismgr-deep", "all", "1.0", ("ismgr-new2",)),
        ("ismgr-new2", "amd64", "1.0", ("ismgr-hello",)),
        ("ismgr-real", "all", "1.0", ("ismgr-hello",)),
    ]
    for one, there in zip(found.brings, (DEEP, NEW, REAL), strict=True):
        (offer,) = one.offers
        assert (offer.digest, offer.origin, offer.suite) == (
            box.repository.digest(there),
            "Ismgr-Test",
            "stable-security",
        )
    assert box.versions() == before


def test_what_would_change_something_else_as_well_names_nothing_new(box, context):
    found = ask("check", box, context, SLOW)
    assert (found.trouble, found.brings) == (Trouble.WIDER, ())
    assert "ismgr-lib=1:0.9-1~deb12u1" in found.detail
    assert [one.name for one in ask("check", box, context, SLOW, LIB).brings] == ["ismgr-deep", "ismgr-new2"]


def test_new_packages_are_installed_exactly_and_belong_to_what_needs_them(box, context):
    new = replace(NEW, digest=box.repository.digest(NEW))
    assert ask("check", box, context, HELLO, new, DEEP, REAL).fate is PackageFate.DONE
    found = ask("apply", box, context, HELLO, new, DEEP, REAL, former_required=True)
    assert (found.fate, found.former) == (PackageFate.DONE, ("ismgr-hello",)), found
    assert found.made == (HELLO, new, DEEP, REAL)
    assert box.versions()["ismgr-new2"] == "ii 1.0"
    assert "1.0 1001" in box.sh("apt-cache policy ismgr-new2")
    # as apt itself would have brought them: whoever clears away later finds what nobody needs any more
    assert box.sh("apt-mark showauto 'ismgr-*'").split() == ["ismgr-deep", "ismgr-new2", "ismgr-real"]
    again = ask("apply", box, context, HELLO, new, DEEP, REAL)
    assert (again.fate, again.made) == (PackageFate.DONE, (HELLO, new, DEEP, REAL))


def test_an_update_of_what_nobody_chose_by_hand_leaves_it_so(box, context):
    box.sh("apt-mark auto ismgr-lib ismgr-hello")
    assert ask("apply", box, context, LIB, move("ismgr-hello", "1.0", "2.0")).fate is PackageFate.DONE
    assert box.sh("apt-mark showauto 'ismgr-*'").split() == ["ismgr-hello", "ismgr-lib"]


def test_one_that_was_not_signed_is_refused_and_nothing_is_touched(box, context):
    before = box.versions()
    found = ask("apply", box, context, HELLO, NEW, DEEP)
    assert (found.fate, found.trouble, found.brings) == (PackageFate.REFUSED, Trouble.WIDER, ())
    assert found.detail == "ismgr-real=1.0"
    assert box.versions() == before


def test_one_with_another_file_is_refused(box, context):
    found = ask("apply", box, context, HELLO, replace(NEW, digest=f"sha256:{'0' * 64}"), DEEP, REAL)
    assert (found.fate, found.trouble) == (PackageFate.REFUSED, Trouble.DIGEST)


def test_one_that_is_there_in_another_version_was_moved(box, context):
    box.sh("apt-get install -qq -y ismgr-deep=1.0")
    found = ask("apply", box, context, HELLO, NEW, replace(DEEP, after="2.0"), REAL)
    assert (found.fate, found.trouble) == (PackageFate.REFUSED, Trouble.MOVED)
    assert "ismgr-deep is 1.0" in found.detail


def test_the_way_back_leaves_new_packages_where_they_are(box, context):
    ask("apply", box, context, HELLO, NEW, DEEP, REAL)
    found = ask("rollback", box, context, back(HELLO))
    assert (found.fate, found.trouble) == (PackageFate.DONE, Trouble.NONE), found
    there = box.versions()
    assert (there["ismgr-hello"], there["ismgr-new2"], there["ismgr-real"]) == ("ii 1.0", "ii 1.0", "ii 1.0")


def test_one_that_cannot_be_configured_is_told_and_goes_on_the_way_back(box, context):
    hello = move("ismgr-hello", "1.0", "2.0")
    found = ask("apply", box, context, hello, TOOL, ILL)
    assert (found.fate, found.trouble) == (PackageFate.FAILED, Trouble.BROKEN)
    assert found.broken == ("ismgr-tool: unpacked, not configured", "ismgr-ill: half configured")
    healed = ask("rollback", box, context, back(hello), back(TOOL))
    assert (healed.fate, healed.broken) == (PackageFate.DONE, ()), healed
    there = box.versions()
    assert (there["ismgr-hello"], there["ismgr-tool"]) == ("ii 1.0", "ii 1.0")
    assert there.get("ismgr-ill", "rc")[:2] in {"rc", "un"}


def test_facts_know_what_updates_would_bring_before_anybody_asks_whatever_is_pinned_by_us(box, context):
    ask("apply", box, context, move("ismgr-hello", "1.0", "2.0"))
    (found,) = AptFacts(box.server.store).read(box.fleet, context)
    assert isinstance(found, HostFacts), found
    there = {one.name for one in found.installed}
    coming = {one.name: one for one in found.offered if one.name not in there}
    assert {"ismgr-new2", "ismgr-deep", "ismgr-real"} <= coming.keys()
    assert coming["ismgr-new2"].digest == box.repository.digest(NEW)
    # no update is missing because of them
    assert {one.name for one in upgradable(found)} <= there


def test_a_host_takes_pins_of_its_owner_into_account(box, context):
    box.sh("printf 'Package: ismgr-hello\\nPin: version 1.0\\nPin-Priority: 1001\\n' >/etc/apt/preferences.d/owner")
    try:
        (found,) = AptFacts(box.server.store).read(box.fleet, context)
    finally:
        box.sh("rm /etc/apt/preferences.d/owner")
    assert isinstance(found, HostFacts), found
    assert "ismgr-real" not in {one.name for one in found.offered}
