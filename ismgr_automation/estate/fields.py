"""What fields of documents are made of: names, durations, paths, references, and the frozen base of every part. What
spans documents is in ``consistency``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, JsonValue, Tag
from pydantic_core import PydanticCustomError

from ismgr_automation import shipped
from ismgr_automation.core.secret import SecretRef

NAME = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"
DURATION = r"^[0-9]+(\.[0-9]+)?(ms|s|m|h|d)$"
OUTPUT = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?\.[A-Za-z_][A-Za-z0-9_]*$"
PUBLIC_KEY = r"^(ssh|ecdsa|sk)-\S+ \S+.*$"
HOST_KEY = r"^(ssh|ecdsa)-\S+ \S+.*$"
WEB_ADDRESS = r"^https?://.+$"
SHARE = r"^([0-9]|[1-9][0-9]|100)%$"
IDENTIFIER = r"^[A-Za-z_][A-Za-z0-9_]*$"
LABEL = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"
VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"
RATE = r"^[1-9][0-9]*[kmg]bit$"
ABSOLUTE_PATH = r"^/[A-Za-z0-9._/-]+$"
PATTERNS: Mapping[str, str] = {
    NAME: "lower case letters, digits, dots and hyphens",
    DURATION: "a number and ms, s, m, h or d, such as 30s, 15m or 4h",
    OUTPUT: "STACK.OUTPUT, such as dc1-servers.hosts",
    PUBLIC_KEY: "an OpenSSH public key line, such as ssh-ed25519 AAAA... name",
    HOST_KEY: "an OpenSSH public key line, such as ssh-ed25519 AAAA...",
    WEB_ADDRESS: "a URL that begins with https:// or http://",
    SHARE: "a percentage, such as 5%",
    IDENTIFIER: "a name as programs have it: letters, digits and underscores, no digit first",
    LABEL: "letters, digits, dots, underscores and hyphens",
    ABSOLUTE_PATH: "an absolute path of letters, digits, dots, underscores and hyphens",
    RATE: "bits a second, such as 512kbit or 1mbit",
    VARIABLE: "the name of an environment variable: letters, digits and underscores",
}
"""What each pattern asks for, in words; people are never shown a regular expression."""

Name = Annotated[str, Field(pattern=NAME, max_length=63, description=PATTERNS[NAME])]


def _wrong(summary: str, expected: str) -> PydanticCustomError:
    """A mistake in our own words; ``sentences`` passes them on as they are."""
    return PydanticCustomError(OWN_WORDS, "{summary}", {"summary": summary, "expected": expected})


OWN_WORDS = "ismgr"


def _inside(path: str) -> str:
    rest = path.removeprefix(shipped.PREFIX)
    if rest.startswith("/") or ".." in rest.split("/"):
        raise _wrong("the path leaves the estate", "a path relative to the estate's folder, without '..'")
    if not rest or "\\" in rest or "\0" in rest:
        raise _wrong("this is not a path", "a path with forward slashes")
    return path


def _secret_path(text: str) -> str:
    try:
        SecretRef.parse(text)
    except ValueError:
        # the text is not repeated: it may be the secret itself, put here by mistake
        raise _wrong("this is not a reference to a secret", "backend:path, such as file:bmc/db1.dc1") from None
    return text


RelativePath = Annotated[
    str,
    Field(min_length=1, description="a path inside the estate, or ismgr: and the path of shipped content"),
    AfterValidator(_inside),
]
Duration = Annotated[str, Field(pattern=DURATION, description=PATTERNS[DURATION])]
SecretPath = Annotated[
    str,
    Field(description="backend:path, for example file:bmc/db1.dc1 or env:BMC_PASSWORD"),
    AfterValidator(_secret_path),
]


class Document(BaseModel):
    """What all parts share: frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class SecretValue(Document):
    """A reference to a secret, written ``{secret: backend:path}``."""

    secret: SecretPath


class OutputValue(Document):
    """Another stack's output, written ``{output: STACK.NAME}``."""

    output: Annotated[str, Field(pattern=OUTPUT, description=PATTERNS[OUTPUT])]


class SiteValue(Document):
    """The machines and networks of a Site document, written ``{site: NAME}``."""

    site: Name


def _reference(*kinds: str) -> Discriminator:
    """An object with exactly one key that names a kind of reference is that reference; all else is plain JSON."""

    def choose(value: Any) -> str:
        if isinstance(value, Mapping):
            return next(iter(value)) if len(value) == 1 and next(iter(value)) in kinds else "json"
        names: Mapping[type, str] = {SecretValue: "secret", OutputValue: "output", SiteValue: "site"}
        return names.get(type(value), "json")

    return Discriminator(choose)


ConfigEntry = Annotated[
    Annotated[SecretValue, Tag("secret")]
    | Annotated[OutputValue, Tag("output")]
    | Annotated[SiteValue, Tag("site")]
    | Annotated[JsonValue, Tag("json")],
    _reference("secret", "output", "site"),
]
Variable = Annotated[
    Annotated[SecretValue, Tag("secret")] | Annotated[OutputValue, Tag("output")] | Annotated[JsonValue, Tag("json")],
    _reference("secret", "output"),
]
