"""Evidence in files: what is on disk after it was said to be, whatever happened in the middle."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ismgr_automation.core.address import stack
from ismgr_automation.core.errors import EngineFailed
from ismgr_automation.engines import evidence_files
from ismgr_automation.engines.evidence_files import FileEvidenceLog
from ismgr_automation.evidence.audit import Audit, Claims, Fault, verify
from ismgr_automation.evidence.chain import Kind, parse
from ismgr_automation.evidence.entries import Noticed, RunClosed
from ismgr_automation.evidence.recorder import ChainRecorder
from ismgr_automation.planning.change import Level
from ismgr_automation.ports.evidence import EMPTY, NAMESPACE, line_digest
from ismgr_automation.ports.runs import RunState
from ismgr_automation.ports.signing import Signature, embedded_key
from tests.evidence.chains import DigestVerifier

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DONE = RunClosed(state=RunState.DONE, exit_code=0, landed=1)


class Keygen:
    """The plain tool, with a key file of its own."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "runner"
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(self.path)]
        subprocess.run(argv, check=True, timeout=30)
        self.public = self.path.with_suffix(".pub").read_text().strip()

    def sign(self, data: bytes, namespace: str) -> Signature:
        argv = ["ssh-keygen", "-Y", "sign", "-q", "-f", str(self.path), "-n", namespace]
        done = subprocess.run(argv, input=data, check=True, capture_output=True, timeout=30)
        return Signature(armored=done.stdout.decode(), key=self.public)


def recorder(root: Path, run: str, **more: object) -> ChainRecorder:
    log = FileEvidenceLog(root, "lab")
    return ChainRecorder(log=log, environment="lab", run=run, clock=lambda: NOON, **more)  # type: ignore[arg-type]


def noticed(what: str = "stack/a") -> Noticed:
    return Noticed(level=Level.ADVISE, subject=stack("a"), summary=what)


def audit(root: Path) -> Audit:
    return verify(FileEvidenceLog(root, "lab").read(), Claims(environment="lab"), DigestVerifier())


def whole(root: Path, runs: int = 2) -> list[Path]:
    """Closed runs; gives their files."""
    for number in range(1, runs + 1):
        mine = recorder(root, f"run-{number}")
        mine.write(noticed(), noticed("stack/b"))
        mine.close(DONE)
    return sorted((root / "lab").glob("*.jsonl"))


def test_each_run_has_a_file_of_its_own_and_the_chain_goes_on(tmp_path: Path) -> None:
    files = whole(tmp_path)
    assert [one.name for one in files] == ["000001-run-1.jsonl", "000002-run-2.jsonl"]
    log = FileEvidenceLog(tmp_path, "lab")
    assert log.segments() == ("run-1", "run-2")
    lines = list(log.read())
    assert list(log.read("run-2")) == lines[3:]
    assert [parse(line).sequence for line in lines] == [1, 2, 3, 4, 5, 6]
    assert log.head().digest == line_digest(lines[-1])
    assert audit(tmp_path).ok


def test_a_log_that_was_never_written_is_empty(tmp_path: Path) -> None:
    log = FileEvidenceLog(tmp_path, "lab")
    assert (list(log.read()), log.segments(), log.signatures()) == ([], (), {})
    assert not (tmp_path / "lab").exists(), "looking writes nothing"
    assert log.head() == EMPTY


def test_nobody_else_can_read_or_change_what_was_written(tmp_path: Path) -> None:
    [file] = whole(tmp_path, 1)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_the_closing_signature_is_one_that_plain_ssh_keygen_takes(tmp_path: Path) -> None:
    key = Keygen(tmp_path)
    mine = recorder(tmp_path, "run-1", signer=key)
    mine.write(noticed())
    closing = mine.close(DONE)
    file = tmp_path / "lab/000001-run-1.jsonl"
    (tmp_path / "allowed").write_text(f'runner namespaces="{NAMESPACE}" {key.public}\n')
    told = subprocess.run(
        ["ssh-keygen", "-Y", "verify", "-f", "allowed", "-I", "runner", "-n", NAMESPACE, "-s", f"{file}.sig"],
        cwd=tmp_path,
        input=file.read_bytes().splitlines()[-1],
        check=True,
        capture_output=True,
        timeout=30,
    )
    assert b"Good" in told.stdout
    assert closing.head == FileEvidenceLog(tmp_path, "lab").head()
    [signature] = FileEvidenceLog(tmp_path, "lab").signatures().values()
    assert signature.key.split()[:2] == key.public.split()[:2]


