"""A command that keeps disks, called as an estate says: what it is given, how it ends, and what is told of it."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path

import pytest

from ismgr_automation.core.errors import Cancelled, Refused
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines.snapshots import THERE, CommandSnapshotter
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.memory import MemorySecretStore
from ismgr_automation.ports.upkeep import SnapshotRequest, Snapshotter
from tests.fixtures_lab import until

TOKEN = "hunter2-of-the-hypervisor"
STORE = """#!/bin/sh
# Keeps a file for each snapshot, in the folder that its first word names.
set -e
kept=$1/$3.$4
case $2 in
create) if [ -e "$kept" ]; then exit 3; fi; printf '%s' "$TOKEN" > "$kept" ;;
restore) cat "$kept" > "$1/disk" ;;
remove) rm "$kept" ;;
esac
"""


def script(folder: Path, text: str) -> None:
    path = folder / "snap" / "shot"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def asked(folder: Path, *words: str, deadline: float = 30.0, host: str = "web1.dc1") -> SnapshotRequest:
    return SnapshotRequest(
        host=host,
        name="ismgr-run",
        command=("snap/shot", *words),
        root=folder,
        deadline=timedelta(seconds=deadline),
        secrets={"TOKEN": SecretRef("env", "TOKEN")},
    )


@pytest.fixture
def snapshots() -> Snapshotter:
    return CommandSnapshotter(MemorySecretStore({"env:TOKEN": TOKEN}))


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(work=tmp_path)


def test_a_snapshot_is_made_once_put_back_and_removed(tmp_path: Path, snapshots: Snapshotter, context: Context) -> None:
    script(tmp_path, STORE)
    request = asked(tmp_path, str(tmp_path))
    made = snapshots.create(request, context)
    assert (made.ok, made.there, made.host) == (True, False, "web1.dc1")
    kept = tmp_path / "web1.dc1.ismgr-run"
    kept.write_text("as it was")
    again = snapshots.create(request, context)
    assert (again.ok, again.there) == (True, True)
    assert kept.read_text() == "as it was"
    assert snapshots.restore(request, context).ok
    assert (tmp_path / "disk").read_text() == "as it was"
    assert snapshots.remove(request, context).ok
    assert not kept.exists()


def test_the_command_is_started_in_the_estate_without_a_shell(
    tmp_path: Path, snapshots: Snapshotter, context: Context
) -> None:
    script(tmp_path, '#!/bin/sh\nprintf "%s\\n" "$@" > said; printf "%s" "$TOKEN" > token\n')
    odd = "; echo $(id) `id` *"
    assert snapshots.create(asked(tmp_path, odd), context).ok
    assert (tmp_path / "said").read_text().splitlines() == [odd, "create", "web1.dc1", "ismgr-run"]
    assert (tmp_path / "token").read_text() == TOKEN


@pytest.mark.parametrize("verb", ["create", "restore", "remove"])
def test_what_a_command_that_fails_has_said_is_told_without_its_secrets(
    tmp_path: Path, snapshots: Snapshotter, context: Context, verb: str
) -> None:
    script(tmp_path, '#!/bin/sh\necho working\necho "login with $TOKEN was refused" >&2\nexit 7\n')
    found = getattr(snapshots, verb)(asked(tmp_path), context)
    assert (found.ok, found.there) == (False, False)
    assert found.detail == f"{verb} ended with 7: login with <secret> was refused"


@pytest.mark.parametrize("verb", ["restore", "remove"])
def test_only_where_one_is_made_3_says_that_there_is_one(
    tmp_path: Path, snapshots: Snapshotter, context: Context, verb: str
) -> None:
    script(tmp_path, "#!/bin/sh\nexit 3\n")
    found = getattr(snapshots, verb)(asked(tmp_path), context)
    assert (found.ok, found.there, found.detail) == (False, False, f"{verb} ended with 3")


def test_the_lab_says_so_with_the_same_number() -> None:
    assert Refused("there is one").exit_code == THERE


def test_one_that_hangs_is_stopped_with_its_children_and_told(
    tmp_path: Path, snapshots: Snapshotter, context: Context
) -> None:
    script(tmp_path, '#!/bin/sh\necho "$TOKEN is waited for"\nsleep 600 & echo $! > child\nwait\n')
    found = snapshots.create(asked(tmp_path, deadline=5.0), context)
    assert not found.ok
    assert "did not finish within 5 s" in found.detail
    assert "<secret> is waited for" in found.detail
    assert TOKEN not in found.detail
    assert not Path("/proc", (tmp_path / "child").read_text().strip()).exists()


def test_a_command_that_is_not_there_is_a_result(tmp_path: Path, snapshots: Snapshotter, context: Context) -> None:
    found = snapshots.create(asked(tmp_path), context)
    assert (found.ok, found.detail) == (False, "snap/shot: no such file or directory")


def test_a_secret_that_cannot_be_opened_is_a_result_and_nothing_is_started(tmp_path: Path, context: Context) -> None:
    script(tmp_path, "#!/bin/sh\ntouch started\n")
    found = CommandSnapshotter(MemorySecretStore({})).create(asked(tmp_path), context)
    assert (found.ok, found.detail) == (False, "There is no secret env:TOKEN.")
    assert not (tmp_path / "started").exists()


def test_a_host_is_never_taken_for_an_option(tmp_path: Path, snapshots: Snapshotter, context: Context) -> None:
    script(tmp_path, "#!/bin/sh\ntouch started\n")
    assert not snapshots.create(asked(tmp_path, host="--all"), context).ok
    assert not (tmp_path / "started").exists()


def test_whoever_cancels_stops_it(tmp_path: Path, snapshots: Snapshotter) -> None:
    script(tmp_path, "#!/bin/sh\ntouch begun\nsleep 600\n")
    over = threading.Event()

    def stop() -> None:
        until("it has begun", (tmp_path / "begun").exists)
        over.set()

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(Cancelled):
        snapshots.create(asked(tmp_path), Context(work=tmp_path, cancelled=over))
    stopper.join()
