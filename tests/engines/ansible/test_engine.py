"""Playbooks over real SSH: what is done, what check mode says before, and how failures come back."""

from __future__ import annotations

import contextlib
import json
import shutil

import psutil
import pytest

from ismgr_automation.core.errors import EngineFailed, InputError
from ismgr_automation.core.events import OutputSeen, TaskFinished
from ismgr_automation.ports.hosts import PlaybookResult, Reach, Status
from tests.engines.loopback import free_port, keygen, serve

WRITE = """
    - name: Write a page
      ansible.builtin.copy:
        content: "{{ page | default('hello') }}\\n"
        dest: "{{ target }}/{{ inventory_hostname }}"
        mode: "0644"
"""


def told(result: PlaybookResult) -> list[tuple[str, str, str]]:
    return [(one.host, one.task, str(one.status)) for one in sorted(result.tasks, key=lambda one: one.host)]


def test_check_says_what_run_does_then_and_a_second_run_finds_nothing(desk):
    page = desk.target / "web1"
    page.write_text("old\n")
    looked = desk.check(WRITE)
    assert page.read_text() == "old\n"
    done = desk.run(WRITE)
    assert page.read_text() == "hello\n"
    again = desk.check(WRITE)
    assert told(looked) == told(done) == [("web1", "Write a page", "changed")]
    assert again.tasks == ()
    assert again.counts == {"web1": {Status.OK: 1}}
    (task,) = looked.tasks
    assert (task.before, task.after) == (f"# {page}\nold\n", f"# {page}\nhello\n")
    assert (task.unpredictable, task.message, task.path) == ("", "", "play.yml:5")
    assert done.failed == ()
    assert done.engine.startswith("ansible-core 2.")
    ends = [(one.host, one.task, one.status) for one in desk.events if isinstance(one, TaskFinished)]
    # no facts were gathered: the play says so
    assert ends == [("web1", "Write a page", word) for word in ("changed", "changed", "ok")]
    assert list(desk.work.iterdir()) == []
    assert [one.name for one in desk.root.iterdir()] == ["play.yml"]


def test_only_the_limit_is_worked_on_with_all_hosts_variables_and_words_of_machines_never_run_as_templates(desk):
    evil = "{{ lookup('pipe', 'touch " + str(desk.target / "pwned") + "') }}"
    hosts = [
        desk.loopback.host("web1", variables={"page": "{{ hostvars['web3'].ansible_host }}"}, origin="inventory"),
        desk.loopback.host("web2", variables={"page": evil}, labels={"x": evil}),
        desk.loopback.host("web3", variables={"page": "other"}),
    ]
    desk.run(WRITE, hosts, limit=("web1", "web2"))
    assert (desk.target / "web1").read_text() == "127.0.0.1\n"
    assert (desk.target / "web2").read_text() == evil + "\n"
    assert sorted(one.name for one in desk.target.iterdir()) == ["web1", "web2"]


def test_a_role_is_found_beside_the_playbook_then_where_ansible_cfg_says_then_on_the_roles_path(desk, tmp_path):
    for folder, name in ((desk.root / "roles", "near"), (desk.root / "more", "middle"), (tmp_path / "far", "far")):
        tasks = folder / name / "tasks"
        tasks.mkdir(parents=True)
        text = f"- name: Say\n  ansible.builtin.copy: {{content: x, dest: '{{{{ target }}}}/{name}', mode: '0600'}}\n"
        (tasks / "main.yml").write_text(text)
    (desk.root / "ansible.cfg").write_text("[defaults]\nroles_path = more\n[ssh_connection]\nssh_args = -v\n")
    text = "- hosts: webs\n  gather_facts: false\n  roles: [near, middle, far]\n"
    result = desk.run(text, roles_path=(tmp_path / "far",))
    assert [(one.role, one.path) for one in result.tasks] == [
        ("near", "roles/near/tasks/main.yml:1"),
        ("middle", "more/middle/tasks/main.yml:1"),
        ("far", "roles/far/tasks/main.yml:1"),
    ]
    said = [one.text for one in desk.events if isinstance(one, OutputSeen)]
    assert "ansible.cfg: [ssh_connection] ssh_args is left out; ismgr decides about it" in said


