"""Fences by hand: by the packet filter of the host or by its BMC, and looked at by somebody else. Texts only."""

from __future__ import annotations

import shlex
from ipaddress import ip_address

from ismgr_automation.core.errors import InputError
from ismgr_automation.engines.fences.network import TABLE, ruleset
from ismgr_automation.engines.paper.desk import FOLDER, at_once, on
from ismgr_automation.ports.paper import Order, When
from ismgr_automation.ports.recovery import FenceRequest
from ismgr_automation.ports.upkeep import BmcAccess

SOMEBODY_ELSE = "Somebody else than who raises the fence, at another keyboard"

FENCED = "FENCED"
LIFTED = "LIFTED"


def fence(request: FenceRequest, instead: BmcAccess | None) -> tuple[Order, ...]:
    """Who can look at it, the fence, and what those see then; ``instead`` is the BMC for a host that cannot be reached.
    Raises ``InputError``."""
    before = tuple(_looks(request, name, before=True) for name in request.witnesses)
    raised = _power(request, request.bmc, "Off", "ForceOff") if request.bmc is not None else _table(request)
    other = (_power(request, instead, "Off", "ForceOff", When.OTHERWISE),) if instead is not None else ()
    after = tuple(_looks(request, name, before=False) for name in request.witnesses)
    return (*before, raised, *other, *after)


def unfence(request: FenceRequest, retired: Order) -> tuple[Order, ...]:
    """With ``retired``, which stops what is behind it."""
    if request.bmc is not None:
        on_again = _power(request, request.bmc, "On", "On")
        return (on_again, retired)
    script = (
        f"nft list table {TABLE} > /dev/null 2>&1 && nft delete table {TABLE}\nnft list tables | grep ismgr_fence || "
    )
    lift = Order(
        title=f"Lift the fence of {request.host}",
        script=on(request.host, f"{script}echo {LIFTED}", request.fleet),
        sees=LIFTED,
        fails="The table is still there: `nft list ruleset` on the host shows it.",
    )
    return (retired, lift)


def _table(request: FenceRequest) -> Order:
    rules = ruleset(request.port, request.spared).strip("\n")
    script = (
        f"nft -f - <<'RULES'\n{rules}\nRULES\nnft list table {TABLE} | grep -q 'reject with tcp reset' && echo {FENCED}"
    )
    return Order(
        title=f"Keep clients from {request.host}: its packet filter resets what comes for port {request.port}",
        script=on(request.host, script, request.fleet),
        sees=FENCED,
        fails=f"Without this line {request.host} may take writes. Do not go on: cut its power at its BMC or its plug, "
        "or its port at the switch, and have that confirmed as below.",
    )


def _looks(request: FenceRequest, name: str, *, before: bool) -> Order:
    """What one witness meets. A way that never was looks like a fence, so it must have connected before."""
    try:
        place = f"{ip_address(request.address)}/{request.port}"
    except ValueError:
        raise InputError(f"{request.address!r} is not an address at which a fence can be looked at.") from None
    script = f"""\
if timeout 3 bash -c 'exec 3<>/dev/tcp/{place}' 2> /dev/null; then echo OPEN
elif [ $? = 124 ]; then echo SILENT
else echo REFUSED; fi"""
    wanted = "OPEN" if before else "REFUSED" if request.bmc is None else "SILENT"
    if before:
        title = f"Let {name} connect to {request.host} as clients do, before the fence is raised"
        fails = (
            f"{name} can be no witness: a broken way looks like a fence. Go on only when another one sees OPEN, "
            f"or when somebody stands in front of {request.host} and has pulled its plug."
        )
    else:
        title = f"Confirm the fence from {name}"
        fails = (
            "OPEN: the old primary still takes writes. Nobody may be promoted. SILENT after a fence by network: a "
            "broken way, and no proof. REFUSED after a fence by power: the machine is on."
        )
    command = f"ssh -F {FOLDER}/ssh_config {name} bash -s <<'END'\n{script}\nEND"
    return Order(title=title, script=command, sees=wanted, who="" if before else SOMEBODY_ELSE, fails=fails)


def _power(request: FenceRequest, bmc: BmcAccess, state: str, reset: str, when: When = When.ALWAYS) -> Order:
    ca = f" --cacert {FOLDER}/ca-{shlex.quote(bmc.machine)}.pem" if bmc.ca is not None else ""
    address = bmc.address.rstrip("/")
    member = '\'import json,sys; print(json.load(sys.stdin)["Members"][0]["@odata.id"])\''
    power = "'import json,sys; print(json.load(sys.stdin)[\"PowerState\"])'"
    found = f"$(bmc {address}/redfish/v1/Systems | python3 -c {member})"
    system = shlex.quote(f"/redfish/v1/Systems/{bmc.system}") if bmc.system else found
    script = f"""\
read -rsp 'Password of {bmc.username} at the BMC of {request.host}: ' password; echo
password=${{password//\\\\/\\\\\\\\}}; password=${{password//\\"/\\\\\\"}}
bmc() {{ printf 'user = "%s:%s"\\n' {shlex.quote(bmc.username)} "$password" |
  curl --silent --show-error --fail --max-time 20 --config -{ca} --header 'Content-Type: application/json' "$@"; }}
system={system}
bmc --data '{{"ResetType": "{reset}"}}' "{address}$system/Actions/ComputerSystem.Reset"
for try in $(seq 30); do
  state=$(bmc "{address}$system" | python3 -c {power})
  [ "$state" = {state} ] && break
  sleep 1
done
unset password
echo "POWER $state\""""
    title = f"Cut the power of {request.host}" if state == "Off" else f"Power {request.host} on"
    said = f"The password is `{bmc.password}`; where that lies is told above. "
    fails = said + "Without the BMC there is the plug."
    return Order(title=title, script=at_once(script), sees=f"POWER {state}", when=when, fails=fails)
