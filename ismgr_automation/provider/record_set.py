"""``ismgr:dns:RecordSet``: all records of one type at one name, on the zone's primary server by signed update."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, ClassVar, Self

from pulumi.provider.experimental.provider import PropertyDiffKind
from pydantic import Field, model_validator

from ismgr_automation.core.errors import Cancelled, EngineError, InputError
from ismgr_automation.core.secret import Secret
from ismgr_automation.engines import dns
from ismgr_automation.provider.resource import Complaint, Difference, Found, Job, Part, PartlyDone, validate
from ismgr_automation.provider.server import SecretReference
from ismgr_automation.provider.settings import Settings
from ismgr_automation.provider.values import UNKNOWN, Plain, PlainMap, has_unknown

DEFAULT_PORT = 53
DEFAULT_TTL = 300
DEFAULT_ALGORITHM = "hmac-sha256"


class KeyInputs(Part):
    """A TSIG key (RFC 8945). What is left out is taken from the provider's configuration."""

    name: str = ""
    """Name of the key; the provider's `dnsKeyName` when empty."""
    algorithm: str = ""
    """`hmac-sha256` (the default), `hmac-sha384` or `hmac-sha512`."""
    secret: Annotated[str | None, Field(json_schema_extra={"secret": True})] = None
    """Its secret in base64. It is kept encrypted in the state; prefer `secretRef`, which is not kept at all."""
    secret_ref: SecretReference | None = None
    """Where the provider finds the secret: `backend:path`, such as `file:dns/tsig`."""

    @model_validator(mode="after")
    def _one_secret(self) -> Self:
        if self.secret is not None and self.secret_ref is not None:
            raise ValueError("give either secret or secretRef, not both")
        if self.algorithm and self.algorithm.rstrip(".") not in dns.ALGORITHMS:
            raise ValueError(f"algorithm must be one of {', '.join(dns.ALGORITHMS)}")
        return self


class RecordSetInputs(Part):
    """All records of one type at one name. Records of other types at the name are left alone."""

    server: str = ""
    """Address or name of the zone's primary server; the provider's `dnsServer` when empty."""
    port: Annotated[int | None, Field(ge=1, le=65535)] = None
    """Its port, 53 unless said."""
    zone: str
    """The zone, such as `two-sites.test`. Another zone is another record set (replacement)."""
    name: str
    """The name, relative to the zone; `@` is the zone itself. Another name is another record set (replacement)."""
    type: str
    """The type: A, AAAA, CNAME, MX, TXT, SRV ... Another type is another record set (replacement)."""
    ttl: Annotated[int, Field(ge=0, le=2_147_483_647)] = DEFAULT_TTL
    """Time to live in seconds."""
    records: Annotated[tuple[str, ...], Field(min_length=1)]
    """The records in the text form of zone files. Their order means nothing."""
    key: KeyInputs = KeyInputs()
    """The key that signs queries and updates."""
    adopt: bool = False
    """Take over records that are there already. Without it a create refuses to overwrite what it does not own."""


class RecordSetOutputs(Part):
    """The records as they were last seen."""

    fqdn: str
    """The full name, with a dot at the end."""
    zone: str
    """The zone."""
    name: str
    """The name as given."""
    type: str
    """The type."""
    ttl: int
    """Time to live in seconds, as found."""
    records: tuple[str, ...]
    """The records as found, in canonical form and sorted."""


