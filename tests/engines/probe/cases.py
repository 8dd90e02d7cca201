"""Requests, a store and waiting, for tests of the probe; and the owner that some of them kill.

``python -m tests.engines.probe.cases`` starts a probe as it is told on its standard input, says its process id, and
waits until it is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from ismgr_automation.core.secret import Secret, SecretRef
from ismgr_automation.engines.probe import PostgresqlProbe
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.recovery import ProbeRequest

ROOT = Path(__file__).parents[3]
TABLE = "ismgr_probe"
PATIENT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class OneSecret:
    """A store with one secret under every reference."""

    value: Secret

    def open(self, _ref: SecretRef) -> Secret:
        return self.value

    def version(self, _ref: SecretRef) -> str:
        return ""


def request(folder: Path, ports: Sequence[int], database: str = "postgres", **more: object) -> ProbeRequest:
    fields: dict[str, object] = {
        "run": "run-1",
        "endpoints": tuple(f"127.0.0.1:{port}" for port in ports),
        "database": database,
        "user": "ismgr",
        "password": SecretRef.parse("file:probe"),
        "table": TABLE,
        "every": timedelta(milliseconds=5),
        "patience": timedelta(seconds=5),
        "folder": folder,
        "linger": timedelta(seconds=PATIENT_SECONDS),
        **more,
    }
    return ProbeRequest(**fields)  # type: ignore[arg-type]


def wait_until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENT_SECONDS
    while not condition():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.01)


@contextmanager
def owned(asked: ProbeRequest, password: Secret) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Another process that owns a probe, and the probe's process id. It is killed in the end."""
    told = {
        "folder": str(asked.folder),
        "ports": [int(one.rpartition(":")[2]) for one in asked.endpoints],
        "database": asked.database,
        "linger": asked.linger.total_seconds(),
        "password": password.reveal(),
    }
    command = [sys.executable, "-m", "tests.engines.probe.cases"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as owner:
        assert owner.stdin is not None
        assert owner.stdout is not None
        owner.stdin.write(json.dumps(told).encode() + b"\n")
        owner.stdin.flush()
        line = owner.stdout.readline()
        assert line, "the owner did not begin"
        try:
            yield owner, int(line)
        finally:
            owner.kill()


def main() -> None:
    told = json.loads(sys.stdin.readline())
    asked = request(Path(told["folder"]), told["ports"], told["database"], linger=timedelta(seconds=told["linger"]))
    client = PostgresqlProbe(store=OneSecret(Secret(told["password"])))
    running = client.start(asked, Context(work=Path(told["folder"])))
    sys.stdout.write(f"{running.log.pid}\n")
    sys.stdout.flush()
    sys.stdin.read()  # until we are killed: nobody closes it before


if __name__ == "__main__":
    main()
