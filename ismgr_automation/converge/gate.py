"""The gate before any effect: whether the proposed code is signed, and whether the plan is approved. What is asked
comes from the base revision and the proposed one, who counts from the base alone. No code of the estate runs here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

from ismgr_automation.approval.judge import Authors, Question, Signed, Verdict, flaw, judge, told
from ismgr_automation.approval.people import Register, register
from ismgr_automation.approval.requirements import Guard, guard, requirements, strictest
from ismgr_automation.approval.safeguards import Safeguards
from ismgr_automation.approval.touched import Touched, Whereabouts, covered, reworded, touched
from ismgr_automation.converge.fleet import meet
from ismgr_automation.converge.promises import base_commit, last_applied
from ismgr_automation.converge.run import Granted
from ismgr_automation.converge.scope import Scope
from ismgr_automation.converge.stacks import read_states
from ismgr_automation.core.errors import InputError, NotApproved, NotSigned
from ismgr_automation.estate.documents import Role
from ismgr_automation.estate.model import Estate
from ismgr_automation.estate.selector import Selector
from ismgr_automation.evidence.entries import BreakGlass, UsedApproval
from ismgr_automation.patching.exemptions import Waivers
from ismgr_automation.planning.fleet import Fleet, members
from ismgr_automation.planning.plan import Plan
from ismgr_automation.ports.approvals import NAMESPACE, Approval
from ismgr_automation.ports.history import COMMIT_NAMESPACE, CommitSignature, Signers
from ismgr_automation.ports.runs import Run, RunLedger, Sought
from ismgr_automation.ports.signing import AllowedSigner, Signature, fingerprint
from ismgr_automation.ports.source import Revision
from ismgr_automation.ports.trust import Pin


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What is proposed for an environment. ``last`` is the last commit that was applied there as a whole, empty before
    the first; ``used`` are the nonces that earlier runs of this plan used up; ``fleet`` finds out who the hosts are,
    and is asked only where a rule depends on it."""

    safeguards: Safeguards
    revision: Revision
    documents: Estate
    environment: str
    last: str = ""
    used: frozenset[str] = frozenset()
    fleet: Callable[[], Fleet] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What a proposal is judged by. ``pin`` and ``base`` are None where nothing is asked and nothing is pinned."""

    guard: Guard
    pin: Pin | None
    base: str
    documents: Estate
    """Those of the base; the proposed ones where there is no base."""
    people: Register


def granted(
    plan: Plan, scope: Scope, now: datetime, approvals: Sequence[Approval] = (), *, run: Run | None = None
) -> Granted:
    """What allows a plan to be applied: its approvals, or nothing where nothing is asked. ``approvals`` are looked at
    besides those in the stores; ``run`` is one that goes on and may use its own approvals again.

    Raises ``NotApproved`` with everything that is missing, and ``NotSigned``.
    """
    found = proposal(scope, plan, run)
    verdict = weigh(found, plan, now, approvals, ground=refuse_unsigned(found))
    if not verdict.met:
        raise NotApproved(
            "The plan is not approved: " + "; ".join([*verdict.missing, *verdict.refused]) + ".",
            missing=[*verdict.missing, *verdict.refused],
            next_step="`ismgr approvals PLAN` shows who signed and who is asked; `ismgr approve PLAN` signs.",
        )
    _keep((one.approval for one in verdict.counted), plan, scope)
    used = tuple(
        UsedApproval(
            principal=one.principal,
            permission=one.approval.permission,
            signature=one.approval.signature.armored,
            key=one.approval.signature.key,
        )
        for one in verdict.counted
    )
    glass = BreakGlass(by=verdict.counted[0].person, reason=used[0].permission.reason) if verdict.break_glass else None
    rules = {
        one.approval.permission.nonce: "; ".join(
            str(answer.requirement) for answer in verdict.answers if one.person in answer.people
        )
        for one in verdict.counted
    }
    return Granted(approvals=used, break_glass=glass, rules=rules)


def _keep(counted: Iterable[Approval], plan: Plan, scope: Scope) -> None:
    """Put approvals that lie beside a plan file into the estate's own store: whoever resumes the run must find them."""
    for store in scope.safeguards.stores[:1]:
        known = {one.permission.nonce for one in store.find(plan.digest)}
        for one in counted:
            if one.permission.nonce not in known:
                store.add(one)


