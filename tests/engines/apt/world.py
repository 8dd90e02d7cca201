"""A small world for apt: tiny packages in two versions, one broken on purpose, in a signed repository that a machine of
the lab's image reads. SSH goes through a real sshd on loopback into that machine."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from email.utils import formatdate
from pathlib import Path

from ismgr_automation.ports.packages import Fleet, Move, PackageRequest
from tests.engines.loopback import Loopback, serve

DEADLINE = timedelta(seconds=60)
ARCHITECTURE = "amd64"
_ROW = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Deb:
    """One version of one package."""

    name: str
    version: str
    architecture: str = "all"
    depends: str = ""
    postinst: str = ""
    source: str = ""
    fills: str = ""
    """A file of two megabytes that it brings."""
    provides: str = ""
    configuration: str = ""
    """A file that belongs to the host's owner."""


WAIT = """\
if [ "$1" = configure ]; then
    : >/run/slow-began
    while [ -e /run/slow-wait ]; do sleep 0.1; done
fi
"""

DEBS = (
    Deb(name="ismgr-hello", version="1.0"),
    Deb(name="ismgr-hello", version="2.0", source="ismgr-greetings (2.0-1)"),
    Deb(name="ismgr-lib", version="1.0-1", architecture=ARCHITECTURE),
    Deb(name="ismgr-lib", version="1:0.9-1~deb12u1", architecture=ARCHITECTURE),
    Deb(name="ismgr-tool", version="1.0", configuration="etc/ismgr-tool.conf"),
    Deb(name="ismgr-tool", version="1.5", configuration="etc/ismgr-tool.conf"),
    Deb(name="ismgr-tool", version="2.0", depends="ismgr-lib (>= 1:0.9)"),
    Deb(name="ismgr-broken", version="1.0"),
    Deb(name="ismgr-broken", version="2.0", postinst='[ "$1" != configure ] || { echo "I am broken"; exit 1; }\n'),
    Deb(name="ismgr-slow", version="1.0"),
    Deb(name="ismgr-slow", version="2.0", postinst=WAIT),
)
NEW_DEBS = (
    *DEBS,
    Deb(name="ismgr-hello", version="3.0", depends="ismgr-new2 (>= 1.0), ismgr-virtual"),
    Deb(name="ismgr-new2", version="1.0", architecture=ARCHITECTURE, depends="ismgr-deep (= 1.0)"),
    Deb(name="ismgr-deep", version="1.0"),
    Deb(name="ismgr-real", version="1.0", provides="ismgr-virtual"),
    Deb(name="ismgr-tool", version="3.0", depends="ismgr-ill"),
    Deb(name="ismgr-ill", version="1.0", postinst='[ "$1" != configure ] || { echo "I am ill"; exit 1; }\n'),
    Deb(name="ismgr-slow", version="3.0", depends="ismgr-new2, ismgr-lib (>= 1:0.9)"),
)
"""Versions that need packages which nobody has."""
FIRST = {"ismgr-hello": "1.0", "ismgr-lib": "1.0-1", "ismgr-tool": "1.0", "ismgr-broken": "1.0", "ismgr-slow": "1.0"}


def move(name: str, before: str, after: str, digest: str = "") -> Move:
    architecture = ARCHITECTURE if name in {"ismgr-lib", "ismgr-new2"} else "all"
    return Move(name=name, architecture=architecture, before=before, after=after, digest=digest)


HELLO = move("ismgr-hello", "1.0", "2.0")
LIB = move("ismgr-lib", "1.0-1", "1:0.9-1~deb12u1")
TOOL = move("ismgr-tool", "1.0", "2.0")
BROKEN = move("ismgr-broken", "1.0", "2.0")
SLOW = move("ismgr-slow", "1.0", "2.0")


