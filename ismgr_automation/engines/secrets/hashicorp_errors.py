"""What a Vault server and the way to it can answer, as errors of our family. No error quotes an answer's body or keeps
the library's exception: those hold tokens and values."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from ismgr_automation.core.errors import (
    CredentialRejected,
    EngineError,
    EngineFailed,
    EngineTimedOut,
    InputError,
    IsmgrError,
    Throttled,
    Unreachable,
)
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines.secrets.kinds import HashicorpVault

ENGINE = "vault"
_NAMED = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What an error speaks about."""

    ref: SecretRef
    name: str
    address: str

    def __str__(self) -> str:
        return f"Secret {self.ref}: the Vault server {self.address}"


def missing_path(subject: Subject, backend: HashicorpVault, path: str) -> InputError:
    """Nothing there, or nothing any more."""
    where = f" of namespace {backend.namespace!r}" if backend.namespace else ""
    return InputError(
        f"{subject} has no secret at {path!r} in the engine {backend.mount!r}{where}, or its last version was deleted.",
        next_step=f"Look with `vault kv metadata get -mount={backend.mount} {path}`; the engine must be of version 2.",
    )


def missing_field(subject: Subject, field: str, near: str) -> InputError:
    """The secret has other fields. They are not listed: some people put values into names."""
    hint = f" Did you mean {near!r}?" if near else ""
    return InputError(
        f"{subject} has a secret there, and it has no field {field!r}.{hint}", next_step="Correct what follows the #."
    )


def garbled(subject: Subject, status: int = 0) -> EngineError:
    """An answer that is none of Vault's: a proxy, another service, or a redirect."""
    said = f" (HTTP {status})" if status else ""
    return EngineFailed(
        f"{subject} answered with something that Vault does not say{said}.",
        engine=ENGINE,
        subject=str(subject.ref),
        next_step="Look at 'address': it must be the server itself, of the active node; redirects are not followed.",
    )


@contextmanager
def translated(subject: Subject, backend: HashicorpVault, *, login: bool = False) -> Iterator[None]:
    """Errors of the library and of the way, as ours. Theirs are dropped: they carry the request with its token."""
    import hvac.exceptions  # type: ignore[import-untyped]
    import requests

    try:
        yield
    except hvac.exceptions.VaultError as error:
        raise _said(error, subject, backend, login=login) from None
    except requests.exceptions.RequestException as error:
        raise _on_the_way(error, subject, backend) from None
    except OSError as error:
        # a CA file that is not there
        raise InputError(
            f"{subject} cannot be asked: {error.strerror or type(error).__name__}: {backend.ca}.",
            next_step="Look at 'ca' of the backend in the Estate document.",
        ) from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise garbled(subject) from None


def _said(error: Exception, subject: Subject, backend: HashicorpVault, *, login: bool) -> IsmgrError:  # noqa: PLR0911  a table
    import hvac.exceptions as said

    about: Mapping[str, str] = {"engine": ENGINE, "subject": str(subject.ref)}
    words = ", ".join(str(one) for one in getattr(error, "errors", None) or ())[:_NAMED]
    match error:
        case said.InvalidRequest() | said.Forbidden() | said.Unauthorized() if login:
            return CredentialRejected(
                f"{subject} does not accept the AppRole {backend.role_id!r}.",
                next_step=f"Look at role_id and secret_id, and whether auth/{backend.approle} is that role's place.",
                **about,
            )
        case said.Forbidden() | said.Unauthorized():
            return CredentialRejected(
                f"{subject} does not let this token read it: it is wrong, its time is over, or its policy says no.",
                next_step=f"Allow `read` on {backend.mount}/data/PATH and {backend.mount}/metadata/PATH.",
                **about,
            )
        case said.InvalidPath():
            return missing_path(subject, backend, subject.ref.path.rpartition("#")[0])
        case said.RateLimitExceeded():
            return Throttled(f"{subject} asks us to come back later (HTTP 429).", **about)
        case said.VaultNotInitialized():
            return EngineFailed(f"{subject} is not initialised.", next_step="Initialise it.", **about)
        case said.VaultDown() if "sealed" in words.lower():
            return EngineFailed(
                f"{subject} is sealed.", next_step="Unseal it, or name the address of a node that is not.", **about
            )
        case said.VaultDown():
            return Throttled(f"{subject} is not ready (HTTP 503).", next_step="Try again in a while.", **about)
        case said.UnexpectedError() if not words:
            return garbled(subject)
        case _:
            return EngineFailed(f"{subject} failed to answer.", detail=words or type(error).__name__, **about)


def _on_the_way(error: Exception, subject: Subject, backend: HashicorpVault) -> EngineError:  # noqa: PLR0911
    """A table of the ways in which a connection fails."""
    import requests.exceptions as way

    about: Mapping[str, str] = {"engine": ENGINE, "subject": str(subject.ref)}
    causes = tuple(_causes(error))
    match error:
        case way.ConnectTimeout():
            return Unreachable(f"{subject} does not answer.", cause="timeout", **about)
        case way.Timeout():
            seconds = f"{backend.deadline.total_seconds():g} s"
            return EngineTimedOut(f"{subject} did not answer within {seconds}.", **about)
        case way.SSLError():
            return Unreachable(
                f"{subject} shows a certificate that is not trusted here.",
                cause="host-key",
                next_step="Name the authority that signed it as 'ca' of the backend.",
                **about,
            )
        case way.ConnectionError() if any(isinstance(one, socket.gaierror) for one in causes):
            return Unreachable(f"{subject}: its name does not resolve.", cause="dns", **about)
        case way.ConnectionError() if any(isinstance(one, ssl.SSLError) for one in causes):
            return Unreachable(f"{subject} does not speak TLS as we do.", cause="host-key", **about)
        case way.ConnectionError() if any(isinstance(one, ConnectionError) for one in causes):
            return Unreachable(f"{subject} refuses the connection, or closed it.", cause="refused", **about)
        case way.ConnectionError():
            return Unreachable(f"{subject} cannot be reached.", cause="timeout", **about)
        case _:
            return garbled(subject)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exceptions below one, those that libraries keep as an argument or reason included."""
    todo: list[object] = [error]
    seen: set[int] = set()
    while todo:
        one = todo.pop()
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        todo += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]
