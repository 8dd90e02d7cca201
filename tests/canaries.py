"""Canary secrets: what must not be found anywhere, where it may be, and the search. Used by the suite's own guard
(fixtures_canaries) and by tests that watch one run closely.

A canary is every string in a test that begins with ``canary-``, every line of every file that a backend keeps secrets
in (a folder named as in ``KEPT_IN``), and whatever a fixture told with ``learn``: a password that it made up.
"""

from __future__ import annotations

import ast
import base64
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Self

TESTS = Path(__file__).parent
PREFIX = "canary-"
SHORTEST = 8
"""Shorter texts are found by chance."""

KEPT_IN = ("secrets", ".secrets", ".secrets-plan")
"""Folders whose files are secrets: the file backend's own."""

MAY_HOLD: Mapping[str, str] = {
    "*/secrets/*": "the file backend's own",
    "*/.secrets/*": "the file backend's own",
    "*/.secrets-plan/*": "the file backend's own, of plan credentials",
    "*/outside": "a secret that lies beside the folder of its backend, and is refused",
    "*/estate[0-9]*/bmc/*": "the file backend's own, under another name",
    "*/ismgr/lab/*": "the lab's own: it makes up the secrets of its machines",
    "*/knot.conf": "a name server's own settings",
    "*/test_the_search_for_secrets_*/leak": "planted, and found by the test that plants it",
    "*/estate/sudo": "a rehearsed sudo, which knows the password that it asks for",
    "*/test_plain_ansible_playbook_*/db[12]": "what a playbook wrote on its host, which is this machine",
    "*/test_plain_ansible_playbook_*/out": "what a playbook wrote on its host, which is this machine",
    "*/pytest-*/*/target/*": "what a playbook wrote on its host, which is this machine",
}
"""Files that may hold a canary, and why."""

MAY_BE_GIVEN: Mapping[tuple[str, str], str] = {
    ("*", "variable PULUMI_CONFIG_PASSPHRASE"): "the engine takes its key in no other way",
    ("python*", "variable CANARY_ENV_*"): "the environment backend's own: ismgr, and what opens references",
    ("git", "variable CANARY_ENV_*"): "a tool of ours, with our own environment: it runs no proposed code",
    ("ssh*", "variable CANARY_ENV_*"): "the same; it sends none of it to a host",
    ("podman", "argument *"): "a test makes a user with a password on a machine of the lab, as a person would",
    ("sleep", "variable LEAK"): "planted, and found by the test that plants it",
    ("gcc", "variable CANARY_ENV_*"): "Python's own search for a shared library",
    ("collect2", "variable CANARY_ENV_*"): "Python's own search for a shared library",
    ("ld", "variable CANARY_ENV_*"): "Python's own search for a shared library",
    ("pulumi*", "variable CANARY_ENV_*"): "the engine passes on what its programs and providers open",
}
"""What children may be given a canary in (program, variable or argument), and why."""

REHEARSAL = "CANARY_REHEARSAL"
"""In the environment of a suite that a test starts to plant canaries, and of all below it: that suite finds them, and
whoever watches the test looks away."""

_HEADERS = ("-----", "$ANSIBLE_VAULT;")
_EVERY_KEY = "b3BlbnNzaC1rZXktdjEA"
"""The first line of every OpenSSH private key without a passphrase is the same."""

_learnt: set[str] = set()


def learn(value: str) -> str:
    """A secret that a fixture made up; gives it back."""
    _learnt.add(value)
    return value


def learnt() -> tuple[str, ...]:
    """What was learnt in this process."""
    return tuple(sorted(_learnt))


@cache
def spelled(folder: Path = TESTS) -> frozenset[str]:
    """Every string literal below a folder that begins with the prefix."""
    found: set[str] = set()
    for path in folder.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if PREFIX in text:
            strings = (node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant))
            found |= {one for one in strings if isinstance(one, str) and one.startswith(PREFIX)}
    return frozenset(found)


def kept(folder: Path) -> frozenset[str]:
    """The contents of the secret files below a folder; public halves are none, nor is the code of our own room for
    secrets in a copy of the package."""
    found: set[str] = set()
    for inner, folders, names in os.walk(folder):
        if Path(inner).name in KEPT_IN or any(part in KEPT_IN for part in Path(inner).relative_to(folder).parts):
            found |= {
                text
                for name in names
                if not name.endswith((".pub", ".py", ".pyc")) and (text := _text(Path(inner, name))) is not None
            }
        folders.sort()
    return frozenset(found)


