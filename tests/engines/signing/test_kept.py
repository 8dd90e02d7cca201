"""Approvals beside a plan, and pins outside of every repository."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ismgr_automation.core.errors import InputError
from ismgr_automation.engines.signing import FileSigner
from ismgr_automation.engines.signing.files import FileApprovals
from ismgr_automation.engines.signing.pins import VARIABLE, FilePins, parse_signers, place
from ismgr_automation.ports.approvals import NAMESPACE, Approval, Permission
from ismgr_automation.ports.signing import AllowedSigner, bare_key
from ismgr_automation.ports.trust import Pin
from tests.signing import Keys

DIGEST = "sha256:" + "a" * 64


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return Keys(tmp_path_factory.mktemp("keys"))


def permission(**more: object) -> Permission:
    given: dict[str, object] = {
        "estate": "clinic",
        "environment": "prod",
        "digest": DIGEST,
        "not_after": datetime(2026, 11, 23, 8, tzinfo=UTC),
        "nonce": "0" * 32,
    }
    return Permission(**{**given, **more})  # type: ignore[arg-type]


def approval(keys: Keys, **more: object) -> Approval:
    said = permission(**more)
    return Approval(permission=said, signature=FileSigner(keys.path("ada")).sign(said.to_bytes(), NAMESPACE))


def test_what_is_signed_is_canonical_and_read_back_only_byte_by_byte():
    data = permission(reason="ümlaut", break_glass=True).to_bytes()
    assert data.decode() == (
        f'{{"break_glass":true,"digest":"{DIGEST}","environment":"prod","estate":"clinic",'
        '"nonce":"00000000000000000000000000000000","not_after":"2026-11-23T08:00:00Z","reason":"\u00fcmlaut"}'
    )
    assert Permission.from_bytes(data).to_bytes() == data
    body = json.loads(data)
    for wrong in (
        json.dumps(body).encode(),
        data + b"\n",
        data.replace(b"}", b',"more":1}'),
        data.replace(b'"nonce":"0', b'"nonce":"/'),
        data.replace(b"sha256:", b"sha512:"),
        data.replace(b"true", b'"yes"'),
        b"[]",
        b"\xff",
        b"",
    ):
        with pytest.raises(ValueError):
            Permission.from_bytes(wrong)


def test_an_approval_is_found_by_the_digest_that_it_is_for(keys, tmp_path):
    store = FileApprovals(tmp_path / "plan.json")
    assert store.find(DIGEST) == ()
    mine = approval(keys)
    where = store.add(mine)
    assert Path(where).read_bytes() == mine.permission.to_bytes()
    store.add(approval(keys, nonce="1" * 32, digest="sha256:" + "b" * 64))
    (found,) = store.find(DIGEST)
    assert (found.permission, found.signature, found.origin) == (mine.permission, mine.signature, where)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder, name: (folder / f"{name}.sig").unlink(), "there is no signature"),
        (lambda folder, name: (folder / f"{name}.sig").write_text("nonsense"), "there is no signature"),
        (lambda folder, name: (folder / f"{name}.json").write_text("{}"), "is no approval"),
        (
            lambda folder, name: (folder / f"{name}.json").write_text(
                json.dumps(json.loads((folder / f"{name}.json").read_bytes()), indent=2)
            ),
            "not the bytes that a permission is signed over",
        ),
        (
            lambda folder, name: (folder / f"{name}.json").rename(folder / f"{'2' * 32}.json"),
            "is not its nonce|no signature",
        ),
    ],
)
def test_a_malformed_approval_is_left_out_with_a_warning(keys, tmp_path, change, words):
    store = FileApprovals(tmp_path / "plan.json")
    store.add(approval(keys))
    store.add(approval(keys, nonce="1" * 32))
    change(tmp_path / "plan.json.approvals", "0" * 32)
    with pytest.warns(RuntimeWarning, match=words):
        found = store.find(DIGEST)
    assert [one.permission.nonce for one in found] == ["1" * 32]


def test_a_folder_that_cannot_be_written_is_said(keys, tmp_path):
    (tmp_path / "plan.json.approvals").write_text("a file")
    with pytest.raises(InputError, match="cannot be written"):
        FileApprovals(tmp_path / "plan.json").add(approval(keys))


def pin(keys: Keys, **more: object) -> Pin:
    signer = AllowedSigner(principal="ada@example.org", key=bare_key(keys.public("ada")), namespaces=("git", NAMESPACE))
    given: dict[str, object] = {"estate": "clinic", "folder": "infra", "commit": "a" * 40, "signers": (signer,)}
    return Pin(**{**given, **more})  # type: ignore[arg-type]


def test_a_pin_is_read_back_and_its_files_are_the_users_alone(keys, tmp_path):
    pins = FilePins(tmp_path / "trust")
    assert pins.all() == ()
    written = pins.write(pin(keys), (b"a key",))
    assert pins.all() == (written,)
    assert (written.commit, written.folder, written.signers) == ("a" * 40, "infra", pin(keys).signers)
    assert [one.read_bytes() for one in written.keyring.iterdir()] == [b"a key"]
    assert (tmp_path / "trust/clinic").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "trust/clinic/allowed_signers").stat().st_mode & 0o777 == 0o600
    # pinned again: the keyring stays unless another is given
    assert pins.write(pin(keys, commit="b" * 40)).commit == "b" * 40
    assert len(list(written.keyring.iterdir())) == 1


def test_a_pin_that_others_may_write_is_refused(keys, tmp_path):
    pins = FilePins(tmp_path / "trust")
    pins.write(pin(keys))
    for name, mode in (("clinic/allowed_signers", 0o666), ("clinic", 0o777), ("clinic/pin.json", 0o620), (".", 0o777)):
        path = tmp_path / "trust" / name
        before = path.stat().st_mode
        path.chmod(mode)
        with pytest.raises(InputError, match="may be written by others"):
            pins.all()
        path.chmod(before)
    assert len(pins.all()) == 1


@pytest.mark.parametrize(
    "body",
    ["", "[]", "{}", '{"format":"ismgr.pin/9","estate":"clinic","folder":"","commit":"' + "a" * 40 + '"}',
     '{"format":"ismgr.pin/1","estate":"other","folder":"","commit":"' + "a" * 40 + '"}',
     '{"format":"ismgr.pin/1","estate":"clinic","folder":"","commit":"HEAD"}'],
)  # fmt: skip
def test_a_pin_that_is_not_one_is_named(keys, tmp_path, body):
    pins = FilePins(tmp_path)
    pins.write(pin(keys))
    (tmp_path / "clinic/pin.json").write_text(body)
    with pytest.raises(InputError, match=r"The pin in .* cannot be used"):
        pins.all()


def test_a_line_that_is_not_understood_is_never_dropped(keys):
    key = keys.public("ada")
    text = f'# a comment\n\nada namespaces="git",valid-before="20300101Z" {key}\n'
    (found,) = parse_signers(text, "allowed_signers")
    assert (found.principal, found.namespaces, found.valid_before) == ("ada", ("git",), "20300101Z")
    for line in (
        f"ada {key}",
        f'ada cert-authority,namespaces="git" {key}',
        f'ada namespaces="git",no-touch-required {key}',
        f'* namespaces="git" {key}',
        'ada namespaces="git" ssh-ed25519 nonsense!',
        f'ada namespaces="git {key}',
        "ada",
    ):
        with pytest.raises(InputError) as error:
            parse_signers(f"{text}{line}\n", "allowed_signers")
        assert error.value.diagnostics[0].position.line == 4


def test_where_pins_are_is_for_the_user_to_say(monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert place() == tmp_path
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert place() == tmp_path / "config/ismgr/trust"
