"""`ismgr init`, `validate` and `schema`, as somebody types them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from ismgr_automation.cli.main import run
from ismgr_automation.estate.documents import KINDS
from ismgr_automation.estate.starter import name_for, starter


@pytest.fixture(autouse=True)
def _identity(monkeypatch):
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "Ada")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "ada@example.org")


def commit(folder: Path) -> None:
    subprocess.run(["git", "add", "-A"], cwd=folder, check=True)
    subprocess.run(["git", "commit", "-q", "-m", "Begin"], cwd=folder, check=True)


def test_a_new_estate_is_sound_and_a_repository(tmp_path, capsys):
    assert run(["init", str(tmp_path / "My Infra")]) == 0
    said = capsys.readouterr().out
    assert "began a Git repository" in said
    assert "git add . && git commit" in said
    assert run(["-C", str(tmp_path / "My Infra"), "validate"]) == 0
    assert capsys.readouterr().out == "Estate my-infra is sound: 1 team, 1 stack, 1 host group.\n"


def test_a_new_estate_is_sound_at_its_first_commit(tmp_path, capsys):
    run(["init", str(tmp_path / "infra")])
    assert run(["-C", str(tmp_path / "infra"), "validate", "--ref", "HEAD"]) == 1
    assert "has no commit yet" in capsys.readouterr().err
    commit(tmp_path / "infra")
    assert run(["-C", str(tmp_path / "infra"), "validate", "--ref", "HEAD"]) == 0


def test_init_inside_a_repository_begins_no_other(tmp_path, capsys):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert run(["-C", str(tmp_path), "--json", "init", "infra"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["type"], result["repository_made"]) == ("init", False)
    assert result["files"] == sorted(starter("x"))
    assert not (tmp_path / "infra/.git").exists()


def test_init_never_overwrites_and_then_writes_nothing(tmp_path, capsys):
    (tmp_path / "README.md").write_text("mine")
    assert run(["init", str(tmp_path)]) == 1
    assert "already has README.md" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    assert (tmp_path / "README.md").read_text() == "mine"


def test_init_where_nothing_can_be_written_says_so(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run(["init", str(tmp_path / "file")]) == 1
    assert "Cannot write" in capsys.readouterr().err


def test_validate_reads_the_files_as_they_lie_here_unless_a_ref_is_named(tmp_path, capsys):
    run(["init", str(tmp_path)])
    commit(tmp_path)
    (tmp_path / "more.yaml").write_text("kind: Service\nname: front\nowner: operatoins\n")
    capsys.readouterr()
    assert run(["-C", str(tmp_path), "validate", "--ref", "main"]) == 0
    assert run(["-C", str(tmp_path), "validate"]) == 1
    said = capsys.readouterr().err
    assert "error: The estate has 1 mistake." in said
    assert "more.yaml:3:8: error: Service 'front' names team 'operatoins', which does not exist" in said
    assert "did you mean 'operations'?" in said
    assert "Nothing was touched." in said


def test_validate_gives_machines_every_mistake_with_its_place(tmp_path, capsys):
    (tmp_path / "estate.yaml").write_text("kind: Estate\nnmae: x\nowner: ops\nenvironments: {production: {}}\n")
    assert run(["-C", str(tmp_path), "--json", "validate"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert (result["type"], result["reason"], result["exit_code"]) == ("error", "estate-error", 1)
    assert [(one["path"], one["line"], one["column"], one["suggestion"]) for one in result["diagnostics"]] == [
        ("estate.yaml", 2, 1, "name")
    ]


def test_validate_works_in_a_folder_that_is_not_in_git(tmp_path, capsys):
    for path, text in starter("plain").items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert run(["-C", str(tmp_path), "--json", "validate"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["estate"], result["documents"], result["warnings"]) == ("plain", 4, [])


def test_validate_does_not_read_through_a_folder_that_is_no_estate(tmp_path, capsys):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "teams.yaml").write_text("kind: Team\nname: Wrong Name\n")
    assert run(["-C", str(tmp_path), "validate"]) == 1
    said = capsys.readouterr().err
    assert "There is no estate.yaml" in said
    assert "ismgr init" in said
    assert "Wrong Name" not in said


def test_validate_shows_warnings_and_succeeds(tmp_path, capsys):
    run(["init", str(tmp_path)])
    (tmp_path / "stacks/mine.yaml").write_text("kind: Stack\nname: lost\n")
    capsys.readouterr()
    assert run(["-C", str(tmp_path), "validate"]) == 0
    assert "stacks/mine.yaml:1:1: warning: this looks like a Stack document" in capsys.readouterr().out
    assert run(["-C", str(tmp_path), "--json", "validate"]) == 0
    (warning,) = json.loads(capsys.readouterr().out)["warnings"]
    assert (warning["path"], warning["line"], warning["column"]) == ("stacks/mine.yaml", 1, 1)


def test_validate_of_a_folder_that_is_not_there(tmp_path, capsys):
    assert run(["-C", str(tmp_path / "nothing"), "validate"]) == 1
    assert "nothing" in capsys.readouterr().err


def test_a_schema_is_printed_as_it_is(capsys):
    assert run(["schema", "HostGroup"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "HostGroup"
    assert run(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Document"
    assert run(["--json", "schema", "Team"]) == 0
    assert json.loads(capsys.readouterr().out)["schema"]["title"] == "Team"


def test_schemas_are_written_and_editors_are_told(tmp_path, capsys):
    assert run(["-C", str(tmp_path), "schema", "--write", ".schemas"]) == 0
    assert "yaml-language-server: $schema=.schemas/Document.schema.json" in capsys.readouterr().out
    written = {path.name: json.loads(path.read_text()) for path in (tmp_path / ".schemas").iterdir()}
    assert set(written) == {f"{kind}.schema.json" for kind in [*KINDS, "Document"]}


def test_an_unknown_kind_is_an_input_error(capsys):
    assert run(["schema", "Stak"]) == 1
    assert "Did you mean Stack?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("folder", "name"), [("infra", "infra"), ("My Infra_2", "my-infra-2"), ("...", "estate"), ("x" * 90, "x" * 63)]
)
def test_an_estate_is_called_like_its_folder(folder, name):
    assert name_for(folder) == name
