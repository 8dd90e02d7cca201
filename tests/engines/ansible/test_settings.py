"""Settings of Ansible: what an estate's ansible.cfg may say, and what of our environment a run sees."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest

from ismgr_automation.core.errors import InputError
from ismgr_automation.engines.ansible import settings


def written(text: str) -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(text)
    return dict(parser["defaults"])


def test_folders_of_an_estate_are_taken_over_with_their_own_place(tmp_path):
    (tmp_path / "ansible.cfg").write_text(
        "[defaults]\nroles_path = roles:../shared\nfilter_plugins = /abs\ngathering = explicit\n"
        "remote_user = eve\nlog_path = /tmp/log\nstdout_callback = yaml\n[privilege_escalation]\nbecome = True\n"
    )
    found = settings.find_settings(tmp_path / "playbooks" / "site.yml", tmp_path)
    assert found.defaults == {
        "roles_path": f"{tmp_path}/roles:{tmp_path.parent}/shared",
        "filter_plugins": "/abs",
        "gathering": "explicit",
    }
    assert found.ignored == (
        "[defaults] remote_user",
        "[defaults] log_path",
        "[defaults] stdout_callback",
        "[privilege_escalation] become",
    )


def test_the_nearest_file_counts_and_none_above_the_estate(tmp_path):
    root = tmp_path / "estate"
    (root / "playbooks").mkdir(parents=True)
    for folder in (tmp_path, root, root / "playbooks"):
        (folder / "ansible.cfg").write_text("[defaults]\n")
    assert settings.find_settings(root / "playbooks" / "site.yml", root).path == root / "playbooks" / "ansible.cfg"
    (root / "playbooks" / "ansible.cfg").unlink()
    assert settings.find_settings(root / "playbooks" / "site.yml", root).path == root / "ansible.cfg"
    (root / "ansible.cfg").unlink()
    assert settings.find_settings(root / "playbooks" / "site.yml", root).path is None


@pytest.mark.parametrize(("text", "line"), [("no section\n", 1), ("[defaults]\nx = 1\n???\n", 3)])
def test_a_file_that_cannot_be_read_is_named_with_its_line(tmp_path, text, line):
    (tmp_path / "ansible.cfg").write_text(text)
    with pytest.raises(InputError, match=f"ansible.cfg:{line}:1"):
        settings.find_settings(tmp_path / "site.yml", tmp_path)


def test_the_runs_settings_put_the_estates_folders_first_and_ours_last():
    estate = settings.EstateSettings(defaults={"roles_path": "/e/roles", "gathering": "explicit"})
    made = written(settings.render_settings(estate, [Path("/r1"), Path("/r2")], [Path("/c")]))
    assert made["roles_path"] == "/e/roles:/r1:/r2"
    assert made["collections_path"] == "/c"
    assert made["gathering"] == "explicit"
    assert made["lookup_plugins"] == str(settings.PLUGINS / "lookup")


def test_nothing_of_our_environment_is_passed_on_that_could_be_a_secret():
    own = {"PATH": "/bin", "HOME": "/h", "BMC_PASSWORD": "canary", "ANSIBLE_LOG_PATH": "/tmp/l", "HTTPS_PROXY": "p"}
    made = settings.environment(own, config=Path("/c"), memory=Path("/m"))
    assert "canary" not in str(made)
    assert "ANSIBLE_LOG_PATH" not in made
    assert made["HTTPS_PROXY"] == "p"
    assert made["ANSIBLE_HOST_KEY_CHECKING"] == "True"
    assert made["ANSIBLE_LOCAL_TEMP"].startswith("/m/")