def proposal(scope: Scope, plan: Plan | None = None, run: Run | None = None) -> Proposal:
    """What a scope proposes; with a plan, also which approvals of it were used."""
    ledger = scope.engines.runs
    known = ledger.runs(scope.environment_name, None, Sought(digest=plan.digest)) if plan is not None else ()
    same = [one.id for one in known if run is None or one.id != run.id]
    return Proposal(
        safeguards=scope.safeguards,
        revision=scope.tree.revision,
        documents=scope.estate,
        environment=scope.environment_name,
        last=last_applied(scope),
        used=frozenset(_nonces(ledger, same)),
        fleet=lambda: meet(scope, {}, read_states(scope)),
    )


def refuse_unsigned(found: Proposal) -> Ground:
    """Refuse code that must be signed and is not. Called before any program or playbook of the proposal runs.

    Raises ``NotSigned`` naming every commit, each with why; ``NotApproved`` when no root of trust is pinned.
    """
    ground = stand(found)
    if not ground.guard.signed_commits:
        return ground
    if found.revision.worktree:
        raise NotSigned(
            f"Environment {found.environment} runs signed commits only, and the working tree is not signed.",
            commits=["the working tree"],
            next_step="Commit with `git commit -S`, and leave out --worktree.",
        )
    history = found.safeguards.history
    if ground.pin is None or not history.descends(found.revision.commit, ground.pin.commit):
        raise NotSigned(
            f"Commit {found.revision.commit[:12]} does not come after the pinned one.",
            commits=[found.revision.commit],
            next_step="`ismgr trust show` shows what is pinned; propose a commit that was made on top of it.",
        )
    wrong = [told(one, why) for one in commits(found, ground) if (why := unfit(one, ground.people))]
    if wrong:
        raise NotSigned(
            f"{len(wrong)} of the commits since {ground.base[:12]} must not be run: {'; '.join(wrong)}.",
            commits=wrong,
            next_step="`ismgr trust verify` lists them all; have each made anew by a known author, signed.",
        )
    return ground


def weigh(
    found: Proposal, plan: Plan, now: datetime, approvals: Iterable[Approval] = (), *, ground: Ground | None = None
) -> Verdict:
    """Which approvals a plan needs, which are there, and what is missing. Raises ``NotApproved`` only where no answer
    is possible: nothing is pinned, the plan is of a working tree, or it is urgent and no rule says who may allow it."""
    ground = ground or stand(found)
    if plan.urgent and not plan.empty:
        _refuse_urgent(found, ground)
    if plan.empty or not (ground.guard.base or ground.guard.proposed):
        return Verdict()
    reach = _reach(plan, found, ground)
    proposed = replace(reach, judges=False)
    needed = strictest(requirements(ground.guard.base, reach), requirements(ground.guard.proposed, proposed))
    if not needed:
        return Verdict()
    if found.revision.worktree or plan.beside.worktree:
        raise NotApproved(
            f"Environment {found.environment} asks for approvals, and nobody can tell who made a working tree.",
            missing=list(map(str, needed)),
            next_step="Commit, signed, and plan that commit.",
        )
    question = Question(
        estate=found.documents.document.name,
        environment=found.environment,
        digest=plan.digest,
        now=now,
        used=found.used,
        break_glass=ground.guard.break_glass,
    )
    everything = [*approvals, *(one for store in found.safeguards.stores for one in store.find(plan.digest))]
    signed = [_signed(one, found, ground) for one in everything]
    return judge(question, needed, signed, ground.people, Authors.of(commits(found, ground)))


