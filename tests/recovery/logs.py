"""Logs of a probe as a test tells them: one letter an attempt, and logs as they come."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import strategies as st

from ismgr_automation.ports.recovery import Attempt, Outcome

MS = 1_000_000
EVERY = timedelta(milliseconds=5)
LETTERS = {"a": Outcome.ACKED, "f": Outcome.FAILED, "u": Outcome.UNKNOWN}


def log(text: str, *, took_ms: float = 1, start_ms: float = 0) -> list[Attempt]:
    """``aaf.u``: a write each 5 ms that takes ``took_ms``; at a dot no write was tried."""
    return [
        attempt(number, start_ms + turn * 5, start_ms + turn * 5 + took_ms, LETTERS[letter])
        for number, (turn, letter) in enumerate(
            ((turn, letter) for turn, letter in enumerate(text) if letter != "."), start=1
        )
    ]


def attempt(number: int, sent_ms: float, ended_ms: float, outcome: Outcome, cause: str = "") -> Attempt:
    return Attempt(
        number=number,
        sent_ns=round(sent_ms * MS),
        ended_ns=round(ended_ms * MS),
        outcome=outcome,
        endpoint="db:5432",
        cause=cause,
    )


@st.composite
def logs(draw: st.DrawFn, least: int = 0) -> list[Attempt]:
    """Any log that one client can write: one attempt at a time."""
    now, found = draw(st.integers(1, 10**9)), []
    shape = st.tuples(st.integers(1, 200 * MS), st.integers(1, 600 * MS), st.sampled_from(Outcome))
    for number, (idle, took, outcome) in enumerate(draw(st.lists(shape, min_size=least, max_size=60)), start=1):
        found.append(
            Attempt(number=number, sent_ns=now + idle, ended_ns=now + idle + took, outcome=outcome, endpoint="db:5432")
        )
        now += idle + took
    return found
