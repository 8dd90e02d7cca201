"""What one run of the engine told us, from its event log: steps, drift, outputs, failures. Pure, but for the events
that it passes on to whoever watches."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ismgr_automation.core.address import Address
from ismgr_automation.core.errors import EngineFailed
from ismgr_automation.core.events import Emit, OutputSeen, ResourceStepped
from ismgr_automation.core.json import Json, JsonObject
from ismgr_automation.engines.pulumi.generated import Generated
from ismgr_automation.engines.pulumi.state import (
    PROVIDER_PREFIX,
    SECRET,
    STACK_TYPE,
    UNKNOWN,
    is_counted,
    name_of,
    normal,
    outputs_of,
    type_of,
)
from ismgr_automation.ports.stacks import Operation, Output, ResourceStep

REFRESH = "refresh"

OPERATIONS: Mapping[str, Operation | None] = {
    "same": Operation.SAME,
    "create": Operation.CREATE,
    "update": Operation.UPDATE,
    "delete": Operation.DELETE,
    "replace": Operation.REPLACE,
    "create-replacement": Operation.REPLACE,
    "delete-replaced": Operation.REPLACE,
    "read": Operation.READ,
    "read-replacement": Operation.READ,
    "discard": Operation.DELETE,
    "discard-replaced": Operation.REPLACE,
    "remove-pending-replace": Operation.DELETE,
    "import": Operation.IMPORT,
    "import-replacement": Operation.IMPORT,
    REFRESH: None,
    "diff": None,
}
"""Every operation of the engine (deploy.StepOp) and ours. Looking (refresh, diff) is no step: it may show drift."""

_NOISE = re.compile(r"^using pulumi-resource-\S+ from \$PATH")
_UNIMPORTANT = frozenset({Operation.SAME})
_MAKING = frozenset({Operation.CREATE, Operation.REPLACE})


@dataclass(slots=True)
class _Seen:
    """A resource's step as far as we know it: replacing one takes three of the engine's steps."""

    operation: Operation
    metadata: Mapping[str, Any]
    done: bool = False


@dataclass(slots=True)
class Story:
    """Collects the events of one run. ``clean`` takes opened secrets out of every text and value."""

    subject: Address
    emit: Emit
    clean: Callable[[str], str]
    acting: bool = False
    """Whether steps happen: those of a preview are no event."""
    errors: list[str] = field(default_factory=list)
    """What the engine called errors and belongs to no resource."""
    finished: bool = False
    providers: set[str] = field(default_factory=set)
    _steps: dict[str, _Seen] = field(default_factory=dict)
    _drift: dict[str, ResourceStep] = field(default_factory=dict)
    _refreshed: set[str] = field(default_factory=set)
    _failures: dict[str, list[str]] = field(default_factory=dict)
    _broken: set[str] = field(default_factory=set)
    _refused: dict[str, list[str]] = field(default_factory=dict)
    _outputs: Mapping[str, Any] = field(default_factory=dict)

    def hear(self, event: Mapping[str, Any]) -> None:
        """Take in one event of the log; kinds that say nothing about resources are passed over."""
        if "resourcePreEvent" in event:
            self._began(event["resourcePreEvent"]["metadata"])
        elif "resOutputsEvent" in event:
            self._ended(event["resOutputsEvent"]["metadata"])
        elif "resOpFailedEvent" in event:
            self._failed(event["resOpFailedEvent"]["metadata"])
        elif "diagnosticEvent" in event:
            self._said(event["diagnosticEvent"])
        elif "summaryEvent" in event:
            self.finished = True

    def refuse(self, resource: str, why: str) -> None:
        """A step that the plan does not hold; the engine does not always say whose."""
        self._refused.setdefault(resource, []).append(why)

    def unplanned(self, known: Iterable[str]) -> tuple[str, ...]:
        """One sentence per refused step. ``known`` are the URNs on record: what the program did not ask for any more is
        what a refused delete without a name is about."""
        dropped = sorted(name_of(urn) for urn in known if is_counted(type_of(urn)) and urn not in self._steps)
        nameless = ", ".join(dropped) or "a resource that the program does not ask for any more"
        return tuple(
            f"{name or nameless}: {why}"
            for name, reasons in sorted(self._refused.items())
            for why in dict.fromkeys(reasons)
        )

    @property
    def planned(self) -> tuple[ResourceStep, ...]:
        """Steps that a preview would do, sorted by resource; SAME is left out."""
        return self._listed(done_only=False)

    @property
    def landed(self) -> tuple[ResourceStep, ...]:
        """Steps that have been done, sorted by resource; SAME is left out."""
        return self._listed(done_only=True)

    @property
    def in_flight(self) -> tuple[str, ...]:
        """Names of resources whose operation began and did not end: nobody knows whether it happened."""
        return tuple(
            sorted(
                name_of(urn)
                for urn, seen in self._steps.items()
                if self._shown(urn, seen) and not seen.done and urn not in self._broken
            )
        )

    @property
    def drift(self) -> tuple[ResourceStep, ...]:
        """Where the world differs from the state, sorted by resource."""
        return tuple(sorted(self._drift.values(), key=_order))

    @property
    def unchanged(self) -> int:
        """How many of the user's resources stay as they are."""
        return sum(seen.operation is Operation.SAME for urn, seen in self._steps.items() if is_counted(type_of(urn)))

    @property
    def unlooked(self) -> bool:
        """Whether something is to be deleted that was not looked at: a refresh by the program passes over such."""
        return any(
            seen.operation is Operation.DELETE and urn not in self._refreshed
            for urn, seen in self._steps.items()
            if is_counted(type_of(urn))
        )

    @property
    def outputs(self) -> Mapping[str, Output]:
        """The stack's outputs, as far as they are known. A name that the next run makes up anew is not known."""
        generated = self._generated
        found = {}
        for name, one in outputs_of(self._outputs).items():
            invented = not self.acting and generated.within(one.value)
            value = UNKNOWN if invented else self._cleaned(one.value)
            found[name] = Output(value=value, secret=one.secret, known=one.known and not invented)
        return found

    @property
    def failures(self) -> tuple[str, ...]:
        """One sentence per failed resource, beginning with its name."""
        found = []
        for urn in sorted({*self._failures, *self._broken}, key=name_of):
            words = list(dict.fromkeys(self._failures.get(urn, ()))) or ["failed, and the engine does not say why"]
            said = "; ".join(word.removeprefix(f"{name_of(urn)}: ") for word in words)
            found.append(f"{name_of(urn)}: {said}")
        return tuple(found)

    def _began(self, metadata: Mapping[str, Any]) -> None:
        urn, operation = self._known(metadata)
        if operation is None:
            return
        seen = self._steps.get(urn)
        if seen is None or operation is not Operation.REPLACE:
            self._steps[urn] = seen = _Seen(operation, metadata)
        elif metadata.get("detailedDiff") or metadata.get("diffs"):
            seen.metadata = metadata
        self._tell(urn, seen, "started")

    def _ended(self, metadata: Mapping[str, Any]) -> None:
        urn, operation = self._known(metadata)
        if metadata["type"] == STACK_TYPE:
            self._outputs = (metadata.get("new") or {}).get("outputs") or {}
        if metadata["op"] == REFRESH:
            self._look(urn, metadata)
        elif operation is not None:
            seen = self._steps.setdefault(urn, _Seen(operation, metadata))
            seen.done = True
            self._tell(urn, seen, "done")

    def _failed(self, metadata: Mapping[str, Any]) -> None:
        urn, operation = self._known(metadata)
        self._broken.add(urn)
        if operation is not None:
            self._tell(urn, self._steps.setdefault(urn, _Seen(operation, metadata)), "failed")

    def _said(self, diagnostic: Mapping[str, Any]) -> None:
        text = self.clean(str(diagnostic.get("message", "")).strip()).replace("[secret]", SECRET)
        urn = str(diagnostic.get("urn") or "")
        if diagnostic.get("severity") != "error":
            if text and not _NOISE.match(text):
                self.emit(OutputSeen(subject=self.subject, text=text))
        elif urn and type_of(urn) != STACK_TYPE:
            self._failures.setdefault(urn, []).append(_sentence(text))
        else:
            self.errors.append(text)

    def _known(self, metadata: Mapping[str, Any]) -> tuple[str, Operation | None]:
        urn = str(metadata["urn"])
        if metadata["type"].startswith(PROVIDER_PREFIX):
            version = ((metadata.get("new") or {}).get("inputs") or {}).get("version", "")
            self.providers.add(f"{metadata['type'].removeprefix(PROVIDER_PREFIX)} {version}".strip())
        word = str(metadata["op"])
        if word not in OPERATIONS:
            raise EngineFailed(
                f"{name_of(urn)}: the engine speaks of an operation {word!r} that this version of ismgr does not know.",
                engine="pulumi",
                subject=str(self.subject),
                next_step="Use an engine of the version that `ismgr engine install` gets.",
            )
        return urn, OPERATIONS[word]

    def _look(self, urn: str, metadata: Mapping[str, Any]) -> None:
        self._refreshed.add(urn)
        if not is_counted(type_of(urn)):
            return
        old, new = metadata.get("old") or {}, metadata.get("new")
        if new is None:  # it is gone
            gone = self._object(old.get("outputs"))
            self._drift[urn] = ResourceStep(
                name=name_of(urn), type=type_of(urn), operation=Operation.DRIFT, before=gone
            )
        elif (step := self._step(urn, Operation.DRIFT, metadata, world=True)).changed:
            self._drift[urn] = step

    def _tell(self, urn: str, seen: _Seen, state: str) -> None:
        if self.acting and self._shown(urn, seen):
            self.emit(
                ResourceStepped(subject=self.subject, resource=name_of(urn), operation=str(seen.operation), state=state)
            )

    @staticmethod
    def _shown(urn: str, seen: _Seen) -> bool:
        return is_counted(type_of(urn)) and seen.operation not in _UNIMPORTANT

    def _listed(self, *, done_only: bool) -> tuple[ResourceStep, ...]:
        found = [
            self._step(urn, seen.operation, seen.metadata)
            for urn, seen in self._steps.items()
            if self._shown(urn, seen) and not (done_only and (not seen.done or urn in self._broken))
        ]
        generated = self._generated
        if generated.names:
            found = [
                replace(one, before=generated.masked(one.before), after=generated.masked(one.after)) for one in found
            ]
        return tuple(sorted(found, key=_order))

    @property
    def _generated(self) -> Generated:
        return Generated.among(
            (name_of(urn), (seen.metadata.get("new") or {}).get("inputs"))
            for urn, seen in self._steps.items()
            if seen.operation in _MAKING
        )

    def _step(
        self, urn: str, operation: Operation, metadata: Mapping[str, Any], *, world: bool = False
    ) -> ResourceStep:
        """A step with what differs. ``world``: both sides are what was read, else the new side is what is asked for."""
        old, new = metadata.get("old") or {}, metadata.get("new") or {}
        before: JsonObject | None = None
        after: JsonObject | None = None
        changed: tuple[str, ...] = ()
        match operation:
            case Operation.CREATE | Operation.IMPORT | Operation.READ:
                after = self._object(new.get("inputs"))
            case Operation.DELETE:
                before = self._object(old.get("inputs"))
            case Operation.UPDATE | Operation.REPLACE | Operation.DRIFT | Operation.SAME:
                changed = tuple(sorted(_paths(metadata)))
                sides = ("outputs", "inputs") if world else ("inputs", "outputs")
                before = {path: self._at(old, path, ("outputs", "inputs")) for path in changed}
                after = {path: self._at(new, path, sides) for path in changed}
                # what a secret replaces was one, and nobody has opened it: it may be in use until then
                secret = [path for path in changed if before[path] is not None and SECRET in str(after[path])]
                before |= dict.fromkeys(secret, SECRET)
        return ResourceStep(
            name=name_of(urn), type=type_of(urn), operation=operation, changed=changed, before=before, after=after
        )

    def _at(self, side: Mapping[str, Any], path: str, kinds: tuple[str, ...]) -> Json:
        for kind in kinds:
            found, value = _lookup(side.get(kind) or {}, path)
            if found:
                return self._cleaned(normal(value))
        return None

    def _object(self, properties: Mapping[str, Any] | None) -> JsonObject:
        plain = self._cleaned(normal(dict(properties or {})))
        return plain if isinstance(plain, Mapping) else {}

    def _cleaned(self, value: Json) -> Json:
        match value:
            case str():
                return self.clean(value)
            case dict():
                return {key: self._cleaned(item) for key, item in value.items()}
            case list():
                return [self._cleaned(item) for item in value]
            case _:
                return value


