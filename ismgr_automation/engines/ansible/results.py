"""Turns the events of a run into its result. Pure: what check mode could not tell is decided here, event by event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ismgr_automation.engines.ssh.words import one_line, reach_of
from ismgr_automation.ports.hosts import Reach, Reachability, Status, TaskResult

LARGEST_DIFF = 32 * 1024
"""Characters of each side of a diff that are kept."""

ALWAYS = "#*"
"""After the place of a task: whenever it runs on its host."""

LONGEST_LABEL = 200
"""Characters of the label of an item that are kept."""

_EXACT = "ismgr_"
"""How the names of our own modules begin: what they return in check mode is what they would return."""

_NEVER_IN_CHECK_MODE = frozenset({"command", "shell", "raw", "script", "expect", "win_command", "win_shell"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One item of a loop that changed."""

    label: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A handler that a task tells to run when it changes something."""

    task: str
    role: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEvent:
    """One task that ended on one host, as the callback plug-in tells it, secrets taken out."""

    host: str
    task: str
    status: Status
    action: str
    role: str
    path: str
    ignored: bool
    changed: bool
    hidden: bool
    """``no_log``: nothing of the result may be shown."""
    message: str
    left_out: tuple[str, ...]
    """What was said where the task, or an item of its loop, was skipped without a condition."""
    before: str
    after: str
    looks: bool
    """It ran in check mode."""
    uses: frozenset[str]
    """Variables that it names."""
    sets: frozenset[str]
    conditional: bool
    fatal: bool
    """``any_errors_fatal``: when this fails on one host, the play ends on all."""
    handlers: tuple[Told, ...] = ()
    reads: frozenset[str] = frozenset()
    """Those of ``uses`` of which it takes more than whether they changed, failed or were skipped."""
    items: tuple[Item, ...] = ()
    within: tuple[str, ...] = ()
    once: bool = False
    only_looks: bool = False
    """``check_mode: true`` in the playbook: it never changes anything."""

    @classmethod
    def read(cls, message: Mapping[str, object]) -> TaskEvent:
        """Read one message of kind ``task``."""
        return cls(
            host=str(message["host"]),
            task=str(message["task"]),
            status=Status(str(message["status"])),
            action=str(message["action"]),
            role=str(message["role"]),
            path=str(message["path"]),
            ignored=bool(message["ignored"]),
            changed=bool(message["changed"]),
            hidden=bool(message["hidden"]),
            message=str(message["message"]),
            left_out=_words(message["said"]),
            before=str(message["before"]),
            after=_after(message),
            looks=bool(message["looks"]),
            uses=frozenset(_words(message["uses"])),
            sets=frozenset(_words(message["sets"])),
            conditional=bool(message["conditional"]),
            fatal=bool(message["fatal"]),
            handlers=tuple(
                Told(task=str(one["task"]), role=str(one["role"]), path=str(one["path"]))
                for one in _bodies(message["handlers"])
            ),
            reads=frozenset(_words(message["reads"])),
            items=_changed(_bodies(message["items"])),
            within=_words(message["within"]),
            once=bool(message["once"]),
            only_looks=bool(message["only_looks"]),
        )


def _bodies(value: object) -> tuple[Mapping[str, object], ...]:
    return tuple(one for one in value if isinstance(one, Mapping)) if isinstance(value, list) else ()


def _after(message: Mapping[str, object]) -> str:
    return "\n".join(filter(None, (str(message["after"]), str(message["prepared"]))))


def _changed(items: Sequence[Mapping[str, object]]) -> tuple[Item, ...]:
    """Those items that changed, each under a label that no other has: secrets taken out, several may be the same."""
    turns: Counter[str] = Counter()
    found: list[Item] = []
    for one in items:
        label = str(one["label"]).replace("\n", " ")[:LONGEST_LABEL]
        turns[label] += 1
        if one["changed"]:
            turn = f" ({turns[label]})" if turns[label] > 1 else ""
            found.append(Item(label=label + turn, before=str(one["before"]), after=_after(one)))
    return tuple(found)


def _words(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else ()


@dataclass(slots=True, kw_only=True)
class _Story:
    """What has happened on one host so far."""

    doubtful: dict[str, str] = field(default_factory=dict)
    """Variables whose value check mode could not know, with the task that sets them."""
    promised: dict[str, str] = field(default_factory=dict)
    """Variables set by a task that check mode did not do: it knows that it changes, not what it will return."""
    turns: Counter[str] = field(default_factory=Counter)
    """How often the task at a place has ended."""
    would_change: str = ""
    """The last task that check mode did not do."""
    counts: Counter[Status] = field(default_factory=Counter)
    running: str = ""
    in_this_play: bool = False


@dataclass(slots=True, kw_only=True)
class Collector:
    """Takes events in order; ``tasks`` and the rest are read at the end."""

    looking: bool
    """The run is one in check mode."""
    shown_from: Sequence[tuple[Path, str]]
    """Folders and what stands for them in a task's path: the nearest that holds the file counts."""
    tasks: list[TaskResult] = field(default_factory=list)
    unreachable: dict[str, Reachability] = field(default_factory=dict)
    failures: Mapping[str, int] | None = None
    """Failed tasks per host by Ansible's own count (rescued and ignored ones left out); None until the end."""
    cut_short: set[str] = field(default_factory=set)
    """Hosts whose play was stopped because of others."""
    stopped: bool = False
    fatal: list[tuple[str, frozenset[str]]] = field(default_factory=list)
    """Hosts that a whole play depended on and that failed, with all hosts of that play (known when it is over)."""
    _fatal_now: set[str] = field(default_factory=set)
    stories: dict[str, _Story] = field(default_factory=dict)

    def play_started(self) -> None:
        """A play, or the next batch of one."""
        self._close_play()
        for story in self.stories.values():
            story.in_this_play = False

    def task_started(self, host: str, task: str) -> None:
        """A task is being worked on."""
        story = self._story(host)
        story.running, story.in_this_play = task, True

    def play_stopped(self) -> None:
        """Ansible gave the play up: none of its hosts goes on."""
        self.stopped = True
        self.cut_short |= self._in_this_play()

    def ended(self, failures: Mapping[str, int]) -> None:
        """The end, with Ansible's own count of failed tasks by host."""
        self._close_play()
        self.failures = failures
        for host, mates in self.fatal:
            # a failure that a block rescued ended nothing
            if failures.get(host) or host in self.unreachable:
                self.stopped = True
                self.cut_short |= mates

    def _close_play(self) -> None:
        mates = self._in_this_play()
        self.fatal += [(host, mates) for host in sorted(self._fatal_now)]
        self._fatal_now = set()

    def _in_this_play(self) -> frozenset[str]:
        return frozenset(host for host, story in self.stories.items() if story.in_this_play)

    def task_ended(self, event: TaskEvent) -> TaskResult:
        """Judge one event; returns its result, also when that is not kept (it was OK)."""
        story = self._story(event.host)
        story.running, story.in_this_play = "", True
        reach = _sudo(event) if event.status in {Status.FAILED, Status.UNREACHABLE} else None
        status = Status.UNREACHABLE if reach is Reach.SUDO else event.status
        if status is Status.UNREACHABLE:
            reach = reach or reach_of(event.message) or Reach.TIMEOUT
            if not event.ignored:
                self.unreachable[event.host] = Reachability(
                    host=event.host, reach=reach, detail=one_line(event.message)
                )
        if event.fatal and not event.ignored and status in {Status.FAILED, Status.UNREACHABLE}:
            self._fatal_now.add(event.host)
        if event.only_looks and status is Status.CHANGED:
            # it says what it would change, in check mode and in the run, and never does it
            status = Status.OK
        place = self._place(event, story)
        reason = self._doubt(event, status, story) if self.looking else ""
        if event.ignored:
            status = Status.CHANGED if event.changed else Status.OK
        result = self._result(event, status, reason, place)
        story.counts[status] += 1
        if reason or status not in {Status.OK, Status.SKIPPED}:
            self.tasks += _items(result, event) if status is Status.CHANGED and not reason else [result]
        if reason and status is Status.FAILED:
            self.tasks.append(_rest(result))
        return result

    def running(self) -> Mapping[str, str]:
        """The task that was being worked on, by host: what may go on there after we were stopped."""
        return {host: story.running for host, story in self.stories.items() if story.running}

    def _story(self, host: str) -> _Story:
        return self.stories.setdefault(host, _Story())

    def _doubt(self, event: TaskEvent, status: Status, story: _Story) -> str:
        """Why check mode cannot tell what this task would do; empty when it can. Remembers it for later tasks."""
        if status is Status.UNREACHABLE:
            return ""
        reason = _why(event, status, story)
        for name in event.sets:
            story.doubtful.pop(name, None)
            story.promised.pop(name, None)
        if reason:
            story.doubtful |= dict.fromkeys(event.sets, event.task)
        elif status is Status.CHANGED and event.looks and not event.action.startswith(_EXACT):
            story.promised |= dict.fromkeys(event.sets, event.task)
        if status is Status.CHANGED or (reason and status is not Status.OK):
            story.would_change = event.task
        self.tasks += [self._perhaps(one, event) for one in (event.handlers if reason else ())]
        return reason

    def _perhaps(self, handler: Told, event: TaskEvent) -> TaskResult:
        """A handler that nobody knows whether it will run, nor how often."""
        return TaskResult(
            host=event.host,
            task=handler.task,
            role=handler.role,
            status=Status.SKIPPED,
            unpredictable=f"runs if {event.task!r} changes something",
            path=self._path(handler.path) + ALWAYS,
        )

    def _place(self, event: TaskEvent, story: _Story) -> str:
        """Where the task stands, and for which time it ran; one without a place is known by its name."""
        place = self._path(event.path) or ": ".join(filter(None, [event.role, event.task]))
        story.turns[place] += 1
        turn = story.turns[place]
        return f"{place}#{turn}" if turn > 1 else place

    def _result(self, event: TaskEvent, status: Status, reason: str, place: str) -> TaskResult:
        told = status in {Status.FAILED, Status.UNREACHABLE} or bool(reason)
        return TaskResult(
            host=event.host,
            task=event.task,
            role=event.role,
            status=status,
            unpredictable=reason,
            before="" if event.hidden else bounded(event.before),
            after="" if event.hidden else bounded(event.after),
            message=("hidden (no_log)" if event.hidden else bounded(event.message)) if told else "",
            path=place,
            within=tuple(map(self._path, event.within)),
            once=event.once,
        )

    def _path(self, text: str) -> str:
        path, colon, line = text.rpartition(":")
        for folder, stands_for in self.shown_from:
            if path and Path(path).is_relative_to(folder):
                return str(Path(stands_for) / Path(path).relative_to(folder)) + colon + line
        return text


