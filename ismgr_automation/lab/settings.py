"""Kernel settings that labs need on their host: raised while there is a lab, put back with the last one."""

from __future__ import annotations

import json
from pathlib import Path

from ismgr_automation.lab import networks
from ismgr_automation.lab.folder import RUN, write_private

WANTED = {"fs.inotify.max_user_instances": 4096}
"""Each systemd holds about five inotify instances, and all machines count as one user."""
_RECORD = RUN / "settings.json"


def raise_limits() -> tuple[str, ...]:
    """Raise what is too low and remember what it was; returns the names. Call it while holding the labs' lock."""
    remembered = _remembered()
    raised = []
    for name, wanted in WANTED.items():
        now = int(_path(name).read_text())
        if now < wanted:
            remembered.setdefault(name, now)
            write_private(_RECORD, json.dumps(remembered))
            _path(name).write_text(str(wanted))
            raised.append(name)
    return tuple(raised)


def restore(*, without: str) -> tuple[str, ...]:
    """Put back what was raised, unless there is a lab other than ``without``; returns what was put back."""
    if set(networks.indexes()) - {without}:
        return ()
    restored = []
    for name, before in _remembered().items():
        # somebody else may have set it since: then it is theirs
        if int(_path(name).read_text()) == WANTED[name]:
            _path(name).write_text(str(before))
            restored.append(f"setting {name}")
    _RECORD.unlink(missing_ok=True)
    return tuple(restored)


def _remembered() -> dict[str, int]:
    try:
        body: dict[str, int] = json.loads(_RECORD.read_text())
    except FileNotFoundError:
        return {}
    return {name: before for name, before in body.items() if name in WANTED}


def _path(name: str) -> Path:
    return Path("/proc/sys") / name.replace(".", "/")
