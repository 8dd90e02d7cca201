"""Draining and restoring on a real HAProxy behind a real SSH server, and what is said when something is missing."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ismgr_automation.core.errors import Cancelled, InputError
from ismgr_automation.engines.haproxy import HaproxyBalancer
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.packages import Fleet
from ismgr_automation.ports.upkeep import Drained, Pool
from tests.engines.loopback import Loopback, free_port, loopback_server

__all__ = ["loopback_server"]

CONFIGURATION = """
global
    stats socket {socket} mode 600 level {level}
defaults
    mode http
    timeout connect 2s
    timeout check 10s
    timeout client 30s
    timeout server 30s
frontend http
    bind 127.0.0.1:{port}
    default_backend web
backend web
    option httpchk GET /healthz
    default-server inter 50ms fall 2 rise 2
    server web1.dc1 127.0.0.1:{web1} check
    server web2.dc1 127.0.0.1:{web2} check
"""


@dataclass(slots=True)
class Web:
    """A web server whose requests to ``/slow`` last until ``release`` is set."""

    port: int = 0
    healthy: bool = True
    served: int = 0
    entered: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def running(self) -> Iterator[Web]:
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/slow":
                    web.entered.set()
                    web.release.wait(30)
                web.served += self.path != "/healthz"
                with contextlib.suppress(OSError):
                    self.send_response(200 if web.healthy else 503)
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def log_message(self, *_words: object) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield self
        finally:
            self.release.set()
            server.shutdown()
            server.server_close()
            thread.join()


@dataclass(slots=True, kw_only=True)
class Edge:
    """A running HAProxy with two servers behind it."""

    port: int
    webs: tuple[Web, Web]
    pool: Pool
    balancer: HaproxyBalancer
    context: Context

    def ask(self, path: str = "/") -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", path)
            return connection.getresponse().status

    def hold(self) -> threading.Thread:
        """A request that web1 has begun to answer; other requests go on until one has come there."""
        thread = threading.Thread(target=self._slow)
        thread.start()
        assert self.webs[0].entered.wait(10)
        return thread

    def _slow(self) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            self.ask("/slow")

    def state(self) -> Drained:
        (one,) = self.balancer.states(self.pool, self.context)
        return one

    def socket_says(self, command: str) -> str:
        import socket

        with socket.socket(socket.AF_UNIX) as one:
            one.connect(self.pool.socket)
            one.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: one.recv(65536), b"")).decode()


def until(what: str, holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.02)


@contextlib.contextmanager
def haproxy(folder: Path, loopback: Loopback, level: str = "admin") -> Iterator[Edge]:
    program = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if program is None:
        pytest.skip("no haproxy on this machine: apt-get install haproxy")
    folder.mkdir(parents=True, exist_ok=True)
    socket, port = folder / "admin.sock", free_port()
    with Web().running() as one, Web().running() as two:
        text = CONFIGURATION.format(socket=socket, level=level, port=port, web1=one.port, web2=two.port)
        (folder / "haproxy.cfg").write_text(text)
        with (folder / "haproxy.log").open("wb") as log:
            process = subprocess.Popen([program, "-db", "-f", str(folder / "haproxy.cfg")], stderr=log, stdout=log)
        edge = Edge(
            port=port,
            webs=(one, two),
            pool=Pool(
                fleet=Fleet(hosts=[loopback.host("edge1.dc1")], names=["edge1.dc1"], ssh=loopback.ssh),
                backend="web",
                server="web1.dc1",
                socket=str(socket),
                deadline=timedelta(seconds=15),
            ),
            balancer=HaproxyBalancer(loopback.store),
            context=Context(work=folder, run="run-7"),
        )
        try:
            until((folder / "haproxy.log").read_text(), socket.exists)
            until("web1 is up", lambda: edge.state().detail.startswith("UP"))
            yield edge
        finally:
            one.release.set()
            process.terminate()
            process.wait(10)


@pytest.fixture
def edge(tmp_path: Path, loopback: Loopback) -> Iterator[Edge]:
    with haproxy(tmp_path / "edge", loopback) as one:
        yield one


def test_a_drained_server_gets_nothing_new_and_is_ready_again_afterwards(edge: Edge) -> None:
    (drained,) = edge.balancer.drain(edge.pool, edge.context)
    assert (drained.ok, drained.before, drained.sessions, drained.detail) == (True, "ready", 0, "")
    assert edge.state().before == "drain"
    before = edge.webs[0].served
    assert {edge.ask() for _ in range(8)} == {200}
    assert (edge.webs[0].served, edge.webs[1].served) == (before, 8)
    (restored,) = edge.balancer.restore(edge.pool, edge.context)
    assert (restored.ok, restored.before, restored.detail) == (True, "drain", "")
    assert edge.state().before == "ready"
    assert {edge.ask() for _ in range(8)} == {200}
    assert edge.webs[0].served > before


def test_a_drain_waits_for_the_request_that_is_being_answered(edge: Edge) -> None:
    edge.socket_says("set server web/web2.dc1 state maint")
    held = edge.hold()
    edge.socket_says("set server web/web2.dc1 state ready")
    answers: list[Drained] = []
    draining = threading.Thread(target=lambda: answers.extend(edge.balancer.drain(edge.pool, edge.context)))
    draining.start()
    until("it drains", lambda: edge.state().before == "drain")
    assert "sessions: 1" in edge.state().detail
    assert not answers
    edge.webs[0].release.set()
    draining.join(20)
    held.join(20)
    assert [(one.ok, one.sessions) for one in answers] == [(True, 0)]


def test_what_is_left_at_the_deadline_is_cut_off_and_counted(edge: Edge) -> None:
    edge.socket_says("set server web/web2.dc1 state maint")
    held = edge.hold()
    (drained,) = edge.balancer.drain(replace(edge.pool, deadline=timedelta(milliseconds=300)), edge.context)
    assert (drained.ok, drained.sessions) == (True, 1)
    assert "sessions: 0" in edge.state().detail
    held.join(20)


@pytest.mark.parametrize("state", ["drain", "maint"])
def test_what_somebody_else_took_out_is_not_put_back_by_us(edge: Edge, state: str) -> None:
    edge.socket_says(f"set server web/web1.dc1 state {state}")
    (drained,) = edge.balancer.drain(edge.pool, edge.context)
    assert (drained.ok, drained.before) == (True, state)
    assert drained.detail == f"somebody else has put it to {state}: it stays so"
    (restored,) = edge.balancer.restore(edge.pool, edge.context)
    assert (restored.ok, restored.before) == (True, state)
    assert "somebody else" in restored.detail
    assert edge.state().before == state


def test_a_server_that_somebody_took_to_maintenance_while_we_had_it_stays_there(edge: Edge) -> None:
    edge.balancer.drain(edge.pool, edge.context)
    edge.socket_says("set server web/web1.dc1 state maint")
    (restored,) = edge.balancer.restore(edge.pool, edge.context)
    assert "somebody else has put it to maint" in restored.detail
    assert edge.state().before == "maint"


def test_a_drain_that_died_is_still_ours_for_the_next_process(edge: Edge, loopback: Loopback) -> None:
    edge.balancer.drain(edge.pool, edge.context)
    (again,) = HaproxyBalancer(loopback.store).drain(edge.pool, edge.context)
    assert (again.ok, again.before, again.detail) == (True, "ready", "")
    (restored,) = HaproxyBalancer(loopback.store).restore(edge.pool, edge.context)
    assert restored.ok
    assert edge.state().before == "ready"
    assert not list(Path(edge.pool.socket).parent.glob("ismgr-drained-*"))


def test_a_server_that_is_not_healthy_is_put_back_and_said_so(edge: Edge) -> None:
    edge.balancer.drain(edge.pool, edge.context)
    edge.webs[0].healthy = False
    until("the check fails", lambda: "L7STS" in edge.state().detail)
    (restored,) = edge.balancer.restore(replace(edge.pool, deadline=timedelta(milliseconds=300)), edge.context)
    assert not restored.ok
    assert "DOWN L7STS" in restored.detail
    edge.webs[0].healthy = True
    (restored,) = edge.balancer.restore(edge.pool, edge.context)
    assert restored.ok


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"backend": "wbe"}, "knows no backend 'wbe' (did you mean 'web'?)"),
        ({"server": "web1.dc2"}, "backend 'web' has no server 'web1.dc2' (did you mean 'web"),
        ({"server": "zzz"}, "has no server 'zzz'; there are: web1.dc1, web2.dc1"),
        ({"socket": "/nowhere/admin.sock"}, "there is no runtime socket /nowhere/admin.sock"),
    ],
)
def test_a_wrong_name_is_said_and_nothing_is_touched(edge: Edge, change: dict[str, str], words: str) -> None:
    (drained,) = edge.balancer.drain(replace(edge.pool, **change), edge.context)
    assert not drained.ok
    assert words in drained.detail
    assert edge.state().before == "ready"


@pytest.mark.parametrize("name", ["web;show info", "web server", "", "web\nquit"])
def test_a_name_that_haproxy_cannot_have_is_refused_before_anybody_is_asked(edge: Edge, name: str) -> None:
    with pytest.raises(InputError, match="cannot be the name of a backend"):
        edge.balancer.drain(replace(edge.pool, backend=name), edge.context)


def test_a_balancer_that_is_down_is_a_result_and_the_others_are_drained(edge: Edge, loopback: Loopback) -> None:
    dead = loopback.host("edge1.dc2", port=free_port())
    fleet = replace(edge.pool.fleet, hosts=[*edge.pool.fleet.hosts, dead], names=["edge1.dc2", "edge1.dc1"])
    down, drained = edge.balancer.drain(replace(edge.pool, fleet=fleet), edge.context)
    assert (down.balancer, down.ok, drained.balancer, drained.ok) == ("edge1.dc2", False, "edge1.dc1", True)
    assert "cannot be reached (refused)" in down.detail


def test_a_socket_without_the_right_to_change_is_said_so(tmp_path: Path, loopback: Loopback) -> None:
    with haproxy(tmp_path / "edge", loopback, level="operator") as edge:
        (drained,) = edge.balancer.drain(edge.pool, edge.context)
    assert not drained.ok
    assert "HAProxy did not drain it: Permission denied" in drained.detail


def test_a_stopped_drain_leaves_a_server_that_can_be_put_back(edge: Edge) -> None:
    edge.socket_says("set server web/web2.dc1 state maint")
    held = edge.hold()
    problems: list[BaseException] = []

    def drain() -> None:
        try:
            edge.balancer.drain(edge.pool, edge.context)
        except Cancelled as error:
            problems.append(error)

    draining = threading.Thread(target=drain)
    draining.start()
    until("it drains", lambda: edge.balancer.states(edge.pool, Context(work=edge.context.work))[0].before == "drain")
    edge.context.cancelled.set()
    draining.join(20)
    assert problems
    edge.webs[0].release.set()
    held.join(20)
    (restored,) = edge.balancer.restore(edge.pool, Context(work=edge.context.work))
    assert restored.ok
