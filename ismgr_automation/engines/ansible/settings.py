"""How Ansible is set up for a run: our settings above the estate's own ``ansible.cfg``, of which only what finds and
reads content is taken. Nothing of this machine's or this person's own Ansible settings counts."""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ismgr_automation.core.diagnostic import Diagnostic, Position
from ismgr_automation.core.errors import InputError

PLUGINS = Path(__file__).parent / "plugins"
PYTHON_OF_HOSTS = "/usr/bin/python3"

FOLDERS = frozenset(
    {
        "roles_path",
        "collections_path",
        "collections_paths",
        "library",
        "module_utils",
        "action_plugins",
        "filter_plugins",
        "lookup_plugins",
        "test_plugins",
        "vars_plugins",
        "connection_plugins",
        "become_plugins",
    }
)
"""Keys of ``[defaults]`` that hold folders; a relative one is relative to the ``ansible.cfg``."""

FILES = frozenset({"vault_password_file"})
VALUES = frozenset(
    {
        "gathering",
        "gather_subset",
        "gather_timeout",
        "hash_behaviour",
        "jinja2_extensions",
        "force_handlers",
        "any_errors_fatal",
        "error_on_undefined_vars",
        "interpreter_python",
        "internal_poll_interval",
        "no_log",
        "strategy",
        "playbook_vars_root",
        "precedence",
    }
)
"""Keys of ``[defaults]`` that say how a playbook is read; taken over as they are."""

_KEPT = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TZ", "TERM", "SSH_AUTH_SOCK", "KRB5CCNAME"),
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
)
"""What of our own environment Ansible may see. The rest may hold secrets, which reach it by the lookup only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EstateSettings:
    """What an estate's ``ansible.cfg`` may say, and the names of the settings that were left out."""

    defaults: Mapping[str, str]
    ignored: tuple[str, ...] = ()
    path: Path | None = None


def find_settings(playbook: Path, root: Path) -> EstateSettings:
    """The ``ansible.cfg`` nearest to a playbook, no higher than the estate's root; empty where there is none.

    Raises ``InputError`` with file and line when it cannot be read.
    """
    folders = [one for one in playbook.parents if one.is_relative_to(root)] or [root]
    for folder in folders:
        path = folder / "ansible.cfg"
        if path.is_file():
            return read_settings(path, root)
    return EstateSettings(defaults={})


def read_settings(path: Path, root: Path) -> EstateSettings:
    """Read one ``ansible.cfg``. Raises ``InputError``."""
    parser = configparser.ConfigParser(inline_comment_prefixes=(";",), interpolation=None, strict=False)
    try:
        parser.read_string(path.read_text(), source=_shown(path, root))
    except (configparser.Error, OSError, UnicodeDecodeError) as error:
        line = getattr(error, "lineno", None) or next((one for one, _ in getattr(error, "errors", [])), 1)
        position = Position(_shown(path, root), line, 1)
        summary = str(error).splitlines()[0]
        wrong = Diagnostic(summary=summary, position=position)
        raise InputError("An ansible.cfg cannot be read.", diagnostics=[wrong]) from error
    kept: dict[str, str] = {}
    ignored: list[str] = []
    for section in parser.sections():
        for key, value in parser.items(section):
            if section == "defaults" and key in FOLDERS:
                kept[key] = os.pathsep.join(_absolute(part, path.parent) for part in value.split(os.pathsep) if part)
            elif section == "defaults" and key in FILES:
                kept[key] = _absolute(value, path.parent)
            elif section == "defaults" and key in VALUES:
                kept[key] = value
            else:
                ignored.append(f"[{section}] {key}")
    if "collections_paths" in kept:
        kept.setdefault("collections_path", kept.pop("collections_paths"))
    return EstateSettings(defaults=kept, ignored=tuple(ignored), path=path)


def render_settings(estate: EstateSettings, roles: Iterable[Path], collections: Iterable[Path]) -> str:
    """The ``ansible.cfg`` of a run: the estate's folders first, then those of the request, then ours."""
    defaults = dict(estate.defaults)
    for key, folders in (
        ("roles_path", roles),
        ("collections_path", collections),
        ("lookup_plugins", [PLUGINS / "lookup"]),
    ):
        parts = [*defaults.get(key, "").split(os.pathsep), *map(str, folders)]
        joined = os.pathsep.join(part for part in parts if part)
        if joined:
            defaults[key] = joined
    lines = [f"{key} = {value}".replace("\n", "\n  ") for key, value in sorted(defaults.items())]
    return "\n".join(["[defaults]", *lines, ""])


def kept_environment(own: Mapping[str, str]) -> dict[str, str]:
    """What of our environment a child of ours may see, with our own commands first on its path."""
    kept = {name: own[name] for name in _KEPT if name in own}
    kept["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
    return kept | {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "PYTHONUNBUFFERED": "1"}


def environment(own: Mapping[str, str], *, config: Path, memory: Path) -> dict[str, str]:
    """The environment of every Ansible command of ours. ``memory`` is a private folder, in memory where there is one:
    Ansible writes rendered templates there before it sends them."""
    return kept_environment(own) | {
        "ANSIBLE_CONFIG": str(config),
        "ANSIBLE_HOME": str(memory / "home"),
        "ANSIBLE_LOCAL_TEMP": str(memory / "tmp"),
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        "ANSIBLE_PIPELINING": "True",
        "ANSIBLE_SSH_RETRIES": "0",
        "ANSIBLE_RETRY_FILES_ENABLED": "False",
        "ANSIBLE_PYTHON_INTERPRETER": PYTHON_OF_HOSTS,
        "ANSIBLE_TRANSFORM_INVALID_GROUP_CHARS": "ignore",
        "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "True",
        "ANSIBLE_INVENTORY_UNPARSED_WARNING": "False",
        "ANSIBLE_LOCALHOST_WARNING": "False",
        "ANSIBLE_DEPRECATION_WARNINGS": "False",
        "ANSIBLE_NOCOLOR": "True",
        "ANSIBLE_NOCOWS": "True",
    }


def _absolute(path: str, folder: Path) -> str:
    expanded = path.strip().replace("{{CWD}}", str(folder)).replace("{{ANSIBLE_HOME}}", "~/.ansible")
    return os.path.normpath(folder / Path(expanded).expanduser())


def _shown(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
