"""Check mode as a plan: a task is the same in a look and in the run, and what cannot be told is told with why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ismgr_automation.planning.change import Action, Certainty, Step
from ismgr_automation.planning.unplanned import predicted_only, unplanned, wider
from ismgr_automation.ports.hosts import PlaybookResult, Status


def steps(looked: PlaybookResult) -> list[Step]:
    """What a plan would hold."""
    return [
        Step(
            target=one.host,
            what=one.task,
            action=Action.CONFIGURE,
            certainty=Certainty.UNPREDICTABLE if one.unpredictable else Certainty.CHANGES,
            where=one.path,
            before=one.before or None,
            after=one.after or None,
        )
        for one in looked.tasks
        if one.status is Status.CHANGED or one.unpredictable
    ]


def places(result: PlaybookResult) -> list[str]:
    return [one.path for one in result.tasks if one.status is Status.CHANGED]


COPY = "ansible.builtin.copy: {{content: x, dest: '{{{{ target }}}}/{name}', mode: '0600'}}"
WRITE = {name: COPY.format(name=name) for name in ("one", "two", "three", "{{ item }}")}
TWICE = f"""
    - name: Write each
      {WRITE["{{ item }}"]}
      loop: [a, b, b]
    - name: Again and again
      ansible.builtin.include_tasks: more.yml
      loop: [c, d]
      loop_control: {{loop_var: turn}}
    - name: Template
      ansible.builtin.template: {{src: page.j2, dest: "{{{{ target }}}}/page", mode: "0644"}}
      notify: Told
    - name: Once for all
      ansible.builtin.copy: {{content: x, dest: "{{{{ target }}}}/once", mode: "0600"}}
      run_once: true
  handlers:
    - name: Heard
      listen: Told
      ansible.builtin.copy: {{content: x, dest: "{{{{ target }}}}/heard", mode: "0600"}}
"""
MORE = """- name: Write {{ turn }}
  ansible.builtin.copy: {content: x, dest: "{{ target }}/{{ turn }}", mode: "0600"}
"""


def test_items_turns_includes_templates_and_handlers_are_the_same_tasks_in_check_mode_and_in_the_run(desk):
    (desk.root / "more.yml").write_text(MORE)
    (desk.root / "page.j2").write_text("hello {{ inventory_hostname }}\n")
    (desk.target / "a").write_text("other")
    looked, again = desk.check(TWICE), desk.check(TWICE)
    assert looked == again
    signed = steps(looked)
    assert wider(signed, again) == ()
    done = desk.run(TWICE)
    # the second b finds the file that the first one wrote
    assert places(looked) == [
        *("play.yml:5[a]", "play.yml:5[b]", "play.yml:5[b (2)]"),
        *("more.yml:1", "more.yml:1#2"),
        *("play.yml:12", "play.yml:15", "play.yml:19"),
    ]
    assert unplanned(signed, done) == ()
    assert predicted_only(signed, done) == ("web1: Write each (b (2)) (play.yml:5[b (2)]) was to change, and did not",)
    assert [one.within for one in done.tasks if one.task.startswith("Write c")] == [("play.yml:8",)]
    assert [one.once for one in done.tasks if one.task == "Once for all"] == [True]
    page = next(one for one in looked.tasks if one.task == "Template")
    assert page.after == f"# {desk.target}/page\nhello web1\n"


def test_what_the_world_did_meanwhile_is_found_by_a_later_look_and_by_the_run(desk):
    text = f"    - {WRITE['one']}\n    - {WRITE['two']}\n"
    for name in ("one", "two"):
        (desk.target / name).write_text("x")
        (desk.target / name).chmod(0o600)
    (desk.target / "one").write_text("y")
    signed = steps(desk.check(text))
    assert [one.where for one in signed] == ["play.yml:4"]
    (desk.target / "two").unlink()
    (told,) = wider(signed, desk.check(text))
    assert "play.yml:5) would change now" in told
    (desk.target / "one").write_text("z")
    assert any("would change something else now" in one for one in wider(signed, desk.check(text)))
    done = desk.run(text)
    (told,) = unplanned(signed, done)
    assert "play.yml:5) changed, and the plan says that it would not" in told


DOUBTFUL = f"""
    - name: Promise
      {WRITE["one"]}
      register: promised
    - name: Only its status
      {WRITE["two"]}
      when: promised is changed
    - name: More than its status
      ansible.builtin.copy: {{content: "{{{{ promised.checksum | default('') }}}}", dest: "{{{{ target }}}}/three"}}
    - name: Ask
      ansible.builtin.command: echo c
      register: asked
      notify: First
    - name: Include what was asked
      ansible.builtin.include_tasks: more.yml
      loop: "{{{{ asked.stdout_lines | default([]) }}}}"
      loop_control: {{loop_var: turn}}
    - name: Only if
      when: asked.stdout | default('') == 'c'
      block:
        - name: In a block
          ansible.builtin.copy: {{content: x, dest: "{{{{ target }}}}/block", mode: "0600"}}
    - name: Never does it
      ansible.builtin.copy: {{content: x, dest: "{{{{ target }}}}/never", mode: "0600"}}
      check_mode: true
    - name: Does not run it either
      ansible.builtin.command: echo never
      check_mode: true
    - name: Does it even in check mode
      ansible.builtin.command: echo really
      check_mode: false
  handlers:
    - name: First
      ansible.builtin.command: echo first
      notify: Second
    - name: Second
      ansible.builtin.command: echo second
