"""One machine's management controller: the Redfish service of sushy-tools over the machine's power, with what that
service lacks (asset tag, addresses, pending BIOS settings, faults). A BMC knows its own machine and no other."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

import flask
from sushy_tools import error  # type: ignore[import-untyped]
from sushy_tools.emulator import main as emulator  # type: ignore[import-untyped]
from sushy_tools.emulator.resources import chassis as chassis_driver  # type: ignore[import-untyped]
from sushy_tools.emulator.resources import managers as managers_driver
from sushy_tools.emulator.resources.systems.base import AbstractSystemsDriver  # type: ignore[import-untyped]
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from ismgr_automation.lab import bmc_updates, faults
from ismgr_automation.lab.firmware import Firmware
from ismgr_automation.lab.folder import write_private
from ismgr_automation.lab.power import Power
from ismgr_automation.lab.topology import Interface, Machine

PORT = 443
MANUFACTURER, MODEL = "ismgr", "data center in a box"
BIOS_DEFAULTS: Mapping[str, str] = MappingProxyType(
    {
        "AcPwrRcvry": "Last",
        "BootMode": "Uefi",
        "LogicalProc": "Enabled",
        "ProcTurboMode": "Enabled",
        "ProcVirtualization": "Enabled",
        "SriovGlobalEnable": "Disabled",
        "SysProfile": "PerfPerWattOptimizedOs",
    }
)
"""The attributes that there are; another name is refused as real firmware does."""
BOOT_DEVICES = ("None", "Pxe", "Hdd", "Cd", "UefiHttp")
BOOT_HOLDS = ("Disabled", "Once", "Continuous")
RESETS = ("On", "ForceOn", "ForceOff", "GracefulShutdown", "GracefulRestart", "ForceRestart")
_MACHINE = "ismgr.bmc"

StartResponse = Callable[..., Any]
Wsgi = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]


class Memory:
    """What a BMC remembers when the power is off; a JSON file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._values: dict[str, Any] = {
            "asset_tag": "",
            "boot": "Hdd",
            "boot_holds": "Continuous",
            "bios": dict(BIOS_DEFAULTS),
            "bios_pending": {},
            "firmware": {},
            "firmware_pending": {},
            "tasks": [],
        }
        if path.exists():
            self._values |= json.loads(path.read_text())

    def get(self, name: str) -> Any:
        """A value; a copy, so that nobody changes what is remembered by accident."""
        with self._lock:
            return deepcopy(self._values[name])

    def set(self, **values: Any) -> None:
        """Remember values."""
        with self._lock:
            self._values |= deepcopy(values)
            write_private(self._path, json.dumps(self._values, indent=2) + "\n")


