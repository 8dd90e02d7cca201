"""`ismgr audit`: looking back, checking, and handing over to somebody who has only the usual tools."""

from __future__ import annotations

import json
import re
import secrets
import sqlite3
import subprocess
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ismgr_automation.cli.face import Face
from ismgr_automation.cli.kept import kept
from ismgr_automation.cli.main import run as ismgr
from ismgr_automation.converge.written import measured_drill
from ismgr_automation.core.address import stack
from ismgr_automation.core.errors import InputError
from ismgr_automation.core.json import JsonObject, canonical
from ismgr_automation.core.secret import Secret, SecretRef
from ismgr_automation.engines.database import open_database
from ismgr_automation.engines.evidence_files import FileEvidenceLog
from ismgr_automation.engines.git.anchor import GitAnchor
from ismgr_automation.engines.probe.log import LogWriter
from ismgr_automation.engines.signing import FileSigner
from ismgr_automation.engines.ssh.agent import agent
from ismgr_automation.evidence.entries import BreakGlass, Intent, Noticed, Outcome, RunClosed, RunStarted, UsedApproval
from ismgr_automation.evidence.recorder import ChainRecorder
from ismgr_automation.planning.change import Level
from ismgr_automation.planning.planfile import read
from ismgr_automation.ports.approvals import NAMESPACE as APPROVAL
from ismgr_automation.ports.approvals import Permission
from ismgr_automation.ports.leases import Holder
from ismgr_automation.ports.runs import Run, RunState
from ismgr_automation.recovery.particulars import note_json
from ismgr_automation.recovery.result import Verdict, result_json
from tests.cli.conftest import Said
from tests.recovery.results import finding, result
from tests.reports.drills import attempts

PLAN = Path(__file__).parents[1] / "cases/formats/plan/2/fresh-site.json"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ADA = Holder(user="ada", host="desk1", pid=7, started=1.0, purpose="apply")


def keygen(folder: Path, name: str) -> tuple[Path, str]:
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(folder / name)]
    subprocess.run(argv, check=True, timeout=30)
    return folder / name, (folder / f"{name}.pub").read_text().strip()


@dataclass(frozen=True, slots=True)
class Archive:
    """An estate in Git with keys of its own, and runs that were written down as `ismgr apply` does it."""

    folder: Path
    keys: Path

    def record(self, run: str, *, close: bool = True, signer: str = "runner", glass: BreakGlass | None = None) -> None:
        log = FileEvidenceLog(self.folder / ".ismgr/evidence", "production")
        recorder = ChainRecorder(
            log=log,
            environment="production",
            run=run,
            clock=lambda: NOON,
            signer=FileSigner(self.keys / signer),
            anchor=GitAnchor(self.folder, "infra"),
        )
        plan = read(PLAN.read_text(), "plan.json")
        started = RunStarted(
            estate="infra",
            digest=plan.digest,
            purpose="apply",
            commit="c0ffee",
            holder=ADA,
            token=3,
            changes=1,
            approvals=(self.approval(plan.digest),),
            break_glass=glass,
        )
        recorder.write(started, Intent(round=1, key="stack/names", address=stack("names"), action="create"))
        recorder.write(Outcome(round=1, key="stack/names", address=stack("names"), fate="landed", changed=1))
        if close:
            assert not recorder.close(RunClosed(state=RunState.DONE, exit_code=0, landed=1)).trouble
        else:
            recorder.abandon()

    def approval(self, digest: str) -> UsedApproval:
        permission = Permission(
            estate="infra",
            environment="production",
            digest=digest,
            not_after=NOON + timedelta(hours=4),
            nonce=secrets.token_hex(16),
        )
        signature = FileSigner(self.keys / "ben").sign(permission.to_bytes(), APPROVAL)
        return UsedApproval(
            principal="ben@example.org", permission=permission, signature=signature.armored, key=signature.key
        )

    def ledger(self, run: str) -> None:
        """The run in the database as well, with its plan."""
        plan = read(PLAN.read_text(), "plan.json")
        known = Run(
            id=run,
            estate="infra",
            environment="production",
            digest=plan.digest,
            purpose="apply",
            commit="c0ffee",
            plan=PLAN.read_text(),
            token=3,
            holder=ADA,
            started_at=NOON,
        )
        database = open_database(f"sqlite:///{self.folder / '.ismgr/ismgr.db'}")
        database.runs.begin(known, [])
        done = replace(known, state=RunState.DONE, finished_at=NOON, report={"type": "report", "ok": True})
        database.runs.close(done)
        database.close()

    @property
    def files(self) -> list[Path]:
        return sorted((self.folder / ".ismgr/evidence/production").glob("*.jsonl"))


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for name in ("runner", "ben", "mallory"):
        keygen(folder, name)
    return folder


