"""Faults by a BMC: a machine loses its power, and one that was the primary may come back as one. A BMC has no timer: a
fault of this kind is lifted by who has its undo, and by nobody else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from shlex import quote
from time import monotonic, monotonic_ns

from ismgr_automation.core.errors import Cancelled, InputError
from ismgr_automation.core.json import JsonObject
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines.faults import asking, hosts
from ismgr_automation.engines.faults.deadman import Scripts
from ismgr_automation.engines.faults.servers import layout_arguments
from ismgr_automation.engines.faults.undo import Hurt, Undo, Values, Way, key_of
from ismgr_automation.engines.faults.watching import Watchers
from ismgr_automation.engines.fences.power import PowerFence, PowerUnfence
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.faults import FaultRequest, Harm
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.packages import Fleet
from ismgr_automation.ports.recovery import Acted, Confirmation, FenceRequest, Seen, Sight
from ismgr_automation.ports.secrets import SecretStore
from ismgr_automation.ports.upkeep import BmcAccess

BOOT = timedelta(minutes=5)
"""Until a machine that got its power back answers."""

PATIENCE = timedelta(milliseconds=300)
"""How long a machine without power is given to answer."""


def server(values: Values) -> Scripts:
    """A server that was started although it should not have been. It is stopped only while it is the one that was
    started, and a primary: what somebody has made of it since is theirs."""
    first = f"""data={quote(values["data"])}
since() {{ sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20; }}
stale() {{
  [ -e "$room/started" ] && read -r pid began < "$room/started" && [ "$pid" ] && [ "$(since "$pid")" = "$began" ] &&
    [ ! -e "$data/standby.signal" ]
}}"""
    act = f"""{first}
[ ! -e "$data/standby.signal" ] || {{ echo 'it would come back as a standby' >&2; return 1; }}
if ! stale; then sh -c {quote(values["start"])} >&2 || return 1; fi
pid=$(head -n 1 "$data/postmaster.pid") && echo "$pid $(since "$pid")" > "$room/started\""""
    mend = f"""{first}
stale || return 0
sh -c {quote(values["stop"])} >&2
if stale; then echo 'its server does not stop' >&2; return 1; fi"""
    return Scripts(act=act, mend=mend, look=f"{first}\nif stale; then echo standing; else echo gone; fi")


class PowerFault:
    """Implements ``ports.faults.Injection``: the power is cut as a fence cuts it."""

    def __init__(self, request: FaultRequest, store: SecretStore, context: Context) -> None:
        """Raises ``InputError`` for a fault that cannot be asked for as it is."""
        key_of(request.run, request.name)
        if request.bmc is None or len(request.hosts) != 1:
            raise InputError(f"{request.name}: power is cut on one machine, by its BMC.")
        self._request, self._store, self._context = request, store, context
        self._host = request.hosts[0]
        values = _values(request, self._host)
        hurt = Hurt(way=Way.POWER, values=values)
        self._undo = Undo(run=request.run, fault=request.name, harm=request.harm, hosts={self._host: hurt})
        self._fence = PowerFence(_fencing(self._host, values, request.fleet, request.deadline), store, context)
        self._hosts = hosts.Hosts(request.fleet, store, context, request.deadline)
        self._watchers = Watchers(request, self._hosts.warm)
        self._came_back = False

    def stage(self) -> Seen:
        """Log in to the BMC, and let those who will look connect once. Raises ``Cancelled``."""
        seen = self._fence.stage()
        proven = self._watchers.stage()
        words = f"{seen.words}; a BMC has no timer: only who lifts it brings the machine back"
        return replace(seen, words=words, readings={**seen.readings, "way": "power", "witnesses": len(proven)})

    def undo(self) -> JsonObject:
        """Where the BMC is, and where its password is kept."""
        return self._undo.json()

    def act(self) -> Acted:
        """Cut the power, and return when the BMC says Off. Raises ``Cancelled``."""
        return self._fence.act()

    def bitten(self) -> Confirmation:
        """The BMC says Off, and neither SSH nor the database has an answer. Raises ``Cancelled``."""
        end = monotonic() + self._request.deadline.total_seconds()
        by = ", ".join(("its BMC", *dict.fromkeys((*self._watchers.proven, "this controller"))))
        while True:
            seen = self._fence.observe()
            met = {f"{name} at {self._watchers.place}": word for name, word in self._watchers.meet().items()}
            met["this controller by SSH"] = self._ssh()
            words = "; ".join((seen.words, *(f"{name} {hosts.asking_words(word)}" for name, word in met.items())))
            if seen.sight is Sight.DONE and set(met.values()) <= {asking.SILENT}:
                return Confirmation(ok=True, by=by, words=words, ended_ns=monotonic_ns())
            if monotonic() > end:
                return Confirmation(ok=False, by=by, words=words, ended_ns=monotonic_ns())
            if self._context.cancelled.wait(hosts.PAUSE.total_seconds()):
                raise Cancelled("Looking at a fault was stopped on request.")

    def biting(self) -> Callable[[], Confirmation]:
        """Beside whatever else happens."""
        return hosts.beside(self.bitten)

    def _ssh(self) -> str:
        """What somebody meets who connects to its SSH server. Where there is a straight way to it, a look is short."""
        host = next((one for one in self._request.fleet.hosts if one.name == self._host), None)
        if host is not None and not host.bastion:
            return asking.ask(host.address, host.port, PATIENCE.total_seconds())[0]
        (found,) = self._hosts.warm.open(self._host)
        return asking.ANSWERS if found.reach is Reach.OK else asking.SILENT

    def renew(self) -> bool:
        """There is a timer only once it came back."""
        if not self._came_back:
            return True
        answers = self._hosts.go("renew")
        return all(one.reach is Reach.OK and not one.code for one in answers.values())

    def come_back(self) -> Acted:
        """Give it its power, and start its server as a primary. Raises ``Cancelled``."""
        began = monotonic_ns()
        if self._request.harm is not Harm.STALE_PRIMARY:
            return Acted(ok=True, began_ns=began, ended_ns=monotonic_ns(), words="nothing comes back from this")
        fencing = _fencing(self._host, self._undo.hosts[self._host].values, self._request.fleet, BOOT)
        powered = _powered(replace(fencing, giving_back=True), self._store, self._context)
        if not powered.ok:
            return replace(powered, began_ns=began)
        self._hosts.load(self._undo, {self._host: server(self._undo.hosts[self._host].values)})
        answers = self._hosts.go(f"arm {round(self._request.lifetime / timedelta(milliseconds=1))}ms")
        if not (words := hosts.troubles(answers)):
            self._came_back = True
            words = hosts.troubles(hosts.sure(self._hosts, "act", BOOT))
        return Acted(ok=not words, began_ns=began, ended_ns=monotonic_ns(), words=words or "it is a primary again")

    def lift(self) -> Acted:
        """As who takes it from the journal. Raises ``Cancelled``."""
        within = hosts.Within(fleet=self._request.fleet, context=self._context, deadline=self._request.deadline)
        return lift(self._undo, self._store, within)

    def lifted(self) -> Confirmation:
        """The BMC says On, and no server runs that should not."""
        seen = self._fence.observe()
        words = "" if seen.readings.get("power") == "On" else seen.words
        if not words and self._request.harm is Harm.STALE_PRIMARY:
            self._hosts.load(self._undo, {self._host: server(self._undo.hosts[self._host].values)})
            answers = self._hosts.go("look")
            words = hosts.troubles(answers) or hosts.remains(answers)
        by = f"its BMC, {self._host}" if self._came_back else "its BMC"
        return Confirmation(ok=not words, by=by, words=words or "nothing is left", ended_ns=monotonic_ns())

    def close(self) -> None:
        """Let go of the connections. The machine stays as it is."""
        self._fence.close()
        self._hosts.close()


