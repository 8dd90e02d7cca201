"""The provider: gives each request of Pulumi to its resource and runs what blocks in a thread. No rule lives here."""

from __future__ import annotations

import asyncio
import json
import threading
from datetime import timedelta

from pulumi.provider.experimental import provider as pulumi_provider
from pulumi.provider.experimental.property_value import PropertyValue
from pulumi.provider.experimental.provider import (
    CheckFailure,
    CheckRequest,
    CheckResponse,
    ConfigureRequest,
    ConfigureResponse,
    CreateRequest,
    CreateResponse,
    DeleteRequest,
    DiffRequest,
    DiffResponse,
    GetSchemaRequest,
    GetSchemaResponse,
    PropertyDiff,
    ReadRequest,
    ReadResponse,
    UpdateRequest,
    UpdateResponse,
)

from ismgr_automation.core.errors import InputError
from ismgr_automation.provider import schema
from ismgr_automation.provider.resource import Job, Resource
from ismgr_automation.provider.settings import Settings, complaints
from ismgr_automation.provider.values import PlainMap, hide, plain_map, property_map

_RESOURCES = {resource.kind: resource for resource in schema.RESOURCES}


class IsmgrProvider(pulumi_provider.Provider):
    """``ismgr``: machines and record sets. One process serves all resources of one Pulumi operation."""

    def __init__(self) -> None:
        super().__init__()
        self._settings = Settings()
        self._cancelled = threading.Event()

    async def get_schema(self, request: GetSchemaRequest) -> GetSchemaResponse:  # noqa: ARG002 - one schema for all
        """The schema as JSON."""
        return GetSchemaResponse(schema=json.dumps(schema.package()))

    async def check_config(self, request: CheckRequest) -> CheckResponse:
        """Options that do not exist are refused by name."""
        failures = [CheckFailure(name, reason) for name, reason in complaints(request.new_inputs)]
        return CheckResponse(inputs=request.new_inputs, failures=failures)

    async def configure(self, request: ConfigureRequest) -> ConfigureResponse:
        """Remember the options; nothing is opened or asked yet."""
        given = {name.removeprefix("ismgr:config:"): value for name, value in request.variables.items()}
        given |= {name: value for name, value in plain_map(request.args).items() if isinstance(value, str)}
        self._settings = Settings(values=given)
        return ConfigureResponse(
            accept_secrets=True, supports_preview=True, accept_outputs=False, accept_resources=False
        )

    async def cancel(self) -> None:
        """Every waiting resource stops at its next look."""
        self._cancelled.set()

    async def check(self, request: CheckRequest) -> CheckResponse:
        """All mistakes at once, each with its property path. What the schema calls secret becomes secret."""
        resource = _resource(request.type)
        found = resource.check(plain_map(request.new_inputs), self._settings)
        failures = [CheckFailure(one.path, one.reason) for one in found]
        return CheckResponse(inputs=hide(request.new_inputs, resource.secrets), failures=failures)

    async def diff(self, request: DiffRequest) -> DiffResponse:
        """Always with a detailed difference: without it Pulumi shows no change."""
        resource = _resource(request.type)
        found = resource.diff(plain_map(request.old_state), plain_map(request.new_inputs))
        return DiffResponse(
            changes=bool(found.changed),
            replaces=list(found.replaces),
            delete_before_replace=found.delete_first,
            diffs=sorted({path.split(".")[0].split("[")[0] for path in found.changed}),
            detailed_diff={path: PropertyDiff(kind, input_diff=False) for path, kind in found.changed.items()},
        )

    async def create(self, request: CreateRequest) -> CreateResponse:
        """In a preview: the outputs as far as they are known, and no call."""
        resource, inputs = _resource(request.type), plain_map(request.properties)
        if request.preview:
            return CreateResponse("", property_map(resource.preview(inputs, None)))
        identity, outputs = await asyncio.to_thread(resource.create, self._job(request.name, request.timeout), inputs)
        return CreateResponse(identity, property_map(outputs))

    async def update(self, request: UpdateRequest) -> UpdateResponse:
        """In a preview: the outputs as far as they are known, and no call."""
        resource, inputs = _resource(request.type), plain_map(request.news)
        if request.preview:
            return UpdateResponse(property_map(resource.preview(inputs, plain_map(request.olds))))
        job = self._job(request.name, request.timeout)
        return UpdateResponse(property_map(await asyncio.to_thread(resource.update, job, request.resource_id, inputs)))

    async def read(self, request: ReadRequest) -> ReadResponse:
        """Refresh and import. What is gone has no id."""
        resource = _resource(request.type)
        old_inputs, old_outputs = plain_map(request.inputs), plain_map(request.properties)
        job = self._job(request.name, 0)
        found = await asyncio.to_thread(resource.read, job, request.resource_id, old_inputs, old_outputs)
        if found is None:
            return ReadResponse("")
        inputs = {**property_map(found.inputs), **_untouched(request.inputs, old_inputs, found.inputs)}
        return ReadResponse(found.id, property_map(found.outputs), hide(inputs, resource.secrets))

    async def delete(self, request: DeleteRequest) -> None:
        """``properties`` are the inputs here: the servicer hands them over, outputs hold no credential."""
        resource, inputs = _resource(request.type), plain_map(request.properties)
        job = self._job(request.name, request.timeout)
        await asyncio.to_thread(resource.delete, job, request.resource_id, inputs)

    def _job(self, name: str, timeout_seconds: float) -> Job:
        return Job(
            subject=name,
            settings=self._settings,
            cancelled=self._cancelled,
            timeout=timedelta(seconds=timeout_seconds) if timeout_seconds else None,
        )


def _untouched(old: dict[str, PropertyValue], plain_old: PlainMap, new: PlainMap) -> dict[str, PropertyValue]:
    """Inputs that a read left as they were, with their secrecy and dependencies."""
    return {name: value for name, value in old.items() if name in new and new[name] == plain_old[name]}


def _resource(kind: str) -> Resource:
    """The last part of ``parent$type`` decides."""
    name = kind.rsplit("$", 1)[-1]
    if name not in _RESOURCES:
        raise InputError(f"The provider ismgr has no resource {name}; it has {', '.join(sorted(_RESOURCES))}.")
    return _RESOURCES[name]