@pytest.fixture
def archive(tmp_path: Path, keys: Path) -> Archive:
    folder = tmp_path / "infra"
    assert ismgr(["init", str(folder)]) == 0
    team = folder / "teams.yaml"
    assert team.exists(), sorted(folder.iterdir())
    members = [
        {"name": "Runner 1", "roles": ["runner"], "ssh_keys": [(keys / "runner.pub").read_text().strip()]},
        {
            "name": "Ben",
            "email": "ben@example.org",
            "roles": ["approver"],
            "ssh_keys": [(keys / "ben.pub").read_text().strip()],
        },
    ]
    team.write_text(json.dumps({"kind": "Team", "name": "operations", "members": members}))
    for words in (["add", "."], ["commit", "-q", "-m", "Begin"]):
        name = ["-c", "user.name=ada", "-c", "user.email=ada@example.org"]
        subprocess.run(["git", *name, *words], cwd=folder, check=True, timeout=30)
    return Archive(folder, keys)


@pytest.fixture
def say(archive: Archive, capsys: pytest.CaptureFixture[str]) -> Iterator[object]:
    def typed(*arguments: str | Path) -> Said:
        capsys.readouterr()
        code = ismgr(["-C", str(archive.folder), *map(str, arguments)])
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return typed


def test_nothing_was_applied_and_that_is_fine(say) -> None:
    for words in (["show"], ["verify"]):
        said = say("audit", *words)
        assert said.code == 0
        assert "No evidence yet" in said.out


def test_runs_are_listed_with_who_signed_them(say, archive: Archive) -> None:
    archive.record("run-1")
    archive.record("run-2", close=False)
    said = say("audit", "show")
    assert said.code == 0
    assert re.search(r"run-1 +2026-03-01 12:00:00 +done +1-4 +Runner-1", said.out), said.out
    assert re.search(r"run-2 .* no end +5-7 +nobody", said.out), said.out
    runs = say("--json", "audit", "show").result["runs"]
    assert [(one["run"], one["closed"], one["signed_by"]) for one in runs] == [
        ("run-1", True, "Runner-1"),
        ("run-2", False, ""),
    ]


def test_every_record_of_a_run_is_told_in_a_sentence(say, archive: Archive) -> None:
    archive.record("run-1", glass=BreakGlass(by="ben", reason="the edge is down"))
    said = say("audit", "show", "run-1")
    assert said.code == 0
    for words in (
        "by ada@desk1, 1 approval; BREAK-GLASS by ben: the edge is down",
        "create stack/names",
        "stack/names landed, 1 changed",
        "done with exit code 0, 1 landed",
    ):
        assert words in said.out
    records = say("--json", "audit", "show", "run-1").result["records"]
    assert [one["kind"] for one in records] == ["run-started", "intent", "outcome", "run-closed"]


def test_a_run_without_evidence_is_refused_with_a_near_name(say, archive: Archive) -> None:
    archive.record("run-1")
    said = say("audit", "show", "run-11")
    assert said.code == 1
    assert "Did you mean run-1?" in said.err


def test_whole_evidence_is_called_whole(say, archive: Archive) -> None:
    archive.record("run-1")
    archive.record("run-2")
    said = say("audit", "verify")
    assert said.code == 0, said
    assert "Whole: 8 records of 2 runs, 2 signed by a runner, proven up to #8." in said.out
    assert "unproven" not in said.out
    result = say("--json", "audit", "verify").result
    assert (result["ok"], result["proven"], result["problems"], result["remarks"]) == (True, 8, [], [])


def test_one_flipped_byte_is_found_by_name(say, archive: Archive) -> None:
    archive.record("run-1")
    archive.record("run-2")
    file = archive.files[0]
    file.write_bytes(file.read_bytes().replace(b"create", b"delete", 1))
    said = say("audit", "verify")
    assert said.code == 6
    assert "broken-chain line 3" in said.out
    assert "Not whole" in said.out


def test_a_last_run_that_was_cut_off_whole_is_found_by_its_anchor(say, archive: Archive) -> None:
    archive.record("run-1")
    archive.record("run-2")
    for path in (archive.files[1], archive.files[1].with_name(f"{archive.files[1].name}.sig")):
        path.unlink()
    said = say("audit", "verify")
    assert said.code == 6
    assert "the log ends at #4, and #8 was remembered for run run-2" in said.out