def lift(undo: Undo, store: SecretStore, within: hosts.Within) -> Acted:
    """Give machines their power back, unless they have it; stop what came back as a primary. One whose server would
    come up as a primary by itself stays off. Raises ``InputError``, ``Cancelled``."""
    began = monotonic_ns()
    found = {host: _lift(undo, host, store, within) for host in undo.hosts}
    words = "; ".join(f"{host}: {one.words}" for host, one in found.items())
    ok = all(one.ok for one in found.values())
    return Acted(ok=ok, began_ns=began, ended_ns=monotonic_ns(), words=words)


def _lift(undo: Undo, host: str, store: SecretStore, within: hosts.Within) -> Acted:
    now, values = monotonic_ns(), undo.hosts[host].values
    fencing = _fencing(host, values, within.fleet, BOOT)
    fence = PowerFence(fencing, store, within.context)
    try:
        seen = fence.observe()
    finally:
        fence.close()
    if seen.sight is Sight.UNKNOWN:
        return Acted(ok=False, began_ns=now, ended_ns=monotonic_ns(), words=seen.words)
    if seen.sight is Sight.DONE:
        return _powered(fencing, store, within.context)
    if undo.harm is not Harm.STALE_PRIMARY:
        return Acted(ok=True, began_ns=now, ended_ns=monotonic_ns(), words="it has power")
    one = replace(undo, hosts={host: undo.hosts[host]})
    return hosts.lift_by(one, {host: server(values)}, store, within)


def _powered(fencing: FenceRequest, store: SecretStore, context: Context) -> Acted:
    unfence = PowerUnfence(fencing, store, context)
    try:
        return unfence.act()
    finally:
        unfence.close()


def _fencing(host: str, values: Values, fleet: Fleet, deadline: timedelta) -> FenceRequest:
    try:
        bmc = BmcAccess(
            machine=values["machine"],
            address=values["address"],
            username=values["username"],
            password=SecretRef.parse(values["password"]),
            ca=Path(values["ca"]) if values["ca"] else None,
            system=values["system"],
        )
        port = int(values["port"])
    except (KeyError, ValueError) as error:
        raise InputError(f"The undo of {host} does not say how its BMC is reached: {error}.") from error
    return FenceRequest(host=host, fleet=fleet, port=port, deadline=deadline, bmc=bmc)


def _values(request: FaultRequest, host: str) -> Values:
    bmc = request.bmc
    assert bmc is not None  # noqa: S101  for the type checker
    data, _, _, _, _, start, stop, port = layout_arguments(request, host)
    return {
        "machine": bmc.machine,
        "address": bmc.address,
        "username": bmc.username,
        "password": str(bmc.password),
        "ca": str(bmc.ca.absolute()) if bmc.ca else "",
        "system": bmc.system,
        "data": data,
        "start": start,
        "stop": stop,
        "port": port,
    }
