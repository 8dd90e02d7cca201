"""Packages, firmware and snapshots on a running lab: offered and signed, installed by hand, failing as they should."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import requests
import sushy
from sushy import auth, exceptions

from ismgr_automation.core.errors import Refused, SettingsError
from ismgr_automation.engines.process import Finished
from ismgr_automation.lab import Fault, FaultKind, Lab, patches
from ismgr_automation.lab.folder import Folder
from ismgr_automation.lab.patches import AGENT, AUDIT, BROKEN, MOTD, TOOLS, Fate
from ismgr_automation.lab.repository import KEYRING, Repository
from tests.fixtures_lab import answers_ssh, switch_off, switch_on, system, until

pytestmark = pytest.mark.lab

SITE_1, SITE_2, GATEWAY, OFF = "web1.dc1", "db1.dc2", "gw1.dc2", "edge1.dc2"
FIRST = {package.name: package.version for package in patches.FIRST}
SECOND = {package.name: package.version for package in patches.SECOND}


@pytest.fixture(scope="module")
def patched(lab: Lab) -> Lab:
    """The lab with machines of both sites that have the first versions, and know of the second."""
    switch_on(lab, "gw1.dc1", GATEWAY, SITE_1, SITE_2)
    switch_off(lab, OFF)
    prepared = {one.machine: one.fate for one in lab.publish_patches(reset=True)}
    assert {prepared[name] for name in (SITE_1, SITE_2, GATEWAY)} == {Fate.PREPARED}
    assert prepared[OFF] is Fate.OFF
    return lab


def sh(lab: Lab, name: str, script: str) -> Finished:
    return lab.run(name, ["env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", "sh", "-c", script])


def installed(lab: Lab, name: str) -> dict[str, str]:
    """The version of each of our packages that is there and well."""
    shown = sh(lab, name, "dpkg-query --show --showformat '${db:Status-Abbrev}/${Package}/${Version}\\n' 'records-*'")
    rows = [row.split("/") for row in shown.stdout.splitlines()]
    return {package: version for status, package, version in rows if status.strip() == "ii"}


def install(lab: Lab, name: str, *wanted: str) -> Finished:
    return sh(lab, name, f"NEEDRESTART_SUSPEND=1 apt-get -qq -y --allow-downgrades install {' '.join(wanted)}")


# packages


def test_machines_of_both_sites_have_the_first_versions_and_are_offered_the_second(patched: Lab):
    for name in (SITE_1, SITE_2, GATEWAY):
        assert installed(patched, name) == FIRST
        shown = sh(patched, name, f"apt-cache madison {' '.join(SECOND)}").stdout
        rows = {tuple(cell.strip() for cell in row.split("|")[:2]) for row in shown.splitlines()}
        assert rows >= {*FIRST.items(), *SECOND.items()}


def test_what_apt_reads_is_what_was_offered_with_origin_and_suite_and_digest(patched: Lab):
    shown = sh(patched, SITE_1, f"apt-cache show {TOOLS}={SECOND[TOOLS]}; apt-cache policy").stdout
    (offer,) = [one for one in patched.repository.offered() if (one.name, one.version) == (TOOLS, SECOND[TOOLS])]
    assert f"SHA256: {offer.digest.removeprefix('sha256:')}" in shown
    assert "Source: records-utils" in shown
    assert "o=ismgr-lab,a=stable-security" in shown


def test_a_repository_that_another_key_has_signed_is_refused(patched: Lab, tmp_path):
    other = Repository(patched.topology, Folder(tmp_path / "other"))
    assert other.fingerprint != patched.repository.fingerprint
    assert patched.run(SITE_1, ["tee", KEYRING], stdin=other.key.encode()).code == 0
    try:
        refused = sh(patched, SITE_1, "apt-get -o APT::Update::Error-Mode=any update")
        assert refused.code != 0
        assert "NO_PUBKEY" in refused.stdout + refused.stderr
    finally:
        assert patched.run(SITE_1, ["tee", KEYRING], stdin=patched.repository.key.encode()).code == 0
    assert sh(patched, SITE_1, "apt-get -o APT::Update::Error-Mode=any update").code == 0


def test_an_upgraded_agent_keeps_its_old_library_until_it_is_restarted(patched: Lab):
    told = "cat /run/records-agent/version"
    stale = f"grep -c 'librecords.*(deleted)' /proc/$(systemctl show -P MainPID {AGENT})/maps"
    until("the agent runs", lambda: sh(patched, SITE_2, told).stdout == "2.0\n")
    assert install(patched, SITE_2, f"{AGENT}=2.1").code == 0
    assert sh(patched, SITE_2, told).stdout == "2.0\n"
    assert sh(patched, SITE_2, stale).stdout == "1\n"
    assert f"NEEDRESTART-SVC: {AGENT}.service" in sh(patched, SITE_2, "needrestart -b").stdout
    assert sh(patched, SITE_2, f"systemctl restart {AGENT}").code == 0
    until("the agent is the new one", lambda: sh(patched, SITE_2, told).stdout == "2.1\n")
    assert sh(patched, SITE_2, stale).stdout == "0\n"


def test_the_broken_package_fails_half_way_and_the_version_before_heals_it(patched: Lab):
    failed = install(patched, SITE_2, f"{BROKEN}=1.1")
    assert failed.code != 0
    assert "no such table" in failed.stdout + failed.stderr
    assert BROKEN not in installed(patched, SITE_2)
    assert BROKEN in sh(patched, SITE_2, "dpkg --audit").stdout
    assert install(patched, SITE_2, f"{BROKEN}=1.0").code == 0
    assert sh(patched, SITE_2, "dpkg --audit").stdout == ""


def test_a_version_that_was_withdrawn_is_gone_and_one_that_was_made_anew_is_another_file(patched: Lab):
    repository = patched.repository
    before = {one.digest for one in repository.offered()}
    try:
        repository.withdraw(MOTD, "1.1")
        assert sh(patched, SITE_1, "apt-get -qq update").code == 0
        assert f"Version '1.1' for '{MOTD}' was not found" in install(patched, SITE_1, f"{MOTD}=1.1").stderr
        with pytest.raises(SettingsError, match=r"no records-motd 1\.1"):
            repository.withdraw(MOTD, "1.1")
        changed = [replace(one, files={"/usr/share/moved": "moved\n"}) for one in patches.SECOND if one.name == MOTD]
        repository.publish([*patches.FIRST, *changed])
        (anew,) = [one for one in repository.offered() if (one.name, one.version) == (MOTD, "1.1")]
        assert anew.digest not in before
    finally:
        repository.publish(patches.ALL, patches.FIRMWARE)
    assert {one.digest for one in repository.offered()} == before, "the same package is the same file"


def test_a_reset_brings_the_first_versions_back_whatever_is_there(patched: Lab):
    assert sh(patched, SITE_1, "apt-get -qq update").code == 0
    assert install(patched, SITE_1, f"{MOTD}=1.1", f"{AUDIT}=1.4").code == 0
    install(patched, SITE_1, f"{BROKEN}=1.1")
    sh(patched, SITE_1, f"apt-mark hold {TOOLS}")
    pin = f"Package: {MOTD}\nPin: version 1.1\nPin-Priority: 1001\n"
    patched.run(SITE_1, ["tee", "/etc/apt/preferences.d/ismgr-patch"], stdin=pin.encode())
    kept = {one.machine: one.fate for one in patches.prepare(patched.repository, [SITE_1], reset=False)}
    assert (kept[SITE_1], kept[SITE_2]) == (Fate.KEPT, Fate.OFF)
    patches.prepare(patched.repository, [SITE_1], reset=True)
    assert installed(patched, SITE_1) == FIRST
    assert sh(patched, SITE_1, "apt-mark showhold").stdout == ""


# firmware


@pytest.fixture
def bmc(patched: Lab, healthy_bmcs: Lab) -> Iterator[sushy.Sushy]:
    """The Redfish service of a machine that is off."""
    switch_off(patched, OFF)
    user, password = patched.bmc_credential(OFF)
    authority = str(patched.folder.authority)
    yield sushy.Sushy(patched.bmc_url(OFF), verify=authority, auth=auth.BasicAuth(user, password))
    switch_off(patched, OFF)


def versions(bmc: sushy.Sushy) -> dict[str, str]:
    items = bmc.get_update_service().firmware_inventory.get_members()
    return {item.identity: item.version for item in items}


def update(lab: Lab, bmc: sushy.Sushy, path: str) -> dict:
    """Update from an image, and wait for the end of the task; its last state."""
    url = f"{lab.repository.management_url}/{path}"
    monitor = bmc.get_update_service().simple_update(url)
    assert monitor.task_monitor_uri.startswith("/redfish/v1/TaskService/TaskMonitors/")
    until("the update ends", lambda: not monitor.check_is_processing)
    task: dict = monitor.response.json()
    return task


def last(task: dict) -> tuple[str, str, str]:
    return task["TaskState"], task["TaskStatus"], task["Messages"][-1]["MessageId"]


def test_a_new_bios_waits_for_the_next_boot_and_a_new_card_does_not(patched: Lab, bmc: sushy.Sushy):
    before = versions(bmc)
    wanted = patched.repository.put("firmware/next.json", patches.firmware.image("BIOS", f"{before['BIOS']}.1"))
    assert wanted == f"{patched.repository.management_url}/firmware/next.json"
    needs_reset = ("Completed", "OK", "Base.1.8.ResetRequired")
    assert last(update(patched, bmc, "firmware/next.json")) == needs_reset
    assert last(update(patched, bmc, "firmware/nic-22.31.6.json")) == ("Completed", "OK", "Update.1.0.UpdateSuccessful")
    assert versions(bmc) == {**before, "NIC.1": "22.31.6"}
    machine = system(patched, OFF)
    machine.reset_system(sushy.RESET_ON)
    assert versions(bmc)["BIOS"] == f"{before['BIOS']}.1"
    machine.refresh()
    assert machine.bios_version == f"{before['BIOS']}.1"


def test_a_bmc_that_updates_itself_is_away_for_a_moment(patched: Lab, bmc: sushy.Sushy):
    assert last(update(patched, bmc, "firmware/bmc-4.40.40.json")) == ("Completed", "OK", "Update.1.0.UpdateSuccessful")
    until("it is away", lambda: not answers(patched))
    until("it is back", lambda: answers(patched))
    assert versions(bmc)["BMC"] == "4.40.40"
    assert system(patched, OFF).managers[0].firmware_version == "4.40.40"


def answers(lab: Lab) -> bool:
    """Asked plainly: sushy asks again by itself until there is an answer."""
    try:
        return requests.get(f"{lab.bmc_url(OFF)}/redfish/v1", verify=str(lab.folder.authority), timeout=5).ok
    except requests.RequestException:
        return False


ENDINGS = {
    "it fails": (FaultKind.FAILS_UPDATE, ("Exception", "Critical", "Update.1.0.ApplyFailed")),
    "it says that it is done": (FaultKind.KEEPS_VERSION, ("Completed", "OK", "Base.1.8.ResetRequired")),
}


@pytest.mark.parametrize(("kind", "ending"), ENDINGS.values(), ids=ENDINGS)
def test_an_update_that_goes_wrong_on_order_leaves_the_version(patched: Lab, bmc: sushy.Sushy, kind, ending):
    before = versions(bmc)
    patched.arrange(OFF, Fault(kind=kind))
    patched.repository.put("firmware/wrong.json", patches.firmware.image("BIOS", "9.9.9"))
    assert last(update(patched, bmc, "firmware/wrong.json")) == ending
    system(patched, OFF).reset_system(sushy.RESET_ON)
    assert versions(bmc) == before


def test_a_bmc_that_goes_away_in_the_middle_comes_back_with_a_task_that_has_failed(patched: Lab, bmc: sushy.Sushy):
    before = versions(bmc)
    patched.arrange(OFF, Fault(kind=FaultKind.GOES_AWAY, seconds=8.0))
    url = f"{patched.repository.management_url}/firmware/bios-2.18.1.json"
    service = bmc.get_update_service()
    monitor = service.simple_update(url)
    with pytest.raises(exceptions.ServerSideError):
        service.simple_update(url)  # one at a time
    until("it is away", lambda: not answers(patched))
    until("it is back", lambda: answers(patched))
    until("the task has ended", lambda: not monitor.check_is_processing)
    assert last(monitor.response.json()) == ("Exception", "Critical", "Update.1.0.ApplyFailed")
    assert versions(bmc) == before


@pytest.mark.parametrize(
    ("path", "message"),
    [("firmware/damaged.json", "Update.1.0.VerificationFailed"), ("firmware/none.json", "Update.1.0.TransferFailed")],
)
def test_an_image_that_is_damaged_or_not_there_is_not_taken(patched: Lab, bmc: sushy.Sushy, path, message):
    assert last(update(patched, bmc, path)) == ("Exception", "Critical", message)


@pytest.mark.parametrize("body", [{}, {"ImageURI": ""}, {"ImageURI": "ftp://10.0.0.1/x"}, {"ImageURI": 7}])
def test_an_order_that_makes_no_sense_is_refused(bmc: sushy.Sushy, body):
    with pytest.raises(exceptions.BadRequestError):
        bmc._conn.post("/redfish/v1/UpdateService/Actions/UpdateService.SimpleUpdate", data=body)


# snapshots


def test_a_snapshot_brings_back_what_was_changed_deleted_or_new(patched: Lab):
    snapshots = patched.snapshots
    sh(patched, SITE_1, "echo kept > /etc/kept; rm --force /etc/deleted; echo there > /srv/there")
    taken = snapshots.create(SITE_1, "before")
    try:
        assert snapshots.of(SITE_1) == (taken,)
        with pytest.raises(Refused, match="already"):
            snapshots.create(SITE_1, "before")
        sh(patched, SITE_1, "echo lost > /etc/kept; touch /etc/new; rm --recursive /srv/there")
        assert snapshots.restore(SITE_1, "before") == taken
        until(f"{SITE_1} is back", lambda: answers_ssh(patched, SITE_1))
        assert sh(patched, SITE_1, "cat /etc/kept /srv/there; test ! -e /etc/new").stdout == "kept\nthere\n"
        assert installed(patched, SITE_1) == FIRST
        assert patched.status().problems == ()
    finally:
        snapshots.remove(SITE_1, "before")
    assert snapshots.of(SITE_1) == ()


def test_a_machine_that_is_off_stays_off_when_its_disk_is_put_back(patched: Lab):
    switch_off(patched, OFF)
    patched.snapshots.create(OFF, "off")
    patched.snapshots.restore(OFF, "off")
    assert not next(one.on for one in patched.status().machines if one.machine.name == OFF)
    patched.snapshots.remove(OFF, "off")


@pytest.mark.parametrize(("machine", "name"), [("ns", "x"), (SITE_1, "../x"), (SITE_1, "never"), ("db9", "x")])
def test_what_is_not_there_or_cannot_be_is_an_input_error(lab: Lab, machine, name):
    with pytest.raises(SettingsError):
        lab.snapshots.restore(machine, name)


def test_publishing_says_when_it_is_served(patched: Lab):
    patched.repository.publish(patches.FIRST)
    try:
        assert sh(patched, SITE_1, "apt-get -qq update").code == 0
        assert SECOND[TOOLS] not in sh(patched, SITE_1, f"apt-cache madison {TOOLS}").stdout
    finally:
        patched.repository.publish(patches.ALL, patches.FIRMWARE)