def test_without_anchors_the_tail_is_called_unproven(say, archive: Archive) -> None:
    archive.record("run-1")
    subprocess.run(["git", "update-ref", "-d", "refs/ismgr/evidence"], cwd=archive.folder, check=True, timeout=30)
    said = say("audit", "verify")
    assert said.code == 0
    assert "tail-unproven tail unproven: no anchor covers what comes after #0" in said.out


def test_a_run_that_a_stranger_signed_is_found(say, archive: Archive) -> None:
    archive.record("run-1", signer="mallory")
    said = say("audit", "verify")
    assert said.code == 6
    assert "of nobody with role runner" in said.out


def test_the_key_that_the_environment_names_signs_what_apply_writes(say, archive: Archive) -> None:
    path = archive.folder / "estate.yaml"
    secret = archive.keys / "runner"
    text = path.read_text().replace(
        "  production:\n", "  production:\n    evidence: {runner_key: {secret: file:runner}}\n", 1
    )
    path.write_text(f"{text}secrets:\n  file: {{kind: file, root: {secret.parent}}}\n")
    name = ["-c", "user.name=ada", "-c", "user.email=ada@example.org"]
    subprocess.run(["git", *name, "commit", "-q", "-am", "Sign"], cwd=archive.folder, check=True, timeout=30)
    with kept(Face(directory=archive.folder), "HEAD") as records:
        recorder = records.evidence("run-1")
        recorder.write(Noticed(level=Level.ADVISE, subject=stack("names"), summary="looked at"))
        closing = recorder.close(RunClosed(state=RunState.DONE, exit_code=0, landed=1))
    assert closing.trouble == ()
    assert closing.anchored
    assert "1 signed by a runner, proven up to #2" in say("audit", "verify").out


