"""Two machines made of network namespaces, with a cable between them and a real OpenSSH server in each. Nothing of it
is visible to this host's own network: SSH comes in by sockets that were accepted outside."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest

from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines.fences import HostFences, witness
from ismgr_automation.engines.secrets import Backends, PrivateFiles
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Host, Ssh
from ismgr_automation.ports.packages import Fleet
from ismgr_automation.ports.recovery import FenceRequest
from tests.engines.loopback import keygen

MEMBER, OTHER = "db1.dc1", "db1.dc2"
ADDRESS, SPARED, OTHER_ADDRESS, OTHER_SPARED = "192.0.2.1", "198.51.100.1", "192.0.2.2", "198.51.100.2"
PORT = 5432

SERVER = """
import socket, sys, threading, time
def serve(one):
    try:
        while heard := one.recv(100):
            time.sleep(float(sys.argv[2]))
            one.sendall(heard)
    except OSError:
        pass
with socket.create_server(("0.0.0.0", int(sys.argv[1]))) as server:
    print("ready", flush=True)
    while True:
        threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""
"""Says everything back, after a while."""

CLIENT = """
import socket, sys, time
one = socket.create_connection((sys.argv[1], int(sys.argv[2])), 30)
print("ready", flush=True)
last = time.monotonic()
try:
    while True:
        one.sendall(b"x")
        if not one.recv(10):
            break
        last = time.monotonic()
except OSError:
    pass
print(time.monotonic() - last, flush=True)
"""
"""Says something all the time; how long it had no answer when the connection broke."""


@dataclass(slots=True, kw_only=True)
class Machine:
    """A network namespace with a door for SSH."""

    name: str
    namespace: str
    host: Host
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def run(self, *words: str) -> str:
        command = ["ip", "netns", "exec", self.namespace, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout

    def start(self, program: str, *words: str, cwd: Path | None = None) -> subprocess.Popen[str]:
        """A Python program inside, that has said ``ready``."""
        command = ["ip", "netns", "exec", self.namespace, sys.executable, "-c", program, *words]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=cwd)
        self.started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    def serve(self, port: int = PORT, delay: float = 0.0, cwd: Path | None = None) -> subprocess.Popen[str]:
        return self.start(SERVER, str(port), str(delay), cwd=cwd)

    def gets_through(self, address: str = ADDRESS, port: int = PORT) -> bool:
        ask = f"import socket; socket.create_connection(({address!r}, {port}), 2)"
        return (
            subprocess.run(
                ["ip", "netns", "exec", self.namespace, sys.executable, "-c", ask], check=False, capture_output=True
            ).returncode
            == 0
        )


@dataclass(slots=True, kw_only=True)
class Country:
    """Both machines, and who asks for fences there."""

    member: Machine
    other: Machine
    fences: HostFences
    context: Context
    request: FenceRequest
    conf_root: Path
    """Where ``pg_lsclusters`` of the machines looks for clusters."""

    def with_witnesses(self, *names: str) -> FenceRequest:
        return replace(self.request, witnesses=names)


@contextlib.contextmanager
def door(namespace: str, configuration: Path, log: Path) -> Iterator[int]:
    """A loopback port outside behind which an SSH server inside answers, one process for each connection."""
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    assert sshd is not None
    children: list[subprocess.Popen[bytes]] = []
    with socket.create_server(("127.0.0.1", 0)) as outside, log.open("wb") as words:

        def accept() -> None:
            while True:
                try:
                    one, _ = outside.accept()
                except OSError:
                    return
                command = ["ip", "netns", "exec", namespace, sshd, "-i", "-e", "-f", str(configuration)]
                with one:
                    children.append(subprocess.Popen(command, stdin=one, stdout=one, stderr=words))

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield outside.getsockname()[1]
        finally:
            outside.shutdown(socket.SHUT_RDWR)
            thread.join()
            for child in children:
                child.terminate()
                child.wait(10)


