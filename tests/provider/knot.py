"""A real Knot server on a loopback port for tests: one zone, one TSIG key, gone after the with."""

from __future__ import annotations

import base64
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ZONE = "two-sites.test"
KEY = "ismgr-update"
SECRET = base64.b64encode(b"a secret of the tests, 32 bytes.").decode()
KNOTD = shutil.which("knotd") or "/usr/sbin/knotd"


@dataclass(frozen=True)
class Knot:
    port: int


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextmanager
def running(folder: Path) -> Iterator[Knot]:
    port = _free_port()
    for name in ("run", "zones", "db"):
        (folder / name).mkdir()
    (folder / "knot.conf").write_text(
        f"""
server:
  rundir: {folder}/run
  listen: 127.0.0.1@{port}
database:
  storage: {folder}/db
key:
  - id: {KEY}
    algorithm: hmac-sha256
    secret: {SECRET}
  - id: reader
    algorithm: hmac-sha256
    secret: {SECRET}
acl:
  - id: update
    key: {KEY}
    action: [update, transfer]
zone:
  - domain: {ZONE}
    storage: {folder}/zones
    file: zone
    acl: update
"""
    )
    (folder / "zones" / "zone").write_text(
        f"$ORIGIN {ZONE}.\n$TTL 60\n@ SOA ns hostmaster 1 60 60 600 60\n@ NS ns\nns A 127.0.0.1\n"
        "theirs A 192.0.2.99\nalias CNAME ns\n"
    )
    log = (folder / "log").open("wb")
    server = subprocess.Popen([KNOTD, "-c", folder / "knot.conf"], stdout=log, stderr=log)
    try:
        _wait_for(port, server, folder / "log")
        yield Knot(port)
    finally:
        server.terminate()
        server.wait(10)
        log.close()


def _wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 15
    while time.monotonic() < end:
        assert server.poll() is None, log.read_text()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError(log.read_text())