@pytest.mark.parametrize("text", ["", "gossip", "-----BEGIN SSH SIGNATURE-----\n%%%\n-----END SSH SIGNATURE-----"])
def test_what_is_no_signature_has_no_key(text: str) -> None:
    assert embedded_key(text) == ""


def test_a_run_that_goes_on_after_another_gets_a_second_file(tmp_path: Path) -> None:
    first = recorder(tmp_path, "run-1")
    first.write(noticed())
    first.abandon()
    other = recorder(tmp_path, "run-2")
    other.write(noticed())
    other.close(DONE)
    again = recorder(tmp_path, "run-1")
    again.write(noticed())
    again.abandon()
    once_more = recorder(tmp_path, "run-1")
    once_more.write(noticed())
    names = [one.name for one in sorted((tmp_path / "lab").glob("*.jsonl"))]
    assert names == ["000001-run-1.jsonl", "000002-run-2.jsonl", "000003-run-1.jsonl"]
    assert len(list(once_more.log.read("run-1"))) == 3
    assert audit(tmp_path).ok


def test_who_takes_the_pen_writes_and_the_one_before_writes_no_more(tmp_path: Path) -> None:
    first = recorder(tmp_path, "run-1")
    first.write(noticed())
    second = recorder(tmp_path, "run-1")
    second.write(noticed())
    with pytest.raises(EngineFailed, match=f"process {os.getpid()} on this machine is writing it now"):
        first.write(noticed())
    second.close(DONE)
    assert [parse(line).sequence for line in second.log.read()] == [1, 2, 3]
    assert audit(tmp_path).ok


def test_a_writer_in_the_middle_of_a_write_is_waited_for_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence_files, "PATIENCE_SECONDS", 0.05)
    recorder(tmp_path, "run-1").write(noticed())
    with (tmp_path / "lab" / ".lock").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(EngineFailed, match=f"process {os.getpid()} on this machine is in the middle of a write"):
            recorder(tmp_path, "run-2").write(noticed())
    recorder(tmp_path, "run-2").write(noticed())


