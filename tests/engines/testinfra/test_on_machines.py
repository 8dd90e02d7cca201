"""Suites on real machines of the lab: as root through sudo, and with a machine that is switched off among them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines.secrets import Backends
from ismgr_automation.engines.testinfra.verifier import TestinfraVerifier
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Host, Ssh
from ismgr_automation.ports.verification import SuiteRequest, Verdict
from tests.fixtures_lab import switch_off, switch_on

SUITE = """\
def test_it_is_a_debian(host):
    assert host.system_info.distribution == "debian"


def test_its_services_are_managed(host):
    assert host.service("ssh").is_running


def test_only_root_reads_the_passwords(host):
    assert host.user().name == "root"
    assert host.file("/etc/shadow").content_string
"""


@pytest.mark.lab
def test_machines_are_verified_as_root_and_one_that_is_off_is_an_error(lab, tmp_path):
    on, off = ("edge1.dc1", "edge1.dc2"), "web1.dc2"
    lab.write(tmp_path)
    switch_on(lab, *on)
    switch_off(lab, off)
    hosts = tuple(
        Host(
            name=name,
            address=str(lab.machine(name).management),
            origin="lab",
            user="debian",
            host_keys=(" ".join(lab.folder.host_key(lab.machine(name)).read_text().split()[:2]),),
        )
        for name in (*on, off)
    )
    suite = tmp_path / "verify/test_machine.py"
    suite.parent.mkdir()
    suite.write_text(SUITE)
    request = SuiteRequest(
        suites=(suite,),
        hosts=hosts,
        inventory=hosts,
        variables={},
        ssh=Ssh(key=SecretRef.parse("file:ssh/operator"), connect_timeout=timedelta(seconds=15)),
        become=True,
        root=tmp_path,
        deadline=timedelta(minutes=2),
    )
    store = Backends.from_json({"file": {"kind": "file", "root": str(tmp_path / ".secrets")}})
    found = TestinfraVerifier(store).verify(request, Context(work=tmp_path / "work"))
    assert {(one.host, one.verdict) for one in found} == {
        *((name, Verdict.PASSED) for name in on),
        (off, Verdict.ERROR),
    }
    assert len(found) == 9
    assert all("cannot be reached (timeout)" in one.message for one in found if one.host == off)
