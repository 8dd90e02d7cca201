"""Writes estates to measure with: many documents, or many resources in one or several stacks."""

from __future__ import annotations

import subprocess
from pathlib import Path

import yaml

BENCH = Path(__file__).parent
ROOT_DOCUMENT: dict[str, object] = {
    "kind": "Estate",
    "name": "bench",
    "owner": "platform",
    "environments": {"default": {"state": "file://.ismgr/state", "passphrase": {"secret": "env:BENCH_PASSPHRASE"}}},
}
TEAM: dict[str, object] = {"kind": "Team", "name": "platform", "members": [{"name": "Ada"}]}


def documents(folder: Path, count: int) -> None:
    """``count`` documents of the kinds that estates have most of, ten in a file, in a Git commit."""
    made: list[dict[str, object]] = [ROOT_DOCUMENT, TEAM]
    made += [_site(number) for number in range(count // 10)]
    made += [_group(number) for number in range(count // 5)]
    made += [_service(number) for number in range(count - len(made))]
    (folder / "playbooks").mkdir(parents=True)
    (folder / "playbooks/site.yml").write_text("- hosts: all\n  tasks: []\n")
    _write(folder / "estate.yaml", made[:1])
    for first in range(1, len(made), 10):
        _write(folder / f"documents/{first:04d}.yaml", made[first : first + 10])
    commit(folder)


def stacks(folder: Path, resources: int, count: int) -> None:
    """``resources`` in ``count`` stacks of equal size, in a Git commit."""
    program = folder / "stacks/things"
    program.mkdir(parents=True)
    for path in (BENCH / "stacks/things").iterdir():
        if path.is_file():
            (program / path.name).write_bytes(path.read_bytes())
    made: list[dict[str, object]] = [
        {"kind": "Stack", "name": f"things-{n}", "program": "stacks/things", "config": {"count": resources // count}}
        for n in range(count)
    ]
    _write(folder / "estate.yaml", [ROOT_DOCUMENT])
    _write(folder / "documents.yaml", [TEAM, *made])
    commit(folder)


def commit(folder: Path) -> None:
    """Everything in the folder as one commit of a repository of its own."""
    git = ["git", "-C", str(folder), "-c", "user.name=bench", "-c", "user.email=bench@example.org"]
    (folder / ".gitignore").write_text(".ismgr/\n")
    subprocess.run([*git, "init", "--quiet", "--initial-branch=main"], check=True)
    subprocess.run([*git, "add", "--all"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message=Measure"], check=True)


def _write(path: Path, made: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump_all(made, sort_keys=False))


def _site(number: int) -> dict[str, object]:
    machines = [
        {
            "name": f"{role}1",
            "address": f"10.{number}.0.{last}",
            "labels": {"role": role, "site": f"site{number}"},
            "bmc": {
                "address": f"https://bmc-{role}.site{number}.example.org",
                "username": "admin",
                "password": {"secret": f"env:BMC_{number}_{role.upper()}"},
            },
        }
        for last, role in enumerate(("gateway", "edge", "web", "db"), 10)
    ]
    return {"kind": "Site", "name": f"site{number}", "time_zone": "Europe/Berlin", "machines": machines}


def _group(number: int) -> dict[str, object]:
    return {
        "kind": "HostGroup",
        "name": f"group{number}",
        "selector": f'host.labels.role == "db" && host.site == "site{number}"',
        "playbook": "playbooks/site.yml",
        "variables": {"port": 5432, "peers": ["a", "b"]},
        "waves": [1, "100%"],
    }


def _service(number: int) -> dict[str, object]:
    return {
        "kind": "Service",
        "name": f"service{number}",
        "owner": "platform",
        "tier": number % 4,
        "endpoint": f"https://service{number}.example.org/",
        "objectives": {"availability": 99.9, "rto": "15m", "rpo": "1m"},
    }
