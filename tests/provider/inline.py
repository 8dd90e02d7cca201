"""A stack on the real engine for tests: an inline program, file state in a temporary folder, our provider on PATH.

The Automation API starts the engine three more times around each operation; one start for each keeps the suite short.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
from pulumi.automation._server import LanguageServer
from pulumi.runtime.proto import language_pb2_grpc

PASSPHRASE = "passphrase of the tests"
PROJECT, STACK = "tests", "test"


class Failed(Exception):
    """The engine ended with an error; the text is all that it printed."""


class Inline:
    """One stack. ``program`` stays that of the last operation that named one."""

    def __init__(self, folder: Path, engine: Path, environment: Mapping[str, str] | None = None) -> None:
        for name in ("state", "work", "home"):
            (folder / name).mkdir()
        self.folder, self.engine = folder, engine
        self.state_folder = folder / "state"
        self.program: Callable[[], None] = lambda: None
        self.events: list[dict[str, Any]] = []
        self.environment = {
            "HOME": str(folder / "home"),
            "PULUMI_HOME": str(folder / "home"),
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "PULUMI_CONFIG_PASSPHRASE": PASSPHRASE,
            "PULUMI_BACKEND_URL": f"file://{self.state_folder}",
            "PULUMI_SKIP_UPDATE_CHECK": "1",
            "PULUMI_DEBUG_COMMANDS": "true",  # else there is no --event-log
            **(environment or {}),
        }
        (folder / "work" / "Pulumi.yaml").write_text(f"name: {PROJECT}\nruntime: python\n")
        self._run("stack", "init", STACK)

    def config(self, **values: Any) -> None:
        """Plain values and objects, as a Stack document's config becomes them."""
        file = self.folder / "work" / f"Pulumi.{STACK}.yaml"
        salt = file.read_text()
        lines = [f"  {PROJECT}:{name}: {json.dumps(value)}\n" for name, value in values.items()]
        file.write_text(salt + "config:\n" + "".join(lines))

    def up(self, program: Callable[[], None] | None = None) -> dict[str, int]:
        return self._operation(("up", "--yes", "--skip-preview"), program)

    def preview(self, program: Callable[[], None] | None = None) -> dict[str, int]:
        return self._operation(("preview",), program)

    def drift(self) -> dict[str, int]:
        """A refresh that changes nothing."""
        return self._operation(("refresh", "--preview-only"), None)

    def refresh(self) -> dict[str, int]:
        return self._operation(("refresh", "--yes", "--skip-preview"), None)

    def destroy(self) -> dict[str, int]:
        return self._operation(("destroy", "--yes", "--skip-preview"), None)

    def steps(self, operation: str) -> list[dict[str, Any]]:
        """The steps of our resources in the last operation."""
        found = [event["resourcePreEvent"]["metadata"] for event in self.events if "resourcePreEvent" in event]
        return [one for one in found if one["type"].startswith("ismgr:") and one["op"] == operation]

    def resources(self) -> list[dict[str, Any]]:
        """What the state remembers of our own resources."""
        return [one for one in self._remembered() if one["type"].startswith("ismgr:")]

    def outputs(self) -> dict[str, Any]:
        (root,) = [one for one in self._remembered() if one["type"] == "pulumi:pulumi:Stack"]
        return root["outputs"]

    def state_text(self) -> str:
        """Every byte of the state, backups and history included."""
        return "".join(file.read_text() for file in self.state_folder.rglob("*") if file.is_file())

    def preview_outputs(self) -> dict[str, Any]:
        """The stack's outputs as the last preview knew them."""
        found = [event["resOutputsEvent"]["metadata"] for event in self.events if "resOutputsEvent" in event]
        return [one for one in found if one["type"] == "pulumi:pulumi:Stack"][-1]["new"]["outputs"]

    def _remembered(self) -> list[dict[str, Any]]:
        file = self.state_folder / ".pulumi" / "stacks" / PROJECT / f"{STACK}.json"
        return json.loads(file.read_text())["checkpoint"]["latest"].get("resources", [])

    def _operation(self, argv: tuple[str, ...], program: Callable[[], None] | None) -> dict[str, int]:
        self.program = program or self.program
        log = self.folder / "events"
        log.unlink(missing_ok=True)
        server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
        language_pb2_grpc.add_LanguageRuntimeServicer_to_server(LanguageServer(self.program), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            self._run(
                *argv, "--stack", STACK, f"--client=127.0.0.1:{port}", "--exec-kind=auto.inline", f"--event-log={log}"
            )
        finally:
            server.stop(0).wait()
            lines = log.read_text().splitlines() if log.exists() else []
            self.events = [json.loads(line) for line in lines]
        (summary,) = [event["summaryEvent"] for event in self.events if "summaryEvent" in event]
        return summary["resourceChanges"] or {}

    def _run(self, *argv: str) -> None:
        done = subprocess.run(
            [self.engine, *argv, "--non-interactive", "--color=never"],
            cwd=self.folder / "work",
            env={**{name: os.environ[name] for name in ("LANG",) if name in os.environ}, **self.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode:
            raise Failed(done.stdout + done.stderr)
