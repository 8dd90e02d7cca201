"""The package repository of a lab: made and signed on the host, served by the lab's machine ``ns``. It offers what it
is given; what that is good for is not known here."""

from __future__ import annotations

import hashlib
import http.client
import io
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType

from ismgr_automation.core.errors import SettingsError
from ismgr_automation.lab import debs, shell
from ismgr_automation.lab.debs import Package
from ismgr_automation.lab.folder import Folder, write_private
from ismgr_automation.lab.topology import PACKAGES_NAME, ZONE, Topology

ORIGIN = "ismgr-lab"
SUITES = ("stable", "stable-security")
COMPONENT = "main"
KEYRING, SOURCES = "/etc/apt/keyrings/ismgr-lab.asc", "/etc/apt/sources.list.d/ismgr-lab.sources"
"""Where machines keep the key and the description of the repository."""
SERVED, UNIT = "/srv/packages", "etc/systemd/system/packages.service"
_HANDS = 4
_READY, _PAUSE = timedelta(seconds=30), timedelta(seconds=0.05)

SERVER = f"""[Unit]
Description=Packages and firmware for the sites
After=network.target

[Service]
ExecStart=/usr/bin/python3 -m http.server --protocol HTTP/1.1 --directory {SERVED} 80
User=www-data
AmbientCapabilities=CAP_NET_BIND_SERVICE
Restart=always

[Install]
WantedBy=multi-user.target
"""
"""The unit of the machine that serves; readers see one state of the repository or the next, never a mixture."""

_EXCHANGE = f"""
set -e
next=$(mktemp --directory {SERVED}.XXXXXX)
tar --extract --directory "$next"
chmod 755 "$next"
before=$(readlink {SERVED} || true)
ln --symbolic "$next" "$next.link"
mv --no-target-directory "$next.link" {SERVED}
if [ -n "$before" ]; then rm --recursive --force "$before"; fi
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One version that the repository offers."""

    name: str
    version: str
    suite: str
    digest: str
    """``sha256:...`` of the package file."""


