"""What a probe is given, and its log: one JSON object a line, appended as things happen, readable while it is written.
A line that was torn by a kill or a full disk counts as not written.

Lines: ``{"probe": PID, "born": ..., "boot": ..., "run": ..., "owner": ..., "after": NUMBER}`` by each process that
begins to write; an attempt with the fields of ``ports.recovery.Attempt``; ``{"owner": ...}`` by one that was adopted;
``{"ended": WHY}``. Each line goes to the kernel at once and so outlives the process, however that dies. It is not
forced to the disk: that would cost more than the write that is measured, and a machine that loses its power loses the
log's clock with it."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ismgr_automation.core.secret import Secret
from ismgr_automation.ports.recovery import Attempt, Outcome

NAME = "probe.log"
OWNER = "probe.owner"
"""Beside it: who adopts a probe whose owner is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the process is given. ``owner`` as ``born`` says it."""

    run: str
    folder: str
    endpoints: tuple[str, ...]
    database: str
    user: str
    table: str
    every_ns: int
    patience_ns: int
    linger_ns: int
    owner: str
    first: int = 1
    """The first number of a log that has none yet."""
    manners: str = "good"
    resolvers: tuple[str, ...] = ()

    def written(self, password: Secret) -> bytes:
        """For the pipe."""
        return json.dumps(asdict(self) | {"password": password.reveal()}).encode()


def born(pid: int) -> str:
    """What tells a living process from another that gets its number later; empty when there is none, or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] in "ZX" else f"{pid}:{fields[19]}"


def lives(process: str) -> bool:
    """Whether one that ``born`` told of still does."""
    return bool(process) and born(int(process.partition(":")[0])) == process


def boot() -> str:
    """The id of this boot of the machine: its monotonic clock is comparable within one only."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def in_use(path: Path) -> bool:
    """Whether a process writes to this log, or could."""
    try:
        LogWriter(path).close()
    except BlockingIOError:
        return True
    return False


@dataclass(slots=True)
class LogReader:
    """What is in a log so far; ``read`` takes what was added since."""

    path: Path
    attempts: list[Attempt] = field(default_factory=list)
    pid: int = 0
    born: str = ""
    boot: str = ""
    run: str = ""
    owner: str = ""
    """Who began it, or adopted it last; as ``born`` says it."""
    ended: str = ""
    """Why its last process ended; empty when it is at work or was killed."""
    last: int = 0
    """The highest number that was used, here or in a log before."""
    _offset: int = 0

    @property
    def whole_bytes(self) -> int:
        """The length up to the last line that was written to its end."""
        return self._offset

    def read(self) -> None:
        """Take what was added. A log that is not there has nothing in it."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        for line in whole.splitlines():
            self._line(json.loads(line))
        self._offset += len(whole)

    def _line(self, said: Mapping[str, object]) -> None:
        match said:
            case {"number": int(number), "sent_ns": int(sent), "ended_ns": int(ended), "outcome": str(outcome)}:
                self.last = number
                self.attempts.append(
                    Attempt(
                        number=number,
                        sent_ns=sent,
                        ended_ns=ended,
                        outcome=Outcome(outcome),
                        endpoint=str(said.get("endpoint", "")),
                        cause=str(said.get("cause", "")),
                    )
                )
            case {"probe": int(pid), "born": str(born_), "boot": str(boot_), "run": str(run), "owner": str(owner)}:
                self.pid, self.born, self.boot, self.run, self.owner, self.ended = pid, born_, boot_, run, owner, ""
                after = said.get("after")
                self.last = max(self.last, after if isinstance(after, int) else 0)
            case {"owner": str(owner)}:
                self.owner = owner
            case {"ended": str(why)}:
                self.ended = why
            case _:
                pass  # a later version may say more


class LogWriter:
    """The one process that appends to a log: it holds a lock for as long as it lives."""

    def __init__(self, path: Path) -> None:
        """Raises ``BlockingIOError`` when somebody else writes to it."""
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise

    def close(self) -> None:
        """Let it go."""
        os.close(self._file)

    def mend(self, before: LogReader, now_ns: int) -> None:
        """Make good what a killed writer left: its torn line goes, and the number that it may have been writing, which
        is at most one, is UNKNOWN."""
        os.ftruncate(self._file, before.whole_bytes)
        if before.run and not before.ended:
            lost = Attempt(
                number=before.last + 1,
                # nobody knows when; so the time since the last one stays what it is, one that nobody watched
                sent_ns=now_ns,
                ended_ns=now_ns,
                outcome=Outcome.UNKNOWN,
                endpoint="",
                cause="the probe was killed; nobody knows whether it had sent this one",
            )
            self.attempt(lost)
            self.ended("it was killed")

    def begun(self, run: str, owner: str, after: int = 0) -> None:
        """Say who writes from here on, for whom, and after which number."""
        pid = os.getpid()
        self._say({"probe": pid, "born": born(pid), "boot": boot(), "run": run, "owner": owner, "after": after})

    def attempt(self, one: Attempt) -> None:
        """Say what became of a write."""
        said: dict[str, object] = {
            "number": one.number,
            "sent_ns": one.sent_ns,
            "ended_ns": one.ended_ns,
            "outcome": one.outcome.value,
            "endpoint": one.endpoint,
        }
        self._say(said | {"cause": one.cause} if one.cause else said)

    def adopted(self, owner: str) -> None:
        """Say whom it belongs to now."""
        self._say({"owner": owner})

    def ended(self, why: str) -> None:
        """Say that nothing more comes."""
        self._say({"ended": why})

    def _say(self, said: Mapping[str, object]) -> None:
        os.write(self._file, json.dumps(said, separators=(",", ":")).encode() + b"\n")
