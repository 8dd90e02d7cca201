"""The safety rules of a recovery, each a pure function of what was observed a moment ago. A rule says no by its name
and with what it saw; what is unknown never counts as safe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from ismgr_automation.ports.recovery import Standing
from ismgr_automation.ports.upkeep import Part
from ismgr_automation.recovery.path import LegKind, Sides


class Act(StrEnum):
    """What is about to be done, as far as safety is concerned."""

    FENCE = "fence"
    DEMOTE = "demote"
    PROMOTE = "promote"
    SWITCH = "switch"
    UNFENCE = "unfence"
    REINSTATE = "reinstate"
    """The old primary takes its role again, because the new side never took it."""
    REJOIN = "rejoin"
    LIFT = "lift"
    """A fault that keeps the old side down is taken away."""
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What is known just before an act. ``standings`` has every member by host; ``raised`` the hosts whose fence was
    seen to be up; ``confirmed`` those of them whose fence somebody else has confirmed; ``demoted`` hosts that were
    stopped cleanly and cannot come up as a primary, with everything of theirs on the new side."""

    kind: LegKind
    sides: Sides
    standings: Mapping[str, Standing]
    raised: frozenset[str] = frozenset()
    confirmed: frozenset[str] = frozenset()
    demoted: frozenset[str] = frozenset()
    was_streaming: bool = False
    """Whether the new side streamed from the old one when the drill began."""
    lag_allowed: int = 0
    lag_at_start: int = 0
    """Bytes that the new side was behind when the drill began."""
    asked: frozenset[str] = frozenset()
    """Hosts whose promotion was asked for, or may have been."""
    held: frozenset[str] = frozenset()
    """Those of them that have been made to stay standbys: what was asked for is not carried out any more."""

    def part(self, host: str) -> Part:
        """What a member is; UNKNOWN for one that nobody has seen."""
        found = self.standings.get(host)
        return found.part if found is not None else Part.UNKNOWN

    def safe(self, host: str) -> bool:
        """Whether a member surely takes no write now and later: fenced and confirmed, or stopped for good."""
        return (host in self.raised and host in self.confirmed) or host in self.demoted

    @property
    def at_home(self) -> bool:
        """Whether the old side takes writes, and the new one streams as its standby."""
        old, new = self.standings.get(self.sides.old), self.standings.get(self.sides.new)
        return old is not None and old.writable and new is not None and new.part is Part.STANDBY and new.streaming


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """No, by the rule of that name. ``why`` says what was seen."""

    rule: str
    why: str


Check = Callable[[Act, Situation], str]
"""Why not; empty for what may be done."""


def refusal(act: Act, situation: Situation) -> Refusal | None:
    """The first rule that says no, in the order of ``RULES``."""
    for name, check in RULES.items():
        why = check(act, situation)
        if why:
            return Refusal(rule=name, why=why)
    return None


def never_two(act: Act, now: Situation) -> str:
    """No promotion while another member takes writes, or may."""
    if act is not Act.PROMOTE:
        return ""
    for host in sorted(now.standings):
        if host == now.sides.new or now.safe(host) or now.part(host) is Part.STANDBY:
            continue
        one = now.standings[host]
        if one.writable or one.part is Part.PRIMARY:
            return f"{host} takes writes"
        return f"nobody can tell whether {host} takes writes: {one.detail or one.part}"
    return ""


def confirmed_fence(act: Act, now: Situation) -> str:
    """After a loss, no promotion before the fence of the old side is up and somebody else has confirmed it."""
    old = now.sides.old
    if act is not Act.PROMOTE or now.kind is not LegKind.FAILOVER:
        return ""
    if old not in now.raised:
        return f"the fence of {old} is not up"
    return "" if old in now.confirmed else f"nobody else has confirmed the fence of {old}"


def clean_handover(act: Act, now: Situation) -> str:
    """By plan, no promotion before the old primary is stopped for good and all that it wrote has arrived."""
    if act is not Act.PROMOTE or now.kind is not LegKind.SWITCHOVER or now.sides.old in now.demoted:
        return ""
    return f"{now.sides.old} was not stopped cleanly, with all that it wrote on {now.sides.new}"


