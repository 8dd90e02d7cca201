"""``ismgr:redfish:Server``: power and settings of a machine, through its BMC. It installs nothing on the machine."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pulumi.provider.experimental.provider import PropertyDiffKind
from pydantic import AfterValidator, Field, ValidatorFunctionWrapHandler, WrapValidator

from ismgr_automation.core.errors import Cancelled, EngineError, InputError, IsmgrError
from ismgr_automation.core.secret import Secret, SecretRef
from ismgr_automation.engines import redfish
from ismgr_automation.engines.redfish import BOOT_DEVICES, Facts, Power, Wanted
from ismgr_automation.provider.resource import Complaint, Difference, Found, Job, Part, PartlyDone, path_of, validate
from ismgr_automation.provider.settings import Settings
from ismgr_automation.provider.values import UNKNOWN, Plain, PlainMap, has_unknown


def _endpoint(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise ValueError("must be an https:// URL; a password does not travel over plain HTTP")
    if parts.username or parts.password or parts.query or parts.fragment or parts.path not in {"", "/"}:
        raise ValueError("must be scheme, host and port only, such as https://10.40.0.111")
    return url


def _secret_reference(text: str) -> str:
    SecretRef.parse(text)
    return text


def _boot_device(text: str) -> str:
    if text not in BOOT_DEVICES:
        raise ValueError(f"must be one of {', '.join(BOOT_DEVICES)}")
    return text


def _attribute(value: Any, _handler: ValidatorFunctionWrapHandler) -> str | bool | int | float:
    """As it is: a vendor's "1", 1 and true are three values. Left alone, pydantic would complain once for each type."""
    if not isinstance(value, str | bool | int | float):
        raise ValueError("must be text, a number, true or false")  # noqa: TRY004 - pydantic collects these only
    return value


