"""The image that machines of a lab start from: Debian and packages, built from this host's own apt sources. It holds no
key, no identity, no address and never the result of a role."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from ismgr_automation.core.errors import EngineFailed, EngineMissing
from ismgr_automation.core.events import Emit, StepReported
from ismgr_automation.engines import process
from ismgr_automation.lab.shell import ENGINE, attempt, command, podman

REPOSITORY = "localhost/ismgr-lab"
LABEL = "ismgr.image"
NEEDED = "a Debian host that can run machines as containers"
BUILD_DEADLINE = timedelta(minutes=30)

PACKAGES = (
    # a machine
    "systemd,systemd-sysv,dbus,openssh-server,sudo,acl,iproute2,iputils-ping,nftables,procps,ca-certificates",
    # what Ansible and the shipped roles stand on
    "python3-minimal,python3-apt,python3-psycopg2,needrestart,chrony,curl,socat",
    # the services
    "postgresql,haproxy,knot,knot-dnsutils,gunicorn,python3-gunicorn,python3-flask",
    # their backups
    "pgbackrest,restic",
)
SERVICES = ("haproxy", "knot", "chrony", "postgresql", "nftables")
"""Installed, and enabled by roles only."""
CONTAINER_MASKED = ("systemd-logind", "systemd-udevd", "console-getty", "getty@tty1", "systemd-networkd")
"""Units that make no sense without hardware of one's own."""
TRIMMED = ("doc", "man", "info", "locale", "lintian")

ESSENTIAL_HOOK = """
set -e
mkdir -p "$1/etc/postgresql-common"
# a package may not make a database cluster: that is a role's result
echo 'create_main_cluster = false' > "$1/etc/postgresql-common/createcluster.conf"
"""
CUSTOMIZE_HOOK = f"""
set -e
chroot "$1" systemctl disable --quiet {" ".join(SERVICES)}
chroot "$1" systemctl mask --quiet {" ".join(CONTAINER_MASKED)}
# haproxy's unit mounts the host's journal socket, which a container does not have
mkdir -p "$1/etc/systemd/system/haproxy.service.d"
printf '[Service]\\nBindReadOnlyPaths=\\n' > "$1/etc/systemd/system/haproxy.service.d/container.conf"
rm -f "$1"/etc/ssh/ssh_host_* "$1/var/lib/dbus/machine-id" "$1/etc/resolv.conf" "$1/etc/hostname"
rm -f "$1/etc/postgresql-common/createcluster.conf.ucf-dist"
rm -rf "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/* "$1"/etc/apt/apt.conf.d/99mmdebstrap
: > "$1/etc/machine-id"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What decides the content of an image; its digest is the image's tag."""

    codename: str
    architecture: str
    packages: tuple[str, ...] = PACKAGES
    essential_hook: str = ESSENTIAL_HOOK
    customize_hook: str = CUSTOMIZE_HOOK
    trimmed: tuple[str, ...] = TRIMMED

    @property
    def digest(self) -> str:
        """The first twelve hex digits of the SHA-256 over every field."""
        fields = (self.codename, self.architecture, *self.packages, self.essential_hook, self.customize_hook)
        return hashlib.sha256("\0".join((*fields, *self.trimmed)).encode()).hexdigest()[:12]

    @property
    def reference(self) -> str:
        """The image's name and tag."""
        return f"{REPOSITORY}:{self.digest}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One suite of one archive, as apt on this host knows it; ``origin`` is empty before an ``apt-get update``."""

    origin: str
    uri: str
    suite: str
    component: str

    @property
    def line(self) -> str:
        """The one-line form of apt's sources."""
        return f"deb {self.uri} {self.suite} {self.component}"


def recipe_of_this_host() -> Recipe | None:
    """The recipe for the release of Debian that this host runs; None on another distribution."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return None
    if release.get("ID") != "debian" or "VERSION_CODENAME" not in release:
        return None
    return Recipe(codename=release["VERSION_CODENAME"], architecture=platform.machine())


def obtainable(recipe: Recipe) -> bool:
    """Whether the image is there, or apt knows sources of Debian that it could be built from."""
    return exists(recipe.reference) or bool(debian_sources(host_sources(), recipe.codename))


def debian_sources(sources: Sequence[Source], codename: str) -> tuple[Source, ...]:
    """Those sources that carry Debian itself, so that an unreachable third party cannot break the build.

    An origin decides where there is one. Before the first ``apt-get update`` there is none; then the suite's name and
    the component ``main`` have to do.
    """
    suites = {codename, *(f"{codename}{ending}" for ending in ("-updates", "-security", "/updates"))}
    return tuple(
        source
        for source in dict.fromkeys(sources)
        if source.component == "main" and (source.origin == "Debian" or (not source.origin and source.suite in suites))
    )


def host_sources() -> tuple[Source, ...]:
    """What apt on this host is told to use, whichever format the files have; empty without apt."""
    if shutil.which("apt-get") is None:
        return ()
    pattern = "$(CREATED_BY)\t$(ORIGIN)\t$(REPO_URI)\t$(RELEASE)\t$(COMPONENT)"
    rows = (line.split("\t") for line in command("apt-get", "indextargets", "--format", pattern).splitlines())
    # without downloaded lists apt leaves the unknown words as they are written in the pattern
    return tuple(
        Source(origin="" if row[1].startswith("$(") else row[1], uri=row[2], suite=row[3], component=row[4])
        for row in rows
        if row[0] == "Packages"
    )


def exists(reference: str) -> bool:
    """Whether the image is in this host's store."""
    return attempt("podman", "image", "exists", reference).code == 0


