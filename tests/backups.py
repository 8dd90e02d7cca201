"""The certificates and variables that databases of a lab need to keep backups, made for one test session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

COMMON_NAME = "ismgr-backup"
CIPHER = "backup: 'pass' phrase #3"


def write_secrets(folder: Path, addresses: Sequence[str]) -> None:
    """An authority, one certificate that is good for all these addresses, its key, and two pass phrases."""
    folder.mkdir(parents=True, exist_ok=True)
    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of a test")])
    own = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, COMMON_NAME)])
    root = _signed(issuer, issuer, authority, authority).add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical=True
    )
    names = x509.SubjectAlternativeName([x509.DNSName(one) for one in addresses])
    leaf = _signed(own, issuer, key, authority).add_extension(names, critical=False)
    files: Mapping[str, bytes] = {
        "ca.pem": root.sign(authority, hashes.SHA256()).public_bytes(serialization.Encoding.PEM),
        "cert.pem": leaf.sign(authority, hashes.SHA256()).public_bytes(serialization.Encoding.PEM),
        "key.pem": key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        "cipher": CIPHER.encode(),
        "restic": b"restic: 'pass' word #4",
    }
    for name, content in files.items():
        (folder / name).touch(mode=0o600)
        (folder / name).write_bytes(content)


def variables(stanza: str, repository: str) -> Mapping[str, object]:
    """What the group of the databases says about their backup."""
    return {
        "backup_stanza": stanza,
        "backup_repository": repository,
        "backup_cipher_password": {"secret": "file:backup/cipher"},
        "backup_tls_authority": {"secret": "file:backup/ca.pem"},
        "backup_tls_certificate": {"secret": "file:backup/cert.pem"},
        "backup_tls_secret": {"secret": "file:backup/key.pem"},
        "backup_files": ["/srv/documents"],
        "backup_files_password": {"secret": "file:backup/restic"},
        "postgresql_archive_command": f"pgbackrest --stanza={stanza} archive-push %p",
    }


def _signed(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
