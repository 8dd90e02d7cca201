"""What must hold on a host after the role base. It looks, and changes nothing."""

import json


def test_only_keys_open_the_door(host):
    with host.sudo():
        said = host.check_output("sshd -T").splitlines()
    assert "passwordauthentication no" in said
    assert "permitemptypasswords no" in said
    assert {"permitrootlogin no", "permitrootlogin without-password"} & set(said)


def test_users_have_their_keys_and_nobody_else_has(host, ismgr_vars):
    users = ismgr_vars.get("base_users", [])
    wanted = {user["name"]: user["ssh_keys"] for user in users if user.get("ssh_keys")}
    with host.sudo():
        folder = host.file("/etc/ssh/authorized_keys.d")
        found = {name: host.file(f"{folder.path}/{name}").content_string.splitlines() for name in folder.listdir()}
    assert found == wanted
    for user in users:
        assert host.user(user["name"]).exists


def chains(host):
    with host.sudo():
        listing = json.loads(host.check_output("nft --json list table inet base"))
    return {entry["chain"]["name"]: entry["chain"] for entry in listing["nftables"] if "chain" in entry}


def test_what_nobody_asked_for_is_dropped(host):
    found = chains(host)
    assert found["input"]["policy"] == "drop"
    assert found["forward"]["policy"] == "drop"


def test_a_gateway_forwards_and_nobody_else_does(host, ismgr_vars):
    with host.sudo():
        forward = host.check_output("nft list chain inet base forward")
    wanted = bool(ismgr_vars.get("base_forward"))
    assert ("daddr" in forward) == wanted
    if wanted:
        assert host.check_output("cat /proc/sys/net/ipv4/ip_forward") == "1"


def test_ssh_and_the_filter_come_back_after_a_reboot(host):
    assert host.service("ssh").is_running
    assert host.service("ssh").is_enabled
    assert host.service("nftables").is_enabled
    with host.sudo():
        assert host.run("nft --check --file /etc/nftables.conf").rc == 0


def test_the_clock_is_kept_where_it_is_ours(host, ismgr_vars):
    zone = ismgr_vars.get("base_time_zone", "Etc/UTC")
    assert host.file("/etc/localtime").linked_to == f"/usr/share/zoneinfo/{zone}"
    assert host.service("chrony").is_enabled
    if host.run("systemd-detect-virt --quiet --container").rc != 0:
        assert host.service("chrony").is_running
