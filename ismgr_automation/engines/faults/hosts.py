"""Faults that a host does to itself, over a warm SSH connection: a timer is armed there first, and lifts the fault when
nobody renews it. Which fault may be done when is decided elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic, monotonic_ns

from ismgr_automation.core.errors import Cancelled, InputError
from ismgr_automation.core.json import JsonObject
from ismgr_automation.engines.faults import asking
from ismgr_automation.engines.faults.cutting import CUT, filtered
from ismgr_automation.engines.faults.deadman import Scripts, readings, waiting
from ismgr_automation.engines.faults.filling import FILL, limited, told
from ismgr_automation.engines.faults.freezing import FREEZE, freezer, signal
from ismgr_automation.engines.faults.means import Craft, Means, said
from ismgr_automation.engines.faults.slowing import SLOW, queued
from ismgr_automation.engines.faults.undo import Undo, Values, Way, key_of
from ismgr_automation.engines.faults.watching import Watchers
from ismgr_automation.engines.ssh.remote import Answer
from ismgr_automation.engines.ssh.warm import Loaded, Warm
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.faults import FaultRequest, Harm
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.packages import Fleet
from ismgr_automation.ports.recovery import Acted, Confirmation, Reading, Seen, Sight
from ismgr_automation.ports.secrets import SecretStore

PAUSE = timedelta(milliseconds=20)
"""Between two looks at a fault that has not bitten yet."""

CRAFTS: Mapping[Harm, Craft] = {
    Harm.FREEZE: FREEZE,
    Harm.PARTITION: CUT,
    Harm.ROLLING: CUT,
    Harm.SLOW_LINK: SLOW,
    Harm.DISK_FULL: FILL,
    Harm.READ_ONLY: FILL,
}

MENDS: Mapping[Way, Callable[[Values], Scripts]] = {
    Way.SIGNAL: signal,
    Way.FREEZER: freezer,
    Way.FILTER: filtered,
    Way.POLICER: filtered,
    Way.QUEUE: queued,
    Way.LIMIT: limited,
    Way.SETTINGS: told,
}


class Hosts:
    """The scripts that wait on the hosts of one fault."""

    def __init__(self, fleet: Fleet, store: SecretStore, context: Context, deadline: timedelta) -> None:
        """Connects to nobody yet. Raises ``InputError`` for hosts that cannot be connected to by their description."""
        self.warm = Warm(fleet, store, context.cancelled)
        self.warm.__enter__()
        self._deadline = deadline
        self._loaded: dict[str, Loaded] = {}

    def load(self, undo: Undo, scripts: Mapping[str, Scripts]) -> None:
        """Let them wait."""
        loading = {name: self.warm.begin_load(name, waiting(undo, scripts[name])) for name in undo.hosts}
        self._loaded = {name: done() for name, done in loading.items()}

    def go(self, line: str) -> dict[str, Answer]:
        """Ask all of them at once, over a new connection where one was lost."""
        for name, one in self._loaded.items():
            if one.lost is not None:
                self._loaded[name] = one.anew()
        asked = {name: one.begin(self._deadline, line) for name, one in self._loaded.items()}
        return {name: answer() for name, answer in asked.items()}

    def close(self) -> None:
        """Let go of the connections."""
        self.warm.close()


class HostFault:
    """Implements ``ports.faults.Injection`` for what hosts do to themselves."""

    def __init__(self, request: FaultRequest, store: SecretStore, context: Context) -> None:
        """Raises ``InputError`` for a fault that cannot be asked for as it is."""
        key_of(request.run, request.name)
        if not request.hosts:
            raise InputError(f"{request.name}: no host is named on which it could be done.")
        if request.harm is Harm.ROLLING and request.lead >= request.lifetime:
            raise InputError(f"{request.name}: what is lifted before its second stage does not roll.")
        self._craft = CRAFTS[request.harm]
        self._probes = {name: self._craft.probe(request, name) for name in request.hosts}
        self._request, self._cancelled = request, context.cancelled
        self._hosts = Hosts(request.fleet, store, context, request.deadline)
        self._watchers = Watchers(request, self._hosts.warm)
        self._undo: Undo | None = None

    def stage(self) -> Seen:
        """Ask the hosts what they can do, load it, and let those who will look connect once. Raises ``Cancelled``."""
        within = self._request.deadline
        asked = {name: self._hosts.warm.begin_run(name, *probe, within) for name, probe in self._probes.items()}
        answers = {name: answer() for name, answer in asked.items()}
        if trouble := troubles(answers):
            return Seen(sight=Sight.UNKNOWN, words=trouble)
        means = {name: self._craft.means(self._request, said(answer.output)) for name, answer in answers.items()}
        hosts = {name: one.hurt for name, one in means.items()}
        self._undo = Undo(run=self._request.run, fault=self._request.name, harm=self._request.harm, hosts=hosts)
        self._hosts.load(self._undo, {name: one.scripts for name, one in means.items()})
        looked = self._hosts.go("look")
        if trouble := troubles(looked):
            return Seen(sight=Sight.UNKNOWN, words=trouble)
        stands = all(readings(one.output)[0] for one in looked.values())
        return self._staged(means, Sight.DONE if stands else Sight.NOT_DONE)

    def _staged(self, means: Mapping[str, Means], sight: Sight) -> Seen:
        words = "; ".join(f"{name}: {one.words}" for name, one in means.items())
        if proven := self._watchers.stage():
            words += f"; {', '.join(proven)} had an answer at {self._watchers.place}"
        way = ", ".join(sorted({one.hurt.way.value for one in means.values()}))
        return Seen(sight=sight, words=words, readings={"way": way, "witnesses": len(proven)})

    def undo(self) -> JsonObject:
        """What the hosts said while this was staged. Raises ``InputError`` before that."""
        return self._known().json()

    def act(self) -> Acted:
        """Arm, then hurt; the clock begins after the first. Raises ``Cancelled``."""
        self._known()
        arming = monotonic_ns()
        lifetime_ms = math.ceil(self._request.lifetime / timedelta(milliseconds=1))
        if trouble := troubles(self._sure(f"arm {lifetime_ms}ms")):
            return Acted(ok=False, began_ns=arming, ended_ns=monotonic_ns(), words=f"not armed: {trouble}")
        began = monotonic_ns()
        answers = self._sure("act")
        told: dict[str, Reading] = {"armed_ms": round((began - arming) / 1e6, 3)}
        if self._request.harm is Harm.ROLLING and not troubles(answers):
            told["replication_ns"] = monotonic_ns()
            if self._cancelled.wait(self._request.lead.total_seconds()):
                raise Cancelled("A disaster was stopped while it rolled.", next_step="Lift it.")
            answers = self._sure("second")
            told["site_ns"] = monotonic_ns()
        stands, numbers = _summed(answers)
        trouble = troubles(answers)
        words = trouble or ("it stands" if stands else "it was done, and does not stand")
        ok = not trouble and stands
        return Acted(ok=ok, began_ns=began, ended_ns=monotonic_ns(), words=words, readings={**told, **numbers})

    def bitten(self) -> Confirmation:
        """Look until it bites or the deadline is over. Raises ``Cancelled``."""
        self._known()
        end = monotonic() + self._request.deadline.total_seconds()
        while True:
            met = self._watchers.meet()
            ok, words = self._bites(self._hosts.go("prove"), met)
            by = ", ".join((*self._request.hosts, *self._watchers.proven))
            if ok or monotonic() > end:
                return Confirmation(ok=ok, by=by, words=words, ended_ns=monotonic_ns())
            if self._cancelled.wait(PAUSE.total_seconds()):
                raise Cancelled("Looking at a fault was stopped on request.")

    def biting(self) -> Callable[[], Confirmation]:
        """Beside whatever else happens."""
        return beside(self.bitten)

    def _bites(self, answers: Mapping[str, Answer], met: Mapping[str, str]) -> tuple[bool, str]:
        stands, numbers = _summed(answers)
        if (trouble := troubles(answers)) or not stands:
            return False, trouble or "it does not stand"
        counted = [", ".join(f"{name} {number}" for name, number in numbers.items())] if numbers else []
        words = "; ".join([*counted, *(f"{name}: {asking_words(word)}" for name, word in met.items())])
        match self._request.harm:
            case Harm.FREEZE:
                frozen = numbers.get("processes", 0) == numbers.get("stopped", 0) > 0
                return frozen and set(met.values()) <= {asking.MUTE, asking.SILENT}, words
            case Harm.PARTITION | Harm.ROLLING:
                return numbers.get("packets", 0) > 0 and set(met.values()) <= {asking.SILENT}, words
            case Harm.SLOW_LINK:
                return numbers.get("packets", 0) > 0, words
            case Harm.DISK_FULL | Harm.READ_ONLY:
                return True, f"a write fails there; {words}".removesuffix("; ")
            case Harm.POWER_OFF | Harm.STALE_PRIMARY:
                return False, "no host does this to itself"

    def renew(self) -> bool:
        """Set the timers anew. False: one has fired, or its host cannot be asked."""
        self._known()
        answers = self._hosts.go("renew")
        return not troubles(answers) and _summed(answers)[0]

    def come_back(self) -> Acted:
        """Nothing comes back from these."""
        now = monotonic_ns()
        return Acted(ok=True, began_ns=now, ended_ns=now, words="nothing comes back from this")

    def lift(self) -> Acted:
        """Mend, then stop the timers. Raises ``Cancelled``."""
        self._known()
        return lifting(self._sure)

    def lifted(self) -> Confirmation:
        """What the hosts say when they look for what is left."""
        self._known()
        answers = self._hosts.go("look")
        words = troubles(answers) or remains(answers)
        by = ", ".join(self._request.hosts)
        return Confirmation(ok=not words, by=by, words=words or "nothing is left", ended_ns=monotonic_ns())

    def close(self) -> None:
        """Let go of the connections. The timers stay."""
        self._hosts.close()

    def _known(self) -> Undo:
        if self._undo is None:
            raise InputError(f"{self._request.name} was not staged, or its hosts could not do it.")
        return self._undo

    def _sure(self, line: str) -> dict[str, Answer]:
        return sure(self._hosts, line, self._request.deadline)


@dataclass(frozen=True, slots=True, kw_only=True)
class Within:
    """Who is there, and how long one call may take."""

    fleet: Fleet
    context: Context
    deadline: timedelta


def lift(undo: Undo, store: SecretStore, within: Within) -> Acted:
    """Mend what a run that is gone has left, by its own words. Raises ``InputError``, ``Cancelled``."""
    try:
        scripts = {name: MENDS[one.way](one.values) for name, one in undo.hosts.items()}
    except KeyError as error:
        raise InputError(f"This undo of {undo.fault} does not say how: {error}.") from error
    return lift_by(undo, scripts, store, within)


def lift_by(undo: Undo, scripts: Mapping[str, Scripts], store: SecretStore, within: Within) -> Acted:
    """As ``lift``, by these scripts."""
    hosts = Hosts(within.fleet, store, within.context, within.deadline)
    try:
        hosts.load(undo, scripts)
        return lifting(lambda line: sure(hosts, line, within.deadline))
    finally:
        hosts.close()


def beside(look: Callable[[], Confirmation]) -> Callable[[], Confirmation]:
    """Begin to look; the answer waits for it, and raises what it would."""
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ismgr-bite")
    looking = pool.submit(look)
    pool.shutdown(wait=False)
    return looking.result


def lifting(go: Callable[[str], Mapping[str, Answer]]) -> Acted:
    """Lift by scripts that wait."""
    began = monotonic_ns()
    answers = go("lift")
    words = troubles(answers) or remains(answers)
    return Acted(ok=not words, began_ns=began, ended_ns=monotonic_ns(), words=words or "nothing is left")


def sure(hosts: Hosts, line: str, deadline: timedelta) -> dict[str, Answer]:
    """Ask again where the connection was lost: each line is safe to be carried out twice."""
    end = monotonic() + deadline.total_seconds()
    while True:
        answers = hosts.go(line)
        if all(one.reach is Reach.OK for one in answers.values()) or monotonic() > end:
            return answers


def asking_words(word: str) -> str:
    """What somebody met, for people."""
    return {
        asking.ANSWERS: "has an answer",
        asking.MUTE: "is let in and has no answer",
        asking.REFUSED: "is refused",
        asking.SILENT: "has no answer",
        asking.LOST: "has no way there",
    }[word]


def troubles(answers: Mapping[str, Answer]) -> str:
    """Why hosts did not do it; empty when all did."""
    words = []
    for name, one in answers.items():
        if one.reach is not Reach.OK:
            words.append(f"{name} cannot be reached ({one.reach}): {one.detail}")
        elif one.code:
            words.append(f"{name}: {one.detail or f'its script ended with {one.code}'}")
    return "; ".join(words)


def _summed(answers: Mapping[str, Answer]) -> tuple[bool, dict[str, int]]:
    looks = [readings(one.output) for one in answers.values()]
    names = {name for _, numbers in looks for name in numbers} - {"timer", "record"}
    stands = all(one for one, _ in looks)
    return stands, {name: sum(numbers.get(name, 0) for _, numbers in looks) for name in sorted(names)}


def remains(answers: Mapping[str, Answer]) -> str:
    """What is still there."""
    words = []
    for name, one in answers.items():
        stands, numbers = readings(one.output)
        found = ["the fault"] * stands + [f"its {what}" for what in ("timer", "record") if numbers.get(what)]
        if found:
            words.append(f"{name}: {', '.join(found)} is left")
    return "; ".join(words)
