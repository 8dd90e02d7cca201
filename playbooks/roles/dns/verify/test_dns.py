"""What must hold on a host after the role dns. It looks, and changes nothing."""

import itertools
import time

TRANSFER_SECONDS = 15


def listens(ismgr_vars, ismgr_host):
    """Every address that it must answer at."""
    known = ismgr_host.variables["addresses"]
    stated = ismgr_vars.get("dns_addresses") or [known[ismgr_host.site]]
    return [*stated, *(known[network] for network in ismgr_vars.get("dns_networks", []))]


def test_it_runs_and_comes_back_after_a_reboot(host):
    assert host.service("knot").is_running
    assert host.service("knot").is_enabled


def serial(host, server, zone):
    answer = host.check_output(f"kdig +short +timeout=3 @{server} {zone} SOA").split()
    assert answer, f"{server} has no SOA of {zone}"
    return answer[2]


def test_it_answers_for_its_zones_like_their_primary(host, ismgr_vars, ismgr_host):
    for zone, here in itertools.product(ismgr_vars["dns_zones"], listens(ismgr_vars, ismgr_host)):
        for primary in zone.get("primaries", []) or [here]:
            end = time.monotonic() + TRANSFER_SECONDS
            # an update of just now is on its way
            while (ours := serial(host, here, zone["name"])) != (theirs := serial(host, primary, zone["name"])):
                assert time.monotonic() < end, f"{zone['name']}: we have {ours} at {here}, {primary} has {theirs}"
                time.sleep(0.2)


def test_nobody_transfers_a_zone_without_the_key(host, ismgr_vars, ismgr_host):
    zones = ismgr_vars["dns_zones"]
    for zone, here in itertools.product(zones, listens(ismgr_vars, ismgr_host)):
        answer = host.run(f"kdig +timeout=3 @{here} {zone['name']} AXFR")
        assert "NOTAUTH" in answer.stdout + answer.stderr or "REFUSED" in answer.stdout + answer.stderr


def test_the_key_is_not_for_everybody(host):
    with host.sudo():
        key = host.file("/etc/knot/key.conf")
        assert (key.user, key.group, key.mode) == ("root", "knot", 0o640)
