"""Exact versions on a real Debian machine with systemd, over a real sshd: what is made, refused, healed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ismgr_automation.core.errors import Cancelled
from ismgr_automation.engines.apt import AptFacts, AptManager
from ismgr_automation.engines.apt.facts import script
from ismgr_automation.engines.apt.reading import Reading, facts_of
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.packages import INIT, HostFacts, Need, PackageFate, PackageRequest, PackageResult, Trouble
from tests.engines.apt.world import BROKEN, DEBS, HELLO, LIB, SLOW, TOOL, Box, Deb, back, move, until

pytestmark = pytest.mark.lab

LEASE = "estate/test"
HOLD_LOCK = """\
exec python3 -c '
import fcntl, os, sys, time
lock = open("/var/lib/dpkg/lock-frontend", "w")
fcntl.lockf(lock, fcntl.LOCK_EX)
open("/run/test-locked", "w").close()
while os.path.exists("/run/test-locked"):
    time.sleep(0.05)
'
"""
KILL_ALL = """\
for pid in $(grep -lszF "LC_ISMGR_RUN=$1.apt" /proc/[0-9]*/environ | cut -d/ -f3) $(pgrep -f work.sh); do
    kill -KILL "$pid"
done 2>/dev/null
"""


def apply(box: Box, context: Context, *moves, **more) -> PackageResult:
    return manager(box).apply(box.request(*moves, **more), context)[0]


def check(box: Box, context: Context, *moves, **more) -> PackageResult:
    return manager(box).check(box.request(*moves, **more), context)[0]


def rollback(box: Box, context: Context, *moves, **more) -> PackageResult:
    return manager(box).rollback(box.request(*moves, **more), context)[0]


def manager(box: Box) -> AptManager:
    return AptManager(box.server.store)


def facts(box: Box, context: Context) -> HostFacts:
    (found,) = AptFacts(box.server.store).read(box.fleet, context)
    assert isinstance(found, HostFacts), found
    return found


def background(work: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    found: list[object] = []

    def run() -> None:
        try:
            found.append(work())
        except Cancelled as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, found


def begin_slow(box: Box, work: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """Begin what comes to the postinst that waits; return when it waits."""
    box.sh(": >/run/slow-wait")
    thread, found = background(work)
    until("the maintainer script runs", lambda: box.sh("ls /run/slow-began 2>/dev/null").strip() != "")
    return thread, found


def withdraw(box: Box, name: str, version: str) -> None:
    """Offer everything but one version; the host has read the indexes of before."""
    box.repository.publish(*(one for one in DEBS if (one.name, one.version) != (name, version)))


def forget(box: Box, context: Context, name: str, version: str) -> None:
    """Nobody has one version any more, and the host knows it."""
    withdraw(box, name, version)
    manager(box).refresh(box.fleet, timedelta(seconds=30), context)
    box.sh("rm -f /var/cache/apt/archives/*.deb")


def test_exact_versions_are_installed_pinned_and_read_back_and_former_ones_kept(box, context):
    result = apply(box, context, HELLO, replace(LIB, digest=box.repository.digest(LIB)))
    assert (result.fate, result.trouble) == (PackageFate.DONE, Trouble.NONE)
    assert [one.name for one in result.made] == ["ismgr-hello", "ismgr-lib"]
    assert result.former == ("ismgr-hello", "ismgr-lib")
    assert box.versions()["ismgr-lib"] == "ii 1:0.9-1~deb12u1"
    policy = box.sh("apt-cache policy ismgr-hello ismgr-lib")
    assert "2.0 1001" in policy
    assert "1:0.9-1~deb12u1 1001" in policy


def test_what_was_made_before_is_nothing_and_what_this_run_made_is_done(box, context):
    apply(box, context, HELLO)
    again, other = apply(box, context, HELLO), apply(box, context, HELLO, run="run-2")
    assert (again.fate, again.made) == (PackageFate.DONE, (HELLO,))
    assert (other.fate, other.made) == (PackageFate.NOTHING, ())


def test_a_downgrade_by_a_move_is_exact_and_its_pin_replaces_the_one_before(box, context):
    apply(box, context, HELLO, LIB)
    result = apply(box, context, back(HELLO), run="run-2")
    assert result.fate is PackageFate.DONE
    pins = box.sh("cat /etc/apt/preferences.d/ismgr-patch")
    assert pins.count("Package: ismgr-hello\nPin: version 1.0\nPin-Priority: 1001\n") == 1
    assert pins.count("Package: ") == 2
    assert "Package: ismgr-lib:amd64\nPin: version 1:0.9-1~deb12u1\n" in pins


def test_pins_keep_others_from_moving_the_package(box, context):
    apply(box, context, back(HELLO))
    assert "ismgr-hello" not in box.sh("apt-get -s dist-upgrade | grep ^Inst")


def test_check_tells_what_apply_would_answer_and_changes_nothing(box, context):
    before = box.versions()
    assert check(box, context, HELLO).fate is PackageFate.DONE
    assert check(box, context, back(HELLO)).fate is PackageFate.NOTHING
    assert box.versions() == before
    assert box.sh("ls -d /var/lib/ismgr /etc/apt/preferences.d/ismgr-patch 2>/dev/null") == ""


REFUSALS = {
    "another package would change": ((TOOL,), (Trouble.WIDER, "ismgr-lib=1:0.9-1~deb12u1")),
    "the version is not offered": ((move("ismgr-hello", "1.0", "3.0"),), (Trouble.VANISHED, "ismgr-hello 3.0")),
    "another version is there": (
        (move("ismgr-hello", "0.5", "2.0"),),
        (Trouble.MOVED, "ismgr-hello is 1.0"),
    ),
    "it is not installed": ((move("nothing-such", "1.0", "2.0"),), (Trouble.MOVED, "nothing-such is not installed")),
    "the file is another one": ((replace(HELLO, digest=f"sha256:{'0' * 64}"),), (Trouble.DIGEST, "ismgr-hello 2.0")),
}


@pytest.mark.parametrize("verb", [check, apply])
@pytest.mark.parametrize(("moves", "expected"), REFUSALS.values(), ids=REFUSALS)
def test_what_differs_from_the_request_is_refused_and_nothing_is_touched(box, context, verb, moves, expected):
    before = box.versions()
    trouble, words = expected
    result = verb(box, context, *moves)
    assert (result.fate, result.trouble) == (PackageFate.REFUSED, trouble)
    assert words in result.detail
    assert box.versions() == before


def test_packages_that_would_be_removed_are_named(box, context):
    box.repository.publish(*DEBS, Deb(name="ismgr-hello", version="4.0", depends="nothing-such-at-all"))
    manager(box).refresh(box.fleet, timedelta(seconds=30), context)
    result = check(box, context, move("ismgr-hello", "1.0", "4.0"))
    assert (result.fate, result.trouble) == (PackageFate.REFUSED, Trouble.WIDER)
    assert "nothing-such-at-all" in result.detail


def test_a_package_that_the_host_holds_is_not_moved(box, context):
    box.sh("apt-mark hold ismgr-hello")
    result = apply(box, context, HELLO)
    assert (result.fate, result.trouble) == (PackageFate.REFUSED, Trouble.OTHER)
    assert "Held packages" in result.detail


def test_a_version_that_vanished_after_planning_is_refused(box, context):
    box.repository.publish(*(one for one in DEBS if (one.name, one.version) != ("ismgr-hello", "2.0")))
    assert manager(box).refresh(box.fleet, timedelta(seconds=30), context)[0].fate is PackageFate.DONE
    assert apply(box, context, HELLO).trouble is Trouble.VANISHED


def test_a_file_that_vanished_although_the_index_names_it_is_refused_before_anything_began(box, context):
    (box.repository.folder / "pool/ismgr-hello_2.0_all.deb").unlink()
    result = apply(box, context, HELLO)
    assert (result.fate, result.trouble) == (PackageFate.REFUSED, Trouble.VANISHED)


def test_a_file_with_other_content_than_the_signed_index_says_is_refused(box, context):
    place = box.repository.folder / "pool/ismgr-hello_2.0_all.deb"
    place.write_bytes(place.read_bytes()[:-1] + b"x")
    result = apply(box, context, HELLO)
    assert (result.fate, result.trouble) == (PackageFate.REFUSED, Trouble.DIGEST)
    assert box.versions()["ismgr-hello"] == "ii 1.0"


def test_a_file_of_other_content_that_apt_has_kept_is_refused_although_the_index_names_the_signed_one(box, context):
    signed = replace(HELLO, digest=box.repository.digest(HELLO))
    # as large as the one that is offered: apt takes it as it is
    box.sh(
        "cd /var/cache/apt/archives && head -c -1 /srv/repository/pool/ismgr-hello_2.0_all.deb "
        ">ismgr-hello_2.0_all.deb && printf x >>ismgr-hello_2.0_all.deb"
    )
    result = apply(box, context, signed)
    assert (result.fate, result.trouble, result.made) == (PackageFate.REFUSED, Trouble.DIGEST, ())
    assert "would be installed from /var/cache/apt/archives/ismgr-hello_2.0_all.deb" in result.detail
    assert box.versions()["ismgr-hello"] == "ii 1.0"
    box.sh("rm -f /var/cache/apt/archives/*.deb")
    assert apply(box, context, signed).fate is PackageFate.DONE


def test_a_source_on_the_hosts_own_disk_is_compared_as_well(box, context):
    box.sh("sed -i s/copy:/file:/ /etc/apt/sources.list.d/test.list && apt-get update -qq")
    try:
        result = apply(box, context, replace(HELLO, digest=box.repository.digest(HELLO)))
    finally:
        box.sh("sed -i s/file:/copy:/ /etc/apt/sources.list.d/test.list && apt-get update -qq")
    assert result.fate is PackageFate.DONE


def test_a_source_that_cannot_be_read_is_named(box, context):
    (box.repository.folder / "dists/stable/InRelease").write_text("nonsense")
    result = manager(box).refresh(box.fleet, timedelta(seconds=30), context)[0]
    assert (result.fate, result.trouble) == (PackageFate.FAILED, Trouble.OTHER)
    assert "copy:/srv/repository stable InRelease" in result.detail


@pytest.mark.parametrize("verb", [check, apply])
def test_a_held_lock_is_told_after_waiting_for_it(box, context, verb):
    holder = box.start(HOLD_LOCK)
    until("the lock is held", lambda: box.sh("ls /run/test-locked 2>/dev/null") != "")
    try:
        result = verb(box, context, HELLO, deadline=timedelta(seconds=40))
    finally:
        box.sh("rm -f /run/test-locked")
        holder.communicate(timeout=30)
    assert (result.fate, result.trouble) == (PackageFate.REFUSED, Trouble.LOCKED)
    assert apply(box, context, HELLO).fate is PackageFate.DONE


def test_a_lock_that_is_given_back_in_time_is_waited_for(box, context):
    holder = box.start(HOLD_LOCK)
    until("the lock is held", lambda: box.sh("ls /run/test-locked 2>/dev/null") != "")
    thread, found = background(lambda: apply(box, context, HELLO))
    until("apt waits", lambda: box.sh("pgrep -x apt-get").strip() != "")
    box.sh("rm -f /run/test-locked")
    holder.communicate(timeout=30)
    thread.join()
    assert found[0].fate is PackageFate.DONE


def test_a_disk_without_room_for_former_versions_is_refused_before_anything_began(box, context):
    box.sh(
        "mkdir -p /var/lib/ismgr && ln -s /srv/small /var/lib/ismgr/patch; cat /dev/zero >/srv/small/full 2>/dev/null"
    )
    try:
        result = apply(box, context, HELLO)
    finally:
        box.sh("rm -rf /srv/small/*")
    assert (result.fate, result.trouble) == (PackageFate.REFUSED, Trouble.NO_ROOM)
    assert box.versions()["ismgr-hello"] == "ii 1.0"


def test_a_disk_that_would_be_full_is_refused(box, context):
    box.sh("printf '#!/bin/sh\\necho head\\necho d 1 1 2 9%% /\\n' >/usr/local/bin/df && chmod +x /usr/local/bin/df")
    result = check(box, context, HELLO)
    assert (result.fate, result.trouble) == (PackageFate.REFUSED, Trouble.NO_ROOM)
    assert "2 are free" in result.detail


def test_a_disk_that_gets_full_while_unpacking_is_told_and_healed_by_the_way_back(box, context):
    big = Deb(name="ismgr-hello", version="5.0", fills="srv/small/big")
    box.repository.publish(*DEBS, big)
    manager(box).refresh(box.fleet, timedelta(seconds=30), context)
    there = move("ismgr-hello", "1.0", "5.0")
    result = apply(box, context, there)
    assert (result.fate, result.trouble) == (PackageFate.FAILED, Trouble.NO_ROOM)
    assert rollback(box, context, back(there)).trouble is Trouble.NONE
    assert box.versions()["ismgr-hello"] == "ii 1.0"
    assert box.sh("dpkg --audit") == ""


def test_a_broken_maintainer_script_is_told_and_healed_by_the_exact_former_version(box, context):
    result = apply(box, context, HELLO, BROKEN)
    assert (result.fate, result.trouble) == (PackageFate.FAILED, Trouble.BROKEN)
    assert result.broken == ("ismgr-broken: half configured",)
    assert "I am broken" in result.detail
    assert result.headline.startswith("installed ismgr-broken package post-installation script subprocess")
    assert BROKEN not in result.made
    healed = rollback(box, context, back(HELLO), back(BROKEN))
    assert (healed.fate, healed.broken) == (PackageFate.DONE, ())
    assert box.versions() == dict.fromkeys(box.versions(), "ii 1.0") | {"ismgr-lib": "ii 1.0-1"}
    assert "Package: ismgr-broken\nPin: version 1.0\n" in box.sh("cat /etc/apt/preferences.d/ismgr-patch")


MENDS_WITH_OTHERS = """\
cat >/usr/local/bin/apt-get <<'END'
#!/bin/sh
case " $* " in
*" -s "*" --fix-broken "*) echo 'Inst ismgr-other (1.0 Test:stable [all])' ;;
*" --fix-broken "*) : >/run/mended ;;
*) exec /usr/bin/apt-get "$@" ;;
esac
END
chmod +x /usr/local/bin/apt-get; rm -f /run/mended
"""


def test_a_way_back_that_would_take_other_packages_is_told_and_touches_none(box, context):
    box.sh(MENDS_WITH_OTHERS)
    result = rollback(box, context, BROKEN)
    assert (result.fate, result.trouble, result.headline) == (PackageFate.FAILED, Trouble.WIDER, "ismgr-other")
    assert result.broken == ("ismgr-broken: half configured",)
    assert box.sh("ls /run/mended 2>/dev/null") == ""


def test_what_somebody_else_left_half_configured_is_no_part_of_our_moves(box, context):
    apply(box, context, BROKEN)
    result = apply(box, context, HELLO, run="run-2")
    assert (result.fate, result.trouble) == (PackageFate.REFUSED, Trouble.WIDER)
    assert "ismgr-broken" in result.detail


def test_a_former_version_comes_from_the_kept_file_when_no_repository_has_it(box, context):
    apply(box, context, HELLO)
    forget(box, context, "ismgr-hello", "1.0")
    assert rollback(box, context, back(HELLO)).fate is PackageFate.DONE
    assert box.versions()["ismgr-hello"] == "ii 1.0"


def test_a_former_version_that_nobody_has_is_told(box, context):
    forget(box, context, "ismgr-hello", "1.0")
    result = apply(box, context, HELLO)
    assert (result.fate, result.former) == (PackageFate.DONE, ())
    refused = rollback(box, context, back(HELLO))
    assert (refused.fate, refused.trouble) == (PackageFate.REFUSED, Trouble.NO_FORMER)


def test_the_work_goes_on_when_the_connection_is_lost_and_the_next_call_finds_it_done(box, context):
    thread, found = begin_slow(box, lambda: apply(box, context, SLOW))
    box.sh("pkill -KILL -f 'begin --'")
    thread.join()
    assert found[0].fate is PackageFate.UNKNOWN
    box.sh("(sleep 0.3; rm -f /run/slow-wait) >/dev/null 2>&1 &")
    result = apply(box, context, SLOW)
    assert (result.fate, result.made) == (PackageFate.DONE, (SLOW,))
    assert box.sh("grep -c installing /var/lib/ismgr/patch/run-1/journal").strip() == "1"


def test_the_work_goes_on_when_the_run_is_cancelled(box, context):
    thread, found = begin_slow(box, lambda: apply(box, context, SLOW))
    context.cancelled.set()
    thread.join()
    assert isinstance(found[0], Cancelled)
    box.sh("rm -f /run/slow-wait")
    until("dpkg is done", lambda: box.versions()["ismgr-slow"] == "ii 2.0")


def test_what_died_in_the_middle_is_unknown_and_the_same_call_again_heals_it_and_goes_on(box, context):
    thread, found = begin_slow(box, lambda: apply(box, context, HELLO, SLOW))
    box.sh(KILL_ALL, "run-1")
    thread.join()
    assert found[0].fate is PackageFate.UNKNOWN
    assert box.sh("dpkg --audit") != ""
    box.sh("rm -f /run/slow-wait")
    result = apply(box, context, HELLO, SLOW)
    assert (result.fate, result.made, result.broken) == (PackageFate.DONE, (HELLO, SLOW), ())
    assert "Pin: version 2.0" in box.sh("cat /etc/apt/preferences.d/ismgr-patch")


def test_what_died_in_the_middle_can_be_taken_back(box, context):
    thread, _ = begin_slow(box, lambda: apply(box, context, HELLO, SLOW))
    box.sh(KILL_ALL, "run-1")
    thread.join()
    box.sh("rm -f /run/slow-wait")
    assert rollback(box, context, back(HELLO), back(SLOW)).fate is PackageFate.DONE
    assert (box.versions()["ismgr-hello"], box.versions()["ismgr-slow"]) == ("ii 1.0", "ii 1.0")


def test_the_work_is_a_unit_of_its_own(box, context):
    thread, _ = begin_slow(box, lambda: apply(box, context, SLOW))
    groups = box.sh("cat /proc/$(pgrep -x dpkg | head -n 1)/cgroup")
    box.sh("rm -f /run/slow-wait")
    thread.join()
    assert "/ismgr-apply." in groups


def test_without_systemd_the_work_has_a_session_of_its_own(box, context):
    box.sh("printf '#!/bin/sh\\nexit 1\\n' >/usr/local/bin/systemd-run && chmod +x /usr/local/bin/systemd-run")
    thread, _ = begin_slow(box, lambda: apply(box, context, SLOW))
    box.sh("pkill -KILL -f 'begin --'")
    thread.join()
    box.sh("rm -f /run/slow-wait")
    assert apply(box, context, SLOW).fate is PackageFate.DONE


def test_a_host_that_still_works_at_the_deadline_is_unknown(box, context):
    thread, found = begin_slow(box, lambda: apply(box, context, SLOW, deadline=timedelta(seconds=10)))
    thread.join()
    box.sh("rm -f /run/slow-wait")
    assert found[0].fate is PackageFate.UNKNOWN
    assert "still works" in found[0].detail
    assert apply(box, context, SLOW).fate is PackageFate.DONE


def test_a_host_that_knows_a_larger_token_refuses(box, context):
    ours, theirs = replace(context, token=3), replace(context, token=4)
    assert apply(box, ours, HELLO, fence=LEASE).fate is PackageFate.DONE
    assert apply(box, theirs, LIB, fence=LEASE, run="run-2").fate is PackageFate.DONE
    result = apply(box, ours, TOOL, fence=LEASE)
    assert (result.fate, result.trouble) == (PackageFate.REFUSED, Trouble.FENCED)
    assert '"token": 4' in result.detail
    assert box.versions()["ismgr-tool"] == "ii 1.0"


def test_a_host_that_does_not_answer_is_unreachable_and_the_others_are_worked_on(box, context):
    nobody = replace(box.fleet.hosts[0], name="nobody", port=1)
    fleet = replace(box.fleet, hosts=(*box.fleet.hosts, nobody), names=("nobody", "box"))
    request = PackageRequest(
        fleet=fleet, moves={"box": (HELLO,), "nobody": (HELLO,)}, run="r", deadline=timedelta(seconds=30)
    )
    assert [one.fate for one in manager(box).apply(request, context)] == [PackageFate.UNREACHABLE, PackageFate.DONE]


def test_what_the_owner_of_a_host_configured_stays(box, context):
    box.sh("echo mine >/etc/ismgr-tool.conf")
    there = move("ismgr-tool", "1.0", "1.5")
    assert apply(box, context, there).fate is PackageFate.DONE
    assert rollback(box, context, back(there)).fate is PackageFate.DONE
    assert box.sh("cat /etc/ismgr-tool.conf") == "mine\n"


def test_one_piece_of_work_at_a_time_runs_on_a_host(box, context):
    thread, found = begin_slow(box, lambda: apply(box, context, SLOW))
    refused = apply(box, context, HELLO, run="run-2", deadline=timedelta(seconds=2))
    assert (refused.fate, refused.trouble) == (PackageFate.REFUSED, Trouble.LOCKED)
    other, second = background(lambda: apply(box, context, HELLO, run="run-3"))
    box.sh("rm -f /run/slow-wait")
    for one in (thread, other):
        one.join()
    assert [one.fate for one in (*found, *second)] == [PackageFate.DONE, PackageFate.DONE]
    assert box.sh("ls /var/lib/ismgr/patch").split() == ["run-1", "run-3"]


def test_facts_tell_versions_on_offer_with_their_digest_and_where_they_come_from(box, context):
    found = facts(box, context)
    (hello,) = [one for one in found.offered if one.name == "ismgr-hello"]
    assert (hello.version, hello.source, hello.source_version) == ("2.0", "ismgr-greetings", "2.0-1")
    assert (hello.origin, hello.suite, hello.component, hello.candidate) == (
        "Ismgr-Test",
        "stable-security",
        "main",
        True,
    )
    assert hello.digest == box.repository.digest(HELLO)
    assert hello.size_bytes > 100
    assert {one.name for one in found.installed if not one.well} == set()
    assert found.lists_read_at is not None
    assert (found.distribution, found.release, found.codename) == ("debian", "12", "bookworm")


def test_facts_tell_what_is_broken_and_held(box, context):
    apply(box, context, BROKEN)
    box.sh("apt-mark hold ismgr-hello")
    found = facts(box, context)
    assert found.broken == ("ismgr-broken: half configured",)
    by_name = {one.name: one for one in found.installed}
    assert (by_name["ismgr-broken"].well, by_name["ismgr-hello"].held) == (False, True)


def test_facts_name_the_service_that_runs_on_a_replaced_file_and_not_the_machine(box, context):
    assert facts(box, context).reboot is Need.NO
    box.sh(
        "cp /bin/sleep /usr/local/sbin/napping && "
        "systemd-run --property=Type=exec --unit napping /usr/local/sbin/napping 600 && "
        "cp /bin/sleep /usr/local/sbin/other && mv /usr/local/sbin/other /usr/local/sbin/napping"
    )
    try:
        found = facts(box, context)
    finally:
        box.sh("systemctl stop napping; rm /usr/local/sbin/napping")
    assert "napping.service" in found.services
    assert found.reboot is Need.NO
    (one,) = [one for one in found.stale if one.unit == "napping.service"]
    assert one.files == ("/usr/local/sbin/napping",)


def test_facts_name_the_packages_that_pid_1_and_services_run_from(box, context):
    mapped = {one.unit: one.packages for one in facts(box, context).mapped}
    assert {"systemd", "libc6"} <= set(mapped[INIT])
    assert {"systemd", "libc6"} <= set(mapped["systemd-journald.service"])
    assert all(one == INIT or one.endswith(".service") for one in mapped)


def test_facts_believe_a_host_that_asks_for_a_restart(box, context):
    box.sh("echo libc6 >/run/reboot-required.pkgs; : >/run/reboot-required")
    try:
        found = facts(box, context)
    finally:
        box.sh("rm /run/reboot-required*")
    assert (found.reboot, found.reboot_why) == (Need.YES, ("the host asks for it: libc6",))


def test_facts_without_root_say_unknown_of_what_they_may_not_see(box):
    text = box.sh(
        'HOME=/ exec setpriv --reuid 65534 --regid 65534 --clear-groups sh -c "$1" 2>/dev/null',
        script("offers.sh", "facts.sh"),
    )
    found = facts_of(Reading(host="box", text=text, read_at=datetime(2026, 11, 26, tzinfo=UTC)))
    assert (found.reboot, found.reboot_why) == (Need.UNKNOWN, ("what PID 1 has mapped could not be looked at",))
    assert found.unseen > 1
    assert found.mapped is None
    assert [one.version for one in found.offered if one.name == "ismgr-hello"] == ["2.0"]


def test_where_former_versions_are_required_they_are_kept_before_anything_moves(box, context):
    result = apply(box, context, HELLO, LIB, former_required=True)
    assert (result.fate, result.former) == (PackageFate.DONE, ("ismgr-hello", "ismgr-lib"))
    kept = box.sh("ls /var/lib/ismgr/patch/run-1/former").split()
    assert kept == ["ismgr-hello_1.0_all.deb", "ismgr-lib_1.0-1_amd64.deb"]
    forget(box, context, "ismgr-hello", "1.0")
    assert rollback(box, context, back(HELLO), back(LIB)).fate is PackageFate.DONE
    assert (box.versions()["ismgr-hello"], box.versions()["ismgr-lib"]) == ("ii 1.0", "ii 1.0-1")


def test_where_former_versions_are_required_one_that_nobody_has_keeps_all_packages_as_they_are(box, context):
    forget(box, context, "ismgr-hello", "1.0")
    before = box.versions()
    result = apply(box, context, HELLO, LIB, former_required=True)
    assert (result.fate, result.trouble, result.made) == (PackageFate.REFUSED, Trouble.NO_FORMER, ())
    assert result.headline == "ismgr-hello 1.0"
    assert box.versions() == before
    assert box.sh("ls /etc/apt/preferences.d/ismgr-patch 2>/dev/null") == ""
    # whoever can do without is not held up
    assert apply(box, context, HELLO, LIB, run="run-2").fate is PackageFate.DONE


def test_a_former_version_that_only_apt_has_kept_is_enough_where_it_is_required(box, context):
    box.sh("cd /run && apt-get -q download ismgr-hello=1.0")
    forget(box, context, "ismgr-hello", "1.0")
    box.sh("mv /run/ismgr-hello_1.0_all.deb /var/cache/apt/archives/")
    result = apply(box, context, HELLO, former_required=True)
    assert (result.fate, result.former) == (PackageFate.DONE, ("ismgr-hello",))
    box.sh("rm -f /var/cache/apt/archives/*.deb")
    assert rollback(box, context, back(HELLO)).fate is PackageFate.DONE


def test_a_version_that_was_withdrawn_since_the_host_read_its_indexes_is_told_before_anything_moves(box, context):
    withdraw(box, "ismgr-hello", "2.0")
    box.sh("rm -f /var/cache/apt/archives/*.deb")
    before = box.versions()
    # the host still believes its indexes
    assert check(box, context, HELLO, LIB).fate is PackageFate.DONE
    result = apply(box, context, LIB, HELLO)
    assert (result.fate, result.trouble, result.made) == (PackageFate.REFUSED, Trouble.VANISHED, ())
    assert "ismgr-hello" in result.headline
    assert box.versions() == before
    assert box.sh("ls /etc/apt/preferences.d/ismgr-patch 2>/dev/null") == ""
    # what is still there can go
    assert apply(box, context, LIB, run="run-2").fate is PackageFate.DONE
