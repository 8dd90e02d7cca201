"""A small clinic: who works there, with which keys, what runs there, and plans that touch it. Values only."""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from ismgr_automation.approval.judge import Question, Signed
from ismgr_automation.approval.people import Register, register
from ismgr_automation.core.address import Address
from ismgr_automation.estate.documents import (
    ApprovalRule,
    Environment,
    EstateDocument,
    HostGroup,
    Member,
    Role,
    Service,
    Stack,
    Team,
)
from ismgr_automation.estate.model import Estate
from ismgr_automation.planning.change import Action, Change, Reason, Step
from ismgr_automation.planning.plan import Beside, Inputs, Plan, Purpose
from ismgr_automation.ports.approvals import Approval, Permission
from ismgr_automation.ports.signing import Signature, fingerprint

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DIGEST = "sha256:" + "a" * 64
AUTHOR, APPROVER = Role.AUTHOR, Role.APPROVER


def public(name: str) -> str:
    """A public key line that nobody has the other half of."""
    kind, point = b"ssh-ed25519", hashlib.sha256(name.encode()).digest()
    blob = b"".join(struct.pack(">I", len(part)) + part for part in (kind, point))
    return f"ssh-ed25519 {base64.b64encode(blob).decode()} {name}"


def key(name: str) -> str:
    """Its fingerprint."""
    return fingerprint(public(name))


def member(name: str, *roles: Role, keys: tuple[str, ...] | None = None, email: str = "") -> Member:
    """A person; one key called like the person unless said otherwise."""
    return Member(name=name, email=email, roles=roles, ssh_keys=tuple(map(public, (name,) if keys is None else keys)))


def team(name: str, *members: Member) -> Team:
    return Team(kind="Team", name=name, members=members)


CLINIC = team(
    "clinic",
    member("ada", AUTHOR, APPROVER, keys=("ada", "ada-laptop"), email="ada@example.org"),
    member("ben", APPROVER),
    member("cy", APPROVER),
    member("dot", AUTHOR),
    member("eve", Role.BREAK_GLASS),
)


def people(*teams: Team) -> Register:
    return register({one.name: one for one in teams or (CLINIC,)})


def question(**more: object) -> Question:
    given: dict[str, object] = {"estate": "clinic", "environment": "prod", "digest": DIGEST, "now": NOW}
    return Question(**{**given, **more})  # type: ignore[arg-type]


def signed(name: str, number: int = 1, **more: object) -> Signed:
    """A permission signed with somebody's key; an empty name is a signature that fits nothing."""
    given: dict[str, object] = {
        "estate": "clinic",
        "environment": "prod",
        "digest": DIGEST,
        "not_after": NOW + timedelta(hours=1),
        "nonce": f"{number:032x}",
    }
    permission = Permission(**{**given, **more})  # type: ignore[arg-type]
    signature = Signature(armored="", key=public(name) if name else "")
    return Signed(approval=Approval(permission=permission, signature=signature), key=key(name) if name else "")


def estate(
    *rules: ApprovalRule,
    teams: tuple[Team, ...] = (CLINIC,),
    stacks: tuple[Stack, ...] = (),
    groups: tuple[HostGroup, ...] = (),
    services: tuple[Service, ...] = (),
    environments: Mapping[str, Environment] | None = None,
    name: str = "clinic",
) -> Estate:
    """Documents without files."""
    document = EstateDocument(
        kind="Estate",
        name=name,
        owner="clinic",
        environments=environments or {"prod": Environment(approvals=rules)},
    )
    return Estate(
        document=document,
        teams={one.name: one for one in teams},
        sites={},
        stacks={one.name: one for one in stacks},
        groups={one.name: one for one in groups},
        services={one.name: one for one in services},
        positions={},
        fields={},
        files=(),
    )


def stack(name: str, *, hosts: bool = False) -> Stack:
    return Stack(kind="Stack", name=name, program="p", hosts="hosts" if hosts else "")


def group(name: str, *needs: str) -> HostGroup:
    return HostGroup(kind="HostGroup", name=name, selector="true", playbook="p.yml", needs=needs)


def service(name: str, *groups: str, holds: tuple[str, ...]) -> Service:
    return Service(kind="Service", name=name, owner="clinic", groups=groups, data_classes=holds)


def change(text: str, action: Action = Action.UPDATE, *steps: Action, targets: tuple[str, ...] = ()) -> Change:
    return Change(
        address=Address.parse(text),
        part=0,
        action=action,
        reason=Reason.INPUTS,
        steps=tuple(Step(target="x", what="y", action=one) for one in steps or (action,)),
        targets=tuple(Address.parse(f"host/{one}") for one in targets),
        inputs="",
    )


def plan(*changes: Change, purpose: Purpose = Purpose.APPLY, commit: str = "c1", worktree: bool = False) -> Plan:
    """A plan of the clinic."""
    return Plan(
        estate="clinic",
        environment="prod",
        purpose=purpose,
        inputs=Inputs(documents={}, content={}, inventory="", states={}, engines={}, selection=()),
        changes=changes,
        waves=tuple((one.key,) for one in changes),
        deferred=(),
        drift=(),
        findings=(),
        complete=True,
        errored=False,
        beside=Beside(commit=commit, ref="main", worktree=worktree, created_at=NOW),
    )
