"""What is written down for people: every block is one that a shell can read, asks for secrets and shows none, and says
by its last line whether it worked. What the blocks do to machines is tested in the lab."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ismgr_automation.core.errors import InputError
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines.paper import ShellPaper
from ismgr_automation.ports.hosts import Host, Ssh
from ismgr_automation.ports.packages import Fleet
from ismgr_automation.ports.paper import Order, Return, When
from ismgr_automation.ports.recovery import BackendRequest, FenceRequest, NameRequest
from ismgr_automation.ports.upkeep import BmcAccess, Cluster

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINwh+XUHfch18syUqnWCHUtGuLPa7U0X80+IghCJVrvw"
HOSTS = tuple(
    Host(name=name, address=f"192.0.2.{number}", origin="hosts", user="debian", host_keys=(KEY,), site=f"dc{number}")
    for number, name in enumerate(("db1", "db2", "lb1"), start=1)
)
FLEET = Fleet(hosts=HOSTS, names=("db1", "db2"), ssh=Ssh())
CLUSTER = Cluster(fleet=FLEET, version="15", name="main", port=5432, deadline=timedelta(minutes=2))
BMC = BmcAccess(
    machine="db1", address="https://bmc.example", username="admin", password=SecretRef("file", "bmc/db1"), ca=Path("ca")
)
FENCE = FenceRequest(
    host="db1",
    fleet=FLEET,
    port=5432,
    deadline=timedelta(seconds=5),
    spared=("192.0.2.1",),
    witnesses=("lb1",),
    address="198.51.100.1",
)
NAME = NameRequest(
    server="192.0.2.5",
    port=53,
    zone="example.org",
    record="db",
    type="A",
    ttl=5,
    values=("198.51.100.2", "198.51.100.3"),
    key_name="drill",
    key=SecretRef("file", "dns/key"),
    deadline=timedelta(seconds=5),
)
BACKEND = BackendRequest(
    fleet=replace(FLEET, names=("lb1",)),
    backend="databases",
    server="db2",
    socket="/run/haproxy/admin.sock",
    deadline=timedelta(seconds=5),
)


def back(way: str = "auto", *, planned: bool = False) -> Return:
    return Return(cluster=CLUSTER, host="db1", to="db2", address="198.51.100.2", planned=planned, way=way)


PAPER = ShellPaper()
ALL: dict[str, tuple[Order, ...]] = {
    "desk": PAPER.desk(FLEET, {"db1": "-----BEGIN CERTIFICATE-----"}),
    "fence by network": PAPER.fence(FENCE, BMC),
    "fence by power": PAPER.fence(replace(FENCE, bmc=BMC), None),
    "unfence by network": PAPER.unfence(FENCE, CLUSTER),
    "unfence by power": PAPER.unfence(replace(FENCE, bmc=BMC), CLUSTER),
    "demote": PAPER.demote(CLUSTER, "db1", "db2"),
    "promote": PAPER.promote(CLUSTER, "db2"),
    "rejoin": PAPER.rejoin(back()),
    "rejoin after a plan": PAPER.rejoin(back(planned=True)),
    "rebuild": PAPER.rejoin(back("rebuild")),
    "backend": PAPER.backend(BACKEND),
    "name": PAPER.name(NAME, "the file .secrets/dns/key"),
    "name everywhere": PAPER.name(replace(NAME, secondaries=("192.0.2.6:5353",)), "the file tsig"),
}


def reads(shell: str, script: str) -> str:
    """What a shell has against a script, which it does not run."""
    return subprocess.run([shell, "-n"], input=script, text=True, capture_output=True, check=False).stderr


@pytest.mark.parametrize("orders", ALL.values(), ids=ALL.keys())
def test_every_block_can_be_read_by_the_shells_that_run_it(orders: Sequence[Order]) -> None:
    for one in orders:
        assert reads("bash", one.script) == ""
        for command, script in re.findall(
            r"^ssh .*?(sh -seu|python3 -).*?<<'END'.*?\n(.*?)^END$", one.script, re.MULTILINE | re.DOTALL
        ):
            if command.startswith("sh"):
                assert reads("sh", script) == ""
            else:
                compile(script, "block", "exec")
        assert one.sees
        assert "\n" not in one.sees


def test_a_fence_is_confirmed_by_somebody_else_who_could_connect_before() -> None:
    before, raised, other, after = ALL["fence by network"]
    assert (before.sees, raised.sees, other.sees, after.sees) == ("OPEN", "FENCED", "POWER Off", "REFUSED")
    assert other.when is When.OTHERWISE
    assert (before.who, raised.who) == ("", "")
    assert after.who.startswith("Somebody else")


def test_an_old_primary_is_stopped_before_its_fence_is_lifted_and_after_its_power_is_on() -> None:
    assert [one.sees for one in ALL["unfence by network"]] == ["CAN ONLY BE A STANDBY", "LIFTED"]
    assert [one.sees for one in ALL["unfence by power"]] == ["POWER On", "CAN ONLY BE A STANDBY"]


def test_a_way_that_costs_more_is_only_for_when_the_one_before_did_not_work() -> None:
    def ways(name: str) -> list[tuple[str, When]]:
        words = ("pg_rewind ", "pg_basebackup ", "primary_slot_name")
        return [
            (next(word for word in words if word in one.script), one.when)
            for one in ALL[name]
            if one.sees == "STREAMING"
        ]

    rewind, rebuild, follow = "pg_rewind ", "pg_basebackup ", "primary_slot_name"
    assert ways("rejoin") == [(rewind, When.ALWAYS), (rebuild, When.OTHERWISE)]
    assert ways("rejoin after a plan") == [(follow, When.ALWAYS), (rewind, When.OTHERWISE), (rebuild, When.OTHERWISE)]
    assert ways("rebuild") == [(rebuild, When.ALWAYS)]


def typed(script: str, folder: Path, programs: dict[str, str], secret: str) -> subprocess.CompletedProcess[str]:
    """Run a block with programs of our own, and a secret at the keyboard."""
    (folder / "runbook").mkdir()
    for name, text in programs.items():
        path = folder / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o700)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    return subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=environment,
        input=f"{secret}\n",
        text=True,
        capture_output=True,
        check=True,
    )


def test_a_name_is_changed_with_a_key_that_stands_in_no_file(tmp_path: Path) -> None:
    (order,) = ALL["name"]
    programs = {
        "nsupdate": 'cat > said; ls runbook > files; echo "$@" > arguments',
        "dig": "printf '198.51.100.3\\n198.51.100.2\\n'",
    }
    done = typed(order.script, tmp_path, programs, "Zm9v")
    assert done.stdout.splitlines()[-1] == order.sees
    assert (tmp_path / "files").read_text() == ""
    assert (tmp_path / "arguments").read_text() == "\n"
    assert (tmp_path / "said").read_text().splitlines() == [
        "server 192.0.2.5 53",
        "key hmac-sha256:drill Zm9v",
        "zone example.org.",
        "update delete db.example.org. A",
        "update add db.example.org. 5 A 198.51.100.2",
        "update add db.example.org. 5 A 198.51.100.3",
        "send",
    ]


def test_a_name_that_one_server_shows_late_is_said_to_be_late_there(tmp_path: Path) -> None:
    (order,) = ALL["name everywhere"]
    programs = {
        "nsupdate": "cat > said",
        "dig": 'case "$*" in *192.0.2.6*) echo 198.51.100.9;; *) printf "198.51.100.2\\n198.51.100.3\\n";; esac',
        "sleep": "",
    }
    done = typed(order.script, tmp_path, programs, "Zm9v")
    assert done.stdout.splitlines()[-1] == "db.example.org. IS  192.0.2.6 5353"


def test_a_password_is_given_to_curl_as_it_is_and_stands_on_no_command_line(tmp_path: Path) -> None:
    order = next(one for one in ALL["fence by power"] if one.sees == "POWER Off")
    system = '{"Members": [{"@odata.id": "/redfish/v1/Systems/1"}], "PowerState": "Off"}'
    programs = {"curl": f"cat >> given; echo \"$@\" >> words; echo '{system}'"}
    secret = 'a "quoted\\ one'
    done = typed(order.script, tmp_path, programs, secret)
    assert done.stdout.splitlines()[-1] == order.sees
    assert set((tmp_path / "given").read_text().splitlines()) == {'user = "admin:a \\"quoted\\\\ one"'}
    words = (tmp_path / "words").read_text()
    assert "https://bmc.example/redfish/v1/Systems/1/Actions/ComputerSystem.Reset" in words
    assert "--cacert runbook/ca-db1.pem" in words
    assert "quoted" not in words + done.stdout


@pytest.mark.parametrize("change", [{"backend": "two words"}, {"server": "$(reboot)"}])
def test_names_that_a_shell_would_read_otherwise_are_refused(change: dict[str, str]) -> None:
    with pytest.raises(InputError, match="cannot be the name"):
        PAPER.backend(replace(BACKEND, **change))  # type: ignore[arg-type]
