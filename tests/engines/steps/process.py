"""A process of a test: ``serve`` carries units of a run out for another one, ``coordinate`` performs units itself. It
takes its orders as JSON on the command line, and its password on its standard input."""

from __future__ import annotations

import json
import sys
import threading
from datetime import timedelta
from pathlib import Path

from ismgr_automation.core.secret import Secret
from ismgr_automation.engines.steps.rows import Place
from ismgr_automation.engines.steps.sequencer import DbosSequencer
from ismgr_automation.engines.steps.server import DbosServer
from tests.engines.steps.shared import HOLDER, Site, units, wait_for


def main() -> None:
    orders = json.loads(sys.argv[1])
    password = sys.stdin.readline().strip()
    place = Place(url=orders["url"], password=Secret(password) if password else None)
    site = Site(place, Path(orders["folder"]))
    ttl = timedelta(seconds=orders["ttl"])
    name = orders["name"]
    if orders["do"] == "serve":
        with DbosServer(
            site.place,
            executor=name,
            holder=HOLDER,
            executors=site.executors,
            work=lambda unit: site.work(unit, name),
            may_begin=lambda _unit: True,
            at_once=orders["at_once"],
            ttl=ttl,
        ) as server:
            server.listen([orders["run"]])
            site.note(f"listening {name}")
            wait_for((site.folder / "over").exists)
            wait_for(lambda: not server.in_hand())
        return
    with DbosSequencer(
        site.place,
        executor=name,
        holder=HOLDER,
        executors=site.executors,
        work=lambda unit: site.work(unit, name),
        at_once=orders["at_once"],
        ttl=ttl,
    ) as sequencer:
        for unit, _ in sequencer.perform(units(*orders["units"], run=orders["run"]), threading.Event()):
            site.note(f"outcome {unit.key} {unit.attempt}")
    site.note(f"done {name}")


if __name__ == "__main__":
    main()
