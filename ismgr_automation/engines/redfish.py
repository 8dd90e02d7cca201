"""A BMC over Redfish, on sushy: read a system, set what differs, verify by reading. It never trusts an answer of "OK".

Only the power state, boot device, BIOS attributes and asset tag are ever changed here, and each only if it differs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from time import monotonic
from types import TracebackType
from typing import Any, Self

import sushy  # type: ignore[import-untyped]
from sushy import exceptions as sushy_exceptions

from ismgr_automation.core.errors import Cancelled, EngineError, EngineFailed
from ismgr_automation.engines.redfish_transport import (
    ANSWERS_OF_ANOTHER_SHAPE,
    ENGINE,
    Connector,
    Failure,
    Timeouts,
    classify,
    may_have_arrived,
    translate,
)
from ismgr_automation.engines.redfish_values import Bmc, Facts, Power, Scalar, Wanted, same

__all__ = ["Bmc", "Facts", "NoSuchSystem", "Power", "Scalar", "Timeouts", "Wanted", "connect", "same"]

POSTS_AT_MOST = 5
BOOT_DEVICES: tuple[str, ...] = tuple(source.value for source in sushy.BootSource)
"""The words for a boot device: None (no override), Pxe, Cd, Hdd, UefiHttp and what else Redfish knows."""


class NoSuchSystem(EngineFailed):
    """The BMC is there and does not know the system: somebody took the blade out, or the id is wrong."""


def connect(bmc: Bmc, cancelled: threading.Event | None = None) -> System:
    """Log in and find the system; reads only.

    Raises ``CredentialRejected``, ``Unreachable``, ``Throttled``, ``EngineTimedOut``, ``EngineFailed`` (not Redfish, no
    such system) and ``Cancelled``.
    """
    return System(bmc, cancelled or threading.Event())


class System:
    """One system behind one BMC. Close it (or use ``with``) to give the connection back."""

    def __init__(self, bmc: Bmc, cancelled: threading.Event) -> None:
        self._bmc = bmc
        self._cancelled = cancelled
        self.last: Facts | None = None
        """What was read last, for a report when reading fails later."""
        self._connector = Connector(bmc.url, ca=bmc.ca, timeouts=bmc.timeouts, cancelled=cancelled)
        try:
            with self._translated():
                self._root = sushy.Sushy(
                    bmc.url,
                    auth=sushy.auth.BasicAuth(bmc.username, bmc.password.reveal()),
                    connector=self._connector,
                )
            self._system = self._find(bmc.system)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back; safe to call twice."""
        self._connector.close()

    @property
    def touched(self) -> bool:
        """Whether a change was sent that may have arrived."""
        return self._connector.touched

    def _find(self, system: str) -> Any:
        try:
            with self._translated(
                passing=(sushy_exceptions.ResourceNotFoundError, sushy_exceptions.UnknownDefaultError)
            ):
                return self._root.get_system(f"/redfish/v1/Systems/{system}" if system else None)
        except sushy_exceptions.ResourceNotFoundError as error:
            raise NoSuchSystem(
                f"{self._bmc.target} does not know the system {system!r}.",
                engine=ENGINE,
                subject=self._bmc.subject,
                untouched=self._untouched(),
                next_step="Correct the system id; leave it out when the BMC manages one system.",
            ) from error
        except sushy_exceptions.UnknownDefaultError as error:
            with self._translated():
                known = ", ".join(
                    path.rsplit("/", 1)[-1] for path in self._root.get_system_collection().members_identities
                )
            raise self._failed(f"manages several systems or none ({known})", "Say which one in `system`.") from error

    def power(self) -> Power:
        """The power state now: one request."""
        with self._translated():
            self._look_again()
            return _power_of(self._system)

    def read(self) -> Facts:
        """Everything that the BMC tells; one request for each resource of it (about eight)."""
        with self._translated():
            self._look_again()
            effective, pending = self._bios()
            self.last = Facts(
                system=self._system.identity,
                power=_power_of(self._system),
                boot_device=_boot_device_of(self._system),
                bios={**effective, **pending},
                bios_pending=tuple(sorted(name for name, value in pending.items() if effective.get(name) != value)),
                asset_tag=self._system.asset_tag or "",
                serial=self._system.serial_number or "",
                bios_version=self._system.bios_version or "",
                bmc_version=self._bmc_version(),
                addresses=self._addresses(),
            )
            return self.last

    def make(self, wanted: Wanted) -> Facts:
        """Change what differs, verify each by reading, and return what is true then. Power comes last, so that a
        machine that is switched on boots with its settings.

        Raises ``EngineFailed`` when the BMC says OK and the state does not follow before ``timeouts.change``.
        """
        found = self.read()
        if wanted.asset_tag is not None and wanted.asset_tag != found.asset_tag:
            self._set_asset_tag(wanted.asset_tag)
        attributes = {name: value for name, value in wanted.bios.items() if not same(found.bios.get(name), value)}
        if attributes:
            self._set_bios(attributes)
        if wanted.boot_device is not None and wanted.boot_device != found.boot_device:
            self._set_boot_device(wanted.boot_device)
        if wanted.power is None or wanted.power is found.power:
            return self.read() if self.touched else found
        self.switch(wanted.power)
        return self.read()

    def switch(self, wanted: Power) -> None:
        """Bring the system to ON or OFF. OFF asks the operating system first and cuts power after
        ``timeouts.shutdown``. The reset is sent again only after the power state was read again."""
        match wanted:
            case Power.ON:
                self._reset_until(wanted, ("On", "ForceOn"), self._bmc.timeouts.change)
            case Power.OFF:
                if self._reset_until(wanted, ("GracefulShutdown",), self._bmc.timeouts.shutdown, optional=True):
                    return
                self._reset_until(wanted, ("ForceOff",), self._bmc.timeouts.change)
            case _:
                raise ValueError(f"a system cannot be switched to {wanted}")

    def cut(self, within: timedelta) -> None:
        """Cut the power without asking anybody first, not even for the power state; returns when the BMC says Off."""
        try:
            self._reset_until(Power.OFF, ("ForceOff",), within, at_once=True)
        except EngineError:
            # some BMCs refuse to cut what is off
            if self.power() is not Power.OFF:
                raise

    def _reset_until(
        self, wanted: Power, kinds: tuple[str, ...], within: timedelta, *, optional: bool = False, at_once: bool = False
    ) -> bool:
        """Send one of ``kinds`` and wait; says whether the state was reached. Only optional resets may fail quietly:
        the caller then takes the next, harder one. ``at_once`` sends it before the first look."""
        with self._translated():
            allowed = {kind.value: kind for kind in self._system.get_allowed_reset_system_values()}
        kind = next((allowed[name] for name in kinds if name in allowed), None)
        if kind is None:
            if optional:
                return False
            raise self._failed(f"offers none of the resets {', '.join(kinds)}", "Switch it by hand.")
        end = monotonic() + within.total_seconds()
        posts, found, refusal = 0, Power.UNKNOWN, None
        if at_once:
            refusal, posts = self._post_reset(kind, posts), 1
        while not self._cancelled.is_set():
            found = self.power()
            if found is wanted:
                return True
            if posts and monotonic() > end:
                if optional:
                    return False
                if refusal:
                    raise refusal
                raise self._failed(
                    f"accepted {kind.value} and is still {found} after {_words(within)}",
                    "Look at the machine itself and at the BMC's log.",
                )
            if (refusal or not posts) and found not in {Power.POWERING_ON, Power.POWERING_OFF}:
                refusal, posts = self._post_reset(kind, posts), posts + 1
            self._cancelled.wait(self._bmc.timeouts.poll.total_seconds())
        raise Cancelled(f"Stopped by request while waiting for {self._bmc.subject} to be {wanted}; it was {found}.")

    def _post_reset(self, kind: Any, posts: int) -> EngineError | None:
        """None when the BMC accepted it; an error when it is to be sent again unless the next look shows its effect."""
        try:
            with self._raw():
                self._system.reset_system(kind)
        except sushy_exceptions.SushyError as error:
            failure = classify(error)
            ours = translate(error, self._bmc.target, untouched=self._untouched())
            uncertain = failure is Failure.THROTTLED or (may_have_arrived(failure) and failure is not Failure.FAILED)
            if not uncertain or posts + 1 >= POSTS_AT_MOST:
                raise ours from error
            self._cancelled.wait(self._connector.pause(posts).total_seconds())
            return ours
        return None

    def _set_asset_tag(self, value: str) -> None:
        with self._translated():
            self._connector.patch(self._system.path, data={"AssetTag": value}, etag=self._system._get_etag())  # noqa: SLF001 - sushy has no setter
        self._verified("asset tag", value, lambda: self._system.asset_tag or "")

    def _set_boot_device(self, value: str) -> None:
        source = sushy.BootSource(value)
        continuous = sushy.BootSourceOverrideEnabled.CONTINUOUS
        with self._translated():
            self._system.set_system_boot_options(
                target=source,
                enabled=sushy.BootSourceOverrideEnabled.DISABLED if source is sushy.BootSource.NONE else continuous,
            )
        self._verified("boot device", value, lambda: _boot_device_of(self._system))

    def _set_bios(self, attributes: Mapping[str, Scalar]) -> None:
        with self._translated():
            if not self._system.json.get("Bios"):
                raise self._failed("offers no BIOS settings", "Leave biosAttributes out for this machine.")
            self._system.bios.set_attributes(dict(attributes))

        def found() -> dict[str, Scalar | None]:
            effective, pending = self._bios()
            now = {**effective, **pending}
            return {name: value if same(now.get(name), value) else now.get(name) for name, value in attributes.items()}

        self._verified("BIOS attributes", dict(attributes), found)

    def _verified(self, what: str, wanted: object, found: Callable[[], object]) -> None:
        """Read until it is so. A BMC that says OK and does nothing is an error that shows what was read."""
        end = monotonic() + self._bmc.timeouts.change.total_seconds()
        while not self._cancelled.is_set():
            with self._translated():
                self._look_again()
                seen = found()
            if seen == wanted:
                return
            if monotonic() > end:
                late = _words(self._bmc.timeouts.change)
                raise self._failed(
                    f"accepted {what} {wanted!r} and still shows {seen!r} after {late}", "Look at the BMC's log."
                )
            self._cancelled.wait(self._bmc.timeouts.poll.total_seconds())
        raise Cancelled(f"Stopped by request while verifying the {what} of {self._bmc.subject}.")

    def _look_again(self) -> None:
        """One request: parts of the system are asked again when they are needed, not now as ``refresh`` alone would."""
        self._system.invalidate()
        self._system.refresh(force=False)

    def _bios(self) -> tuple[dict[str, Scalar], dict[str, Scalar]]:
        """Attributes in effect, and those that differ in the settings that wait for a restart."""
        if not self._system.json.get("Bios"):
            return {}, {}
        try:
            bios = self._system.bios
        except sushy_exceptions.ResourceNotFoundError:
            return {}, {}  # advertised and not there: several emulators and old firmwares do this
        effective = _scalars(bios.attributes or {})
        if not bios.json.get("@Redfish.Settings"):
            return effective, {}
        pending = _scalars(bios.pending_attributes or {})
        return effective, {name: value for name, value in pending.items() if effective.get(name) != value}

    def _bmc_version(self) -> str:
        if not self._system.json.get("Links", {}).get("ManagedBy"):
            return ""
        try:
            managers = self._system.managers
        except sushy_exceptions.ResourceNotFoundError:
            return ""
        return managers[0].firmware_version or "" if managers else ""

    def _addresses(self) -> tuple[str, ...]:
        if not self._system.json.get("EthernetInterfaces"):
            return ()
        try:
            interfaces = self._system.ethernet_interfaces.get_members()
        except sushy_exceptions.ResourceNotFoundError:
            return ()
        listed = [entry.get("Address") for one in interfaces for entry in one.json.get("IPv4Addresses") or ()]
        return tuple(dict.fromkeys(address for address in listed if address and address != "0.0.0.0"))  # noqa: S104

    @contextmanager
    def _raw(self) -> Iterator[None]:
        """What the parsers raise on an answer of another shape becomes one of sushy's own errors."""
        try:
            yield
        except ANSWERS_OF_ANOTHER_SHAPE as error:
            url = self._bmc.url
            raise sushy_exceptions.MalformedAttributeError(attribute="", resource=url, error=error) from error

    @contextmanager
    def _translated(self, passing: tuple[type[Exception], ...] = ()) -> Iterator[None]:
        try:
            yield
        except EngineError:
            raise
        except passing:
            raise
        except (sushy_exceptions.SushyError, *ANSWERS_OF_ANOTHER_SHAPE) as error:
            raise translate(error, self._bmc.target, untouched=self._untouched()) from error

    def _untouched(self) -> str:
        return "" if self.touched else "Nothing was changed on the machine."

    def _failed(self, what: str, next_step: str) -> EngineFailed:
        return EngineFailed(
            f"{self._bmc.target} {what}.",
            engine=ENGINE,
            subject=self._bmc.subject,
            untouched=self._untouched(),
            next_step=next_step,
        )


def _scalars(attributes: Mapping[str, Any]) -> dict[str, Scalar]:
    return {name: value for name, value in attributes.items() if isinstance(value, str | bool | int | float)}


def _power_of(system: Any) -> Power:
    return Power(system.power_state.value) if system.power_state else Power.UNKNOWN


def _boot_device_of(system: Any) -> str:
    boot = system.boot
    if not boot:
        return ""
    if boot.enabled is sushy.BootSourceOverrideEnabled.DISABLED:
        return str(sushy.BootSource.NONE.value)
    return str(boot.target.value) if boot.target else ""


def _words(time: timedelta) -> str:
    return f"{time.total_seconds():g} s"
