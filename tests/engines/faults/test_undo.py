"""An undo is read again as it was written, and what is none is refused before any host is asked."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.core.errors import InputError
from ismgr_automation.engines.faults.undo import Hurt, Undo, Way, key_of, read_undo
from ismgr_automation.ports.faults import Harm

NAMES = st.from_regex(r"[a-z][a-z0-9.-]{0,20}", fullmatch=True)
HURTS = st.builds(Hurt, way=st.sampled_from(Way), values=st.dictionaries(NAMES.filter("way".__ne__), st.text()))
UNDOS = st.builds(
    Undo, run=NAMES, fault=NAMES, harm=st.sampled_from(Harm), hosts=st.dictionaries(NAMES, HURTS, min_size=1)
)
WHOLE = {"run": "r1", "fault": "cut", "do": "freeze", "hosts": {"db1": {"way": "signal", "data": "/data"}}}


@given(UNDOS)
def test_an_undo_survives_the_journal(undo):
    assert read_undo(json.loads(json.dumps(undo.json()))) == undo


@pytest.mark.parametrize("name", WHOLE)
def test_an_undo_that_lacks_something_is_refused(name):
    with pytest.raises(InputError, match="no undo of a fault"):
        read_undo({key: value for key, value in WHOLE.items() if key != name})


@pytest.mark.parametrize(
    "wrong",
    [
        {"do": "flood"},
        {"hosts": ["db1"]},
        {"hosts": {"db1": "signal"}},
        {"hosts": {"db1": {"way": "prayer"}}},
        {"hosts": {"db1": {"data": "/data"}}},
    ],
)
def test_an_undo_that_says_nonsense_is_refused(wrong):
    with pytest.raises(InputError, match="no undo of a fault"):
        read_undo({**WHOLE, **wrong})


@pytest.mark.parametrize("run", ["", "../../etc", "a b", "a;reboot", "a" * 200, "r\n1"])
def test_a_name_that_could_be_more_than_a_name_is_refused_on_hosts(run):
    with pytest.raises(InputError, match="cannot be the name of a fault"):
        read_undo({**WHOLE, "run": run})
    with pytest.raises(InputError, match="cannot be the name of a fault"):
        key_of(run, "cut")
