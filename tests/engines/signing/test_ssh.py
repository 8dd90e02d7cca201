"""SSH signatures: from files, agents and secrets, and every way in which one is worth nothing."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ismgr_automation.core.errors import EngineFailed, EngineMissing, InputError
from ismgr_automation.core.secret import Secret, SecretRef
from ismgr_automation.engines.signing import AgentSigner, FileSigner, SecretSigner, SshVerifier
from ismgr_automation.engines.signing.ssh import Worth, allowed_line, embedded_key
from ismgr_automation.engines.ssh.agent import agent
from ismgr_automation.ports.signing import AllowedSigner, Signature, bare_key, fingerprint
from tests.signing import Keys, call

SPACE = "ismgr-approval@v1"
DATA = b'{"some":"bytes"}'
REF = SecretRef.parse("file:keys/runner")


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return Keys(tmp_path_factory.mktemp("keys"))


def allowed(keys: Keys, name: str, *spaces: str, **more: str) -> AllowedSigner:
    return AllowedSigner(principal=name, key=keys.public(name), namespaces=spaces or (SPACE,), **more)


def worth(keys: Keys, *signers: AllowedSigner, data: bytes = DATA, space: str = SPACE, **more: Path) -> Worth:
    signature = FileSigner(keys.path("ada")).sign(DATA, SPACE)
    return SshVerifier(**more).judge(data, signature.armored, space, signers).worth


def test_a_signature_of_a_file_is_its_owners(keys):
    signature = FileSigner(keys.path("ada")).sign(DATA, SPACE)
    assert signature.key == bare_key(keys.public("ada"))
    signers = (allowed(keys, "ben"), allowed(keys, "ada"))
    assert SshVerifier().verify(DATA, signature, SPACE, signers) == "ada"
    judged = SshVerifier().judge(DATA, signature.armored, SPACE, signers)
    assert (judged.worth, judged.key) == (Worth.GOOD, fingerprint(keys.public("ada")))


def test_the_key_that_an_approval_claims_is_never_believed(keys):
    signature = FileSigner(keys.path("mallory")).sign(DATA, SPACE)
    lie = Signature(armored=signature.armored, key=bare_key(keys.public("ada")))
    assert SshVerifier().verify(DATA, lie, SPACE, (allowed(keys, "ada"),)) is None


def test_a_fingerprint_is_the_one_that_openssh_prints(keys):
    assert call("ssh-keygen", "-l", "-f", f"{keys.path('ada')}.pub").split()[1] == fingerprint(keys.public("ada"))


def test_what_a_signature_is_worth(keys, tmp_path):
    ada, ben = allowed(keys, "ada"), allowed(keys, "ben")
    revoked = tmp_path / "revoked"
    revoked.write_text(keys.public("ada") + "\n")
    tomorrow = f"{datetime.now(UTC) + timedelta(days=2):%Y%m%d}Z"
    assert worth(keys, ada) is Worth.GOOD
    assert worth(keys, ben) is Worth.UNKNOWN_KEY
    assert worth(keys) is Worth.UNKNOWN_KEY
    assert worth(keys, ada, data=DATA + b" ") is Worth.BAD
    assert worth(keys, ada, space="git") is Worth.BAD
    assert worth(keys, allowed(keys, "ada", "git")) is Worth.UNKNOWN_KEY
    assert worth(keys, allowed(keys, "ada", valid_before="20200101Z")) is Worth.EXPIRED
    assert worth(keys, allowed(keys, "ada", valid_after=tomorrow)) is Worth.EXPIRED
    assert worth(keys, allowed(keys, "ada", valid_before=tomorrow)) is Worth.GOOD
    assert worth(keys, ada, revoked=revoked) is Worth.REVOKED
    revoked.write_text(keys.public("ben") + "\n")
    assert worth(keys, ada, revoked=revoked) is Worth.GOOD


@pytest.mark.parametrize(
    "text", ["", "nonsense", "-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----", "é"]
)
def test_what_is_no_signature_is_bad_and_no_accident(keys, text):
    assert embedded_key(text) == ""
    assert SshVerifier().judge(DATA, text, SPACE, [allowed(keys, "ada")]).worth is Worth.BAD


def test_a_cut_signature_is_bad(keys):
    lines = FileSigner(keys.path("ada")).sign(DATA, SPACE).armored.splitlines()
    for number in range(1, len(lines) - 1):
        cut = "\n".join(lines[:number] + lines[number + 1 :]) + "\n"
        assert SshVerifier().judge(DATA, cut, SPACE, [allowed(keys, "ada")]).worth is Worth.BAD


@pytest.mark.parametrize(
    "bad",
    [
        {"principal": "*"},
        {"principal": "ada,mallory"},
        {"principal": "ada mallory"},
        {"principal": ""},
        {"principal": "#ada"},
        {"key": "ssh-ed25519\n* ssh-ed25519 AAAA"},
        {"key": "cert-authority ssh-ed25519 AAAA"},
        {"key": "ssh-ed25519 not/base64!"},
        {"namespaces": ()},
        {"namespaces": ('git",cert-authority,namespaces="x',)},
        {"valid_before": '20300101"'},
    ],
)
def test_a_signer_that_could_be_read_as_something_else_is_not_written_down(keys, bad):
    fine = {"principal": "ada", "key": keys.public("ada"), "namespaces": (SPACE,), "valid_before": ""}
    assert allowed_line(AllowedSigner(**fine)).count("\n") == 0
    with pytest.raises(InputError, match="cannot be written down safely"):
        allowed_line(AllowedSigner(**{**fine, **bad}))


def test_an_agent_signs_with_the_key_that_is_named(keys, tmp_path, monkeypatch):
    with agent(Secret(keys.path("ada").read_text()), REF, tmp_path / "agent") as socket:
        given = AgentSigner(keys.public("ada"), socket).sign(DATA, SPACE)
        assert SshVerifier().verify(DATA, given, SPACE, (allowed(keys, "ada"),)) == "ada"
        # the user's own agent, and the public half as a file
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        public = tmp_path / "ada.pub"
        public.write_text(keys.public("ada") + "\n")
        assert FileSigner(public).sign(DATA, SPACE).key == given.key
        with pytest.raises(InputError, match="No agent and no file has the private half"):
            AgentSigner(keys.public("ben")).sign(DATA, SPACE)
    monkeypatch.delenv("SSH_AUTH_SOCK")
    with pytest.raises(InputError, match="no ssh-agent"):
        AgentSigner(keys.public("ada")).sign(DATA, SPACE)


def test_a_secret_key_signs_and_is_never_on_disk(keys, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    text = keys.path("ada").read_text()
    seen: list[str] = []
    real = AgentSigner.sign

    def looking(self, data, namespace):
        files = [one for one in tmp_path.rglob("*") if one.is_file()]
        seen.extend(one.read_text(errors="replace") for one in files)
        return real(self, data, namespace)

    monkeypatch.setattr(AgentSigner, "sign", looking)
    signature = SecretSigner(Secret(text.strip()), REF).sign(DATA, SPACE)
    assert SshVerifier().verify(DATA, signature, SPACE, (allowed(keys, "ada"),)) == "ada"
    assert not any("PRIVATE KEY" in one for one in seen)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="not a usable private SSH key"):
        SecretSigner(Secret("nonsense"), REF).sign(DATA, SPACE)


def test_a_key_that_cannot_sign_says_why_and_what_to_do(keys, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no key file"):
        FileSigner(tmp_path / "nothing").sign(DATA, SPACE)
    locked = tmp_path / "locked"
    call("ssh-keygen", "-q", "-t", "ed25519", "-N", "a passphrase", "-f", locked)
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(InputError, match="has a passphrase") as error:
        FileSigner(locked).sign(DATA, SPACE)
    assert "ssh-add" in error.value.next_step
    (tmp_path / "nonsense").write_text("nonsense")
    with pytest.raises((InputError, EngineFailed)):
        FileSigner(tmp_path / "nonsense").sign(DATA, SPACE)


def test_a_machine_without_openssh_is_told(keys, monkeypatch):
    signature = FileSigner(keys.path("ada")).sign(DATA, SPACE)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(EngineMissing):
        SshVerifier().verify(DATA, signature, SPACE, (allowed(keys, "ada"),))


def test_a_request_to_touch_a_hardware_key_reaches_the_person(keys, tmp_path, monkeypatch):
    # no hardware here: a stand-in says what OpenSSH says while it waits
    real = call("which", "ssh-keygen")
    (tmp_path / "bin").mkdir()
    script = f"#!/bin/sh\necho 'Confirm user presence for key ED25519-SK' >&2\nexec {real} \"$@\"\n"
    (tmp_path / "bin/ssh-keygen").write_text(script)
    (tmp_path / "bin/ssh-keygen").chmod(0o755)
    path = keys.path("ada")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    told: list[str] = []
    assert FileSigner(path, told.append).sign(DATA, SPACE).key == bare_key(keys.public("ada"))
    assert told == ["Confirm user presence for key ED25519-SK"]
