"""Switching a backend on real HAProxies behind a real SSH server, and what must not pass for a switch."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest

from ismgr_automation.core.errors import InputError
from ismgr_automation.engines.switches import ClientSwitches
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.packages import Fleet
from ismgr_automation.ports.recovery import BackendRequest, Sight, Verb
from tests.engines.loopback import Loopback, free_port, loopback_server
from tests.engines.test_haproxy import until

__all__ = ["loopback_server"]

OLD, NEW = "db1.dc1", "db1.dc2"

CONFIGURATION = """
global
    stats socket {socket} mode 600 level {level} expose-fd listeners
    server-state-file {kept}
defaults
    mode tcp
    timeout connect 500ms
    timeout client 30s
    timeout server 30s
    retries 0
frontend postgresql
    bind 127.0.0.1:{port}
    default_backend databases
backend databases
    load-server-state-from-file global
    default-server inter 200ms fall 3 rise 1
    server db1.dc1 127.0.0.1:{old} check {old_state}
    server db1.dc2 127.0.0.1:{new} check {new_state}
"""


@dataclass(slots=True)
class Database:
    """Says its name to everybody who connects, and nothing more."""

    name: str
    port: int = 0
    open: list[socket.socket] = field(default_factory=list)

    @contextlib.contextmanager
    def running(self) -> Iterator[Database]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.port = server.getsockname()[1]
            thread = threading.Thread(target=self._serve, args=(server,))
            thread.start()
            try:
                yield self
            finally:
                server.shutdown(socket.SHUT_RDWR)
                thread.join()
                for one in self.open:
                    one.close()

    def _serve(self, server: socket.socket) -> None:
        while True:
            try:
                one, _ = server.accept()
            except OSError:
                return
            self.open.append(one)
            with contextlib.suppress(OSError):
                one.sendall(f"{self.name}\n".encode())


@dataclass(slots=True, kw_only=True)
class Edge:
    """A HAProxy of its own, in a folder of its own."""

    name: str
    folder: Path
    port: int
    old: int
    new: int
    program: str
    process: subprocess.Popen[bytes] | None = None

    def write(self, primary: str = OLD, level: str = "admin") -> None:
        words = {True: "", False: "disabled"}
        text = CONFIGURATION.format(
            socket=self.folder / "admin.sock",
            kept=self.folder / "servers.state",
            level=level,
            port=self.port,
            old=self.old,
            new=self.new,
            old_state=words[primary == OLD],
            new_state=words[primary == NEW],
        )
        (self.folder / "haproxy.cfg").write_text(text)

    def start(self) -> None:
        with (self.folder / "haproxy.log").open("ab") as log:
            command = [self.program, "-W", "-f", str(self.folder / "haproxy.cfg")]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        until("it answers", lambda: "databases" in self.says("show stat"))

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)
            self.process = None

    def reload(self) -> None:
        assert self.process is not None
        process, before = self.process, self._worker()

        def another() -> bool:
            # a master that has just started may not hear the first one
            process.send_signal(signal.SIGUSR2)
            end = time.monotonic() + 1
            while self._worker() in {"", before} and time.monotonic() < end:
                time.sleep(0.02)
            return self._worker() not in {"", before}

        until("it is another worker", another)

    def _worker(self) -> str:
        return self.says("show info").partition("Pid: ")[2].partition("\n")[0]

    def says(self, command: str) -> str:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as one:
            one.settimeout(5)
            one.connect(str(self.folder / "admin.sock"))
            one.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: one.recv(65536), b"")).decode()
        return ""

    def states(self) -> dict[str, str]:
        rows = [row.split() for row in self.says("show servers state databases").splitlines()[2:] if row]
        return {row[3]: "maint" if int(row[6]) & 0x63 else "ready" for row in rows}

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 5)

    def leads_to(self) -> str:
        with contextlib.suppress(OSError), self.connect() as one:
            one.settimeout(5)
            return one.recv(100).decode().strip()
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Two databases behind two edges."""

    edges: tuple[Edge, Edge]
    databases: tuple[Database, Database]
    loopback: Loopback
    context: Context

    def request(self, *edges: Edge, **more: object) -> BackendRequest:
        hosts = [self.loopback.host(edge.name) for edge in edges]
        fields: dict[str, object] = {
            "fleet": Fleet(hosts=hosts, names=[edge.name for edge in edges], ssh=self.loopback.ssh),
            "backend": "databases",
            "server": NEW,
            "socket": str(edges[0].folder / "admin.sock"),
            "deadline": timedelta(seconds=10),
        }
        return BackendRequest(**(fields | more))  # type: ignore[arg-type]

    @contextlib.contextmanager
    def switch(self, request: BackendRequest) -> Iterator[Verb]:
        verb = ClientSwitches(self.loopback.store).backend(request, self.context)
        try:
            yield verb
        finally:
            verb.close()
            verb.close()


