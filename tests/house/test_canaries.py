"""The suite's own guard against leaked secrets finds what is planted: it can fail."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.canaries import REHEARSAL, TESTS, given, kept, patterns, search, spelled
from tests.canaries import Wanted as Search

PLANTED = "canary-planted-0a1b2c"

LEAKS = """
import base64, os, sqlite3, subprocess, sys, time
import pytest

SECRET = "{planted}"

def test_writes_it(tmp_path):
    (tmp_path / "log.txt").write_text("x" + SECRET)
    (tmp_path / "plan.json").write_text(base64.b64encode(b"password=" + SECRET.encode() + b"\\n").decode())
    base = sqlite3.connect(tmp_path / "kept.db")
    base.execute("pragma journal_mode=wal")
    base.execute("create table t (x)")
    base.execute("insert into t values (?)", (SECRET,))
    base.commit()
    keep.append(base)

keep = []

def test_keeps_it_where_secrets_are(tmp_path):
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "made-up").write_text("made-up-by-a-fixture")
    (tmp_path / "copy").write_text("made-up-by-a-fixture")

def test_prints_it():
    print("the password is", SECRET)

def test_gives_it_to_a_child():
    subprocess.run([sys.executable, "-c", "pass", SECRET], check=True)
    subprocess.run([sys.executable, "-c", "pass"], check=True, env={{"LEAK": SECRET}})
    subprocess.run(["true"], check=True, env={{"PULUMI_CONFIG_PASSPHRASE": SECRET}})

def test_gives_it_to_the_child_of_a_child():
    text = "import os, time; os.environ['DEEP'] = %r; os.execv('/bin/sleep', ['deep', '60'])" % SECRET[::-1]
    text = text.replace(repr(SECRET[::-1]), repr(SECRET[::-1]) + "[::-1]")
    child = subprocess.Popen(["sh", "-c", 'exec "$0" -c "$1"', sys.executable, text])
    watch, until = request(), time.monotonic() + 60
    while not open(f"/proc/{{child.pid}}/cmdline", "rb").read().startswith(b"deep"):
        assert time.monotonic() < until
        time.sleep(0.05)
    before = watch.looks
    while watch.looks < before + 3:
        assert time.monotonic() < until
        time.sleep(0.05)
    child.kill()
    child.wait()

def request():
    from tests import fixtures_canaries
    return fixtures_canaries._here[-1].watch
"""


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """What is planted is taken away again: this run has a guard as well."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def run(folder: Path, text: str, *more: str) -> tuple[int, str]:
    (folder / "test_planted.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "--rootdir", str(folder), "--noconftest"]
    command += ["-p", "tests.fixtures_canaries", "-p", "no:cacheprovider", f"--basetemp={folder / 'base'}", *more]
    done = subprocess.run(
        [*command, str(folder / "test_planted.py")],
        capture_output=True,
        text=True,
        check=False,
        cwd=TESTS.parent,
        env={**os.environ, REHEARSAL: "1"},
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("workers", [[], ["-n", "1"]], ids=["one process", "workers"])
def test_a_planted_secret_is_found_wherever_it_is_and_fails_the_run(scratch, workers):
    code, said = run(scratch, LEAKS.format(planted=PLANTED), *workers)
    assert code == 1, said
    found = re.findall(r"^CANARY (.*?)(?: \(.*\))?$", said, re.MULTILINE)
    places = sorted(re.sub(r".*/(base/\S+)$|.*::", r"\1", one) for one in found)
    places = sorted(one.rsplit("/", 1)[-1] for one in places)
    assert places == sorted(
        [
            "copy",
            "deep: variable DEEP",
            "kept.db-wal",
            "log.txt",
            "plan.json",
            "python: argument 3",
            "python: variable LEAK",
            "test_prints_it: Captured stdout call",
        ]
    ), said
    assert PLANTED not in said.replace(f"the password is {PLANTED}", "")


def test_a_planted_secret_is_found_in_a_row_of_a_server_that_is_gone_by_the_end(scratch):
    text = f"""
def test_keeps_it(postgres):
    postgres.run("CREATE TABLE planted AS SELECT '{PLANTED}' AS word")
    postgres.run("DROP TABLE planted")
"""
    code, said = run(scratch, text, "-p", "tests.fixtures_postgres")
    if "1 skipped" in said:
        pytest.skip("no PostgreSQL server on this machine: apt-get install postgresql")
    assert code == 1, said
    assert re.search(r"^CANARY the file .*/pg_wal/", said, re.MULTILINE), said


def test_a_run_that_leaks_nothing_passes(tmp_path):
    code, said = run(tmp_path, "def test_that_all_is_well(tmp_path):\n    (tmp_path / 'a').write_text('canary')\n")
    assert (code, "CANARY" in said) == (0, False), said


def test_secrets_are_those_that_tests_spell_and_those_that_backends_keep(tmp_path):
    assert PLANTED in spelled()
    (tmp_path / "estate" / ".secrets" / "bmc").mkdir(parents=True)
    (tmp_path / "estate" / ".secrets" / "bmc" / "db1").write_text("made up")
    (tmp_path / "estate" / "README").write_text("no secret")
    assert kept(tmp_path) == {"made up"}


def test_short_texts_and_what_all_keys_share_are_not_searched_for():
    key = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmU\nown-part-of-it\n"
    assert b"own-part-of-it" in patterns([key, "short"])
    assert not [one for one in patterns([key, "short"]) if one.startswith((b"-----", b"b3Bl", b"short"))]


def test_a_file_that_may_hold_a_secret_is_named_in_the_table(scratch):
    for name in ("secrets", "logs"):
        (scratch / name).mkdir()
        (scratch / name / "one").write_text(PLANTED)
    assert search([scratch], [PLANTED.encode()]) == (scratch / "logs" / "one",)


def test_the_key_of_the_engine_is_the_only_variable_that_may_hold_one():
    environment = {b"PULUMI_CONFIG_PASSPHRASE": PLANTED.encode(), b"OTHER": PLANTED.encode()}
    found = [str(one) for one in given("/x/pulumi", [b"pulumi", b"up"], environment, Search([PLANTED]))]
    assert found == ["pulumi: variable OTHER"]