def _configure(folder: Path, conf_root: Path) -> tuple[str, Path]:
    """An SSH server's files; its public key and its configuration."""
    public = keygen(folder / "host_key")
    operator = keygen(folder / "secrets" / "operator")
    (folder / "secrets" / "operator.pub").unlink()
    (folder / "authorized_keys").write_text(operator + "\n")
    (folder / "sshd_config").write_text(
        f"HostKey {folder}/host_key\nUsePAM no\nAuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\n"
        f"PasswordAuthentication no\nPermitRootLogin prohibit-password\nUseDNS no\n"
        f"SetEnv PG_CLUSTER_CONF_ROOT={conf_root}\n"
    )
    return " ".join(public.split()[:2]), folder / "sshd_config"


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=30)


@contextlib.contextmanager
def _cabled(names: Sequence[str]) -> Iterator[None]:
    """Two namespaces with a cable between them."""
    first, second = names
    try:
        for name in names:
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", first, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", second)
        for name, addresses in ((first, (ADDRESS, SPARED)), (second, (OTHER_ADDRESS, OTHER_SPARED))):
            _ip("-n", name, "link", "set", "eth0", "up")
            for address in addresses:
                _ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
        yield
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is asked on a machine with much else to do may answer late."""
    monkeypatch.setattr(witness, "ANSWER", timedelta(seconds=20))


@pytest.fixture
def country(tmp_path: Path) -> Iterator[Country]:
    """The member serves on its port; the other one can connect to it."""
    if os.geteuid() != 0 or not shutil.which("nft", path=f"{os.environ['PATH']}:/usr/sbin"):
        pytest.skip("needs root, for network namespaces, and nft: apt-get install nftables")
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    (tmp_path / "secrets").mkdir()
    conf_root = tmp_path / "clusters"
    conf_root.mkdir()
    public, configuration = _configure(tmp_path, conf_root)
    namespaces = {MEMBER: f"ismgr-f{os.getpid()}a", OTHER: f"ismgr-f{os.getpid()}b"}
    with _cabled(tuple(namespaces.values())), contextlib.ExitStack() as doors:
        machines = {}
        for name, namespace in namespaces.items():
            port = doors.enter_context(door(namespace, configuration, tmp_path / f"{name}.log"))
            host = Host(name=name, address="127.0.0.1", origin="a test", user="root", port=port, host_keys=(public,))
            machines[name] = Machine(name=name, namespace=namespace, host=host)
        store = Backends({"file": PrivateFiles(root=tmp_path / "secrets")})
        fleet = Fleet(
            hosts=[one.host for one in machines.values()],
            names=[MEMBER],
            ssh=Ssh(key=SecretRef.parse("file:operator"), connect_timeout=timedelta(seconds=10)),
        )
        request = FenceRequest(
            host=MEMBER,
            fleet=fleet,
            port=PORT,
            deadline=timedelta(seconds=10),
            spared=("198.51.100.0/24",),
            address=ADDRESS,
        )
        try:
            yield Country(
                member=machines[MEMBER],
                other=machines[OTHER],
                fences=HostFences(store),
                context=Context(work=tmp_path),
                request=request,
                conf_root=conf_root,
            )
        finally:
            for machine in machines.values():
                for process in machine.started:
                    process.kill()
                    process.wait(10)


def folder(path: Path, *files: str) -> Path:
    """A data folder with these files in it."""
    path.mkdir()
    for name in ("PG_VERSION", *files):
        (path / name).write_text("15\n")
    return path


def cluster(country: Country, data: Path, start: str) -> None:
    """A cluster of Debian's on the fenced port."""
    place = country.conf_root / "15" / "main"
    place.mkdir(parents=True)
    (place / "postgresql.conf").write_text(f"port = {PORT}\ndata_directory = '{data}'\n")
    (place / "start.conf").write_text(f"# how it starts\n{start}\n")


def until(what: str, holds: object) -> None:
    """Look until it holds."""
    end = time.monotonic() + 20
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < end, what
        time.sleep(0.02)
