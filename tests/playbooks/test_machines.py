"""The shipped roles on real machines: what check mode says is what happens, twice is once, and the suites notice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from ismgr_automation.lab import Lab
from ismgr_automation.lab.topology import Segment
from tests.fixtures_lab import answers_ssh, switch_off, switch_on, until
from tests.playbooks.world import SECRETS, Play, World

pytestmark = pytest.mark.lab

GROUPS = ("nameservers", "databases", "webs", "edges")


@dataclass(frozen=True, slots=True, kw_only=True)
class First:
    """The first time that a group's playbook met its machines."""

    predicted: Play
    applied: Play


@pytest.fixture(scope="module")
def world(fresh_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    # a socket's path must be short
    with TemporaryDirectory(prefix="h-") as work:
        switch_on(fresh_lab, *(machine.name for machine in fresh_lab.topology.servers))
        yield World(lab=fresh_lab, estate=tmp_path_factory.mktemp("estate") / "two-sites", work=Path(work))


@pytest.fixture(scope="module")
def first(world: World) -> dict[str, First]:
    """Every group configured once, in the order of the estate; what check mode had said just before."""
    return {group: First(predicted=world.play(group, "--check"), applied=world.play(group)) for group in GROUPS}


@pytest.fixture(scope="module")
def converged(world: World, first: dict[str, First]) -> World:
    assert not {host: why for one in first.values() for host, why in one.applied.failed.items()}
    return world


def sh(world: World, name: str, script: str) -> str:
    done = world.lab.run(name, ["sh", "-c", script])
    assert done.code == 0, done.stderr
    return done.stdout


def edge(world: World, site: Segment) -> str:
    return f"http://{world.lab.machine(f'edge1.{site}').address(site)}"


def ask(world: World, url: str, *words: str) -> str:
    done = world.lab.run("client", ["curl", "--silent", "--show-error", "--fail", "--max-time", "10", *words, url])
    assert done.code == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("group", GROUPS)
def test_check_mode_on_a_fresh_machine_says_exactly_what_happens(first: dict[str, First], group: str) -> None:
    one = first[group]
    assert not one.predicted.failed
    assert not one.applied.failed
    assert one.predicted.changed == one.applied.changed
    assert one.applied.changed


@pytest.mark.parametrize("group", GROUPS)
def test_every_suite_passes_after_its_role(converged: World, group: str) -> None:
    assert not converged.verify(group)


def test_the_service_answers_through_the_gateways_and_its_rows_reach_the_standby(converged: World) -> None:
    assert "<h1>Records" in ask(converged, edge(converged, Segment.DC1) + "/")
    body = json.dumps({"text": "<b>tea</b> & 'biscuits'; DROP TABLE records"})
    ask(converged, edge(converged, Segment.DC2) + "/records", "--json", body)
    page = ask(converged, edge(converged, Segment.DC1) + "/")
    assert "&lt;b&gt;tea&lt;/b&gt; &amp; &#39;biscuits&#39;; DROP TABLE records" in page
    answer = json.loads(ask(converged, edge(converged, Segment.DC1) + "/databases"))
    assert [(one["name"], one["role"]) for one in answer["databases"]] == [
        ("db1.dc1", "primary"),
        ("db1.dc2", "standby"),
    ]


def test_a_client_of_the_database_reaches_the_primary_through_either_edge(converged: World) -> None:
    for site in (Segment.DC1, Segment.DC2):
        address = converged.lab.machine(f"edge1.{site}").address(site)
        where = f"host={address} user=records dbname=records connect_timeout=5"
        password = f"PGPASSWORD={SECRETS['postgresql/app']}"
        command = ["env", password, "psql", "-XAtqc", "SELECT pg_is_in_recovery()", where]
        done = converged.lab.run("client", command)
        assert (done.stdout, done.stderr) == ("f\n", "")


@pytest.mark.parametrize("verb", ["reload", "restart"])
def test_what_was_said_about_databases_holds_until_git_says_something_else(converged: World, verb: str) -> None:
    moved = "set server databases/db1.dc1 state maint;set server databases/db1.dc2 state ready"
    sh(converged, "edge1.dc1", f"{HAPROXY} '{moved}'; systemctl {verb} haproxy")
    assert any("sent_to_the_primary" in check for check in converged.verify("edges"))
    assert not converged.play("edges").changed
    followed = converged.play("edges", limit="edge1.dc1", extra={"haproxy_database_primary": "db1.dc2"})
    assert not followed.failed
    assert not converged.play("edges").failed
    until("it is as Git says", lambda: not converged.verify("edges"))


@pytest.mark.parametrize("text", ["", "   ", "x" * 201, "nul\\u0000"])
def test_the_application_refuses_a_record_that_is_none(converged: World, text: str) -> None:
    url = edge(converged, Segment.DC1) + "/records"
    body = f'{{"text": "{text}"}}'
    done = converged.lab.run("client", ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--json", body, url])
    assert done.stdout == "400"


FILES, FILTER, UNITS = "Settings of users, sshd and time are in place", "The packet filter is loaded", "Services run"

DRIFT: dict[str, dict[str, tuple[str, set[str]]]] = {
    "nameservers": {
        "gw1.dc1": (
            "nft flush ruleset; echo 'version: 1' >> /etc/knot/knot.conf; systemctl disable --quiet knot",
            {FILTER, "Configuration and new zones are in place", "Service runs"},
        ),
        "gw1.dc2": (
            """
            chmod 644 /etc/knot/key.conf
            rm /etc/sudoers.d/10-base
            systemctl mask --now --quiet knot
            """,
            {FILES, "The key is in place", "Service runs"},
        ),
    },
    "databases": {
        "db1.dc1": (
            """
            echo 'PermitRootLogin yes' > /etc/ssh/sshd_config.d/10-base.conf
            touch /etc/ssh/authorized_keys.d/mallory
            echo 'host all all 0.0.0.0/0 trust' >> /etc/postgresql/15/main/pg_hba.conf
            cd / && runuser -u postgres -- psql -qc 'ALTER ROLE records SUPERUSER'
            """,
            {
                *(FILES, UNITS, "Its configuration is in place"),
                "The primary runs and has its users, database and slots",
            },
        ),
        "db1.dc2": (
            """
            echo 'max_connections = 7' >> /etc/postgresql/15/main/conf.d/ismgr.conf
            echo 'x:1:*:x:y' > $(find /var/lib/postgresql -maxdepth 1 -type f -name '*pgpass*' | head -n 1)
            chown root /etc/postgresql/15/main/start.conf
            """,
            {"Its configuration is in place", "The password for streaming is in place", "The standby runs and streams"},
        ),
    },
    "webs": {
        "web1.dc2": (
            """
            chmod 644 /etc/records/environment
            systemctl stop records
            nft add rule inet base input accept
            rm /etc/localtime
            """,
            {FILES, FILTER, "Its settings are in place", "Service runs"},
        ),
        "web1.dc1": (
            """
            usermod --shell /bin/bash records
            echo 'Nice=19' >> /etc/systemd/system/records.service
            touch /opt/records/templates/planted.html
            rm /etc/ssh/authorized_keys.d/*
            ln -sf /dev/null /etc/sysctl.d/60-base.conf
            """,
            {FILES, "The application's own user exists", "The application is in place", "Service runs"},
        ),
    },
    "edges": {
        "edge1.dc2": (
            """
            echo '# by hand' >> /etc/haproxy/haproxy.cfg
            rm /etc/haproxy/keep-states
            ln -sf /dev/null /etc/systemd/system/nftables.service
            """,
            {UNITS, "Configuration is in place", "Service runs"},
        ),
        "edge1.dc1": (
            """
            rm -r /etc/systemd/system/haproxy.service.d
            systemctl mask --now --quiet haproxy
            sed -i 's/drop/accept/' /etc/nftables.conf
            echo 'server 192.0.2.1' >> /etc/chrony/chrony.conf
            """,
            {FILES, FILTER, "Configuration is in place", "Service runs"},
        ),
    },
}


@pytest.mark.parametrize("group", GROUPS)
def test_what_somebody_changed_by_hand_is_predicted_put_back_and_nothing_else_is_touched(
    converged: World, group: str
) -> None:
    for name, (script, _) in DRIFT[group].items():
        sh(converged, name, script)
    engine, request = converged.engine(), converged.request(group)
    looked = engine.check(request, converged.context())
    done = engine.run(request, converged.context())
    expected = {(name, task) for name, (_, tasks) in DRIFT[group].items() for task in tasks}
    assert {(one.host, one.task) for one in looked.tasks} == expected
    # not only which tasks: each at its place, with the same words before and after
    assert looked.tasks == done.tasks
    assert not any(one.unpredictable for one in looked.tasks)


def test_a_second_run_changes_nothing(converged: World) -> None:
    assert not converged.play("databases").changed


def test_no_secret_is_in_what_ansible_says(first: dict[str, First]) -> None:
    said = "".join(one.predicted.output + one.applied.output for one in first.values())
    assert "stream:" not in said
    assert "$HOME" not in said
    assert "SCRAM-SHA-256$" not in said


STREAMING = """
cd / && for again in $(seq 150); do
    runuser -u postgres -- psql -XAtqc 'SELECT status FROM pg_stat_wal_receiver' | grep -q streaming && exit 0
    sleep 0.2
done
exit 1
"""
HAPROXY = """
python3 -c 'import socket, sys
one = socket.socket(socket.AF_UNIX)
one.connect("/run/haproxy/admin.sock")
one.sendall(sys.argv[1].encode() + b"\\n")
one.recv(100)' """.strip("\n")
MUTATIONS: dict[str, tuple[str, str, str, str, str]] = {
    "an open packet filter": (
        "webs",
        "web1.dc1",
        "nft chain inet base input '{ policy accept; }'",
        "nft chain inet base input '{ policy drop; }'",
        "dropped",
    ),
    "a stranger's key": (
        "webs",
        "web1.dc1",
        "echo ssh-ed25519 > /etc/ssh/authorized_keys.d/mallory",
        "rm /etc/ssh/authorized_keys.d/mallory",
        "nobody_else",
    ),
    "a readable password": (
        "webs",
        "web1.dc1",
        "chmod 644 /etc/records/environment",
        "chmod 600 /etc/records/environment",
        "password_is_for_root",
    ),
    "a web host that is down": (
        "edges",
        "web1.dc1",
        "systemctl stop records; sleep 3",
        "systemctl start records; sleep 3",
        "its_own_site_works",
    ),
    "a standby that does not stream": (
        "databases",
        "db1.dc2",
        """
        nft insert rule inet base input tcp sport 5432 drop
        cd / && kill $(runuser -u postgres -- psql -XAtqc 'SELECT pid FROM pg_stat_wal_receiver')
        """,
        f"nft -f /etc/nftables.conf; {STREAMING}",
        "streams",
    ),
    "a database that is not the primary and gets clients": (
        "edges",
        "edge1.dc1",
        f"{HAPROXY} 'set server databases/db1.dc1 state maint;set server databases/db1.dc2 state ready'",
        f"{HAPROXY} 'set server databases/db1.dc2 state maint;set server databases/db1.dc1 state ready'",
        "sent_to_the_primary",
    ),
    "a forgotten process on the database's port": (
        "edges",
        "edge1.dc2",
        """
        setsid python3 -c 'import socket, time
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind(("0.0.0.0", 5432))
        one.listen()
        time.sleep(600)' >/dev/null 2>&1 </dev/null & echo $! > /run/forgotten.pid
        for again in $(seq 100); do ss -Hltnp 'sport = :5432' | grep -q python3 && exit 0; sleep 0.1; done; exit 1
        """.replace("\n        ", "\n"),
        "kill $(cat /run/forgotten.pid)",
        "nobody_else_listens",
    ),
    "a zone that anybody may copy": (
        "nameservers",
        "gw1.dc2",
        """
        sed -i.bak '/id: transfer/,/action/ s|key: .*|address: 10.0.0.0/8|' /etc/knot/knot.conf
        systemctl restart knot
        """,
        "mv /etc/knot/knot.conf.bak /etc/knot/knot.conf; systemctl restart knot",
        "without_the_key",
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_suite_notices(converged: World, name: str) -> None:
    group, machine, break_it, mend_it, check = MUTATIONS[name]
    sh(converged, machine, break_it)
    try:
        noticed = converged.verify(group)
    finally:
        sh(converged, machine, mend_it)
    assert any(check in one for one in noticed), noticed


def test_rules_that_would_shut_us_out_are_refused_before_they_are_loaded(converged: World) -> None:
    wrong = {"base_management": ["192.0.2.0/24"]}
    rules = sh(converged, "web1.dc1", "nft list ruleset")
    for flags in (("--check",), ()):
        done = converged.play("webs", *flags, limit="web1.dc1", extra=wrong)
        assert "would shut out" in done.failed["web1.dc1"]
    assert sh(converged, "web1.dc1", "nft list ruleset") == rules
    assert answers_ssh(converged.lab, "web1.dc1")


def test_a_bad_configuration_never_takes_the_place_of_a_good_one(converged: World) -> None:
    before = sh(converged, "edge1.dc1", "cat /etc/haproxy/haproxy.cfg")
    done = converged.play("edges", limit="edge1.dc1", extra={"haproxy_port": "eighty"})
    assert done.failed
    assert sh(converged, "edge1.dc1", "cat /etc/haproxy/haproxy.cfg") == before


@pytest.fixture
def cycle(converged: World) -> Callable[..., None]:
    """Pulls the plug of machines and switches them on again."""

    def off_and_on(*names: str) -> None:
        switch_off(converged.lab, *names)
        switch_on(converged.lab, *names)

    return off_and_on


def test_a_database_comes_back_after_a_power_cycle_when_the_role_runs_and_not_before(
    converged: World, cycle: Callable[..., None]
) -> None:
    cycle("db1.dc1", "db1.dc2")
    assert converged.lab.run("db1.dc1", ["systemctl", "is-active", "postgresql@15-main"]).stdout == "inactive\n"
    predicted = converged.play("databases", "--check")
    applied = converged.play("databases")
    assert not applied.failed
    assert predicted.changed == applied.changed
    assert {host for host, _ in applied.changed} == {"db1.dc1", "db1.dc2"}
    assert not converged.verify("databases")


def test_services_come_back_by_themselves_after_a_power_cycle(converged: World, cycle: Callable[..., None]) -> None:
    cycle("gw1.dc2", "web1.dc2", "edge1.dc2")
    until("edge1.dc2 has its web host", lambda: not converged.verify("edges"))
    assert not converged.verify("nameservers")


def test_an_old_primary_is_never_started_beside_a_new_one(converged: World) -> None:
    switch_off(converged.lab, "db1.dc1")
    sh(converged, "db1.dc2", "cd / && runuser -u postgres -- psql -qXAtc 'SELECT pg_promote(true)'")
    switch_on(converged.lab, "db1.dc1")
    done = converged.play("databases")
    assert "is the primary now" in done.failed["db1.dc1"]
    assert "is, or was, a primary" in done.failed["db1.dc2"]
    assert not done.changed
    # the other way out: the site with the new primary is lost, and somebody says so
    switch_off(converged.lab, "db1.dc2")
    refused = converged.play("databases", "--check", limit="db1.dc1")
    assert "does not say" in refused.failed["db1.dc1"]
    alone = converged.play("databases", limit="db1.dc1", extra={"postgresql_start_alone": True})
    assert not alone.failed
    # and the lost one comes back empty
    switch_on(converged.lab, "db1.dc2")
    sh(converged, "db1.dc2", "rm -r /var/lib/postgresql/15/main")
    assert not converged.play("databases").failed
    assert not converged.verify("databases")