def _items(result: TaskResult, event: TaskEvent) -> list[TaskResult]:
    """A loop as one result for each item that changed; anything else as it is."""
    if event.hidden or not event.items:
        return [result]
    return [
        replace(
            result,
            task=f"{result.task} ({one.label})",
            path=f"{result.path}[{one.label}]",
            before=bounded(one.before),
            after=bounded(one.after),
        )
        for one in event.items
    ]


def _rest(failed: TaskResult) -> TaskResult:
    return TaskResult(
        host=failed.host,
        task=f"what comes after {failed.task!r}",
        role="",
        status=Status.SKIPPED,
        unpredictable="check mode ended there",
    )


def _why(event: TaskEvent, status: Status, story: _Story) -> str:
    doubtful = sorted(event.uses & set(story.doubtful))
    # what no_log hides includes why a task was skipped: a condition is the likelier reason where there is one
    hidden_skip = event.hidden and event.conditional and event.action not in _NEVER_IN_CHECK_MODE
    if event.left_out and event.looks and not hidden_skip and not event.only_looks:
        said = next((one for one in event.left_out if "check mode" in one), "")
        return (
            f"{event.action} does not support check mode"
            if "support check mode" in said
            else f"{event.action} does not run in check mode"
        )
    if doubtful:
        return f"depends on {doubtful[0]} of {story.doubtful[doubtful[0]]!r}, which check mode could not know"
    promised = sorted(event.reads & set(story.promised))
    if promised:
        return f"depends on {promised[0]} of {story.promised[promised[0]]!r}, which check mode did not do"
    if status is Status.FAILED and story.would_change:
        return f"check mode did not do {story.would_change!r} before; later tasks were not looked at"
    return ""


def _sudo(event: TaskEvent) -> Reach | None:
    reach = reach_of(event.message)
    return reach if reach is Reach.SUDO and _is_about_becoming(event.message) else None


def _is_about_becoming(message: str) -> bool:
    """A *task* may run sudo and fail: that is the task's own affair. Ansible's become says it in its first line."""
    first = message.splitlines()[0] if message else ""
    return reach_of(first) is Reach.SUDO or first.startswith(("MODULE FAILURE", "Module result deserialization failed"))


def bounded(text: str, limit: int = LARGEST_DIFF) -> str:
    r"""The text, cut at a limit with a line that says how much is missing.

    >>> bounded("abcdef", 4)
    'abcd\n[2 more characters]'
    """
    return text if len(text) <= limit else f"{text[:limit]}\n[{len(text) - limit} more characters]"
