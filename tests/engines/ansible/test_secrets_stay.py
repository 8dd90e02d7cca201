"""Secrets in a run: they reach the task that asks, and nothing else: no file, event, argument or environment."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Self

import pytest

from ismgr_automation.core.secret import SecretRef
from ismgr_automation.ports.hosts import Status

CANARY = 'canary-7d1e-"quoted"-$value'
SUDO = "canary-sudo-5b2f"


class Sampler:
    """Looks at every process and every file that a run could leave a secret in, again and again while it runs."""

    def __init__(self, *folders: Path) -> None:
        self.folders = folders
        self.found: set[str] = set()
        self.looks = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.05):
            self.looks += 1
            for proc in Path("/proc").glob("[0-9]*"):
                self._read(proc / "cmdline", proc / "environ")
            for folder in self.folders:
                self._read(*(one for one in folder.rglob("*") if one.is_file()))

    def _read(self, *paths: Path) -> None:
        for path in paths:
            try:
                content = path.read_bytes()
            except OSError:
                continue
            if b"canary-7d1e" in content or b"canary-sudo" in content:
                self.found.add(str(path))


def test_a_secret_is_in_no_file_event_argument_or_environment(desk):
    desk.keep("app", CANARY)
    desk.keep("sudo", SUDO)
    sudo = desk.root / "sudo"
    # takes the prompt apart as sudo does, reads the password, and goes on with the command
    sudo.write_text(
        '#!/bin/bash\nwhile [ "${1#-}" != "$1" ]; do [ "$1" = -p ] && { printf %s "$2" >&2; shift; }'
        ' || { [ "$1" = -u ] && shift; }; shift; done\n'
        f'IFS= read -r word; [ "$word" = {SUDO} ] || {{ echo "Sorry, try again." >&2; exit 1; }}\nexec "$@"\n'
    )
    sudo.chmod(0o755)
    text = """
    - name: Become somebody with a password
      ansible.builtin.command: id
      become: true
      become_user: nobody
      changed_when: false
    - name: Show a diff
      ansible.builtin.template: {src: page.j2, dest: "{{ target }}/page", mode: "0600"}
    - name: Fail with it
      ansible.builtin.fail: {msg: "it is {{ password }}, {{ password | b64encode }}, {{ password | to_json }}"}
      ignore_errors: true
    - name: "Named {{ password }}"
      ansible.builtin.debug: {var: password}
    - name: Quietly
      ansible.builtin.copy: {content: "{{ password }}", dest: "{{ target }}/quiet", mode: "0600"}
      no_log: true
"""
    (desk.root / "page.j2").write_text("password={{ password }}\n")
    host = desk.loopback.host(
        "web1", variables={"ansible_become_exe": str(sudo), "own": SecretRef("file", "app")}, origin="inventory"
    )
    variables = {"target": str(desk.target), "password": SecretRef("file", "app")}
    with Sampler(desk.work, Path("/dev/shm")) as sampler:
        result = desk.run(text, [host], variables=variables, become_password=SecretRef("file", "sudo"))
    assert (desk.target / "page").read_text() == f"password={CANARY}\n"
    assert result.failed == ()
    assert result.unreachable == ()
    assert sampler.looks > 5
    # what Ansible writes while it renders a template lies in memory; the module's arguments go through a pipe
    assert {one for one in sampler.found if not one.startswith("/dev/shm/")} == set()
    everything = repr(desk.events) + repr(result)
    assert "canary" not in everything
    assert "Y2FuYXJ5" not in everything
    assert "<secret>" in everything
    quiet = next(one for one in result.tasks if one.task == "Quietly")
    assert (quiet.status, quiet.before, quiet.after, quiet.message) == (Status.CHANGED, "", "", "")
    assert list(desk.work.iterdir()) == []
    assert not list(Path("/dev/shm").glob(f"ismgr-run-{os.getpid()}-*"))


OLD = "canary-7d1e-which-is-in-use-until-the-apply"
ROTATIONS = {
    "template": '{src: page.j2, dest: "{{ target }}/page", mode: "0600"}',
    "copy": '{content: "user=app\\npassword={{ password }}\\n", dest: "{{ target }}/page", mode: "0600"}',
    "lineinfile": '{path: "{{ target }}/page", regexp: "^password=", line: "password={{ password }}"}',
}


@pytest.mark.parametrize(("module", "args"), ROTATIONS.items(), ids=list(ROTATIONS))
def test_the_secret_that_a_new_one_replaces_is_as_hidden_as_the_new_one(desk, module, args):
    desk.keep("app", CANARY)
    (desk.root / "page.j2").write_text("user=app\npassword={{ password }}\n")
    variables = {"target": str(desk.target), "password": SecretRef("file", "app")}
    text = f"    - name: Write it\n      ansible.builtin.{module}: {args}\n"
    for play in (desk.check, desk.run):
        (desk.target / "page").write_text(f"user=app\npassword={OLD}\n")
        result = play(text, variables=variables)
        task = next(one for one in result.tasks if one.task == "Write it")
        assert "canary" not in repr(desk.events) + repr(result)
        assert "password=<secret>" in task.after
        assert task.before.splitlines()[1:3] == ["user=app", "<secret>"]


def test_what_is_replaced_is_hidden_where_what_comes_is_too_large_to_be_looked_at(desk):
    desk.keep("app", CANARY)
    (desk.target / "page").write_text(f"password={OLD}\n")
    text = """
    - name: Write it
      ansible.builtin.copy: {content: "{{ 'x' * 200000 }}{{ password }}", dest: "{{ target }}/page", mode: "0600"}
