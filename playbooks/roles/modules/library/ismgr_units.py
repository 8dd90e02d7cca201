"""Ansible module: systemd units that run, start at boot and have seen their newest files. It edits no file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: ismgr_units
short_description: Keep systemd units enabled, running and up to date
description:
  - Looks at all units at once and changes what is not as asked.
  - A unit is restarted (or reloaded) when one of the files that it reads is newer than its last start (or reload).
    That is read from the machine, so a run that stopped in the middle is finished by the next one, which a lost
    handler never is.
  - A unit that systemd itself skips because of a Condition in it (a clock that is not ours to set, for example)
    counts as started.
  - In check mode it reports exactly what it would change, for units that a package has yet to bring too.
options:
  units:
    description: The units.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: The unit's name with its suffix., type: str, required: true}
      enabled: {description: Starts at boot., type: bool, default: true}
      running: {description: Runs now., type: bool, default: true}
      restart: {description: Files that it reads only when it starts., type: list, elements: path, default: []}
      reload: {description: Files that it reads again on reload., type: list, elements: path, default: []}
      packages: {description: Packages that bring it., type: list, elements: str, default: []}
  installed:
    description:
      - Packages that an earlier task of this run installed, or in check mode would install. A unit of theirs is started
        or restarted in any case; whether a package starts its service by itself is known only afterwards.
    type: list
    elements: str
    default: []
  changed_paths:
    description: Files that an earlier task of this run changed, or in check mode would change.
    type: list
    elements: path
    default: []
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be, such as "start haproxy.service".
  type: list
  returned: always
"""

UNIT = {
    "name": {"type": "str", "required": True},
    "enabled": {"type": "bool", "default": True},
    "running": {"type": "bool", "default": True},
    "restart": {"type": "list", "elements": "path", "default": []},
    "reload": {"type": "list", "elements": "path", "default": []},
    "packages": {"type": "list", "elements": "str", "default": []},
}
STAMPS = Path("/run/ismgr-units")
PROPERTIES = "Id,LoadState,ActiveState,NeedDaemonReload,ConditionResult,ConditionTimestamp,ActiveEnterTimestamp"


def systemctl(module, *words, check=True):
    code, out, err = module.run_command(["systemctl", *words])
    if code and check:
        log = module.run_command(["journalctl", "--no-pager", "--lines=6", "--output=cat", f"--unit={words[-1]}"])[1]
        why = " | ".join(log.splitlines()) or err.strip() or out.strip()
        module.fail_json(msg=f"systemctl {' '.join(words)} failed: {why}")
    return out


def moment(text):
    """Seconds since the epoch of a systemd timestamp in UTC with microseconds, 0.0 for none."""
    if not text:
        return 0.0
    parsed = datetime.strptime(text, "%a %Y-%m-%d %H:%M:%S.%f UTC").replace(tzinfo=UTC)
    return parsed.timestamp()


def observe(module, names):
    """Properties of each unit, in the order of the names."""
    words = ["show", "--timestamp=us+utc", f"--property={PROPERTIES}", *names]
    blocks = systemctl(module, *words, check=False).strip().split("\n\n")
    seen = [dict(line.partition("=")[::2] for line in block.splitlines()) for block in blocks]
    if len(seen) != len(names):
        module.fail_json(msg=f"systemd described {len(seen)} of the units {', '.join(names)}")
    return [one | {"UnitFileState": state} for one, state in zip(seen, on_disk(module, names), strict=True)]


def on_disk(module, names):
    """What the unit files say about each unit now; ``show`` would repeat what they said when systemd read them."""
    states = systemctl(module, "is-enabled", *names, check=False).splitlines()
    if len(states) == len(names):
        return states
    # a unit that does not exist has no line: ask one by one
    return [systemctl(module, "is-enabled", name, check=False).strip() for name in names]


def newest(paths):
    """When the newest of the files was written; 0.0 when there is none."""
    return max((path.stat().st_mtime for path in map(Path, paths) if path.exists()), default=0.0)


def stamp(unit):
    return STAMPS / unit["name"]


def runs(unit, seen):
    skipped = seen["ConditionResult"] == "no" and seen["ConditionTimestamp"] != ""
    return seen["ActiveState"] in {"active", "activating", "reloading"} or (unit["running"] and skipped)


def actions(unit, seen, changed, installed=frozenset()):
    """The verbs that the unit needs, in order."""
    if seen["UnitFileState"] in {"masked", "masked-runtime"}:
        yield "unmask"
    if unit["enabled"] and seen["UnitFileState"] not in {"enabled", "static", "indirect", "generated", "alias"}:
        yield "enable"
    if not unit["enabled"] and seen["UnitFileState"] in {"enabled", "enabled-runtime"}:
        yield "disable"
    if not unit["running"]:
        if seen["ActiveState"] in {"active", "activating", "reloading"}:
            yield "stop"
        return
    if not runs(unit, seen):
        yield "start"
        return
    if seen["ActiveState"] not in {"active", "activating", "reloading"}:
        return
    started = moment(seen["ActiveEnterTimestamp"])
    reloaded = max(started, newest([stamp(unit)]))
    fresh = installed.intersection(unit["packages"])
    if fresh or changed.intersection(unit["restart"]) or newest(unit["restart"]) > started:
        yield "restart"
    elif changed.intersection(unit["reload"]) or newest(unit["reload"]) > reloaded:
        yield "reload"


def perform(module, unit, verbs):
    for verb in verbs:
        if verb in {"start", "restart"}:
            systemctl(
                module, "reset-failed", unit["name"], check=False
            )  # a start limit of earlier attempts is not ours
        systemctl(module, verb, unit["name"])
        if verb == "reload":
            STAMPS.mkdir(mode=0o755, exist_ok=True)
            stamp(unit).touch()


def main():
    module = AnsibleModule(
        argument_spec={
            "units": {"type": "list", "elements": "dict", "required": True, "options": UNIT},
            "installed": {"type": "list", "elements": "str", "default": []},
            "changed_paths": {"type": "list", "elements": "path", "default": []},
        },
        supports_check_mode=True,
    )
    units = module.params["units"]
    names = [unit["name"] for unit in units]
    seen = observe(module, names)
    if (
        any(one["NeedDaemonReload"] == "yes" or one["LoadState"] == "not-found" for one in seen)
        and not module.check_mode
    ):
        systemctl(module, "daemon-reload")
        seen = observe(module, names)
    changed, installed = set(module.params["changed_paths"]), set(module.params["installed"])
    todo = [(unit, list(actions(unit, one, changed, installed))) for unit, one in zip(units, seen, strict=True)]
    done = [f"{verb} {unit['name']}" for unit, verbs in todo for verb in verbs]
    result = {"changed": bool(done), "actions": done}
    if module._diff and done:  # noqa: SLF001 - the documented way to ask
        result["diff"] = {"before": "", "after": "".join(f"{line}\n" for line in done), "after_header": "systemd"}
    if not module.check_mode:
        for unit, verbs in todo:
            perform(module, unit, verbs)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