def ensure(emit: Emit, lock: Path, cancelled: threading.Event) -> str:
    """Build the image of this host's recipe unless it is there; returns its reference. One build at a time per host.

    Raises ``EngineFailed`` with mmdebstrap's words, ``Cancelled`` when somebody cancelled.
    """
    recipe = recipe_of_this_host()
    if recipe is None:
        raise EngineMissing(engine=ENGINE, needed=NEEDED, found=["not Debian"], ways=["running the lab on Debian 12"])
    if exists(recipe.reference):
        return recipe.reference
    with _only_one(lock):
        if not exists(recipe.reference):
            _build(recipe, emit, cancelled)
    return recipe.reference


def remove_all() -> tuple[str, ...]:
    """Remove every image that this module built; returns their references."""
    listed = podman(
        "image", "ls", "--filter", f"reference={REPOSITORY}", "--format", "{{.Repository}}:{{.Tag}}"
    ).split()
    for reference in listed:
        podman("image", "rm", reference)
    return tuple(listed)


def _build(recipe: Recipe, emit: Emit, cancelled: threading.Event) -> None:
    sources = debian_sources(host_sources(), recipe.codename)
    if not sources:
        raise EngineFailed(
            "apt on this machine knows no source of Debian itself.",
            engine=ENGINE,
            subject=recipe.reference,
            next_step=f"Add one for {recipe.codename} main below /etc/apt/sources.list.d and run `apt-get update`.",
        )
    started = time.monotonic()
    emit(StepReported(step="image", detail=f"building {recipe.reference} from {len(sources)} apt sources, once"))
    with tempfile.TemporaryDirectory(prefix="ismgr-image-") as folder:
        archive = _debootstrap(recipe, sources, Path(folder), emit, cancelled)
        emit(StepReported(step="image", detail=f"importing {archive.stat().st_size // 2**20} MB"))
        podman(
            "import", "--quiet", "--change", f"LABEL {LABEL}={recipe.digest}", str(archive), recipe.reference,
            deadline=BUILD_DEADLINE,
        )  # fmt: skip
    emit(StepReported(step="image", detail="built", seconds=time.monotonic() - started))


def _debootstrap(
    recipe: Recipe, sources: Sequence[Source], folder: Path, emit: Emit, cancelled: threading.Event
) -> Path:
    archive, listed, options = folder / "root.tar", folder / "sources.list", folder / "apt.conf"
    listed.write_text("".join(f"{source.line}\n" for source in sources))
    options.write_text(_apt_options())

    def narrate(line: str) -> None:
        if line.startswith("I: ") and " tempdir" not in line and "hook in shell" not in line:
            emit(StepReported(step="image", detail=line.removeprefix("I: ").strip()))

    finished = process.run(
        [
            *("mmdebstrap", "--variant=minbase", "--mode=root", "--format=tar", f"--aptopt={options}"),
            *(f"--include={group}" for group in recipe.packages),
            *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in recipe.trimmed),
            *(f"--essential-hook={recipe.essential_hook}", f"--customize-hook={recipe.customize_hook}"),
            *(recipe.codename, str(archive), str(listed)),
        ],
        engine="mmdebstrap",
        subject=recipe.reference,
        deadline=BUILD_DEADLINE,
        env={**os.environ, "TMPDIR": str(folder), "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"},
        on_stderr=narrate,
        cancelled=cancelled,
    )
    if finished.code != 0:
        raise EngineFailed(
            "The image could not be built.",
            engine="mmdebstrap",
            subject=recipe.reference,
            detail="\n".join(finished.stderr.splitlines()[-15:]),
            next_step="`apt-get update` must work on this machine; then run the same command again.",
        )
    return archive


def _apt_options() -> str:
    """How this host's apt reaches its archives (proxies, date checks), without its index targets."""
    wanted = ("Acquire::http", "Acquire::https", "Acquire::Check-", "Acquire::Retries", "Acquire::ForceIPv")
    lines = command("apt-config", "dump", "Acquire").splitlines()
    kept = [line for line in lines if line.startswith(wanted)]
    return "\n".join([*kept, 'APT::Install-Recommends "false";', 'Acquire::Languages "none";', ""])


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
