"""Whatever is done to a chain is found, what cannot be proven is said, and a whole chain is called whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.core.json import canonical
from ismgr_automation.evidence.audit import Doubt, Fault
from ismgr_automation.evidence.chain import Kind, parse
from ismgr_automation.evidence.entries import (
    ENTRIES,
    DrillNoted,
    Entry,
    Intent,
    LeaseChanged,
    Noticed,
    Outcome,
    Recovered,
    Resumed,
    RunClosed,
    RunRefused,
    RunStarted,
    Verified,
)
from ismgr_automation.ports.evidence import Head
from ismgr_automation.ports.runs import RunState
from tests.evidence.chains import EVERY_ENTRY, RUNNERS, Chain, DigestSigner, chain, faults, started

WHOLE = chain(3)
LINES = WHOLE.lines
POSITIONS = st.integers(0, len(LINES) - 1)


def test_a_whole_chain_is_called_whole() -> None:
    audit = WHOLE.audit()
    assert audit.ok
    assert not audit.remarks
    assert audit.proven == audit.head.sequence == len(LINES) == 9
    assert [(one.run, one.closed, one.signed_by, one.state) for one in audit.runs] == [
        (f"run-{number}", True, "runner", "done") for number in (1, 2, 3)
    ]


def test_no_evidence_at_all_is_nothing_wrong() -> None:
    audit = Chain().audit()
    assert (audit.ok, audit.remarks, audit.head.sequence) == (True, (), 0)


def test_every_kind_of_record_reads_back_as_it_was_written() -> None:
    made = Chain()
    made.run("run-1", EVERY_ENTRY)
    records = [parse(line) for line in made.lines]
    assert [one.kind for one in records[:-1]] == [one.KIND for one in EVERY_ENTRY]
    assert [one.body for one in records[:-1]] == [one.body for one in EVERY_ENTRY]
    assert {one.kind for one in records} == set(Kind) == set(ENTRIES)
    assert made.audit().ok


@given(st.integers(0, sum(map(len, LINES)) - 1), st.integers(1, 255))
def test_every_flipped_byte_is_found(at: int, mask: int) -> None:
    lines = list(LINES)
    for number, line in enumerate(lines):
        if at < len(line):
            lines[number] = line[:at] + bytes([line[at] ^ mask]) + line[at + 1 :]
            break
        at -= len(line)
    assert not WHOLE.audit(lines).ok


@given(POSITIONS)
def test_every_dropped_record_is_found(at: int) -> None:
    assert Fault.MISSING in faults(WHOLE.audit(LINES[:at] + LINES[at + 1 :]))


@given(POSITIONS, POSITIONS)
def test_every_repeated_record_is_found(at: int, to: int) -> None:
    assert Fault.OUT_OF_ORDER in faults(WHOLE.audit([*LINES[:to], LINES[at], *LINES[to:]]))


@given(POSITIONS, POSITIONS)
def test_every_swap_of_two_records_is_found(one: int, two: int) -> None:
    lines = list(LINES)
    lines[one], lines[two] = lines[two], lines[one]
    audit = WHOLE.audit(lines)
    assert audit.ok is (one == two)


@given(POSITIONS)
def test_a_record_that_is_put_between_others_is_found(at: int) -> None:
    stranger = Chain()
    stranger.run("run-9", started("stranger"), close=False)
    assert not WHOLE.audit([*LINES[:at], stranger.lines[1], *LINES[at:]]).ok


@pytest.mark.parametrize("run", [1, 2, 3])
def test_a_missing_segment_is_found_and_named(run: int) -> None:
    audit = WHOLE.audit([line for line in LINES if parse(line).run != f"run-{run}"])
    assert Fault.MISSING in faults(audit)
    assert any(f"run-{run}" in one.summary or f"run-{run + 1}" in one.run for one in audit.problems)


@given(POSITIONS)
def test_what_is_cut_off_at_the_end_is_found_where_an_anchor_remembers_it(at: int) -> None:
    assert Fault.MISSING in faults(WHOLE.audit(LINES[:at]))


def test_without_an_anchor_the_tail_is_unproven() -> None:
    signatures = {run: one for run, one in WHOLE.log.signatures().items() if run != "run-3"}
    audit = WHOLE.audit(LINES[:6], heads=(), signatures=signatures)
    assert audit.ok
    assert [one.doubt for one in audit.remarks] == [Doubt.TAIL_UNPROVEN]
    assert "tail unproven" in audit.remarks[0].summary
    assert audit.proven == 0


def test_only_what_comes_after_the_last_anchor_is_unproven() -> None:
    audit = WHOLE.audit(heads=WHOLE.heads[:2])
    assert audit.ok
    assert audit.proven == 6
    assert [one.doubt for one in audit.remarks] == [Doubt.TAIL_UNPROVEN]


def test_a_chain_that_was_written_anew_without_the_key_is_found() -> None:
    forged = Chain()
    for number in (1, 2, 3):
        forged.run(f"run-{number}", started("forged"), signer=DigestSigner("ssh-ed25519 MALLORY"))
    audit = forged.audit(heads=())
    assert faults(audit) == {Fault.WRONG_SIGNATURE}
    assert all("of nobody with role runner" in one.summary for one in audit.problems)
    assert Fault.ANCHOR in faults(WHOLE.audit(forged.lines))


@pytest.mark.parametrize("run", ["run-1", "run-2", "run-3"])
def test_a_missing_closing_signature_is_found(run: str) -> None:
    left = {name: one for name, one in WHOLE.log.signatures().items() if name != run}
    audit = WHOLE.audit(signatures=left)
    assert faults(audit) == {Fault.NOT_SIGNED}
    assert [one.run for one in audit.problems] == [run]


def test_a_signature_of_another_run_is_wrong_here() -> None:
    signatures = WHOLE.log.signatures()
    audit = WHOLE.audit(signatures={**signatures, "run-1": signatures["run-2"]})
    assert faults(audit) == {Fault.WRONG_SIGNATURE}


def test_a_signature_whose_last_record_is_gone_is_found_without_an_anchor() -> None:
    assert Fault.MISSING in faults(WHOLE.audit(LINES[:-1], heads=()))
    assert Fault.MISSING in faults(WHOLE.audit(LINES[:6], heads=()))


def test_a_run_without_an_end_is_said_to_be_unfinished() -> None:
    made = chain(1)
    made.run("run-2", started(), close=False)
    audit = made.audit()
    assert audit.ok
    assert {one.doubt for one in audit.remarks} == {Doubt.UNFINISHED, Doubt.TAIL_UNPROVEN}
    assert "run-2 (begun 2026-03-01 12:00:00 UTC) never closed" in audit.remarks[0].summary


def test_a_refused_apply_needs_no_end() -> None:
    made = Chain()
    refused = next(one for one in EVERY_ENTRY if isinstance(one, RunRefused))
    made.run("run-1", [refused], close=False)
    assert {one.doubt for one in made.audit().remarks} == {Doubt.TAIL_UNPROVEN}


def test_half_a_line_at_the_end_is_said_and_is_no_record() -> None:
    audit = WHOLE.audit([*LINES, LINES[0][:40]])
    assert audit.ok
    assert {one.doubt for one in audit.remarks} == {Doubt.TORN}
    assert Fault.UNREADABLE in faults(WHOLE.audit([LINES[0][:40], *LINES]))


def test_runs_that_nobody_signs_are_fine_where_there_is_no_runner() -> None:
    made = Chain()
    made.run("run-1", started(), close=False)
    last = RunClosed(state=RunState.STOPPED, exit_code=5, landed=0)
    made.run("run-1", [last], close=False)
    assert {one.doubt for one in made.audit(runners=(), signatures={}).remarks} == {
        Doubt.UNSIGNED,
        Doubt.TAIL_UNPROVEN,
    }
    unsigned = made.audit(runners=RUNNERS, signatures={})
    assert faults(unsigned) == {Fault.NOT_SIGNED}
    made.run("run-2", started())
    covered = made.audit()
    assert covered.ok, "a later signature stands in for it"
    assert [one.doubt for one in covered.remarks] == [Doubt.UNSIGNED]


def test_records_of_another_environment_or_estate_are_found() -> None:
    assert faults(WHOLE.audit(environment="production")) == {Fault.FOREIGN}
    assert faults(WHOLE.audit(estate="three-sites")) == {Fault.FOREIGN}


def test_a_run_that_goes_on_after_its_end_is_found() -> None:
    made = chain(1)
    made.run("run-1", started())
    assert faults(made.audit()) >= {Fault.STRUCTURE}


STRAY = {
    "an intent": lambda one: isinstance(one, Intent),
    "an outcome": lambda one: isinstance(one, Outcome),
    "a verification": lambda one: isinstance(one, Verified),
    "a lease": lambda one: isinstance(one, LeaseChanged),
}


@pytest.mark.parametrize("is_stray", STRAY.values(), ids=list(STRAY))
@pytest.mark.parametrize("covered", [False, True], ids=["at the end", "under a later signature"])
def test_records_of_a_run_that_never_began_are_found(is_stray: Callable[[Entry], bool], *, covered: bool) -> None:
    made = chain(1)
    made.run("run-2", [one for one in EVERY_ENTRY if is_stray(one)], close=False)
    if covered:
        made.run("run-3", started())
    assert faults(made.audit()) == {Fault.STRUCTURE}
    assert [one.run for one in made.audit().problems] == ["run-2"]


def test_a_run_that_goes_on_after_its_refusal_is_found() -> None:
    made = Chain()
    made.run("run-1", [of(RunRefused), of(Outcome)], close=False)
    assert faults(made.audit()) == {Fault.STRUCTURE}


OPENINGS = {
    "taken up, its process having died before the first record": (Resumed,),
    "after half a line of another": (Recovered, RunStarted),
    "a paper run": (Noticed,),
    "a note about a drill": (DrillNoted,),
}


@pytest.mark.parametrize("kinds", OPENINGS.values(), ids=list(OPENINGS))
def test_a_run_may_begin_in_other_ways_and_is_unfinished_without_an_end(kinds: Sequence[type[Entry]]) -> None:
    made = Chain()
    made.run("run-1", [of(kind) for kind in kinds])
    assert made.audit().ok
    assert made.audit().remarks == ()
    made.run("run-2", [of(kind) for kind in kinds], close=False)
    assert made.audit().ok
    assert Doubt.UNFINISHED in {one.doubt for one in made.audit().remarks}


def of(kind: type[Entry]) -> Entry:
    return next(one for one in EVERY_ENTRY if isinstance(one, kind))


def test_a_remembered_head_that_is_not_ours_is_found() -> None:
    other = (Head(sequence=4, digest="sha256:00"), "run-2")
    audit = WHOLE.audit(heads=(*WHOLE.heads, other))
    assert faults(audit) == {Fault.ANCHOR}
    assert "#4" in audit.problems[0].summary


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"format": "ismgr.evidence/9"}, "no record of format"),
        ({"sequence": 0}, "no number from 1"),
        ({"sequence": True}, "no number from 1"),
        ({"kind": "gossip"}, "gossip"),
        ({"body": []}, "wrong type"),
        ({"at": "noon"}, "noon"),
        ({"more": 1}, "other keys"),
    ],
)
def test_a_line_that_is_no_record_says_why(change: dict, why: str) -> None:
    altered = canonical({**json.loads(LINES[0]), **change})
    with pytest.raises(ValueError, match=why):
        parse(altered)


def test_the_same_record_in_other_bytes_is_no_record() -> None:
    with pytest.raises(ValueError, match="canonical"):
        parse(LINES[0].replace(b'":"', b'": "', 1))
