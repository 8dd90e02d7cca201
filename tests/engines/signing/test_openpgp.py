"""OpenPGP signatures against pinned keys only: good, bad, unknown, expired, revoked."""

from __future__ import annotations

import pytest

from ismgr_automation.core.errors import InputError
from ismgr_automation.engines.signing.openpgp import keyring
from tests.signing import gnupg

DATA = b"tree 0\n\na commit\n"


@pytest.fixture(scope="module")
def gpg(tmp_path_factory):
    with gnupg(tmp_path_factory.mktemp("gpg") / "home") as home:
        yield home


@pytest.fixture(scope="module")
def ada(gpg):
    return gpg.key("Ada <ada@example.org>")


@pytest.fixture
def signature(gpg, ada):
    return gpg.run("--local-user", ada, "--armor", "--detach-sign", stdin=DATA.decode())


def judge(folder, *keys: str, data: bytes = DATA, armored: str):
    folder.mkdir()
    for number, text in enumerate(keys):
        (folder / f"{number}.asc").write_text(text)
    with keyring(folder) as ring:
        assert ring is not None
        return ring.judge(data, armored)


def test_a_signature_of_a_pinned_key_is_good_and_says_whose(gpg, ada, signature, tmp_path):
    found = judge(tmp_path / "keys", gpg.export(ada), armored=signature)
    assert (found.worth, found.key, found.emails) == ("good", ada, ("ada@example.org",))


def test_the_users_own_keyring_is_never_asked(gpg, ada, signature, tmp_path, monkeypatch):
    monkeypatch.setenv("GNUPGHOME", str(gpg.home))
    other = gpg.key("Ben <ben@example.org>")
    found = judge(tmp_path / "keys", gpg.export(other), armored=signature)
    assert found.worth == "unknown"
    with keyring(tmp_path / "nothing") as ring:
        assert ring is None


@pytest.mark.parametrize(
    "text", ["", "nonsense", "-----BEGIN PGP SIGNATURE-----\n\nAAAA\n-----END PGP SIGNATURE-----\n"]
)
def test_what_is_no_signature_is_not_good(gpg, ada, tmp_path, text):
    assert judge(tmp_path / "keys", gpg.export(ada), armored=text).worth in {"bad", "unknown"}


def test_another_text_or_two_signatures_or_an_own_text_are_bad(gpg, ada, signature, tmp_path):
    key = gpg.export(ada)
    assert judge(tmp_path / "1", key, data=DATA + b"!", armored=signature).worth == "bad"
    assert judge(tmp_path / "2", key, armored=signature + "\n" + signature).worth == "bad"
    # a signed message that brings its own text says nothing about ours
    inline = gpg.run("--local-user", ada, "--armor", "--sign", stdin="another text")
    assert judge(tmp_path / "3", key, armored=inline).worth != "good"


def test_a_key_that_has_expired_does_not_count(gpg, tmp_path):
    then = ("--faked-system-time", "20250101T000000")
    gpg.run(*then, "--quick-generate-key", "Late <late@example.org>", "ed25519", "sign", "30d")
    armored = gpg.run(*then, "--local-user", "late@example.org", "--armor", "--detach-sign", stdin=DATA.decode())
    assert judge(tmp_path / "keys", gpg.export("late@example.org"), armored=armored).worth == "expired"


def test_a_key_that_was_revoked_does_not_count(gpg, tmp_path):
    gone = gpg.key("Gone <gone@example.org>")
    armored = gpg.run("--local-user", gone, "--armor", "--detach-sign", stdin=DATA.decode())
    assert judge(tmp_path / "before", gpg.export(gone), armored=armored).worth == "good"
    # gpg wrote this certificate with the key, behind a colon so that nobody imports it by accident
    gpg.run("--import", stdin=(gpg.home / "openpgp-revocs.d" / f"{gone}.rev").read_text().replace(":-----", "-----"))
    assert judge(tmp_path / "after", gpg.export(gone), armored=armored).worth == "revoked"


def test_a_file_that_holds_no_key_is_named(tmp_path):
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/notes.txt").write_text("notes about keys")
    with pytest.raises(InputError, match=r"notes\.txt holds no OpenPGP public key"), keyring(tmp_path / "keys"):
        pass
