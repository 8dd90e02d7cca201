# ruff: noqa: ARG002, ARG005 - the emulator's driver interface gives the arguments
"""A BMC for tests: a real Redfish service over TLS in this process, its machine in memory, its faults on a switch."""

from __future__ import annotations

import base64
import ipaddress
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import flask
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sushy_tools.emulator import main as emulator
from sushy_tools.emulator.resources import managers
from sushy_tools.emulator.resources.systems.base import AbstractSystemsDriver
from werkzeug.serving import make_server

USER = "admin"
PASSWORD = "correct-horse-battery"


@dataclass
class Machine:
    """The one system behind the BMC."""

    identity: str = "1"
    power: str = "Off"
    boot_device: str = "Hdd"
    bios: dict[str, Any] = field(default_factory=lambda: {"BootMode": "Uefi", "NumCores": "4", "Hyperthreading": True})
    bios_pending: dict[str, Any] = field(default_factory=dict)
    asset_tag: str = "OLD-1"
    serial: str = "SN-0001"
    bios_version: str = "2.4.1"
    addresses: tuple[str, ...] = ("192.0.2.30",)


@dataclass
class Faults:
    """What the BMC does wrong."""

    lies: bool = False
    """Says OK to every change and makes none."""
    ignores: frozenset[str] = frozenset()
    """Reset types that are accepted and have no effect (a hanging operating system ignores GracefulShutdown)."""
    busy: int = 0
    """Answers 503 so many times."""
    busy_status: int = 503
    busy_methods: frozenset[str] = frozenset({"GET", "PATCH", "POST"})
    retry_after: str = "0"
    slow: float = 0.0
    slow_methods: frozenset[str] = frozenset({"GET", "PATCH", "POST"})
    garbage: bytes | None = None
    hang_up: int = 0
    """Closes the connection without an answer so many times; a POST has had its effect by then."""
    hang_up_methods: frozenset[str] = frozenset({"GET"})
    bios_waits: bool = False
    """BIOS attributes are only taken over by the next power-on, as on real machines."""
    fail_reset: int = 0
    """Answers 500 to so many resets."""


class Driver(AbstractSystemsDriver):
    """sushy-tools' driver interface over ``Machine``."""

    def __init__(self, bmc: FakeBmc) -> None:
        self.bmc = bmc

    @property
    def driver(self):
        return "<tests>"

    @property
    def systems(self):
        return [self.bmc.machine.identity]

    def uuid(self, identity):
        return self._known(identity)

    def name(self, identity):
        return self._known(identity)

    def _known(self, identity):
        if identity != self.bmc.machine.identity:
            raise emulator.error.NotFound
        return identity

    def get_power_state(self, identity):
        return self.bmc.machine.power

    def set_power_state(self, identity, state):
        if self.bmc.faults.fail_reset:
            self.bmc.faults.fail_reset -= 1
            raise emulator.error.FishyError("The power supply does not answer.")
        if self.bmc.faults.lies or state in self.bmc.faults.ignores:
            return
        machine = self.bmc.machine
        machine.power = "Off" if state in {"ForceOff", "GracefulShutdown"} else "On"
        if machine.power == "On":
            machine.bios.update(machine.bios_pending)
            machine.bios_pending.clear()

    def get_boot_device(self, identity):
        return self.bmc.machine.boot_device

    def set_boot_device(self, identity, boot_source):
        if not self.bmc.faults.lies:
            self.bmc.machine.boot_device = boot_source

    def get_boot_mode(self, identity):
        return "UEFI"

    def get_http_boot_uri(self, identity):
        return ""

    def get_bios(self, identity):
        return self.bmc.machine.bios

    def set_bios(self, identity, attributes):
        if self.bmc.faults.lies:
            return
        target = self.bmc.machine.bios_pending if self.bmc.faults.bios_waits else self.bmc.machine.bios
        target.update(attributes)

    def get_versions(self, identity):
        return {"BiosVersion": self.bmc.machine.bios_version}

    def get_nics(self, identity):
        return [{"id": f"eth{n}", "mac": f"52:54:00:00:00:{n:02x}"} for n, _ in enumerate(self.bmc.machine.addresses)]


def _bmc() -> FakeBmc:
    return flask.request.environ["tests.bmc"]


emulator.Application.systems = property(lambda self: _bmc().driver)
emulator.Application.managers = property(
    lambda self: managers.FakeDriver(self.config, self.logger, self.systems, self.chassis)
)


