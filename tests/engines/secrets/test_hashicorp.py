"""Secrets on a Vault server. What is read, versions and refusals run against a double, and against a real server where
ISMGR_TEST_VAULT and ISMGR_TEST_VAULT_TOKEN name one (empty, unsealed; `vault server -dev` will do)."""

from __future__ import annotations

import json
import os
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import hvac
import pytest

from ismgr_automation.core.errors import (
    CredentialRejected,
    EngineError,
    EngineFailed,
    EngineTimedOut,
    InputError,
    IsmgrError,
    Throttled,
    Unreachable,
)
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines.secrets import Backends, HashicorpVault
from ismgr_automation.engines.secrets.hashicorp import Server
from tests.engines.secrets.vault_double import ROOT, Token, VaultDouble, serving

VALUE = "canary-vault-81c2"
SECRET_ID = "canary-secret-id-55d0"


class Place(Protocol):
    """A server in the hands of a test."""

    address: str
    root: str
    role: tuple[str, str]

    def put(self, path: str, **fields: Any) -> None: ...
    def delete(self, path: str) -> None: ...
    def remove(self, path: str) -> None: ...
    def revoke_all(self) -> None: ...


@dataclass(slots=True)
class Double:
    double: VaultDouble
    root: str = ROOT
    role: tuple[str, str] = ("looker", SECRET_ID)

    def __post_init__(self) -> None:
        reads = ("secret/data/app/", "secret/metadata/app/", "secret/metadata/counted/")
        self.double.roles["looker"] = (SECRET_ID, Token(reads=reads, seconds=60, renewable=True))
        self.put = self.double.put
        self.delete = self.double.delete

    put: Any = None
    delete: Any = None

    @property
    def address(self) -> str:
        return self.double.address

    def remove(self, path: str) -> None:
        del self.double.secrets[path]

    def revoke_all(self) -> None:
        self.double.tokens = {ROOT: self.double.tokens[ROOT]}


POLICY = """
path "secret/data/app/*" { capabilities = ["read"] }
path "secret/metadata/app/*" { capabilities = ["read"] }
path "secret/metadata/counted/*" { capabilities = ["read"] }
"""


@dataclass(slots=True)
class Real:
    """A real server: the engine ``secret`` and AppRole ``looker`` are made when they are not there."""

    address: str
    root: str
    client: Any = None
    role: tuple[str, str] = ("", "")
    made: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client = hvac.Client(url=self.address, token=self.root)
        if "secret/" not in self.client.sys.list_mounted_secrets_engines()["data"]:
            self.client.sys.enable_secrets_engine("kv", path="secret", options={"version": "2"})
        if "approle/" not in self.client.sys.list_auth_methods()["data"]:
            self.client.sys.enable_auth_method("approle")
        self.client.sys.create_or_update_policy("looker", POLICY)
        roles = self.client.auth.approle
        roles.create_or_update_approle("looker", token_policies=["looker"], token_ttl="60s")
        role = roles.read_role_id("looker")["data"]["role_id"]
        self.role = (role, roles.generate_secret_id("looker")["data"]["secret_id"])

    def put(self, path: str, **fields: Any) -> None:
        self.made.append(path)
        self.client.secrets.kv.v2.create_or_update_secret(path, fields)

    def delete(self, path: str) -> None:
        self.client.secrets.kv.v2.delete_latest_version_of_secret(path)

    def remove(self, path: str) -> None:
        self.client.secrets.kv.v2.delete_metadata_and_all_versions(path)

    def revoke_all(self) -> None:
        self.client.sys.revoke_prefix("auth/approle/")

    def clean(self) -> None:
        for path in self.made:
            self.remove(path)