CHECKED = """
    - name: Ask the host
      ansible.builtin.command: echo yes
      register: asked
      notify: Restart
    - name: Look without changing
      ansible.builtin.command: echo fact
      register: looked
      check_mode: false
      changed_when: false
    - name: Keep it
      ansible.builtin.set_fact:
        kept: "{{ asked.stdout | default('') }}"
    - name: Use what was asked
      ansible.builtin.copy: {content: "{{ kept }}", dest: "{{ target }}/asked", mode: "0600"}
    - name: Use what was looked at
      ansible.builtin.copy: {content: "{{ looked.stdout }}", dest: "{{ target }}/looked", mode: "0600"}
    - name: Only sometimes
      ansible.builtin.command: echo never
      when: looked.stdout == 'other'
    - name: For each
      ansible.builtin.command: "echo {{ item }}"
      loop: [a, b]
    - name: Quietly
      ansible.builtin.shell: echo quiet
      no_log: true
    - name: Fetch
      ansible.builtin.uri: {url: "http://127.0.0.1:9/"}
    - name: Enter a folder that is not there yet
      ansible.builtin.lineinfile: {path: "{{ target }}/new/file", line: x}
    - name: Never looked at
      ansible.builtin.debug: {msg: x}
  handlers:
    - name: Restart
      ansible.builtin.debug: {msg: restarted}
"""


def test_check_mode_says_where_it_cannot_tell_and_why(desk):
    result = desk.check(CHECKED)
    assert {(one.task, str(one.status), one.unpredictable) for one in result.tasks} == {
        ("Ask the host", "skipped", "command does not run in check mode"),
        ("Restart", "skipped", "runs if 'Ask the host' changes something"),
        ("Keep it", "ok", "depends on asked of 'Ask the host', which check mode could not know"),
        ("Use what was asked", "changed", "depends on kept of 'Keep it', which check mode could not know"),
        ("Use what was looked at", "changed", ""),
        ("For each", "skipped", "command does not run in check mode"),
        ("Quietly", "skipped", "shell does not run in check mode"),
        ("Fetch", "skipped", "uri does not support check mode"),
        (
            "Enter a folder that is not there yet",
            "failed",
            "check mode did not do 'Fetch' before; later tasks were not looked at",
        ),
        ("what comes after 'Enter a folder that is not there yet'", "skipped", "check mode ended there"),
    }
    assert result.failed == ()
    failed = next(one for one in result.tasks if one.status is Status.FAILED)
    assert "new/file does not exist" in failed.message


def test_a_failure_before_any_change_is_a_failure_in_check_mode_too(desk):
    result = desk.check("    - name: Stop\n      ansible.builtin.fail: {msg: stop here}\n")
    assert result.failed == ("web1",)
    assert [(one.status, one.message, one.unpredictable) for one in result.tasks] == [(Status.FAILED, "stop here", "")]


def test_failed_hosts_are_results_and_rescued_or_ignored_failures_are_not_failures(desk):
    text = """
    - name: Break and mend
      block:
        - name: Break
          ansible.builtin.command: /bin/false
      rescue:
        - name: Mend
          ansible.builtin.debug: {msg: mended}
    - name: Never mind
      ansible.builtin.command: /bin/false
      ignore_errors: true
    - name: Only web2 fails
      ansible.builtin.command: sh -c 'echo out of luck >&2; exit 3'
      when: inventory_hostname == 'web2'
    - name: Go on
      ansible.builtin.copy: {content: x, dest: "{{ target }}/{{ inventory_hostname }}", mode: "0600"}
"""
    result = desk.run(text, [desk.loopback.host("web1"), desk.loopback.host("web2")])
    assert result.failed == ("web2",)
    assert (desk.target / "web1").exists()
    assert not (desk.target / "web2").exists()
    assert [one for one in told(result) if one[0] == "web1"] == [
        ("web1", "Never mind", "changed"),
        ("web1", "Go on", "changed"),
    ]
    failed = next(one for one in result.tasks if one.task == "Only web2 fails")
    assert "out of luck" in failed.message
    assert failed.path == "play.yml:15"


