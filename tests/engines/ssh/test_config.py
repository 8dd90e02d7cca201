"""Client configuration and known hosts: rendered here, and read back by the OpenSSH client itself (``ssh -G``)."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from ismgr_automation.core.errors import InputError
from ismgr_automation.engines.ssh import config as rendering
from ismgr_automation.engines.ssh.trust import Trust, read_lines, trust_of, untrusted, without_revoked
from ismgr_automation.ports.hosts import Host, Reach, Ssh

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEVr0NxFC5xQpZzzUVhRxdsGyIWmCxqJOhlzSyRnUA9r"
RSA = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBH5bTBYvmDMB"


def host(name: str = "db1.dc1", **more: object) -> Host:
    fields: dict[str, object] = {"name": name, "address": "10.40.0.14", "origin": "stack/dc1", "host_keys": (KEY,)}
    return Host(**(fields | more))  # type: ignore[arg-type]


@pytest.fixture
def understood(tmp_path: Path):
    """What OpenSSH makes of a rendered configuration, as a mapping of option to values."""

    def ask(hosts, name, *, ssh=None, **places):
        where = {"pinned": tmp_path / "pinned", "extra": tmp_path / "extra", "sockets": tmp_path} | places
        text = rendering.client_config(hosts, ssh or Ssh(), rendering.Places(**where), places.pop("by_name", ()))
        (tmp_path / "config").write_text(text)
        done = subprocess.run(
            ["ssh", "-G", "-F", str(tmp_path / "config"), name], check=True, capture_output=True, text=True
        )
        answer: dict[str, str] = {}
        for line in done.stdout.splitlines():
            key, _, value = line.partition(" ")
            answer.setdefault(key, value)
        return answer

    return ask


def test_a_host_is_reached_at_its_address_under_its_own_name(understood, tmp_path):
    answer = understood([host(port=2222, user="debian"), host("web1.dc1", address="10.40.0.13")], "db1.dc1")
    assert answer["hostname"] == "10.40.0.14"
    assert answer["port"] == "2222"
    assert answer["user"] == "debian"
    assert answer["hostkeyalias"] == "db1.dc1"
    assert answer["userknownhostsfile"] == str(tmp_path / "pinned")


def test_host_keys_are_checked_strictly_for_every_name_even_unknown_ones(understood):
    for name in ("db1.dc1", "somebody-else"):
        answer = understood([host()], name)
        assert answer["stricthostkeychecking"] == "true"
        assert answer["updatehostkeys"] == "false"
        assert answer["globalknownhostsfile"] == "/dev/null"
        assert answer["batchmode"] == "yes"


def test_the_rendered_text_never_weakens_host_key_checking():
    text = rendering.client_config([host()], Ssh(), rendering.Places(pinned=Path("/p"), extra=Path("/e")))
    assert "StrictHostKeyChecking yes" in text
    assert "accept-new" not in text
    assert "StrictHostKeyChecking no" not in text


def test_curve25519_is_the_first_key_exchange(understood):
    assert understood([host()], "db1.dc1")["kexalgorithms"].startswith("curve25519-sha256")


@pytest.mark.parametrize("address", ["fd00::14", "fe80::1%eth0", "db1.example.org"])
def test_ipv6_zones_and_names_are_addresses(understood, address):
    assert understood([host(address=address)], "db1.dc1")["hostname"] == address


def test_bastions_are_jumped_through_by_name(understood):
    hosts = [host(bastion="gw1.dc1"), host("gw1.dc1", bastion="edge"), host("edge")]
    assert understood(hosts, "db1.dc1")["proxyjump"] == "gw1.dc1"
    assert understood(hosts, "gw1.dc1")["proxyjump"] == "edge"
    assert "proxyjump" not in understood(hosts, "edge")
    by_name = {one.name: one for one in hosts}
    assert [jump.name for jump in rendering.chain(hosts[0], by_name)] == ["gw1.dc1", "edge"]


def test_only_the_agent_of_the_run_is_asked_when_there_is_one(understood, tmp_path):
    answer = understood([host()], "db1.dc1", agent=tmp_path / "agent")
    assert answer["identityagent"] == str(tmp_path / "agent")
    assert answer["identityfile"] == "none"


def test_a_key_file_is_the_only_identity(understood, tmp_path):
    answer = understood([host()], "db1.dc1", key_file=tmp_path / "a key")
    assert answer["identityfile"] == str(tmp_path / "a key")
    assert answer["identitiesonly"] == "yes"


def test_the_connect_timeout_is_at_least_a_second(understood):
    assert understood([host()], "db1.dc1", ssh=Ssh(connect_timeout=timedelta(seconds=7)))["connecttimeout"] == "7"
    assert understood([host()], "db1.dc1", ssh=Ssh(connect_timeout=timedelta(seconds=0.2)))["connecttimeout"] == "1"


def test_known_hosts_has_a_line_per_key_under_the_hosts_name():
    hosts = [host(host_keys=(KEY + " root@db1", RSA), port=2222), host("web1.dc1")]
    assert rendering.known_hosts(hosts) == f"db1.dc1 {KEY}\ndb1.dc1 {RSA}\nweb1.dc1 {KEY}\n"


@pytest.mark.parametrize(
    ("hosts", "words"),
    [
        ([host("a b")], "name 'a b'"),
        ([host("-oProxyCommand=x")], "name '-oProxyCommand=x'"),
        ([host("a*")], r"name 'a\*'"),
        ([host("a\nHost *")], "not usable"),
        ([host(address="10.0.0.1 -oX")], "address"),
        ([host(address="-oProxyCommand=x")], "address"),
        ([host(address="")], "address"),
        ([host(user='root"')], "user"),
        ([host(user="a\nb")], "user"),
        ([host(host_keys=("ssh-ed25519",))], "not a host key line"),
        ([host(host_keys=(KEY + "\n* " + KEY,))], "not a host key line"),
        ([host(), host()], "same name: db1.dc1"),
        ([host(bastion="gone")], "bastion 'gone' is no known host"),
        ([host(bastion="db1.dc1")], "circle: db1.dc1 -> db1.dc1"),
        ([host("a", bastion="b"), host("b", bastion="a")], "circle: a -> b -> a"),
        ([host("a", bastion="b"), host("b", bastion="c"), host("c", bastion="b")], "circle: a -> b -> c -> b"),
    ],
)
def test_what_cannot_stand_in_a_configuration_is_refused_with_the_hosts_name(hosts, words):
    with pytest.raises(InputError, match=words):
        rendering.validate(hosts)


@pytest.mark.parametrize(
    ("lines", "port", "trust"),
    [
        ("", 22, Trust.NONE),
        (f"10.40.0.14 {KEY}", 22, Trust.BY_ADDRESS),
        (f"10.40.0.* {KEY}", 22, Trust.BY_ADDRESS),
        (f"[10.40.0.14]:2222 {KEY}", 2222, Trust.BY_ADDRESS),
        (f"[10.40.0.14]:2222 {KEY}", 22, Trust.NONE),
        (f"db1.dc1 {KEY}", 2222, Trust.BY_NAME),
        (f"@cert-authority *.dc1 {KEY}", 22, Trust.BY_NAME),
        (f"@revoked db1.dc1 {KEY}", 22, Trust.NONE),
        (f"10.40.0.15 {KEY}", 22, Trust.NONE),
        (f"# comment\n\n10.40.0.14 {KEY}\n", 22, Trust.BY_ADDRESS),
    ],
)
def test_a_host_without_keys_is_known_only_through_a_line_of_the_estate(lines, port, trust):
    assert trust_of(host(host_keys=(), port=port), read_lines(lines)) is trust


def test_a_hosts_own_keys_come_before_lines():
    assert trust_of(host(), read_lines(f"10.40.0.14 {KEY}")) is Trust.PINNED


@pytest.mark.parametrize("lines", ["nonsense", f"10.0.0.1 {KEY}\n10.0.0.2 ssh-ed25519 ?", "10.0.0.2 ssh-ed25519"])
def test_a_broken_known_hosts_line_is_named_by_its_number(lines):
    with pytest.raises(InputError, match=f"Line {len(lines.splitlines())} of the known hosts"):
        read_lines(lines)


def test_nobody_connects_to_an_unknown_key_nor_through_one():
    hosts = [host("a"), host("b", host_keys=()), host("c", bastion="d"), host("d", host_keys=())]
    trusts = {one.name: trust_of(one, None) for one in hosts}
    refused = {one.host: one for one in untrusted(hosts, trusts)}
    assert set(refused) == {"b", "c", "d"}
    assert {one.reach for one in refused.values()} == {Reach.HOST_KEY}
    assert "bastion d" in refused["c"].detail


def test_a_name_known_by_a_line_is_looked_up_by_that_name(understood, tmp_path):
    answer = understood([host(host_keys=())], "db1.dc1")
    assert answer["userknownhostsfile"] == str(tmp_path / "extra")
    assert "hostkeyalias" not in answer
    text = rendering.client_config(
        [host(host_keys=())], Ssh(), rendering.Places(pinned=Path("/p"), extra=Path("/e")), {"db1.dc1"}
    )
    assert "HostKeyAlias db1.dc1" in text


def test_a_revoked_key_no_longer_counts_where_it_is_pinned():
    for pattern in ("10.40.0.14", "db1.dc1", "*"):
        known = read_lines(f"@revoked {pattern} {KEY}")
        (left,) = without_revoked([host()], known)
        assert trust_of(left, known) is Trust.NONE
    assert without_revoked([host()], read_lines(f"@revoked other {KEY}")) == (host(),)
