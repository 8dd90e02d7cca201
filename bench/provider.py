"""A native provider with one resource that is nothing but an entry in the state: what is measured is the engine."""

from __future__ import annotations

import os
import sys
import threading

from pulumi.provider.experimental import provider, server

TOKEN = "bench:index:Thing"


class Bench(provider.Provider):
    """``bench:index:Thing`` has one input, ``value``, and gives it back."""

    async def check(self, request: provider.CheckRequest) -> provider.CheckResponse:
        """Anything goes."""
        return provider.CheckResponse(inputs=request.new_inputs, failures=[])

    async def check_config(self, request: provider.CheckRequest) -> provider.CheckResponse:
        """There is nothing to configure."""
        return provider.CheckResponse(inputs=request.new_inputs, failures=[])

    async def configure(self, _request: provider.ConfigureRequest) -> provider.ConfigureResponse:
        """There is nothing to configure."""
        return provider.ConfigureResponse(accept_secrets=True, supports_preview=True, accept_resources=True)

    async def diff_config(self, _request: provider.DiffRequest) -> provider.DiffResponse:
        """There is nothing to configure."""
        return provider.DiffResponse(changes=False)

    async def diff(self, request: provider.DiffRequest) -> provider.DiffResponse:
        """A changed value is an update."""
        if request.old_state["value"].value == request.new_inputs["value"].value:
            return provider.DiffResponse(changes=False)
        kind = provider.PropertyDiff(provider.PropertyDiffKind.UPDATE, input_diff=False)
        return provider.DiffResponse(changes=True, diffs=["value"], detailed_diff={"value": kind})

    async def create(self, request: provider.CreateRequest) -> provider.CreateResponse:
        """Nothing is made."""
        return provider.CreateResponse("" if request.preview else request.name, request.properties)

    async def update(self, request: provider.UpdateRequest) -> provider.UpdateResponse:
        """Nothing is changed."""
        return provider.UpdateResponse(request.news)

    async def read(self, request: provider.ReadRequest) -> provider.ReadResponse:
        """What the state says is the world."""
        return provider.ReadResponse(request.resource_id, request.properties, request.properties)

    async def delete(self, request: provider.DeleteRequest) -> None:
        """Nothing is removed."""


def _leave_with_parent() -> None:
    """A provider outlives a killed engine unless it looks."""
    parent = os.getppid()
    never = threading.Event()

    def watch() -> None:
        while os.getppid() == parent:
            never.wait(1)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    _leave_with_parent()
    server.main(sys.argv[1:], "1.0.0", Bench())
