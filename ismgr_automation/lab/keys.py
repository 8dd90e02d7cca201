"""Every key and password of a lab, made new for each lab: the operator's key pair, host keys, the BMCs' authority and
credentials, the key of signed DNS updates. Nothing here writes a file."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

VALIDITY = timedelta(days=365)
_BCRYPT_COST = 4
"""The lowest there is: these passwords have 128 random bits, a slow hash would only make each request slow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """An Ed25519 key pair in OpenSSH's formats. The private half is hidden from ``repr``."""

    private: str
    public: str

    def __repr__(self) -> str:
        return f"KeyPair(public={self.public!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A certificate and its private key, both PEM."""

    certificate: str
    key: str

    def __repr__(self) -> str:
        return "Certificate(...)"


def ssh_key_pair(comment: str) -> KeyPair:
    """A new Ed25519 key pair."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return KeyPair(private=private.decode(), public=f"{public.decode()} {comment}")


def password() -> str:
    """A new password of 128 random bits."""
    return secrets.token_urlsafe(16)


def password_line(user: str, word: str) -> str:
    """One line of a password file in Apache's format, hashed with bcrypt."""
    import bcrypt

    return f"{user}:{bcrypt.hashpw(word.encode(), bcrypt.gensalt(_BCRYPT_COST)).decode()}\n"


def tsig_secret() -> str:
    """A new secret for HMAC-SHA256, in base64."""
    return base64.b64encode(secrets.token_bytes(32)).decode()


def bmc_certificates(lab: str, addresses: Mapping[str, IPv4Address]) -> tuple[str, Mapping[str, Certificate]]:
    """An authority of the lab's own (its certificate in PEM) and a server certificate for each BMC's address.

    The authority's private key is not kept: it signs these and nothing else, ever.
    """
    from cryptography.hazmat.primitives.asymmetric import ec

    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _authority(lab, authority_key)
    servers = {name: _server(name, address, authority, authority_key) for name, address in addresses.items()}
    return _pem(authority), servers


def _authority(lab: str, key: EllipticCurvePrivateKey) -> x509.Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    name = _name(f"ismgr lab {lab} BMC authority")
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return (
        _dated(x509.CertificateBuilder())
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _server(
    name: str, address: IPv4Address, authority: x509.Certificate, authority_key: EllipticCurvePrivateKey
) -> Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _dated(x509.CertificateBuilder())
        .subject_name(_name(f"bmc.{name}"))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(address)]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Certificate(certificate=_pem(certificate), key=private.decode())


def _dated(builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    # clocks of a controller and a BMC may differ a little
    return builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + VALIDITY)


def _name(common: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _pem(certificate: x509.Certificate) -> str:
    from cryptography.hazmat.primitives import serialization

    return certificate.public_bytes(serialization.Encoding.PEM).decode()
