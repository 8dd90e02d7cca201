"""Bytes from one host to another through this process, over a real sshd: all of them, or a word about who failed."""

from __future__ import annotations

import hashlib
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from ismgr_automation.engines.ssh.piping import Carried, Pipe, carry
from ismgr_automation.engines.ssh.remote import Rights
from ismgr_automation.engines.ssh.warm import Load, Warm
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.packages import Fleet
from tests.engines.loopback import Loopback

SOON = timedelta(seconds=20)
MINE = Rights.USER
SIZE = 5_000_000
KEEP = 'IFS= read -r first; echo "$first" > "$1.first"; cat > "$1"'


def carried(
    server: Loopback, writes: str, reads: str, *words: str, cancelled: threading.Event | None = None
) -> Carried:
    hosts = [server.host(name) for name in ("one", "other")]
    fleet = Fleet(hosts=hosts, names=("one", "other"), ssh=server.ssh)
    pipe = Pipe(
        source="one",
        writes=Load(script=writes, rights=MINE),
        target="other",
        reads=Load(script=reads, arguments=words, input=("a line",), rights=MINE),
    )
    with Warm(fleet, server.store, threading.Event()) as warm:
        return carry(warm, pipe, SOON, cancelled or threading.Event())


def test_every_byte_arrives_after_the_lines_that_come_first(loopback: Loopback, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(hashlib.shake_256(b"seed").digest(SIZE))
    found = carried(loopback, f"cat {source}", KEEP, str(target))
    assert (found.trouble, found.size_bytes) == ("", SIZE)
    assert target.read_bytes() == source.read_bytes()
    assert Path(f"{target}.first").read_text() == "a line\n"


@pytest.mark.parametrize(
    ("writes", "reads", "words"),
    [
        ("echo half; echo 'the disk is gone' >&2; exit 3", KEEP, "one: the disk is gone"),
        ("head -c 9000000 /dev/zero", "IFS= read -r _; head -c 10 >&2; echo 'no room' >&2; exit 4", "other: "),
        ("head -c 9000000 /dev/zero", "exit 0", "other: it ended before all was carried"),
        ("echo all", "IFS= read -r _; cat >/dev/null; echo 'it does not unpack' >&2; exit 5", "other: it does not"),
    ],
)
def test_who_failed_is_told(loopback: Loopback, tmp_path: Path, writes: str, reads: str, words: str) -> None:
    found = carried(loopback, writes, reads, str(tmp_path / "target"))
    assert found.trouble.startswith(words)


def test_who_asks_for_an_end_gets_it(loopback: Loopback, tmp_path: Path) -> None:
    cancelled = threading.Event()
    cancelled.set()
    found = carried(loopback, "yes", KEEP, str(tmp_path / "target"), cancelled=cancelled)
    assert found.source.reach is Reach.TIMEOUT
    assert found.trouble == "one: it was stopped on request"
