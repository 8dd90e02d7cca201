"""A fault in a drill, carried out: the detector must see the service first, the undo is on the disk before anything is
broken, somebody else must see it bite, and whatever becomes of the drill it is lifted again. Who resumes looks whether
it stands before he breaks anything a second time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ismgr_automation.converge.drill_detector import Looking
from ismgr_automation.converge.drill_fault import fault_request, lifted_after
from ismgr_automation.converge.drill_notes import Ended, Notes, span
from ismgr_automation.converge.drill_timer import Timer
from ismgr_automation.converge.drill_verbs import Kit, fence_of, fence_request
from ismgr_automation.core.errors import IsmgrError
from ismgr_automation.core.json import Json, JsonObject
from ismgr_automation.estate.recovery import Fault, FenceWay
from ismgr_automation.estate.resolve import duration
from ismgr_automation.ports.faults import FaultRequest, Faults, Injection
from ismgr_automation.ports.recovery import Acted, Seen, Sight, Standing
from ismgr_automation.ports.upkeep import Part
from ismgr_automation.recovery.faults import (
    COME_BACK,
    FAULT,
    LIFT,
    ends_with_power,
    may_follow,
    takes_power,
)
from ismgr_automation.recovery.path import LegKind
from ismgr_automation.recovery.rules import Act, Situation, refusal

if TYPE_CHECKING:
    from ismgr_automation.converge.drill_unit import Drill

LOOKS = 3
"""How often the members are looked at before a fault is not lifted because nobody can tell what the other side is."""


@dataclass(slots=True, kw_only=True)
class Breaking:
    """A fault of a drill, and who watches for it."""

    fault: Fault
    request: FaultRequest
    faults: Faults
    injection: Injection
    kit: Kit
    """That of the failover, in a scope that nobody cancels."""
    notes: Notes
    looking: Looking
    timer: Timer
    _ready: Seen | None = None

    # before anything

    def unready(self) -> str:
        """Why nothing may be broken: it cannot be, or the detector is red while all is well."""
        seen = self._stage()
        if seen.sight is Sight.UNKNOWN:
            return f"the fault {self.fault.name} cannot be done: {seen.words}"
        if seen.sight is Sight.DONE:
            return f"the fault {self.fault.name} stands already: {seen.words or 'somebody else has done it'}"
        words = self.looking.green()
        return f"the detector was red before the fault: {words}" if words else ""

    # the site is lost

    def strike(self) -> str:
        """Break it, have it looked at, and wait until the detector has declared the site lost. Why the move must not
        begin; nothing where it may, or where it has begun before."""
        self._stage()
        if self.notes.first("task-began", "failover") is not None:
            self.timer.keep()
            return ""
        trouble = self._begun()
        if trouble:
            return trouble
        known = self.notes.last("detected")
        if known is not None and _since(known, self.notes.last("fault-undo")):
            return self._bitten() or ("" if known["ok"] else str(known["words"]))
        # clients wait from now on: whether it bites is looked at while the detector looks
        bites = self._biting()
        missed = self.looking.declared()
        return bites() or missed

    def _stage(self) -> Seen:
        """Make it ready, once in each process. Who resumes takes what he finds."""
        if self._ready is None:
            self._ready = self.injection.stage()
        return self._ready

    def _begun(self) -> str:
        """Have it done; why it is not."""
        if self.notes.first("fault-lifting") is not None:
            return f"the fault {self.fault.name} was being lifted"
        if self.notes.last("fault-bitten") is not None:
            return ""
        begun = self.notes.first("fault-undo") is not None
        if any(one["ok"] for one in self.notes.all("task-ended", FAULT)) and (trouble := self.timer.lapsed()):
            return trouble
        if not begun or not self.injection.bitten().ok:
            if begun:
                # whoever died in the middle may have armed the hosts
                self._mended()
                self.injection.stage()
            trouble = self._done()
            if trouble:
                self.lift()
                return trouble
        self.timer.keep()
        return ""

    def _bitten(self) -> str:
        """Have it looked at, once; why it does not bite, or has not stood until now."""
        known = self.notes.last("fault-bitten")
        if known is None:
            return self._biting()() or self.timer.lapsed()
        if not known["ok"]:
            return f"the fault {self.fault.name} did not bite: {known['words']}"
        self.timer.keep()
        return self.timer.lapsed()

    def _biting(self) -> Callable[[], str]:
        """Begin to look; the answer is why it does not bite. What does not bite is lifted."""
        began, look = self.notes.clock(), self.injection.biting()

        def bites() -> str:
            found = look()
            words, ended = f"{found.by}: {found.words}", found.ended_ns or self.notes.clock()
            self.notes.wrote({"what": "fault-bitten", **span(began, ended), "ok": found.ok, "words": words})
            if found.ok:
                return ""
            return "; ".join(filter(None, [f"the fault {self.fault.name} did not bite: {words}", self.lift()]))

        return bites

    def _done(self) -> str:
        undo: Json = self.injection.undo()
        self.notes.wrote({"what": "fault-undo", "fault": self.fault.name, "do": self.fault.do, "undo": undo})
        self.notes.wrote({"what": "task-began", "leg": FAULT, "task": self.fault.name, "action": self.fault.do})
        acted = self._tried(self.injection.act)
        self._told(FAULT, self.fault.name, self.fault.do, acted)
        return "" if acted.ok else f"the fault {self.fault.name} was not done: {acted.words}"

    # the service goes on

    def watch(self) -> str:
        """Break what the service is to survive, watch it, and lift it. Why that is not as it should be."""
        self._stage()
        known = self.notes.last("watched")
        trouble = (
            str(known["words"]) if known is not None else self._begun() or self._bitten() or self.looking.watched()
        )
        return "; ".join(filter(None, [trouble, self.lift()]))

    # afterwards

    def after(self, leg: str) -> str:
        """What a fault still has to do once a leg has ended well; why that did not go well."""
        if leg == "failover" and self.fault.do == "stale-primary":
            # whatever has become of its return, it may be there, and nothing else keeps clients from it
            trouble = "; ".join(filter(None, map(_words, (self._come_back, self._fenced_anew))))
            if trouble:
                return trouble
        return self.lift() if leg == lifted_after(self.fault, self.kit.field.document) else ""

    def lift(self) -> str:
        """Lift it, where anything was begun and nobody has lifted it; why it is not lifted. Raises nothing."""
        last = self.notes.last("fault-lifted")
        if self.notes.first("fault-undo") is None or (last is not None and last["ok"]):
            return ""
        if any(one["ok"] for one in self.notes.all("fault-bitten")) and self.notes.first("fault-lifting") is None:
            self.timer.lapsed()
        # whoever resumes does not take what we have lifted for what has lifted itself
        self.notes.tried({"what": "fault-lifting", "fault": self.fault.name})
        self.timer.let()
        began, words = self.notes.clock(), ""
        try:
            self._stage()
            refused = refusal(Act.LIFT, self._situation())
            if refused is not None:
                plan = self.kit.field.document.name
                step = f"`ismgr drill return {plan}` brings the service home, then `ismgr drill faults {plan} --lift`"
                words = f"by the rule {refused.rule}: {refused.why}; {step}"
            else:
                acted = self._mended()
                found = self.injection.lifted()
                words = "" if found.ok else f"{found.by}: {found.words}" + ("" if acted.ok else f"; {acted.words}")
        except IsmgrError as problem:
            words = problem.summary
        now = self.notes.clock()
        self.notes.tried({"what": "fault-lifted", "ok": not words, "words": words, **span(began, now)})
        self._told(LIFT, self.fault.name, LIFT, Acted(ok=not words, began_ns=began, ended_ns=now, words=words))
        return f"the fault {self.fault.name} is not lifted, {words}" if words else ""

    def left(self) -> Iterator[str]:
        """What the hosts still know of it, a sentence each."""
        if self.notes.first("fault-undo") is None:
            return
        fleet = replace(self.request.fleet, names=self.request.hosts)
        try:
            yield from self.faults.left(fleet, self.kit.scope.context)
        except IsmgrError as problem:
            yield f"nobody can tell what is left of the fault {self.fault.name}: {problem.summary}"

    def _come_back(self) -> str:
        """The stale primary is there, and must be kept from clients."""
        known = self.notes.last("came-back")
        if known is not None:
            return "" if known["ok"] else f"the return of the stale primary proves nothing: {known['words']}"
        self._stage()
        acted = self._tried(self.injection.come_back)
        words = self._unmet() if acted.ok else acted.words or "it did not come back"
        self.notes.wrote({"what": "came-back", "ok": not words, "words": words, **span(acted.began_ns, acted.ended_ns)})
        self._told(FAULT, COME_BACK, COME_BACK, replace(acted, ok=not words, words=words or acted.words))
        return f"the return of the stale primary proves nothing: {words}" if words else ""

    def _unmet(self) -> str:
        """Look on for long enough for every client that would be sent there; why nobody could."""
        try:
            for _ in range(self.looking.detector.misses):
                self.looking.turn()
        except IsmgrError as problem:
            return f"it is there, and nobody could look on: {problem.summary}"
        return ""

    def _fenced_anew(self) -> str:
        """Have its fence up and confirmed again, once after each return."""
        known, back = self.notes.last("fenced-anew"), self.notes.last("came-back")
        if known is not None and back is not None and _since(known, back):
            return ""
        trouble = self._fence()
        if not trouble:
            self.notes.wrote({"what": "fenced-anew"})
        return trouble

    def _fence(self) -> str:
        engines, context = self.kit.scope.engines.recovery, self.kit.scope.context
        kit = replace(self.kit, proven=self.notes.proven("failover"))
        request = fence_request(fence_of(kit.field.document), kit)
        with (
            closing(engines.fences.fence(request, context)) as fence,
            closing(engines.fences.witness(request, context)) as witness,
        ):
            fence.stage()
            acted = fence.act()
            if not acted.ok:
                return f"the stale primary was not fenced anew: {acted.words}"
            witness.stage()
            found = witness.confirm()
        return "" if found.ok else f"the stale primary's fence is not confirmed: {found.by}: {found.words}"

    # by which it is done

    def close(self) -> None:
        """Let go, and lift nothing."""
        self.timer.let()
        self.injection.close()

    def _mended(self) -> Acted:
        """Lift it by what we know, and where that does not do by the words of the journal."""
        acted = self._tried(self.injection.lift)
        known = self.notes.last("fault-undo")
        if acted.ok or known is None or not isinstance(known["undo"], dict):
            return acted
        undo: JsonObject = known["undo"]
        return self._tried(lambda: self.faults.lift(undo, self.request.fleet, self.kit.scope.context))

    def _tried(self, work: Callable[[], Acted]) -> Acted:
        began = self.notes.clock()
        try:
            return work()
        except IsmgrError as problem:
            return Acted(ok=False, began_ns=began, ended_ns=self.notes.clock(), words=problem.summary)

    def _situation(self) -> Situation:
        """What is known when it is lifted, by the journal and by a look."""
        kit, notes = self.kit, self.notes
        sides = kit.field.sides
        given = any(one["ok"] for one in notes.all("given-back", "failover"))
        fenced = any(one["ok"] for one in notes.all("confirmed", "failover")) and not given
        # whoever takes its power back takes the fence away with it
        safe = frozenset({sides.old}) if fenced and not takes_power(self.fault) else frozenset[str]()
        return Situation(
            kind=LegKind.FAILOVER,
            sides=sides,
            standings=self._seen(),
            raised=safe,
            confirmed=safe,
            asked=frozenset({sides.new}) if may_follow(notes.journal.entries()) else frozenset(),
        )

    def _seen(self) -> dict[str, Standing]:
        """Every member. Who does not answer is asked again: on a busy network it may do so now."""
        engines, found = self.kit.scope.engines.recovery, dict[str, Standing]()
        for turn in range(LOOKS):
            if turn:
                threading.Event().wait(engines.pause.total_seconds())
            seen = engines.standby.look(self.kit.field.cluster, self.kit.scope.context)
            found = {one.host: one for one in seen}
            if found[self.kit.field.sides.new].part is not Part.UNKNOWN:
                break
        return found

    def _told(self, leg: str, name: str, action: str, acted: Acted) -> None:
        one = Ended(leg=leg, task=name, action=action, acted=acted)
        self.notes.tried(one.entry)
        one.report(self.kit.scope.context)


@contextmanager
def breaking(drill: Drill, fault: Fault, kit: Kit) -> Iterator[Breaking]:
    """A fault of a drill, for as long as the drill takes. Raises ``InputError`` for what cannot be asked for."""
    engines = drill.scope.engines.recovery
    assert engines.faults is not None  # noqa: S101  planned only where there are any
    request = fault_request(fault, kit, drill.scope.context.run)
    quick = replace(drill.request, patience=duration(drill.field.document.detector.every))

    def look() -> str:
        seen = engines.probe.sees(quick, kit.scope.context)
        return "" if seen.sight is Sight.DONE else seen.words or str(seen.sight)

    injection = engines.faults.fault(request, kit.scope.context)
    dark = ends_with_power(fault) and fence_of(drill.field.document).way is FenceWay.POWER
    one = Breaking(
        fault=fault,
        request=request,
        faults=engines.faults,
        injection=injection,
        kit=kit,
        notes=drill.notes,
        timer=Timer(name=fault.name, injection=injection, notes=drill.notes, lifetime=request.lifetime, dark=dark),
        looking=Looking(
            detector=drill.field.document.detector,
            notes=drill.notes,
            context=drill.scope.context,
            look=look,
        ),
    )
    try:
        yield one
    finally:
        one.close()


def _words(work: Callable[[], str]) -> str:
    """Why it did not go well, also where that is raised."""
    try:
        return work()
    except IsmgrError as problem:
        return problem.summary


def _since(one: Mapping[str, object], other: Mapping[str, object] | None) -> bool:
    """Whether an entry of the journal is younger than another."""
    return other is None or int(str(one["ns"])) > int(str(other["ns"]))
