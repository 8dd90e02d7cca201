"""The shipped Ansible modules on this machine's own files, run as Ansible runs them: arguments in, one answer out."""

from __future__ import annotations

import base64
import grp
import importlib.util
import json
import os
import pwd
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation import shipped

ROLES = shipped.root() / "playbooks" / "roles"
ME = {"owner": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name}


def source(name: str) -> Path:
    (path,) = ROLES.glob(f"*/library/{name}.py")
    return path


def imported(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, source(name))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call(name: str, *, check: bool = False, path: str = "", **arguments: Any) -> dict[str, Any]:
    special = {"_ansible_check_mode": check, "_ansible_diff": True, "_ansible_remote_tmp": "/tmp"}
    done = subprocess.run(
        [sys.executable, source(name)],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments | special}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | ({"PATH": f"{path}:{os.environ['PATH']}"} if path else {}),
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def files(*entries: dict[str, Any], **more: Any) -> dict[str, Any]:
    return call("ismgr_files", files=[ME | entry for entry in entries], **more)


def snapshot(root: Path) -> dict[str, object]:
    return {
        str(path.relative_to(root)): (
            path.lstat().st_mode,
            str(path.readlink()) if path.is_symlink() else path.is_file() and path.read_text(),
        )
        for path in sorted(root.rglob("*"))
    }


def wish(root: Path) -> list[dict[str, Any]]:
    """One of each kind."""
    return [
        {"dest": f"{root}/folder", "state": "directory", "mode": "0750"},
        {"dest": f"{root}/folder/new", "content": "new\n", "mode": "0600"},
        {"dest": f"{root}/old", "content": "right\n"},
        {"dest": f"{root}/open", "content": "same\n", "mode": "0600"},
        {"dest": f"{root}/link", "state": "link", "link": "old"},
        {"dest": f"{root}/gone", "state": "absent"},
        {"dest": f"{root}/kept", "content": "first\n", "keep": True},
        {"dest": f"{root}/same", "content": "same\n"},
    ]


@pytest.fixture
def drifted(tmp_path: Path) -> Path:
    for name in ("old", "open", "gone", "kept", "same"):
        (tmp_path / name).write_text("same\n")
        (tmp_path / name).chmod(0o644)
    (tmp_path / "link").mkdir()
    return tmp_path


def test_check_mode_names_what_the_real_run_changes_and_changes_nothing(drifted: Path) -> None:
    before = snapshot(drifted)
    predicted = files(*wish(drifted), check=True)
    assert snapshot(drifted) == before
    applied = files(*wish(drifted))
    names = [Path(path).name for path in applied["changed_paths"]]
    assert names == ["folder", "new", "old", "open", "link", "gone"]
    assert predicted["changed_paths"] == applied["changed_paths"]
    assert predicted["diff"] == applied["diff"]
    again = files(*wish(drifted))
    assert (again["changed"], again["changed_paths"]) == (False, [])
    assert (drifted / "kept").read_text() == "same\n"


def test_one_file_that_is_not_valid_keeps_every_other_as_it_was(drifted: Path) -> None:
    before = snapshot(drifted)
    done = files(
        {"dest": f"{drifted}/old", "content": "good\n", "validate": "grep -q good %s"},
        {"dest": f"{drifted}/same", "content": "bad\n", "validate": "grep -q good %s"},
    )
    assert "is not valid" in done["msg"]
    assert snapshot(drifted) == before