class RecordSet:
    """The verbs of the resource."""

    kind: ClassVar[str] = "ismgr:dns:RecordSet"
    inputs: ClassVar[type[Part]] = RecordSetInputs
    outputs: ClassVar[type[Part]] = RecordSetOutputs
    secrets: ClassVar[tuple[tuple[str, ...], ...]] = (("key", "secret"),)
    replaced_by: ClassVar[tuple[str, ...]] = ("zone", "name", "type")

    def check(self, inputs: PlainMap, settings: Settings) -> list[Complaint]:
        """Everything that is wrong with the inputs; asks nobody."""
        found = validate(RecordSetInputs, inputs)
        key = inputs.get("key")
        given = key if isinstance(key, Mapping) else {}
        if not inputs.get("server") and not settings.option("dnsServer"):
            found.append(Complaint(path="server", reason="is missing, and the provider has no dnsServer"))
        if key is not UNKNOWN and not given.get("name") and not settings.option("dnsKeyName"):
            found.append(Complaint(path="key.name", reason="is missing, and the provider has no dnsKeyName"))
        secret = given.get("secret") or given.get("secretRef")
        if key is not UNKNOWN and not secret and not _option_secret(settings):
            found.append(
                Complaint(path="key.secretRef", reason="give secret or secretRef; the provider has neither of its own")
            )
        if not found and not any(has_unknown(inputs.get(name)) for name in ("zone", "name", "type", "records")):
            try:
                _wanted(RecordSetInputs.model_validate({**inputs, "key": {}, "ttl": 0, "port": None, "server": ""}))
            except ValueError as error:
                found.append(Complaint(path=_guilty(str(error)), reason=str(error)))
        return found

    def diff(self, old_outputs: PlainMap, new_inputs: PlainMap) -> Difference:
        """Compares the records as last seen with what is wanted, by meaning and not by spelling."""
        changed: dict[str, PropertyDiffKind] = {}
        replaces = tuple(name for name in self.replaced_by if _moved(name, old_outputs, new_inputs))
        changed |= dict.fromkeys(replaces, PropertyDiffKind.UPDATE_REPLACE)
        if new_inputs.get("ttl", DEFAULT_TTL) != old_outputs.get("ttl"):
            changed["ttl"] = PropertyDiffKind.UPDATE
        if _canonical(new_inputs) != old_outputs.get("records"):
            changed["records"] = PropertyDiffKind.UPDATE
        # an alias and other records cannot live at one name; otherwise the new name answers before the old one goes
        return Difference(changed=changed, replaces=replaces, delete_first="type" in replaces)

    def preview(self, inputs: PlainMap, old_outputs: PlainMap | None) -> PlainMap:
        """What the outputs will be; all of them follow from the inputs."""
        copied = {name: inputs.get(name, UNKNOWN) for name in ("zone", "name", "type")}
        place_unknown = has_unknown(inputs.get("zone")) or has_unknown(inputs.get("name"))
        fqdn = UNKNOWN if place_unknown else dns.absolute(str(inputs["name"]), str(inputs["zone"]))
        changed = {**copied, "fqdn": fqdn, "ttl": inputs.get("ttl", DEFAULT_TTL), "records": _canonical(inputs)}
        return {**(old_outputs or {}), **changed}

    def create(self, job: Job, inputs: PlainMap) -> tuple[str, PlainMap]:
        """Add the records; what is there and not ours is refused unless ``adopt`` says otherwise."""
        parsed = RecordSetInputs.model_validate(inputs)
        identity = f"{parsed.zone.rstrip('.')}/{parsed.name}/{parsed.type.upper()}"
        change = dns.replace if parsed.adopt else dns.create
        return identity, self._change(job, identity, parsed, change)

    def update(self, job: Job, id: str, inputs: PlainMap) -> PlainMap:  # noqa: A002
        """Replace the records, atomically."""
        return self._change(job, id, RecordSetInputs.model_validate(inputs), dns.replace)

    def read(self, job: Job, id: str, inputs: PlainMap, outputs: PlainMap) -> Found | None:  # noqa: A002, ARG002
        """Ask the server. An import takes zone, name and type from the id ``zone/name/type`` and the rest from the
        provider's configuration."""
        imported = not inputs
        given = _from_id(job, id) if imported else inputs
        zone, name, kind = (str(given[part]) for part in self.replaced_by)
        parsed = RecordSetInputs.model_validate({**given, "records": given.get("records") or ["-"]})
        found = dns.read(_server(job, parsed), zone, name, kind)
        if found is None:
            return None
        seen = _outputs(parsed, found)
        if imported:
            return Found(id=id, inputs={**given, "ttl": found.ttl, "records": seen["records"]}, outputs=seen)
        records = given["records"] if _canonical(given) == seen["records"] else seen["records"]
        ttl = {"ttl": found.ttl} if "ttl" in given or found.ttl != DEFAULT_TTL else {}
        return Found(id=id, inputs={**given, "records": records, **ttl}, outputs=seen)

    def delete(self, job: Job, id: str, inputs: PlainMap) -> None:  # noqa: A002, ARG002 - the inputs hold all of it
        """Remove the records."""
        parsed = RecordSetInputs.model_validate(inputs)
        dns.delete(_server(job, parsed), parsed.zone, parsed.name, parsed.type)

    def _change(self, job: Job, identity: str, parsed: RecordSetInputs, change: dns.Change) -> PlainMap:
        server, wanted = _server(job, parsed), _wanted(parsed)
        try:
            return _outputs(parsed, change(server, wanted))
        except (EngineError, Cancelled) as error:
            if not server.sent.is_set():
                raise
            raise PartlyDone(id=identity, outputs=_outputs(parsed, wanted), cause=error) from error


