"""What an Ansible command that gave no results means."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.errors import ExitCode
from ansible.executor.task_queue_manager import TaskQueueManager

from ismgr_automation.core.errors import Cancelled, EngineFailed, InputError
from ismgr_automation.engines.ansible.failures import EXIT_CODES, failure, shown

ROOT = Path("/estate")


def test_every_exit_code_of_ansible_has_a_meaning():
    flags = {
        value for name, value in vars(TaskQueueManager).items() if name.startswith("RUN_") and isinstance(value, int)
    }
    # 255 stands for "unknown" inside Ansible and becomes 250 outside
    assert {int(one) for one in ExitCode} | flags - {255} <= set(EXIT_CODES)


@pytest.mark.parametrize(
    ("code", "said", "kind", "words"),
    [
        (4, "[ERROR]: YAML parsing failed.\nOrigin: /estate/play.yml:3:7\n", InputError, "play.yml:3:7: error: YAML"),
        (1, "[ERROR]: the role 'x' was not found in /a:/b\nOrigin: /estate/site.yml:4:5", InputError, "site.yml:4:5"),
        (1, "ERROR! Could not find or access '/estate/gone.yml'", InputError, "gone.yml"),
        (1, "ERROR! The error appears to be in '/estate/a.yml': line 2, column 3, but", InputError, "a.yml:2:3"),
        (1, "[ERROR]: Unable to retrieve file contents.\nCould not find '/x/y.yml' on", InputError, "'/x/y.yml'"),
        (1, "[ERROR]: Attempting to decrypt but no vault secrets found.", InputError, "vault secrets"),
        (1, "[ERROR]: something else went wrong", EngineFailed, "something else went wrong"),
        (5, "usage: ansible-playbook", EngineFailed, "usage"),
        (250, "[ERROR]: Unexpected Exception: [Errno 28] No space left on device", EngineFailed, "Free space"),
        (0, "", EngineFailed, "printed nothing"),
        (99, "[ERROR]: User interrupted execution", Cancelled, "interrupted"),
        (77, "what", EngineFailed, "code 77"),
    ],
)
def test_words_and_codes_become_errors_of_ours(code, said, kind, words):
    error = failure(code, said, subject="group/webs", root=ROOT)
    assert type(error) is kind
    assert words in str(error)
    assert "group/webs" in str(error)


def test_a_path_is_shown_as_the_estate_knows_it():
    assert shown("/estate/a/b.yml", ROOT) == "a/b.yml"
    assert shown("/elsewhere/b.yml", ROOT) == "/elsewhere/b.yml"