def never_zero(act: Act, now: Situation) -> str:
    """The primary is not taken away while there is nobody to follow it."""
    new = now.sides.new
    if act not in {Act.FENCE, Act.DEMOTE} or now.standings.get(new, None) is None:
        return "" if act not in {Act.FENCE, Act.DEMOTE} else f"{new} was not seen"
    if now.part(new) is Part.STANDBY or (now.part(new) is Part.PRIMARY and act is Act.FENCE):
        return ""
    return f"{new} is {now.part(new)}, and could not follow"


def caught_up(act: Act, now: Situation) -> str:
    """Nothing begins towards a side that did not stream, or was too far behind."""
    if act not in {Act.FENCE, Act.DEMOTE} or now.part(now.sides.new) is Part.PRIMARY:
        return ""
    if not now.was_streaming:
        return f"{now.sides.new} did not stream from {now.sides.old} when this began"
    if now.lag_at_start > now.lag_allowed:
        return f"{now.sides.new} was {now.lag_at_start:,} bytes behind, and {now.lag_allowed:,} are allowed"
    return ""


def only_the_primary(act: Act, now: Situation) -> str:
    """Clients are sent to a member that takes writes, and to no other."""
    one = now.standings.get(now.sides.new)
    if act is not Act.SWITCH or (one is not None and one.writable):
        return ""
    return f"{now.sides.new} takes no writes"


def no_return_as_primary(act: Act, now: Situation) -> str:
    """A fence is lifted only when there is another primary for the member to follow."""
    if act is not Act.UNFENCE:
        return ""
    one = now.standings.get(now.sides.new)
    if one is None or not one.writable:
        return f"{now.sides.new} takes no writes: {now.sides.old} would come back to nobody"
    return ""


def rejoin_the_loser(act: Act, now: Situation) -> str:
    """Data is overwritten only on a member that takes no writes, and only by the one primary."""
    if act is not Act.REJOIN:
        return ""
    old, new = now.standings.get(now.sides.old), now.standings.get(now.sides.new)
    if old is not None and (old.writable or old.part is Part.PRIMARY):
        return f"{now.sides.old} takes writes itself"
    if new is None or not new.writable:
        return f"{now.sides.new} is not the primary"
    return ""


def nobody_followed(act: Act, now: Situation) -> str:
    """The old primary takes its role again only while the new side was surely not promoted."""
    if act is not Act.REINSTATE or now.part(now.sides.new) is Part.STANDBY:
        return ""
    return f"{now.sides.new} is {now.part(now.sides.new)}, and may have been promoted"


def no_late_promotion(act: Act, now: Situation) -> str:
    """The old primary takes its role again only when a promotion that nobody has seen cannot land any more: one look
    says nothing of the next moment."""
    if act is not Act.REINSTATE or now.sides.new not in now.asked - now.held:
        return ""
    return f"{now.sides.new} was asked to take the role, and may still do so"


def lift_behind_fence(act: Act, now: Situation) -> str:
    """What keeps the old side down is taken away only where it cannot come back as a primary (it is fenced, or is none
    any more), where it is not down at all, or while the new side surely did not follow: it was not asked to, and is
    seen to be a standby, or down."""
    old, new = now.sides.old, now.sides.new
    if act is not Act.LIFT or now.safe(old) or now.at_home or now.part(old) in {Part.STANDBY, Part.DOWN}:
        return ""
    if now.part(new) is Part.PRIMARY:
        why = f"{new} is a primary"
    elif new in now.asked - now.held:
        why = f"{new} was asked to take the role, or may have been"
    elif now.part(new) is Part.UNKNOWN:
        why = f"nobody can tell whether {new} takes writes"
    else:
        return ""
    return f"{old} would come back without a fence, and {why}"


RULES: Mapping[str, Check] = {
    "never-two-primaries": never_two,
    "confirmed-fence": confirmed_fence,
    "clean-handover": clean_handover,
    "never-zero": never_zero,
    "caught-up": caught_up,
    "clients-to-the-primary": only_the_primary,
    "no-return-as-primary": no_return_as_primary,
    "rejoin-the-loser": rejoin_the_loser,
    "nobody-followed": nobody_followed,
    "no-late-promotion": no_late_promotion,
    "lift-behind-fence": lift_behind_fence,
}
"""Every rule by its name, in the order in which they are asked. One drill at a time is the lease's business."""
