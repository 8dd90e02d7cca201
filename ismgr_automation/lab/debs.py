"""Debian packages of the lab's own, made with dpkg-deb: small, for every architecture, byte for byte the same on every
host. What they are for is not known here."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from ismgr_automation.lab.shell import command

MAINTAINER = "ismgr lab <lab@two-sites.test>"
_EPOCH = "1767225600"
"""The time of every file, 2026-01-01: the same package has the same digest whenever and wherever it is made."""
_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One version of one package. ``files`` and ``scripts`` (``postinst`` and the like) are texts; a file that begins
    with ``#!`` can be run. ``fields`` are further ones of the control file, such as ``Depends`` or ``Source``."""

    name: str
    version: str
    summary: str
    suite: str = "stable"
    section: str = "admin"
    files: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    scripts: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    fields: Mapping[str, str] = field(default_factory=lambda: _NOTHING)

    @property
    def file_name(self) -> str:
        """What the package file is called; an epoch is not part of it.

        >>> Package(name="a", version="1:2.0-1", summary="").file_name
        'a_2.0-1_all.deb'
        """
        return f"{self.name}_{self.version.partition(':')[2] or self.version}_all.deb"

    @property
    def control(self) -> str:
        """The control file."""
        fields = {
            "Package": self.name,
            "Version": self.version,
            "Architecture": "all",
            "Section": self.section,
            "Priority": "optional",
            "Maintainer": MAINTAINER,
            **self.fields,
            "Description": self.summary,
        }
        return "".join(f"{name}: {value}\n" for name, value in fields.items())


def build(package: Package, target: Path) -> None:
    """Write a package file; raises ``EngineFailed`` with dpkg-deb's words."""
    with tempfile.TemporaryDirectory(prefix="ismgr-package-") as folder:
        root = Path(folder) / "root"
        _write(root / "DEBIAN" / "control", package.control)
        for name, text in package.scripts.items():
            _write(root / "DEBIAN" / name, text)
        for name, text in package.files.items():
            _write(root / name.lstrip("/"), text)
        for made in (root, *root.rglob("*")):
            made.chmod(0o755 if made.is_dir() or made.read_text().startswith("#!") else 0o644)
        options = ("--root-owner-group", "-Zgzip", "-z1", "--threads-max=1")
        command("env", f"SOURCE_DATE_EPOCH={_EPOCH}", "dpkg-deb", *options, "--build", str(root), str(target))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
