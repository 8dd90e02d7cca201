"""How many hosts a second are read: one script over one SSH connection each. The hosts are addresses of loopback behind
one server process that answers the script with a recorded output: `python -m bench.facts 1000`."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.measure import Failed
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines.apt import AptFacts
from ismgr_automation.engines.secrets import Backends, PrivateFiles
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Host, Ssh
from ismgr_automation.ports.packages import Fleet, HostFacts

HOSTS = 1000
PACKAGES = 300
OFFERED = 40
RECORDED = Path(__file__).parents[1] / "tests/cases/apt/machine.txt"
_EACH = 250
"""Addresses in one network of loopback."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Hosts that were read, and how long it took altogether."""

    name: str
    hosts: int
    seconds: float


def measure(folder: Path, hosts: int = HOSTS) -> Rate:
    """Read so many hosts once. ``folder`` is for keys."""
    import asyncssh

    for name in ("host", "client"):
        key = asyncssh.generate_private_key("ssh-ed25519")
        (folder / name).write_bytes(key.export_private_key())
        (folder / name).chmod(0o600)
        key.write_public_key(folder / f"{name}.pub")
    (folder / "answer").write_text(answer(PACKAGES, OFFERED))
    server = subprocess.Popen(
        [sys.executable, "-m", "bench.facts", "serve", str(folder), str(hosts)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    try:
        port = int(server.stdout.readline() if server.stdout else "")
        return _read(folder, hosts, port)
    finally:
        server.terminate()
        server.wait(10)


def answer(packages: int, offered: int) -> str:
    """The recorded output of a host, grown to so many packages and versions on offer."""
    text = RECORDED.read_text()
    place = "http://deb.test/debian bookworm/main amd64 Packages"
    names = [f"lib-something-{number}" for number in range(packages)]
    more = {
        "packages": "".join(f"ii \t{one}\tamd64\t1.{len(one)}-1+deb12u1\t{one}\t1.0-1\tlibs\n" for one in names),
        "versions": "".join(f"{one}\t1.2-1\t1\t{place}\n" for one in names[:offered]),
        "records": "".join(
            f"Package: {one}\nVersion: 1.2-1\nArchitecture: amd64\nSection: libs\nSize: 4711\nSHA256: {'0' * 64}\n\n"
            for one in names[:offered]
        ),
    }
    for section, rows in more.items():
        text = text.replace(f"@@ {section}\n", f"@@ {section}\n{rows}")
    return text


def _read(folder: Path, count: int, port: int) -> Rate:
    own = " ".join((folder / "host.pub").read_text().split()[:2])
    hosts = tuple(
        Host(
            name=f"host{number}",
            address=address_of(number),
            origin="bench",
            port=port,
            host_keys=(own,),
        )
        for number in range(count)
    )
    ssh = Ssh(key=SecretRef.parse("file:client"))
    fleet = Fleet(hosts=hosts, names=tuple(one.name for one in hosts), ssh=ssh)
    reader = AptFacts(Backends({"file": PrivateFiles(root=folder)}))
    started = time.perf_counter()
    found = reader.read(fleet, Context(work=folder))
    seconds = time.perf_counter() - started
    if wrong := [one for one in found if not isinstance(one, HostFacts)]:
        raise Failed(f"{len(wrong)} of {count} hosts were not read", str(wrong[0]))
    return Rate(name=f"{count} hosts, {PACKAGES} packages each", hosts=count, seconds=seconds)


def address_of(number: int) -> str:
    """Each host has an address of its own."""
    return f"127.77.{number // _EACH}.{number % _EACH + 1}"


def serve(folder: Path, hosts: int) -> None:
    """Answer any command on all addresses with the recorded output; print the port when ready."""
    import asyncssh

    said = (folder / "answer").read_text()

    def reply(process: asyncssh.SSHServerProcess[str]) -> None:
        process.stdout.write(said)
        process.exit(0)

    async def main() -> None:
        options = asyncssh.SSHServerConnectionOptions(
            server_host_keys=[str(folder / "host")],
            authorized_client_keys=str(folder / "client.pub"),
            process_factory=reply,
        )
        port = 0
        for number in range(hosts):
            listener = await asyncssh.listen(address_of(number), port, options=options)
            port = listener.get_port()
        sys.stdout.write(f"{port}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()

    asyncio.run(main())


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        with tempfile.TemporaryDirectory(prefix="ismgr-bench-") as scratch:
            rate = measure(Path(scratch), int((sys.argv[1:] or [str(HOSTS)])[0]))
        sys.stdout.write(json.dumps({"name": rate.name, "hosts": rate.hosts, "seconds": rate.seconds}) + "\n")
