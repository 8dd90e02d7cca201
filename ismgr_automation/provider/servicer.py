"""What Pulumi's own servicer gets wrong, put right: clean errors, failed creates remembered, odd values repaired.

Every correction here has a test of its own; look at them when the SDK's pinned version moves.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import grpc  # type: ignore[import-untyped]
from google.protobuf import empty_pb2, struct_pb2  # type: ignore[import-untyped]
from pulumi.provider.experimental import provider as pulumi_provider
from pulumi.provider.experimental.property_value import PropertyValue
from pulumi.provider.experimental.server import ProviderServicer
from pulumi.runtime import proto, rpc
from pulumi.runtime.proto import provider_pb2, status_pb2

from ismgr_automation.core.errors import InputError, IsmgrError
from ismgr_automation.provider.resource import PartlyDone
from ismgr_automation.provider.values import property_map

Context = Any
"""``grpc.aio.ServicerContext``, which has no usable type arguments here."""


class Servicer(ProviderServicer):
    """Pulumi's servicer with our corrections. A method that is not listed here is Pulumi's own."""

    async def CheckConfig(self, request: Any, context: Context) -> Any:  # noqa: N802 - Pulumi's names
        """Options of the provider."""
        return await _answer(super().CheckConfig, request, context)

    async def DiffConfig(self, request: Any, context: Context) -> Any:  # noqa: N802, ARG002
        """Pulumi's own reads an attribute that does not exist. No option of ours makes another provider of it."""
        return proto.DiffResponse(changes=proto.DiffResponse.DIFF_NONE, hasDetailedDiff=True)

    async def Configure(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Options of the provider."""
        return await _answer(super().Configure, request, context)

    async def Check(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Inputs of a resource."""
        return await _answer(super().Check, request, context)

    async def Diff(self, request: Any, context: Context) -> Any:  # noqa: N802
        """What an update would change."""
        return await _answer(super().Diff, request, context)

    async def Create(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Make a resource, or preview that."""
        return await _answer(super().Create, request, context)

    async def Update(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Change a resource, or preview that."""
        return await _answer(super().Update, request, context)

    async def Read(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Refresh or import."""
        return await _answer(super().Read, request, context)

    async def Delete(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Pulumi's own hands over the outputs only; a rotated credential stands in the inputs."""

        async def delete(request: Any, _context: Context) -> Any:
            inputs = PropertyValue.unmarshal_map(request.old_inputs)
            await self._provider.delete(
                pulumi_provider.DeleteRequest(request.urn, request.id, inputs, timeout=request.timeout)
            )
            return empty_pb2.Empty()

        return await _answer(delete, request, context)


async def _answer(method: Callable[[Any, Context], Awaitable[Any]], request: Any, context: Context) -> Any:
    """Run it, and turn what it raises into a status that Pulumi shows as one clean sentence."""
    try:
        _repair_request(request)
        return await method(request, context)
    except PartlyDone as error:
        await context.abort(grpc.StatusCode.UNKNOWN, str(error), _init_failed(error))
    except IsmgrError as error:
        code = (
            grpc.StatusCode.INVALID_ARGUMENT if isinstance(error, InputError) else grpc.StatusCode.FAILED_PRECONDITION
        )
        await context.abort(code, str(error))
    except Exception as error:  # noqa: BLE001 - the last frame before the wire: a bug must be told, not eaten
        place = traceback.extract_tb(error.__traceback__)[-1]
        traceback.print_exception(error, file=sys.stderr)
        where = f"{place.filename.rsplit('/', 1)[-1]}:{place.lineno}"
        message = f"This is a bug in the provider ismgr, please report it: {type(error).__name__}: {error} ({where})."
        await context.abort(grpc.StatusCode.INTERNAL, message)


def _init_failed(error: PartlyDone) -> tuple[tuple[str, bytes], ...]:
    """Tells Pulumi that the resource exists although its create or update failed, so that the next run takes it up."""
    details = provider_pb2.ErrorResourceInitFailed(
        id=error.id,
        properties=PropertyValue.marshal_map(property_map(error.outputs)),
        reasons=[str(error)],
    )
    status = status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=str(error))
    status.details.add().Pack(details)
    return (("grpc-status-details-bin", status.SerializeToString()),)


def _repair_request(request: Any) -> None:
    """An output value may come without its value, dependencies or secrecy; Pulumi's decoder needs all three."""
    for field, value in request.ListFields():
        if field.message_type is not None and field.message_type.full_name == "google.protobuf.Struct":
            _repair(value)


def _repair(struct: struct_pb2.Struct) -> None:
    fields = struct.fields
    if fields.get(rpc._special_sig_key, struct_pb2.Value()).string_value == rpc._special_output_value_sig:  # noqa: SLF001
        if "value" not in fields:
            fields["value"].string_value = rpc.UNKNOWN
        if "dependencies" not in fields:
            fields["dependencies"].list_value.SetInParent()
        if "secret" not in fields:
            fields["secret"].bool_value = False
    for value in fields.values():
        _repair_value(value)


def _repair_value(value: struct_pb2.Value) -> None:
    match value.WhichOneof("kind"):
        case "struct_value":
            _repair(value.struct_value)
        case "list_value":
            for item in value.list_value.values:
                _repair_value(item)
        case _:
            return