@settings(max_examples=40)
@given(cut=st.integers(1, 200))
def test_half_a_line_is_cut_off_kept_beside_and_told(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    root = tmp_path_factory.mktemp("log")
    [file] = whole(root, 1)
    before = file.read_bytes()
    last = len(before.splitlines()[-1])
    cut = min(cut, last)
    file.write_bytes(before[:-cut])
    mine = recorder(root, "run-2")
    mine.write(noticed())
    records = [parse(line) for line in mine.log.read()]
    kept = before[: -last - 1]
    assert file.read_bytes() == kept
    assert file.with_name(f"{file.name}.{len(kept)}.torn").read_bytes() == before[len(kept) : -cut]
    assert [one.kind for one in records] == [Kind.FINDING, Kind.FINDING, Kind.RECOVERED, Kind.FINDING]
    assert records[2].body["cut_bytes"] == last + 1 - cut
    assert audit(root).ok


def test_a_new_segment_that_holds_half_a_line_only_is_no_end(tmp_path: Path) -> None:
    whole(tmp_path, 1)
    (tmp_path / "lab/000002-run-2.jsonl").write_bytes(b'{"at":"2026')
    mine = recorder(tmp_path, "run-3")
    mine.write(noticed())
    assert [parse(line).sequence for line in mine.log.read()] == [1, 2, 3, 4, 5]
    assert audit(tmp_path).ok


def test_a_last_line_that_is_no_record_lets_nobody_write(tmp_path: Path) -> None:
    [file] = whole(tmp_path, 1)
    file.write_bytes(file.read_bytes() + b"gossip\n")
    with pytest.raises(EngineFailed, match="its last line is no record"):
        recorder(tmp_path, "run-2").write(noticed())
    assert Fault.UNREADABLE in {one.fault for one in audit(tmp_path).problems}


def test_lines_that_do_not_follow_are_not_written(tmp_path: Path) -> None:
    [file] = whole(tmp_path, 1)
    before = file.read_bytes()
    log = FileEvidenceLog(tmp_path, "lab")
    with pytest.raises(EngineFailed, match="do not follow"):
        log.append("run-2", [before.splitlines()[0]])
    assert file.read_bytes() == before


@settings(max_examples=30)
@given(st.data())
def test_every_byte_of_the_files_that_is_flipped_is_found(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("log")
    files = whole(root)
    file = data.draw(st.sampled_from(files))
    content = bytearray(file.read_bytes())
    # the last line is what signatures and anchors are for
    end = len(content) if file != files[-1] else len(content) - len(content.splitlines()[-1]) - 1
    content[data.draw(st.integers(0, end - 1))] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    assert not audit(root).ok


def child(code: str, root: Path) -> subprocess.Popen[str]:
    """A process of its own that writes into the log."""
    head = f"""
        import resource, sys
        from pathlib import Path
        from ismgr_automation.core.errors import EngineFailed
        from tests.engines.test_evidence_files import noticed, recorder
        mine = recorder(Path({str(root)!r}), "run-1")
    """
    text = textwrap.dedent(head) + textwrap.dedent(code)
    return subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)


def test_whatever_was_said_to_be_written_is_there_after_a_kill(tmp_path: Path) -> None:
    writer = child(
        """
        for number in range(100_000):
            mine.write(noticed(f"stack/{number}"), noticed(f"stack/{number}-b"))
            print(number, flush=True)
        """,
        tmp_path,
    )
    assert writer.stdout is not None
    for line in writer.stdout:
        if int(line) >= 50:
            break
    writer.kill()
    said = [line, *writer.stdout]
    writer.wait(30)
    last = int([one for one in said if one.endswith("\n")][-1])
    told = {parse(one).body["summary"] for one in FileEvidenceLog(tmp_path, "lab").read() if one.endswith(b"}")}
    assert told >= {f"stack/{number}{part}" for number in range(last + 1) for part in ("", "-b")}
    after = recorder(tmp_path, "run-2")
    after.write(noticed())
    assert audit(tmp_path).ok


def test_no_room_in_the_middle_of_a_line_stops_before_the_effect_and_leaves_whole_lines(tmp_path: Path) -> None:
    # a limit on the size of files fails in the middle of a write, as a full disk does
    writer = child(
        """
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
        written = 0
        try:
            while True:
                mine.write(noticed(f"stack/{written}"))
                written += 1
        except EngineFailed as problem:
            print(written, problem)
        try:
            mine.write(noticed("stack/again"))
        except EngineFailed:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        mine.write(noticed("stack/room"))
        """,
        tmp_path,
    )
    said, _nothing = writer.communicate(timeout=60)
    assert writer.returncode == 0
    written, _, words = said.partition(" ")
    assert "it cannot be written" in words
    assert "What was to be recorded has not begun." in words
    told = [parse(line).body["summary"] for line in FileEvidenceLog(tmp_path, "lab").read()]
    assert told == [*(f"stack/{number}" for number in range(int(written))), "stack/room"]
    assert audit(tmp_path).ok


def test_a_disk_that_cannot_promise_is_not_asked_again(tmp_path: Path) -> None:
    mine = recorder(tmp_path, "run-1")
    mine.write(noticed())
    log = mine.log
    assert isinstance(log, FileEvidenceLog)
    assert log._open is not None
    # a pipe takes bytes and refuses to promise that they are on disk
    reader, pipe = os.pipe()
    os.dup2(pipe, log._open.fd)
    os.close(pipe)
    with pytest.raises(EngineFailed, match="cannot be written"):
        mine.write(noticed())
    log._open = replace(log._open, fd=os.open(log._open.segment.path, os.O_WRONLY | os.O_APPEND))
    with pytest.raises(EngineFailed, match="cannot be written"):
        mine.write(noticed())
    os.close(reader)
    assert len(list(log.read())) == 1


def test_a_folder_that_may_not_be_made_is_an_engine_error(tmp_path: Path) -> None:
    (tmp_path / "lab").write_text("a file")
    with pytest.raises(EngineFailed, match="cannot be written"):
        recorder(tmp_path, "run-1").write(noticed())
