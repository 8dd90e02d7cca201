"""What goes into the image, decided without building one."""

from __future__ import annotations

from dataclasses import fields, replace

from ismgr_automation.lab import image
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
