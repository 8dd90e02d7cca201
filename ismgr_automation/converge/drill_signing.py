"""Sign-offs of drills, checked with the same keys, people and root of trust as approvals of plans."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ismgr_automation.converge.gate import made_by, pinned, proposal
from ismgr_automation.converge.scope import Scope
from ismgr_automation.core.errors import IsmgrError, NotApproved
from ismgr_automation.core.json import JsonObject, digest
from ismgr_automation.ports.signing import Signature
from ismgr_automation.recovery.particulars import SIGN_OFF_NAMESPACE, Note, SignOff
from ismgr_automation.recovery.sign_offs import Checked, Question, Weighed, unproven, weigh


def sign_offs(scope: Scope, kept: JsonObject, notes: Iterable[Note]) -> tuple[Weighed, ...]:
    """The sign-offs among notes, each with whether it counts for the result as it is ``kept``. Where nothing can be
    checked, as without a pinned root of trust, none counts and each says why."""
    mine = [one for one in notes if isinstance(one, SignOff)]
    if not mine:
        return ()
    try:
        return _weighed(scope, kept, mine)
    except IsmgrError as problem:
        return unproven(mine, problem.summary)


def allowed(scope: Scope, kept: JsonObject, sign_off: SignOff) -> SignOff:
    """A new sign-off, with the name of the person whose it is. Raises ``NotApproved`` for one that does not count."""
    [found] = _weighed(scope, kept, [sign_off])
    if not found.counts:
        raise NotApproved(
            f"This signature signs nothing off: {found.void}.",
            missing=[f"a sign-off as {sign_off.role}"],
            next_step="`ismgr trust show` shows what is pinned; roles and keys are those of Team documents, applied or "
            "pinned. A pin from before there were sign-offs is made anew by `ismgr trust pin`.",
        )
    return replace(sign_off, person=found.person)


def _weighed(scope: Scope, kept: JsonObject, mine: Iterable[SignOff]) -> tuple[Weighed, ...]:
    found = proposal(scope)
    ground = pinned(found)
    service = ground.documents.services.get(str(kept["service"])) or scope.estate.services.get(str(kept["service"]))
    question = Question(
        estate=found.documents.document.name,
        environment=found.environment,
        run=str(kept["run"]),
        digest=digest(kept),
        owner=service.owner if service is not None else "",
    )
    checked = []
    for one in mine:
        signature = Signature(armored=one.signature, key=one.key)
        key, trouble = made_by(one.to_bytes(), signature, SIGN_OFF_NAMESPACE, found, ground)
        checked.append(Checked(sign_off=one, key=key, trouble=trouble))
    return weigh(question, checked, ground.people)
