"""What must hold on a host after the role backup. It looks, and changes nothing."""

import json


def holds(ismgr_vars, ismgr_host):
    """Whether this host has the repository of a database."""
    return bool(ismgr_vars.get("backup_stanza")) and ismgr_vars.get("backup_repository") == ismgr_host.name


def test_the_repository_can_be_read_from_here(host, ismgr_vars):
    if stanza := ismgr_vars.get("backup_stanza"):
        with host.sudo():
            text = host.check_output("cd / && runuser -u postgres -- pgbackrest --stanza=%s --output=json info", stanza)
        (found,) = json.loads(text)
        # 2: there is no backup yet, which its timer will make
        assert found["status"]["code"] in {0, 2}, found["status"]["message"]
        assert found["cipher"] == "aes-256-cbc"


def test_backups_begin_in_time(host, ismgr_vars, ismgr_host):
    if holds(ismgr_vars, ismgr_host):
        assert host.service("ismgr-backup-full.timer").is_running
        assert host.service("ismgr-backup-full.timer").is_enabled


def test_the_pass_phrase_is_not_for_everybody(host, ismgr_vars):
    if ismgr_vars.get("backup_stanza"):
        with host.sudo():
            file = host.file("/etc/pgbackrest.conf")
            assert (file.user, file.mode) == ("postgres", 0o640)


def test_files_are_kept_in_time(host, ismgr_vars):
    if ismgr_vars.get("backup_files"):
        assert host.service("ismgr-backup-files.timer").is_running
        with host.sudo():
            assert host.file("/etc/ismgr/backup-files.password").mode == 0o600
