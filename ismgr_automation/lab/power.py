"""The power of one machine: the life of its container. Used by the supervisor only, which starts machines again after a
reboot."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from enum import StrEnum

from ismgr_automation.lab import machines

OFF_SIGNAL, RESTART_SIGNAL = "RTMIN+4", "RTMIN+5"
"""What systemd as init understands as power-off and reboot."""


class Level(StrEnum):
    """What the switch knows."""

    UNKNOWN = "unknown"
    RUNNING = "running"
    REBOOTING = "rebooting"
    OFF = "off"


def _nothing() -> None:
    return None


class Power:
    """The switch of one machine. With ``always`` there is no off: whatever ends it, it is started again."""

    def __init__(self, container: str, *, always: bool) -> None:
        self.before_boot: Callable[[], None] = _nothing
        """Called each time before the machine boots."""
        self.after_boot: Callable[[], None] = _nothing
        """Called each time the machine has begun to boot: its network cards are plugged in."""
        self._container = container
        self._always = always
        self._lock = threading.RLock()
        self._level = Level.UNKNOWN
        self._life: int | None = None
        """A descriptor of the machine's init: asking podman costs 60 ms each time, asking the kernel nothing."""

    def is_on(self) -> bool:
        """Whether the machine has power; it has while it reboots."""
        with self._lock:
            return self._look() in {Level.RUNNING, Level.REBOOTING}

    def on(self) -> None:
        """Switch it on; nothing happens when it is on."""
        with self._lock:
            if self._look() is not Level.RUNNING:
                self._start()

    def force_off(self) -> None:
        """Pull the plug."""
        with self._lock:
            if self._look() is Level.RUNNING:
                machines.signal(self._container, "KILL")
                machines.wait(self._container)
            self._settle(Level.OFF)

    def force_restart(self) -> None:
        """Pull the plug and put it back."""
        with self._lock:
            self.force_off()
            self._start()

    def ask_to_end(self) -> None:
        """Press the power button: the operating system shuts down in its own time, if it does."""
        self._ask(OFF_SIGNAL)

    def ask_to_restart(self) -> None:
        """Ask the operating system to restart in its own time."""
        self._ask(RESTART_SIGNAL)

    def died(self) -> None:
        """Its container may have ended: start it again if it reboots."""
        with self._lock:
            if self._look() is Level.REBOOTING:
                self._start()

    def _ask(self, signal: str) -> None:
        with self._lock:
            if self._look() is Level.RUNNING:
                machines.signal(self._container, signal)

    def _start(self) -> None:
        self.before_boot()
        machines.start(self._container)
        self._settle(Level.UNKNOWN)
        self._look()
        self.after_boot()

    def _look(self) -> Level:
        if self._life is not None and select.select([self._life], [], [], 0)[0]:
            # podman learns of the end, and of its cause, a moment after the kernel
            machines.wait(self._container)
            self._settle(Level.UNKNOWN)
        if self._level is Level.UNKNOWN:
            self._ask_podman()
        return self._level

    def _ask_podman(self) -> None:
        state = machines.inspect(self._container)
        if state.running:
            self._life = _descriptor(state.pid)
            self._level = Level.RUNNING
        elif self._always or state.exit_code == machines.REBOOT:
            self._level = Level.REBOOTING
        else:
            self._level = Level.OFF

    def _settle(self, level: Level) -> None:
        if self._life is not None:
            os.close(self._life)
            self._life = None
        self._level = level


def _descriptor(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        # it ended just now: a descriptor that reads as ended
        reader, writer = os.pipe()
        os.close(writer)
        return reader
