"""Patroni on the machines of a lab, from Debian's packages: a site is lost (its power), and a client of ours says how
long that was felt. With Patroni's own settings, and with the lowest that it takes.

Not like for like: Patroni finds out by itself that a primary is gone, and needs no other way to it - its lease has to
run out first. Ours is told (or sees it with a detector of its own), and fences before it promotes."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from bench import machines
from bench.machines import on
from bench.measure import Failed, Row, Sample, row
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines.probe import PostgresqlProbe
from ismgr_automation.engines.secrets import Backends, PrivateFiles
from ismgr_automation.lab import Lab
from ismgr_automation.lab.topology import Segment
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.recovery import ProbeRequest, RunningProbe
from ismgr_automation.recovery.measure import Downtime, downtime, losses, steady

PACKAGES = ("patroni", "etcd-server", "etcd-client")
MEMBERS = ("db1.dc1", "db1.dc2")
VOTERS = ("edge1.dc2", "web1.dc2", "db1.dc2")
"""Where etcd lives: the site that is lost holds none of the votes, which is the best case."""
EDGES = ("edge1.dc1", "edge1.dc2")
EVERY, PATIENCE = timedelta(milliseconds=5), timedelta(milliseconds=500)
STEADY_NS = 2_000_000_000
LONG_SECONDS = 180
DATA = "/var/lib/bench-patroni"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Seconds, as in Patroni's own configuration; ``check`` is how often balancers look."""

    name: str
    ttl: int
    loop_wait: int
    retry_timeout: int
    check: str


