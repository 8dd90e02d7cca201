"""Firmware updates on a small Redfish service over TLS, honest and otherwise."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import flask
import pytest
from werkzeug.serving import make_server

from ismgr_automation.core.errors import Cancelled, CredentialRejected, EngineFailed, Throttled, Unreachable
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines import redfish_firmware
from ismgr_automation.engines.redfish import Timeouts
from ismgr_automation.engines.redfish_firmware import RedfishUpkeep
from ismgr_automation.engines.secrets import Backends, PrivateFiles
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.upkeep import BmcAccess, FirmwareUpdate
from tests.engines.loopback import free_port
from tests.provider.fake_bmc import PASSWORD, USER, Authority

SYSTEM, UPDATES, TASKS = "/redfish/v1/Systems/1", "/redfish/v1/UpdateService", "/redfish/v1/TaskService"
IMAGE = "https://images.example.org/bios-2.18.0.bin"


@dataclass
class Fake:
    """A BMC with two components; BIOS takes over with a restart, NIC at once. The rest is what it does wrong."""

    versions: dict[str, str] = field(default_factory=lambda: {"BIOS": "2.17.0", "NIC.1": "22.00.6"})
    power: str = "On"
    pending: dict[str, str] = field(default_factory=dict)
    orders: list[dict[str, Any]] = field(default_factory=list)
    resets: list[str] = field(default_factory=list)
    looks: int = 0
    works: int = 2
    """How often the task is looked at before it is at its end."""
    fails: str = ""
    """With which message the task ends badly."""
    keeps: bool = False
    """Says that it is complete, and keeps the old version."""
    forgets: bool = False
    """Knows no task any more when it is asked."""
    at_once: bool = False
    """Does it while it is asked, without a task."""
    busy: int = 0
    """Answers 503 to so many orders."""
    away: int = 0
    """Answers 503 to so many looks at the task."""
    refuses_reset: bool = False
    updateable: bool = True
    kinds: list[str] = field(default_factory=lambda: ["On", "ForceOff", "GracefulShutdown", "GracefulRestart"])
    """The resets that it offers."""
    wanted: tuple[str, str] = ("BIOS", "2.18.0")

    def done(self) -> dict[str, Any]:
        component, version = self.wanted
        place = self.pending if component == "BIOS" else self.versions
        if not self.keeps and not self.fails:
            place[component] = version
        ending = "Base.1.8.ResetRequired" if component == "BIOS" else "Update.1.0.UpdateSuccessful"
        text = self.fails or ("A reset is needed." if component == "BIOS" else "It was installed.")
        message = {"MessageId": "Update.1.0.ApplyFailed" if self.fails else ending, "Message": text}
        state = "Exception" if self.fails else "Completed"
        return {"Id": "1", "Name": "Update", "TaskState": state, "Messages": [message]}

    def reset(self, kind: str) -> None:
        self.resets.append(kind)
        self.power = "Off" if kind in {"ForceOff", "GracefulShutdown"} else "On"
        if self.power == "On":
            self.versions |= self.pending
            self.pending.clear()


def service(box: list[Fake]) -> flask.Flask:  # noqa: C901 - one small function for each route
    application = flask.Flask("bmc")

    @application.before_request
    def welcome() -> Any:
        given = flask.request.authorization
        known = given is not None and (given.username, given.password) == (USER, PASSWORD)
        return None if known or flask.request.path.strip("/") == "redfish/v1" else ("", 401)

    @application.get("/redfish/v1/")
    def root() -> Any:
        return {
            "Id": "Root",
            "Name": "Root",
            "RedfishVersion": "1.8.0",
            "Systems": {"@odata.id": "/redfish/v1/Systems"},
            "UpdateService": {"@odata.id": UPDATES},
            "Links": {"Sessions": {"@odata.id": "/redfish/v1/SessionService/Sessions"}},
        }

    @application.get("/redfish/v1/Systems")
    def systems() -> Any:
        return {"Name": "Systems", "Members": [{"@odata.id": SYSTEM}], "Members@odata.count": 1}

    @application.get(SYSTEM)
    def system() -> Any:
        action = {"target": f"{SYSTEM}/Actions/Reset", "ResetType@Redfish.AllowableValues": box[0].kinds}
        power = box[0].power
        return {"Id": "1", "Name": "S", "PowerState": power, "Actions": {"#ComputerSystem.Reset": action}}

    @application.post(f"{SYSTEM}/Actions/Reset")
    def reset() -> Any:
        if box[0].refuses_reset:
            return {"error": {"code": "Base.1.0.GeneralError", "message": "The door is open."}}, 400
        box[0].reset(flask.request.json["ResetType"])
        return "", 204

    @application.get(UPDATES)
    def updates() -> Any:
        action = {"target": f"{UPDATES}/Actions/SimpleUpdate"}
        inventory = {"@odata.id": f"{UPDATES}/FirmwareInventory"}
        return {"Id": "U", "Name": "U", "FirmwareInventory": inventory, "Actions": {redfish_firmware.ACTION: action}}

    @application.get(f"{UPDATES}/FirmwareInventory")
    def inventory() -> Any:
        return {"Members": [{"@odata.id": f"{UPDATES}/FirmwareInventory/{one}"} for one in box[0].versions]}

    @application.get(f"{UPDATES}/FirmwareInventory/<name>")
    def item(name: str) -> Any:
        version, updateable = box[0].versions[name], box[0].updateable
        return {"Id": name, "Name": f"The {name}", "Version": version, "Updateable": updateable}

    @application.post(f"{UPDATES}/Actions/SimpleUpdate")
    def order() -> Any:
        fake = box[0]
        if fake.busy:
            fake.busy -= 1
            return "", 503
        fake.orders.append(flask.request.json)
        if fake.at_once:
            fake.done()
            return "", 204
        return "", 202, {"Location": f"{TASKS}/TaskMonitors/1"}

    @application.get(f"{TASKS}/TaskMonitors/1")
    def monitor() -> Any:
        fake = box[0]
        fake.looks += 1
        if fake.away:
            fake.away -= 1
            return "", 503
        if fake.forgets:
            fake.done()
            return "", 404
        if fake.looks <= fake.works:
            return {"Id": "1", "Name": "Update", "TaskState": "Running", "Messages": []}, 202
        return fake.done()

    return application


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[Fake], BmcAccess, Backends]]:
    folder = tmp_path_factory.mktemp("bmc")
    authority = Authority(folder, "authority")
    (folder / "secrets").mkdir()
    (folder / "secrets" / "bmc").write_text(PASSWORD)
    (folder / "secrets" / "bmc").chmod(0o600)
    box = [Fake()]
    server = make_server("127.0.0.1", 0, service(box), threaded=True, ssl_context=authority.server_context())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    access = BmcAccess(
        machine="db1.dc1",
        address=f"https://127.0.0.1:{server.server_port}",
        username=USER,
        password=SecretRef.parse("file:bmc"),
        ca=authority.file,
    )
    try:
        yield box, access, Backends({"file": PrivateFiles(root=folder / "secrets")})
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


@pytest.fixture
def fake(running) -> Fake:
    running[0][0] = Fake()
    return running[0][0]


@pytest.fixture
def bmc(running, fake) -> BmcAccess:
    return running[1]


@pytest.fixture
def upkeep(running, monkeypatch: pytest.MonkeyPatch) -> RedfishUpkeep:
    monkeypatch.setattr(redfish_firmware, "POLL", timedelta(milliseconds=20))
    quick = Timeouts(patience=timedelta(), poll=timedelta(milliseconds=20), read=timedelta(seconds=5))
    return RedfishUpkeep(running[2], quick)


@pytest.fixture
def context(tmp_path) -> Context:
    return Context(work=tmp_path)


def bios(bmc: BmcAccess, version: str = "2.18.0", seconds: float = 20) -> FirmwareUpdate:
    deadline = timedelta(seconds=seconds)
    return FirmwareUpdate(bmc=bmc, component="BIOS", version=version, image=IMAGE, deadline=deadline)


def test_the_inventory_is_read_as_values(fake, bmc, upkeep, context) -> None:
    found = {one.id: (one.name, one.version, one.updateable) for one in upkeep.inventory(bmc, context)}
    assert found == {"BIOS": ("The BIOS", "2.17.0", True), "NIC.1": ("The NIC.1", "22.00.6", True)}


def test_a_bios_is_updated_with_the_restart_that_the_task_asks_for_and_read_again(fake, bmc, upkeep, context) -> None:
    result = upkeep.update(bios(bmc), context)
    assert (result.ok, result.before, result.after, result.reset) == (True, "2.17.0", "2.18.0", True)
    assert fake.resets == ["GracefulRestart"]
    (order,) = fake.orders
    target = f"{UPDATES}/FirmwareInventory/BIOS"
    assert order == {"ImageURI": IMAGE, "TransferProtocol": "HTTPS", "Targets": [target]}


def test_nothing_is_done_where_the_version_is_there_already(fake, bmc, upkeep, context) -> None:
    result = upkeep.update(bios(bmc, "2.17.0"), context)
    assert (result.ok, result.after, result.detail) == (True, "2.17.0", "it has this version already")
    assert (fake.orders, fake.resets) == ([], [])


def test_what_is_active_at_once_needs_no_restart(fake, bmc, upkeep, context) -> None:
    fake.wanted = ("NIC.1", "23")
    result = upkeep.update(replace(bios(bmc), component="The NIC.1", version="23"), context)
    assert (result.ok, result.after, result.reset, result.detail) == (True, "23", False, "It was installed.")
    assert fake.resets == []


@pytest.mark.parametrize("fault", ["forgets", "at_once"])
def test_a_bmc_that_tells_no_end_is_believed_by_the_version_alone(fake, bmc, upkeep, context, fault: str) -> None:
    fake.wanted = ("NIC.1", "23")
    setattr(fake, fault, True)
    assert upkeep.update(replace(bios(bmc), component="NIC.1", version="23"), context).ok
    assert len(fake.orders) == 1


def test_a_bmc_that_is_away_meanwhile_is_waited_for(fake, bmc, upkeep, context) -> None:
    fake.away = 3
    assert upkeep.update(bios(bmc), context).ok
    assert len(fake.orders) == 1


def test_a_busy_bmc_is_asked_again_because_it_did_not_take_the_order(fake, bmc, upkeep, context) -> None:
    fake.busy = 2
    assert upkeep.update(bios(bmc), context).ok
    fake.versions["BIOS"], fake.busy = "2.17.0", 10**6
    with pytest.raises(Throttled):
        upkeep.update(bios(bmc, seconds=0.2), context)


@pytest.mark.parametrize(
    "case",
    [
        ({"fails": "The image is damaged."}, "the task failed: The image is damaged."),
        ({"keeps": True}, "A reset is needed. - the BMC still shows '2.17.0'"),
        ({"works": 10**6}, "works still"),
        ({"power": "Off"}, "A reset is needed. The machine is off, and takes it over when it is started."),
        ({"refuses_reset": True}, "The machine could not be restarted: db1.dc1"),
        ({"updateable": False}, "the BMC says that it cannot be updated"),
    ],
)
def test_an_update_that_does_not_happen_is_a_result_with_its_reason(fake, bmc, upkeep, context, case) -> None:
    fault, words = case
    for name, value in fault.items():
        setattr(fake, name, value)
    result = upkeep.update(bios(bmc, seconds=4), context)
    assert (result.ok, result.before, result.after) == (False, "2.17.0", "2.17.0")
    assert words in result.detail


def test_an_unknown_component_is_said_with_those_that_there_are(fake, bmc, upkeep, context) -> None:
    with pytest.raises(EngineFailed, match=r"db1\.dc1.* knows no firmware 'BOIS' \(did you mean 'BIOS'\?\)"):
        upkeep.update(replace(bios(bmc), component="BOIS"), context)
    assert fake.orders == []


def test_waiting_for_a_task_stops_on_request(fake, bmc, upkeep, context) -> None:
    fake.works = 10**6
    timer = threading.Timer(0.5, context.cancelled.set)
    timer.start()
    with pytest.raises(Cancelled):
        upkeep.update(bios(bmc), context)
    timer.join()


def test_a_machine_is_power_cycled_and_one_that_is_off_is_switched_on(fake, bmc, upkeep, context) -> None:
    words = upkeep.power_cycle(bmc, timedelta(seconds=10), context)
    assert words.startswith("db1.dc1 was On, off after ")
    assert (fake.resets, fake.power) == (["GracefulShutdown", "On"], "On")
    fake.power = "Off"
    fake.resets.clear()
    upkeep.power_cycle(bmc, timedelta(seconds=10), context)
    assert (fake.resets, fake.power) == (["On"], "On")


def test_a_bmc_that_cannot_be_asked_is_an_error(fake, bmc, upkeep, context) -> None:
    with pytest.raises(Unreachable, match=r"db1\.dc1"):
        upkeep.inventory(replace(bmc, address=f"https://127.0.0.1:{free_port()}"), context)
    with pytest.raises(CredentialRejected):
        upkeep.inventory(replace(bmc, username="nobody"), context)


@pytest.mark.parametrize("resets", [["GracefulRestart"], ["GracefulShutdown", "On"]])
def test_a_restart_asks_the_operating_system_once(fake, bmc, upkeep, context, resets: list[str]) -> None:
    fake.kinds = ["On", "ForceOff", "ForceRestart", *resets]
    said = upkeep.restart(bmc, timedelta(seconds=10), context)
    assert said == f"{' and '.join(resets)} through the BMC of db1.dc1"
    assert (fake.resets, fake.power) == (resets, "On")


@pytest.mark.parametrize("kinds", [["On", "ForceOff", "ForceRestart"], ["ForceRestart", "GracefulShutdown"]])
def test_a_bmc_that_could_only_pull_the_plug_says_what_it_offers_and_does_nothing(
    fake, bmc, upkeep, context, kinds: list[str]
) -> None:
    fake.kinds = kinds
    offers = ", ".join(sorted(kinds))
    with pytest.raises(EngineFailed, match=f"asks the operating system first: it offers {offers}") as refused:
        upkeep.restart(bmc, timedelta(seconds=10), context)
    assert refused.value.untouched
    assert fake.resets == []


def test_a_machine_that_is_off_is_not_restarted(fake, bmc, upkeep, context) -> None:
    fake.power = "Off"
    with pytest.raises(EngineFailed, match="says that the machine is Off"):
        upkeep.restart(bmc, timedelta(seconds=10), context)
    assert fake.resets == []


def test_a_reset_that_the_bmc_refuses_is_an_error_and_not_sent_again(fake, bmc, upkeep, context) -> None:
    fake.refuses_reset = True
    with pytest.raises(EngineFailed, match="door is open"):
        upkeep.restart(bmc, timedelta(seconds=10), context)
    assert fake.resets == []
