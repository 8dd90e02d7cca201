"""The worker process of one operation: reads one JSON request on standard input, runs the program and the engine, and
writes JSON lines on standard output. It decides nothing and keeps nothing on disk.

``python -m ismgr_automation.engines.pulumi.worker``; the request is ``{"argv", "cwd", "environment", "events",
"program", "main", "secrets", "plan"}``, where ``plan`` is empty, ``{"save": {"stack", "passphrase", "known"}}`` or
``{"use": TEXT}``. Lines out: ``{"engine": PID}``, ``{"event": {...}}`` (an engine event, debugging left out),
``{"problem": {...}}`` (what the program raised), ``{"said": LINE}`` (the engine's standard error),
``{"refused": {"resource", "why"}}`` (a step that the plan does not hold), ``{"plan": {"digest", "sealed"}}`` and last
``{"exit": CODE}``. What the program prints goes to our standard error.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from ismgr_automation.engines.pulumi.update_plan import keys, refusal, sealed

if TYPE_CHECKING:
    from grpc import Server  # type: ignore[import-untyped]

END = b'{"end":true}\n'
"""We write this into the event pipe ourselves once the engine has ended: its reader knows that nothing follows."""


class _Lines:
    """The way back to the parent: whole JSON lines, from any thread."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, **body: Any) -> None:
        line = json.dumps(body, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            self._stream.write(line)
            self._stream.flush()


def main() -> None:
    """Do one operation and end the process without unwinding: the SDK is noisy when it is taken down."""
    lines = _Lines(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)  # whatever the program or a library prints must not get between our lines
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    signal.signal(signal.SIGINT, _leave_it_to_the_engine)
    request = json.loads(sys.stdin.buffer.read())
    server, port = _serve(request, lines) if request["main"] else (None, 0)
    argv = [*request["argv"], *([f"--client=127.0.0.1:{port}", "--exec-kind=auto.inline"] if server else [])]
    with _PlanFile(request["plan"]) as plan:
        code = _engine([*argv, *plan.flags], request, lines)
        if code == 0:
            plan.tell(lines)
    lines.send(exit=code)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os._exit(0)


def _leave_it_to_the_engine(_number: int, _frame: FrameType | None) -> None:
    """The engine is in our process group and gets the same SIGINT; it must be able to ask us for the program's end."""


def _engine(argv: list[str], request: Mapping[str, Any], lines: _Lines) -> int:
    events = Path(request["events"])
    os.mkfifo(events, 0o600)  # a pipe and no file: debugging events hold secrets in clear
    writing = os.open(events, os.O_RDWR)
    reader = threading.Thread(target=_forward_events, args=(events, lines), daemon=True)
    reader.start()
    with subprocess.Popen(
        [*argv, f"--event-log={events}"],
        cwd=request["cwd"],
        env=request["environment"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as child:
        lines.send(engine=child.pid)
        if child.stderr is not None:
            for line in child.stderr:
                lines.send(said=line.decode("utf-8", errors="replace").rstrip("\r\n"))
        code = child.wait()
    os.write(writing, END)
    reader.join()
    return code


class _PlanFile:
    """The engine's plan as a file in memory: it holds secrets in clear, which never come onto a disk."""

    def __init__(self, asked: Mapping[str, Any]) -> None:
        self._asked = asked
        self._file = os.memfd_create("plan") if asked else -1
        if "use" in asked:
            with os.fdopen(os.dup(self._file), "w") as file:
                file.write(asked["use"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._asked:
            os.close(self._file)

    @property
    def flags(self) -> tuple[str, ...]:
        """What the engine is told."""
        path = f"/proc/{os.getpid()}/fd/{self._file}"
        match self._asked:
            case {"use": _}:
                return (f"--plan={path}",)
            case {"save": _}:
                return (f"--save-plan={path}", "--show-secrets")
            case _:
                return ()

    def tell(self, lines: _Lines) -> None:
        """Seal what the engine has saved and hand it over."""
        if "save" not in self._asked:
            return
        with os.fdopen(os.dup(self._file)) as file:
            file.seek(0)
            text = file.read()
        asked = self._asked["save"]
        plan = sealed(text, asked["stack"], keys(asked["passphrase"], asked["stack"], asked["known"]))
        lines.send(plan={"digest": plan.digest, "sealed": plan.sealed})


def _forward_events(path: Path, lines: _Lines) -> None:
    with path.open("rb") as pipe:
        for line in pipe:
            if line == END:
                return
            event = json.loads(line)
            said = event.get("diagnosticEvent", {})
            # the engine prints what it refuses with both values in clear, secret or not
            if said.get("severity") == "error" and (why := refusal(said.get("urn", ""), said["message"])) is not None:
                lines.send(refused={"resource": why[0], "why": why[1]})
            elif said.get("severity") != "debug":
                lines.send(event=event)


def _serve(request: Mapping[str, Any], lines: _Lines) -> tuple[Server, int]:
    """Serve the program to the engine as an inline program of the Automation API; returns the server and its port."""
    from concurrent.futures import ThreadPoolExecutor

    import grpc
    from pulumi.automation._server import LanguageServer
    from pulumi.runtime._grpc_settings import _GRPC_CHANNEL_OPTIONS
    from pulumi.runtime.proto import language_pb2_grpc

    secrets: Mapping[str, str] = request["secrets"]

    class Program(LanguageServer):
        """The SDK's server of inline programs; secrets of the project join its configuration here, in memory."""

        def Run(self, run: Any, context: Any) -> Any:  # noqa: N802  the name is the protocol's
            for key, value in secrets.items():
                run.config[key] = value
                run.configSecretKeys.append(key)
            answer = super().Run(run, context)  # type: ignore[no-untyped-call]
            if answer.error and not problem.is_set():
                lines.send(problem={"text": answer.error, "frames": []})
            return answer

    problem = threading.Event()
    server = grpc.server(ThreadPoolExecutor(max_workers=4), options=_GRPC_CHANNEL_OPTIONS)
    program = _program(Path(request["program"]), Path(request["main"]), lines, problem)
    language_pb2_grpc.add_LanguageRuntimeServicer_to_server(Program(program), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


def _program(folder: Path, main_file: Path, lines: _Lines, problem: threading.Event) -> Callable[[], None]:
    """The stack's own program as a function, run as ``python __main__.py`` in its folder would run it."""

    def run() -> None:
        os.chdir(folder)
        sys.dont_write_bytecode = True  # the folder is the user's: nothing of ours stays in it
        sys.path[0] = str(main_file.parent)
        sys.argv = [str(main_file)]
        try:
            runpy.run_path(str(main_file), run_name="__main__")
        except BaseException as error:
            problem.set()
            lines.send(problem=_described(error))
            raise

    return run


def _described(error: BaseException) -> dict[str, Any]:
    frames = [{"path": one.filename, "line": one.lineno} for one in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        frames.append({"path": error.filename, "line": error.lineno or 1})
    kind = type(error).__name__
    return {"text": f"{kind}: {error}" if str(error) else kind, "frames": frames}


if __name__ == "__main__":
    main()
