"""Keys of files that the real ansible-vault encrypted."""

from __future__ import annotations

import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from ismgr_automation.core.errors import InputError
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines.secrets import AnsibleVault, Backends
from tests.engines.secrets.test_backends import keep

PASSWORD = "canary-vault-password-6b"
OTHER = "canary-other-password-7c"
CONTENT = """\
app_password: canary-app-12
numbers: 0123
truth: yes
db:
  replication: "canary-repl-34"
  deep: {er: canary-deep-56}
dotted.key: canary-dotted-78
dotted: {key: canary-below-90}
twice: canary-first
twice: canary-second
empty: ""
list: [canary-list]
nothing:
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secrets").mkdir()
    keep(tmp_path / "secrets", "password", PASSWORD)
    keep(tmp_path / "secrets", "other", OTHER)
    return tmp_path


@pytest.fixture(scope="module")
def by_command(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that the command encrypted, as people do it."""
    folder = tmp_path_factory.mktemp("vault")
    (folder / "secrets").mkdir()
    made = keep(folder, "all.yaml", CONTENT)
    ident = f"@{keep(folder / 'secrets', 'password', PASSWORD)}"
    command = [str(Path(sys.executable).with_name("ansible-vault")), "encrypt", f"--vault-id={ident}", str(made)]
    subprocess.run(command, check=True, capture_output=True, cwd=folder)
    assert made.read_bytes().startswith(b"$ANSIBLE_VAULT")
    return made


def encrypt(folder: Path, name: str, content: str, label: str = "", by: str = "password") -> Path:
    """By Ansible's library: the command takes a second."""
    from ansible.parsing.vault import VaultLib, VaultSecret

    library = VaultLib([(label or "default", VaultSecret((folder / "secrets" / by).read_bytes()))])
    path = folder / name
    path.write_bytes(library.encrypt(content, vault_id=label or None))
    return path


def store(folder: Path, *files: Path, by: str = "password", **others: str) -> Backends:
    root = {"kind": "file", "root": str(folder / "secrets")}
    vault = AnsibleVault(
        files=files,
        password=SecretRef("file", by),
        passwords={label: SecretRef("file", name) for label, name in others.items()},
    )
    return Backends.from_json({"file": root, "vault": vault.to_json()})


def refused(of: Backends, key: str) -> str:
    with pytest.raises(InputError) as caught:
        of.open(SecretRef("vault", key))
    told = "".join(traceback.format_exception(caught.value))
    assert "canary" not in told
    assert f"vault:{key}" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("app_password", "canary-app-12"),
        ("numbers", "0123"),
        ("truth", "yes"),
        ("db.replication", "canary-repl-34"),
        ("db.deep.er", "canary-deep-56"),
        ("dotted.key", "canary-dotted-78"),
        ("twice", "canary-second"),
    ],
    ids=lambda text: text if "canary" not in text else "",
)
def test_a_key_is_read_as_it_is_written(folder, by_command, key, value):
    assert store(folder, by_command).open(SecretRef("vault", key)).reveal() == value


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("app_pasword", "Did you mean 'app_password'?"),
        ("db.replicaton", "Did you mean 'db.replication'?"),
        ("db", "holds other keys"),
        ("list", "holds a list"),
        ("list.0", "there is no key"),
        ("empty", "is empty"),
        ("nothing", "is empty"),
        ("app_password.more", "there is no key"),
    ],
)
def test_a_key_that_holds_no_secret_is_refused_and_nothing_is_quoted(folder, key, says):
    assert says in refused(store(folder, encrypt(folder, "all.yaml", CONTENT)), key)


def test_single_values_may_be_encrypted_in_a_readable_file(folder):
    command = [str(Path(sys.executable).with_name("ansible-vault")), "encrypt_string", "--stdin-name", "app"]
    sealed = subprocess.run(
        [*command, f"--vault-id=@{folder / 'secrets/password'}"],
        input="canary-inline-44",
        check=True,
        capture_output=True,
        text=True,
        cwd=folder,
    ).stdout
    (folder / "vars.yaml").write_text(
        f"db:\n{''.join(f'  {line}' for line in sealed.splitlines(keepends=True))}\nplain: x\n"
    )
    opened = store(folder, folder / "vars.yaml")
    assert opened.open(SecretRef("vault", "db.app")).reveal() == "canary-inline-44"
    assert opened.open(SecretRef("vault", "plain")).reveal() == "x"


def test_of_several_files_the_last_that_has_the_key_wins(folder):
    first = encrypt(folder, "all.yaml", "a: one\nb: two\n")
    second = encrypt(folder, "production.yaml", "a: three\n")
    opened = store(folder, first, second)
    assert [opened.open(SecretRef("vault", key)).reveal() for key in "ab"] == ["three", "two"]


