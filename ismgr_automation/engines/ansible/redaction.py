"""Takes opened secrets out of what Ansible says, also where it was escaped or encoded on the way."""

from __future__ import annotations

import base64
import json
import shlex
import threading
from collections.abc import Mapping
from urllib.parse import quote

from ismgr_automation.core.secret import SHORTEST, Redactor, Secret


class Cleaner:
    """A redactor that several threads may use; it knows the usual disguises of a value as well."""

    def __init__(self) -> None:
        self._redactor = Redactor()
        self._lock = threading.Lock()

    def learn(self, secret: Secret) -> Secret:
        """Remember a secret as it is, JSON-escaped, quoted for a shell or a URL, and in base64."""
        value = secret.reveal()
        with self._lock:
            self._redactor.learn(secret)
            if len(value) >= SHORTEST:
                for other in (
                    json.dumps(value)[1:-1],
                    repr(value)[1:-1],
                    shlex.quote(value),
                    quote(value, safe=""),
                    base64.b64encode(value.encode()).decode(),
                ):
                    self._redactor.learn(Secret(other))
        return secret

    def clean(self, text: str) -> str:
        """The text without secrets."""
        with self._lock:
            return self._redactor.clean(text)

    def clean_value(self, value: object) -> object:
        """A JSON value with every text below it cleaned."""
        match value:
            case str():
                return self.clean(value)
            case list():
                return [self.clean_value(one) for one in value]
            case Mapping():
                return {str(key): self.clean_value(one) for key, one in value.items()}
            case _:
                return value
