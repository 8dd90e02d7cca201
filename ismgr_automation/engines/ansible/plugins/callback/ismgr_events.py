"""Ansible callback ``ismgr_events``: tells how tasks end to the ismgr process over its socket; prints nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ansible.plugins.callback import CallbackBase  # type: ignore[import-untyped]

DOCUMENTATION = """
name: ismgr_events
type: stdout
short_description: results for ismgr
description:
  - One JSON object per line over the socket ISMGR_DESK, as long as ansible-playbook runs.
"""

LARGEST_TEXT = 1024 * 1024
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SETS_FACTS = ("set_fact", "ansible.builtin.set_fact", "ansible.legacy.set_fact")
_NOT_READ = ("name", "register", "notify", "tags", "listen")
_EXPRESSIONS = ("when", "until", "changed_when", "failed_when", "loop", "with_items", "that", "var")
_TEMPLATE = re.compile(r"\{[{%].*?[%}]\}", re.DOTALL)


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """What Ansible loads."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "ismgr_events"

    def __init__(self, display: Any = None, options: Any = None) -> None:
        super().__init__(display, options)
        self._about: dict[str, Mapping[str, object]] = {}
        self._line = socket.socket(socket.AF_UNIX)
        self._line.connect(os.environ["ISMGR_DESK"])

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """A play (or the next batch of one) began."""
        self._about = {}
        self._say({"kind": "play", "name": str(play.get_name())})

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """A task began on a host."""
        self._say({"kind": "start", "host": host.get_name(), "task": _name(task)})

    def v2_runner_on_ok(self, result: Any) -> None:
        """A task ended well."""
        self._task(result, "changed" if result.is_changed() else "ok")

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """A task failed, or would have, were errors not ignored."""
        self._task(result, "failed", ignored=bool(ignore_errors))

    def v2_runner_on_skipped(self, result: Any) -> None:
        """A task was skipped: by a condition, or because of check mode."""
        self._task(result, "skipped")

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """A host did not answer."""
        self._task(result, "unreachable", ignored=bool(result.task.ignore_unreachable))

    def v2_playbook_on_no_hosts_remaining(self) -> None:
        """The play stopped: too many hosts failed."""
        self._say({"kind": "stopped"})

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """The end: a playbook without it did not run to its end."""
        failures = {host: stats.failures.get(host, 0) for host in stats.processed}
        self._say({"kind": "stats", "failures": failures})

    def _task(self, result: Any, status: str, *, ignored: bool = False) -> None:
        task, body = result.task, result.result
        items = [one for one in body.get("results") or [] if isinstance(one, dict)]
        parts = items or [body]
        before, after = _diff(parts)
        self._say(
            {
                "kind": "task",
                "host": result.host.get_name(),
                "task": _name(task, str(result.task_fields.get("name") or "")),
                "status": status,
                "ignored": ignored,
                "changed": bool(result.is_changed()),
                "hidden": "censored" in body,
                "message": _message(body, items),
                "said": [str(one.get("msg", ""))[:2000] for one in parts if _left_out(one, status, bool(items))],
                "before": before,
                "after": after,
                **self._of(task),
            }
        )

    def _of(self, task: Any) -> Mapping[str, object]:
        """What stands in the playbook about a task; asked for once per play."""
        key = str(task._uuid)  # noqa: SLF001  Ansible offers no other
        known = self._about.get(key)
        if known is None:
            # as it is written: what Ansible holds by now is templated, for one host
            written = task.get_ds() or {}
            raw = {key: value for key, value in written.items() if key not in _NOT_READ}
            sets = [task.register] if task.register else []
            if task.action in _SETS_FACTS:
                sets += [str(name) for name in task.args if name != "cacheable"]
            known = self._about[key] = {
                "action": str(task.action).rpartition(".")[2],
                "role": task._role.get_name() if task._role else "",  # noqa: SLF001
                "path": str(task.get_path() or ""),
                "looks": bool(task.check_mode),
                "uses": sorted(set(_WORD.findall(" ".join([*_templates(raw), *map(str, task.when or [])])))),
                "fatal": bool(task.any_errors_fatal),
                "sets": sets,
                "conditional": bool(task.when),
                "notifies": [str(one) for one in task.notify or []],
            }
        return known

    def _say(self, body: Mapping[str, object]) -> None:
        try:
            self._line.sendall(json.dumps({"token": os.environ["ISMGR_TOKEN"], **body}).encode() + b"\n")
        except OSError:
            # nobody listens any more: the process that wanted this is gone, so stop as on Ctrl-C
            os.kill(os.getpid(), signal.SIGINT)


def _name(task: Any, templated: str = "") -> str:
    return templated or str(task.name or task.action)


def _templates(value: object, expression: bool = False) -> Iterator[str]:
    """What is evaluated below a value of a playbook: templates, and all of a key that is an expression by itself."""
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from _templates(one, expression or key in _EXPRESSIONS)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _templates(one, expression)
    elif isinstance(value, str):
        yield from [value] if expression else _TEMPLATE.findall(value)


def _left_out(body: Mapping[str, Any], status: str, item: bool) -> bool:
    """Skipped, and not by a condition: then it was check mode."""
    skipped = body.get("skipped") if item else status == "skipped"
    return bool(skipped) and not (body.get("skip_reason") or body.get("skipped_reason") or body.get("false_condition"))


def _message(body: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> str:
    if body.get("skip_reason") or body.get("skipped_reason"):
        return ""
    failed = [one for one in items if one.get("failed") or one.get("unreachable")]
    said = [body, *failed] if failed else [body]
    keys = ("msg", "reason", "stderr", "module_stderr", "module_stdout")
    lines = [str(one[key]).strip() for one in said for key in keys if one.get(key)]
    return "\n".join(dict.fromkeys(lines))[:LARGEST_TEXT]


def _diff(parts: Iterable[Mapping[str, Any]]) -> tuple[str, str]:
    """Before and after as text; several diffs follow each other under their headers."""
    before: list[str] = []
    after: list[str] = []
    for part in parts:
        found = part.get("diff") or []
        for one in found if isinstance(found, list) else [found]:
            if not isinstance(one, dict):
                continue
            if one.get("prepared"):
                after.append(str(one["prepared"]))
            elif one.get("before") != one.get("after"):
                before.append(_side(one, "before"))
                after.append(_side(one, "after"))
    return "\n".join(filter(None, before))[:LARGEST_TEXT], "\n".join(filter(None, after))[:LARGEST_TEXT]


def _side(diff: Mapping[str, Any], side: str) -> str:
    value = diff.get(side)
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, indent=1, sort_keys=True, default=str)
    header = diff.get(f"{side}_header")
    return f"# {header}\n{text}" if header and text else text
