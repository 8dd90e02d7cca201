"""What a drill leaves on record: its result is in the signed chain by digest, and flipping one byte of either shows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ismgr_automation.core.json import digest
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.evidence.audit import Claims, verify
from ismgr_automation.evidence.chain import Kind, Record, parse
from ismgr_automation.evidence.recorder import ChainRecorder, Recorder
from tests.drills import Drills, arrive, drill, drills
from tests.evidence.chains import RUNNERS, DigestSigner, DigestVerifier


@dataclass(slots=True, kw_only=True)
class Signed(Drills):
    """Its runs are signed."""

    def recorder(self, environment: str, run: str) -> Recorder:
        """With a runner key."""
        return ChainRecorder(
            log=self.evidence,
            environment=environment,
            run=run,
            clock=lambda: datetime.now(UTC),
            signer=DigestSigner(),
        )


@pytest.fixture
def clinic(tmp_path: Path) -> Signed:
    known = drills(tmp_path)
    site = Signed(folder=tmp_path, world=known.world, files=known.files, pair=known.pair)
    site.pair.each_tick.append(lambda: arrive(site.pair))
    return site


def noticed(site: Signed) -> list[Record]:
    found = [parse(line) for line in site.evidence.read()]
    return [one for one in found if one.kind is Kind.FINDING and "result sha256:" in str(one.body["summary"])]


def problems(site: Signed, lines: list[bytes]) -> tuple[object, ...]:
    claims = Claims(environment="lab", estate="clinic", signatures=dict(site.evidence.signatures()), runners=RUNNERS)
    return tuple(verify(lines, claims, DigestVerifier()).problems)


def test_the_result_of_a_drill_is_in_the_signed_chain_by_its_digest(clinic: Signed) -> None:
    run = drill(clinic).run
    (record,) = noticed(clinic)
    kept = clinic.results.result(run)
    assert kept is not None
    assert record.run == run
    assert record.body["subject"] == "recovery/records"
    assert record.body["summary"] == (
        f"failover drill passed: clients waited 56 ms ± 5 ms, 0 of {kept['writes']['acked']} acknowledged writes lost; "
        f"result {digest(kept)}"
    )
    lines = list(clinic.evidence.read())
    assert problems(clinic, lines) == ()
    place = next(place for place, line in enumerate(lines) if b"result sha256:" in line)
    lines[place] = lines[place].replace(b"drill passed", b"drill failed")
    assert problems(clinic, lines) != ()


def test_a_result_that_somebody_changes_is_not_the_one_on_record(clinic: Signed) -> None:
    run = drill(clinic).run
    (record,) = noticed(clinic)
    kept = dict(clinic.results.result(run) or {})
    assert digest(kept) in str(record.body["summary"])
    assert digest({**kept, "verdict": "failed"}) not in str(record.body["summary"])


def test_a_drill_that_was_broken_off_is_on_record_with_its_reasons(clinic: Signed) -> None:
    clinic.pair.liars.add("db1")
    drill(clinic)
    (record,) = noticed(clinic)
    assert record.body["level"] == "warn"
    assert str(record.body["summary"]).startswith("failover drill invalid: ")
    assert "the old side was not lost" in str(record.body["next_step"])


def test_a_drill_that_was_refused_has_no_result_to_record(clinic: Signed) -> None:
    clinic.edit("sites.yaml", "- name: db1\n", "- name: other\n")
    drill(clinic, DrillMode.FAILOVER)
    assert noticed(clinic) == []
