"""What goes into the image, decided without building one."""

from __future__ import annotations

import tempfile
import threading
from dataclasses import fields, replace
from pathlib import Path

import pytest

from ismgr_automation.core.errors import Cancelled, EngineFailed
from ismgr_automation.lab import Lab, image, shell
from ismgr_automation.lab.image import Recipe, Source, debian_sources

RECIPE = Recipe(codename="bookworm", architecture="x86_64")


def source(suite: str, *, origin: str = "Debian", component: str = "main", uri: str = "mirror:/a/") -> Source:
    return Source(origin=origin, uri=uri, suite=suite, component=component)


def test_sources_of_debian_itself_are_kept_and_third_parties_are_not():
    ours = [source("bookworm"), source("bookworm-updates"), source("bookworm-security", uri="mirror:/b/")]
    foreign = [
        source("bookworm", origin="Somebody", uri="mirror:/c/"),
        source("nodistro", origin="Somebody else"),
        source("bookworm", origin="Debian", component="contrib"),
    ]
    assert debian_sources([*foreign, *ours, ours[0]], "bookworm") == tuple(ours)


def test_before_the_first_update_the_suite_decides():
    known = [source("bookworm", origin=""), source("bookworm-security", origin="")]
    foreign = [source("bookworm-pgdg", origin=""), source("bookworm", origin="", component="stable")]
    assert debian_sources([*known, *foreign], "bookworm") == tuple(known)


def test_every_field_of_a_recipe_changes_its_digest():
    for field in fields(Recipe):
        value = getattr(RECIPE, field.name)
        other = (*value, "more") if isinstance(value, tuple) else f"{value}x"
        assert replace(RECIPE, **{field.name: other}).digest != RECIPE.digest


def test_equal_recipes_have_one_name():
    assert Recipe(codename="bookworm", architecture="x86_64").reference == RECIPE.reference


def test_the_image_carries_no_identity_and_enables_no_service():
    for trace in ("ssh_host_", "machine-id", "resolv.conf", "sources.list"):
        assert trace in image.CUSTOMIZE_HOOK
    assert f"disable --quiet {' '.join(image.SERVICES)}" in image.CUSTOMIZE_HOOK
    assert "create_main_cluster = false" in image.ESSENTIAL_HOOK


@pytest.mark.lab
def test_the_built_image_holds_no_key_no_identity_no_source_and_no_database(lab: Lab):
    root = Path(shell.podman("image", "mount", lab.record.image).strip())
    try:
        assert list(root.glob("etc/ssh/ssh_host_*")) == []
        assert (root / "etc/machine-id").read_text() == ""
        for absent in ("etc/resolv.conf", "etc/hostname", "etc/apt/sources.list", "home/debian"):
            assert not (root / absent).exists(), absent
        assert list((root / "etc/apt/sources.list.d").iterdir()) == []
        assert list((root / "etc/postgresql").iterdir()) == []
        assert "debian:" not in (root / "etc/passwd").read_text()
    finally:
        shell.podman("image", "unmount", lab.record.image)


def test_a_cancelled_build_leaves_no_folder_and_no_image(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(image, "host_sources", lambda: (source("bookworm"),))
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(Cancelled):
        image._build(replace(RECIPE, trimmed=("nothing",)), lambda _event: None, cancelled)
    assert list(tmp_path.iterdir()) == []


def test_a_build_without_sources_of_debian_says_what_to_add(monkeypatch):
    monkeypatch.setattr(image, "host_sources", lambda: (source("bookworm", origin="Somebody"),))
    with pytest.raises(EngineFailed, match=r"no source of Debian.*sources\.list\.d"):
        image._build(RECIPE, lambda _event: None, threading.Event())
