"""The desk where a running Ansible rings: it hands out secrets that the run may open, one at a time, and takes events.
One unix socket in a private folder, one token per run; nothing is written to disk."""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import queue
import secrets
import selectors
import socket
import struct
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Self

from ismgr_automation.core.errors import IsmgrError
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines.ansible.redaction import Cleaner
from ismgr_automation.ports.secrets import SecretStore

Message = Mapping[str, object]
"""One event of the callback plug-in: parsed JSON, secrets taken out of all of its text."""

_CHUNK_BYTES = 65536
_LOOK_SECONDS = 2.0
_PEER = struct.Struct("3i")


class Desk:
    """Serves while the ``with`` lasts. ``on_event`` is called in a thread of the desk's own, one event after the other,
    so that a slow watcher never slows Ansible down; an error that it raises is raised again at the end of the ``with``.
    """

    def __init__(
        self,
        folder: Path,
        store: SecretStore,
        allowed: Collection[SecretRef],
        cleaner: Cleaner,
        on_event: Callable[[Message], None],
    ) -> None:
        self.place = folder / "desk"
        self.token = secrets.token_hex(16)
        self._store, self._cleaner, self._on_event = store, cleaner, on_event
        self._allowed = {str(ref): ref for ref in allowed}
        self._events: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._problems: list[BaseException] = []
        self._selector = selectors.DefaultSelector()
        self._buffers: dict[socket.socket, bytes] = {}
        self._stop = threading.Event()
        self._door = socket.socket(socket.AF_UNIX)
        self._threads = (
            threading.Thread(target=self._serve, name="ismgr-desk"),
            threading.Thread(target=self._tell, name="ismgr-desk-events"),
        )

    def __enter__(self) -> Self:
        self._door.bind(str(self.place))
        self.place.chmod(0o600)
        self._door.listen(256)
        self._selector.register(self._door, selectors.EVENT_READ)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._stop.set()
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as bell:
            # so that the thread need not look at the clock
            bell.connect(str(self.place))
        for thread in self._threads:
            thread.join()
        for line in (*self._buffers, self._door):
            line.close()
        self._selector.close()
        self.place.unlink(missing_ok=True)
        if self._problems and kind is None:
            raise self._problems[0]

    @property
    def environment(self) -> Mapping[str, str]:
        """What the plug-ins must find in their environment; the token is no secret of the estate."""
        return {"ISMGR_DESK": str(self.place), "ISMGR_TOKEN": self.token}

    def _serve(self) -> None:
        try:
            while True:
                # what lies in the sockets when the run has ended is still read
                ready = self._selector.select(0 if self._stop.is_set() else _LOOK_SECONDS)
                if not ready and self._stop.is_set():
                    return
                for key, _ in ready:
                    if key.fileobj is self._door:
                        self._greet()
                    elif isinstance(key.fileobj, socket.socket):
                        self._read(key.fileobj)
        except BaseException as error:  # noqa: BLE001  it is raised again in the caller's thread
            self._problems.append(error)
        finally:
            self._events.put(None)

    def _tell(self) -> None:
        while (event := self._events.get()) is not None:
            if not self._problems:
                try:
                    self._on_event(event)
                except BaseException as error:  # noqa: BLE001  it is raised again in the caller's thread
                    self._problems.append(error)

    def _greet(self) -> None:
        line, _ = self._door.accept()
        _, user, _ = _PEER.unpack(line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        if user != os.geteuid():
            line.close()
            return
        self._buffers[line] = b""
        self._selector.register(line, selectors.EVENT_READ)

    def _read(self, line: socket.socket) -> None:
        try:
            data = line.recv(_CHUNK_BYTES)
        except ConnectionError:
            data = b""
        *whole, self._buffers[line] = (self._buffers[line] + data).split(b"\n")
        for one in whole:
            self._take(line, one)
        if not data:
            self._selector.unregister(line)
            del self._buffers[line]
            line.close()

    def _take(self, line: socket.socket, text: bytes) -> None:
        message = json.loads(text)
        if not hmac.compare_digest(str(message.pop("token", "")), self.token):
            return
        if "secret" in message:
            # the asker may have been stopped meanwhile
            with contextlib.suppress(OSError):
                line.sendall(json.dumps(self._open(str(message["secret"]))).encode() + b"\n")
            return
        self._events.put(self._cleaner.clean_object(message))

    def _open(self, text: str) -> Mapping[str, str]:
        ref = self._allowed.get(text)
        if ref is None:
            return {"error": f"secret {text}: this run may not open it; name it in the variables of its host group"}
        try:
            return {"value": self._cleaner.learn(self._store.open(ref)).reveal()}
        except IsmgrError as error:
            return {"error": str(error)}
