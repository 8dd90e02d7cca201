"""Ansible lookup ``ismgr_secret``: opens one secret reference when a task asks, and keeps nothing."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable

from ansible.errors import AnsibleLookupError  # type: ignore[import-untyped]
from ansible.plugins.lookup import LookupBase  # type: ignore[import-untyped]

DOCUMENTATION = """
name: ismgr_secret
short_description: open a secret reference of an ismgr estate
description:
  - Under ismgr the value comes over a private socket from the ismgr process, which opens only what the run may open.
  - Under plain ansible-playbook the backends come from the environment variable ISMGR_SECRET_BACKENDS as JSON (ismgr
    inventory --help shows how); then ismgr_automation must be installed beside Ansible.
options:
  _terms:
    description: references, each written backend:path
    required: true
"""

EXAMPLES = """
- name: use a password that stays in its file
  ansible.builtin.debug:
    msg: "{{ lookup('ismgr_secret', 'file:postgresql/app') | length }}"
"""

RETURN = """
_raw:
  description: the values, in the order of the references
"""

_DEADLINE_SECONDS = 30


class LookupModule(LookupBase):  # type: ignore[misc]
    """What Ansible loads."""

    def run(self, terms: Iterable[object], variables: object = None, **kwargs: object) -> list[str]:  # noqa: ARG002  Ansible's signature
        """The values of the references."""
        return [_open(str(term)) for term in terms]


def _open(reference: str) -> str:
    place = os.environ.get("ISMGR_DESK")
    if not place:
        return _open_ourselves(reference)
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(_DEADLINE_SECONDS)
            line.connect(place)
            line.sendall(json.dumps({"token": os.environ.get("ISMGR_TOKEN"), "secret": reference}).encode() + b"\n")
            with line.makefile("rb") as answers:
                answer = json.loads(answers.readline() or b'{"error": "no answer"}')
    except OSError as error:
        raise AnsibleLookupError(f"secret {reference}: ismgr does not answer: {error}") from error
    if "value" not in answer:
        raise AnsibleLookupError(answer.get("error", f"secret {reference} was not opened"))
    return str(answer["value"])


def _open_ourselves(reference: str) -> str:
    try:
        from ismgr_automation.core.errors import InputError
        from ismgr_automation.core.secret import SecretRef
        from ismgr_automation.engines.secrets import VARIABLE, Backends
    except ImportError as error:
        raise AnsibleLookupError(
            f"secret {reference}: install ismgr_automation beside Ansible, so that it can be opened"
        ) from error
    try:
        backends = Backends.from_json(json.loads(os.environ.get(VARIABLE) or "{}"))
        return backends.open(SecretRef.parse(reference)).reveal()
    except (InputError, ValueError) as error:
        raise AnsibleLookupError(str(error)) from error
