"""What the provider is told besides a resource's own inputs: its configuration, its environment, the secret backends.

Secret references are opened here, at the last moment, and never leave the provider.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from ismgr_automation.core.diagnostic import did_you_mean
from ismgr_automation.core.errors import InputError, SettingsError
from ismgr_automation.core.secret import Secret, SecretRef
from ismgr_automation.engines.secrets import VARIABLE, Backends

ROOT_VARIABLE = "ISMGR_ESTATE_ROOT"
"""The folder that relative paths (a BMC's authority) start from; without it, the current folder."""

OPTIONS: Mapping[str, tuple[str, str]] = {
    "redfishUsername": ("ISMGR_REDFISH_USERNAME", "User name for BMCs that name none; needed to import a Server."),
    "redfishPassword": ("ISMGR_REDFISH_PASSWORD", "Password for BMCs that name none."),
    "redfishPasswordRef": ("ISMGR_REDFISH_PASSWORD_REF", "The same as a secret reference, `backend:path`."),
    "redfishCa": ("ISMGR_REDFISH_CA", "PEM file of the authority that signed the BMCs' certificates."),
    "dnsServer": ("ISMGR_DNS_SERVER", "Primary name server; needed to import a RecordSet."),
    "dnsPort": ("ISMGR_DNS_PORT", "Its port, 53 unless said."),
    "dnsKeyName": ("ISMGR_DNS_KEY_NAME", "Name of the TSIG key; needed to import a RecordSet."),
    "dnsKeyAlgorithm": ("ISMGR_DNS_KEY_ALGORITHM", "Its algorithm, hmac-sha256 unless said."),
    "dnsKeySecret": ("ISMGR_DNS_KEY_SECRET", "Its secret in base64."),
    "dnsKeySecretRef": ("ISMGR_DNS_KEY_SECRET_REF", "The same as a secret reference, `backend:path`."),
}
"""The provider's options: environment variable and what it is for. Configuration wins over the environment."""

SECRET_OPTIONS = frozenset({"redfishPassword", "dnsKeySecret"})
_HOW_TO_DESCRIBE = 'Describe backends such as {"file": {"kind": "file", "root": "/folder"}}; ismgr does so by itself.'
_OF_PULUMI = frozenset({"version", "pluginDownloadURL"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options as given. ``values`` may hold secrets, so that this is not printed."""

    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)

    def option(self, name: str) -> str:
        """An option from the configuration, else from its environment variable, else empty."""
        return self.values.get(name) or self.environment.get(OPTIONS[name][0], "")

    def path(self, relative: str) -> Path:
        """A path of a document: below the estate's folder unless it is absolute."""
        return Path(self.environment.get(ROOT_VARIABLE, ".")) / relative

    def open(self, reference: str) -> Secret:
        """Open ``backend:path``. Raises ``InputError`` naming the reference when it is not there."""
        try:
            parsed = SecretRef.parse(reference)
        except ValueError as error:
            raise InputError(str(error)) from error
        return self._backends().open(parsed)

    def _backends(self) -> Backends:
        text = self.environment.get(VARIABLE) or "{}"
        try:
            description = json.loads(text)
        except ValueError as error:
            raise SettingsError(
                f"The environment variable {VARIABLE} is not JSON: {error}.", next_step=_HOW_TO_DESCRIBE
            ) from error
        if not isinstance(description, dict):
            raise SettingsError(
                f"The environment variable {VARIABLE} is not a JSON object.", next_step=_HOW_TO_DESCRIBE
            )
        return _store(text)


@cache
def _store(text: str) -> Backends:
    """One store for a process: a server is logged in to once, not for each reference."""
    return Backends.from_json(json.loads(text))


def complaints(names: Mapping[str, object]) -> list[tuple[str, str]]:
    """Options that do not exist, each with what is wrong."""
    found = []
    for name in names:
        if name not in OPTIONS and name not in _OF_PULUMI and not name.startswith("__"):
            near = did_you_mean(name, OPTIONS)
            found.append((name, f"is not an option of this provider{f' (did you mean {near!r}?)' if near else ''}"))
    return found