@dataclass(frozen=True, slots=True)
class Repository:
    """A lab's repository: suites ``stable`` and ``stable-security``, signed with a key of this lab's own."""

    topology: Topology
    folder: Folder

    @property
    def url(self) -> str:
        """Where machines find it, by name."""
        return f"http://{PACKAGES_NAME}.{ZONE}"

    @property
    def management_url(self) -> str:
        """Where the controller and the BMCs find it."""
        return f"http://{self.topology.packages.management}"

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the key that signs: 40 hex digits."""
        self._ensure_key()
        return (self._root / "fingerprint").read_text()

    @property
    def key(self) -> str:
        """The public key, ASCII-armored."""
        self._ensure_key()
        return (self._root / "archive.asc").read_text()

    @property
    def sources(self) -> str:
        """The description of the repository for apt, in the format deb822."""
        return (
            f"Types: deb\nURIs: {self.url}/\nSuites: {' '.join(SUITES)}\nComponents: {COMPONENT}\n"
            f"Signed-By: {KEYRING}\n"
        )

    def publish(self, packages: Sequence[Package], files: Mapping[str, str] = MappingProxyType({})) -> None:
        """Offer these packages and no others; machines see them with their next ``apt-get update``. Takes less than a
        second. ``files`` are served beside them, by path: firmware images."""
        shutil.rmtree(self._tree / "pool", ignore_errors=True)
        for suite in SUITES:
            self._pool(suite).mkdir(parents=True)
        with ThreadPoolExecutor(_HANDS) as hands:
            list(hands.map(self._build, packages))
        for path, text in files.items():
            self._write(path, text)
        self._serve()

    def withdraw(self, name: str, version: str) -> None:
        """Offer a version no more; raises ``SettingsError`` when it is not offered."""
        gone = [one for one in self.offered() if (one.name, one.version) == (name, version)]
        if not gone:
            raise SettingsError(
                f"The lab's repository has no {name} {version}.", next_step="`Lab.repository.offered()` lists what is."
            )
        for offer in gone:
            package = Package(name=offer.name, version=offer.version, summary="")
            for path in self._pool(offer.suite).glob(f"{package.file_name}*"):
                path.unlink()
        self._serve()

    def offered(self) -> tuple[Offer, ...]:
        """What it offers, by suite and name."""
        return tuple(
            Offer(name=fields["Package"], version=fields["Version"], suite=suite, digest=f"sha256:{_sha256(path)}")
            for suite in SUITES
            for path in sorted(self._pool(suite).glob("*.deb"))
            for fields in (dict(line.split(": ", 1) for line in _control(path).splitlines()),)
        )

    def put(self, path: str, text: str) -> str:
        """Serve one more file beside the packages, such as a firmware image; returns the URL for BMCs."""
        self._write(path, text)
        self._serve()
        return f"{self.management_url}/{path}"

    @property
    def _root(self) -> Path:
        return self.folder.root / "packages"

    @property
    def _tree(self) -> Path:
        return self._root / "tree"

    def _pool(self, suite: str) -> Path:
        return self._tree / "pool" / suite

    def _build(self, package: Package) -> None:
        target = self._pool(package.suite) / package.file_name
        debs.build(package, target)
        target.with_suffix(".deb.control").write_text(package.control)

    def _write(self, path: str, text: str) -> None:
        target = self._tree / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def _serve(self) -> None:
        """Write the indexes anew, sign them, and let ``ns`` serve all of it from one moment on."""
        with self._signer() as home:
            for suite in SUITES:
                self._index(suite, home)
        container = self.topology.container(self.topology.packages)
        archive = _archive(self._tree)
        shell.command("podman", "exec", "--interactive", container, "sh", "-c", _EXCHANGE, stdin=archive)
        wanted = (self._tree / "dists" / SUITES[-1] / "InRelease").read_bytes()
        shell.wait_until("the repository is served", lambda: self._served() == wanted, _READY, _PAUSE)

    def _index(self, suite: str, home: Path) -> None:
        architecture = shell.command("dpkg", "--print-architecture").strip()
        packages = "\n".join(
            f"{_control(path)}Filename: {path.relative_to(self._tree)}\nSize: {path.stat().st_size}\n"
            f"SHA256: {_sha256(path)}\n"
            for path in sorted(self._pool(suite).glob("*.deb"))
        )
        folder = self._tree / "dists" / suite
        index = folder / COMPONENT / f"binary-{architecture}" / "Packages"
        index.parent.mkdir(parents=True, exist_ok=True)
        index.write_text(packages)
        name = index.relative_to(folder)
        release = (
            f"Origin: {ORIGIN}\nLabel: {ORIGIN}\nSuite: {suite}\nDate: {datetime.now(UTC):%a, %d %b %Y %H:%M:%S} UTC\n"
            f"Architectures: {architecture}\nComponents: {COMPONENT}\n"
            f"SHA256:\n {_sha256(index)} {index.stat().st_size} {name}\n"
        )
        signed = folder / "InRelease"
        signed.unlink(missing_ok=True)
        _gpg(home, "--clearsign", "--output", str(signed), stdin=release.encode())

    def _served(self) -> bytes:
        connection = http.client.HTTPConnection(str(self.topology.packages.management), timeout=2)
        try:
            connection.request("GET", f"/dists/{SUITES[-1]}/InRelease")
            return connection.getresponse().read()
        except OSError:
            return b""
        finally:
            connection.close()

    def _ensure_key(self) -> None:
        if (self._root / "fingerprint").exists():
            return
        with _gpg_home() as home:
            who = f"ismgr lab {self.folder.name} packages"
            _gpg(home, "--passphrase", "", "--quick-generate-key", who, "ed25519", "sign", "never")
            write_private(self._root / "signing.asc", _gpg(home, "--armor", "--export-secret-keys"))
            write_private(self._root / "archive.asc", _gpg(home, "--armor", "--export"))
            listed = _gpg(home, "--with-colons", "--list-keys").splitlines()
        # last: with it, everything is there
        write_private(self._root / "fingerprint", next(line for line in listed if line.startswith("fpr")).split(":")[9])

    @contextmanager
    def _signer(self) -> Iterator[Path]:
        self._ensure_key()
        with _gpg_home() as home:
            _gpg(home, "--import", str(self._root / "signing.asc"))
            yield home


@contextmanager
def _gpg_home() -> Iterator[Path]:
    """A home for gpg that leaves no agent behind; short, because sockets in it have short names."""
    with tempfile.TemporaryDirectory(prefix="ismgr-gpg-") as folder:
        try:
            yield Path(folder)
        finally:
            shell.command("gpgconf", "--homedir", folder, "--kill", "all")


def _gpg(home: Path, *arguments: str, stdin: bytes | None = None) -> str:
    options = ("--homedir", str(home), "--batch", "--quiet", "--no-tty", "--pinentry-mode", "loopback")
    return shell.command("gpg", *options, *arguments, stdin=stdin)


def _archive(tree: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in sorted(tree.iterdir()):
            archive.add(path, arcname=path.name, filter=_readable)
    return buffer.getvalue()


def _readable(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if member.name.endswith(".control"):
        return None
    member.mode = 0o755 if member.isdir() else 0o644
    return member


def _control(path: Path) -> str:
    return path.with_suffix(".deb.control").read_text()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
