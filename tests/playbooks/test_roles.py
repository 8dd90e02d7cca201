"""What every shipped role and playbook has, read from the files alone."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from ismgr_automation import shipped
from ismgr_automation.estate.load import load

PLAYBOOKS = shipped.root() / "playbooks"
ROLES = sorted(path for path in (PLAYBOOKS / "roles").iterdir() if (path / "tasks").is_dir())
SHARED = PLAYBOOKS / "roles" / "modules"
TYPES = {"str", "int", "bool", "list", "dict", "path", "float"}
EXAMPLE = shipped.root() / "examples" / "two-sites"

roles = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)


def read(path: Path) -> object:
    return yaml.safe_load(path.read_text()) if path.exists() else None


def options(role: Path) -> Mapping[str, Mapping[str, object]]:
    return read(role / "meta" / "argument_specs.yml")["argument_specs"]["main"]["options"]


def every_option(
    found: Mapping[str, Mapping[str, object]], path: str = ""
) -> Iterator[tuple[str, Mapping[str, object]]]:
    for name, spec in found.items():
        yield f"{path}{name}", spec
        yield from every_option(spec.get("options", {}), f"{path}{name}.")


def tasks(role: Path) -> list[dict[str, object]]:
    return [one for path in sorted((role / "tasks").glob("*.yml")) for one in read(path)]


@roles
def test_a_role_is_described_typed_and_verified(role: Path) -> None:
    assert (role / "README.md").read_text().startswith(f"# {role.name}\n")
    assert (role / "verify" / f"test_{role.name}.py").exists()
    assert {"role": "modules"} in read(role / "meta" / "main.yml")["dependencies"]
    for name, spec in every_option(options(role)):
        assert spec.get("type") in TYPES, name
        assert str(spec.get("description", "")).endswith("."), name
        assert spec["type"] != "list" or spec.get("elements"), name


@roles
def test_every_option_has_a_default_or_is_required_and_every_default_is_an_option(role: Path) -> None:
    specs, defaults = options(role), read(role / "defaults" / "main.yml") or {}
    assert set(defaults) <= set(specs)
    for name, spec in specs.items():
        assert (name in defaults) != bool(spec.get("required")), name
        assert name.startswith(f"{role.name}_"), name


@roles
def test_secrets_are_marked_and_their_tasks_say_nothing(role: Path) -> None:
    secret = {name for name, spec in options(role).items() if spec.get("no_log")}
    suspicious = {name for name in options(role) if re.search(r"(password|secret)$", name)}
    assert secret == suspicious
    files = {path.name for path in role.glob("templates/*") if any(name in path.read_text() for name in secret)}
    for task in tasks(role):
        if any(name in str(task) for name in files):
            assert task.get("no_log") is True, task["name"]


@roles
def test_a_role_is_few_tasks_and_needs_nothing_but_what_it_ships(role: Path) -> None:
    ours = {path.stem for path in (*SHARED.glob("library/*.py"), *role.glob("library/*.py"))}
    keywords = {
        "name",
        "register",
        "when",
        "no_log",
        "vars",
        "loop",
        "loop_control",
        "notify",
        "check_mode",
        "changed_when",
    }
    found = tasks(role)
    assert len(found) <= 10
    for task in found:
        (module,) = set(task) - keywords
        assert module in ours or module.startswith("ansible.builtin."), module


def test_every_playbook_is_an_ordinary_one_and_its_syntax_is_right() -> None:
    playbooks = sorted(PLAYBOOKS.glob("*.yml"))
    assert playbooks
    for path in playbooks:
        (play,) = read(path)
        assert (play["hosts"], play["gather_facts"], play["become"]) == ("all", False, True)
        assert play["any_errors_fatal"] is False
        assert play["roles"][0] == {"role": "base"}
    tool = Path(sys.executable).with_name("ansible-playbook")
    done = subprocess.run(
        [tool, "-i", "one,", "--syntax-check", *playbooks], check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", sorted(PLAYBOOKS.glob("roles/*/library/*.py")), ids=lambda path: path.stem)
def test_a_modules_documentation_names_every_argument(module: Path) -> None:
    text = module.read_text()
    described = yaml.safe_load(re.search(r'^DOCUMENTATION = r"""(.*?)"""', text, re.DOTALL | re.MULTILINE)[1])
    assert described["module"] == module.stem
    asked = set(re.findall(r'params(?:\.get\(|\[)"(\w+)"', text))
    assert asked <= set(described["options"])
    assert "supports_check_mode=True" in text


def test_the_examples_documents_hold_together() -> None:
    files = [path.relative_to(EXAMPLE).as_posix() for path in EXAMPLE.rglob("*") if path.is_file()]
    estate, diagnostics = load(EXAMPLE, files)
    assert not [str(one) for one in diagnostics]
    assert estate is not None


def test_the_examples_variables_are_options_of_the_roles_that_its_playbooks_run() -> None:
    for group in yaml.safe_load_all((EXAMPLE / "groups.yaml").read_text()):
        (play,) = read(shipped.root() / group["playbook"].removeprefix(shipped.PREFIX))
        known = {name for one in play["roles"] for name in options(PLAYBOOKS / "roles" / one["role"])}
        assert set(group["variables"]) <= known
        required = {
            name
            for one in play["roles"]
            for name, spec in options(PLAYBOOKS / "roles" / one["role"]).items()
            if spec.get("required")
        }
        assert required <= set(group["variables"])


def test_the_example_keeps_its_secrets_out_of_git() -> None:
    assert {".secrets/", ".ismgr/"} <= set((EXAMPLE / ".gitignore").read_text().splitlines())
    assert not (EXAMPLE / ".secrets").exists()


def test_the_lab_image_holds_what_the_roles_install() -> None:
    from ismgr_automation.lab.image import PACKAGES

    there = {name for group in PACKAGES for name in group.split(",")}
    wanted = set(read(PLAYBOOKS / "roles" / "base" / "defaults" / "main.yml")["base_packages"])
    for role in ROLES:
        for task in tasks(role):
            names = task.get("ismgr_packages", {}).get("names", [])
            wanted |= set(names) if isinstance(names, list) else set()
    wanted -= {"postgresql-{{ postgresql_version }}", "postgresql-client-{{ postgresql_version }}"}
    # tzdata and the versioned server come with the package postgresql
    assert wanted - {"tzdata"} <= there
    assert "postgresql" in there
