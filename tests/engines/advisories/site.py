"""A small web site on a loopback port, whose answers a test sets and may change while it runs; and the samples."""

from __future__ import annotations

import contextlib
import shutil
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO

from ismgr_automation.ports.advisories import Wanted

CASES = Path(__file__).parents[2] / "cases" / "advisories"
START = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)


@dataclass(kw_only=True)
class Clock:
    """What time it is: as late as a test says."""

    at: datetime = START

    def __call__(self) -> datetime:
        return self.at

    def forward(self, **more: float) -> None:
        self.at += timedelta(**more)


@dataclass(kw_only=True)
class Page:
    """One answer. ``promised`` is the length in the header, where it is not that of the body."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    promised: int | None = None
    chunked: bool = False
    drip: threading.Event | None = None
    """Sends single bytes without end, until it is set."""
    silent: threading.Event | None = None
    """Sends nothing after the body and does not hang up, until it is set."""


@dataclass(kw_only=True)
class Site:
    """The pages by path, and the headers of each request that came."""

    port: int
    scheme: str = "http"
    pages: dict[str, Page] = field(default_factory=dict)
    asked: list[dict[str, str]] = field(default_factory=list)

    def url(self, path: str) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}{path}"


@contextlib.contextmanager
def serve(context: ssl.SSLContext | None = None) -> Iterator[Site]:
    """A running site, over TLS with a context; gone afterwards."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append({key.lower(): value for key, value in self.headers.items()})
            page = site.pages.get(self.path, Page(status=404))
            if page.headers.get("ETag") and self.headers.get("If-None-Match") == page.headers["ETag"]:
                page = Page(status=304)
            self.send_response(page.status)
            for name, value in page.headers.items():
                self.send_header(name, value)
            length = len(page.body) if page.promised is None else page.promised
            if page.chunked:
                self.send_header("Transfer-Encoding", "chunked")
            elif page.drip is None:
                self.send_header("Content-Length", str(length))
            self.end_headers()
            with contextlib.suppress(OSError):
                _send(self.wfile, page)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    site = Site(port=server.server_port, scheme="http" if context is None else "https")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield site
    finally:
        for gate in [gate for page in site.pages.values() for gate in (page.drip, page.silent) if gate is not None]:
            gate.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _send(file: BinaryIO, page: Page) -> None:
    file.write(page.body)
    if page.silent is not None:
        page.silent.wait(10)
    while page.drip is not None and not page.drip.wait(0.01):
        file.write(b" ")


def wanted(form: str, source: object) -> Wanted:
    return Wanted(format=form, source=str(source))


def samples(into: Path) -> list[Wanted]:
    """Copies of all samples that are good, one source of each format."""
    shutil.copytree(CASES, into, dirs_exist_ok=True)
    files = {"debian": "debian.json", "osv": "osv", "kev": "kev.json", "epss": "epss.csv"}
    return [wanted(form, into / name) for form, name in files.items()]
