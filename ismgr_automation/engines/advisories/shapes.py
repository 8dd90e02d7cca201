"""The shapes of the sources, as far as we read them, for the parsers beside. What else a source says is let pass; what
we read must be what it should be."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, TypeAdapter, ValidationError

from ismgr_automation.engines.advisories.findings import is_version, is_word
from ismgr_automation.engines.advisories.moments import moment
from ismgr_automation.engines.advisories.places import Mistakes

Shape = TypeVar("Shape")


def fitted(
    shape: TypeAdapter[Shape], value: Any, mistakes: Mistakes, keys: Sequence[str | int] = (), file: str = ""
) -> Shape | None:
    """The value in its shape; None where it does not fit, and then each reason is among the mistakes, with its keys."""
    try:
        return shape.validate_python(value)
    except ValidationError as problem:
        for one in problem.errors(include_url=False, include_input=False, include_context=False):
            mistakes.at_key((*keys, *one["loc"]), one["msg"], file)
        return None


def _moment(value: Any) -> datetime:
    if not isinstance(value, str):
        raise ValueError("expected a time as text, such as 2026-11-26T12:00:00Z")  # noqa: TRY004  pydantic's own kind
    return moment(value)


def _day(value: Any) -> date:
    if not isinstance(value, str):
        raise ValueError("expected a date as text, such as 2026-11-26")  # noqa: TRY004  pydantic's own kind
    return date.fromisoformat(value)


def _version(value: str) -> str:
    if not is_version(value):
        raise ValueError("this is no version of a Debian package")
    return value


def _one_word(value: str) -> str:
    if not is_word(value):
        raise ValueError("expected a name without spaces and control characters")
    return value


def _one_line(value: str) -> str:
    if not value.isprintable():
        raise ValueError("expected a text without control characters")
    return value


def _nothing(value: Any) -> Any:
    """Writers of OSV put null for an empty list."""
    return () if value is None else value


Moment = Annotated[datetime, BeforeValidator(_moment)]
Day = Annotated[date, BeforeValidator(_day)]
PackageVersion = Annotated[str, AfterValidator(_version)]
Word = Annotated[str, AfterValidator(_one_word)]
"""What becomes a name in tables and commands: of a package, of a CVE."""
Line = Annotated[str, AfterValidator(_one_line)]
Item = TypeVar("Item")
Several = Annotated[list[Item] | tuple[()], BeforeValidator(_nothing)]


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class DebianRelease(_Shape):
    """One release under a CVE in the security tracker's JSON."""

    status: Literal["open", "resolved", "undetermined"]
    fixed_version: PackageVersion = ""
    urgency: Line = ""


class DebianIssue(_Shape):
    """One CVE of one source package there."""

    description: str = ""
    releases: dict[str, DebianRelease] = {}


class OsvEvent(_Shape):
    """One end of a range; exactly one of them is said."""

    introduced: str | None = None
    fixed: str | None = None
    last_affected: str | None = None


class OsvRange(_Shape):
    """Versions that are affected. Only ranges of type ECOSYSTEM are Debian's versions."""

    type: str
    events: Several[OsvEvent] = ()


class OsvPackage(_Shape):
    """Whose versions."""

    ecosystem: str
    name: str


class OsvSeverity(_Shape):
    """A rating of a kind: CVSS_V3, ..."""

    type: str
    score: str


class OsvAffected(_Shape):
    """One package that a record is about."""

    package: OsvPackage | None = None
    ranges: Several[OsvRange] = ()
    versions: Several[str] = ()
    severity: Several[OsvSeverity] = ()
    ecosystem_specific: dict[str, Any] | None = None


class OsvRecord(_Shape):
    """One record."""

    id: Word
    modified: Moment
    published: Moment | None = None
    withdrawn: Moment | None = None
    aliases: Several[str] = ()
    related: Several[str] = ()
    upstream: Several[str] = ()
    summary: str | None = None
    details: str | None = None
    severity: Several[OsvSeverity] = ()
    affected: Several[OsvAffected] = ()
    database_specific: dict[str, Any] | None = None


class KevEntry(_Shape):
    """One entry of CISA's catalog."""

    cveID: Word  # noqa: N815  the catalog's own name
    vulnerabilityName: str = ""  # noqa: N815
    dateAdded: Day  # noqa: N815
    dueDate: Day | None = None  # noqa: N815


class KevCatalog(_Shape):
    """CISA's catalog."""

    dateReleased: Moment | None = None  # noqa: N815  the catalog's own name
    vulnerabilities: list[KevEntry]


DEBIAN_ISSUES = TypeAdapter(dict[Word, DebianIssue])
OSV_RECORD = TypeAdapter(OsvRecord)
KEV_CATALOG = TypeAdapter(KevCatalog)
