"""A real OpenSSH server on a loopback port with a key pair of its own: what SSH tests talk to without a lab."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines.secrets import Backends, PrivateFiles
from ismgr_automation.ports.hosts import Host, Ssh

USER = "root" if os.geteuid() == 0 else os.environ["USER"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loopback:
    """One server, the key that it accepts and its own key."""

    folder: Path
    port: int
    host_key: str
    store: Backends
    ssh: Ssh
    pid: int

    def host(self, name: str, **more: object) -> Host:
        fields: dict[str, object] = {
            "name": name,
            "address": "127.0.0.1",
            "origin": "stack/test",
            "user": USER,
            "port": self.port,
            "host_keys": (self.host_key,),
        }
        return Host(**(fields | more))  # type: ignore[arg-type]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def keygen(path: Path, comment: str = "test", passphrase: str = "") -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", comment, "-f", str(path)], check=True)
    return path.with_suffix(".pub").read_text().strip()


@contextlib.contextmanager
def serve(folder: Path, extra: str = "", accept: str = "LC_*") -> Iterator[Loopback]:
    """An sshd of our own; gone afterwards. ``accept`` is what it takes over of a client's environment."""
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if sshd is None:
        pytest.skip("no sshd on this machine: apt-get install openssh-server")
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    host_key = keygen(folder / "host_key")
    (folder / "secrets").mkdir()
    public = keygen(folder / "secrets" / "operator")
    # what lies among the secrets is taken for one
    (folder / "secrets" / "operator.pub").unlink()
    (folder / "authorized_keys").write_text(public + "\n")
    port = free_port()
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nPasswordAuthentication no\n"
        f"PermitRootLogin prohibit-password\nUseDNS no\nMaxStartups 100\nMaxSessions 100\n"
        f"AcceptEnv LANG {accept}\n{extra}"
    )
    with (folder / "sshd.log").open("wb") as log:
        server = subprocess.Popen([sshd, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log)
    try:
        _await(port, folder / "sshd.log", server)
        yield Loopback(
            folder=folder,
            port=port,
            host_key=" ".join(host_key.split()[:2]),
            store=Backends({"file": PrivateFiles(root=folder / "secrets")}),
            ssh=Ssh(key=SecretRef.parse("file:operator")),
            pid=server.pid,
        )
    finally:
        server.terminate()
        server.wait(10)


def _await(port: int, log: Path, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 10
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.02)


@pytest.fixture(scope="session", name="loopback")
def loopback_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    with serve(tmp_path_factory.mktemp("loopback")) as server:
        yield server
