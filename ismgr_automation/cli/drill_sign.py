"""`ismgr drill sign-off`: the signature of the owner, or of management, under what a drill measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ismgr_automation.cli.drill_report import Run, chosen, here, keep, sealed
from ismgr_automation.cli.face import Face
from ismgr_automation.cli.options import Ref, Yes
from ismgr_automation.cli.plan import looked_up
from ismgr_automation.core.errors import NotApproved
from ismgr_automation.recovery.topics import SignRole

EPILOG = """Examples:

  ismgr drill sign-off 20261127T081500-3f9a --as owner                            with the key that your Git signs with

  ismgr drill sign-off 20261127T081500-3f9a --as management --key ~/.ssh/id_ed25519

  ismgr drill sign-off 20261127T081500-3f9a --as management --agent-key id_sk.pub

The owner is a member of the Team that owns the drill's service, management one of any Team with that role; both with
the keys and roles of the base revision, as for approvals. Standards ask for two people. A result that is changed
afterwards makes a sign-off void.
"""


def add(topic: typer.Typer) -> None:
    """Add the command to `ismgr drill`."""
    topic.command("sign-off", epilog=EPILOG)(sign_off)


def sign_off(
    ctx: typer.Context,
    run_name: Run,
    role: Annotated[SignRole, typer.Option("--as", help="For whom you sign.")],
    key: Annotated[
        Path | None, typer.Option("--key", metavar="FILE", help="Sign with this private key (or its public half).")
    ] = None,
    agent_key: Annotated[
        str | None, typer.Option("--agent-key", metavar="PUB", help="Sign with this key of your ssh-agent.")
    ] = None,
    yes: Yes = False,
    ref: Ref = "HEAD",
) -> int:
    """Look at what a drill measured and sign its digest, as its owner or for management."""
    from dataclasses import replace

    from ismgr_automation.cli.apply import confirm
    from ismgr_automation.cli.approve import chosen_signer
    from ismgr_automation.cli.drill_views import show_result
    from ismgr_automation.core.json import digest
    from ismgr_automation.recovery.particulars import SIGN_OFF_NAMESPACE, SignOff

    face: Face = ctx.obj
    with looked_up(face, ref) as estate:
        found = chosen(estate, run_name)
    seal, body = sealed(face, ref, found)
    if not seal.recorded:
        raise NotApproved(
            f"The result of drill {run_name} is not proven by the evidence, and nobody should sign it.",
            missing=["the digest of the result in a whole chain of evidence"],
            next_step="`ismgr audit verify` says what is wrong; a drill that has not ended is signed afterwards.",
        )
    at, by = here()
    draft = SignOff(
        run=found.run,
        at=at,
        by=by,
        role=role,
        estate=found.estate,
        environment=found.environment,
        digest=digest(body),
    )
    signer = chosen_signer(face, key, agent_key)
    if not face.json:
        show_result(found, face.console)
    confirm(face, f"Sign this drill off as {role}?", yes=yes)
    signature = signer.sign(draft.to_bytes(), SIGN_OFF_NAMESPACE)
    return keep(face, ref, replace(draft, key=signature.key, signature=signature.armored))
