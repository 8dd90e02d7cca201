"""Whose signatures close runs: the members of Teams with role runner, as signers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ismgr_automation.approval.people import principal
from ismgr_automation.estate.documents import Role, Team
from ismgr_automation.ports.evidence import NAMESPACE
from ismgr_automation.ports.signing import AllowedSigner, bare_key, fingerprint


def runners(teams: Mapping[str, Team]) -> tuple[AllowedSigner, ...]:
    """Every key of every member with role runner. Keys that were replaced stay in their Team document, so that what
    they signed can still be checked."""
    return tuple(
        AllowedSigner(principal=principal(member.name, member.email), key=bare_key(line), namespaces=(NAMESPACE,))
        for _, team in sorted(teams.items())
        for member in team.members
        if Role.RUNNER in member.roles
        for line in member.ssh_keys
        if fingerprint(line)
    )


def allowed_signers(signers: Iterable[AllowedSigner]) -> str:
    """The text of a file that ``ssh-keygen -Y verify -f`` takes. Lines of what is no key are left out."""
    return "".join(
        f'{principal(one.principal, "")} namespaces="{",".join(one.namespaces)}" {bare_key(one.key)}\n'
        for one in signers
        if fingerprint(one.key)
    )