SecretReference = Annotated[str, AfterValidator(_secret_reference)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Attribute = Annotated[str | bool | int | float, WrapValidator(_attribute)]


class ServerTimeouts(Part):
    """How long to wait for the BMC and the machine."""

    connect_seconds: Seconds = 5
    """For a connection to the BMC."""
    read_seconds: Seconds = 30
    """For one answer of the BMC."""
    change_seconds: Seconds = 300
    """For an accepted change to become true."""
    shutdown_seconds: Seconds = 120
    """For a graceful shutdown, before the power is cut."""


class OnDelete(StrEnum):
    """What deleting a Server does to the machine."""

    POWER_OFF = "power-off"
    LEAVE = "leave"


class ServerInputs(Part):
    """A machine behind a BMC that speaks Redfish. What is left out is left as it is."""

    endpoint: Annotated[str, AfterValidator(_endpoint)]
    """URL of the BMC: `https://`, host and optional port. Another endpoint is another machine (replacement)."""
    username: str = ""
    """User at the BMC; the provider's `redfishUsername` when empty."""
    password: Annotated[str | None, Field(json_schema_extra={"secret": True})] = None
    """Password of that user. It is kept encrypted in the state; prefer `passwordRef`, which is not kept at all."""
    password_ref: SecretReference | None = None
    """Where the provider finds the password: `backend:path`, such as `file:bmc/db1.dc1` or `env:BMC_PASSWORD`."""
    ca: str = ""
    """PEM file of the one authority that may sign the BMC's certificate, relative to the estate's folder; the
    provider's `redfishCa`, then the authorities of this machine, when empty."""
    system: str = ""
    """Redfish id of the system; may be left out when the BMC manages exactly one. Another id is another machine
    (replacement)."""
    power_state: Literal["On", "Off"] | None = None
    """`On` or `Off`. Off asks the operating system first, then cuts the power."""
    boot_device: Annotated[str, AfterValidator(_boot_device)] | None = None
    """Lasting boot override: `Pxe`, `Hdd`, `Cd`, `UefiHttp` ..., or `None` for no override."""
    bios_attributes: Mapping[str, Attribute] = Field(default_factory=dict)
    """BIOS attributes by the vendor's names. Only those named here are looked at."""
    asset_tag: str | None = None
    """The asset tag that the BMC keeps."""
    timeouts: ServerTimeouts = ServerTimeouts()
    """How long to wait."""
    on_delete: OnDelete = OnDelete.POWER_OFF
    """What deleting the resource does to the machine: `power-off` (the default) or `leave`."""


class Firmware(Part):
    """Versions of firmware, empty where the BMC does not tell."""

    bios: str = ""
    """Of the BIOS or UEFI."""
    bmc: str = ""
    """Of the BMC itself."""


class ServerOutputs(Part):
    """The machine as it was last seen."""

    endpoint: str
    """URL of the BMC."""
    system: str
    """Redfish id of the system."""
    power_state: str
    """The power state as found: `On`, `Off`, or one on the way between."""
    boot_device: str | None = None
    """The boot override as found, if it is managed here."""
    bios_attributes: Mapping[str, Attribute] = Field(default_factory=dict)
    """The managed BIOS attributes as found, those that wait for a restart included."""
    bios_pending: tuple[str, ...] = ()
    """Managed BIOS attributes that wait for a restart."""
    asset_tag: str | None = None
    """The asset tag as found, if it is managed here."""
    address: str = ""
    """First IPv4 address of the machine's own interfaces, empty when the BMC does not know it."""
    addresses: tuple[str, ...] = ()
    """All IPv4 addresses of the machine's own interfaces."""
    serial: str = ""
    """The serial number."""
    firmware: Firmware = Firmware()
    """Versions of firmware."""


class Server:
    """The verbs of the resource."""

    kind: ClassVar[str] = "ismgr:redfish:Server"
    inputs: ClassVar[type[Part]] = ServerInputs
    outputs: ClassVar[type[Part]] = ServerOutputs
    secrets: ClassVar[tuple[tuple[str, ...], ...]] = (("password",),)
    replaced_by: ClassVar[tuple[str, ...]] = ("endpoint", "system")

    def check(self, inputs: PlainMap, settings: Settings) -> list[Complaint]:
        """Everything that is wrong with the inputs; asks nobody."""
        found = validate(ServerInputs, inputs)
        if inputs.get("password") is not None and inputs.get("passwordRef") is not None:
            found.append(Complaint(path="passwordRef", reason="give either password or passwordRef, not both"))
        if not inputs.get("username") and not settings.option("redfishUsername"):
            found.append(Complaint(path="username", reason="is missing, and the provider has no redfishUsername"))
        given = inputs.get("password") is not None or inputs.get("passwordRef") is not None
        if not given and not (settings.option("redfishPassword") or settings.option("redfishPasswordRef")):
            found.append(
                Complaint(
                    path="passwordRef", reason="give password or passwordRef; the provider has neither of its own"
                )
            )
        return found

    def diff(self, old_outputs: PlainMap, new_inputs: PlainMap) -> Difference:
        """Compares the machine as last seen with what is wanted. How we log in is no part of the machine."""
        changed: dict[str, PropertyDiffKind] = {}
        replaces = []
        for name in self.replaced_by:
            old, new = old_outputs.get(name), new_inputs.get(name)
            if new and (new is UNKNOWN or _bare(old) != _bare(new)):
                changed[name] = PropertyDiffKind.UPDATE_REPLACE
                replaces.append(name)
        for name in ("powerState", "bootDevice", "assetTag"):
            old, new = old_outputs.get(name), new_inputs.get(name)
            if new is not None and old != new:
                changed[name] = PropertyDiffKind.ADD if old is None else PropertyDiffKind.UPDATE
        changed |= _bios_difference(old_outputs.get("biosAttributes"), new_inputs.get("biosAttributes"))
        # delete first: if both endpoints lead to one machine, the last thing that happens to it is what is wanted
        return Difference(changed=changed, replaces=tuple(replaces), delete_first=bool(replaces))

    def preview(self, inputs: PlainMap, old_outputs: PlainMap | None) -> PlainMap:
        """What the outputs will be; addresses are unknown while the machine is to be switched on."""
        copied = ("endpoint", "system", "powerState", "bootDevice", "assetTag", "biosAttributes")
        wanted = {name: inputs[name] for name in copied if inputs.get(name)}
        if old_outputs is None:
            found_later = ("system", "powerState", "biosPending", "address", "addresses", "serial", "firmware")
            return {**dict.fromkeys(found_later, UNKNOWN), "biosAttributes": {}, **wanted}
        changed = self.diff(old_outputs, inputs).changed
        moving = ("address", "addresses") if "powerState" in changed else ()
        pending = ("biosPending",) if any(path.startswith("biosAttributes") for path in changed) else ()
        return {**old_outputs, **wanted, **dict.fromkeys((*moving, *pending), UNKNOWN)}

    def create(self, job: Job, inputs: PlainMap) -> tuple[str, PlainMap]:
        """Bring the machine to what is wanted; one that is so already is only read."""
        parsed = ServerInputs.model_validate(inputs)
        identity = parsed.endpoint.rstrip("/") + (f"#{parsed.system}" if parsed.system else "")
        return identity, self._make(job, identity, parsed)

    def update(self, job: Job, id: str, inputs: PlainMap) -> PlainMap:  # noqa: A002
        """The same as create: read, compare, act, verify."""
        return self._make(job, id, ServerInputs.model_validate(inputs))

    def read(self, job: Job, id: str, inputs: PlainMap, outputs: PlainMap) -> Found | None:  # noqa: A002
        """Look at the machine. An import has no inputs: it takes endpoint and system from the id, the credential from
        the provider's configuration, and everything that it finds."""
        endpoint, _, system = id.partition("#")
        imported = not inputs
        given: PlainMap = {"endpoint": endpoint, **({"system": system} if system else {})} if imported else inputs
        parsed = ServerInputs.model_validate(given)
        try:
            with redfish.connect(_bmc(job, parsed), job.cancelled) as machine:
                facts = machine.read()
        except redfish.NoSuchSystem:
            return None
        if imported:
            found = _outputs(parsed, facts, _Managed(bios=frozenset(facts.bios), boot_device=True, asset_tag=True))
            username = job.settings.option("redfishUsername")
            return Found(id=id, inputs={**given, "username": username, **_as_inputs(found)}, outputs=found)
        found = _outputs(parsed, facts, _Managed.of(parsed, outputs))
        return Found(id=id, inputs={**given, **_as_inputs(found, only=given)}, outputs=found)

    def delete(self, job: Job, id: str, inputs: PlainMap) -> None:  # noqa: A002, ARG002 - the inputs hold both parts of it
        """Power the machine off, or leave it. A BMC that no longer knows the system has nothing to power off."""
        parsed = ServerInputs.model_validate(inputs)
        if parsed.on_delete is OnDelete.LEAVE:
            return
        try:
            with redfish.connect(_bmc(job, parsed), job.cancelled) as machine:
                if machine.power() is not Power.OFF:
                    machine.switch(Power.OFF)
        except redfish.NoSuchSystem:
            return

    def _make(self, job: Job, identity: str, parsed: ServerInputs) -> PlainMap:
        managed = _Managed.of(parsed, {})
        with redfish.connect(_bmc(job, parsed), job.cancelled) as machine:
            try:
                facts = machine.make(
                    Wanted(
                        power=Power(parsed.power_state) if parsed.power_state else None,
                        boot_device=parsed.boot_device,
                        bios=parsed.bios_attributes,
                        asset_tag=parsed.asset_tag,
                    )
                )
            except (EngineError, Cancelled) as error:
                if not machine.touched:
                    raise
                raise self._partly(machine, identity, parsed, error) from error
            return _outputs(parsed, facts, managed)

    def _partly(self, machine: redfish.System, identity: str, parsed: ServerInputs, error: IsmgrError) -> PartlyDone:
        """What is true now, if the BMC still tells; else what was last read."""
        try:
            facts = machine.read()
        except (EngineError, Cancelled):
            facts = machine.last or Facts(system=parsed.system, power=Power.UNKNOWN)
        return PartlyDone(id=identity, outputs=_outputs(parsed, facts, _Managed.of(parsed, {})), cause=error)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Managed:
    """Which of the optional properties are ours: those that are wanted now, and those that an import took over."""

    bios: frozenset[str]
    boot_device: bool
    asset_tag: bool

    @classmethod
    def of(cls, parsed: ServerInputs, old_outputs: PlainMap) -> _Managed:
        known = old_outputs.get("biosAttributes")
        return cls(
            bios=frozenset(parsed.bios_attributes) | frozenset(known if isinstance(known, Mapping) else ()),
            boot_device=parsed.boot_device is not None or old_outputs.get("bootDevice") is not None,
            asset_tag=parsed.asset_tag is not None or old_outputs.get("assetTag") is not None,
        )


def _outputs(parsed: ServerInputs, facts: Facts, managed: _Managed) -> PlainMap:
    found = ServerOutputs(
        endpoint=parsed.endpoint,
        system=facts.system,
        power_state=facts.power.value,
        boot_device=facts.boot_device if managed.boot_device else None,
        bios_attributes={name: value for name, value in facts.bios.items() if name in managed.bios},
        bios_pending=tuple(name for name in facts.bios_pending if name in managed.bios),
        asset_tag=facts.asset_tag if managed.asset_tag else None,
        address=facts.addresses[0] if facts.addresses else "",
        addresses=facts.addresses,
        serial=facts.serial,
        firmware=Firmware(bios=facts.bios_version, bmc=facts.bmc_version),
    )
    dumped: dict[str, Plain] = found.model_dump(mode="json", by_alias=True, exclude_none=True)
    return dumped


def _as_inputs(outputs: PlainMap, only: PlainMap | None = None) -> PlainMap:
    """The found values of what can be wanted; ``only`` limits them to what was wanted."""
    names = ("powerState", "bootDevice", "assetTag", "biosAttributes")
    kept = {name: outputs[name] for name in names if name in outputs and (only is None or name in only)}
    wanted, found = (only or {}).get("biosAttributes"), kept.get("biosAttributes")
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        kept["biosAttributes"] = {name: _spelled_as(wanted[name], found.get(name)) for name in wanted if name in found}
    return kept


def _spelled_as(wanted: Plain, found: Plain) -> Plain:
    """A BMC that answers "4" to 4 has not drifted."""
    equal = isinstance(wanted, str | bool | int | float) and isinstance(found, str | bool | int | float)
    return wanted if equal and redfish.same(found, wanted) else found  # type: ignore[arg-type]


def _bios_difference(old: Plain, new: Plain) -> dict[str, PropertyDiffKind]:
    if new is UNKNOWN:
        return {"biosAttributes": PropertyDiffKind.UPDATE}
    if not isinstance(new, Mapping):
        return {}
    known = old if isinstance(old, Mapping) else {}
    changed = {}
    for name, value in new.items():
        if name not in known:
            changed[path_of(("biosAttributes", name))] = PropertyDiffKind.ADD
        elif has_unknown(value) or _spelled_as(value, known[name]) != value:
            changed[path_of(("biosAttributes", name))] = PropertyDiffKind.UPDATE
    return changed


def _bare(value: Plain) -> Plain:
    return value.rstrip("/") if isinstance(value, str) else value


def _bmc(job: Job, parsed: ServerInputs) -> redfish.Bmc:
    waits = parsed.timeouts
    timeouts = redfish.Timeouts(
        connect=timedelta(seconds=waits.connect_seconds),
        read=timedelta(seconds=waits.read_seconds),
        change=job.timeout or timedelta(seconds=waits.change_seconds),
        shutdown=timedelta(seconds=waits.shutdown_seconds),
    )
    return redfish.Bmc(
        subject=job.subject,
        url=parsed.endpoint.rstrip("/"),
        username=parsed.username or job.settings.option("redfishUsername"),
        password=_password(job, parsed),
        ca=_authority(job, parsed.ca or job.settings.option("redfishCa")),
        system=parsed.system,
        timeouts=timeouts,
    )


def _password(job: Job, parsed: ServerInputs) -> Secret:
    if parsed.password is not None:
        return Secret(parsed.password)
    if parsed.password_ref:
        return job.settings.open(parsed.password_ref)
    if reference := job.settings.option("redfishPasswordRef"):
        return job.settings.open(reference)
    if value := job.settings.option("redfishPassword"):
        return Secret(value)
    raise InputError(
        f"{job.subject}: there is no password for the BMC {parsed.endpoint}.",
        next_step="Give passwordRef, or set ismgr:redfishPasswordRef (or ISMGR_REDFISH_PASSWORD_REF) for an import.",
    )


def _authority(job: Job, ca: str) -> Path | None:
    if not ca:
        return None
    file = job.settings.path(ca)
    try:
        ssl.create_default_context(cafile=str(file))
    except OSError as error:
        raise InputError(
            f"{job.subject}: the authority file {file} cannot be used: {error.strerror or error}.",
            next_step="Write a path relative to the estate's folder to a PEM file with the BMC's authority.",
        ) from error
    return file
