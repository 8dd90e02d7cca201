"""What must hold on a host after the role haproxy. It looks, and changes nothing."""

import csv
import io

import pytest


def servers(host, backend="web"):
    """Rows of HAProxy's own statistics for a backend, by server name."""
    ask = (
        "python3 -c \"import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/haproxy/admin.sock'); "
        f"s.sendall(b'show stat {backend} 4 -1\\n'); print(b''.join(iter(lambda: s.recv(65536), b'')).decode())\""
    )
    with host.sudo():
        table = host.check_output(ask).removeprefix("# ")
    return {row["svname"]: row for row in csv.DictReader(io.StringIO(table)) if row["svname"]}


def test_it_runs_and_comes_back_after_a_reboot(host):
    assert host.service("haproxy").is_running
    assert host.service("haproxy").is_enabled


def test_its_own_site_works_and_the_others_stand_by(host, ismgr_host):
    found = servers(host)
    assert found
    for name, row in found.items():
        own = name.rpartition(".")[2] == ismgr_host.site
        assert (row["act"], row["bck"]) == (("1", "0") if own else ("0", "1")), name
        assert row["status"].startswith("UP"), f"{name} is {row['status']}: {row['last_chk']}"


def test_a_request_is_answered_through_it(host, ismgr_vars, ismgr_host):
    address = ismgr_host.variables["addresses"][ismgr_host.site]
    path = ismgr_vars.get("haproxy_health_path", "/healthz")
    url = f"http://{address}:{ismgr_vars.get('haproxy_port', 80)}{path}"
    answer = host.check_output(f"curl --silent --show-error --fail --max-time 5 --head --request GET {url}")
    assert f"x-edge: {ismgr_host.name}" in answer.lower()


def test_clients_of_the_databases_are_sent_to_the_primary_and_to_nobody_else(host, ismgr_vars):
    members = ismgr_vars.get("haproxy_databases", [])
    if not members:
        pytest.skip("no databases stand behind it")
    found = servers(host, "databases")
    assert set(found) == set(members)
    for name, row in found.items():
        if name == ismgr_vars["haproxy_database_primary"]:
            assert row["status"].startswith("UP"), f"{name} is {row['status']}: {row['last_chk']}"
        else:
            assert row["status"].startswith("MAINT"), f"{name} is {row['status']} and is not the primary"


def test_what_the_socket_was_told_about_databases_holds_over_a_reload(host, ismgr_vars):
    if not ismgr_vars.get("haproxy_databases"):
        pytest.skip("no databases stand behind it")
    assert "/etc/haproxy/keep-states" in host.check_output("systemctl show --property=ExecReload haproxy")


def test_nobody_else_listens_where_databases_are_asked_for(host, ismgr_vars, ismgr_host):
    if not ismgr_vars.get("haproxy_databases"):
        pytest.skip("no databases stand behind it")
    address = ismgr_host.variables["addresses"][ismgr_host.site]
    port = ismgr_vars.get("haproxy_database_port", 5432)
    with host.sudo():
        listeners = host.check_output(f"ss --no-header --listening --tcp --numeric --processes 'sport = :{port}'")
        pids = {one.partition(",")[0] for one in listeners.split("pid=")[1:]}
        units = {pid: host.check_output(f"cat /proc/{pid}/cgroup") for pid in pids}
    assert f"{address}:{port}" in listeners
    assert pids
    # a HAProxy that somebody else started can share the port, and would send clients where it likes
    assert not [pid for pid, unit in units.items() if "haproxy.service" not in unit]
