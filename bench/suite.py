"""What is measured, each as a function from settings to lines of the table. What cannot run here says why."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bench import drill, estates, evidence, leases, patch, resume
from bench.measure import Failed, Row, Sample, command, rate, row, together

ROOT = Path(__file__).parents[1]
PYTHON = Path(sys.executable)
ISMGR = PYTHON.with_name("ismgr")
AT_ONCE = 4
PLAN_CODES = (0, 2)
STALE = (1,)
"""What terraform ends with when a saved plan is stale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """``scratch`` is a folder of the run's own; ``runs`` how often the quick things are repeated."""

    scratch: Path
    runs: int
    resources: int
    documents: int


def start(settings: Settings) -> Iterator[Row]:
    """What every invocation pays."""
    runs = settings.runs * 3
    bare = row("python, nothing imported", [command([PYTHON, "-c", "pass"]) for _ in range(runs)])
    yield bare
    yield row(
        "import ismgr_automation",
        [command([PYTHON, "-c", "import ismgr_automation"]) for _ in range(runs)],
        note="the line above included",
    )
    yield row("ismgr --help", [command([ISMGR, "--help"]) for _ in range(runs)])


def validate(settings: Settings) -> Iterator[Row]:
    """Reading an estate with many documents."""
    folder = settings.scratch / "documents"
    estates.documents(folder, settings.documents)
    samples = [command([ISMGR, "-C", folder, "validate"]) for _ in range(settings.runs)]
    yield row(f"validate {settings.documents} documents", samples)


def plans(settings: Settings) -> Iterator[Row]:
    """What planning itself costs: doubles instead of engines, nothing to do (bench/still.py)."""
    for items in (settings.resources, settings.resources * 10):
        samples = [command([PYTHON, "-m", "bench.still", str(items)], cwd=ROOT) for _ in range(settings.runs)]
        note = "no engines; cpu, memory: whole process"
        yield row(f"{items} items: plan, nothing to do", [_part(one, "plan") for one in samples], note)
        note = "read, observe again, compare"
        yield row(f"{items} items: refusal of a stale plan", [_part(one, "refuse") for one in samples], note)


def _part(sample: Sample, key: str) -> Sample:
    """The same sample with the seconds of one part, as the process itself tells them."""
    return replace(sample, seconds=float(json.loads(sample.stdout)[key]))


def records(settings: Settings) -> Iterator[Row]:
    """How many evidence records a second are durable."""
    folder = settings.scratch / "evidence"
    folder.mkdir()
    for one in evidence.measure(folder):
        yield rate(f"evidence: {one.name}", one.records, one.seconds, "records")


def held(settings: Settings) -> Iterator[Row]:
    """How many leases a second each kind of store gives (bench/leases.py)."""
    folder = settings.scratch / "leases"
    folder.mkdir()
    for one in leases.measure(folder):
        name = f"leases: {one.name}"
        yield rate(name, one.count, one.seconds, "of them") if one.seconds else Row(name=name, note=one.note)


def steps(_settings: Settings) -> Iterator[Row]:
    """What a durable step costs, and its first outcome in a run that another process left (bench/steps.py)."""
    for one in json.loads(command([PYTHON, "-m", "bench.steps"], cwd=ROOT).stdout):
        name = f"durable steps: {one['name']}"
        yield (
            rate(name, one["units"], one["seconds"], "steps")
            if one["units"]
            else Row(name=name, seconds=one["seconds"], runs=1)
        )


def resumes(settings: Settings) -> Iterator[Row]:
    """A run that was killed in its first unit, from the start of a new process to the end of the run."""
    samples = []
    for number in range(settings.runs):
        folder = settings.scratch / f"killed-{number}"
        resume.killed(folder)
        samples.append(command([PYTHON, "-m", "bench.resume", folder], cwd=ROOT))
    changes = json.loads(samples[0].stdout)["changes"]
    yield row(f"resume a killed run of {changes} changes: all of it", samples, "SQLite, evidence; no engines")


def read(_settings: Settings) -> Iterator[Row]:
    """How many hosts a second are read over SSH (bench/facts.py)."""
    one = json.loads(command([PYTHON, "-m", "bench.facts"], cwd=ROOT).stdout)
    yield rate(f"facts: {one['name']}", one["hosts"], one["seconds"], "hosts")


def decisions(_settings: Settings) -> Iterator[Row]:
    """What is decided of 1,000 hosts with 300 packages each (bench/decide.py), on one core."""
    for one in json.loads(command([PYTHON, "-m", "bench.decide", "1000", "300"], cwd=ROOT).stdout):
        yield Row(name=one["name"], seconds=one["seconds"], runs=1, note=f"processor time; {one['count']} of them")


def updates(settings: Settings) -> Iterator[Row]:
    """The same updates on the twenty machines of a lab, by us and by a plain playbook (bench/patch.py)."""
    yield from patch.measure(settings.scratch / "patch", settings.runs)


def drills(settings: Settings) -> Iterator[Row]:
    """What clients feel of a lost site and of a planned move, and of a site that Patroni loses (bench/drill.py)."""
    yield from drill.measure(settings.scratch / "drill", settings.runs)


