"""A SQLite that cannot hold the rows of steps is told from one that can, before anything is made."""

from __future__ import annotations

import pytest

from ismgr_automation.core.errors import EngineMissing, SettingsError
from ismgr_automation.engines.steps import fitness
from ismgr_automation.engines.steps.rows import Place, Rows

OLD = (3, 40, 1)
FILE, SERVER = "sqlite:////srv/ismgr-steps.db", "postgresql://db/ismgr"


@pytest.mark.parametrize(
    ("url", "python", "sqlite"),
    [
        (FILE, (3, 11), OLD),
        (FILE, (3, 12), (3, 42, 0)),
        (FILE, (3, 13), (3, 45, 3)),
        (FILE, (3, 11), (3, 35, 0)),
        (SERVER, (3, 12), OLD),
    ],
)
def test_what_works_is_let_through(url: str, python: tuple[int, ...], sqlite: tuple[int, ...]) -> None:
    fitness.check(url, python, sqlite)


@pytest.mark.parametrize(
    ("python", "sqlite", "needed"),
    [((3, 12), OLD, "3.42"), ((3, 13), (3, 41, 2), "3.42"), ((3, 11), (3, 34, 1), "3.35")],
)
def test_what_does_not_work_is_named_with_every_way_out(
    python: tuple[int, ...], sqlite: tuple[int, ...], needed: str
) -> None:
    with pytest.raises(EngineMissing, match=rf"{needed} or later under Python") as caught:
        fitness.check(FILE, python, sqlite)
    assert any("PostgreSQL" in way for way in caught.value.ways)
    assert str(caught.value.found[0]).startswith(f"SQLite {'.'.join(map(str, sqlite))}")


def test_it_is_asked_before_the_file_is_made(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setattr(fitness.check, "__defaults__", ((3, 12), OLD))
    with pytest.raises(EngineMissing):
        Rows(Place(url=f"sqlite:///{tmp_path}/steps.db")).open()
    assert not list(tmp_path.iterdir())  # type: ignore[attr-defined]


def test_dbos_is_not_made_to_believe_that_it_is_in_a_cloud(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBOS__CLOUD", "true")
    with pytest.raises(SettingsError, match="DBOS__CLOUD"):
        fitness.check(SERVER)
