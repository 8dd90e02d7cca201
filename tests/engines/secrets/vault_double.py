"""A double of a Vault server, for tests only: the key-value engine (version 2), tokens and AppRoles as the real one
answers over HTTP, so far as our backend asks. test_hashicorp.py runs the same tests against a real server."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any

ROOT = "root-of-the-double"
Answer = tuple[int, Mapping[str, Any]]


@dataclass(slots=True, kw_only=True)
class Token:
    """What a token may read (beginnings of paths: ``secret/data/app``), and when it ends."""

    reads: tuple[str, ...] = ()
    seconds: float = 0.0
    ends: float | None = None
    renewable: bool = False

    @property
    def lives(self) -> bool:
        return self.ends is None or time.monotonic() < self.ends


@dataclass(slots=True)
class VaultDouble:
    """What the server holds. ``asked`` has every request as method and path."""

    address: str = ""
    secrets: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=lambda: {ROOT: Token(reads=("",))})
    roles: dict[str, tuple[str, Token]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    namespace: str = ""
    always: tuple[int, Mapping[str, str], bytes] | None = None
    """When set: what every question gets."""
    slow: threading.Event | None = None
    """When set: answers wait for it."""
    numbers: Iterator[int] = field(default_factory=count)

    def put(self, path: str, **fields: Any) -> None:
        """A new version of a secret."""
        made = datetime.now(UTC).isoformat()
        versions = self.secrets.setdefault(path, [])
        versions.append({"data": fields, "created_time": made, "deletion_time": "", "destroyed": False})

    def delete(self, path: str) -> None:
        """The last version, as ``vault kv delete`` does."""
        self.secrets[path][-1]["deletion_time"] = datetime.now(UTC).isoformat()

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: Mapping[str, Any]) -> Answer:  # noqa: PLR0911
        """What the real server would say."""
        if headers.get("X-Vault-Namespace", "") != self.namespace:
            return _no(404, "no handler for route. route entry not found.")
        if path.startswith("auth/approle/login"):
            return self._login(body)
        token = self.tokens.get(headers.get("X-Vault-Token", ""))
        if token is None or not token.lives:
            return _no(403, "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n")
        if path == "auth/token/lookup-self":
            left = 0 if token.ends is None else max(0, token.ends - time.monotonic())
            return 200, {"data": {"ttl": left, "renewable": token.renewable}}
        if path == "auth/token/renew-self":
            if not token.renewable:
                return _no(400, "lease is not renewable")
            token.ends = time.monotonic() + token.seconds
            return 200, {"auth": {"client_token": "-", "lease_duration": token.seconds, "renewable": True}}
        if not any(path.startswith(one) for one in token.reads):
            return _no(403, "1 error occurred:\n\t* permission denied\n\n")
        kind, _, name = path.removeprefix("secret/").partition("/")
        if not path.startswith("secret/") or method != "GET":
            return _no(404, f'no handler for route "{path}". route entry not found.')
        return self._kv(kind, name)

    def _login(self, body: Mapping[str, Any]) -> Answer:
        secret_id, token = self.roles.get(str(body.get("role_id")), ("", Token()))
        if not secret_id or body.get("secret_id") != secret_id:
            return _no(400, "invalid role or secret ID")
        name = f"approle-token-{next(self.numbers)}"
        ends = time.monotonic() + token.seconds if token.seconds else None
        self.tokens[name] = Token(reads=token.reads, seconds=token.seconds, ends=ends, renewable=token.renewable)
        auth = {"client_token": name, "lease_duration": token.seconds, "renewable": token.renewable}
        return 200, {"auth": auth}

    def _kv(self, kind: str, name: str) -> Answer:
        versions = self.secrets.get(name)
        if not versions:
            return _no(404)
        last = versions[-1]
        about = {key: value for key, value in last.items() if key != "data"}
        if kind == "metadata":
            numbered = {
                str(number): {key: value for key, value in one.items() if key != "data"}
                for number, one in enumerate(versions, 1)
            }
            return 200, {"data": {"current_version": len(versions), "versions": numbered}}
        gone = bool(last["deletion_time"])
        data = {"data": None if gone else last["data"], "metadata": {**about, "version": len(versions)}}
        return 404 if gone else 200, {"data": data}


def _no(status: int, *errors: str) -> Answer:
    return status, {"errors": list(errors)}


@contextmanager
def serving(double: VaultDouble, certificate: ssl.SSLContext | None = None) -> Iterator[VaultDouble]:
    """The double on a free port of this machine, over TLS with a certificate."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            path = self.path.removeprefix("/v1/").partition("?")[0]
            double.asked.append(f"{self.command} {path}")
            if double.slow is not None:
                double.slow.wait(20)
            if double.always is not None:
                self._say(*double.always)
                return
            status, said = double.answer(self.command, path, self.headers, body)
            self._say(status, {"Content-Type": "application/json"}, json.dumps(said).encode())

        do_POST = do_PUT = do_GET  # noqa: N815  the library's names

        def _say(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(ConnectionError):  # who asked has given up
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing: tests read what was asked."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if certificate is not None:
        server.socket = certificate.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    double.address = f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_address[1]}"
    try:
        yield double
    finally:
        if double.slow is not None:
            double.slow.set()
        server.shutdown()
        server.server_close()
        thread.join()