@emulator.app.before_request
def _before() -> Any:
    """What the stock emulator leaves out: AssetTag."""
    request = flask.request
    if request.method == "PATCH" and "AssetTag" in (request.get_json(silent=True) or {}):
        if not _bmc().faults.lies:
            _bmc().machine.asset_tag = request.json["AssetTag"]
        return "", 204
    return None


@emulator.app.after_request
def _after(response: flask.Response) -> flask.Response:
    """What the stock emulator leaves out: serial, asset tag, addresses, and settings that wait for a restart."""
    parts = flask.request.path.strip("/").split("/")
    if flask.request.method != "GET" or response.status_code != 200 or parts[2:3] != ["Systems"]:
        return response
    body, machine = response.get_json(), _bmc().machine
    match parts[3:]:
        case [_]:
            body |= {"SerialNumber": machine.serial, "AssetTag": machine.asset_tag}
        case [_, "EthernetInterfaces", name]:
            body["IPv4Addresses"] = [{"Address": machine.addresses[int(name.removeprefix("eth"))]}]
        case [_, "BIOS", "Settings"]:
            body["Attributes"] = {**machine.bios, **machine.bios_pending}
    response.set_data(json.dumps(body))
    return response


class FakeBmc:
    """One BMC: start it with ``running``; change ``machine`` and ``faults`` at will; ``requests`` is its log."""

    def __init__(self, authority: Authority, password: str = PASSWORD) -> None:
        self.machine = Machine()
        self.faults = Faults()
        self.password = password
        self.requests: list[tuple[str, str]] = []
        self.driver = Driver(self)
        self._server = make_server("127.0.0.1", 0, self, threaded=True, ssl_context=authority.server_context())
        self.url = f"https://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @contextmanager
    def running(self) -> Iterator[FakeBmc]:
        self._thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join(10)

    @property
    def changes(self) -> list[tuple[str, str]]:
        """Every request so far that could change something."""
        return [(method, path) for method, path in self.requests if method != "GET"]

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.requests.append((method, path))
        faults = self.faults
        if faults.slow and method in faults.slow_methods:
            time.sleep(faults.slow)
        if faults.busy and method in faults.busy_methods:
            faults.busy -= 1
            start_response(f"{faults.busy_status} Busy", [("Retry-After", faults.retry_after), ("Content-Length", "0")])
            return [b""]
        if faults.garbage is not None:
            start_response("200 OK", [("Content-Type", "application/json")])
            return [faults.garbage]
        if path.strip("/") != "redfish/v1" and not self._welcome(environ.get("HTTP_AUTHORIZATION", "")):
            start_response("401 Unauthorized", [("Content-Type", "application/json")])
            return [b'{"error": {"code": "Base.1.0.GeneralError", "message": "Who are you?"}}']
        environ["tests.bmc"] = self
        answer = emulator.app(environ, start_response)
        if faults.hang_up and method in faults.hang_up_methods:
            faults.hang_up -= 1
            b"".join(answer)
            environ["werkzeug.socket"].close()
            raise ConnectionAbortedError
        return answer

    def _welcome(self, header: str) -> bool:
        return header == "Basic " + base64.b64encode(f"{USER}:{self.password}".encode()).decode()


class Authority:
    """A certificate authority with one server certificate for 127.0.0.1."""

    def __init__(self, folder: Path, name: str) -> None:
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        server_key = ec.generate_private_key(ec.SECP256R1())

        def build(owner: x509.Name, public: Any, *extensions: x509.ExtensionType) -> x509.Certificate:
            builder = (
                x509.CertificateBuilder(issuer_name=subject, subject_name=owner, public_key=public)
                .serial_number(x509.random_serial_number())
                .not_valid_before(now - timedelta(days=1))
                .not_valid_after(now + timedelta(days=30))
            )
            for extension in extensions:
                builder = builder.add_extension(extension, critical=False)
            return builder.sign(key, hashes.SHA256())

        authority = build(subject, key.public_key(), x509.BasicConstraints(ca=True, path_length=0))
        names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
        owner = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bmc")])
        server = build(owner, server_key.public_key(), x509.SubjectAlternativeName(names))
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
        self._server = folder / f"{name}-server.pem"
        self._server.write_bytes(
            server.public_bytes(serialization.Encoding.PEM)
            + server_key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._server)
        return context
