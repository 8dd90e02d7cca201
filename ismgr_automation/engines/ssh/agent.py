"""A private ssh-agent that holds one key for the time of a run. The key goes in through a pipe and is never on disk."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from ismgr_automation.core.errors import EngineFailed, EngineMissing, InputError
from ismgr_automation.core.secret import Secret, SecretRef
from ismgr_automation.engines import process

ENGINE = "ssh-agent"
START = timedelta(seconds=20)
"""How long an agent may take to start."""
_PATIENCE_SECONDS = 5.0


@contextlib.contextmanager
def agent(secret: Secret, ref: SecretRef, socket: Path, start: timedelta = START) -> Iterator[Path]:
    """An agent on ``socket`` that holds the key. Gone afterwards, and gone too when this process dies.

    Raises ``InputError`` when the secret is no private key or has a passphrase, ``EngineMissing`` without OpenSSH,
    ``EngineFailed`` when the agent has not started within ``start``.
    """
    # the agent ends with the command that it started; that command ends when our end of the pipe closes - even when
    # we are killed. (ssh-agent is a set-group-id program, so the kernel's own parent death signal does not work on it)
    command = ["ssh-agent", "-a", str(socket), "sh", "-c", "echo $SSH_AGENT_PID; exec cat >&2"]
    try:
        keeper = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise EngineMissing(
            engine=ENGINE,
            needed="OpenSSH client",
            found=("PATH: no ssh-agent",),
            ways=("apt-get install openssh-client",),
        ) from error
    with keeper:
        pid = 0
        try:
            line = _first_line(keeper, start)
            if not line.isdigit():
                raise EngineFailed(
                    "The private ssh-agent did not start.",
                    engine=ENGINE,
                    subject=str(ref),
                    next_step=f"Run 'ssh-agent -a {socket.parent}/x true' by hand and see what it says.",
                )
            pid = int(line)
            _add(secret, ref, socket)
            yield socket
        finally:
            _end(keeper, pid)


def _first_line(keeper: subprocess.Popen[bytes], deadline: timedelta) -> bytes:
    """What the command that holds the agent says, which is one short write; nothing when it says nothing in time."""
    if keeper.stdout is None or not select.select([keeper.stdout], [], [], deadline.total_seconds())[0]:
        return b""
    return os.read(keeper.stdout.fileno(), select.PIPE_BUF).strip()


def _add(secret: Secret, ref: SecretRef, socket: Path) -> None:
    key = secret.reveal()
    done = process.run(
        ["ssh-add", "-q", "-"],
        engine="ssh-add",
        subject=str(ref),
        deadline=timedelta(seconds=20),
        # a secret has lost its last newline on the way, and OpenSSH wants one
        stdin=(key if key.endswith("\n") else key + "\n").encode(),
        env=_environment()
        | {"SSH_AUTH_SOCK": str(socket), "SSH_ASKPASS_REQUIRE": "force", "SSH_ASKPASS": "/bin/false"},
    )
    if done.code != 0:
        raise InputError(
            f"Secret {ref} is not a usable private SSH key.",
            next_step="It must be an OpenSSH or PEM private key without a passphrase; keep a key with one in your own"
            " agent and leave out 'key'.",
        )


def _end(keeper: subprocess.Popen[bytes], pid: int) -> None:
    if keeper.stdin:
        keeper.stdin.close()
    if not pid:
        keeper.kill()
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + _PATIENCE_SECONDS
    while _lives(pid):
        if time.monotonic() > until:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            return
        time.sleep(0.005)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "HOME": os.environ.get("HOME", "/"), "LANG": "C.UTF-8"}