def back(one: Move) -> Move:
    """The way back."""
    return move(one.name, one.after, one.before)


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A folder that apt can read, signed with a key of its own."""

    folder: Path
    home: Path
    built: Path

    def publish(self, *debs: Deb) -> None:
        """Offer these versions and no other."""
        pool = self.folder / "pool"
        shutil.rmtree(pool, ignore_errors=True)
        pool.mkdir(parents=True)
        index = "".join(self._record(deb) for deb in debs)
        place = self.folder / "dists/stable/main" / f"binary-{ARCHITECTURE}"
        place.mkdir(parents=True, exist_ok=True)
        (place / "Packages").write_text(index)
        (place / "Packages.gz").write_bytes(gzip.compress(index.encode(), mtime=0))
        self._sign(place)

    def digest(self, one: Move) -> str:
        """What the signed index says of the version after."""
        body = (self.built / f"{one.name}_{one.after}_{one.architecture}.deb").read_bytes()
        return f"sha256:{hashlib.sha256(body).hexdigest()}"

    def _record(self, deb: Deb) -> str:
        file = _build(deb, self.built)
        # an epoch is not part of a file's name in a pool
        place = self.folder / "pool" / f"{deb.name}_{deb.version.split(':')[-1]}_{deb.architecture}.deb"
        shutil.copy(file, place)
        return _control(deb) + (
            f"Filename: pool/{place.name}\nSize: {file.stat().st_size}\n"
            f"SHA256: {hashlib.sha256(file.read_bytes()).hexdigest()}\n\n"
        )

    def _sign(self, place: Path) -> None:
        root = self.folder / "dists/stable"
        listed = "".join(
            f" {hashlib.sha256(one.read_bytes()).hexdigest()} {one.stat().st_size} {one.relative_to(root)}\n"
            for one in sorted(place.iterdir())
        )
        (root / "Release").write_text(
            f"Origin: Ismgr-Test\nLabel: Ismgr-Test\nSuite: stable-security\nCodename: stable\n"
            f"Date: {formatdate(usegmt=True)}\nArchitectures: {ARCHITECTURE}\nComponents: main\nSHA256:\n{listed}"
        )
        gpg(self.home, "--yes", "--clearsign", "--output", str(root / "InRelease"), str(root / "Release"))


def repository(folder: Path) -> Repository:
    """An empty one with a new key."""
    made = Repository(folder=folder / "repository", home=folder / "gnupg", built=folder / "built")
    for one in (made.folder, made.built):
        one.mkdir(parents=True)
        one.chmod(0o755)
    made.home.mkdir(mode=0o700)
    gpg(made.home, "--quick-generate-key", "--passphrase", "", "apt@ismgr.test", "ed25519", "sign", "never")
    (made.folder / "key.asc").write_bytes(gpg(made.home, "--armor", "--export"))
    return made


def gpg(home: Path, *words: str) -> bytes:
    command = ["gpg", "--homedir", str(home), "--batch", "--quiet", *words]
    return subprocess.run(command, check=True, capture_output=True, timeout=30).stdout


def _control(deb: Deb) -> str:
    more = {"Depends": deb.depends, "Provides": deb.provides, "Source": deb.source}
    return (
        f"Package: {deb.name}\nVersion: {deb.version}\nArchitecture: {deb.architecture}\nSection: misc\n"
        "Priority: optional\nMaintainer: Test <test@ismgr.test>\nInstalled-Size: 4\n"
        + "".join(f"{name}: {value}\n" for name, value in more.items() if value)
        + "Description: a package for tests\n"
    )


def _build(deb: Deb, folder: Path) -> Path:
    file = folder / f"{deb.name}_{deb.version}_{deb.architecture}.deb"
    if file.exists():
        return file
    tree = folder / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(_control(deb))
    if deb.postinst:
        (tree / "DEBIAN/postinst").write_text(f"#!/bin/sh\n{deb.postinst}")
        (tree / "DEBIAN/postinst").chmod(0o755)
    share = tree / "usr/share" / deb.name
    share.mkdir(parents=True)
    (share / "version").write_text(deb.version + "\n")
    if deb.fills:
        (tree / deb.fills).parent.mkdir(parents=True)
        (tree / deb.fills).write_bytes(os.urandom(2 * 1024 * 1024))
    if deb.configuration:
        (tree / deb.configuration).parent.mkdir(parents=True)
        (tree / deb.configuration).write_text(deb.version + "\n")
        (tree / "DEBIAN/conffiles").write_text(f"/{deb.configuration}\n")
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-b", str(tree), str(file)], check=True, capture_output=True, timeout=30
    )
    shutil.rmtree(tree)
    return file


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A machine of the lab's image with systemd, and the way in."""

    name: str
    repository: Repository
    server: Loopback
    fleet: Fleet

    def sh(self, script: str, *words: str) -> str:
        """Run a script in the machine as root; its output. Fails with its words."""
        done = self.start(script, *words).communicate(timeout=120)
        return done[0]

    def start(self, script: str, *words: str) -> subprocess.Popen[str]:
        """Begin one and do not wait."""
        command = ["podman", "exec", self.name, "sh", "-c", script, "sh", *words]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def versions(self) -> dict[str, str]:
        """Status and version of the world's packages."""
        rows = self.sh("dpkg-query -W -f '${Package} ${db:Status-Abbrev} ${Version}\\n' 'ismgr-*'").splitlines()
        # names that are only provided or were purged have no version
        known = (words for row in rows if len(words := row.split()) == _ROW)
        return {name: f"{status} {version}" for name, status, version in known}

    def first(self) -> None:
        """Everything back in its first version, nothing pinned, no trace of a run."""
        self.repository.publish(*DEBS)
        new = " ".join(sorted({one.name for one in NEW_DEBS} - set(FIRST)))
        specs = " ".join(f"{name}={version}" for name, version in FIRST.items())
        said = self.sh(
            "rm -rf /etc/apt/preferences.d/ismgr-patch /run/slow-wait /run/slow-began /var/lib/ismgr /usr/local/bin/* "
            "/var/cache/apt/archives/*.deb; apt-mark unhold 'ismgr-*'; apt-get update -qq && "
            f"dpkg --purge --force-all {new}; apt-mark manual 'ismgr-*'; "
            f"DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --allow-downgrades {specs} && echo well"
        )
        assert said.splitlines()[-1] == "well", said

    def request(self, *moves: Move, run: str = "run-1", **more: object) -> PackageRequest:
        fields: dict[str, object] = {
            "fleet": self.fleet,
            "moves": {"box": moves},
            "run": run,
            "deadline": DEADLINE,
        }
        return PackageRequest(**(fields | more))  # type: ignore[arg-type]