class Bmc:
    """The controller of one machine."""

    def __init__(self, machine: Machine, power: Power, memory: Memory, faults_path: Path) -> None:
        self.machine = machine
        self.power = power
        self.memory = memory
        self.firmware = Firmware(memory)
        self.faults_path = faults_path
        self.faults_lock = threading.Lock()
        self.told_power: str | None = None
        power.before_boot = self.boots
        self.systems = _Driver(self)
        self.chassis = chassis_driver.StaticDriver({}, emulator.app.logger)
        self.managers = managers_driver.FakeDriver({}, emulator.app.logger, self.systems, self.chassis)

    def boots(self) -> None:
        """The machine begins to boot: a pending BIOS and its settings take effect, a boot device for once is over."""
        self.firmware.boots()
        self.memory.set(bios={**self.memory.get("bios"), **self.memory.get("bios_pending")}, bios_pending={})
        if self.memory.get("boot_holds") == "Once":
            self.memory.set(boot="None", boot_holds="Disabled")

    def take_fault(self, method: str, *kinds: faults.Kind) -> faults.Fault | None:
        """The next ordered fault of those kinds, if there is one."""
        with self.faults_lock:
            return faults.take(self.faults_path, method, frozenset(kinds))

    def server(self, certificate: Path, users: Path, listener: socket.socket) -> BaseWSGIServer:
        """A TLS server for this BMC alone, on a socket that listens already; call ``serve_forever`` in a thread."""
        application: Wsgi = _Gate(self, emulator.RedfishAuthMiddleware(emulator.app.wsgi_app, str(users)))
        server = make_server(
            str(self.machine.bmc), PORT, application, threaded=True, request_handler=_Quiet, fd=listener.fileno()
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(certificate)
        # the handshake belongs into the request's thread: in the accepting one a silent client would stop the BMC
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        server.ssl_context = context
        return server


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Every request would be a line; errors are logged by the service itself."""


class _Driver(AbstractSystemsDriver):  # type: ignore[misc]
    """What sushy-tools asks about a system, answered for one machine."""

    def __init__(self, bmc: Bmc) -> None:
        super().__init__()
        self._bmc = bmc

    @property
    def driver(self) -> str:
        return "<ismgr lab>"

    @property
    def systems(self) -> list[str]:
        return [self._bmc.machine.uuid]

    def uuid(self, identity: str) -> str:
        if identity == self._bmc.machine.uuid:
            return identity
        if identity == self._bmc.machine.name:
            raise error.AliasAccessError(self._bmc.machine.uuid)
        raise error.NotFound(f"this BMC has no system {identity}")

    def name(self, identity: str) -> str:
        self.uuid(identity)
        return self._bmc.machine.name

    def get_power_state(self, identity: str) -> str:
        self.uuid(identity)
        if self._bmc.told_power is not None and faults.ordered(self._bmc.faults_path):
            return self._bmc.told_power
        self._bmc.told_power = None
        return "On" if self._bmc.power.is_on() else "Off"

    def set_power_state(self, identity: str, state: str) -> None:
        self.uuid(identity)
        power = self._bmc.power
        actions: dict[str, Callable[[], None]] = {
            "On": power.on,
            "ForceOn": power.on,
            "ForceOff": power.force_off,
            "GracefulShutdown": power.ask_to_end,
            "GracefulRestart": power.ask_to_restart,
            "ForceRestart": power.force_restart,
        }
        if state not in actions:
            raise error.NotSupportedError(f"this machine has no reset {state}")
        fault = self._bmc.take_fault("POST", faults.Kind.IGNORES, faults.Kind.LIES)
        if fault is None:
            actions[state]()
        elif fault.kind is faults.Kind.LIES:
            self._bmc.told_power = "Off" if state in {"ForceOff", "GracefulShutdown"} else "On"

    def get_boot_device(self, identity: str) -> str:
        self.uuid(identity)
        device: str = self._bmc.memory.get("boot")
        return device

    def set_boot_device(self, identity: str, boot_source: str) -> None:
        self.uuid(identity)
        if boot_source not in BOOT_DEVICES:
            raise error.BadRequest(f"no boot device {boot_source}; there are {', '.join(BOOT_DEVICES)}")
        self._bmc.memory.set(boot=boot_source)

    def get_boot_mode(self, identity: str) -> str:
        self.uuid(identity)
        return "UEFI"

    def set_boot_mode(self, identity: str, boot_mode: str) -> None:
        self.uuid(identity)
        if boot_mode != "UEFI":
            raise error.BadRequest("this machine boots in mode UEFI only")

    def get_total_memory(self, identity: str) -> int:
        self.uuid(identity)
        return 16

    def get_total_cpus(self, identity: str) -> int:
        self.uuid(identity)
        return 2

    def get_http_boot_uri(self, identity: str) -> str:
        self.uuid(identity)
        return ""

    def get_bios(self, identity: str) -> dict[str, str]:
        self.uuid(identity)
        current: dict[str, str] = self._bmc.memory.get("bios")
        if flask.request.path.rstrip("/").endswith("/Settings"):
            return {**current, **self._bmc.memory.get("bios_pending")}
        return current

    def set_bios(self, identity: str, attributes: Mapping[str, str]) -> None:
        self.uuid(identity)
        unknown = sorted(set(attributes) - set(BIOS_DEFAULTS))
        if unknown:
            raise error.BadRequest(f"no BIOS attribute {', '.join(unknown)}")
        self._bmc.memory.set(bios_pending={**self._bmc.memory.get("bios_pending"), **attributes})

    def reset_bios(self, identity: str) -> None:
        self.uuid(identity)
        self._bmc.memory.set(bios_pending=dict(BIOS_DEFAULTS))

    def get_versions(self, identity: str) -> dict[str, str]:
        self.uuid(identity)
        return {"BiosVersion": self._bmc.firmware.versions()["BIOS"]}

    def get_nics(self, identity: str) -> list[dict[str, str]]:
        self.uuid(identity)
        return [{"id": interface.name, "mac": interface.mac} for interface in self._bmc.machine.interfaces]


class _Gate:
    """Lets requests of one listener see one BMC, and commits the faults that hit any request."""

    def __init__(self, bmc: Bmc, application: Wsgi) -> None:
        self._bmc = bmc
        self._application = application
        self._never = threading.Event()

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        environ[_MACHINE] = self._bmc
        if self._bmc.firmware.away():
            return _hang_up(environ, "the BMC restarts")
        kinds = (faults.Kind.UNAVAILABLE, faults.Kind.SLOW, faults.Kind.SILENT)
        fault = self._bmc.take_fault(environ["REQUEST_METHOD"], *kinds)
        if fault is None:
            return self._application(environ, start_response)
        if fault.kind is faults.Kind.SLOW:
            self._never.wait(fault.seconds)
            return self._application(environ, start_response)
        if fault.kind is faults.Kind.SILENT:
            return _hang_up(environ, "a fault that a test ordered")
        return _unavailable(start_response)


def _hang_up(environ: dict[str, Any], why: str) -> NoReturn:
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError(why)


def _unavailable(start_response: StartResponse) -> Iterable[bytes]:
    body = json.dumps({"error": {"code": "Base.1.0.GeneralError", "message": "busy, as ordered by a test"}}).encode()
    status = HTTPStatus.SERVICE_UNAVAILABLE
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    start_response(f"{status.value} {status.phrase}", headers)
    return [body]


def install() -> None:
    """Make the emulator's one application answer for the BMC whose listener took the request. Called once."""
    application = emulator.Application
    application.systems = property(lambda _self: _current().systems)
    application.managers = property(lambda _self: _current().managers)
    application.chassis = property(lambda _self: _current().chassis)
    bmc_updates.install(emulator.app, lambda: (_current().firmware, _current().take_fault))
    emulator.app.before_request(_remember_patch)
    emulator.app.after_request(_complete)


def _current() -> Bmc:
    bmc: Bmc = flask.request.environ[_MACHINE]
    return bmc


def _remember_patch() -> flask.Response | None:
    """Take asset tag and the boot device's duration out of a PATCH of the system, which the emulator does not know."""
    if flask.request.method != "PATCH" or flask.request.endpoint != "system_resource":
        return None
    body = flask.request.get_json(silent=True)
    if not isinstance(body, dict):
        return None
    bmc = _current()
    bmc.systems.uuid(str((flask.request.view_args or {})["identity"]))
    boot = body.get("Boot")
    holds = boot.get("BootSourceOverrideEnabled") if isinstance(boot, dict) else None
    if holds is not None and holds not in BOOT_HOLDS:
        raise error.BadRequest(f"BootSourceOverrideEnabled is one of {', '.join(BOOT_HOLDS)}")
    if "AssetTag" in body:
        bmc.memory.set(asset_tag=str(body["AssetTag"]))
    if holds is not None:
        bmc.memory.set(boot_holds=holds)
    # what is left for the emulator is a boot device or nothing
    left = isinstance(boot, dict) and set(boot) - {"BootSourceOverrideEnabled"}
    return None if left or not ({"AssetTag", "Boot"} & set(body)) else flask.Response(status=HTTPStatus.NO_CONTENT)


def _complete(response: flask.Response) -> flask.Response:
    """Add what the emulator's answers lack."""
    if flask.request.method != "GET" or response.status_code != HTTPStatus.OK or not response.is_json:
        return response
    bmc = _current()
    body = json.loads(response.get_data())
    complete = _COMPLETIONS.get(flask.request.endpoint or "")
    if complete is None:
        return response
    complete(body, bmc)
    response.set_data(json.dumps(body))
    return response


def _complete_system(body: dict[str, Any], bmc: Bmc) -> None:
    body |= {
        "Manufacturer": MANUFACTURER,
        "Model": MODEL,
        "SerialNumber": bmc.machine.serial,
        "AssetTag": bmc.memory.get("asset_tag"),
        "HostName": bmc.machine.name,
        "SystemType": "Physical",
    }
    body["Boot"]["BootSourceOverrideEnabled"] = bmc.memory.get("boot_holds")
    body["Boot"]["BootSourceOverrideTarget@Redfish.AllowableValues"] = list(BOOT_DEVICES)
    body["Actions"]["#ComputerSystem.Reset"]["ResetType@Redfish.AllowableValues"] = list(RESETS)


def _complete_interface(body: dict[str, Any], bmc: Bmc) -> None:
    interface = next(one for one in bmc.machine.interfaces if one.name == body["Id"])
    body |= {
        "Name": interface.name,
        "Description": f"network {interface.segment}",
        "LinkStatus": "LinkUp",
        "InterfaceEnabled": True,
        "IPv4Addresses": [_ipv4(interface)],
    }


def _ipv4(interface: Interface) -> dict[str, str]:
    return {"Address": str(interface.address), "SubnetMask": "255.255.255.0", "AddressOrigin": "Static"}


def _complete_manager(body: dict[str, Any], bmc: Bmc) -> None:
    body |= {
        "FirmwareVersion": bmc.firmware.versions()["BMC"],
        "Model": MODEL,
        "Description": f"BMC of {bmc.machine.name}",
    }


def _complete_root(body: dict[str, Any], _bmc: Bmc) -> None:
    body["Tasks"] = {"@odata.id": bmc_updates.TASKS}


def _complete_bios(body: dict[str, Any], _bmc: Bmc) -> None:
    body["@Redfish.Settings"]["SupportedApplyTimes"] = ["OnReset"]


_COMPLETIONS: Mapping[str, Callable[[dict[str, Any], Bmc], None]] = MappingProxyType(
    {
        "root_resource": _complete_root,
        "system_resource": _complete_system,
        "manager_resource": _complete_manager,
        "ethernet_interface": _complete_interface,
        "bios": _complete_bios,
    }
)
"""By the emulator's name for what was asked."""
