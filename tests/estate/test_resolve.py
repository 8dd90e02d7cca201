"""What documents leave open: environments, places of state, how to log in."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from ismgr_automation.core.errors import SettingsError
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.estate.documents import Environment, EstateDocument, SshSettings
from ismgr_automation.estate.resolve import database_url, duration, environment, secret_backends, ssh, state_url


def estate(**fields) -> EstateDocument:
    return EstateDocument.model_validate({"kind": "Estate", "name": "x", "owner": "ops", **fields})


def test_the_only_environment_needs_no_name():
    assert environment(estate(environments={"one": {}}), None).name == "one"


def test_the_default_counts_where_there_are_several_and_a_name_counts_more():
    both = estate(environments={"one": {}, "two": {}}, default_environment="two")
    assert environment(both, None).name == "two"
    assert environment(both, "one").name == "one"


def test_several_environments_without_a_default_are_an_error_that_lists_them():
    with pytest.raises(SettingsError, match="one, two and no default"):
        environment(estate(environments={"one": {}, "two": {}}), None)


def test_an_unknown_environment_gets_the_near_one():
    with pytest.raises(SettingsError, match="did you mean 'production'"):
        environment(estate(environments={"production": {}}), "prodution")


@pytest.mark.parametrize(
    ("state", "url"),
    [
        ("file://.ismgr/state", "file:///estate/.ismgr/state"),
        ("file:///srv/state", "file:///srv/state"),
        ("file://~/state", "file://~/state"),
        ("s3://bucket/x?region=eu-1", "s3://bucket/x?region=eu-1"),
    ],
)
def test_a_relative_state_is_below_the_estate(state, url):
    assert state_url(Environment(state=state), Path("/estate")) == url


def test_a_relative_database_is_below_the_estate():
    assert database_url(Environment(), Path("/estate")) == "sqlite:////estate/.ismgr/ismgr.db"
    other = Environment(database="postgresql://db/ismgr")
    assert database_url(other, Path("/estate")) == "postgresql://db/ismgr"


def test_secret_backends_are_described_without_a_secret_and_env_is_always_there():
    made = estate(
        environments={"one": {}},
        secrets={"file": {"kind": "file", "root": ".secrets"}, "ci": {"kind": "environment", "prefix": "CI_"}},
    )
    assert secret_backends(made, Path("/estate")) == {
        "env": {"kind": "environment", "prefix": ""},
        "ci": {"kind": "environment", "prefix": "CI_"},
        "file": {"kind": "file", "root": "/estate/.secrets"},
    }


def test_ssh_settings_become_a_way_to_log_in():
    settings = SshSettings.model_validate({"key": {"secret": "file:ssh/operator"}, "connect_timeout": "2.5s"})
    found = ssh(settings, "line")
    assert (found.key, found.known_hosts) == (SecretRef("file", "ssh/operator"), "line")
    assert found.connect_timeout == timedelta(seconds=2.5)


@pytest.mark.parametrize(
    ("text", "seconds"), [("250ms", 0.25), ("30s", 30), ("15m", 900), ("4h", 14400), ("2d", 172800)]
)
def test_a_duration_is_a_number_and_a_unit(text, seconds):
    assert duration(text).total_seconds() == seconds