def _wanted(parsed: RecordSetInputs) -> dns.RecordSet:
    return dns.record_set(zone=parsed.zone, name=parsed.name, type=parsed.type, ttl=parsed.ttl, records=parsed.records)


def _outputs(parsed: RecordSetInputs, found: dns.RecordSet) -> PlainMap:
    return {
        "fqdn": found.name,
        "zone": parsed.zone,
        "name": parsed.name,
        "type": parsed.type,
        "ttl": found.ttl,
        "records": list(found.records),
    }


def _canonical(inputs: PlainMap) -> Plain:
    """The wanted records in canonical form, or UNKNOWN."""
    zone, name, kind, records = (inputs.get(key) for key in ("zone", "name", "type", "records"))
    if any(map(has_unknown, (zone, name, kind, records))) or not isinstance(records, list | tuple) or not records:
        return UNKNOWN
    texts = [str(record) for record in records]
    wanted = dns.record_set(zone=str(zone), name=str(name), type=str(kind), ttl=0, records=texts)
    return list(wanted.records)


def _moved(name: str, old: PlainMap, new: PlainMap) -> bool:
    if has_unknown(new.get(name)):
        return True
    return str(old.get(name)).rstrip(".").lower() != str(new.get(name)).rstrip(".").lower()


def _guilty(sentence: str) -> str:
    for word, path in (("zone", "name"), ("domain name", "name"), ("type", "type")):
        if word in sentence:
            return path
    return "records"


def _from_id(job: Job, identity: str) -> PlainMap:
    parts = identity.split("/")
    if len(parts) != 3 or not all(parts):  # noqa: PLR2004 - zone, name, type
        raise InputError(
            f"{job.subject}: {identity!r} is not the id of a record set.",
            next_step="Import with zone/name/type, for example two-sites.test/www/A.",
        )
    options = job.settings
    port = options.option("dnsPort")
    return {
        "server": options.option("dnsServer"),
        **({"port": int(port)} if port.isdigit() else {}),
        "zone": parts[0],
        "name": parts[1],
        "type": parts[2],
    }


def _option_secret(settings: Settings) -> bool:
    return bool(settings.option("dnsKeySecret") or settings.option("dnsKeySecretRef"))


def _server(job: Job, parsed: RecordSetInputs) -> dns.Server:
    settings, key = job.settings, parsed.key
    port = settings.option("dnsPort")
    server = dns.Server(
        subject=job.subject,
        address=parsed.server or settings.option("dnsServer"),
        port=parsed.port or (int(port) if port.isdigit() else DEFAULT_PORT),
        key=dns.Key(
            name=key.name or settings.option("dnsKeyName"),
            algorithm=key.algorithm or settings.option("dnsKeyAlgorithm") or DEFAULT_ALGORITHM,
            secret=_secret(job, key),
        ),
        change=job.timeout or timedelta(seconds=15),
        cancelled=job.cancelled,
    )
    if not server.address or not server.key.name:
        raise InputError(
            f"{job.subject}: there is no name server or no TSIG key for the zone {parsed.zone}.",
            next_step="Set ismgr:dnsServer and ismgr:dnsKeyName (or ISMGR_DNS_SERVER, ISMGR_DNS_KEY_NAME).",
        )
    return server


def _secret(job: Job, key: KeyInputs) -> Secret:
    settings = job.settings
    if key.secret is not None:
        return Secret(key.secret)
    if reference := key.secret_ref or settings.option("dnsKeySecretRef"):
        return settings.open(reference)
    if value := settings.option("dnsKeySecret"):
        return Secret(value)
    raise InputError(
        f"{job.subject}: there is no secret for the TSIG key.",
        next_step="Give key.secretRef, or set ismgr:dnsKeySecretRef (or ISMGR_DNS_KEY_SECRET_REF) for an import.",
    )
