"""What must hold on a host after the role dns. It looks, and changes nothing."""


def listens(ismgr_vars, ismgr_host):
    addresses = ismgr_vars.get("dns_addresses") or [ismgr_host.variables["addresses"][ismgr_host.site]]
    return addresses[0]


def test_it_runs_and_comes_back_after_a_reboot(host):
    assert host.service("knot").is_running
    assert host.service("knot").is_enabled


def test_it_answers_for_its_zones_like_their_primary(host, ismgr_vars, ismgr_host):
    here = listens(ismgr_vars, ismgr_host)
    for zone in ismgr_vars["dns_zones"]:
        ours = host.check_output(f"kdig +short +timeout=3 @{here} {zone['name']} SOA")
        assert ours, f"no SOA of {zone['name']}"
        for primary in zone.get("primaries", []):
            theirs = host.check_output(f"kdig +short +timeout=3 @{primary} {zone['name']} SOA")
            assert ours.split()[2] == theirs.split()[2], f"{zone['name']}: our serial is not that of {primary}"


def test_nobody_transfers_a_zone_without_the_key(host, ismgr_vars, ismgr_host):
    here = listens(ismgr_vars, ismgr_host)
    for zone in ismgr_vars["dns_zones"]:
        answer = host.run(f"kdig +timeout=3 @{here} {zone['name']} AXFR")
        assert "NOTAUTH" in answer.stdout + answer.stderr or "REFUSED" in answer.stdout + answer.stderr


def test_the_key_is_not_for_everybody(host):
    with host.sudo():
        key = host.file("/etc/knot/key.conf")
        assert (key.user, key.group, key.mode) == ("root", "knot", 0o640)
