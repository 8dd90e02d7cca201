"""What must hold on a host after the role web. It looks, and changes nothing."""

import json


def ask(host, ismgr_vars, ismgr_host, path):
    address = ismgr_host.variables["addresses"][ismgr_host.site]
    url = f"http://{address}:{ismgr_vars.get('web_port', 8000)}{path}"
    return host.check_output(f"curl --silent --show-error --fail --max-time 10 {url}")


def test_it_runs_and_comes_back_after_a_reboot(host):
    assert host.service("records").is_running
    assert host.service("records").is_enabled


def test_it_says_which_host_and_which_database_answered(host, ismgr_vars, ismgr_host):
    answer = json.loads(ask(host, ismgr_vars, ismgr_host, "/healthz"))
    assert answer["web"] == ismgr_host.name
    assert answer["database"]


def test_the_page_lists_records(host, ismgr_vars, ismgr_host):
    assert "<title>Records</title>" in ask(host, ismgr_vars, ismgr_host, "/")


def test_the_password_is_for_root_only_and_the_process_has_no_privilege(host):
    with host.sudo():
        settings = host.file("/etc/records/environment")
        assert (settings.user, settings.mode) == ("root", 0o600)
    processes = host.process.filter(user="records")
    assert processes
    status = host.check_output(f"cat /proc/{processes[0].pid}/status")
    assert "NoNewPrivs:\t1" in status
    assert "CapBnd:\t0000000000000000" in status
