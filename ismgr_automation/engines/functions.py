"""Python functions of an estate, each called in a process of its own: it cannot change ours, and ends with us."""

from __future__ import annotations

import json
import sys

from ismgr_automation.core.errors import EngineFailed
from ismgr_automation.engines import process
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.recovery import FunctionCall

ENGINE = "python"
_CALL = """\
import json, runpy, sys
found = runpy.run_path(sys.argv[1])
if not callable(found.get(sys.argv[2])):
    sys.exit(f"{sys.argv[1]} has no function {sys.argv[2]}")
returned = found[sys.argv[2]](json.load(sys.stdin))
print("\\n" + json.dumps("" if returned is None else str(returned)))
"""


class ProcessFunctions:
    """Implements ``ports.recovery.Functions``."""

    def call(self, call: FunctionCall, context: Context) -> str:
        """What it returned, as text.

        Raises ``EngineFailed`` when it raised or cannot be called, ``EngineTimedOut``, ``Cancelled``, ``LeaseLost``.
        """
        done = process.run(
            [sys.executable, "-c", _CALL, str(call.file), call.function],
            engine=ENGINE,
            subject=call.subject,
            deadline=call.deadline,
            stdin=json.dumps(dict(call.arguments)).encode(),
            cancelled=context.cancelled,
            leash=context.leash,
        )
        if done.code != 0:
            last = (done.stderr.strip().splitlines() or [f"it ended with {done.code}"])[-1]
            raise EngineFailed(
                f"{call.subject}: {call.function} failed: {last}",
                engine=ENGINE,
                subject=call.subject,
                next_step="Mend the function; it may have done a part of its work.",
                detail="\n".join(done.stderr.splitlines()[-20:]),
            )
        return str(json.loads(done.stdout.strip().splitlines()[-1]))
