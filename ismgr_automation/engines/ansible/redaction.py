"""Takes opened secrets out of what Ansible says, also where it was escaped or encoded on the way."""

from __future__ import annotations

import base64
import json
import shlex
import threading
from collections.abc import Mapping
from urllib.parse import quote

from ismgr_automation.core.secret import SHORTEST, Redactor, Secret

HIDDEN = "<secret>"


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
                return self.clean_object(value)
            case _:
                return value

    def clean_object(self, said: Mapping[str, object]) -> dict[str, object]:
        """A JSON object with every text below it cleaned. Where what comes is secret, so is what it replaces, which
        nobody opened and which may be in use until then: of a ``before`` beside an ``after`` with a secret only lines
        stay that ``after`` has as well, and of a ``prepared`` difference with a secret nothing does."""
        cleaned = {key: self.clean_value(one) for key, one in said.items()}
        before, after = cleaned.get("before"), cleaned.get("after")
        if isinstance(before, str) and isinstance(after, str) and after != said["after"]:
            stays = {"", *after.split("\n")}
            cleaned["before"] = "\n".join(one if one in stays else HIDDEN for one in before.split("\n"))
        if cleaned.get("prepared") != said.get("prepared"):
            cleaned["prepared"] = HIDDEN
        return cleaned
