"""What must hold on a host after the role postgresql. It looks, and changes nothing."""

import pytest


def sql(host, text):
    with host.sudo():
        return host.check_output("cd / && runuser -u postgres -- psql -XAtq -d postgres -c %s", text)


@pytest.fixture
def primary(ismgr_vars, ismgr_host):
    return ismgr_vars["postgresql_primary"] == ismgr_host.name


def test_it_is_what_the_estate_says(host, primary):
    assert host.service("postgresql@15-main").is_running
    assert sql(host, "SELECT pg_is_in_recovery()") == ("f" if primary else "t")


def test_the_standby_streams_and_the_primary_keeps_its_wal(host, primary, ismgr_vars):
    if primary:
        slots = sql(host, "SELECT count(*) FROM pg_replication_slots WHERE slot_type = 'physical'")
        assert int(slots) >= len(ismgr_vars.get("postgresql_members", [])) - 1
    else:
        assert sql(host, "SELECT status || ' ' || (slot_name <> '') FROM pg_stat_wal_receiver") == "streaming true"


def test_it_has_read_its_newest_configuration(host):
    assert sql(host, "SELECT count(*) FROM pg_settings WHERE pending_restart") == "0"
    assert sql(host, "SELECT count(*) FROM pg_hba_file_rules WHERE error IS NOT NULL") == "0"


def test_passwords_are_scram_and_users_are_not_superusers(host):
    text = """SELECT count(*) FROM pg_authid WHERE rolcanlogin AND rolname <> 'postgres'
        AND (rolsuper OR rolpassword NOT LIKE 'SCRAM-SHA-256$%')"""
    assert sql(host, text) == "0"


def test_it_never_starts_by_itself_after_a_power_cycle(host):
    with host.sudo():
        lines = host.file("/etc/postgresql/15/main/start.conf").content_string.splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["manual"]