def patterns(values: Iterable[str]) -> tuple[bytes, ...]:
    """What to search for: each line of each value, and how base64 would write it."""
    found: set[bytes] = set()
    for value in values:
        for line in map(str.strip, value.splitlines()):
            if len(line) >= SHORTEST and not line.startswith((*_HEADERS, _EVERY_KEY)):
                found |= {line.encode(), *_in_base64(line.encode())}
    return tuple(sorted(found))


def search(folders: Sequence[Path], wanted: Sequence[bytes]) -> tuple[Path, ...]:
    """The files below the folders that hold one of the patterns, the excepted ones left out, sorted.

    ``grep`` looks through a gigabyte in a second; the patterns go through a pipe.
    """
    there = [str(one) for one in folders if one.exists()]
    if not there or not wanted:
        return ()
    command = ["grep", "--recursive", "--files-with-matches", "--null", "--text", "--fixed-strings"]
    done = subprocess.run(
        [*command, "--devices=skip", "--file=-", "--", *there],
        input=b"\n".join(wanted) + b"\n",
        capture_output=True,
        check=False,
        env={"LC_ALL": "C", "PATH": os.environ.get("PATH", "/usr/bin:/bin")},
    )
    found = (Path(os.fsdecode(one)) for one in done.stdout.split(b"\0") if one)
    return tuple(sorted(one for one in found if not any(fnmatch(str(one), name) for name in MAY_HOLD)))


class Wanted:
    """What is searched for in short texts: what tests spell and what was learnt so far."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._values = frozenset(values)
        self._known = -1
        self._pattern = re.compile(b"(?!)")

    def search(self, text: bytes) -> bool:
        """Whether a canary is in it."""
        if self._known != len(_learnt):
            self._known = len(_learnt)
            escaped = [re.escape(one) for one in patterns(self._values | _learnt)]
            self._pattern = re.compile(b"|".join(escaped) or b"(?!)")
        return self._pattern.search(text) is not None


@dataclass(frozen=True, slots=True)
class Leak:
    """A canary in the arguments or the environment of a process. The value itself is not told."""

    program: str
    where: str

    def __str__(self) -> str:
        return f"{self.program}: {self.where}"


def given(
    program: str, arguments: Iterable[bytes], environment: Mapping[bytes, bytes], wanted: Wanted
) -> Iterator[Leak]:
    """Where a process has a canary: an argument by its number, a variable by its name."""
    found = [f"argument {number}" for number, one in enumerate(arguments) if wanted.search(one)]
    found += [f"variable {os.fsdecode(key)}" for key, value in environment.items() if wanted.search(value)]
    name = Path(program).name
    for where in found:
        if not any(fnmatch(name, left) and fnmatch(where, right) for left, right in MAY_BE_GIVEN):
            yield Leak(name, where)


@dataclass(slots=True)
class ProcessWatch:
    """Looks at every process below this one, again and again, for as long as it is open."""

    wanted: Wanted
    every: float = 0.5
    note: Callable[[Leak], None] = lambda _leak: None
    looks: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, name="canaries", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self.every):
            self.looks += 1
            for process in descendants(os.getpid()):
                for leak in looked_at(process, self.wanted):
                    self.note(leak)


def descendants(parent: int) -> tuple[int, ...]:
    """The processes below one, which has threads of its own."""
    found: list[int] = []
    todo = [parent]
    while todo:
        one = todo.pop()
        try:
            for task in Path(f"/proc/{one}/task").iterdir():
                children = [int(word) for word in (task / "children").read_text().split()]
                found += children
                todo += children
        except OSError:
            continue  # gone between the two looks
    return tuple(found)


def looked_at(process: int, wanted: Wanted) -> Iterator[Leak]:
    """What one living process shows to whoever may look."""
    try:
        arguments = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
        variables = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    except OSError:
        return
    environment = {key: value for key, mark, value in (one.partition(b"=") for one in variables) if mark}
    if REHEARSAL.encode() in environment and REHEARSAL not in os.environ:
        return
    yield from given(os.fsdecode(arguments[0] or b"?"), arguments, environment, wanted)


def _text(path: Path) -> str | None:
    try:
        # a test may have put a pipe there
        return path.read_bytes().decode() if path.is_file() else None
    except (OSError, UnicodeDecodeError):
        return None


def _in_base64(value: bytes) -> Iterator[bytes]:
    """The parts that are the same whatever stands before and after."""
    for shift in range(3):
        whole = base64.b64encode(b"\0" * shift + value)
        inner = whole[(0, 2, 3)[shift] : len(value + b"\0" * shift) // 3 * 4]
        if len(inner) >= SHORTEST:
            yield inner