def demo(_settings: Settings) -> Iterator[Row]:
    """The demo on this machine: from nothing, and again when there is nothing to do. Removes a demo that is there."""
    estate = ROOT / "build/demo"
    command([ISMGR, "lab", "down"])
    shutil.rmtree(estate, ignore_errors=True)
    yield row("lab up", [command([ISMGR, "lab", "up"])], note="image cached")
    yield row("demo: first apply", [command([ISMGR, "demo", estate])], note="on the lab that is up")
    plans = [command([ISMGR, "-C", estate, "plan"]) for _ in range(3)]
    yield row("demo: plan, nothing to do", plans)
    yield row("demo: apply, nothing to do", [command([ISMGR, "-C", estate, "apply", "--yes"]) for _ in range(3)])
    yield row("demo: verify", [command([ISMGR, "-C", estate, "verify"])])
    yield row("lab down", [command([ISMGR, "lab", "down"])])


def resources(settings: Settings) -> Iterator[Row]:
    """Many trivial resources of a native provider (bench/provider.py) in one stack and in ten."""
    for count in (10, 1):
        yield from _stacks(settings, count)


def terraform(settings: Settings) -> Iterator[Row]:
    """As many `terraform_data`, which need no plugin, with local state: in one configuration and in ten."""
    found = shutil.which("terraform")
    if found is None:
        yield Row(name="terraform_data", note="left out: there is no terraform on this machine")
        return
    for count in (10, 1):
        yield from _configurations(settings, found, count)


def _stacks(settings: Settings, count: int) -> Iterator[Row]:
    folder = settings.scratch / f"stacks-{count}"
    estates.stacks(folder, settings.resources, count)
    env = os.environ | {
        "BENCH_PASSPHRASE": "bench",
        "PATH": os.pathsep.join([str(_plugin(settings.scratch)), os.environ["PATH"]]),
    }
    what = f"{settings.resources} resources in {count} stack{'s' * (count > 1)}"

    def ismgr(*words: str) -> Sample:
        return command([ISMGR, "-C", folder, *words], env=env, codes=PLAN_CODES)

    yield row(f"{what}: apply", [ismgr("apply", "--yes")], note="native provider in Python, file state")
    yield row(f"{what}: plan, nothing to do", [ismgr("plan") for _ in range(settings.runs)])
    yield row(f"{what}: destroy", [ismgr("destroy", "--yes")])


def _plugin(scratch: Path) -> Path:
    """A folder for PATH that holds the provider under the name that the engine looks for."""
    folder = scratch / "bin"
    folder.mkdir(exist_ok=True)
    executable = folder / "pulumi-resource-bench"
    executable.write_text(f'#!/bin/sh\nexec "{PYTHON}" "{Path(__file__).with_name("provider.py")}" "$@"\n')
    executable.chmod(executable.stat().st_mode | stat.S_IXUSR)
    return folder


def _configurations(settings: Settings, binary: str, count: int) -> Iterator[Row]:
    each = settings.resources // count
    folders = [settings.scratch / f"terraform-{count}-{number}" for number in range(count)]
    for folder in folders:
        folder.mkdir()
        body = f'resource "terraform_data" "x" {{\n  count = {each}\n  input = "value ${{count.index}}"\n}}\n'
        (folder / "main.tf").write_text(body)
        command([binary, "init", "-input=false"], cwd=folder)
    what = f"{settings.resources} terraform_data in {count} root{'s' * (count > 1)}"

    def run(*words: str) -> Sample:
        calls = [lambda folder=folder: command([binary, *words], cwd=folder) for folder in folders]
        return together(calls, AT_ONCE)

    note = "local state" if count == 1 else f"local state, {AT_ONCE} at once"
    yield row(f"{what}: apply", [run("apply", "-auto-approve", "-input=false")], note=note)
    yield row(f"{what}: plan, nothing to do", [run("plan", "-input=false") for _ in range(settings.runs)])
    yield _stale(what, binary, folders, settings)
    yield row(f"{what}: destroy", [run("destroy", "-auto-approve", "-input=false")])


def _stale(what: str, binary: str, folders: list[Path], settings: Settings) -> Row:
    """A saved plan whose state has moved since: every configuration refuses it."""
    for folder in folders:
        body = folder / "main.tf"
        body.write_text(body.read_text().replace("value", "other"))
        command([binary, "plan", "-input=false", "-out=saved.plan"], cwd=folder)
        command([binary, "apply", "-auto-approve", "-input=false"], cwd=folder)
    refusals = [
        lambda folder=folder: command([binary, "apply", "saved.plan"], cwd=folder, codes=STALE) for folder in folders
    ]
    return row(f"{what}: refusal of a stale plan", [together(refusals, AT_ONCE) for _ in range(settings.runs)])


SUITE: dict[str, Callable[[Settings], Iterator[Row]]] = {
    "start": start,
    "validate": validate,
    "plans": plans,
    "evidence": records,
    "leases": held,
    "steps": steps,
    "resume": resumes,
    "facts": read,
    "decisions": decisions,
    "patch": updates,
    "drill": drills,
    "terraform": terraform,
    "resources": resources,
    "demo": demo,
}


def lines(name: str, settings: Settings) -> Iterator[Row]:
    """The lines of one benchmark, each with the load of this machine when it was taken; what fails becomes a line that
    says so, and the others still run."""
    try:
        for line in SUITE[name](settings):
            yield replace(line, load=os.getloadavg()[0])
    except Failed as problem:
        yield Row(name=name, note=f"failed: {problem}", detail=problem.words)