@pytest.fixture(params=["double", "real"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param == "double":
        with serving(VaultDouble()) as double:
            yield Double(double)
        return
    address = os.environ.get("ISMGR_TEST_VAULT")
    if not address:
        pytest.skip("ISMGR_TEST_VAULT names no Vault server")
    real = Real(address, os.environ["ISMGR_TEST_VAULT_TOKEN"])
    yield real
    real.clean()


@pytest.fixture
def path() -> str:
    return f"app/{uuid4()}"


@pytest.fixture
def double() -> Iterator[VaultDouble]:
    with serving(VaultDouble()) as one:
        one.put("app/db", password=VALUE)
        yield one


def store(address: str, token: str = ROOT, **more: Any) -> Backends:
    backend = HashicorpVault(address=address, token=SecretRef("env", "TOKEN"), **more)
    return Backends({"vault": backend}, environment={"TOKEN": token})


def as_role(address: str, role: tuple[str, str], **more: Any) -> Backends:
    backend = HashicorpVault(address=address, role_id=role[0], secret_id=SecretRef("env", "SECRET_ID"), **more)
    return Backends({"vault": backend}, environment={"SECRET_ID": role[1]})


def ref(text: str) -> SecretRef:
    return SecretRef.parse(f"vault:{text}")


def refused(kind: type[IsmgrError], of: Backends, reference: SecretRef) -> IsmgrError:
    with pytest.raises(kind) as caught:
        of.open(reference)
    assert type(caught.value) is kind
    told = "".join(traceback.format_exception(caught.value))
    assert str(reference) in str(caught.value)
    assert not [one for one in (VALUE, SECRET_ID, ROOT, "approle-token", "hvs.") if one in told]
    return caught.value


def test_a_field_is_read_with_a_token(place, path):
    place.put(path, password=VALUE, port=5432, tls=True)
    opened = store(place.address, place.root)
    values = [opened.open(ref(f"{path}#{name}")).reveal() for name in ("password", "port", "tls")]
    assert values == [VALUE, "5432", "true"]


def test_a_field_is_read_as_an_approle(place, path):
    place.put(path, password=VALUE)
    assert as_role(place.address, place.role).open(ref(f"{path}#password")).reveal() == VALUE


def test_a_missing_path_and_a_missing_field_are_told_apart(place, path):
    place.put(path, password=VALUE)
    opened = store(place.address, place.root)
    assert "no secret at" in str(refused(InputError, opened, ref(f"{path}-not#password")))
    assert "no field 'pasword'. Did you mean 'password'?" in str(refused(InputError, opened, ref(f"{path}#pasword")))
    assert "no secret at" in str(refused(InputError, store(place.address, place.root, mount="none"), ref("a/b#c")))


def test_a_deleted_secret_is_not_there(place, path):
    place.put(path, password=VALUE)
    place.delete(path)
    opened = store(place.address, place.root)
    assert "was deleted" in str(refused(InputError, opened, ref(f"{path}#password")))
    with pytest.raises(InputError, match="was deleted"):
        opened.version(ref(f"{path}#password"))


def test_a_wrong_token_and_a_policy_that_says_no_are_rejected(place):
    name = f"other/{uuid4()}"
    place.put(name, password=VALUE)
    wrong = refused(CredentialRejected, store(place.address, "wrong"), ref(f"{name}#password"))
    assert isinstance(wrong, EngineError)
    assert "secret/data" in wrong.next_step
    refused(CredentialRejected, as_role(place.address, place.role), ref(f"{name}#password"))


def test_a_wrong_approle_is_rejected_with_its_name(place, path):
    role = (place.role[0], "wrong")
    assert place.role[0] in str(refused(CredentialRejected, as_role(place.address, role), ref(f"{path}#password")))


def test_the_version_moves_with_the_secret_and_not_without(place, path):
    place.put(path, password=VALUE)
    opened = store(place.address, place.root)
    first = opened.version(ref(f"{path}#password"))
    assert first.startswith("v1 of 2")
    assert opened.version(ref(f"{path}#password")) == first
    place.put(path, password="another")
    assert opened.version(ref(f"{path}#password")).startswith("v2 of 2")
    place.remove(path)
    place.put(path, password="a third")
    again = opened.version(ref(f"{path}#password"))
    assert again.startswith("v1 of 2")
    assert again != first


def test_the_version_needs_no_right_to_read_the_secret(place):
    name = f"counted/{uuid4()}"
    place.put(name, password=VALUE)
    opened = as_role(place.address, place.role)
    assert opened.version(ref(f"{name}#password")).startswith("v1 of")
    refused(CredentialRejected, opened, ref(f"{name}#password"))


def test_an_approle_whose_token_was_taken_away_logs_in_again(place, path):
    place.put(path, password=VALUE)
    opened = as_role(place.address, place.role)
    assert opened.open(ref(f"{path}#password")).reveal() == VALUE
    place.revoke_all()
    assert opened.open(ref(f"{path}#password")).reveal() == VALUE


def test_a_login_is_still_good_after_most_of_its_time(place, path):
    place.put(path, password=VALUE)
    backend = HashicorpVault(address=place.address, role_id=place.role[0], secret_id=SecretRef("env", "X"))
    now = [100.0]
    server = Server("vault", backend, Backends(environment={"X": place.role[1]}).open, clock=lambda: now[0])
    for _ in range(3):
        assert server.open(ref(f"{path}#password")).reveal() == VALUE
        now[0] += 45


def test_one_login_serves_all_threads(double):
    place = Double(double)
    opened = as_role(place.address, place.role)
    threads = [threading.Thread(target=lambda: opened.open(ref("app/db#password"))) for _ in range(6)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert double.asked.count("POST auth/approle/login") == 1
    assert double.asked.count("GET secret/data/app/db") == 6


def test_a_policy_that_says_no_costs_no_second_login(double):
    place = Double(double)
    opened = as_role(place.address, place.role)
    refused(CredentialRejected, opened, ref("other#password"))
    refused(CredentialRejected, opened, ref("other#password"))
    assert double.asked.count("POST auth/approle/login") == 1


@pytest.mark.parametrize(
    ("renewable", "wanted"),
    [(True, ["POST auth/token/renew-self"]), (False, ["POST auth/approle/login"])],
)
def test_a_login_that_is_nearly_over_is_renewed_or_made_anew_before_it_is_used(double, renewable, wanted):
    double.roles["looker"] = ("x", Token(reads=("",), seconds=60, renewable=renewable))
    backend = HashicorpVault(address=double.address, role_id="looker", secret_id=SecretRef("env", "X"))
    now = [100.0]
    server = Server("vault", backend, Backends(environment={"X": "x"}).open, clock=lambda: now[0])
    server.open(ref("app/db#password"))
    now[0] += 39
    server.open(ref("app/db#password"))
    assert double.asked.count("POST auth/approle/login") == 1
    double.asked.clear()
    now[0] += 2
    server.open(ref("app/db#password"))
    assert double.asked == [*wanted, "GET secret/data/app/db"]


def test_a_login_that_cannot_be_renewed_any_longer_is_made_anew(double):
    """Its greatest age is near: the server gives less time than was left."""
    double.roles["looker"] = ("x", Token(reads=("",), seconds=60, renewable=True))
    backend = HashicorpVault(address=double.address, role_id="looker", secret_id=SecretRef("env", "X"))
    now = [100.0]
    server = Server("vault", backend, Backends(environment={"X": "x"}).open, clock=lambda: now[0])
    server.open(ref("app/db#password"))
    for token in double.tokens.values():
        token.seconds = 5
    double.asked.clear()
    now[0] += 50
    server.open(ref("app/db#password"))
    assert double.asked == ["POST auth/token/renew-self", "POST auth/approle/login", "GET secret/data/app/db"]


def test_a_given_token_is_renewed_and_used_to_its_end(double):
    double.tokens["mine"] = Token(reads=("",), seconds=60, renewable=True, ends=None)
    double.tokens["mine"].ends = time.monotonic() + 60
    backend = HashicorpVault(address=double.address, token=SecretRef("env", "X"))
    now = [0.0]
    server = Server("vault", backend, Backends(environment={"X": "mine"}).open, clock=lambda: now[0])
    server.open(ref("app/db#password"))
    now[0] += 45
    server.open(ref("app/db#password"))
    assert double.asked == [
        "GET auth/token/lookup-self",
        "GET secret/data/app/db",
        "POST auth/token/renew-self",
        "GET secret/data/app/db",
    ]


def test_the_namespace_is_named_and_one_that_is_not_there_is_told(double):
    double.namespace = "hospital"
    assert store(double.address, namespace="hospital").open(ref("app/db#password")).reveal() == VALUE
    assert "of namespace 'clinic'" in str(
        refused(InputError, store(double.address, namespace="clinic"), ref("app/db#password"))
    )


JSON = {"Content-Type": "application/json"}
ANSWERS = {
    "sealed": (503, JSON, b'{"errors":["Vault is sealed"]}', EngineFailed, "is sealed"),
    "not initialised": (501, JSON, b'{"errors":["Vault is not initialized"]}', EngineFailed, "not initialised"),
    "throttled": (429, JSON, b'{"errors":["request path rate limited"]}', Throttled, "come back later"),
    "standby": (503, JSON, b'{"errors":["node is not ready"]}', Throttled, "not ready"),
    "broken": (500, JSON, b'{"errors":["internal error"]}', EngineFailed, "failed to answer"),
    "a proxy": (502, {"Content-Type": "text/html"}, b"<html>canary-vault-81c2</html>", EngineFailed, "failed"),
    "a page": (200, {"Content-Type": "text/html"}, b"<html>canary-vault-81c2</html>", EngineFailed, "does not say"),
    "a list": (200, JSON, b'["canary-vault-81c2"]', EngineFailed, "does not say"),
    "a text": (200, JSON, b'{"data": "canary-vault-81c2"}', EngineFailed, "does not say"),
    "half an answer": (200, JSON, b'{"data": {"data": ', EngineFailed, "does not say"),
    "a redirect": (307, {"Location": "http://127.0.0.1:1/v1/x"}, b"", EngineFailed, "redirects are not followed"),
    "a teapot": (418, JSON, b"[]", EngineFailed, "does not say"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_that_is_no_secret_is_an_error_of_its_own_and_quotes_nothing(double, name):
    status, headers, body, kind, text = ANSWERS[name]
    double.always = (status, headers, body)
    assert text in str(refused(kind, store(double.address), ref("app/db#password")))


def test_a_server_that_is_not_there_is_unreachable_with_its_cause():
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        found = refused(Unreachable, store(address), ref("app/db#password"))
    assert isinstance(found, Unreachable)
    assert found.cause == "refused"
    named = refused(Unreachable, store("http://vault.invalid:8200"), ref("app/db#password"))
    assert isinstance(named, Unreachable)
    assert named.cause == "dns"


def test_a_server_that_does_not_answer_in_time_is_given_up(double):
    double.slow = threading.Event()
    opened = store(double.address, deadline=timedelta(milliseconds=200))
    assert "within 0.2 s" in str(refused(EngineTimedOut, opened, ref("app/db#password")))


def test_a_certificate_is_verified_against_the_named_authority(tmp_path):
    authority, context = certificate(tmp_path)
    with serving(VaultDouble(), context) as double:
        double.put("app/db", password=VALUE)
        assert store(double.address, ca=authority).open(ref("app/db#password")).reveal() == VALUE
        found = refused(Unreachable, store(double.address), ref("app/db#password"))
        assert isinstance(found, Unreachable)
        assert found.cause == "host-key"
        missing = store(double.address, ca=tmp_path / "none.pem")
        assert "none.pem" in str(refused(InputError, missing, ref("app/db#password")))


@pytest.mark.parametrize("text", ["app/db", "app/db#", "#password", "app//db#x", "app/./db#x", "app/../sys/raw#x"])
def test_a_reference_without_path_or_field_asks_nobody(double, text):
    refused(InputError, store(double.address), SecretRef("vault", text))
    assert double.asked == []


@pytest.mark.parametrize("value", [{"a": VALUE}, [VALUE]])
def test_a_field_that_holds_no_text_is_refused_and_not_quoted(double, value):
    double.put("app/deep", password=value)
    assert "no text" in str(refused(InputError, store(double.address), ref("app/deep#password")))


def test_a_token_of_the_users_own_is_never_sent(double, monkeypatch):
    monkeypatch.setenv("VAULT_TOKEN", ROOT)
    double.roles["looker"] = (SECRET_ID, Token(reads=()))
    told = refused(CredentialRejected, as_role(double.address, ("looker", SECRET_ID)), ref("app/db#password"))
    assert "does not let this token" in str(told)


def test_the_description_holds_references_and_no_secret(double):
    place = Double(double)
    opened = as_role(place.address, place.role, namespace="", ca=None)
    opened.open(ref("app/db#password"))
    text = json.dumps(opened.to_json())
    assert not [one for one in (VALUE, SECRET_ID, "approle-token") if one in text]
    assert Backends.from_json(json.loads(text)).to_json() == opened.to_json()


def certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """An authority of its own and a server's certificate for 127.0.0.1."""
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "vault")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "vault.pem"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = folder / "vault.key"
    no_password = serialization.NoEncryption()
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, no_password))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, private)
    return pem, context
