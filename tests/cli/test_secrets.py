"""`ismgr secrets check`: what can be opened, by whom, and never a value."""

from __future__ import annotations

from tests.cli.conftest import Say
from tests.rehearsal import Rehearsal

VALUE = "canary-check-3d"
ESTATE = """\
kind: Estate
name: two-sites
owner: platform
environments:
  lab:
    passphrase: {secret: "file:passphrase"}
    plan_credentials:
      user: looker
      key: {secret: "file:looker-key"}
      secrets:
        file: {kind: file, root: .secrets-plan}
        vault: {kind: vault, address: "http://127.0.0.1:9", token: {secret: "file:token"}}
  other: {}
default_environment: lab
secrets:
  file: {kind: file, root: .secrets}
  vault: {kind: environment, prefix: VAULT_}
ssh: {user: debian, become: true, boot_timeout: 2s, key: {secret: "file:key"}, become_password: {secret: "file:sudo"}}
"""


def prepared(site: Rehearsal, monkeypatch) -> None:
    site.files["estate.yaml"] = ESTATE
    site.edit("stacks.yaml", "config: {", 'config: {token: {secret: "vault:app/db#token"}, ')
    for folder, names in {".secrets": ("passphrase", "key", "sudo"), ".secrets-plan": ("passphrase", "token")}.items():
        (site.folder / folder).mkdir()
        for name in names:
            (site.folder / folder / name).write_text(f"{VALUE}-{folder}-{name}")
            (site.folder / folder / name).chmod(0o600)
    monkeypatch.setenv("APP", VALUE)
    monkeypatch.setenv("VAULT_app/db#token", VALUE)


def test_each_reference_is_opened_as_a_plan_would_and_as_an_apply_would(site, say: Say, monkeypatch):
    prepared(site, monkeypatch)
    said = say("--json", "secrets", "check")
    assert said.code == 4
    assert VALUE not in said.out + said.err
    ok = {(one["credentials"], one["reference"]): one["ok"] for one in said.result["secrets"]}
    assert ok == {
        ("plan", "env:APP"): True,
        ("plan", "file:looker-key"): False,
        ("plan", "file:passphrase"): True,
        ("plan", "vault:app/db#token"): False,
        ("apply", "env:APP"): True,
        ("apply", "file:key"): True,
        ("apply", "file:passphrase"): True,
        ("apply", "file:sudo"): True,
        ("apply", "vault:app/db#token"): True,
    }


def test_people_are_told_what_is_wrong_and_no_value(site, say: Say, monkeypatch):
    prepared(site, monkeypatch)
    site.edit("stacks.yaml", "vault:app/db#token", "vault:app/db")
    said = say("secrets", "check")
    assert VALUE not in said.out + said.err
    for text in ("lab, to plan", "lab, to apply", "key to log in to hosts", "value for group/webs", "file:looker-key"):
        assert text in said.out
    assert "this is not a path and a field of a secret in Vault" in said.out


def test_without_plan_credentials_there_is_one_answer_and_a_missing_secret_is_an_input_error(site, say, monkeypatch):
    monkeypatch.delenv("APP", raising=False)
    said = say("--json", "secrets", "check")
    assert said.code == 1
    app = next(one for one in said.result["secrets"] if one["reference"] == "env:APP")
    assert (app["credentials"], app["reason"]) == ("plan and apply", "input-error")
    for one in said.result["secrets"]:
        monkeypatch.setenv(one["reference"].removeprefix("env:"), VALUE)
    said = say("secrets", "check")
    assert said.code == 0
    assert "env:APP" in said.out
    assert "ok" in said.out
