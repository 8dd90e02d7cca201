"""The engine's own saved plan: what of it a signature binds, and how it travels sealed. Opens no file; its text is in
clear only in memory, since it holds the secrets of the stack's resources."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ismgr_automation.core.errors import PlanFileError
from ismgr_automation.core.json import Json, digest, keyed_digest
from ismgr_automation.core.secret import SHORTEST, Secret
from ismgr_automation.engines.pulumi.generated import Generated
from ismgr_automation.engines.pulumi.state import SECRET, SECRET_SIGNATURE, SIGNATURE, exact, name_of
from ismgr_automation.ports.stacks import UpdatePlan

PURPOSE = "pulumi update plan"
VERSION = "v1"

_ANY_VALUE = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""What the engine writes for a value that is not known yet; where a plan holds it, any value may come."""
_NONCE_BYTES = 12
_MAKING = frozenset({"create", "create-replacement", "replace"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """One key to seal with and one for the digests of secrets; ``secret`` False where there is no passphrase: then
    everybody has these keys, and nothing secret may be sealed with them. ``known`` are the secrets of the
    configuration: a program may have put one where the engine takes it for an ordinary text."""

    seal: bytes
    values: bytes
    secret: bool
    known: tuple[str, ...] = field(default=(), repr=False)

    def hides(self, text: str) -> bool:
        """Whether a text holds a secret of the configuration."""
        return any(one in text for one in self.known)


def keys(passphrase: str, stack: str, known: Iterable[str] = ()) -> Keys:
    """The keys of one stack. Costs some 80 ms and 32 MiB, so that passphrases cannot be guessed at leisure."""
    from ismgr_automation.engines.secrets.keys import derive

    root = derive(Secret(passphrase), PURPOSE, stack.encode())
    seal, values = (hmac.new(root, use, hashlib.sha256).digest() for use in (b"seal", b"values"))
    long = tuple(sorted({one for one in known if len(one) >= SHORTEST}))
    return Keys(seal=seal, values=values, secret=bool(passphrase), known=long)


def sealed(text: str, stack: str, of: Keys) -> UpdatePlan:
    """Seal what the engine saved. Only what constrains an update is kept; without a secret key no secret is."""
    plan = _kept(json.loads(text))
    if not of.secret:
        plan = _without_secrets(plan, of)
    bound = _digest(plan, of)
    nonce = os.urandom(_NONCE_BYTES)
    data = zlib.compress(json.dumps(plan, separators=(",", ":")).encode(), 9)
    closed = nonce + _cipher(of).encrypt(nonce, data, _bound_to(stack, bound))
    return UpdatePlan(digest=bound, sealed=f"{VERSION}.{base64.b64encode(closed).decode()}")


def opened(plan: UpdatePlan, stack: str, of: Keys) -> str:
    """The engine's plan again. Raises ``PlanFileError`` when it was sealed with another passphrase, for another stack,
    or is not what its digest says."""
    from cryptography.exceptions import InvalidTag

    version, _, data = plan.sealed.partition(".")
    if version != VERSION:
        raise _unusable(stack, f"it is of version {version[:20]!r}, and this one reads {VERSION}")
    try:
        closed = base64.b64decode(data, validate=True)
        text = _cipher(of).decrypt(closed[:_NONCE_BYTES], closed[_NONCE_BYTES:], _bound_to(stack, plan.digest))
    except (InvalidTag, ValueError) as problem:
        raise _unusable(stack, "it was sealed with another passphrase, or somebody changed it") from problem
    body = json.loads(zlib.decompress(text))
    if _digest(body, of) != plan.digest:
        raise _unusable(stack, "its content is not what its digest says")
    return json.dumps(body)


def _kept(plan: Mapping[str, Any]) -> dict[str, Any]:
    """The engine reads neither the configuration nor the outputs of a saved plan; both hold secrets."""
    resources = {
        urn: {key: value for key, value in one.items() if key != "state"}
        for urn, one in (plan.get("resourcePlans") or {}).items()
    }
    return {"manifest": plan["manifest"], "resourcePlans": resources}


def _digest(plan: Mapping[str, Any], of: Keys) -> str:
    """Over what constrains: goals and steps by resource; no times, no random seeds, no generated names."""
    resources: Mapping[str, Mapping[str, Any]] = plan["resourcePlans"]
    generated = Generated.among(
        (name_of(urn), ((one.get("goal") or {}).get("inputDiff") or {}).get("adds"))
        for urn, one in resources.items()
        if _MAKING & set(one.get("steps") or ())
    )
    normal = {
        urn: {"goal": _goal(one.get("goal") or {}, of), "steps": list(one.get("steps") or ())}
        for urn, one in resources.items()
    }
    return digest(generated.masked({"stack": normal}))


def _goal(goal: Mapping[str, Any], of: Keys) -> Json:
    """A goal with its sets in order: the engine writes them as they come out of its maps."""
    return {key: _in_order(key, _hidden(value, of)) for key, value in goal.items()}


_SETS = frozenset({"dependencies", "ignoreChanges", "additionalSecretOutputs", "aliases", "deletes"})


def _in_order(key: str, value: Json) -> Json:
    match value:
        case list() if key in _SETS or key == "propertyDependencies":
            return sorted(value, key=str)
        case dict() if key in {"inputDiff", "outputDiff", "propertyDependencies"}:
            return {name: _in_order(name if name in _SETS else key, item) for name, item in value.items()}
        case _:
            return value


def _hidden(value: Any, of: Keys) -> Json:
    """The value as canonical JSON holds it; a secret is its keyed digest, or only that it is one."""
    match value:
        case dict() if value.get(SIGNATURE) == SECRET_SIGNATURE:
            return keyed_digest(of.values, str(value.get("plaintext"))) if of.secret else SECRET
        case dict():
            return {key: _hidden(item, of) for key, item in value.items()}
        case list():
            return [_hidden(item, of) for item in value]
        case str() if of.hides(value):
            return keyed_digest(of.values, value)
        case _:
            return exact(value)


def _without_secrets(value: Any, of: Keys) -> Any:
    match value:
        case dict() if value.get(SIGNATURE) == SECRET_SIGNATURE:
            return _ANY_VALUE
        case dict():
            return {key: _without_secrets(item, of) for key, item in value.items()}
        case list():
            return [_without_secrets(item, of) for item in value]
        case str() if of.hides(value):
            return _ANY_VALUE
        case _:
            return value


def _cipher(of: Keys) -> Any:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(of.seal)


def _bound_to(stack: str, bound: str) -> bytes:
    return f"{PURPOSE}\n{stack}\n{bound}".encode()


def _unusable(stack: str, why: str) -> PlanFileError:
    return PlanFileError(
        f"The update plan of stack {stack} cannot be used: {why}.",
        next_step="Look at `passphrase` of the environment in the Estate document, or plan again.",
    )


_REFUSED = re.compile(
    r"(?:^|: )(?:resource (?P<urn>urn:\S+) violates plan: |resource violates plan: )(?P<why>.*)"
    r"|(?P<word>[\w-]+) is not allowed by the plan: (?P<limit>.*)"
    r"|expected resource operations for (?P<missing>urn:\S+) but none were seen",
    re.DOTALL,
)
_PROPERTY = re.compile(r"(?:^properties changed: |, )[+~=-]{2}([A-Za-z_][\w-]{0,60})(?=\[|,|$)")


def refusal(urn: str, text: str) -> tuple[str, str] | None:
    """A refused step in the engine's words as the resource's name and a reason without values, which may be secret;
    None for anything else that it says.

    >>> refusal("urn:pulumi:dev::p::t:i:Thing::a", "create is not allowed by the plan: no steps were expected")
    ('a', 'create is not in the plan: no steps were expected')
    """
    found = _REFUSED.search(text)
    if found is None:
        return None
    name = name_of(found["urn"] or found["missing"] or urn)
    if found["word"]:
        return name, f"{found['word']} is not in the plan: {found['limit'].strip()}"
    if found["missing"]:
        return name, "what the plan holds for it did not come"
    keys_ = list(_properties(found["why"]))
    if keys_:
        return name, f"other values than in the plan: {', '.join(keys_)}"
    if "not deleted" in found["why"]:
        return name, "it stays, and the plan deletes it"
    # what was expected and what came may be secret
    return name, "other options than in the plan: " + found["why"].partition(" (expected")[0].partition(":")[0].strip()


def _properties(why: str) -> Iterator[str]:
    yield from dict.fromkeys(found[1] for found in _PROPERTY.finditer(why))
