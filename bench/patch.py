"""How soon updates are on the twenty machines of a lab: ours beside a plain playbook, from the same state each time,
and the way back. Machines, packages and connections are real, so it needs root. `python -m bench.patch facts` is one
act on a lab that is up. Nothing is measured of which it was not seen on the machines that it happened."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bench import machines
from bench.machines import DEADLINE, ISMGR, NAME
from bench.measure import Failed, Row, Sample, command, row
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.lab import Lab, patches
from ismgr_automation.lab.topology import USER
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Host, Ssh
from ismgr_automation.ports.packages import Fleet, HostFacts, Move, PackageFate, PackageRequest, PackageResult
from ismgr_automation.ports.secrets import SecretStore

ONE = "web1.dc1"
"""The machine that is rolled back."""
WEBS = 7
"""Web machines of each site: with gateways, edges and databases there are twenty."""
FORKS = 20
"""As many as there are machines: no machine waits for another's turn, with us neither."""
UPDATES = tuple(one for one in patches.SECOND if one.name != patches.BROKEN)
"""All that can be configured."""
FORMER: Mapping[str, str] = {one.name: one.version for one in patches.FIRST}
LATTER: Mapping[str, str] = {**FORMER, **{one.name: one.version for one in UPDATES}}
ROOT = Path(__file__).parents[1]
PYTHON = Path(sys.executable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A lab whose machines are on, and the folder from which plain Ansible works on them."""

    lab: Lab
    folder: Path

    @property
    def names(self) -> tuple[str, ...]:
        """All machines of both sites."""
        return tuple(machine.name for machine in self.lab.topology.servers)


def measure(folder: Path, runs: int) -> Iterator[Row]:
    """The lines of a lab of its own, which is taken away at the end. Raises ``Failed``."""
    folder.mkdir()
    with _up(folder, WEBS) as bench:
        count = len(bench.names)
        reset(bench)
        facts = [_act("facts") for _ in range(runs)]
        seconds = [_told(one, "seconds") for one in facts]
        yield row(
            f"facts: {count} real machines over SSH",
            [replace(one, seconds=took) for one, took in zip(facts, seconds, strict=True)],
            note=f"{count / statistics.median(seconds):.1f} hosts a second; cpu, memory: whole process",
        )
        yield from _installs(bench, runs)
    # the demo's estate is that of the usual lab
    with _up(folder, 1) as bench:
        yield _contract(bench)


def _installs(bench: Bench, runs: int) -> Iterator[Row]:
    """Both ways in turn, and in turn the first, so that what else this machine does, and what the way before has left
    in caches, hits both alike: A B B A. That takes an even number of runs."""
    ours, theirs, back = [], [], []
    patched = dict.fromkeys(bench.names, LATTER)
    for number in range(runs + runs % 2):
        for is_ours in (number % 2 == 0, number % 2 == 1):
            reset(bench)
            if is_ours:
                ours.append(_act("install", f"bench-{number}"))
                expect(bench, patched)
                back.append(_act("rollback", f"bench-{number}"))
                expect(bench, {**patched, ONE: FORMER})
            else:
                theirs.append(_playbook(bench, number))
                expect(bench, patched)
    what = f"{len(UPDATES)} updates, {len(bench.names)} machines"
    check, apply = (statistics.median(_told(one, key) for one in ours) for key in ("check", "apply"))
    yield row(f"{what}: ours", ours, f"check {check:.1f} s, then install {apply:.1f} s")
    ratio = statistics.median(one.seconds for one in theirs) / statistics.median(one.seconds for one in ours)
    yield row(f"{what}: Ansible", theirs, f"apt module, {FORKS} forks, pipelining; {ratio:.2f} times ours")
    yield row(
        f"{len(UPDATES)} updates, 1 machine: rollback",
        [replace(one, seconds=_told(one, "seconds")) for one in back],
        note="cpu, memory: whole process",
    )


def _contract(bench: Bench) -> Row:
    """`ismgr patch apply` once, on the demo's estate: a plan by its policy, waves, drained services, restarts, health.
    Not to be compared with the lines above: it is another piece of work."""
    from ismgr_automation.cli.demo import prepare
    from ismgr_automation.cli.demo_patch import deny

    estate = bench.folder / "estate"
    prepare(bench.lab, estate, lambda text: machines.moved(bench.lab, text))
    bad = next(one.version for one in patches.SECOND if one.name == patches.BROKEN)
    deny(estate, f"{patches.BROKEN}={bad}")
    command([ISMGR, "-C", estate, "apply", "--yes"])
    reset(bench)
    sample = command([ISMGR, "-C", estate, "patch", "apply", "--yes"])
    made = sum(len(_versions(bench, name) - _lines(FORMER)) for name in bench.names)
    if not made:
        raise Failed("`ismgr patch apply` installed nothing", sample.stdout)
    note = f"{made} updates: plan, waves, drain, restarts, health"
    return row(f"whole contract, {len(bench.names)} machines", [sample], note)


def _act(*words: str) -> Sample:
    return command([PYTHON, "-m", "bench.patch", *words], cwd=ROOT)


def _told(sample: Sample, key: str) -> float:
    return float(json.loads(sample.stdout)[key])


# the lab


@contextmanager
def _up(folder: Path, webs: int) -> Iterator[Bench]:
    with machines.up(webs) as lab:
        lab.publish_patches()
        yield Bench(lab=lab, folder=_handed_over(lab, folder / f"ansible-{webs}"))


def reset(bench: Bench) -> None:
    """The first versions everywhere, and nothing of the second fetched before."""
    bench.lab.publish_patches(reset=True)
    for name in bench.names:
        _on(bench, name, "apt-get", "clean")
    expect(bench, dict.fromkeys(bench.names, FORMER))


def expect(bench: Bench, wanted: Mapping[str, Mapping[str, str]]) -> None:
    """See that machines have exactly these versions. Raises ``Failed``."""
    for name, versions in wanted.items():
        found = _versions(bench, name)
        if found != _lines(versions):
            raise Failed(f"{name} does not have the versions that it should have", "\n".join(sorted(found)))


def _versions(bench: Bench, name: str) -> set[str]:
    shown = "${Package} ${Version} ${db:Status-Status}\n"
    return set(_on(bench, name, "dpkg-query", "--show", "--showformat", shown, *FORMER).splitlines())


def _lines(versions: Mapping[str, str]) -> set[str]:
    return {f"{package} {version} installed" for package, version in versions.items()}


def _on(bench: Bench, name: str, *argv: str) -> str:
    return machines.on(bench.lab, name, *argv)


# plain Ansible


def playbook() -> str:
    """The same updates for people without us, as they would write it. No host's service is restarted by the way: ours
    leaves that to a step of its own too."""
    task = {
        "name": "Install exact versions",
        "ansible.builtin.apt": {"name": [f"{one.name}={one.version}" for one in UPDATES]},
        "environment": {"NEEDRESTART_SUSPEND": "1"},
    }
    return json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [task]}], indent=1)


def _handed_over(lab: Lab, folder: Path) -> Path:
    """What `ismgr inventory --write` gives, and the playbook."""
    from ismgr_automation.engines.ansible.handover import write_folder

    write_folder(folder, hosts_of(lab), Ssh(key_file=lab.folder.operator_key), {}, become=True)
    (folder / "patch.yml").write_text(playbook())
    return folder


def _playbook(bench: Bench, number: int) -> Sample:
    """One run. It finds no connection of the run before open: ours does not either."""
    sockets = bench.folder / f"cp{number}"
    argv = (PYTHON.with_name("ansible-playbook"), "--forks", str(FORKS), "patch.yml")
    env = os.environ | {"ANSIBLE_SSH_CONTROL_PATH_DIR": str(sockets), "ANSIBLE_LOCALHOST_WARNING": "False"}
    return command(argv, cwd=bench.folder, env=env)


# ours, in a process of its own


def hosts_of(lab: Lab) -> tuple[Host, ...]:
    """The machines of both sites, their keys pinned."""
    return tuple(
        Host(
            name=machine.name,
            address=str(machine.management),
            origin="bench",
            user=USER,
            host_keys=(lab.folder.host_key(machine).read_text().strip(),),
        )
        for machine in lab.topology.servers
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """What an act works with."""

    lab: Lab
    store: SecretStore
    context: Context

    def fleet(self, *names: str) -> Fleet:
        """These machines, or all."""
        hosts = hosts_of(self.lab)
        ssh = Ssh(key=SecretRef.parse(f"file:{self.lab.folder.operator_key.name}"))
        return Fleet(hosts=hosts, names=names or tuple(one.name for one in hosts), ssh=ssh)


def facts(ours: Ours, _run: str) -> Mapping[str, float]:
    """Read all machines."""
    from ismgr_automation.engines.apt import AptFacts

    fleet = ours.fleet()
    started = time.perf_counter()
    found = AptFacts(ours.store).read(fleet, ours.context)
    seconds = time.perf_counter() - started
    if wrong := [one for one in found if not isinstance(one, HostFacts)]:
        raise Failed(f"{len(wrong)} of {len(found)} machines were not read", str(wrong[0]))
    return {"seconds": seconds}


def install(ours: Ours, run: str) -> Mapping[str, float]:
    """Ask all machines what would happen, then let it: exact files by digest, former ones kept, versions pinned."""
    from ismgr_automation.engines.apt import AptManager

    digests = {(one.name, one.version): one.digest for one in ours.lab.repository.offered()}
    moves = tuple(replace(one, digest=digests[one.name, one.after]) for one in forth())
    fleet = ours.fleet()
    request = PackageRequest(fleet=fleet, moves=dict.fromkeys(fleet.names, moves), run=run, deadline=DEADLINE)
    manager = AptManager(ours.store)
    check = _timed(lambda: manager.check(request, ours.context))
    return {"check": check, "apply": _timed(lambda: manager.apply(request, ours.context))}


def rollback(ours: Ours, run: str) -> Mapping[str, float]:
    """Take one machine back to what it had before a run."""
    from ismgr_automation.engines.apt import AptManager

    back = tuple(replace(one, before=one.after, after=one.before) for one in forth())
    request = PackageRequest(fleet=ours.fleet(ONE), moves={ONE: back}, run=run, deadline=DEADLINE)
    return {"seconds": _timed(lambda: AptManager(ours.store).rollback(request, ours.context))}


def forth() -> tuple[Move, ...]:
    """What each machine is asked to do."""
    return tuple(Move(name=one.name, architecture="all", before=FORMER[one.name], after=one.version) for one in UPDATES)


def _timed(work: Callable[[], Sequence[PackageResult]]) -> float:
    """Seconds. Raises ``Failed`` when a machine fared otherwise than well."""
    started = time.perf_counter()
    results = work()
    seconds = time.perf_counter() - started
    if wrong := [one for one in results if one.fate is not PackageFate.DONE]:
        raise Failed(f"{wrong[0].host}: {wrong[0].fate} {wrong[0].trouble}", wrong[0].detail)
    return seconds


ACTS: Mapping[str, Callable[[Ours, str], Mapping[str, float]]] = {
    "facts": facts,
    "install": install,
    "rollback": rollback,
}


def main(act: str, run: str = "") -> None:
    """One act on the lab that is up; prints seconds by name."""
    import tempfile

    from ismgr_automation.engines.secrets import Backends, PrivateFiles

    lab = Lab.find(NAME)
    with tempfile.TemporaryDirectory(prefix="ismgr-bench-") as work:
        store = Backends({"file": PrivateFiles(root=lab.folder.root)})
        ours = Ours(lab=lab, store=store, context=Context(work=Path(work), run=run))
        sys.stdout.write(json.dumps(ACTS[act](ours, run)) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
