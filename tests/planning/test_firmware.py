"""Firmware as steps: what differs, what cannot be, and the same value back."""

from __future__ import annotations

import pytest

from ismgr_automation.estate.maintenance import Firmware
from ismgr_automation.planning.change import Action, Step
from ismgr_automation.planning.firmware import Wanted, firmware_steps, is_firmware, wanted_of
from ismgr_automation.ports.upkeep import FirmwareItem

IMAGE = "https://mirror.example/bios.bin"
SEEN = (
    FirmwareItem(id="BIOS", name="System ROM", version="P1"),
    FirmwareItem(id="BMC", name="Manager", version="2.1", updateable=False),
)


def wanted(component: str, version: str) -> Firmware:
    return Firmware(component=component, version=version, image=IMAGE)


@pytest.mark.parametrize("component", ["BIOS", "System ROM"])
def test_what_differs_is_a_step_by_id_whether_it_was_asked_for_by_id_or_name(component: str) -> None:
    (step,), said = firmware_steps("web1", "all", [wanted(component, "P2")], SEEN)
    assert said == ()
    assert (step.what, step.action) == ("firmware BIOS", Action.UPDATE)
    assert wanted_of(step) == Wanted(component="BIOS", before="P1", version="P2", image=IMAGE, baseline="all")
    assert is_firmware([step])


def test_what_is_there_already_is_no_step() -> None:
    assert firmware_steps("web1", "all", [wanted("BIOS", "P1"), wanted("BMC", "2.1")], SEEN) == ((), ())


def test_what_cannot_be_updated_or_is_not_there_is_said() -> None:
    steps, said = firmware_steps("web1", "all", [wanted("BMC", "2.2"), wanted("NIC", "7")], SEEN)
    assert steps == ()
    assert said == (
        "BMC of web1 is 2.1 and cannot be updated through its BMC",
        "web1 has no firmware component 'NIC'; its BMC lists BIOS, BMC",
    )


def test_steps_are_in_one_order_whatever_the_order_of_the_documents() -> None:
    seen = (*SEEN, FirmwareItem(id="NIC", name="NIC", version="7"))
    asked = [wanted("NIC", "8"), wanted("BIOS", "P2")]
    assert firmware_steps("web1", "all", asked, seen) == firmware_steps("web1", "all", asked[::-1], seen)


def test_another_step_is_no_firmware() -> None:
    step = Step(target="web1", what="reboot", action=Action.CONFIGURE)
    assert not is_firmware([step])
    with pytest.raises(ValueError, match="'reboot' is no firmware step"):
        wanted_of(step)