def test_files_of_other_vault_ids_open_with_their_passwords(folder):
    first = encrypt(folder, "all.yaml", "a: one\n")
    second = encrypt(folder, "production.yaml", "b: two\n", label="prod", by="other")
    assert store(folder, first, second, prod="other").open(SecretRef("vault", "b")).reveal() == "two"
    # labels are not authenticated: a password is tried even under another name
    assert store(folder, first, second, elsewhere="other").open(SecretRef("vault", "b")).reveal() == "two"
    text = refused(store(folder, first, second), "a")
    assert "production.yaml (its vault id is 'prod')" in text


def test_a_wrong_password_is_told_and_not_quoted(folder):
    made = encrypt(folder, "all.yaml", CONTENT)
    assert "no password of this backend opens" in refused(store(folder, made, by="other"), "app_password")


def damaged(made: Path, kind: str) -> Path:
    content = made.read_bytes()
    changed = {
        "a flipped byte": content[:200] + bytes([content[200] ^ 1]) + content[201:],
        "cut off": content[: len(content) // 2],
        "no hexadecimal": content[:100] + b"zz" + content[102:],
        "only a header": content.split(b"\n")[0] + b"\n",
        "an unknown cipher": content.replace(b"AES256", b"ROT13", 1),
        "no text": b"\xff\xfe\x00",
        "nothing": b"",
    }
    made.write_bytes(changed[kind])
    return made


@pytest.mark.parametrize(
    "kind",
    ["a flipped byte", "cut off", "no hexadecimal", "only a header", "an unknown cipher", "no text", "nothing"],
)
def test_a_damaged_file_is_one_clear_refusal(folder, kind):
    made = damaged(encrypt(folder, "all.yaml", CONTENT), kind)
    assert "all.yaml" in refused(store(folder, made), "app_password")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a: [canary-open\n", "is not YAML once it is decrypted"),
        ("a: b: canary\n", "line 1 is not YAML"),
        ("canary-text-only\n", "does not hold keys"),
        ("- canary\n", "does not hold keys"),
        ("[" * 3000, "is not YAML"),
    ],
)
def test_what_is_no_mapping_inside_is_refused_and_not_quoted(folder, content, says):
    assert says in refused(store(folder, encrypt(folder, "all.yaml", content)), "a")


def test_a_file_in_clear_text_is_refused(folder):
    (folder / "all.yaml").write_text("app: canary-clear\n")
    assert "is not encrypted" in refused(store(folder, folder / "all.yaml"), "app")


def test_a_file_that_is_not_there_is_named(folder):
    assert "none.yaml: No such file" in refused(store(folder, folder / "none.yaml"), "app")


def test_a_missing_password_names_its_own_reference(folder):
    made = encrypt(folder, "all.yaml", CONTENT)
    with pytest.raises(InputError, match="Secret file:nobody: cannot read"):
        store(folder, made, by="nobody").open(SecretRef("vault", "app_password"))


def test_no_process_and_no_file_is_made_to_open_a_key(folder, monkeypatch):
    made = encrypt(folder, "all.yaml", CONTENT)
    opened = store(folder, made)
    assert opened.open(SecretRef("vault", "truth")).reveal() == "yes"
    seen: list[str] = []
    done = False

    def watch(event: str, args: tuple[object, ...]) -> None:
        if not done and (event in {"subprocess.Popen", "os.posix_spawn", "os.fork"} or _writes(event, args)):
            seen.append(event)

    sys.addaudithook(watch)
    assert opened.open(SecretRef("vault", "app_password")).reveal() == "canary-app-12"
    done = True
    assert seen == []


def _writes(event: str, args: tuple[object, ...]) -> bool:
    return event == "open" and isinstance(args[1], str) and not set(args[1]).isdisjoint("wax+")


def test_versions_follow_the_value_and_not_the_file(folder):
    made = encrypt(folder, "all.yaml", CONTENT)
    root = {"kind": "file", "root": str(folder / "secrets")}
    vault = AnsibleVault(files=(made,), password=SecretRef("file", "password"))
    opened = Backends.from_json({"file": root, "vault": vault.to_json()}, key=SecretRef("file", "other"))
    before = {key: opened.version(SecretRef("vault", key)) for key in ("app_password", "truth")}
    encrypt(folder, "all.yaml", CONTENT.replace("canary-app-12", "canary-app-13"))
    after = {key: opened.version(SecretRef("vault", key)) for key in ("app_password", "truth")}
    assert after["truth"] == before["truth"]
    assert after["app_password"] != before["app_password"]