"""


def test_what_depends_on_a_result_that_check_mode_does_not_have_is_unpredictable_and_covered(desk):
    (desk.root / "more.yml").write_text(MORE)
    looked = desk.check(DOUBTFUL)
    assert {one.task: one.unpredictable for one in looked.tasks} == {
        "Promise": "",
        "Only its status": "",
        "More than its status": "depends on promised of 'Promise', which check mode did not do",
        "Ask": "command does not run in check mode",
        "First": "runs if 'Ask' changes something",
        "Second": "runs if 'Ask' changes something",
        "Include what was asked": "depends on asked of 'Ask', which check mode could not know",
        "In a block": "depends on asked of 'Ask', which check mode could not know",
        "Does it even in check mode": "",
    }
    done = desk.run(DOUBTFUL)
    changed = {one.task for one in done.tasks if one.status is Status.CHANGED}
    assert changed == {
        *("Promise", "Only its status", "More than its status", "Ask", "Write c", "In a block"),
        *("Does it even in check mode", "First", "Second"),
    }
    assert not (desk.target / "never").exists()
    signed = steps(looked)
    assert unplanned(signed, done) == ()
    assert predicted_only(signed, done) == ()
    # the same run under a plan that is sure of everything
    sure = [one for one in signed if one.certainty is Certainty.CHANGES]
    assert len(unplanned(sure, done)) == 6


@pytest.mark.parametrize("rescue", ["", "      rescue: [{ansible.builtin.debug: {msg: x}}]\n"], ids=["", "rescued"])
def test_where_check_mode_ends_early_the_rest_of_the_host_is_left_open_and_other_hosts_are_not(desk, rescue):
    text = f"""
    - name: Make
      ansible.builtin.file: {{path: "{{{{ target }}}}/new", state: directory, mode: "0700"}}
    - name: Try
      block:
        - name: Enter
          ansible.builtin.lineinfile: {{path: "{{{{ target }}}}/new/file", create: false, line: x}}
          when: inventory_hostname == 'web1'
        - name: Later
          {WRITE["one"]}
{rescue}"""
    hosts = [desk.loopback.host("web1"), desk.loopback.host("web2")]
    (desk.target / "one").write_text("x")
    (desk.target / "one").chmod(0o600)
    looked = desk.check(text, hosts)
    assert looked.failed == ()
    open_ends = [one.host for one in looked.tasks if not one.path]
    assert open_ends == ["web1"]
    (desk.target / "one").unlink()
    (desk.target / "new").mkdir()
    (desk.target / "new" / "file").write_text("")
    done = desk.run(text, hosts)
    late = replace(done, tasks=tuple(one for one in done.tasks if one.task == "Later"))
    assert late.tasks
    told = unplanned(steps(looked), late)
    assert [one.partition(":")[0] for one in told] == [one.host for one in late.tasks if one.host != "web1"]
