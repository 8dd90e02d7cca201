"""Kernel settings that change on a host while it has labs: remembered with the first, put back with the last."""

from __future__ import annotations

import json
from pathlib import Path

from ismgr_automation.lab import networks
from ismgr_automation.lab.folder import RUN, write_private

LIMITS = {"fs.inotify.max_user_instances": 4096}
"""Raised to this. Each systemd holds about five inotify instances, and all machines count as one user."""
FORWARDING = "net.ipv4.ip_forward"
"""Labs do not want it; podman's network tool sets it with every container that it starts."""
_RECORD = RUN / "settings.json"


def raise_limits() -> tuple[str, ...]:
    """Remember what labs change and raise what is too low; returns the names of what was raised.

    Call it while holding the labs' lock.
    """
    remembered = {name: _read(name) for name in (*LIMITS, FORWARDING)} | _remembered()
    write_private(_RECORD, json.dumps(remembered))
    raised = tuple(name for name, wanted in LIMITS.items() if _read(name) < wanted)
    for name in raised:
        _write(name, LIMITS[name])
    return raised


def restore(*, without: str) -> tuple[str, ...]:
    """Put back what was changed, unless there is a lab other than ``without``; returns what was put back.

    What somebody else may have set or may need since stays as it is.
    """
    if set(networks.indexes()) - {without}:
        return ()
    remembered = _remembered()
    ours = {name: _read(name) == LIMITS[name] for name in LIMITS} | {FORWARDING: not networks.any_bridge()}
    changed = tuple(name for name, before in remembered.items() if ours[name] and _read(name) != before)
    for name in changed:
        _write(name, remembered[name])
    _RECORD.unlink(missing_ok=True)
    return tuple(f"setting {name}" for name in changed)


def _remembered() -> dict[str, int]:
    try:
        body: dict[str, int] = json.loads(_RECORD.read_text())
    except FileNotFoundError:
        return {}
    return {name: before for name, before in body.items() if name in {*LIMITS, FORWARDING}}


def _read(name: str) -> int:
    return int(_path(name).read_text())


def _write(name: str, value: int) -> None:
    _path(name).write_text(str(value))


def _path(name: str) -> Path:
    return Path("/proc/sys") / name.replace(".", "/")