def test_hosts_whose_play_was_given_up_because_of_another_did_not_land(desk):
    hosts = [desk.loopback.host(f"web{number}") for number in (1, 2, 3)]
    text = """- hosts: webs
  gather_facts: false
  serial: 2
  any_errors_fatal: true
  tasks:
    - name: One fails
      ansible.builtin.command: /bin/false
      when: inventory_hostname == 'web1'
    - name: Write
      ansible.builtin.copy: {content: x, dest: "{{ target }}/{{ inventory_hostname }}", mode: "0600"}
"""
    result = desk.run(text, hosts)
    assert result.failed == ("web1", "web2", "web3")
    assert list(desk.target.iterdir()) == []


def test_dead_hosts_are_told_apart_and_the_others_go_on(desk, tmp_path):
    good = desk.loopback.host("good")
    hosts = [
        good,
        desk.loopback.host("closed", port=free_port()),
        desk.loopback.host("nameless", address="no-such-host.invalid"),
        desk.loopback.host("stranger", user="nobody-here"),
        desk.loopback.host("impostor", host_keys=(keygen(tmp_path / "other"),)),
        desk.loopback.host("unpinned", host_keys=()),
    ]
    result = desk.run(WRITE, hosts)
    assert {one.host: one.reach for one in result.unreachable} == {
        "closed": Reach.REFUSED,
        "nameless": Reach.DNS,
        "stranger": Reach.AUTH,
        "impostor": Reach.HOST_KEY,
        "unpinned": Reach.HOST_KEY,
    }
    assert result.failed == ()
    assert (desk.target / "good").exists()
    assert result.counts["closed"] == result.counts["unpinned"] == {Status.UNREACHABLE: 1}
    assert all(one.detail for one in result.unreachable)


def test_a_host_that_dies_in_the_middle_is_unreachable_and_the_other_goes_on(desk, tmp_path):
    with serve(tmp_path / "second") as second:
        (second.folder / "authorized_keys").write_text((desk.loopback.folder / "authorized_keys").read_text())

        def kill(event: object) -> None:
            if isinstance(event, TaskFinished) and event.host == "dying":
                server = psutil.Process(second.pid)
                server.suspend()  # or it would take one more connection
                for one in [*server.children(recursive=True), server]:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        one.kill()
                (desk.target / "gone").unlink(missing_ok=True)

        desk.watch = kill
        (desk.target / "gone").touch()
        text = """
    - name: First
      ansible.builtin.command: echo first
    - name: Meet
      ansible.builtin.wait_for: {path: "{{ target }}/gone", state: absent, timeout: 60}
    - name: Last
      ansible.builtin.copy: {content: x, dest: "{{ target }}/{{ inventory_hostname }}", mode: "0600"}
"""
        result = desk.run(text, [second.host("dying"), desk.loopback.host("living")])
    assert [one.host for one in result.unreachable] == ["dying"]
    assert result.unreachable[0].reach in {Reach.REFUSED, Reach.TIMEOUT}
    assert result.failed == ()
    assert (desk.target / "living").exists()
    assert not (desk.target / "dying").exists()


def test_an_account_that_may_not_become_another_is_unreachable_by_sudo(desk):
    sudo = desk.root / "sudo"
    sudo.write_text("#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n")
    sudo.chmod(0o755)
    host = desk.loopback.host("web1", variables={"ansible_become_exe": str(sudo)}, origin="inventory")
    text = "    - name: Become\n      ansible.builtin.command: id\n      become_user: nobody\n"
    result = desk.run(text, [host], become=True)
    assert [(one.host, one.reach) for one in result.unreachable] == [("web1", Reach.SUDO)]
    assert result.failed == ()
    assert result.counts == {"web1": {Status.UNREACHABLE: 1}}


def test_a_task_that_runs_sudo_itself_and_fails_is_a_failed_task(desk):
    text = "    - name: Own\n      ansible.builtin.shell: 'echo sudo: a password is required >&2; exit 1'\n"
    result = desk.run(text)
    assert result.unreachable == ()
    assert result.failed == ("web1",)