@contextmanager
def box(folder: Path, image: str) -> Iterator[Box]:
    """A machine with its repository; gone afterwards."""
    made = repository(folder)
    made.publish(*DEBS)
    folder.chmod(0o755)
    name = f"ismgr-apt-test-{os.getpid()}"
    command = (
        "podman run -d --runtime runc --systemd=always --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 "
        f"--cap-add SYS_BOOT --network none --name {name} -v {made.folder}:/srv/repository:ro "
        f"--tmpfs /srv/small:size=1m {image} /lib/systemd/systemd"
    )
    subprocess.run(command.split(), check=True, capture_output=True, timeout=60)
    try:
        inside = f'ForceCommand exec podman exec -i {name} sh -c "$SSH_ORIGINAL_COMMAND"\n'
        with serve(folder / "sshd", inside) as server:
            host = server.host("box")
            made_box = Box(
                name=name,
                repository=made,
                server=server,
                fleet=Fleet(hosts=(host,), names=("box",), ssh=server.ssh),
            )
            until(
                "systemd is up", lambda: made_box.sh("systemctl is-system-running").strip() in {"running", "degraded"}
            )
            made_box.sh(
                "rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*; "
                'echo "deb [signed-by=/srv/repository/key.asc] copy:/srv/repository stable main" '
                ">/etc/apt/sources.list.d/test.list"
            )
            yield made_box
    finally:
        subprocess.run(["podman", "rm", "-f", "-t", "0", name], check=True, capture_output=True, timeout=60)


def until(what: str, holds: Callable[[], bool], seconds: float = 60.0) -> None:
    """Look until something holds, or fail with its name."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"waited {seconds} s in vain: {what}"
        time.sleep(0.05)
