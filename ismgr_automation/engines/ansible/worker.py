"""The process that holds ansible-runner: one JSON request on standard input, one ansible-playbook, then it ends.

ansible-runner installs signal handlers, prints, exits and keeps threads; none of that may touch who imports ismgr.
Secrets never come here: Ansible asks for them itself.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path


def main() -> int:
    """Run what standard input asks for; the exit code is that of ansible-playbook."""
    request = json.loads(sys.stdin.buffer.read())
    # Ctrl-C goes to the whole process group: ansible-playbook ends by itself and we wait for it. Not SIG_IGN, which a
    # child would inherit
    signal.signal(signal.SIGINT, lambda *_: None)
    os.environ.clear()
    os.environ.update(request["environment"])
    from ansible_runner.interface import init_command_config  # type: ignore[import-untyped]

    with Path(os.devnull).open("rb") as nothing:
        runner = init_command_config(
            request["executable"],
            cmdline_args=request["arguments"],
            private_data_dir=request["private"],
            artifact_dir=request["artifacts"],
            host_cwd=request["folder"],
            runner_mode="subprocess",
            input_fd=nothing,
            output_fd=sys.stdout,
            error_fd=sys.stderr,
            # no output file, no event files, no facts on disk
            settings={"suppress_output_file": True},
            fact_cache_type="",
            suppress_env_files=True,
            quiet=True,
            event_handler=lambda _event: False,
        )
        # ansible-runner's own callback writes a file per event, secrets in diffs included; ours asks the desk
        runner.config.env |= request["environment"]
        runner.run()
    return int(runner.rc)


if __name__ == "__main__":
    sys.exit(main())
