"""A native provider whose world is a folder of JSON files, so that a test can look at it and change it by hand.

``probe:index:Thing`` has inputs ``world`` (the folder), ``size``, ``note``, ``key`` (a change replaces it), ``token``
(kept secret if given as one), ``nested`` (any JSON), ``fail`` (the words of a failing create or update), ``seconds``
(how long a create takes), ``named`` (makes up a ``label`` as clouds do: the name and seven random digits) and ``block``
(a create waits for ever; ``"stubborn"``: even when it is told to stop). Outputs: the inputs, and ``serial``, known
after the create.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
import threading
import time
from pathlib import Path

from pulumi.provider.experimental import provider as p
from pulumi.provider.experimental import server
from pulumi.provider.experimental.property_value import PropertyValue

UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"


def text(properties, key):
    found = properties.get(key)
    return None if found is None else found.value


def plain(value):
    raw = value.value
    if isinstance(raw, str | bool | float) or raw is None:
        return raw
    if hasattr(raw, "items"):
        return {key: plain(item) for key, item in raw.items()}
    return [plain(item) for item in raw]


class Probe(p.Provider):
    def __init__(self):
        self._told = asyncio.Event()

    async def cancel(self):
        self._told.set()

    async def check(self, request):
        failures = []
        if text(request.new_inputs, "size") == -1.0:
            failures.append(p.CheckFailure("size", "size must not be negative"))
        inputs = dict(request.new_inputs)
        if text(inputs, "named"):
            made_up = f"{request.name}-{hashlib.sha256(request.random_seed).hexdigest()[:7]}"
            inputs["label"] = request.old_inputs.get("label") or PropertyValue(made_up)
        return p.CheckResponse(inputs=inputs, failures=failures)

    async def configure(self, _request):
        return p.ConfigureResponse(accept_secrets=True, supports_preview=True, accept_resources=True)

    async def check_config(self, request):
        return p.CheckResponse(inputs=request.new_inputs)

    async def diff_config(self, _request):
        return p.DiffResponse(changes=False)

    async def diff(self, request):
        found = {}
        for key in sorted({*request.old_state, *request.new_inputs} - {"serial", "fail", "seconds", "block"}):
            old, new = request.old_state.get(key), request.new_inputs.get(key)
            if old is None and new is not None:
                kind = p.PropertyDiffKind.ADD
            elif new is None:
                kind = p.PropertyDiffKind.DELETE
            elif plain(old) != plain(new):
                kind = p.PropertyDiffKind.UPDATE_REPLACE if key == "key" else p.PropertyDiffKind.UPDATE
            else:
                continue
            found[key] = p.PropertyDiff(kind, input_diff=False)
        return p.DiffResponse(
            changes=bool(found),
            replaces=["key"] if "key" in found else [],
            diffs=list(found),
            detailed_diff=found,
        )

    def _path(self, properties, name):
        return Path(text(properties, "world")) / f"{name}.json"

    @staticmethod
    def _mark(properties, name, words):
        Path(text(properties, "world"), name).write_text(words)

    def _write(self, properties, name):
        path = self._path(properties, name)
        path.write_text(json.dumps({key: plain(value) for key, value in properties.items()}))
        serial = PropertyValue(f"SN-{name}")
        return {**properties, "serial": serial}

    async def create(self, request):
        if request.preview:
            return p.CreateResponse("", {**request.properties, "serial": PropertyValue(UNKNOWN)})
        self._mark(request.properties, "pid", str(os.getpid()))
        if words := text(request.properties, "fail"):
            raise RuntimeError(words)
        if text(request.properties, "block"):
            self._mark(request.properties, "blocked", "")
            waiting = asyncio.sleep(3600) if text(request.properties, "block") == "stubborn" else self._told.wait()
            await waiting
            raise RuntimeError("told to stop")
        await asyncio.sleep(text(request.properties, "seconds") or 0)
        return p.CreateResponse(request.name, self._write(request.properties, request.name))

    async def update(self, request):
        if request.preview:
            return p.UpdateResponse({**request.news, "serial": request.olds["serial"]})
        if words := text(request.news, "fail"):
            raise RuntimeError(words)
        return p.UpdateResponse(self._write(request.news, request.resource_id))

    async def read(self, request):
        path = self._path(request.properties, request.resource_id)
        if not path.exists():
            return p.ReadResponse("")
        now = json.loads(path.read_text())
        values = {key: _value(item, request.properties.get(key)) for key, item in now.items()}
        outputs = {**values, "serial": request.properties["serial"]}
        return p.ReadResponse(request.resource_id, outputs, values)

    async def delete(self, request):
        if (mark := self._path(request.properties, f"{request.resource_id}.undeletable")).exists():
            raise RuntimeError(f"cannot delete: {mark.read_text()}")
        self._path(request.properties, request.resource_id).unlink(missing_ok=True)


def _value(item, old):
    item = float(item) if isinstance(item, int) and not isinstance(item, bool) else item
    secret = old is not None and old.is_secret
    if isinstance(item, dict):
        return PropertyValue({key: _value(one, None) for key, one in item.items()}, is_secret=secret)
    if isinstance(item, list):
        return PropertyValue([_value(one, None) for one in item], is_secret=secret)
    return PropertyValue(item, is_secret=secret)


def leave_with_parent():
    parent = os.getppid()

    def watch():
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    if os.environ.get("PROBE_ORPHANS") is None:
        leave_with_parent()
    server.main(sys.argv[1:], "1.2.3", Probe())