def test_no_variable_of_a_playbook_switches_host_key_checking_off(desk, tmp_path):
    impostor = desk.loopback.host("web1", host_keys=(keygen(tmp_path / "other"),))
    text = """- hosts: webs
  gather_facts: false
  vars:
    ansible_host_key_checking: false
    ansible_ssh_host_key_checking: false
    ansible_ssh_common_args: -o StrictHostKeyChecking=no
    ansible_ssh_extra_args: -o StrictHostKeyChecking=no
    ansible_ssh_args: -o StrictHostKeyChecking=no
  tasks:
    - ansible.builtin.command: id
"""
    (desk.root / "ansible.cfg").write_text(
        "[defaults]\nhost_key_checking = False\n[ssh_connection]\nssh_args = -o StrictHostKeyChecking=no\n"
    )
    assert [one.reach for one in desk.run(text, [impostor]).unreachable] == [Reach.HOST_KEY]


def test_a_task_may_be_delegated_to_another_host_and_not_to_one_that_nobody_knows(desk, tmp_path):
    with serve(tmp_path / "second") as second:
        (second.folder / "authorized_keys").write_text((desk.loopback.folder / "authorized_keys").read_text())
        text = """
    - name: Over there
      ansible.builtin.shell: echo $SSH_CONNECTION | cut -d' ' -f4
      delegate_to: db1
      register: port
    - name: Write
      ansible.builtin.copy: {content: "{{ port.stdout }}", dest: "{{ target }}/port", mode: "0600"}
    - name: Nobody knows it
      ansible.builtin.command: id
      delegate_to: 127.0.0.2
"""
        hosts = [desk.loopback.host("web1"), second.host("db1")]
        result = desk.run(text, hosts, limit=("web1",), groups={"webs": ("web1",)})
        assert (desk.target / "port").read_text() == str(second.port)
    assert [one.host for one in result.unreachable] == ["web1"]


@pytest.mark.parametrize(
    ("text", "words", "place"),
    [
        ("- hosts: webs\n  tasks:\n    - name: [\n", "YAML parsing failed", "play.yml:4"),
        ("- hosts: webs\n  taskz: []\n", "'taskz' is not a valid attribute for a Play", "play.yml:2"),
        (
            "- hosts: webs\n  gather_facts: false\n  roles: [nowhere]\n",
            "the role 'nowhere' was not found",
            "play.yml:3",
        ),
        ("- hosts: webs\n  tasks:\n    - no_such_module: {}\n", "couldn't resolve module", "play.yml:3"),
        ("- hosts: webs\n  tasks:\n    - import_tasks: gone.yml\n", "gone.yml", ""),
    ],
    ids=["syntax", "attribute", "role", "module", "import"],
)
def test_a_wrong_playbook_is_an_input_error_with_its_place(desk, text, words, place):
    with pytest.raises(InputError) as caught:
        desk.check(text)
    assert words in str(caught.value)
    assert place in str(caught.value)
    assert list(desk.work.iterdir()) == []


def test_a_playbook_that_is_not_there_is_named(desk):
    with pytest.raises(InputError, match="there is no playbook"):
        desk.engine.check(desk.request(), desk.context())


def test_an_empty_limit_starts_nothing(desk):
    result = desk.run(WRITE, limit=())
    assert (result.tasks, result.counts, result.failed) == ((), {}, ())


def test_the_request_leaves_no_trace_of_this_machine_in_task_paths(desk, tmp_path):
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    shutil.copytree(desk.root, shipped, dirs_exist_ok=True)
    (shipped / "site.yml").write_text("- hosts: webs\n  gather_facts: false\n  tasks:\n" + WRITE)
    result = desk.run(WRITE, playbook=shipped / "site.yml")
    assert [one.path for one in result.tasks] == ["site.yml:5"]


def test_a_work_folder_that_is_full_is_one_error(desk):
    blocked = desk.work / "file"
    blocked.write_text("")
    desk.play(WRITE)
    desk.work = blocked / "below"
    with pytest.raises(EngineFailed, match="Cannot prepare Ansible"):
        desk.engine.run(desk.request(), desk.context())


def test_variables_of_the_request_are_those_of_its_group(desk):
    groups = {"webs": ("web1",), "other": ("web1",)}
    hosts = [desk.loopback.host("web1", variables={"mine": "host"})]
    text = "    - ansible.builtin.copy: {content: '{{ [mine, page] }}', dest: '{{ target }}/x', mode: '0600'}\n"
    desk.run(text, hosts, groups=groups, variables={"target": str(desk.target), "mine": "group", "page": "group"})
    assert json.loads((desk.target / "x").read_text().replace("'", '"')) == ["host", "group"]