@pytest.fixture
def service(loopback: Loopback, tmp_path: Path) -> Iterator[Service]:
    """Clients are sent to the old primary."""
    program = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if program is None:
        pytest.skip("no haproxy on this machine: apt-get install haproxy")
    with Database(OLD).running() as old, Database(NEW).running() as new, contextlib.ExitStack() as stack:
        edges = []
        for name in ("edge1.dc1", "edge1.dc2"):
            (tmp_path / name).mkdir()
            edge = Edge(
                name=name, folder=tmp_path / name, port=free_port(), old=old.port, new=new.port, program=program
            )
            edge.write()
            stack.callback(edge.stop)
            edge.start()
            edges.append(edge)
        yield Service(
            edges=(edges[0], edges[1]),
            databases=(old, new),
            loopback=loopback,
            context=Context(work=tmp_path),
        )


def test_clients_are_sent_to_the_new_primary_and_old_sessions_are_cut(service: Service) -> None:
    (edge, _) = service.edges
    with service.switch(service.request(edge)) as switch, edge.connect() as client:
        assert client.recv(100) == b"db1.dc1\n"
        staged = switch.stage()
        assert staged.sight is Sight.NOT_DONE
        assert staged.words == "edge1.dc1: db1.dc1 is ready, db1.dc2 is maint"
        assert edge.leads_to() == OLD
        acted = switch.act()
        assert (acted.ok, acted.words) == (True, "edge1.dc1: sends clients to db1.dc2")
        assert "edge1.dc1 ms" in acted.readings
        client.settimeout(10)
        assert client.recv(100) == b""
        assert edge.leads_to() == NEW
        assert edge.states() == {OLD: "maint", NEW: "ready"}
        assert switch.observe().sight is Sight.DONE
        assert switch.act().ok