def _refuse_urgent(found: Proposal, ground: Ground) -> None:
    """Windows and freezes are overridden by those only whom the base and the proposal both name for it: nobody gives
    himself that right in the change that needs it."""
    lacking = [
        words
        for words, rules in (("what was applied last", ground.guard.base), ("what is proposed", ground.guard.proposed))
        if not any(one.urgent for one in rules)
    ]
    if lacking:
        raise NotApproved(
            f"An urgent plan overrides windows and freezes, and environment {found.environment} does not say who may "
            f"allow that: {' and '.join(lacking)} has no approval rule with `urgent: true`.",
            missing=["an approval rule with `urgent: true`"],
            next_step="Wait for a window, or have such a rule applied first.",
        )


def _reach(plan: Plan, found: Proposal, ground: Ground) -> Touched:
    """What a plan touches by the documents of either revision: a commit that takes a label off its rule, or hosts out
    of a group, is judged by what was there before as well."""
    rules = (*ground.guard.base, *ground.guard.proposed)
    fleet = found.fleet() if found.fleet is not None and any(one.groups or one.data_classes for one in rules) else None
    waived = _newly_waived(found, ground, fleet)
    before, after = (
        touched(plan, one, known) | covered(waived, one, known)
        for one, known in ((one, _known(one, fleet)) for one in (ground.documents, found.documents))
    )
    if not plan.whole:
        return before | after
    # it will be the base: whoever must agree to a change must have agreed to no longer being asked
    known = _known(ground.documents, fleet)
    return before | after | reworded(ground.documents, found.documents, found.environment, known)


def _newly_waived(found: Proposal, ground: Ground, fleet: Fleet | None) -> frozenset[str]:
    """Hosts that an exemption can cover which the proposal brings or changes. Once a run of it has ended it excepts:
    whoever must agree to a change of such a host must have agreed to that as well."""
    agreed = ground.documents.exemptions
    brought = {name: one for name, one in found.documents.exemptions.items() if agreed.get(name) != one}
    if not brought or fleet is None:
        return frozenset()
    # whatever the day: it can begin later
    waivers = Waivers(brought, found.documents.teams, date.min)
    return frozenset(one.host.name for one in fleet.sightings if waivers.seat(one.host).scopes)


def _known(estate: Estate, fleet: Fleet | None) -> Whereabouts:
    if fleet is None:
        return Whereabouts()
    matches = {name: Selector.compile(one.selector).matches for name, one in estate.groups.items()}
    return Whereabouts(
        members={
            name: frozenset(one.host.name for one in members(fleet.sightings, match)) for name, match in matches.items()
        },
        makers={host: made.name for host, made in fleet.made_by.items()},
    )


def stand(found: Proposal) -> Ground:
    """What the proposal is judged by. Raises ``NotApproved`` when something is asked and nothing is pinned, or when the
    pin is of another estate or repository."""
    pin = _pin(found)
    base, documents = _base(found, pin)
    asked = guard(documents.document if base else None, found.documents.document, found.environment)
    if asked.wanted and pin is None:
        raise NotApproved(
            f"Environment {found.environment} asks for signatures, and no root of trust is pinned on this machine.",
            missing=["a pinned root of trust"],
            next_step=f"Look at a commit that you trust, then run `ismgr trust pin --ref {base[:12] or 'COMMIT'}`.",
        )
    return Ground(guard=asked, pin=pin, base=base, documents=documents, people=register(documents.teams))


def pinned(found: Proposal) -> Ground:
    """What is known of people where nothing is proposed: never without a pin. Raises ``NotApproved``."""
    ground = stand(found)
    if ground.pin is None:
        raise _unpinned("No root of trust is pinned on this machine.", found.documents.document.name)
    return ground


def commits(found: Proposal, ground: Ground) -> tuple[CommitSignature, ...]:
    """The proposed commits, newest first; none without a pin."""
    pin = ground.pin
    if pin is None:
        return ()
    signers = Signers(keys=tuple(_allowed(ground, COMMIT_NAMESPACE)), keyring=pin.keyring, revoked=pin.revoked)
    return found.safeguards.history.signatures(ground.base, found.revision.commit, signers)


