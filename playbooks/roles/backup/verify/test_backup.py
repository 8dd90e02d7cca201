"""What must hold on a host after the role backup. It looks, and changes nothing."""

import json


def stanza(ismgr_vars, ismgr_host):
    """The database whose repository is here; a member may be configured long before its repository is."""
    holds = ismgr_vars.get("backup_repository", ismgr_host.name) == ismgr_host.name
    return ismgr_vars.get("backup_stanza", "") if holds else ""


def backrest(host, name, *words):
    with host.sudo():
        return host.check_output(f"cd / && runuser -u postgres -- pgbackrest --stanza=%s {' '.join(words)}", name)


def test_the_repository_can_be_read_and_is_encrypted(host, ismgr_vars, ismgr_host):
    if name := stanza(ismgr_vars, ismgr_host):
        (found,) = json.loads(backrest(host, name, "--output=json", "info"))
        # 2: there is no backup yet, which its timer will make
        assert found["status"]["code"] in {0, 2}, found["status"]["message"]
        assert found["cipher"] == "aes-256-cbc"


def test_every_member_is_reached_and_archives(host, ismgr_vars, ismgr_host):
    if name := stanza(ismgr_vars, ismgr_host):
        backrest(host, name, "--no-archive-check", "check")


def test_backups_begin_in_time(host, ismgr_vars, ismgr_host):
    if stanza(ismgr_vars, ismgr_host):
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
