"""Keys of YAML files that ``ansible-vault`` encrypted, opened in memory by Ansible's own library. Nothing of them is
written, and no text of an error quotes a file.

In memory and not by the command ``ansible-vault view``: no other process then has the password or the content, and a
reference costs milliseconds instead of half a second. Loading the library costs 0.2 s once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ismgr_automation.core.diagnostic import did_you_mean
from ismgr_automation.core.errors import EngineFailed, InputError
from ismgr_automation.core.secret import Secret, SecretRef
from ismgr_automation.engines.secrets.files import box
from ismgr_automation.engines.secrets.kinds import LARGEST_BYTES

ENGINE = "ansible-vault"
_HEADER = b"$ANSIBLE_VAULT;"
_TAG = "!vault"
_EXCERPT = 60
"""Of a wrong path so much is compared with others."""


class _Opener:
    """Ansible's decryption with the passwords of one backend. Its errors are told in our words: theirs may quote."""

    def __init__(self, ref: SecretRef, password: Secret, others: Mapping[str, Secret]) -> None:
        try:
            from ansible.errors import AnsibleError  # type: ignore[import-untyped]
            from ansible.parsing.vault import (  # type: ignore[import-untyped]
                AnsibleVaultFormatError,
                VaultLib,
                VaultSecret,
            )
        except ImportError:
            raise
        except Exception as error:  # noqa: BLE001  whatever it is, it is told
            # it reads ansible.cfg while it is loaded
            raise EngineFailed(
                f"Secret {ref}: Ansible cannot be loaded: {type(error).__name__}.",
                engine=ENGINE,
                subject=str(ref),
                next_step="Look for a broken ansible.cfg in this folder, in the home folder, and in ANSIBLE_CONFIG.",
            ) from None
        self._ref = ref
        self._malformed: type[Exception] = AnsibleVaultFormatError
        self._failed: type[Exception] = AnsibleError
        # a password's own id goes first, and the others are tried as well: labels are not authenticated
        boxes = {**others, "default": password}
        self._library: Any = VaultLib([(label, VaultSecret(one.reveal().encode())) for label, one in boxes.items()])

    def text(self, sealed: bytes, place: str) -> str:
        try:
            opened: bytes = self._library.decrypt(sealed)
            return opened.decode()
        except UnicodeDecodeError:
            raise InputError(f"Secret {self._ref}: {place} is not UTF-8 text once it is decrypted.") from None
        except self._malformed:
            raise _damaged(self._ref, place) from None
        except self._failed:
            label = sealed.split(b"\n", 1)[0].decode(errors="replace").split(";")
            named = f" (its vault id is {label[3].strip()!r})" if len(label) > 3 else ""  # noqa: PLR2004  four fields
            raise InputError(
                f"Secret {self._ref}: no password of this backend opens {place}{named}; or it was damaged.",
                next_step="Look at 'password' and 'passwords' of the backend in the Estate document.",
            ) from None


def open_key(ref: SecretRef, files: Sequence[Path], password: Secret, others: Mapping[str, Secret]) -> Secret:
    """The value of a dotted key in the last of the files that has it. A whole key that has dots in it wins.

    Raises ``InputError`` for a wrong password, a damaged file, a key that is not there or that holds no text.
    """
    opener = _Opener(ref, password, others)
    documents = {path: _document(ref, path, opener) for path in files}
    for path, document in reversed(documents.items()):
        found = _find(document, ref.path)
        if found is not None:
            return box(ref, _value(ref, found, path, opener), f"the key {ref.path} of {path}")
    known = sorted({name for document in documents.values() for name in _keys(document, "")})
    near = did_you_mean(ref.path[:_EXCERPT], known)
    hint = f" Did you mean {near!r}?" if near else ""
    listed = ", ".join(str(path) for path in files)
    raise InputError(
        f"Secret {ref}: there is no key {ref.path!r} in {listed}.{hint}",
        next_step=f"Write it there with `ansible-vault edit {files[-1]}`.",
    )