def _base(found: Proposal, pin: Pin | None) -> tuple[str, Estate]:
    """The base revision and its documents. Without a pin the last run is only asked what it asked for, and nothing when
    it cannot be read any more; with one there is always a base, and it must be readable."""
    history, last = found.safeguards.history, found.last
    if pin is None:
        if not last or not history.descends(last, last):
            return "", found.documents
        try:
            return last, _documents(found, last)
        except InputError:
            return "", found.documents
    base = base_commit(history, last, pin)
    return base, _documents(found, base)


def _documents(found: Proposal, commit: str) -> Estate:
    same = commit == found.revision.commit and not found.revision.worktree
    return found.documents if same else found.safeguards.documents(commit)


def unfit(commit: CommitSignature, people: Register) -> str:
    """Why the code of a commit must not be run; empty for a good signature of a known author. OpenPGP keys are in the
    pinned keyring because somebody wants their commits."""
    if commit.flaw is not None:
        return flaw(commit)
    if commit.key.startswith("openpgp:") or people.holds(commit.key, Role.AUTHOR):
        return ""
    return f"{people.principal(commit.key)} has no role {Role.AUTHOR}"


def _pin(found: Proposal) -> Pin | None:
    name, folder = found.documents.document.name, found.safeguards.folder
    history = found.safeguards.history
    pins = found.safeguards.pins.all()
    mine = next((one for one in pins if one.estate == name), None)
    # a commit that only gives the estate another name must not find itself without a pin
    other = next((one for one in pins if one.folder == folder and history.descends(one.commit, one.commit)), None)
    if mine is None and other is not None:
        raise _unpinned(
            f"The estate in this folder is pinned as {other.estate}, and the documents call it {name}.", name
        )
    if mine is not None and mine.folder != folder:
        raise _unpinned(f"The estate {name} is pinned in the folder {mine.folder or '.'} of its repository.", name)
    if mine is not None and not history.descends(mine.commit, mine.commit):
        raise _unpinned(f"The commit {mine.commit[:12]} that is pinned for {name} is not in this repository.", name)
    return mine


def _unpinned(summary: str, name: str) -> NotApproved:
    return NotApproved(
        summary,
        missing=[f"a pinned root of trust for {name}"],
        next_step="If that is right, run `ismgr trust pin` at a commit that you trust; `ismgr trust show` shows pins.",
    )


def _allowed(ground: Ground, namespace: str) -> Iterable[AllowedSigner]:
    """The keys of the base's Teams, called by their fingerprints. As long as the base is the pinned commit itself, only
    those that the pin lists, with the times that it gives them."""
    if ground.pin is not None and ground.base == ground.pin.commit:
        for one in ground.pin.signers:
            key = fingerprint(one.key)
            if namespace in one.namespaces and key in ground.people.lines:
                yield replace(one, principal=key, namespaces=(namespace,))
        return
    for key, line in sorted(ground.people.lines.items()):
        yield AllowedSigner(principal=key, key=line, namespaces=(namespace,))


def _signed(approval: Approval, found: Proposal, ground: Ground) -> Signed:
    """An approval with the key that made its signature."""
    key, trouble = made_by(approval.permission.to_bytes(), approval.signature, NAMESPACE, found, ground)
    return Signed(approval=approval, key=key, trouble=trouble)


def made_by(data: bytes, signature: Signature, namespace: str, found: Proposal, ground: Ground) -> tuple[str, str]:
    """The fingerprint of the key that made a signature over some bytes, empty for none; and why it does not count. Such
    a key is looked at a second time, trusting nobody, only to tell people."""
    verifier = found.safeguards.verifier(ground.pin.revoked if ground.pin else None)
    key = verifier.verify(data, signature, namespace, tuple(_allowed(ground, namespace)))
    if key is not None:
        return key, ""
    claimed = fingerprint(signature.key)
    alone = AllowedSigner(principal=claimed, key=signature.key, namespaces=(namespace,))
    verifier = found.safeguards.verifier(None)
    if not claimed or verifier.verify(data, signature, namespace, (alone,)) is None:
        return "", ""
    known = claimed in ground.people.lines
    return claimed, "its key has expired, was revoked, or is not among the pinned signers" if known else ""


def _nonces(ledger: RunLedger, runs: Iterable[str]) -> Iterable[str]:
    for run in runs:
        yield from ledger.nonces(run)