def test_a_runner_key_that_only_an_agent_has_signs_and_is_asked_for_before_anything_begins(
    say, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, public = archive.folder / "estate.yaml", (archive.keys / "runner.pub").read_text().strip()
    path.write_text(
        path.read_text().replace("  production:\n", f"  production:\n    evidence: {{runner_agent: {public}}}\n", 1)
    )
    name = ["-c", "user.name=ada", "-c", "user.email=ada@example.org"]
    subprocess.run(["git", *name, "commit", "-q", "-am", "Sign"], cwd=archive.folder, check=True, timeout=30)
    key = Secret((archive.keys / "runner").read_text())
    with (
        kept(Face(directory=archive.folder), "HEAD") as records,
        agent(key, SecretRef("file", "runner"), archive.keys / "agent") as socket,
    ):
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        recorder = records.evidence("run-1")
        recorder.write(Noticed(level=Level.ADVISE, subject=stack("names"), summary="looked at"))
        assert recorder.close(RunClosed(state=RunState.DONE, exit_code=0, landed=1)).trouble == ()
        assert "1 signed by a runner, proven up to #2" in say("audit", "verify").out
        subprocess.run(["ssh-add", "-q", "-D"], check=True, capture_output=True, timeout=30)
        with pytest.raises(InputError, match="No agent has the private half of SHA256:"):
            records.evidence("run-2")


DRILL = result_json(result())


def drilled(archive: Archive, kept_result: JsonObject = DRILL) -> str:
    """A drill on record, as a run writes it down, and its result as it is kept; gives its run."""
    run = result().run
    database = open_database(f"sqlite:///{archive.folder / '.ismgr/ismgr.db'}", estate="infra")
    database.drills("production").keep(run, "records", kept_result)
    database.drills("production").note(run, note_json(finding()))
    database.close()
    recorder = ChainRecorder(
        log=FileEvidenceLog(archive.folder / ".ismgr/evidence", "production"),
        environment="production",
        run=run,
        clock=lambda: NOON,
        signer=FileSigner(archive.keys / "runner"),
        anchor=GitAnchor(archive.folder, "infra"),
    )
    recorder.write(measured_drill(DRILL))
    assert not recorder.close(RunClosed(state=RunState.DONE, exit_code=0, landed=1)).trouble
    return run


def test_a_result_of_a_drill_that_is_on_record_is_whole(say, archive: Archive) -> None:
    run = drilled(archive)
    said = say("--json", "audit", "verify")
    assert (said.code, said.result["problems"]) == (0, [])
    assert [one["doubt"] for one in said.result["remarks"]] == ["note-unproven"], "one from before notes were recorded"
    report = say("--json", "drill", "report", run).result
    assert (report["recorded"], report["signed_by"]) == (True, "Runner-1")


@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_result_of_a_drill_that_somebody_changed_in_the_store_is_found(
    say, archive: Archive, verdict: Verdict
) -> None:
    body = {**DRILL, "verdict": str(verdict), "writes": {**dict(DRILL["writes"]), "lost": 1}}  # type: ignore[call-overload]
    run = drilled(archive, body)
    said = say("audit", "verify")
    assert said.code == 6
    assert f"result the kept result of drill {run} was altered" in " ".join(said.out.split())
    assert say("--json", "drill", "report", run).result["recorded"] is False


def test_a_result_that_is_gone_or_on_no_record_is_named_and_is_no_fault(say, archive: Archive) -> None:
    run = drilled(archive)
    with sqlite3.connect(archive.folder / ".ismgr/ismgr.db") as database:
        database.execute("UPDATE drills SET run = 'nobody-knows', result = replace(result, ?, 'nobody-knows')", [run])
    said = say("--json", "audit", "verify")
    assert (said.code, said.result["problems"]) == (0, [])
    assert [(one["doubt"], one["run"]) for one in said.result["remarks"]] == [
        ("result-gone", run),
        ("result-unproven", "nobody-knows"),
        ("note-unproven", run),
    ]


def test_the_bundle_of_a_drill_has_what_it_measured_and_how_to_check_that(
    say, archive: Archive, tmp_path: Path
) -> None:
    run = drilled(archive)
    log = archive.folder / ".ismgr/drills" / run / "probe.log"
    log.parent.mkdir(parents=True)
    writer = LogWriter(log)
    for one in attempts():
        writer.attempt(one)
    writer.close()
    out = tmp_path / "bundle"
    assert say("audit", "export", run, "--out", out).code == 0
    assert "7 refused, 1 unknown in view" in (out / "drill.html").read_text(), "the client's log is drawn"
    assert (out / "drill.json").read_bytes() == canonical(DRILL)
    assert json.loads((out / "drill-notes.json").read_text())[0]["owner"] == "Ada"
    assert "The runbook names a host that is gone." in (out / "drill.html").read_text()
    assert (out / "drill.pdf").read_bytes().startswith(b"%PDF-")
    steps = follow(out)
    assert [code for _block, code, _said in steps] == [0] * len(steps), steps
    assert [said for block, _code, said in steps if "drill.json" in block] == ["1\n"]
    (out / "drill.json").write_bytes(canonical({**DRILL, "verdict": "failed"}))
    assert [code for block, code, _said in follow(out) if "drill.json" in block] == [1]
    assert say("audit", "export", run, "--out", tmp_path / "again").code == 0
    for path in (tmp_path / "again").iterdir():
        assert path.read_bytes() == (out / path.name).read_bytes() or path.name == "drill.json", path.name


def governed(archive: Archive, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, say) -> str:  # type: ignore[no-untyped-def]
    """A drill of a service with an owner, in an estate with a runner and a pin; gives its run."""
    monkeypatch.setenv("ISMGR_TRUST", str(tmp_path / "trust"))
    path, teams = archive.folder / "estate.yaml", archive.folder / "teams.yaml"
    signed = "  production:\n    evidence: {runner_key: {secret: file:runner}}\n"
    text = path.read_text().replace("  production:\n", signed)
    path.write_text(f"{text}secrets:\n  file: {{kind: file, root: {archive.keys}}}\n")
    line = (archive.keys / "mallory.pub").read_text().strip()
    board = {"kind": "Team", "name": "board", "members": [{"name": "Mia", "roles": ["management"], "ssh_keys": [line]}]}
    service = {"kind": "Service", "name": "records", "owner": "operations"}
    teams.write_text("\n---\n".join([teams.read_text(), json.dumps(board), json.dumps(service)]))
    name = ["-c", "user.name=ada", "-c", "user.email=ada@example.org"]
    subprocess.run(["git", *name, "commit", "-q", "-am", "Govern"], cwd=archive.folder, check=True, timeout=30)
    assert say("trust", "pin", "--yes").code == 0
    body = result_json(result(estate="infra", environment="production"))
    run = result().run
    with kept(Face(directory=archive.folder), "HEAD") as records:
        records.drills.keep(run, "records", body)
        recorder = records.evidence(run)
        recorder.write(measured_drill(body))
        assert not recorder.close(RunClosed(state=RunState.DONE, exit_code=0, landed=1)).trouble
    return run


def signs(say, archive: Archive, run: str, role: str, key: str) -> Said:  # type: ignore[no-untyped-def]
    found: Said = say("--json", "drill", "sign-off", run, "--as", role, "--key", archive.keys / key, "--yes")
    return found


def test_a_drill_that_owner_and_management_signed_off_is_covered_and_can_be_checked_by_hand(
    say, archive: Archive, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = governed(archive, monkeypatch, tmp_path, say)
    written = say("drill", "finding", run, "--text", "It is slow", "--owner", "Ben", "--due", "2026-12-24")
    assert written.code == 0, written.err
    for role, key in (("owner", "ben"), ("management", "mallory")):
        said = signs(say, archive, run, role, key)
        assert said.code == 0, said.err
    refused = signs(say, archive, run, "management", "ben")
    assert (refused.code, "this key has no role management" in " ".join(refused.out.split())) == (3, True)
    report = say("--json", "drill", "report", run).result
    assert [(one["as"], one["person"], one["void"]) for one in report["sign_offs"]] == [
        ("owner", "Ben", ""),
        ("management", "Mia", ""),
    ]
    assert report["standards"]["HIPAA"]["missing"]["sign_off"] == ["retention"]
    assert "signed off by Mia, as management" in " ".join(say("drill", "report", run).out.split())
    audit = say("--json", "audit", "verify")
    assert (audit.code, audit.result["problems"], audit.result["remarks"]) == (0, [], [])
    out = tmp_path / "bundle"
    assert say("audit", "export", run, "--out", out).code == 0
    assert "Mia signed it off as management" in (out / "drill.html").read_text()
    steps = follow(out)
    assert [code for _block, code, _said in steps] == [0] * len(steps), steps
    assert [said.count("Good") for block, _code, said in steps if "signatories" in block] == [2]
    [finding_file] = [one for one in (out / "notes").glob("*.json") if b"It is slow" in one.read_bytes()]
    finding_file.write_bytes(finding_file.read_bytes().replace(b"slow", b"fast"))
    assert [code for block, code, _said in follow(out) if "notes/*.json" in block] == [1]


def test_a_result_that_is_changed_after_it_was_signed_off_makes_that_void(
    say, archive: Archive, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = governed(archive, monkeypatch, tmp_path, say)
    assert signs(say, archive, run, "owner", "ben").code == 0
    with sqlite3.connect(archive.folder / ".ismgr/ismgr.db") as database:
        database.execute("UPDATE drills SET result = replace(result, '\"lost\": 0', '\"lost\": 1')")
    [found] = say("--json", "drill", "report", run).result["sign_offs"]
    assert "the result was changed after it was signed" in found["void"]
    assert "that is void" in compact(say, run, tmp_path)
    refused = signs(say, archive, run, "management", "mallory")
    assert (refused.code, "nobody should sign it" in " ".join(refused.out.split())) == (3, True)


def compact(say, run: str, folder: Path) -> str:  # type: ignore[no-untyped-def]
    """The page of a drill."""
    assert say("drill", "report", run, "--html", folder / "drill.html").code == 0
    return (folder / "drill.html").read_text()


CHANGED = {
    "text": "UPDATE drill_notes SET note = replace(note, 'It is slow', 'All is well')",
    "owner of a sign-off": "UPDATE drill_notes SET note = replace(note, 'Ben', 'Mia')",
    "finding taken out": "DELETE FROM drill_notes WHERE note LIKE '%It is slow%'",
    "all taken out": "DELETE FROM drill_notes",
}


@pytest.mark.parametrize("name", CHANGED)
def test_what_people_wrote_down_and_somebody_changed_or_took_out_is_found(
    say, archive: Archive, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    run = governed(archive, monkeypatch, tmp_path, say)
    assert say("drill", "finding", run, "--text", "It is slow", "--owner", "Mia", "--due", "2026-12-24").code == 0
    assert say("drill", "state", run, "access", "--text", "as always", "--person", "Mia").code == 0
    assert signs(say, archive, run, "owner", "ben").code == 0
    assert say("audit", "verify").code == 0
    with sqlite3.connect(archive.folder / ".ismgr/ismgr.db") as database:
        assert database.execute(CHANGED[name]).rowcount
    said = say("--json", "audit", "verify")
    assert said.code == 6
    assert {(one["fault"], one["run"]) for one in said.result["problems"]} == {("note", run)}


def blocks(readme: str) -> list[str]:
    """The commands of the README."""
    return re.findall(r"```sh\n(.*?)```", readme, re.DOTALL)


def follow(folder: Path) -> list[tuple[str, int, str]]:
    """Do what the README says, with nothing but a shell and its tools: each block, its exit code, what it said."""
    done = []
    for block in blocks((folder / "README.md").read_text()):
        told = subprocess.run(
            ["bash", "-o", "pipefail", "-c", block], cwd=folder, capture_output=True, text=True, timeout=60, check=False
        )
        done.append((block, told.returncode, told.stdout + told.stderr))
    return done


def test_an_auditor_can_check_a_bundle_with_the_usual_tools(say, archive: Archive, tmp_path: Path) -> None:
    archive.record("run-0")
    archive.record("run-1")
    archive.ledger("run-1")
    out = tmp_path / "bundle"
    assert say("audit", "export", "run-1", "--out", out).code == 0
    steps = follow(out)
    assert [code for _block, code, _said in steps] == [0] * 5, steps
    said = [one for _block, _code, one in steps]
    anchored = json.loads((out / "anchors.json").read_text())
    assert said[1].strip() == anchored[-1]["digest"]
    assert 'Good "ismgr-evidence@v1" signature for Runner-1' in said[2]
    digest = json.loads((out / "records.jsonl").read_text().splitlines()[0])["body"]["digest"]
    assert said[3].split()[0] == digest.removeprefix("sha256:")
    assert 'Good "ismgr-approval@v1" signature for ben@example.org' in said[4]
    assert json.loads((out / "plan.json").read_text())["digest"] == digest


@pytest.mark.parametrize(
    ("name", "step"),
    [("records.jsonl", 1), ("closing.sig", 2), ("intent.json", 3), ("approvals", 4)],
)
def test_the_way_by_hand_finds_what_was_altered(say, archive: Archive, tmp_path: Path, name: str, step: int) -> None:
    archive.record("run-1")
    archive.ledger("run-1")
    out = tmp_path / "bundle"
    assert say("audit", "export", "run-1", "--out", out).code == 0
    before = follow(out)
    path = out / name if (out / name).is_file() else next((out / name).glob("*.json"))
    text = path.read_bytes()
    at = text.index(b"names") if name in {"records.jsonl", "intent.json"} else len(text) // 2
    path.write_bytes(text[:at] + (b"X" if text[at : at + 1] != b"X" else b"Y") + text[at + 1 :])
    after = follow(out)
    assert after[0][1] != 0, "the sums tell at once"
    assert after[step][1:] != before[step][1:]
    assert after[step][1] != 0 or name == "intent.json", "a digest is compared by who reads it"


def test_a_bundle_is_one_file_that_comes_out_the_same_twice(say, archive: Archive, tmp_path: Path) -> None:
    archive.record("run-1")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        assert say("audit", "export", "run-1", "--out", tmp_path / name / "run-1.zip").code == 0
    assert (tmp_path / "one/run-1.zip").read_bytes() == (tmp_path / "two/run-1.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one/run-1.zip") as found:
        names = {one.removeprefix("run-1/") for one in found.namelist()}
    assert {"README.md", "SHA256SUMS", "allowed_signers", "approvers", "closing.sig", "records.jsonl"} <= names
    assert "plan.json" not in names, "the database has forgotten this run; its evidence is worth a copy all the same"


def test_a_run_without_an_end_is_exported_as_what_it_is(say, archive: Archive, tmp_path: Path) -> None:
    archive.record("run-1", close=False)
    assert say("audit", "export", "run-1", "--out", tmp_path / "bundle").code == 0
    assert "There is no closing signature" in (tmp_path / "bundle/README.md").read_text()
    assert all(code == 0 for _block, code, _said in follow(tmp_path / "bundle"))


def test_nothing_is_overwritten_by_an_export(say, archive: Archive, tmp_path: Path) -> None:
    archive.record("run-1")
    (tmp_path / "bundle").mkdir()
    said = say("audit", "export", "run-1", "--out", tmp_path / "bundle")
    assert said.code == 1
    assert "is there already" in said.err


def test_looking_back_writes_nothing(say, archive: Archive) -> None:
    archive.record("run-1", close=False)
    file = archive.files[0]
    file.write_bytes(file.read_bytes()[:-5])
    before = {path: path.read_bytes() for path in file.parent.iterdir()}
    said = say("audit", "verify")
    assert "torn line 3 is half a line" in said.out
    say("audit", "show", "run-1")
    assert {path: path.read_bytes() for path in file.parent.iterdir()} == before
