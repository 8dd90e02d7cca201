"""What cannot be asked for is refused before any host is; what is asked for is chosen by what it takes."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ismgr_automation.core.errors import InputError
from ismgr_automation.engines.faults import MachineFaults
from ismgr_automation.engines.faults.hosts import CRAFTS, MENDS
from ismgr_automation.engines.faults.undo import Way
from ismgr_automation.engines.secrets import Backends
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.faults import Harm
from tests.engines.faults.conftest import FLEET, request

FAULTS = MachineFaults(Backends.from_json({}))
POWER = {Harm.POWER_OFF, Harm.STALE_PRIMARY}


def test_every_harm_and_every_way_has_somebody_who_knows_it():
    assert CRAFTS.keys() | POWER == set(Harm)
    assert MENDS.keys() | {Way.POWER} == set(Way)


@pytest.mark.parametrize(
    ("harm", "more", "words"),
    [
        (Harm.POWER_OFF, {}, "by its BMC"),
        (Harm.STALE_PRIMARY, {}, "by its BMC"),
        (Harm.FREEZE, {"hosts": ()}, "no host is named"),
        (Harm.FREEZE, {"cluster": None}, "none is named"),
        (Harm.DISK_FULL, {"cluster": None}, "none is named"),
        (Harm.PARTITION, {"networks": ()}, "no network is named"),
        (Harm.ROLLING, {"lead": timedelta(minutes=1)}, "does not roll"),
        (Harm.SLOW_LINK, {"networks": ("here",)}, "is not a network"),
        (Harm.PARTITION, {"run": "a/b"}, "cannot be the name of a fault"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(tmp_path, harm, more, words):
    with pytest.raises(InputError, match=words):
        FAULTS.fault(request(harm, **more), Context(work=tmp_path))


def test_what_was_not_staged_is_not_done(tmp_path):
    injection = FAULTS.fault(request(Harm.FREEZE), Context(work=tmp_path))
    for work in (injection.undo, injection.act, injection.bitten, injection.renew, injection.lift, injection.lifted):
        with pytest.raises(InputError, match="was not staged"):
            work()
    injection.close()


@pytest.mark.parametrize(
    ("do", "hurt", "words"),
    [
        ("freeze", {"way": "signal"}, "does not say how"),
        ("freeze", {"way": "power"}, "does not say how"),
        ("power-off", {"way": "power", "machine": "db1"}, "does not say how its BMC is reached"),
    ],
)
def test_an_undo_that_does_not_say_how_is_refused(tmp_path, do, hurt, words):
    undo = {"run": "r1", "fault": "one", "do": do, "hosts": {"gw1": hurt}}
    with pytest.raises(InputError, match=words):
        FAULTS.lift(undo, FLEET, Context(work=tmp_path))
