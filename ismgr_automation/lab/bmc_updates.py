"""Redfish's update and task services over the firmware of one machine, in place of those of sushy-tools, which know one
task and no inventory. Requests become calls of ``firmware``, and answers; nothing is remembered here."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import flask

from ismgr_automation.lab.faults import Fault
from ismgr_automation.lab.firmware import NAMES, UPDATE_FAULTS, Busy, Firmware, State

UPDATES, TASKS = "/redfish/v1/UpdateService", "/redfish/v1/TaskService"
_INVENTORY = f"{UPDATES}/FirmwareInventory"
_PROTOCOLS = ("HTTP", "HTTPS")

Take = Callable[..., Fault | None]
"""``Bmc.take_fault``."""


def install(application: flask.Flask, current: Callable[[], tuple[Firmware, Take]]) -> None:
    """Answer for the BMC that ``current`` gives. Called once, before the first request."""

    def firmware() -> Firmware:
        return current()[0]

    def update() -> flask.Response:
        found, take = current()
        return _simple_update(found, take)

    routes: dict[str, Callable[..., flask.Response]] = {
        UPDATES: _update_service,
        _INVENTORY: lambda: _collection(_INVENTORY, "SoftwareInventory", list(firmware().versions())),
        f"{_INVENTORY}/<identity>": lambda identity: _item(firmware(), identity),
        TASKS: _task_service,
        f"{TASKS}/Tasks": lambda: _collection(f"{TASKS}/Tasks", "Task", [one["Id"] for one in firmware().tasks()]),
        f"{TASKS}/Tasks/<identity>": lambda identity: _task(firmware(), identity),
        f"{TASKS}/TaskMonitors/<identity>": lambda identity: _monitor(firmware(), identity),
    }
    # the emulator's own answers at these addresses give way
    application.view_functions["UpdateService.update_service_resource"] = _update_service
    application.view_functions["UpdateService.update_service_simple_update"] = update
    application.view_functions["simple_task_service"] = _task_service
    for address, view in routes.items():
        application.add_url_rule(address, endpoint=f"ismgr{address}", view_func=view, strict_slashes=False)


def _update_service() -> flask.Response:
    return flask.jsonify(
        {
            "@odata.type": "#UpdateService.v1_11_0.UpdateService",
            "@odata.id": UPDATES,
            "Id": "UpdateService",
            "Name": "Update Service",
            "ServiceEnabled": True,
            "FirmwareInventory": {"@odata.id": _INVENTORY},
            "Actions": {
                "#UpdateService.SimpleUpdate": {
                    "target": f"{UPDATES}/Actions/UpdateService.SimpleUpdate",
                    "TransferProtocol@Redfish.AllowableValues": list(_PROTOCOLS),
                }
            },
        }
    )


def _item(firmware: Firmware, identity: str) -> flask.Response:
    version = firmware.versions().get(identity)
    if version is None:
        return _error(HTTPStatus.NOT_FOUND, "Base.1.8.ResourceMissingAtURI", f"there is no firmware {identity}")
    return flask.jsonify(
        {
            "@odata.type": "#SoftwareInventory.v1_4_0.SoftwareInventory",
            "@odata.id": f"{_INVENTORY}/{identity}",
            "Id": identity,
            "Name": NAMES[identity],
            "Version": version,
            "Updateable": True,
            "SoftwareId": identity,
            "Status": {"State": "Enabled", "Health": "OK"},
        }
    )


def _simple_update(firmware: Firmware, take: Take) -> flask.Response:
    body = flask.request.get_json(silent=True)
    wanted: dict[str, Any] = body if isinstance(body, dict) else {}
    url = wanted.get("ImageURI")
    if not isinstance(url, str) or not url:
        return _error(HTTPStatus.BAD_REQUEST, "Base.1.8.ActionParameterMissing", "ImageURI is missing")
    scheme = url.partition("://")[0].upper()
    if scheme not in _PROTOCOLS or wanted.get("TransferProtocol", scheme) not in _PROTOCOLS:
        ways = " or ".join(_PROTOCOLS)
        return _error(HTTPStatus.BAD_REQUEST, "Base.1.8.ActionParameterNotSupported", f"images come over {ways}")
    try:
        task = firmware.begin(url, take("POST", *UPDATE_FAULTS))
    except Busy:
        return _error(
            HTTPStatus.SERVICE_UNAVAILABLE, "Base.1.8.ServiceTemporarilyUnavailable", "another update is under way"
        )
    return flask.Response(status=HTTPStatus.ACCEPTED, headers={"Location": f"{TASKS}/TaskMonitors/{task}"})


def _task_service() -> flask.Response:
    return flask.jsonify(
        {
            "@odata.type": "#TaskService.v1_1_2.TaskService",
            "@odata.id": TASKS,
            "Id": "TaskService",
            "Name": "Task Service",
            "ServiceEnabled": True,
            "Tasks": {"@odata.id": f"{TASKS}/Tasks"},
        }
    )


def _task(firmware: Firmware, identity: str) -> flask.Response:
    found = _found(firmware, identity)
    return _no_task(identity) if found is None else flask.jsonify(found)


def _monitor(firmware: Firmware, identity: str) -> flask.Response:
    """Accepted as long as the task runs; then what came of it."""
    found = _found(firmware, identity)
    if found is None:
        return _no_task(identity)
    answer = flask.jsonify(found)
    if found["TaskState"] == State.RUNNING:
        answer.status_code = HTTPStatus.ACCEPTED
        answer.headers["Location"] = found["TaskMonitor"]
        answer.headers["Retry-After"] = "1"
    return answer


def _found(firmware: Firmware, identity: str) -> dict[str, Any] | None:
    return next((one for one in firmware.tasks() if one["Id"] == identity), None)


def _no_task(identity: str) -> flask.Response:
    return _error(HTTPStatus.NOT_FOUND, "Base.1.8.ResourceMissingAtURI", f"there is no task {identity}")


def _collection(address: str, kind: str, members: list[str]) -> flask.Response:
    return flask.jsonify(
        {
            "@odata.type": f"#{kind}Collection.{kind}Collection",
            "@odata.id": address,
            "Name": f"{kind} Collection",
            "Members@odata.count": len(members),
            "Members": [{"@odata.id": f"{address}/{one}"} for one in members],
        }
    )


def _error(status: HTTPStatus, code: str, message: str) -> flask.Response:
    told = {"code": code, "message": message, "@Message.ExtendedInfo": [{"MessageId": code, "Message": message}]}
    answer = flask.jsonify({"error": told})
    answer.status_code = status
    return answer