def _order(step: ResourceStep) -> tuple[str, str]:
    return step.name, step.type


def _sentence(text: str) -> str:
    """The engine's words without what they begin with every time."""
    return re.sub(r"^(Preview failed|update failed|\w+ing urn:\S+): ", "", text)


def _paths(metadata: Mapping[str, Any]) -> Iterator[str]:
    """The property paths that differ: as the provider says in detail, or else by name."""
    detailed = metadata.get("detailedDiff")
    found: Mapping[str, Any] | list[str] | None = detailed or metadata.get("diffs") or metadata.get("keys")
    for path in found or ():
        if path.split(".", 1)[0] not in {"__defaults", "__meta"}:
            yield path


_PIECE = re.compile(r"""\.?([^.\["\]]+)|\["((?:[^"\\]|\\.)*)"\]|\[(\d+)\]""")


def _lookup(value: Any, path: str) -> tuple[bool, Any]:
    """The value at a property path such as ``tags["a.b"].list[0]``; the first item says whether there is one."""
    for piece in _PIECE.finditer(path):
        name, quoted, index = piece.groups()
        if index is not None and isinstance(value, list) and int(index) < len(value):
            value = value[int(index)]
        elif index is None and isinstance(value, dict) and (key := name or quoted) in value:
            value = value[key]
        else:
            return False, None
    return True, value
