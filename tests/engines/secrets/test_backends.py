"""Secret backends: what is opened, and what is refused without ever showing a value."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ismgr_automation.core.errors import InputError, SettingsError
from ismgr_automation.core.secret import Secret, SecretRef
from ismgr_automation.engines.secrets import LARGEST_BYTES, Backends, EnvironmentVariables, PrivateFiles, own_references
from ismgr_automation.engines.secrets.keys import derive

VALUE = "canary-1f7a-value"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "secrets"
    folder.mkdir()
    return folder


def keep(root: Path, path: str, content: str | bytes, mode: int = 0o600) -> Path:
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content.encode() if isinstance(content, str) else content)
    place.chmod(mode)
    return place


def files(root: Path) -> Backends:
    return Backends({"file": PrivateFiles(root=root)})


def refusal(store: Backends, ref: SecretRef) -> str:
    with pytest.raises(InputError) as caught:
        store.open(ref)
    chain = [caught.value, caught.value.__cause__]
    assert all(VALUE not in repr(one) and VALUE not in str(one) for one in chain)
    assert str(ref) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "opened"),
    [(VALUE, VALUE), (VALUE + "\n", VALUE), (VALUE + "\n\n", VALUE + "\n"), ("two\nlines\n", "two\nlines")],
)
def test_a_file_gives_its_content_without_one_trailing_newline(root, content, opened):
    keep(root, "postgresql/app", content)
    assert files(root).open(SecretRef.parse("file:postgresql/app")).reveal() == opened


def test_an_environment_variable_is_read_with_the_prefix_of_its_backend():
    store = Backends({"ci": EnvironmentVariables(prefix="CI_")}, environment={"CI_BMC": VALUE, "BMC": "other-value"})
    assert store.open(SecretRef.parse("ci:BMC")).reveal() == VALUE
    assert store.open(SecretRef.parse("env:BMC")).reveal() == "other-value"


def test_a_missing_file_is_named_with_the_place_looked_at(root):
    text = refusal(files(root), SecretRef.parse("file:bmc/db1"))
    assert str(root / "bmc/db1") in text
    assert "No such file" in text


def test_a_missing_variable_is_named():
    assert "CI_BMC is not set" in refusal(
        Backends({"ci": EnvironmentVariables(prefix="CI_")}, environment={}), SecretRef.parse("ci:BMC")
    )


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610, 0o601])
def test_a_file_that_others_may_read_is_refused(root, mode):
    keep(root, "key", VALUE, mode)
    assert f"{mode:03o}" in refusal(files(root), SecretRef.parse("file:key"))


@pytest.mark.parametrize("content", ["", "\n", "  \n"])
def test_an_empty_secret_is_refused(root, content):
    keep(root, "key", content)
    assert "is empty" in refusal(files(root), SecretRef.parse("file:key"))
    assert "is empty" in refusal(Backends(environment={"KEY": content}), SecretRef.parse("env:KEY"))


def test_a_path_that_climbs_out_is_refused_even_when_it_was_never_parsed(root):
    keep(root.parent, "outside", VALUE)
    assert "leads out of" in refusal(files(root), SecretRef("file", "../outside"))
    assert "leads out of" in refusal(files(root), SecretRef("file", str(root.parent / "outside")))


def test_a_link_that_leads_out_is_refused_and_one_that_stays_inside_is_followed(root):
    outside = keep(root.parent, "outside", VALUE)
    inside = keep(root, "inside", VALUE)
    (root / "out").symlink_to(outside)
    (root / "in").symlink_to(inside)
    assert "leads out of" in refusal(files(root), SecretRef.parse("file:out"))
    assert files(root).open(SecretRef.parse("file:in")).reveal() == VALUE


def test_a_loop_of_links_a_folder_and_a_pipe_are_refused(root):
    (root / "loop").symlink_to(root / "loop")
    (root / "folder").mkdir()
    os.mkfifo(root / "pipe", 0o600)
    refusal(files(root), SecretRef.parse("file:loop"))
    assert "not a regular file" in refusal(files(root), SecretRef.parse("file:folder"))
    assert "not a regular file" in refusal(files(root), SecretRef.parse("file:pipe"))


def test_bytes_that_are_not_text_are_refused_and_not_quoted(root):
    keep(root, "key", VALUE.encode() + b"\xff\xfe")
    assert "not UTF-8" in refusal(files(root), SecretRef.parse("file:key"))


def test_a_file_too_large_to_be_a_secret_is_refused(root):
    keep(root, "key", "x" * (LARGEST_BYTES + 1))
    assert "larger than" in refusal(files(root), SecretRef.parse("file:key"))


def test_an_unknown_backend_is_named_with_a_near_one(root):
    text = refusal(files(root), SecretRef.parse("fiel:key"))
    assert "Did you mean 'file'?" in text


def test_the_description_survives_json_and_holds_no_secret(root):
    keep(root, "key", VALUE)
    store = Backends({"file": PrivateFiles(root=root), "ci": EnvironmentVariables(prefix="CI_")})
    store.open(SecretRef.parse("file:key"))
    text = json.dumps(store.to_json())
    assert VALUE not in text
    again = Backends.from_json(json.loads(text))
    assert again.to_json() == store.to_json()
    assert again.open(SecretRef.parse("file:key")).reveal() == VALUE


@pytest.mark.parametrize(
    "description",
    [
        {"x": {"kind": "vault"}},
        {"x": {"kind": "file"}},
        {"x": {"kind": "file", "root": 3}},
        {"x": {"kind": "file", "root": "/a", "mode": "644"}},
        {"x": {"kind": "file", "root": "relative"}},
        {"x": {"kind": "environment", "prefix": 3}},
        {"x": "file"},
    ],
)
def test_a_wrong_description_names_its_backend(description):
    with pytest.raises(SettingsError, match="'x'"):
        Backends.from_json(description)


def keyed(**values: str) -> Backends:
    return Backends(environment={"KEY": "a passphrase", **values}, key=SecretRef("env", "KEY"))


def test_a_version_moves_with_the_value_and_shows_nothing_of_it():
    first = keyed(A=VALUE).version(SecretRef("env", "A"))
    assert first.startswith("hmac-sha256:")
    assert keyed(A=VALUE).version(SecretRef("env", "A")) == first
    assert keyed(A=VALUE + "x").version(SecretRef("env", "A")) != first
    other = Backends(environment={"KEY": "another", "A": VALUE}, key=SecretRef("env", "KEY"))
    assert other.version(SecretRef("env", "A")) != first


def test_two_equal_secrets_do_not_look_equal():
    store = keyed(A=VALUE, B=VALUE)
    assert store.version(SecretRef("env", "A")) != store.version(SecretRef("env", "B"))


def test_without_a_passphrase_there_is_no_version():
    assert Backends(environment={"A": VALUE}).version(SecretRef("env", "A")) == ""


@pytest.mark.parametrize("missing", ["A", "KEY"])
def test_a_version_of_what_is_not_there_is_refused_as_opening_it_is(missing):
    values = {"A": VALUE, "KEY": "k"}
    del values[missing]
    with pytest.raises(InputError, match=f"{missing} is not set"):
        Backends(environment=values, key=SecretRef("env", "KEY")).version(SecretRef("env", "A"))


def test_the_key_of_one_purpose_tells_nothing_of_another():
    keys = {derive(Secret("pass"), purpose, salt) for purpose in ("a", "b") for salt in (b"", b"x")}
    assert len(keys) == 4
    assert all(len(one) == 32 for one in keys)
    # written down: a plan of last year must still be comparable
    assert derive(Secret("pass"), "a").hex().startswith(KNOWN)


KNOWN = "c5a83c0416e11860"

VAULT = {"kind": "vault", "address": "https://vault:8200"}
SEALED = {"kind": "ansible-vault", "files": ["/a"], "password": {"secret": "file:p"}}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (VAULT, "either with a token or as an AppRole"),
        ({**VAULT, "token": {"secret": "env:T"}, "role_id": "a", "secret_id": {"secret": "env:S"}}, "either"),
        ({**VAULT, "token": {"secret": "env:T"}, "role_id": "a"}, "either"),
        ({**VAULT, "token": VALUE}, "described wrongly"),
        ({**VAULT, "token": {"secret": VALUE}}, "described wrongly"),
        ({**VAULT, "token": {"secret": "env:T"}, "skip_verify": True}, "described wrongly"),
        ({**VAULT, "token": {"secret": "env:T"}, "ca": "relative.pem"}, "not an absolute path"),
        ({**VAULT, "token": {"secret": "env:T"}, "address": "vault:8200"}, "described wrongly"),
        ({**SEALED, "files": []}, "described wrongly"),
        ({**SEALED, "files": ["relative"]}, "not an absolute path"),
        ({**SEALED, "files": [3]}, "described wrongly"),
        ({**SEALED, "password": VALUE}, "described wrongly"),
        ({"kind": "ansible-vault", "files": ["/a"]}, "described wrongly"),
    ],
)
def test_a_wrong_description_of_a_vault_is_refused_and_not_quoted(body, says):
    with pytest.raises(SettingsError, match=says) as caught:
        Backends.from_json({"x": body})
    assert VALUE not in str(caught.value)
    assert caught.value.__cause__ is None


def test_backends_that_need_each_other_are_refused():
    other = {**SEALED, "password": {"secret": "x:p"}}
    with pytest.raises(SettingsError, match="need each other"):
        Backends.from_json({"x": {**SEALED, "password": {"secret": "y:p"}}, "y": other})


def test_what_a_backend_needs_to_be_opened_is_named_through_all_its_doors():
    description = {
        "file": {"kind": "file", "root": "/secrets"},
        "sealed": {**SEALED, "passwords": {"prod": {"secret": "file:prod"}}},
        "vault": {**VAULT, "token": {"secret": "sealed:token"}},
    }
    wanted = ["file:p", "file:prod", "sealed:token"]
    assert [str(one) for one in own_references(["vault"], description)] == wanted
    assert own_references(["file", "env", "nobody"], description) == ()