SETTINGS = (
    Settings(name="its own settings", ttl=30, loop_wait=10, retry_timeout=10, check="inter 3s fall 3 rise 2"),
    Settings(name="its lowest", ttl=20, loop_wait=1, retry_timeout=3, check="inter 1s fastinter 500ms fall 2 rise 1"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A Patroni cluster that runs, and what a client needs."""

    lab: Lab
    folder: Path
    password: str
    addresses: Mapping[str, str]


def measure(lab: Lab, folder: Path, runs: int) -> Iterator[Row]:
    """A line for each kind of settings; one that says why where the packages cannot be had. Raises ``Failed``."""
    try:
        _install(lab, folder)
    except Failed as problem:
        yield Row(name="Patroni", note=f"left out: {problem}")
        return
    addresses = {name: str(lab.machine(name).address(Segment(name.partition(".")[2]))) for name in (*MEMBERS, *VOTERS)}
    world = World(lab=lab, folder=folder, password=secrets.token_hex(16), addresses=addresses)
    for one in SETTINGS:
        samples = [_lost(world, one, number) for number in range(runs)]
        lost = sum(int(sample.stdout) for sample in samples)
        note = f"ttl {one.ttl}, loop_wait {one.loop_wait}; {lost} acknowledged writes lost; a lease, no fence"
        yield row(f"Patroni, a site loses power, {one.name}: clients wait", samples, note=note)


def _install(lab: Lab, folder: Path) -> None:
    """Fetch what the machines lack with this machine's own apt, and install it there."""
    archives = folder / "debs"
    (archives / "partial").mkdir(parents=True)
    status = folder / "status"
    status.write_text(on(lab, MEMBERS[0], "cat", "/var/lib/dpkg/status"))
    apt = shutil.which("apt-get")
    if apt is None:
        raise Failed("there is no apt-get on this machine", "")
    options = (
        "-o",
        f"Dir::State::status={status}",
        "-o",
        f"Dir::Cache::archives={archives}",
        "-o",
        "APT::Sandbox::User=root",
    )
    argv = [apt, *options, "-y", "-qq", "--download-only", "--no-install-recommends", "install", *PACKAGES]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode != 0:
        raise Failed(f"Debian's packages {', '.join(PACKAGES)} cannot be had", done.stderr)
    packed = subprocess.run(
        ["tar", "-c", "-C", archives, "--exclude=partial", "--exclude=lock", "."],
        capture_output=True,
        check=True,
        timeout=60,
    ).stdout
    # nothing may start by itself
    script = """set -e
    printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d
    mkdir -p /tmp/debs; tar -x -C /tmp/debs
    export DEBIAN_FRONTEND=noninteractive
    dpkg --install --force-confold /tmp/debs/*.deb > /tmp/debs/log 2>&1 ||
      { tail -n 5 /tmp/debs/log >&2; exit 1; }
    nft flush ruleset"""
    for name in dict.fromkeys((*MEMBERS, *VOTERS)):
        on(lab, name, "sh", "-c", script, stdin=packed)
    for name in (*EDGES, "gw1.dc1", "gw1.dc2"):
        on(lab, name, "nft", "flush", "ruleset")
    for name in MEMBERS:
        on(
            lab,
            name,
            "sh",
            "-c",
            "pg_lsclusters -h | while read v c rest; do pg_ctlcluster -m immediate $v $c stop; done; true",
        )


def _lost(world: World, settings: Settings, number: int) -> Sample:
    """One site lost with everything anew: the seconds that a client waited; ``stdout`` is how many writes were lost."""
    _anew(world, settings)
    context = Context(work=world.folder)
    folder = world.folder / f"probe-{settings.ttl}-{number}"
    folder.mkdir()
    (folder / "secrets").mkdir(mode=0o700)
    (folder / "secrets" / "password").touch(mode=0o600)
    (folder / "secrets" / "password").write_text(world.password)
    client = PostgresqlProbe(Backends({"file": PrivateFiles(root=folder / "secrets")}))
    request = ProbeRequest(
        run=f"patroni-{settings.ttl}-{number}",
        endpoints=tuple(f"{world.lab.machine(one).address(Segment(one.partition('.')[2]))}:5432" for one in EDGES),
        database="postgres",
        user="postgres",
        password=SecretRef.parse("file:password"),
        table="bench_probe",
        every=EVERY,
        patience=PATIENCE,
        folder=folder,
    )
    running = client.start(request, context)
    try:
        _until_steady(running)
        began = time.monotonic_ns()
        machines.power(world.lab, MEMBERS[0], "ForceOff")
        _until_moved(world)
        _until_steady(running, after=time.monotonic_ns())
    finally:
        attempts = running.stop()
    seen: Downtime | None = downtime(attempts, began, EVERY)
    if seen is None or seen.ended_ns is None:
        raise Failed("no outage was seen", str(seen))
    lost = len(losses(attempts, client.held(request, context)).lost)
    return Sample(seconds=(seen.ended_ns - seen.began_ns) / 1e9, cpu_seconds=0, peak_bytes=0, stdout=str(lost))


def _anew(world: World, settings: Settings) -> None:
    """Patroni, etcd and the balancers begin from nothing."""
    lab = world.lab
    machines.power(lab, MEMBERS[0], "On")
    _until(f"{MEMBERS[0]} is up", lambda: machines.greets(str(lab.machine(MEMBERS[0]).management)))
    _until(f"{MEMBERS[0]} runs", lambda: lab.run(MEMBERS[0], ["true"]).code == 0)
    on(lab, MEMBERS[0], "nft", "flush", "ruleset")
    for name in dict.fromkeys((*MEMBERS, *VOTERS)):
        on(
            lab,
            name,
            "sh",
            "-c",
            f"systemctl stop bench-patroni bench-etcd 2>/dev/null; rm -rf {DATA} /var/lib/bench-etcd; true",
        )
    voters = ",".join(f"{one.replace('.', '-')}=http://{world.addresses[one]}:2380" for one in VOTERS)
    for name in VOTERS:
        here = world.addresses[name]
        argv = ["etcd", "--name", name.replace(".", "-"), "--data-dir", "/var/lib/bench-etcd", "--enable-v2=true"]
        argv += ["--listen-peer-urls", f"http://{here}:2380", "--initial-advertise-peer-urls", f"http://{here}:2380"]
        argv += ["--listen-client-urls", f"http://{here}:2379", "--advertise-client-urls", f"http://{here}:2379"]
        argv += ["--initial-cluster", voters, "--initial-cluster-state", "new"]
        on(lab, name, "systemd-run", "--quiet", "--collect", "--unit=bench-etcd", *argv)
    for name in MEMBERS:
        _member(world, settings, name)
        if name == MEMBERS[0]:
            _until("Patroni has a primary", lambda: _says(world, MEMBERS[0], "primary"))
    _until("Patroni's standby streams", lambda: _streams(world))
    for name in EDGES:
        servers = "\n".join(
            f"    server db{number} {world.addresses[one]}:5433 check port 8008"
            for number, one in enumerate(MEMBERS, 1)
        )
        text = (
            "defaults\n    mode tcp\n    timeout connect 2s\n    timeout client 30m\n    timeout server 30m\n"
            "listen databases\n    bind :5432\n    option httpchk GET /primary\n    http-check expect status 200\n"
            f"    default-server {settings.check} on-marked-down shutdown-sessions\n{servers}\n"
        )
        script = (
            "systemctl stop haproxy bench-haproxy 2>/dev/null; cat > /tmp/bench-haproxy.cfg;"
            "systemd-run --quiet --collect --unit=bench-haproxy haproxy -W -f /tmp/bench-haproxy.cfg"
        )
        on(lab, name, "sh", "-c", script, stdin=text.encode())


def _member(world: World, settings: Settings, name: str) -> None:
    here, password = world.addresses[name], world.password
    text = {
        "scope": "bench",
        "name": name.replace(".", "-"),
        "restapi": {"listen": f"{here}:8008", "connect_address": f"{here}:8008"},
        "etcd3": {"hosts": [f"{world.addresses[one]}:2379" for one in VOTERS]},
        "bootstrap": {
            "dcs": {
                "ttl": settings.ttl,
                "loop_wait": settings.loop_wait,
                "retry_timeout": settings.retry_timeout,
                "maximum_lag_on_failover": 1048576,
                "postgresql": {"use_pg_rewind": True},
            },
            "initdb": [{"encoding": "UTF8"}, "data-checksums"],
        },
        "postgresql": {
            "listen": f"{here}:5433",
            "connect_address": f"{here}:5433",
            "data_dir": f"{DATA}/data",
            "bin_dir": on(world.lab, name, "sh", "-c", "printf %s /usr/lib/postgresql/*/bin"),
            "pgpass": f"{DATA}/pgpass",
            "authentication": {
                "superuser": {"username": "postgres", "password": password},
                "replication": {"username": "replicator", "password": password},
            },
            "pg_hba": [
                "local all all trust",
                "host all all all scram-sha-256",
                "host replication all all scram-sha-256",
            ],
            "parameters": {"unix_socket_directories": DATA},
        },
    }
    script = (
        f"set -e; mkdir -p {DATA}; (umask 077; cat > {DATA}/patroni.yml); chown -R postgres: {DATA};"
        f"systemd-run --quiet --collect --unit=bench-patroni -p User=postgres patroni {DATA}/patroni.yml"
    )
    on(world.lab, name, "sh", "-c", script, stdin=json.dumps(text).encode())


def _says(world: World, name: str, what: str) -> bool:
    url = f"http://{world.addresses[name]}:8008/{what}"
    asked = world.lab.run(EDGES[1], ["curl", "--silent", "--fail", "--output", "/dev/null", "--max-time", "2", url])
    return asked.code == 0


def _streams(world: World) -> bool:
    """Whether the primary sees a standby that streams: Patroni calls one that only runs a replica already."""
    asked = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
    psql = ["psql", "-XAtq", "-h", DATA, "-p", "5433", "-U", "postgres", "-c", asked]
    return world.lab.run(MEMBERS[0], psql).stdout.strip() == "1"


def _until_moved(world: World) -> None:
    _until(f"Patroni has promoted {MEMBERS[1]}", lambda: _says(world, MEMBERS[1], "primary"))


def _until_steady(running: RunningProbe, after: int = 0) -> None:
    def is_steady() -> bool:
        attempts = running.attempts()
        end = attempts[-1].ended_ns if attempts else 0
        begin = end - STEADY_NS
        return (
            bool(attempts) and begin > max(after, attempts[0].sent_ns) and steady(attempts, begin, end, EVERY) is None
        )

    _until("every write was acknowledged for two seconds", is_steady)


def _until(what: str, holds: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG_SECONDS
    while not holds():
        if time.monotonic() > end:
            raise Failed(f"not within {LONG_SECONDS} s: {what}", "")
        time.sleep(0.1)