"""
    variables = {"target": str(desk.target), "password": SecretRef("file", "app")}
    result = desk.check(text, variables=variables)
    assert [(one.task, one.status) for one in result.tasks] == [("Write it", Status.CHANGED)]
    assert "canary" not in repr(desk.events) + repr(result)


def test_a_secret_is_found_across_the_end_of_what_is_kept(desk):
    desk.keep("app", CANARY)
    text = """
    - name: Write it
      ansible.builtin.copy: {content: "x", dest: "{{ target }}/page", mode: "0600"}
      loop: ["{{ 'x' * 190 }}{{ password }}", "{{ 'x' * 190 }}{{ password }} again"]
    - name: Fail with it
      ansible.builtin.fail: {msg: "{{ 'x' * (1024 * 1024 - 10) }}{{ password }}"}
"""
    variables = {"target": str(desk.target), "password": SecretRef("file", "app")}
    result = desk.run(text, variables=variables)
    assert result.failed == ("web1",)
    assert "canary" not in repr(desk.events) + repr(result)
    assert len({one.path for one in result.tasks}) == len(result.tasks)


def test_the_search_for_secrets_would_find_one(tmp_path):
    (tmp_path / "leak").write_text(f"x{CANARY}x")
    child = subprocess.Popen(["sleep", "60"], env={"LEAK": CANARY})
    with Sampler(tmp_path) as sampler:
        until = time.monotonic() + 10
        while len(sampler.found) < 2 and time.monotonic() < until:
            time.sleep(0.05)
    child.kill()
    child.wait()
    assert sampler.found == {str(tmp_path / "leak"), f"/proc/{child.pid}/environ"}


def test_a_secret_that_the_run_does_not_name_is_not_opened(desk):
    desk.keep("other", CANARY)
    text = "    - ansible.builtin.debug: {msg: \"{{ lookup('ismgr_secret', 'file:other') }}\"}\n"
    result = desk.run(text)
    assert result.failed == ("web1",)
    assert "file:other: this run may not open it" in result.tasks[0].message


def test_a_secret_that_is_missing_fails_the_task_that_asks_and_names_the_reference(desk):
    text = """
    - name: Not asked for
      ansible.builtin.debug: {msg: x}
    - name: Asked for
      ansible.builtin.debug: {var: password}
"""
    variables = {"target": str(desk.target), "password": SecretRef("file", "missing")}
    result = desk.run(text, variables=variables)
    assert result.counts["web1"] == {Status.OK: 1, Status.FAILED: 1}
    assert "Secret file:missing: cannot read" in result.tasks[0].message


def test_a_secret_is_never_read_as_a_template(desk):
    values = ["{{ 1 + 1 }}", "{% raw %}", "back\\slash 'quotes' \"too\"", "two\nlines"]
    variables: dict[str, object] = {"target": str(desk.target)}
    text = ""
    for number, value in enumerate(values):
        desk.keep(f"app{number}", value)
        variables[f"value{number}"] = SecretRef("file", f"app{number}")
        text += (
            f"    - ansible.builtin.copy: {{content: '{{{{ value{number} }}}}', dest: '{{{{ target }}}}/{number}'}}\n"
        )
    assert desk.run(text, variables=variables).failed == ()
    assert [(desk.target / str(number)).read_text() for number in range(len(values))] == values