def test_nobody_is_sent_to_two_at_any_time(service: Service) -> None:
    from ismgr_automation.engines.switches import teller

    (edge, _) = service.edges
    asked: list[str] = []

    class Listening(socket.socket):
        def sendall(self, data: bytes) -> None:  # type: ignore[override]
            asked.append(data.decode())
            super().sendall(data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(teller.socket, "socket", Listening)
        teller.switch(str(edge.folder / "admin.sock"), "databases", NEW)
    (orders,) = [text.strip().split(";") for text in asked if text.startswith("set ")]
    assert orders == [
        "set server databases/db1.dc1 state maint",
        "set server databases/db1.dc2 state ready",
        "set server databases/db1.dc2 health up",
        "shutdown sessions server databases/db1.dc1",
    ]


def test_there_and_back_again(service: Service) -> None:
    (edge, _) = service.edges
    with service.switch(service.request(edge)) as there:
        assert there.act().ok
    with service.switch(service.request(edge, server=OLD)) as back:
        assert back.stage().sight is Sight.NOT_DONE
        assert back.act().ok
    assert edge.leads_to() == OLD
    assert edge.states() == {OLD: "ready", NEW: "maint"}


def test_a_reload_keeps_what_was_said_and_git_wins_when_it_changes(service: Service) -> None:
    (edge, _) = service.edges
    with service.switch(service.request(edge)) as switch:
        assert switch.act().ok
        until("the states are kept", (edge.folder / "servers.state").exists)
        edge.reload()
        assert edge.states() == {OLD: "maint", NEW: "ready"}
        assert edge.leads_to() == NEW
        # a program that waits there speaks to whoever answers now
        assert switch.observe().sight is Sight.DONE
        edge.stop()
        edge.start()
        assert edge.states() == {OLD: "maint", NEW: "ready"}
        edge.write(primary=NEW)
        edge.reload()
        assert edge.states() == {OLD: "maint", NEW: "ready"}
        (edge.folder / "servers.state").write_text(edge.says("show servers state"))
        edge.write(primary=OLD)
        edge.reload()
        assert edge.states() == {OLD: "ready", NEW: "maint"}
        assert switch.observe().sight is Sight.NOT_DONE


def test_a_new_primary_that_was_not_checked_yet_serves_at_once(service: Service) -> None:
    (edge, _) = service.edges
    edge.says("set server databases/db1.dc2 state ready")
    edge.says("set server databases/db1.dc2 health down")
    with service.switch(service.request(edge)) as switch:
        assert switch.act().ok
        assert edge.leads_to() == NEW


def test_all_balancers_are_told_at_once_and_one_that_is_down_is_named(service: Service) -> None:
    first, second = service.edges
    # both sockets at one path: each balancer is a machine of its own
    request = service.request(first)
    dead = service.loopback.host(second.name, port=free_port())
    fleet = replace(request.fleet, hosts=[*request.fleet.hosts, dead], names=[second.name, first.name])
    with service.switch(replace(request, fleet=fleet)) as switch:
        staged = switch.stage()
        assert staged.sight is Sight.NOT_DONE
        assert "edge1.dc2: cannot be reached (refused)" in staged.words
        acted = switch.act()
    assert acted.ok
    assert "edge1.dc2: cannot be reached" in acted.words
    assert "edge1.dc1: sends clients to db1.dc2" in acted.words
    with service.switch(replace(request, fleet=fleet, enough=2, deadline=timedelta(seconds=1))) as switch:
        assert switch.stage().sight is Sight.UNKNOWN
        assert not switch.act().ok


@pytest.mark.parametrize("when", ["before it is staged", "after it was staged"])
def test_a_balancer_that_says_nothing_holds_up_nobody(service: Service, when: str) -> None:
    first, second = service.edges
    with socket.create_server(("127.0.0.1", 0)) as silent:
        request = service.request(first, deadline=timedelta(seconds=60))
        dead = service.loopback.host(second.name, port=silent.getsockname()[1])
        ssh = replace(request.fleet.ssh, connect_timeout=timedelta(seconds=30))
        fleet = replace(request.fleet, hosts=[*request.fleet.hosts, dead], names=[second.name, first.name], ssh=ssh)
        with service.switch(replace(request, fleet=fleet)) as switch:
            if when == "after it was staged":
                staging = threading.Thread(target=switch.stage, daemon=True)
                staging.start()
            acted = switch.act()
    assert acted.ok
    # nobody had given up on it by then
    assert "edge1.dc2: has not answered yet" in acted.words
    assert first.leads_to() == NEW


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"backend": "database"}, "knows no backend 'database'"),
        ({"server": "db1.dc3"}, "has no server 'db1.dc3'; there are: db1.dc1, db1.dc2"),
        ({"socket": "/nowhere/admin.sock"}, "the runtime socket /nowhere/admin.sock cannot be asked"),
    ],
)
def test_a_wrong_name_is_said_and_nobody_is_sent_anywhere(
    service: Service, change: dict[str, object], words: str
) -> None:
    (edge, _) = service.edges
    with service.switch(service.request(edge, deadline=timedelta(seconds=5), **change)) as switch:
        assert words in switch.stage().words
        assert not switch.act().ok
    assert edge.states() == {OLD: "ready", NEW: "maint"}


@pytest.mark.parametrize("change", [{"server": "db1;show info"}, {"backend": ""}, {"enough": 0}, {"enough": 2}])
def test_what_cannot_be_is_refused_before_anybody_is_asked(service: Service, change: dict[str, object]) -> None:
    with pytest.raises(InputError), service.switch(service.request(service.edges[0], **change)):
        pass


def test_a_socket_without_the_right_to_change_is_said_so(service: Service) -> None:
    (edge, _) = service.edges
    edge.stop()
    edge.write(level="operator")
    edge.start()
    with service.switch(service.request(edge, deadline=timedelta(seconds=5))) as switch:
        acted = switch.act()
    assert not acted.ok
    assert "Permission denied" in acted.words or "db1.dc1 is ready" in acted.words


STALE = """
import socket, sys
one = socket.socket()
one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
one.bind((sys.argv[2], int(sys.argv[1])))
one.listen()
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])  # noqa: S104
def test_a_forgotten_process_on_the_same_port_is_found(service: Service, address: str) -> None:
    (edge, _) = service.edges
    command = [sys.executable, "-c", STALE, str(edge.port), address]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as stale,
        service.switch(service.request(edge, deadline=timedelta(seconds=5))) as switch,
    ):
        assert stale.stdout is not None
        assert stale.stdin is not None
        assert stale.stdout.readline() == "ready\n"
        staged = switch.stage()
        acted = switch.act()
        stale.stdin.close()
    assert staged.sight is Sight.UNKNOWN
    assert f"process {stale.pid} (python" in staged.words
    assert f"listens on port {edge.port} as well" in staged.words
    assert not acted.ok
