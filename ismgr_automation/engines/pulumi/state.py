"""Reads what the engine remembers: outputs, number of resources and a digest that says whether somebody wrote.

Pure: from the engine's JSON to values. Where the JSON comes from is ``backend``; no secret is opened here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from ismgr_automation.core.json import Json, digest
from ismgr_automation.ports.stacks import Output, StackState

SIGNATURE = "4dabf18193072939515e22adb298388d"
"""The key that marks a special value (a secret, an asset, a resource) in the engine's JSON."""
SECRET_SIGNATURE = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105  the mark of a secret, not one
UNKNOWNS = frozenset(
    {
        "04da6b54-80e4-46f7-96ec-b56ff0331ba9",  # string, and nearly everything else
        "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",  # boolean
        "3eeb2bf0-c639-47a8-9e75-3b44932eb421",  # number
        "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",  # array
        "030794c1-ac77-496b-92df-f27374a8bd58",  # asset
        "e48ece36-62e2-4504-bad9-02848725956a",  # archive
        "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",  # object
    }
)
"""What stands for a value that is not known before the apply."""

SECRET, UNKNOWN = "<secret>", "<unknown>"
STACK_TYPE = "pulumi:pulumi:Stack"
PROVIDER_PREFIX = "pulumi:providers:"

_NOISE = frozenset({"created", "modified", "sourcePosition", "stackTrace"})
"""Parts of a resource's record that change without the resource: when it was written and which line asked for it."""

_HIDDEN = frozenset({"__defaults", "__meta", "__pulumi_raw_state_delta"})
"""Book-keeping of bridged providers among the properties."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """An operation that was running when an engine died: nobody knows whether it happened. ``operation`` is the
    engine's word: creating, updating, deleting, reading, importing."""

    urn: str
    operation: str

    @property
    def resource(self) -> str:
        """The program's own name for it."""
        return name_of(self.urn)

    @property
    def type(self) -> str:
        """Its type token."""
        return type_of(self.urn)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One stack's record, as the engine writes it; ``deployment`` None for a stack that was never applied."""

    deployment: Mapping[str, Any] | None

    @property
    def _resources(self) -> list[Mapping[str, Any]]:
        return list((self.deployment or {}).get("resources") or [])

    @property
    def _root(self) -> Mapping[str, Any]:
        found = [one for one in self._resources if one.get("type") == STACK_TYPE]
        return found[0] if found else {}

    @property
    def digest(self) -> str:
        """Equal digests mean that nobody wrote anything that matters: times and source lines are left out.

        The engine encrypts every secret anew with each write, so a secret stands here by the time when its resource
        last changed. A secret *output* that changes all by itself is therefore not seen.
        """
        body = self.deployment or {}
        pending = [one["resource"]["urn"] + " " + one["type"] for one in body.get("pending_operations") or []]
        return digest({"resources": [_record(one) for one in self._resources], "pending": sorted(pending)})

    @property
    def urns(self) -> tuple[str, ...]:
        """Every resource on record."""
        return tuple(str(one["urn"]) for one in self._resources)

    @property
    def pending(self) -> tuple[Pending, ...]:
        """Operations whose end the engine did not live to see."""
        found = (self.deployment or {}).get("pending_operations") or []
        return tuple(Pending(urn=str(one["resource"]["urn"]), operation=str(one["type"])) for one in found)

    @property
    def encryption(self) -> Mapping[str, str]:
        """How its secrets are encrypted, as a stack's configuration file says it. Without it there the engine would
        not notice a wrong passphrase in a preview, and would show drift that is none."""
        provider = (self.deployment or {}).get("secrets_providers") or {}
        match provider:
            case {"type": "passphrase", "state": {"salt": str(salt)}}:
                return {"encryptionsalt": salt}
            case {"type": "cloud", "state": {"url": str(url), "encryptedkey": str(key)}}:
                return {"secretsprovider": url, "encryptedkey": key}
            case _:
                return {}

    @property
    def outputs(self) -> Mapping[str, Output]:
        """The stack's outputs; a secret one has no value here."""
        return outputs_of(self._root.get("outputs") or {})

    @property
    def state(self) -> StackState:
        """The port's view of this record."""
        counted = [one for one in self._resources if is_counted(str(one.get("type", "")))]
        return StackState(outputs=self.outputs, resources=len(counted), state_digest=self.digest)

    @property
    def providers(self) -> Iterator[str]:
        """``name version`` of each provider on record, where it says its version."""
        for one in self._resources:
            kind = str(one.get("type", ""))
            if kind.startswith(PROVIDER_PREFIX):
                version = (one.get("inputs") or {}).get("version", "")
                yield f"{kind.removeprefix(PROVIDER_PREFIX)} {version}".strip()


