"""Clients sent to the other side by hand: at HAProxy's runtime socket, by a name server. Texts only."""

from __future__ import annotations

import json
import shlex

from ismgr_automation.core.errors import InputError
from ismgr_automation.engines.endpoints import DNS_PORT, place
from ismgr_automation.engines.haproxy import NAME
from ismgr_automation.engines.paper.desk import FOLDER, at_once, root
from ismgr_automation.ports.paper import Order
from ismgr_automation.ports.recovery import BackendRequest, NameRequest

_BALANCER = """\
import os, socket
path, backend, server = {path}, {backend}, {server}
def say(words):
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(path)
        one.sendall(words.encode() + b"\\n")
        return b"".join(iter(lambda: one.recv(65536), b"")).decode()
def states():
    rows = say("show servers state " + backend).splitlines()[2:]
    return {{row.split()[3]: row.split()[6] for row in rows if row.strip()}}
others = [name for name in states() if name != server]
for name in others:
    say(f"set server {{backend}}/{{name}} state maint")
say(f"set server {{backend}}/{{server}} state ready; set server {{backend}}/{{server}} health up")
for name in others:
    say(f"shutdown sessions server {{backend}}/{{name}}")
kept = os.path.join(os.path.dirname(path), "servers.state")
with open(kept + ".new", "w") as new:
    new.write(say("show servers state"))
os.replace(kept + ".new", kept)
now = states()
print(now)
right = int(now.get(server, 1)) & ~4 == 0 and all(int(now[name]) & 1 for name in others)
print("SENDS CLIENTS TO" if right else "DOES NOT SEND CLIENTS TO", server)"""
"""Column 6 is HAProxy's administrative state: bit 0 is maintenance, bit 2 says what the file says. The states are
written down as the role does, so that a reload keeps them."""


def backend(request: BackendRequest) -> tuple[Order, ...]:
    """A block for each balancer. Raises ``InputError`` for names that HAProxy cannot have."""
    for what, name in (("backend", request.backend), ("server", request.server)):
        if not NAME.fullmatch(name):
            raise InputError(f"{name!r} cannot be the name of a {what} in HAProxy.")
    words = {"path": request.socket, "backend": request.backend, "server": request.server}
    program = _BALANCER.format(**{name: json.dumps(value) for name, value in words.items()})
    enough = f"{request.enough} of {len(request.fleet.names)} balancers must have done it"
    return tuple(
        Order(
            title=f"Have {name} send clients of {request.backend} to {request.server}",
            script=f"ssh -F {FOLDER}/ssh_config {name} {root(name, request.fleet)}python3 - <<'END'\n{program}\nEND",
            sees=f"SENDS CLIENTS TO {request.server}",
            fails=f"{enough}: one that cannot be reached is left, and told when it is back; one that answers and does "
            "not do it must be stopped (`systemctl stop haproxy`).",
        )
        for name in request.fleet.names
    )


def name(request: NameRequest, key_place: str) -> tuple[Order, ...]:
    """The whole record set at once, and a look at it at every name server. The key stands in no file and on no command
    line."""
    zone = f"{request.zone.rstrip('.')}."
    full = zone if request.record == "@" else f"{request.record}.{zone}"
    ends = "" if request.type != "CNAME" else "."
    values = [value.rstrip(".") + ends for value in request.values]
    adds = "\n".join(f"update add {full} {request.ttl} {request.type} {value}" for value in values)
    wanted = " ".join(sorted(values))
    others = [place(one, DNS_PORT) for one in request.secondaries]
    servers = " ".join(shlex.quote(f"{host} {port}") for host, port in [(request.server, request.port), *others])
    script = f"""\
read -rsp 'Secret of the key {request.key_name} (base64): ' secret; echo
update=$(command -v nsupdate || command -v knsupdate)
ask=$(command -v dig || command -v kdig)
{{ printf 'server %s\\nkey hmac-sha256:%s %s\\n' '{request.server} {request.port}' \\
  {shlex.quote(request.key_name)} "$secret"; cat <<'END'; }} | "$update"
zone {zone}
update delete {full} {request.type}
{adds}
send
END
unset secret
for one in {servers}; do
  for try in 1 2 3 4 5; do
    shown=$("$ask" +short @"${{one% *}}" -p "${{one#* }}" {full} {request.type} | sort | xargs)
    [ "$shown" = {shlex.quote(wanted)} ] && break
    sleep 1
  done
  echo "$one: $shown"
  [ "$shown" = {shlex.quote(wanted)} ] || late="$late $one"
done
echo "{full} IS ${{late:-{wanted}}}\""""
    return (
        Order(
            title=f"Point {full} to {wanted}",
            script=at_once(script),
            sees=f"{full} IS {wanted}",
            fails=f"The key's secret lies in {key_place}. Clients that know the old answer keep it for {request.ttl} "
            "seconds, and some for longer.",
        ),
    )
