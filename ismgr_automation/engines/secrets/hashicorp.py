"""Fields of secrets on a HashiCorp Vault or OpenBao server, key-value engine version 2. Reads only; what is kept is the
token of one login, in memory. No address is contacted but the one that the backend names: redirects are not followed,
because the token would go with them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ismgr_automation.core.diagnostic import did_you_mean
from ismgr_automation.core.errors import CredentialRejected, EngineError, InputError
from ismgr_automation.core.secret import Secret, SecretRef
from ismgr_automation.engines.secrets.files import box
from ismgr_automation.engines.secrets.hashicorp_errors import (
    Subject,
    garbled,
    missing_field,
    missing_path,
    translated,
)
from ismgr_automation.engines.secrets.kinds import HashicorpVault

Open = Callable[[SecretRef], Secret]

_RENEW_BELOW = 1 / 3
"""A login with less than this part of its time left is renewed before it is used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Login:
    """A token, and when to renew it and when it ends (``time.monotonic``); None: it does not end, as far as we know."""

    token: str
    renew_at: float | None = None
    ends_at: float | None = None
    renewable: bool = False

    def __repr__(self) -> str:
        return "<login>"


class Server:
    """One backend: logs in when it is first asked, for all threads; each answer has a connection of its own."""

    def __init__(
        self, name: str, backend: HashicorpVault, open_secret: Open, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name, self._backend, self._open, self._clock = name, backend, open_secret, clock
        self._login: _Login | None = None
        self._lock = threading.Lock()

    def open(self, ref: SecretRef) -> Secret:
        """The field. Raises ``InputError`` when it is not there, and every kind of ``EngineError``."""
        path, field = self._parts(ref)
        data = self._read(ref, path).get("data")
        if not isinstance(data, dict):
            raise missing_path(self._subject(ref), self._backend, path)
        value = data.get(field)
        if value is None:
            raise missing_field(self._subject(ref), field, did_you_mean(field, data))
        if isinstance(value, dict | list):
            raise InputError(f"Secret {ref}: the field {field!r} holds a {type(value).__name__}, and no text.")
        text = value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
        return box(ref, text, f"the field {field!r}")

    def version(self, ref: SecretRef) -> str:
        """``v3 of`` and when that version was made: a path that was deleted and made again counts from 1 again.

        Metadata is asked first: it does not need the right to read the secret. Raises as ``open``.
        """
        path, field = self._parts(ref)
        try:
            found = self._metadata(ref, path)
        except CredentialRejected:
            found = None
        if found is None:
            answer = self._read(ref, path)
            data, found = answer.get("data"), answer.get("metadata")
            if isinstance(data, dict) and field not in data:
                raise missing_field(self._subject(ref), field, did_you_mean(field, data))
        if not isinstance(found, dict):
            raise garbled(self._subject(ref))
        return f"v{found.get('version')} of {found.get('created_time')}"

    def _read(self, ref: SecretRef, path: str) -> dict[str, Any]:
        def ask(client: Any) -> object:
            return client.secrets.kv.v2.read_secret_version(
                path, mount_point=self._backend.mount, raise_on_deleted_version=True
            )

        return self._ask(ref, ask)

    def _metadata(self, ref: SecretRef, path: str) -> dict[str, Any] | None:
        """Of the current version: its number and time. None when it was deleted, or will be."""

        def ask(client: Any) -> object:
            return client.secrets.kv.v2.read_secret_metadata(path, mount_point=self._backend.mount)

        data = self._ask(ref, ask)
        number = data.get("current_version")
        current = (data.get("versions") or {}).get(str(number))
        if not isinstance(current, dict) or current.get("deletion_time") or current.get("destroyed"):
            return None
        return {"version": number, "created_time": current.get("created_time")}

    def _ask(self, ref: SecretRef, ask: Callable[[Any], object]) -> dict[str, Any]:
        """One question; when the token of an AppRole was taken away meanwhile, once more with a new one."""
        login = self._logged_in(ref)
        try:
            return self._answer(ref, login.token, ask)
        except CredentialRejected:
            if self._backend.token is not None or self._lives(ref, login):
                raise
        self._forget(login)
        return self._answer(ref, self._logged_in(ref).token, ask)

    def _answer(self, ref: SecretRef, token: str, ask: Callable[[Any], object], *, key: str = "data") -> dict[str, Any]:
        subject = self._subject(ref)
        with translated(subject, self._backend), self._client(token) as client:
            answer = ask(client)
        found = answer.get(key) if isinstance(answer, dict) else None
        if not isinstance(found, dict):
            raise garbled(subject, getattr(answer, "status_code", 0))
        return found

    def _logged_in(self, ref: SecretRef) -> _Login:
        with self._lock:
            now = self._clock()
            if self._login is not None and self._login.renew_at is not None and now >= self._login.renew_at:
                self._login = self._renewed(ref, self._login, now)
            if self._login is None:
                self._login = self._new_login(ref, now)
            return self._login

    def _lives(self, ref: SecretRef, login: _Login) -> bool:
        """Whether a token that may not do something is a good one all the same: then it is its policy that says no."""
        try:
            self._answer(ref, login.token, lambda client: client.auth.token.lookup_self())
        except CredentialRejected:
            return False
        return True

    def _forget(self, login: _Login) -> None:
        with self._lock:
            # another thread may have a new one already
            if self._login is login:
                self._login = None

    def _new_login(self, ref: SecretRef, now: float) -> _Login:
        backend = self._backend
        if backend.token is not None:
            token = self._open(backend.token).reveal().strip()
            return self._with_times(ref, token, now)
        if backend.secret_id is None:
            raise InputError(f"Secret {ref}: the backend {self._name!r} has no way to log in.")
        secret_id = self._open(backend.secret_id).reveal().strip()
        with translated(self._subject(ref), backend, login=True), self._client("") as client:
            answer = client.auth.approle.login(backend.role_id, secret_id, mount_point=backend.approle)
        return _login(answer, now, self._subject(ref))

    def _with_times(self, ref: SecretRef, token: str, now: float) -> _Login:
        """How long a given token lives, if it may ask that about itself; a bad one shows at the first reading."""
        try:
            data = self._answer(ref, token, lambda client: client.auth.token.lookup_self())
        except CredentialRejected:
            return _Login(token=token)
        return _timed(token, data.get("ttl"), now, renewable=bool(data.get("renewable")))

    def _renewed(self, ref: SecretRef, login: _Login, now: float) -> _Login | None:
        """The login with new time; None when the server does not give any, or not enough to be worth it."""
        if login.renewable:
            try:
                auth = self._answer(ref, login.token, lambda client: client.auth.token.renew_self(), key="auth")
            except EngineError:
                auth = {}
            renewed = _timed(login.token, auth.get("lease_duration"), now, renewable=True)
            if renewed.ends_at is not None and renewed.ends_at > (login.ends_at or 0.0) + 1:
                return renewed
        # a given token is used to its end; an AppRole logs in again
        return _Login(token=login.token) if self._backend.token is not None else None

    @contextmanager
    def _client(self, token: str) -> Iterator[Any]:
        import hvac  # type: ignore[import-untyped]

        backend = self._backend
        seconds = backend.deadline.total_seconds()
        client = hvac.Client(
            url=backend.address.rstrip("/"),
            # an empty token: hvac would look for one of the user's own
            token=token,
            namespace=backend.namespace or None,
            verify=str(backend.ca) if backend.ca is not None else True,
            timeout=(min(5.0, seconds), seconds),
            allow_redirects=False,
        )
        try:
            yield client
        finally:
            client.adapter.close()

    def _subject(self, ref: SecretRef) -> Subject:
        return Subject(ref=ref, name=self._name, address=self._backend.address)

    def _parts(self, ref: SecretRef) -> tuple[str, str]:
        path, mark, field = ref.path.rpartition("#")
        segments = path.split("/")
        if not mark or not field or any(one in {"", ".", ".."} for one in segments):
            raise InputError(
                f"Secret {ref}: this is not a path and a field of a secret in Vault.",
                next_step=f"Write {ref.backend}:path/to/secret#field.",
            )
        return path, field


def _login(answer: object, now: float, subject: Subject) -> _Login:
    auth = answer.get("auth") if isinstance(answer, dict) else None
    if not isinstance(auth, dict) or not isinstance(auth.get("client_token"), str):
        raise garbled(subject, getattr(answer, "status_code", 0))
    token: str = auth["client_token"]
    return _timed(token, auth.get("lease_duration"), now, renewable=bool(auth.get("renewable")))


def _timed(token: str, seconds: object, now: float, *, renewable: bool) -> _Login:
    if not isinstance(seconds, int | float) or seconds <= 0:
        return _Login(token=token)
    return _Login(token=token, renew_at=now + seconds * (1 - _RENEW_BELOW), ends_at=now + seconds, renewable=renewable)
