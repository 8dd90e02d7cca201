"""One shard of a host group, configured as planned: reached, looked at again, run, compared with the plan, verified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ismgr_automation.converge.fleet import await_hosts, unreachable
from ismgr_automation.converge.ground import Ground
from ismgr_automation.converge.outcome import Done, Interrupted
from ismgr_automation.converge.report import failed_checks
from ismgr_automation.converge.requests import playbook_request
from ismgr_automation.converge.scope import Scope
from ismgr_automation.converge.verify import verify_group
from ismgr_automation.planning.budget import troubled
from ismgr_automation.planning.change import Certainty, Change
from ismgr_automation.planning.compose import task_step
from ismgr_automation.planning.freshness import other_engine
from ismgr_automation.planning.unplanned import predicted_only, unplanned, wider
from ismgr_automation.ports.hosts import PlaybookRequest, PlaybookResult, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class HostWork:
    """What is asked: the change and the ground that it stands on. ``again``: somebody began it and died. ``looked``: it
    was checked under this lease a moment ago, and nothing has happened since. ``engine``: what it was planned with,
    empty where nothing was. ``rebooted``: the stack that made the hosts has just changed, so they may still come up."""

    change: Change
    ground: Ground
    again: bool
    looked: bool
    engine: str
    rebooted: bool


def apply_hosts(work: HostWork, scope: Scope) -> Done:
    """Run the playbook on the shard's hosts, and its checks. Raises ``EngineError``, ``Interrupted`` when an engine
    fails after the playbook has changed something."""
    limit = [one.name for one in work.change.targets]
    lost = _not_there(work, limit, scope)
    if lost is not None:
        return lost
    name, ground = work.change.address.name, work.ground
    request = playbook_request(scope, name, ground.fleet, limit, ground.states)
    in_the_way = _left_running(work, request, scope) or _moved(work, request, scope)
    if in_the_way is not None:
        return in_the_way
    result = scope.engines.playbooks.run(request, scope.context)
    done = _compared(work.change, result)
    well = [one for one in limit if one not in done.troubled]
    return _verified(done, well, work, scope) if well and not done.stops else done


def _not_there(work: HostWork, limit: Sequence[str], scope: Scope) -> Done | None:
    """Why the planned hosts cannot be worked on."""
    fleet = work.ground.fleet
    gone = sorted(set(limit) - set(fleet.membership[work.change.address.name]))
    if gone:
        words = f"{', '.join(gone)} no longer belong{'s' * (len(gone) == 1)} to {work.change.address}"
        return Done(trouble=words, touched=False, stops=True)
    if not work.rebooted:
        return None
    found = await_hosts(scope, [one for one in fleet.hosts if one.name in limit], fleet)
    lost = unreachable(found)
    away = tuple(one.split(" ", 1)[0] for one in lost)
    return Done(trouble="; ".join(lost), touched=False, troubled=away) if lost else None


def _left_running(work: HostWork, request: PlaybookRequest, scope: Scope) -> Done | None:
    """What a run that died left behind on the hosts and that would not end: two at once may do anything."""
    if not work.again:
        return None
    left = scope.engines.playbooks.sweep(request, scope.context)
    return Done(trouble="; ".join(left), leftovers=left, unsure=True, stops=True) if left else None


def _fresh(change: Change) -> bool:
    """Whether nothing was predicted of these hosts: they have just come up, and the envelope bounds what is done."""
    return all(one.certainty is Certainty.UNPREDICTABLE and not one.where for one in change.steps)


def _moved(work: HostWork, request: PlaybookRequest, scope: Scope) -> Done | None:
    """What stands between the plan and the hosts as they are now; a fresh host has nothing that could have moved."""
    if _fresh(work.change) or (work.looked and not work.again):
        return None
    checked = scope.engines.playbooks.check(request, scope.context)
    other = other_engine(work.engine, checked.engine)
    if other:
        return Done(trouble=f"{work.change.address}: {other}", touched=work.again, stops=True)
    surplus = wider(work.change.steps, checked)
    if surplus:
        return Done(trouble="; ".join(surplus), unplanned=surplus, touched=work.again, stops=True)
    return None


def _compared(change: Change, result: PlaybookResult) -> Done:
    surplus = unplanned(change.steps, result)
    lost = [f"{one.host} unreachable ({one.reach})" for one in result.unreachable]
    trouble = [*surplus, *lost, *_broken(result)]
    changed = sum(counts.get(Status.CHANGED, 0) for counts in result.counts.values())
    return Done(
        changed=changed,
        trouble="; ".join(trouble),
        touched=bool(changed or result.failed) or not trouble,
        stops=bool(surplus),
        unplanned=surplus,
        spared=() if trouble else predicted_only(change.steps, result),
        applied=tuple(task_step(one) for one in result.tasks if one.status is Status.CHANGED),
        troubled=troubled(result),
        leftovers=result.leftovers,
    )


def _broken(result: PlaybookResult) -> list[str]:
    found = []
    for host in result.failed:
        last = [one for one in result.tasks if one.host == host and one.status is Status.FAILED]
        found.append(f"{host} failed at {last[-1].task!r}: {last[-1].message}" if last else f"{host} failed")
    return found


def _verified(done: Done, hosts: Sequence[str], work: HostWork, scope: Scope) -> Done:
    name, ground = work.change.address.name, work.ground
    try:
        checks = verify_group(scope, name, ground.fleet, ground.states, hosts)
    except Exception as problem:
        raise Interrupted(done) from problem
    bad = failed_checks(checks)
    words = f"{len(bad)} of {len(checks)} checks did not pass, first {bad[0].check} on {bad[0].host}" if bad else ""
    return replace(
        done,
        trouble="; ".join(one for one in (done.trouble, words) if one),
        checks=checks,
        troubled=tuple(sorted({*done.troubled, *troubled(None, checks)})),
    )
