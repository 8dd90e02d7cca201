"""A stack to work on: a folder with a program, the probe provider on PATH, its world, and a PulumiEngine."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest

from ismgr_automation.core.address import stack
from ismgr_automation.core.events import Event
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines import process
from ismgr_automation.engines.pulumi.engine import PulumiEngine
from ismgr_automation.engines.secrets import Backends
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.stacks import StackRequest, UpdatePlan

PROVIDER = Path(__file__).parent / "probe_provider.py"

HEAD = """\
import pulumi

class Thing(pulumi.CustomResource):
    serial: pulumi.Output[str]
    def __init__(self, name, opts=None, **props):
        super().__init__("probe:index:Thing", name, {"world": WORLD, **props, "serial": None}, opts)

"""
FIRST_LINE = HEAD.count("\n") + 2
"""The line of a program's own first statement: WORLD stands before it."""


@dataclass
class Bench:
    """One estate folder with programs, a world, a state and an engine."""

    root: Path
    engine: PulumiEngine
    requests: dict[str, StackRequest] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    cancelled: threading.Event = field(default_factory=threading.Event)

    @property
    def world(self) -> Path:
        return self.root / "world"

    @property
    def state_folder(self) -> Path:
        return self.root / "state"

    @property
    def work(self) -> Path:
        return self.root / "work"

    def program(self, code: str, *, name: str = "things", head: str = HEAD, **more: object) -> StackRequest:
        """Write a program; the request for it. The stack has the same name."""
        folder = self.root / "stacks" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "Pulumi.yaml").write_text(f"name: {name}\nruntime: python\n")
        world = f"WORLD = {str(self.world)!r}\n" if head else ""
        (folder / "__main__.py").write_text(head + world + textwrap.dedent(code))
        asked = StackRequest(
            address=stack(name),
            program=folder,
            stack=name,
            state=f"file://{self.state_folder}",
            passphrase=SecretRef("env", "PROBE_PASSPHRASE"),
            config={},
            secret_backends={},
            deadline=timedelta(minutes=2),
        )
        return replace(asked, **more)  # type: ignore[arg-type]

    @property
    def context(self) -> Context:
        return Context(work=self.work, emit=self.events.append, cancelled=self.cancelled)

    def preview(self, asked: StackRequest):
        return self.engine.preview(asked, self.context)

    def up(self, asked: StackRequest, plan: UpdatePlan | None = None, **more: object):
        return self.engine.up(asked, replace(self.context, **more), plan)  # type: ignore[arg-type]

    def recover(self, asked: StackRequest, **more: object):
        return self.engine.recover(asked, replace(self.context, **more))  # type: ignore[arg-type]

    def destroy(self, asked: StackRequest, **more: object):
        return self.engine.destroy(asked, replace(self.context, **more))  # type: ignore[arg-type]

    def things(self) -> dict[str, dict[str, object]]:
        """What is in the world now."""
        return {path.stem: json.loads(path.read_text()) for path in sorted(self.world.glob("*.json"))}

    def change(self, name: str, **properties: object) -> None:
        """Somebody changes the world by hand."""
        path = self.world / f"{name}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | properties))

    def locks(self) -> list[Path]:
        return [path for path in (self.state_folder / ".pulumi" / "locks").rglob("*.json") if path.is_file()]

    def written(self) -> bytes:
        """Every byte below the bench's folder."""
        return b"".join(path.read_bytes() for path in self.root.rglob("*") if path.is_file())


APPLY = """
import sys
from datetime import timedelta
from pathlib import Path

from ismgr_automation.core.address import stack
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines.pulumi.engine import PulumiEngine
from ismgr_automation.engines.pulumi.locate import Engine, Origin
from ismgr_automation.engines.secrets import Backends
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.stacks import StackRequest

root = Path(sys.argv[1])
found = Engine(path=Path(sys.argv[2]), version="3.230.0", origin=Origin.CACHE)
asked = StackRequest(
    address=stack("things"), program=root / "stacks/things", stack="things", state=f"file://{root}/state",
    passphrase=SecretRef("env", "PROBE_PASSPHRASE"), config={}, secret_backends={}, deadline=timedelta(minutes=2),
)
PulumiEngine(lambda: found, Backends({}), root).up(asked, Context(work=root / "work"))
"""


@contextlib.contextmanager
def apply_elsewhere(bench: Bench, engine: Path) -> Iterator[subprocess.Popen[bytes]]:
    """An apply of the stack ``things`` by another process of ours, to be killed; its work folder is ours to remove."""
    before = our_processes()  # servers that other tests share live on
    started = subprocess.Popen([sys.executable, "-c", APPLY, str(bench.root), str(engine)], stderr=subprocess.PIPE)
    try:
        yield started
    finally:
        started.kill()
        started.communicate()
        wait_for(lambda: not (our_processes() | left(bench)) - before - {os.getpid()})
        for folder in bench.work.iterdir():
            shutil.rmtree(folder)


def left(bench: Bench) -> set[int]:
    """Processes that work in the bench's folder, whoever their parent is by now."""
    found = set()
    for pid, _, state in process._processes():
        if state not in "ZX" and pid != os.getpid():
            with contextlib.suppress(OSError):
                if str(bench.root) in str(Path(f"/proc/{pid}/cwd").readlink()):
                    found.add(pid)
    return found


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "what was waited for did not come"
        time.sleep(0.02)


def our_processes() -> set[int]:
    """Every living process below this one."""
    parents: dict[int, int] = {}
    for pid, _, state in process._processes():
        if state not in "ZX":
            try:
                stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents[pid] = int(stat[stat.rindex(")") + 2 :].split()[1])
    ours: set[int] = set()
    for pid in parents:
        chain, one = [], pid
        while one in parents and one not in chain:
            chain.append(one)
            one = parents[one]
        if os.getpid() in chain[1:] or (os.getpid() == one and pid != os.getpid()):
            ours.add(pid)
    return ours


@pytest.fixture
def probe_bin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "pulumi-resource-probe"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{PROVIDER}" "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


@pytest.fixture
def bench(tmp_path: Path, probe_bin: Path, pulumi_engine, monkeypatch: pytest.MonkeyPatch):
    root = tmp_path / "estate"
    for name in ("world", "state", "work", "stacks"):
        (root / name).mkdir(parents=True)
    monkeypatch.setenv("PROBE_PASSPHRASE", "open-sesame-4711")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    engine = PulumiEngine(lambda: pulumi_engine, Backends({}), root)
    made = Bench(root=root, engine=engine)
    threads, before = threading.active_count(), our_processes()
    yield made
    wait_for(lambda: threading.active_count() <= threads and our_processes() <= before)
    assert list(made.work.iterdir()) == []
