"""The process that keeps a lab alive: it serves the BMCs and starts those again that reboot. One per lab, in a session
of its own; it makes no lab and removes none."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ismgr_automation.lab import machines, networks
from ismgr_automation.lab.folder import Folder, write_private
from ismgr_automation.lab.power import Power
from ismgr_automation.lab.topology import Machine, Topology

READY = b"ready"
_HANDS = 4
_FREEBIND = 15
"""IP_FREEBIND of <linux/in.h>; Python has no name for it. The BMCs' addresses come and go with the bridge."""

log = logging.getLogger("ismgr.lab")


def main() -> None:
    """``python -m ismgr_automation.lab.supervisor FOLDER``: return when the supervisor works, which goes on alone."""
    folder = Folder(Path(sys.argv[1]))
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            answer = pipe.read()
        if answer != READY:
            sys.stderr.write(answer.decode(errors="replace"))
        os._exit(0 if answer == READY else 1)
    os.close(reader)
    os.setsid()
    _leave_the_terminal(folder.log)
    try:
        _Supervisor(folder).run(writer)
    except BaseException as problem:
        log.exception("the supervisor ended")
        if not isinstance(problem, BrokenPipeError):
            os.write(writer, f"{type(problem).__name__}: {problem}\n".encode())
        raise


def _leave_the_terminal(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.chdir("/")
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(levelname)s %(message)s")


class _Supervisor:
    def __init__(self, folder: Folder) -> None:
        record = folder.read()
        if record is None:
            raise FileNotFoundError(folder.record)
        self._folder = folder
        self._topology: Topology = record.topology
        self._bridges = networks.bridges(self._topology)
        self._stop = threading.Event()
        self._powers: Mapping[str, Power] = {}
        self._events: subprocess.Popen[str] | None = None

    def run(self, ready: int) -> None:
        from ismgr_automation.lab import bmc

        bmc.install()
        signal.signal(signal.SIGTERM, lambda _number, _frame: self._stop.set())
        write_private(self._folder.pid, f"{os.getpid()}\n")
        powers: dict[str, Power] = {}
        servers = []
        for machine in self._topology.machines:
            power = Power(self._topology.container(machine), always=machine.bmc is None)
            power.after_boot = self._settle
            powers[self._topology.container(machine)] = power
            if machine.bmc is not None:
                memory = bmc.Memory(self._folder.bmc(machine, "json"))
                one = bmc.Bmc(machine, power, memory, self._folder.faults(machine.name))
                files = (self._folder.bmc(machine, "pem"), self._folder.bmc(machine, "users"))
                servers.append(one.server(*files, _listen(machine)))
        self._powers = powers
        for server in servers:
            threading.Thread(target=server.serve_forever, daemon=True).start()
        threading.Thread(target=self._watch, daemon=True).start()
        os.write(ready, READY)
        os.close(ready)
        log.info("serving %d BMCs", len(servers))
        self._stop.wait()
        log.info("told to end")
        if self._events is not None:
            self._events.terminate()
            self._events.wait()
        self._folder.pid.unlink(missing_ok=True)

    def _settle(self) -> None:
        networks.settle(self._topology, self._bridges)

    def _watch(self) -> None:
        """Hear of each machine that ended; podman's stream of events is opened again should it break."""
        with ThreadPoolExecutor(_HANDS) as hands:
            while not self._stop.is_set():
                with _events(self._topology.name) as self._events:
                    # what ended while nobody listened
                    for container in self._powers:
                        hands.submit(self._died, container)
                    for line in self._events.stdout or ():
                        hands.submit(self._died, json.loads(line)["Name"])
                self._stop.wait(1.0)

    def _died(self, container: str) -> None:
        power = self._powers.get(container)
        if power is None:
            return
        try:
            power.died()
        except Exception:
            log.exception("%s could not be looked after", container)


def _events(lab: str) -> subprocess.Popen[str]:
    return subprocess.Popen(machines.died_command(lab), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)


def _listen(machine: Machine) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_IP, _FREEBIND, 1)
    listener.bind((str(machine.bmc), 443))
    listener.listen(64)
    return listener


if __name__ == "__main__":
    main()
