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
from ansible.utils.sentinel import Sentinel  # type: ignore[import-untyped]

DOCUMENTATION = """
name: ismgr_events
type: stdout
short_description: results for ismgr
description:
  - One JSON object per line over the socket ISMGR_DESK, as long as ansible-playbook runs.
"""

LARGEST_TEXT = 1024 * 1024
"""Characters of one text that are told. Who listens takes secrets out, so none may be cut in two here: of a message
whole lines are told, of a difference all or nothing."""
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SETS_FACTS = ("set_fact", "ansible.builtin.set_fact", "ansible.legacy.set_fact")
_NOT_READ = ("name", "register", "notify", "tags", "listen")
_EXPRESSIONS = ("when", "until", "changed_when", "failed_when", "loop", "with_items", "that", "var")
_STATUS_ONLY = re.compile(
    r"""\b[A-Za-z_]\w*\s*(?:
        \.\s*(?:changed|failed|skipped)\b | \[\s*['"](?:changed|failed|skipped)['"]\s*\] |
        \bis\s+(?:not\s+)?(?:changed|change|failed|failure|skipped|skip|succeeded|success|successful|defined|undefined)\b
    )""",
    re.VERBOSE,
)
"""Uses of a registered result that ask for its status and for nothing else of it."""
_TEMPLATE = re.compile(r"\{[{%].*?[%}]\}", re.DOTALL)


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """What Ansible loads."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "ismgr_events"

    def __init__(self, display: Any = None, options: Any = None) -> None:
        super().__init__(display, options)
        self._about: dict[str, Mapping[str, object]] = {}
        self._play: Any = None
        self._line = socket.socket(socket.AF_UNIX)
        self._line.connect(os.environ["ISMGR_DESK"])

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """A play (or the next batch of one) began."""
        self._about, self._play = {}, play
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
        args = task.args if isinstance(task.args, Mapping) and not items else {}
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
                **_diff(parts, str(args.get("dest") or args.get("path") or "")),
                "items": [_item(one) for one in items],
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
            evaluated = " ".join([*_templates(raw), *map(str, task.when or [])])
            known = self._about[key] = {
                "action": str(task.action).rpartition(".")[2],
                "role": task._role.get_name() if task._role else "",  # noqa: SLF001
                "path": str(task.get_path() or ""),
                "looks": bool(task.check_mode),
                "only_looks": _only_looks(task, self._play.get_ds() if self._play else None),
                "uses": sorted(set(_WORD.findall(evaluated))),
                "reads": sorted(set(_WORD.findall(_STATUS_ONLY.sub(" ", evaluated)))),
                "fatal": bool(task.any_errors_fatal),
                "sets": sets,
                "conditional": bool(task.when),
                "once": bool(task.run_once),
                "within": list(_within(task)),
                "handlers": self._handlers(_listed(task.notify)),
            }
        return known

    def _handlers(self, topics: Iterable[str]) -> list[dict[str, str]]:
        """The handlers that would be told of these topics, and those that they would tell in turn."""
        every = [one for block in (self._play.handlers if self._play else ()) for one in block.block]
        found: dict[str, dict[str, str]] = {}
        asked: set[str] = set()
        waiting = list(topics)
        while waiting:
            topic = waiting.pop(0)
            if topic in asked:
                continue
            asked.add(topic)
            named = [one for one in reversed(every) if topic in _names_of(one)][:1]
            for one in [*named, *(one for one in every if topic in _listed(one.listen))]:
                place = str(one.get_path() or "")
                role = one._role.get_name() if one._role else ""  # noqa: SLF001
                found.setdefault(place, {"task": _name(one), "role": role, "path": place})
                waiting += _listed(one.notify)
        return list(found.values())

    def _say(self, body: Mapping[str, object]) -> None:
        try:
            self._line.sendall(json.dumps({"token": os.environ["ISMGR_TOKEN"], **body}).encode() + b"\n")
        except OSError:
            # nobody listens any more: the process that wanted this is gone, so stop as on Ctrl-C
            os.kill(os.getpid(), signal.SIGINT)


def _name(task: Any, templated: str = "") -> str:
    return templated or str(task.name or task.action)


def _listed(value: object) -> list[str]:
    """One name or several, as Ansible lets them be written."""
    if isinstance(value, str):
        return [value]
    return [str(one) for one in value] if isinstance(value, list | tuple) else []


def _names_of(handler: Any) -> set[str]:
    return {
        str(handler.name),
        str(handler.get_name(include_role_fqcn=False)),
        str(handler.get_name(include_role_fqcn=True)),
    }


def _within(task: Any) -> Iterator[str]:
    """The places of the includes that brought a task, outermost first."""
    around: list[str] = []
    one = getattr(task, "_parent", None)
    while one is not None:
        if hasattr(one, "action") and one.get_path():
            around.append(str(one.get_path()))
        one = getattr(one, "_parent", None)
    return reversed(around)


def _only_looks(task: Any, play: object) -> bool:
    """``check_mode: true`` in the playbook (``play`` as it is written): such a task never changes anything."""
    written, one = None, task
    while written is None and one is not None:
        # what Ansible holds of a task by now is the answer, not what was asked
        found = (one.get_ds() or {}).get("check_mode") if hasattr(one, "action") else vars(one).get("_check_mode")
        written = None if found is Sentinel else found
        one = getattr(one, "_parent", None)
    if written is None and isinstance(play, Mapping):
        written = play.get("check_mode")
    return written is True


def _item(one: Mapping[str, Any]) -> dict[str, object]:
    """An item of a loop, the differences where it changed."""
    label = one.get("_ansible_item_label", one.get(one.get("ansible_loop_var", "item"), ""))
    text = label if isinstance(label, str) else json.dumps(label, sort_keys=True, default=str)
    changed = bool(one.get("changed"))
    return {"label": _told(text), "changed": changed, **_diff([one] if changed else [])}


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
    text = "\n".join(dict.fromkeys(lines))
    return text if len(text) <= LARGEST_TEXT else text[: text.rfind("\n", 0, LARGEST_TEXT) + 1] or _told(text)


def _told(text: str) -> str:
    return text if len(text) <= LARGEST_TEXT else f"[{len(text)} characters]"


def _diff(parts: Iterable[Mapping[str, Any]], place: str = "") -> dict[str, str]:
    """Before and after as text; several diffs follow each other under their headers. ``place`` is what the task works
    on, for modules that do not say it in check mode. ``prepared`` are differences that a module made itself."""
    before: list[str] = []
    after: list[str] = []
    prepared: list[str] = []
    for part in parts:
        found = part.get("diff") or []
        for one in found if isinstance(found, list) else [found]:
            if not isinstance(one, dict):
                continue
            if one.get("prepared"):
                prepared.append(str(one["prepared"]))
            elif one.get("before") != one.get("after"):
                header = _header(one, str(part.get("dest") or part.get("path") or place))
                # whether a secret comes must be seen, or nobody can tell whether one goes
                unseen = one.get("src_larger") or one.get("src_binary")
                before.append("" if unseen else _side(one, "before", header))
                after.append(_side(one, "after", header))
    sides = {"before": before, "after": after, "prepared": prepared}
    texts = {name: "\n".join(filter(None, side)) for name, side in sides.items()}
    whole = all(len(text) <= LARGEST_TEXT for text in texts.values())
    return {name: text if whole or not text else f"[{len(text)} characters]" for name, text in texts.items()}


def _header(diff: Mapping[str, Any], place: str) -> str:
    """What the sides of a difference are of, as the host names it. The new side of a file is often named by where it
    lies on the controller, for a template in a folder with a new name each time: that is left out."""
    before, after = str(diff.get("before_header") or ""), str(diff.get("after_header") or "")
    if before not in {"", "/dev/null"}:
        return before
    return after if not after.startswith("/") or after == place else place


def _side(diff: Mapping[str, Any], side: str, header: str) -> str:
    value = diff.get(side)
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, indent=1, sort_keys=True, default=str)
    return f"# {header}\n{text}" if header and text else text
