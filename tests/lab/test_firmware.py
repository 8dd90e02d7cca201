"""Firmware of a machine without a machine: what is taken, what waits, what a restart of the BMC leaves."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from ismgr_automation.lab import firmware
from ismgr_automation.lab.firmware import Busy, Firmware, image
from tests.fixtures_lab import until

GOOD = image("NIC.1", "22.31.6")


class Kept:
    """Memory of a BMC that is never written to a disk."""

    def __init__(self, **values: Any) -> None:
        self.values: dict[str, Any] = {"firmware": {}, "firmware_pending": {}, "tasks": []} | values

    def get(self, name: str) -> Any:
        return [dict(one) for one in self.values[name]] if name == "tasks" else dict(self.values[name])

    def set(self, **values: Any) -> None:
        self.values |= values


@pytest.fixture
def served() -> Iterator[dict[str, str]]:
    """What a server on loopback answers, by path; ``url`` is where it is."""
    texts: dict[str, str] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path in texts else 404)
            self.end_headers()
            self.wfile.write(texts.get(self.path, "").encode())

        def log_message(self, *_words: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        texts["url"] = f"http://127.0.0.1:{server.server_port}"
        Thread(target=server.serve_forever, daemon=True).start()
        yield texts
        server.shutdown()


def ended(one: Firmware, task: str) -> dict[str, Any]:
    def found() -> dict[str, Any]:
        return next(row for row in one.tasks() if row["Id"] == task)

    until("the task ends", lambda: found()["TaskState"] != "Running")
    return found()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("no JSON", "no firmware image"),
        ("[]", "no firmware image"),
        (GOOD.replace('"payload": "', '"payload": "x'), "damaged"),
        (image("TPM", "7.2"), "no TPM"),
    ],
)
def test_an_image_that_is_none_or_for_another_machine_is_refused(served, text, told):
    served["/image"] = text
    one = Firmware(Kept())
    task = ended(one, one.begin(f"{served['url']}/image", None))
    assert task["TaskState"] == "Exception"
    assert task["Messages"][-1]["MessageId"] == "Update.1.0.VerificationFailed"
    assert told in task["Messages"][-1]["Message"]
    assert one.versions() == firmware.VERSIONS


def test_a_bios_waits_for_the_boot_and_one_update_for_the_other(served):
    served["/bios"] = image("BIOS", "3.0.0")
    memory = Kept()
    one = Firmware(memory)
    task = one.begin(f"{served['url']}/bios", None)
    with pytest.raises(Busy):
        one.begin(f"{served['url']}/bios", None)
    assert ended(one, task)["TaskState"] == "Completed"
    assert one.versions()["BIOS"] == firmware.VERSIONS["BIOS"]
    one.boots()
    assert one.versions()["BIOS"] == "3.0.0"
    assert Firmware(memory).versions()["BIOS"] == "3.0.0", "it is remembered"


def test_a_task_that_ran_when_the_bmc_ended_has_failed_when_it_is_back():
    running = {"Id": "JID_000007", "TaskState": "Running", "Messages": []}
    one = Firmware(Kept(tasks=[running, {"Id": "JID_000008", "TaskState": "Completed", "Messages": []}]))
    assert [task["TaskState"] for task in one.tasks()] == ["Exception", "Completed"]