NEVER = Checkpoint(None)
"""The record of a stack that was never applied."""


def outputs_of(raw: Mapping[str, Any]) -> Mapping[str, Output]:
    """Outputs from the engine's JSON. An output with a secret anywhere inside is secret as a whole."""
    found = {}
    for name, value in sorted(raw.items()):
        plain = normal(value)
        secret = holds(plain, SECRET)
        found[name] = Output(value=None if secret else plain, secret=secret, known=not holds(plain, UNKNOWN))
    return found


def normal(value: Any) -> Json:
    """A value of the engine's JSON without what is special in it: secrets, unknowns, references, assets."""
    if isinstance(value, dict):
        mark = value.get(SIGNATURE)
        return (
            _special(mark, value) if mark is not None else {k: normal(v) for k, v in value.items() if k not in _HIDDEN}
        )
    if isinstance(value, list):
        return [normal(item) for item in value]
    if isinstance(value, str) and value in UNKNOWNS:
        return UNKNOWN
    return exact(value)


def _special(mark: str, value: Mapping[str, Any]) -> Json:
    match value:
        case _ if mark == SECRET_SIGNATURE or value.get("secret") is True:
            return SECRET
        case {"urn": str(urn)}:
            return name_of(urn)
        case {"hash": str(hashed)}:
            return f"<asset {hashed[:12]}>"
        case {"value": inner}:
            return normal(inner)
        case _:
            return UNKNOWN


def _record(resource: Mapping[str, Any]) -> Json:
    """A resource's record without noise and without ciphertext."""
    kept = exact({key: item for key, item in resource.items() if key not in _NOISE})
    return {"record": kept, "secrets": resource.get("modified")} if holds(kept, SECRET) else kept


def exact(value: Any) -> Json:
    """The value as canonical JSON can hold it, without ciphertext: integers past 2**53 become the float that the engine
    means."""
    match value:
        case dict() if value.get(SIGNATURE) == SECRET_SIGNATURE:
            return SECRET
        case dict():
            return {key: exact(item) for key, item in value.items()}
        case list():
            return [exact(item) for item in value]
        case int() if abs(value) >= 2**53:
            return float(value)
        case _:
            return cast("Json", value)


def holds(value: Json, mark: str) -> bool:
    """Whether a leaf of the value is the mark."""
    match value:
        case dict():
            return any(holds(item, mark) for item in value.values())
        case list():
            return any(holds(item, mark) for item in value)
        case _:
            return value == mark


def name_of(urn: str) -> str:
    """The program's own name for a resource, from its URN.

    >>> name_of("urn:pulumi:dev::servers::ismgr:redfish:Server::db1.dc1")
    'db1.dc1'
    """
    return urn.split("::", 3)[-1]


def type_of(urn: str) -> str:
    """The type token of a resource, without those of its parents.

    >>> type_of("urn:pulumi:dev::p::my:index:Rack$ismgr:redfish:Server::db1.dc1")
    'ismgr:redfish:Server'
    """
    return urn.split("::")[2].rpartition("$")[2]


def is_counted(type_token: str) -> bool:
    """Whether a resource is one of the user's: the stack itself and providers are not."""
    return type_token != STACK_TYPE and not type_token.startswith(PROVIDER_PREFIX)
