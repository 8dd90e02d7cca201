"""Probes: every way to be unreachable is told apart, on real servers and on servers that misbehave."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Self

import asyncssh
import pytest

from ismgr_automation.core.errors import Cancelled, InputError
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines.secrets import Backends
from ismgr_automation.engines.ssh import SshProber
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Host, Reach, Ssh
from tests.engines.loopback import Loopback, free_port, keygen, serve


@pytest.fixture
def probe(loopback, tmp_path):
    def run(*hosts: Host, become: bool = False, password: SecretRef | None = None, store=None, **ssh: object):
        settings = Ssh(**({"key": loopback.ssh.key, "connect_timeout": timedelta(seconds=30)} | ssh))
        prober = SshProber(store or loopback.store, password)
        return prober.probe(hosts, settings, become, Context(work=tmp_path))

    return run


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen(100)
        yield one.getsockname()[1]


@pytest.fixture
def slamming() -> Iterator[int]:
    """A port that closes every connection at once, as a server that is full does."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen(100)

        def close_all() -> None:
            while True:
                try:
                    client, _ = one.accept()
                except OSError:
                    return
                client.close()

        thread = threading.Thread(target=close_all)
        thread.start()
        yield one.getsockname()[1]
        one.shutdown(socket.SHUT_RDWR)
        thread.join()


class Sudo:
    """An SSH server whose commands end as told; it remembers what it was asked."""

    def __init__(self, loopback: Loopback, code: int, stderr: str) -> None:
        self.asked: list[str] = []
        self.port = free_port()
        self._ready, self._stop = threading.Event(), None
        self._loopback, self._code, self._stderr = loopback, code, stderr

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncssh.listen(
            "127.0.0.1",
            self.port,
            server_host_keys=[str(self._loopback.folder / "host_key")],
            authorized_client_keys=str(self._loopback.folder / "authorized_keys"),
            process_factory=self._answer,
        )
        self._ready.set()
        await self._stop.wait()
        server.close()

    async def _answer(self, process: asyncssh.SSHServerProcess) -> None:
        said = await process.stdin.readline() if "-S" in (process.command or "") else ""
        self.asked.append(f"{process.command}|{said}")
        process.stderr.write(self._stderr)
        process.exit(self._code)


def test_a_host_that_answers_is_ok(probe, loopback):
    (answer,) = probe(loopback.host("db1.dc1"))
    assert (answer.host, answer.reach, answer.detail) == ("db1.dc1", Reach.OK, "")
    assert 0 < answer.seconds < 60


def test_answers_come_in_the_order_of_the_question_and_one_dead_host_hides_no_other(probe, loopback, silent):
    hosts = [loopback.host(f"h{number}", port=silent if number % 3 == 0 else loopback.port) for number in range(12)]
    answers = probe(*hosts, connect_timeout=timedelta(seconds=8))
    assert [one.host for one in answers] == [host.name for host in hosts]
    assert [one.reach for one in answers] == [Reach.TIMEOUT if n % 3 == 0 else Reach.OK for n in range(12)]


def test_a_name_that_does_not_resolve_is_dns(probe, loopback):
    (answer,) = probe(loopback.host("db1", address="no-such-host.invalid"), connect_timeout=timedelta(seconds=30))
    assert answer.reach is Reach.DNS


def test_a_closed_port_is_refused(probe, loopback):
    (answer,) = probe(loopback.host("db1", port=free_port()))
    assert answer.reach is Reach.REFUSED


def test_a_name_with_several_dead_addresses_is_refused(probe, loopback):
    (answer,) = probe(loopback.host("db1", address="localhost", port=free_port()))
    assert answer.reach is Reach.REFUSED


def test_a_server_that_hangs_up_is_refused(probe, loopback, slamming):
    (answer,) = probe(loopback.host("db1", port=slamming))
    assert answer.reach is Reach.REFUSED


def test_a_server_that_never_answers_is_a_timeout(probe, loopback, silent):
    (answer,) = probe(loopback.host("db1", port=silent), connect_timeout=timedelta(seconds=1))
    assert answer.reach is Reach.TIMEOUT


def test_a_key_that_is_not_accepted_is_auth(probe, loopback, tmp_path):
    keygen(tmp_path / "other")
    (answer,) = probe(loopback.host("db1"), key=None, key_file=tmp_path / "other")
    assert answer.reach is Reach.AUTH


def test_a_user_that_does_not_exist_is_auth(probe, loopback):
    (answer,) = probe(loopback.host("db1", user="nobody-here"))
    assert answer.reach is Reach.AUTH


def test_another_key_than_the_pinned_one_is_host_key(probe, loopback, tmp_path):
    (answer,) = probe(loopback.host("db1", host_keys=(keygen(tmp_path / "other"),)))
    assert answer.reach is Reach.HOST_KEY


def test_a_host_without_a_pinned_key_is_host_key_and_is_not_even_asked(probe, loopback, silent):
    (answer,) = probe(loopback.host("db1", host_keys=(), port=silent))
    assert answer.reach is Reach.HOST_KEY
    assert answer.seconds == 0


