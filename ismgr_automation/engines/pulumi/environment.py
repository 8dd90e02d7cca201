"""What children of ours may see of this process's environment: what engines, programs and providers need, no more."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from ismgr_automation.core.json import Json, JsonObject
from ismgr_automation.core.secret import references_in
from ismgr_automation.engines.secrets import own_references

NAMES = frozenset(
    {
        *("HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TERM", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"),
        *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
        *("PYTHONPATH", "VIRTUAL_ENV", "KUBECONFIG", "SSH_AUTH_SOCK"),
        *("PULUMI_ACCESS_TOKEN", "PULUMI_PARALLEL", "PULUMI_K8S_DELETE_UNREACHABLE"),
    }
)
PREFIXES = (
    *("LC_", "AWS_", "AZURE_", "ARM_", "GOOGLE_", "GCLOUD_", "CLOUDSDK_", "OS_", "VSPHERE_", "DIGITALOCEAN_"),
    *("HCLOUD_", "CLOUDFLARE_", "GITHUB_", "GITLAB_", "PG", "PULUMI_DIY_BACKEND_", "ISMGR_REDFISH_", "ISMGR_DNS_"),
)
"""Variables that begin with one of these carry the credentials and settings of clouds and state backends."""


def allowed(variables: Mapping[str, str]) -> dict[str, str]:
    """The part of an environment that children get, with this interpreter's folder first on PATH: there lies
    ``pulumi-resource-ismgr``.

    >>> sorted(allowed({"HOME": "/root", "AWS_REGION": "eu-west-1", "SECRET_THING": "x"}))
    ['AWS_REGION', 'HOME', 'PATH']
    """
    found = {name: value for name, value in variables.items() if name in NAMES or name.startswith(PREFIXES)}
    own = str(Path(sys.executable).parent)
    return {**found, "PATH": f"{own}:{variables.get('PATH', '/usr/bin:/bin')}"}


def referred(config: Mapping[str, object], backends: JsonObject, variables: Mapping[str, str]) -> dict[str, str]:
    """The variables that providers open by themselves: those named by secret references inside configuration values
    (``{"secret": "env:BMC_PASSWORD"}``), those that open the backends of such references (a server's token), and all
    of a backend that has a prefix of its own."""
    prefixes = {"env": ""} | {
        name: str(body.get("prefix", ""))
        for name, body in backends.items()
        if isinstance(body, Mapping) and body.get("kind") == "environment"
    }
    asked = tuple(references_in(config))
    opening = own_references({ref.backend for ref in asked}, backends)
    names = {prefixes[ref.backend] + ref.path for ref in (*asked, *opening) if ref.backend in prefixes}
    whole = tuple(prefix for prefix in prefixes.values() if prefix)
    return {name: value for name, value in variables.items() if name in names or (whole and name.startswith(whole))}


def described(backends: JsonObject) -> str:
    """The value of ``ISMGR_SECRET_BACKENDS``."""
    return json.dumps(backends, sort_keys=True)


def plain(value: object) -> object:
    """The value in lists and dictionaries, which is all that a YAML file can say.

    >>> plain({"a": (1, 2)})
    {'a': [1, 2]}
    """
    match value:
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case _:
            return value


def as_text(value: Json) -> str:
    """A value as configuration text: strings as they are, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)