def _document(ref: SecretRef, path: Path, opener: _Opener) -> yaml.Node | None:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise InputError(
            f"Secret {ref}: cannot read {path}: {error.strerror or error}.",
            next_step="Commit the file, or correct 'files' of the backend in the Estate document.",
        ) from None
    if len(content) > LARGEST_BYTES:
        raise InputError(f"Secret {ref}: {path} is larger than {LARGEST_BYTES} bytes.")
    whole = content.startswith(_HEADER)
    try:
        text = opener.text(content, str(path)) if whole else content.decode()
        node: yaml.Node | None = yaml.compose(text, Loader=yaml.CSafeLoader)
    except UnicodeDecodeError:
        raise _damaged(ref, str(path)) from None
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark is not None else ""
        raise InputError(f"Secret {ref}: {path}{line} is not YAML{' once it is decrypted' * whole}.") from None
    except (yaml.YAMLError, RecursionError, ValueError):
        raise InputError(f"Secret {ref}: {path} is not YAML{' once it is decrypted' * whole}.") from None
    if node is not None and not isinstance(node, yaml.MappingNode):
        raise InputError(f"Secret {ref}: {path} does not hold keys and values.")
    if not whole and not _has_sealed(node):
        raise InputError(
            f"Secret {ref}: {path} is not encrypted, neither as a whole nor any value in it.",
            next_step=f"Run `ansible-vault encrypt {path}`, and think about whether it has leaked.",
        )
    return node


def _find(node: yaml.Node | None, path: str) -> yaml.Node | None:
    """The node at a dotted path; the longest key that fits goes first."""
    if not isinstance(node, yaml.MappingNode):
        return None
    inside = _entries(node)
    if path in inside:
        return inside[path]
    parts = path.split(".")
    for count in range(len(parts) - 1, 0, -1):
        child = inside.get(".".join(parts[:count]))
        found = _find(child, ".".join(parts[count:])) if child is not None else None
        if found is not None:
            return found
    return None


def _value(ref: SecretRef, node: yaml.Node, path: Path, opener: _Opener) -> str:
    """A scalar as it is written: a password 0123 is four digits, and ``yes`` three letters."""
    match node:
        case yaml.ScalarNode(tag=str(tag), value=str(text)):
            place = f"the key {ref.path} of {path}"
            return opener.text(_plain(text), place) if tag == _TAG else text
        case yaml.MappingNode():
            raise InputError(
                f"Secret {ref}: the key {ref.path} of {path} holds other keys.",
                next_step=f"Name one below it: {ref}.KEY.",
            )
        case yaml.SequenceNode():
            raise InputError(f"Secret {ref}: the key {ref.path} of {path} holds a list; a secret is one text.")
        case _:
            raise InputError(f"Secret {ref}: the key {ref.path} of {path} holds no text.")


def _plain(text: str) -> bytes:
    """A sealed value without the indentation that a person gave it."""
    return b"\n".join(line.strip().encode() for line in text.strip().splitlines()) + b"\n"


def _entries(node: yaml.MappingNode) -> Mapping[str, yaml.Node]:
    """Of a key that is there twice the last counts, as for Ansible."""
    return {key.value: value for key, value in node.value if isinstance(key, yaml.ScalarNode)}


def _keys(node: yaml.Node | None, prefix: str) -> Iterator[str]:
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in _entries(node).items():
        if isinstance(value, yaml.ScalarNode):
            yield f"{prefix}{key}"
        elif prefix.count(".") < _DEEP:
            yield from _keys(value, f"{prefix}{key}.")


_DEEP = 8
"""Keys further down are not suggested: an anchor may hold itself."""


def _has_sealed(node: yaml.Node | None) -> bool:
    todo, seen = [node], set()
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        if one.tag == _TAG:
            return True
        if isinstance(one, yaml.MappingNode):
            todo += [value for _, value in one.value]
        elif isinstance(one, yaml.SequenceNode):
            todo += one.value
    return False


def _damaged(ref: SecretRef, place: str) -> InputError:
    return InputError(
        f"Secret {ref}: {place} was damaged: it is not what ansible-vault writes.",
        next_step="Take it from Git again.",
    )