def test_a_line_of_the_estate_stands_in_for_a_pinned_key(probe, loopback):
    host = loopback.host("db1", host_keys=())
    for pattern in (f"[127.0.0.1]:{loopback.port}", "db1"):
        assert probe(host, known_hosts=f"{pattern} {loopback.host_key}")[0].reach is Reach.OK


def test_a_revoked_key_is_host_key_even_where_it_is_pinned(probe, loopback):
    lines = f"@revoked [127.0.0.1]:{loopback.port} {loopback.host_key}"
    assert probe(loopback.host("db1"), known_hosts=lines)[0].reach is Reach.HOST_KEY


@pytest.mark.skipif(os.geteuid() != 0, reason="this account may not become root without a password")
def test_root_need_not_become_root(probe, loopback):
    assert probe(loopback.host("db1"), become=True)[0].reach is Reach.OK


def test_an_account_that_may_not_become_root_is_sudo(probe, loopback):
    with Sudo(loopback, 1, "sudo: a password is required\n") as server:
        (answer,) = probe(loopback.host("db1", port=server.port), become=True)
    assert (answer.reach, answer.detail) == (Reach.SUDO, "sudo: a password is required")
    assert "sudo -n true" in server.asked[0]


def test_a_become_password_goes_to_the_standard_input_of_sudo_only(probe, loopback):
    store = Backends(environment={"PASSWORD": "canary-33aa"})
    key = loopback.folder / "secrets" / "operator"
    with Sudo(loopback, 0, "") as server:
        (answer,) = probe(
            loopback.host("db1", port=server.port),
            become=True,
            password=SecretRef("env", "PASSWORD"),
            store=store,
            key=None,
            key_file=key,
        )
    assert answer.reach is Reach.OK
    command, said = server.asked[0].split("|")
    assert "canary" not in command
    assert said == "canary-33aa\n"


def test_hosts_behind_a_bastion_share_one_connection_to_it(probe, loopback, tmp_path):
    with serve(tmp_path / "gateway", "LogLevel VERBOSE\n") as gateway, serve(tmp_path / "inner") as inner:
        (gateway.folder / "authorized_keys").write_text((loopback.folder / "authorized_keys").read_text())
        (inner.folder / "authorized_keys").write_text((loopback.folder / "authorized_keys").read_text())
        behind = [inner.host(f"db{number}", bastion="gw1") for number in range(5)]
        answers = probe(gateway.host("gw1"), *behind)
        log = (gateway.folder / "sshd.log").read_text()
    assert {one.reach for one in answers} == {Reach.OK}
    # one login to look at the gateway itself, one for all that is behind it
    assert log.count("Accepted publickey") == 2


@pytest.mark.parametrize(
    ("change", "reach"),
    [({"port": "closed"}, Reach.REFUSED), ({"address": "no-such-host.invalid"}, Reach.DNS), ({}, Reach.OK)],
)
def test_behind_a_bastion_the_ways_to_fail_are_told_apart_too(probe, loopback, change, reach):
    change = {key: free_port() if value == "closed" else value for key, value in change.items()}
    answers = probe(
        loopback.host("gw1"), loopback.host("db1", bastion="gw1", **change), connect_timeout=timedelta(seconds=30)
    )
    assert answers[0].reach is Reach.OK
    assert answers[1].reach is reach


def test_a_dead_bastion_is_named_for_the_hosts_behind_it(probe, loopback, silent):
    gateway = loopback.host("gw1", port=silent)
    hosts = [gateway, *(loopback.host(name, bastion="gw1") for name in ("db1", "db2"))]
    answers = probe(*hosts, connect_timeout=timedelta(seconds=1))
    assert {one.reach for one in answers} == {Reach.TIMEOUT}
    assert answers[1].detail.startswith("bastion gw1: ")


def test_a_key_that_is_none_is_the_estates_mistake(probe, loopback):
    with pytest.raises(InputError, match="env:KEY is not a usable private SSH key") as caught:
        probe(loopback.host("db1"), key=SecretRef("env", "KEY"), store=Backends(environment={"KEY": "junk-key"}))
    assert "junk-key" not in str(caught.value)


def test_a_cancelled_probe_stops_and_leaves_no_thread(loopback, tmp_path, silent):
    context = Context(work=tmp_path)
    threading.Timer(0.2, context.cancelled.set).start()
    ssh = Ssh(key=loopback.ssh.key, connect_timeout=timedelta(seconds=60))
    with pytest.raises(Cancelled):
        SshProber(loopback.store).probe([loopback.host("db1", port=silent)], ssh, become=False, context=context)
    assert not [one for one in threading.enumerate() if one.name == "ismgr-probe"]


def test_a_probe_works_inside_somebodys_event_loop(probe, loopback):
    async def inside():
        return probe(loopback.host("db1"))

    assert asyncio.run(inside())[0].reach is Reach.OK


def test_no_hosts_no_answers(probe):
    assert probe() == ()
