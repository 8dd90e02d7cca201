"""What must hold on a host after the role haproxy. It looks, and changes nothing."""

import csv
import io


def servers(host):
    """Rows of HAProxy's own statistics for the backend, by server name."""
    ask = (
        "python3 -c \"import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/haproxy/admin.sock'); "
        "s.sendall(b'show stat web 4 -1\\n'); print(b''.join(iter(lambda: s.recv(65536), b'')).decode())\""
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
