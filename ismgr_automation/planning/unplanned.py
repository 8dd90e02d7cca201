"""What was signed for hosts beside what was done, or found by a later look. Pure: it compares and stops nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ismgr_automation.core.json import Json
from ismgr_automation.planning.change import Certainty, Step
from ismgr_automation.ports.hosts import PlaybookResult, Status, TaskResult

ALWAYS = "#*"
"""After the place of a task: whenever it runs on its host (a handler that may be notified, for example)."""


def unplanned(planned: Sequence[Step], done: PlaybookResult) -> tuple[str, ...]:
    """One sentence for each task that changed something although the signed steps say that it would not.

    A step that is unpredictable covers its task, what its task includes, and each item of its loop; one without a place
    covers all of its host that no other step speaks of: a host that has just come up, or check mode that ended early.
    """
    signed = _Signed.of(planned)
    return tuple(
        f"{_told(one)} changed, and the plan says that it would not"
        for one in done.tasks
        if one.status is Status.CHANGED and not signed.holds(one)
    )


def predicted_only(planned: Sequence[Step], done: PlaybookResult) -> tuple[str, ...]:
    """One sentence for each task that the signed steps say changes something, and that did not.

    Hosts that failed or were unreachable are left out: what they did not come to is told there.
    """
    lost = {*done.failed, *(one.host for one in done.unreachable)}
    changed = [one for one in done.tasks if one.status is Status.CHANGED]
    places = {(one.host, one.path) for one in changed}
    anywhere = {one.path for one in changed if one.once}
    return tuple(
        f"{step.target}: {step.what} ({step.where}) was to change, and did not"
        for step in planned
        if step.certainty is Certainty.CHANGES
        and step.target not in lost
        and (step.target, step.where) not in places
        and step.where not in anywhere
    )


def wider(planned: Sequence[Step], checked: PlaybookResult) -> tuple[str, ...]:
    """What a later look in check mode finds that the signed steps do not hold; empty when all of it was signed.

    Less than was signed is no finding: another part of the same run, or somebody else, did it already.
    """
    signed = _Signed.of(planned)
    failing = {one.host: one for one in checked.tasks if one.status is Status.FAILED and not one.unpredictable}
    found = [_wider(one, signed) for one in checked.tasks]
    broken = [
        f"{_told(failing[name])} fails in check mode now: {_first_line(failing[name].message)}"
        if name in failing
        else f"{name} fails in check mode now"
        for name in checked.failed
    ]
    return tuple(filter(None, [*found, *broken]))


def tasks_of(part: Sequence[str], checked: PlaybookResult) -> tuple[TaskResult, ...]:
    """What check mode said about the hosts of one part, host by host. Tasks that run once for all that are worked on
    together run once for each part: they are told of its first host."""
    return next(tasks_of_each([part], checked))


def tasks_of_each(parts: Iterable[Sequence[str]], checked: PlaybookResult) -> Iterator[tuple[TaskResult, ...]]:
    """``tasks_of`` for each of many parts. Each task is looked at once, not once for each part."""
    once: dict[int, TaskResult] = {}
    by_host: dict[str, dict[int, TaskResult]] = {}
    for place, one in enumerate(checked.tasks):
        by_host.setdefault(one.host, {})[place] = one
        if one.once:
            once[place] = one
    for part in parts:
        near = dict(once)
        for name in part:
            near |= by_host.get(name, {})
        yield _tasks_of(part, [near[place] for place in sorted(near)])


def _tasks_of(part: Sequence[str], tasks: Iterable[TaskResult]) -> tuple[TaskResult, ...]:
    mine: dict[str, list[TaskResult]] = {name: [] for name in part}
    known: set[tuple[str, str]] = set()
    for one in tasks:
        name = part[0] if one.once and part and one.host not in mine else one.host
        if name in mine and (not one.once or (name, one.path) not in known):
            known.add((name, one.path))
            mine[name].append(one if name == one.host else replace(one, host=name))
    return tuple(one for name in part for one in mine[name])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signed:
    """Signed steps, to be asked for by host and place."""

    changes: Mapping[tuple[str, str], Step]
    doubtful: Mapping[str, Collection[str]]
    """Places that are unpredictable, by host; an empty place covers the host."""

    @classmethod
    def of(cls, planned: Iterable[Step]) -> _Signed:
        """The steps of one change."""
        changes: dict[tuple[str, str], Step] = {}
        doubtful: dict[str, set[str]] = {}
        for one in planned:
            match one.certainty:
                case Certainty.CHANGES:
                    changes[one.target, one.where] = one
                case Certainty.UNPREDICTABLE:
                    doubtful.setdefault(one.target, set()).add(one.where)
        return cls(changes=changes, doubtful=doubtful)

    def step(self, task: TaskResult) -> Step | None:
        """The step that says that this task changes something."""
        if not task.once:
            return self.changes.get((task.host, task.path))
        # who of the hosts runs it for all depends on who answers first
        return next((one for (_, where), one in self.changes.items() if where == task.path), None)

    def covers(self, task: TaskResult) -> bool:
        """Whether the steps leave open what this task does."""
        places = {task.path, task.path.partition("[")[0], bare(task.path) + ALWAYS, ""}
        around = set(map(bare, task.within))
        return any(
            not places.isdisjoint(open_) or (around and not around.isdisjoint(map(bare, open_)))
            for open_ in (self.doubtful.values() if task.once else [self.doubtful.get(task.host, ())])
        )

    def holds(self, task: TaskResult) -> bool:
        """Whether a change by this task was signed."""
        return self.step(task) is not None or self.covers(task)


def bare(path: str) -> str:
    """The place of a task without the turn and the item.

    >>> bare("roles/web/tasks/main.yml:4#2[a page]")
    'roles/web/tasks/main.yml:4'
    """
    return path.partition("[")[0].partition("#")[0]


def _wider(task: TaskResult, signed: _Signed) -> str:
    if task.unpredictable:
        if signed.covers(task):
            return ""
        return f"{_told(task)} cannot be predicted any more: {task.unpredictable}"
    if task.status is not Status.CHANGED or signed.covers(task):
        return ""
    step = signed.step(task)
    if step is None:
        return f"{_told(task)} would change now, and the plan says that it would not"
    if (_side(task.before), _side(task.after)) != (step.before, step.after):
        return f"{_told(task)} would change something else now than what the plan says"
    return ""


def _side(text: str) -> Json:
    return text or None


def _told(task: TaskResult) -> str:
    name = f"{task.role} : {task.task}" if task.role else task.task
    return f"{task.host}: {name}" + (f" ({task.path})" if task.path else "")


def _first_line(text: str) -> str:
    return text.partition("\n")[0]
