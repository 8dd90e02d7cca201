"""A real browser without a window: what it makes of a page, what it asked for, and whether the page fits."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape, unescape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    # what the browser itself would like to know of its maker is not asked
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


@dataclass(frozen=True, slots=True)
class Opened:
    """The document after the browser has read it, and what it said on its console."""

    dom: str
    console: str


def open_page(address: str, width: int = 1280) -> Opened:
    """Open a page as a person does."""
    with tempfile.TemporaryDirectory(prefix="browser-") as profile:
        argv = [BROWSER, *QUIET, f"--user-data-dir={profile}", f"--window-size={width},900", "--enable-logging=stderr"]
        done = subprocess.run(
            [*argv, "--dump-dom", address],
            check=True,
            capture_output=True,
            text=True,
            timeout=120,
        )
    return Opened(dom=done.stdout, console="\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line))


@contextmanager
def served(page: str) -> Iterator[tuple[str, list[str]]]:
    """A page on this machine's own loopback: its address, and every path that somebody asks for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = page.encode() if self.path == "/report.html" else b""
            self.send_response(200 if body else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/report.html", asked
        finally:
            server.shutdown()
            thread.join()


def measure(page: str, width: int, folder: Path) -> dict[str, object]:
    """How wide a page becomes in a frame of that many pixels, and how it is drawn there.

    The page may not run scripts, so another one around it looks: it holds the same page without its policy.
    """
    inner = re.sub(r"<meta http-equiv=.*?>", "", page, count=1)
    asked = (
        "const d=f.contentDocument, e=d.documentElement;"
        "const wide=[...d.querySelectorAll('body *')].filter(x=>x.getBoundingClientRect().right>e.clientWidth+1"
        "&&!x.closest('pre,svg')).map(x=>x.tagName+'.'+x.className).slice(0,9);"
        "const o={scroll:e.scrollWidth,client:e.clientWidth,wide,font:getComputedStyle(d.body).fontFamily,"
        "mark:getComputedStyle(d.querySelector('.mark')).borderRadius};"
        "document.body.insertAdjacentHTML('beforeend','<output>'+JSON.stringify(o).replace(/</g,'&lt;')+'</output>');"
    )
    frame = f'<iframe width="{width}" height="900" style="border:0" srcdoc="{escape(inner)}"></iframe>'
    listen = f"const f=document.querySelector('iframe');f.addEventListener('load',()=>{{{asked}}});"
    around = folder / f"around-{width}.html"
    around.write_text(f"<!DOCTYPE html><body>{frame}<script>{listen}</script></body>")
    found = re.findall(r"<output>(.*?)</output>", open_page(around.as_uri(), width=1600).dom, re.DOTALL)
    result: dict[str, object] = json.loads(unescape(found[-1]))
    return result