def test_strangers_leave_an_exclusive_folder_and_no_other(tmp_path: Path) -> None:
    for folder in ("keys", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mallory").touch()
    done = files({"dest": f"{tmp_path}/keys/ada", "content": "key\n"}, purge=[f"{tmp_path}/keys"])
    assert [Path(path).name for path in done["changed_paths"]] == ["ada", "mallory"]
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*")) == ["keys/ada", "other/mallory"]


def test_a_file_of_a_user_who_does_not_exist_yet_is_predicted_and_then_refused(tmp_path: Path) -> None:
    entry = {"dest": f"{tmp_path}/file", "content": "", "owner": "nobody-of-that-name"}
    assert files(entry, check=True)["changed_paths"] == [f"{tmp_path}/file"]
    assert "nobody-of-that-name" in files(entry)["msg"]


@pytest.mark.parametrize(
    ("entry", "word"),
    [({"state": "file"}, "needs content"), ({"state": "link"}, "needs link"), ({"content": "", "mode": "9"}, "octal")],
)
def test_a_wish_without_sense_is_one_sentence(tmp_path: Path, entry: dict[str, Any], word: str) -> None:
    assert word in files({"dest": f"{tmp_path}/file"} | entry)["msg"]


@pytest.fixture
def dpkg(tmp_path: Path) -> Path:
    """In front of the real ones: a dpkg with one package and the rest of another, an apt-get that writes it down."""
    scripts = {
        "dpkg-query": "printf 'there installed\\nleft config-files\\n'; exit 1",
        "apt-get": f'echo "$@" >> {tmp_path}/asked',
    }
    for name, body in scripts.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    return tmp_path


def test_only_missing_packages_are_installed_and_nothing_is_asked_when_none_is(dpkg: Path) -> None:
    assert not call("ismgr_packages", names=["there"], path=str(dpkg))["changed"]
    assert not (dpkg / "asked").exists()
    names = ["there", "left", "new"]
    predicted = call("ismgr_packages", names=names, path=str(dpkg), check=True)
    assert not (dpkg / "asked").exists()
    applied = call("ismgr_packages", names=names, path=str(dpkg))
    assert predicted["missing"] == applied["missing"] == ["left", "new"]
    assert (dpkg / "asked").read_text().splitlines()[-1].endswith("install --no-install-recommends left new")


UNIT = {
    "LoadState": "loaded",
    "ActiveState": "active",
    "UnitFileState": "enabled",
    "ConditionResult": "yes",
    "ConditionTimestamp": "Sun 2026-11-22 05:00:00.000000 UTC",
    "ActiveEnterTimestamp": "Sun 2026-11-22 05:00:00.500000 UTC",
}
STARTED = 1795323600.5


@pytest.mark.parametrize(
    ("seen", "age", "verbs"),
    [
        ({}, -1, []),
        ({}, 1, ["restart"]),
        ({"UnitFileState": "disabled"}, -1, ["enable"]),
        (
            {"LoadState": "masked", "UnitFileState": "masked", "ActiveState": "inactive"},
            -1,
            ["unmask", "enable", "start"],
        ),
        ({"ActiveState": "inactive"}, 1, ["start"]),
        ({"ActiveState": "failed"}, 1, ["start"]),
        ({"ActiveState": "inactive", "ConditionResult": "no"}, 1, []),
        ({"ActiveState": "inactive", "ConditionResult": "no", "ConditionTimestamp": ""}, 1, ["start"]),
        ({"UnitFileState": "static"}, -1, []),
    ],
)
def test_a_unit_gets_what_it_lacks(tmp_path: Path, seen: dict[str, str], age: float, verbs: list[str]) -> None:
    units = imported("ismgr_units")
    file = tmp_path / "configuration"
    file.touch()
    os.utime(file, (STARTED + age, STARTED + age))
    unit = {
        "name": "one.service",
        "enabled": True,
        "running": True,
        "restart": [str(file)],
        "reload": [],
        "packages": ["one"],
    }
    assert list(units.actions(unit, UNIT | seen, set())) == verbs


def test_a_unit_is_reloaded_once_for_a_changed_file(tmp_path: Path) -> None:
    units = imported("ismgr_units")
    units.STAMPS = tmp_path
    unit = {
        "name": "one.service",
        "enabled": True,
        "running": True,
        "restart": [],
        "reload": ["/nowhere/configuration"],
        "packages": ["one"],
    }
    assert list(units.actions(unit, UNIT, {"/nowhere/configuration"})) == ["reload"]
    assert list(units.actions(unit, UNIT, set())) == []


@pytest.mark.parametrize("started_by_itself", [True, False])
def test_a_unit_whose_package_was_just_installed_changes_whether_or_not_the_package_starts_it(
    started_by_itself: bool,
) -> None:
    units = imported("ismgr_units")
    unit = {"name": "one.service", "enabled": True, "running": True, "restart": [], "reload": [], "packages": ["one"]}
    missing = UNIT | {"LoadState": "not-found", "ActiveState": "inactive", "UnitFileState": ""}
    assert list(units.actions(unit, missing, set(), {"one"})) == ["enable", "start"]
    seen = UNIT if started_by_itself else missing
    assert list(units.actions(unit, seen, set(), {"one"}))
    assert list(units.actions(unit, UNIT, set(), {"other"})) == []


@given(st.text(min_size=1), st.binary(min_size=16, max_size=16))
def test_a_verifier_belongs_to_its_password_and_to_no_other(password: str, salt: bytes) -> None:
    postgresql = imported("ismgr_postgresql")
    secret = postgresql.verifier(password, salt, rounds=16)
    assert postgresql.matches(password, secret)
    assert not postgresql.matches(password + "x", secret)
    assert not postgresql.matches(password, "md5" + secret)
    assert not postgresql.matches(password, None)


def test_a_verifier_is_the_one_of_the_standard() -> None:
    # the exchange of RFC 7677, section 3: user "user", password "pencil"
    secret = imported("ismgr_postgresql").verifier("pencil", base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="), 4096)
    assert secret == (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )


def test_sql_takes_no_orders_from_a_name() -> None:
    postgresql = imported("ismgr_postgresql")
    role = {"name": 'a"; DROP TABLE x; --', "password": "p", "replication": False}
    (found,) = postgresql.objects({"roles": [role], "databases": [], "slots": []}, {})
    assert found[1].startswith('CREATE ROLE "a""; DROP TABLE x; --" LOGIN')


@pytest.mark.parametrize(
    ("there", "pristine"),
    [([], True), (["1/1259", "4/1259", "5/1259"], True), (["1/1", "5/16384"], False), (["1/1", "16384/1"], False)],
)
def test_a_cluster_that_somebody_wrote_to_is_never_taken_for_a_new_one(
    tmp_path: Path, there: list[str], pristine: bool
) -> None:
    postgresql = imported("ismgr_postgresql")
    for name in there:
        (tmp_path / "base" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "base" / name).touch()
    cluster = postgresql.Cluster(SimpleNamespace(params={"version": "15", "cluster": "main"}))
    cluster.data = tmp_path
    assert cluster.pristine() is pristine


def test_a_connection_is_read_from_the_kernels_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nft = imported("ismgr_nft")
    tables = {
        "/proc/net/tcp": "0100007F:0016 0100280A:C000 01",
        "/proc/net/tcp6": "0000000000000000FFFF00000100280A:0016 0000000000000000FFFF00000200280A:C000 01",
    }
    for name, line in tables.items():
        (tmp_path / Path(name).name).write_text(
            f"header\n   0: {line} rest\n   1: 0100007F:0017 0900280A:C000 01 rest\n"
        )
    monkeypatch.setattr(nft, "Path", lambda name: tmp_path / Path(name).name)
    assert sorted(map(str, nft.peers(22))) == ["10.40.0.1", "10.40.0.2"]
    params = {"ssh_port": 22, "ssh_from": ["10.40.0.0/31"]}
    assert nft.shut_out(params) == []
    assert nft.shut_out(params | {"ssh_from": ["192.0.2.0/24", "2001:db8::/32"]}) == ["10.40.0.1", "10.40.0.2"]
    assert nft.shut_out(params | {"ssh_from": []}) == []
