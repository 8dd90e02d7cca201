"""The estate in the explanation of estates is one: what people copy from there is accepted."""

from __future__ import annotations

import re
from pathlib import Path

from ismgr_automation.estate.documents import Environment
from ismgr_automation.estate.load import load
from tests.estate.cases import files_of

PAGE = Path(__file__).parents[2] / "docs/explanation/estate.md"
BLOCK = re.compile(r"^```yaml\n# (?P<file>\S+\.yaml)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_estate_of_the_page_is_sound_and_shows_every_promise_of_an_environment(tmp_path: Path) -> None:
    files = {one["file"]: one["text"] for one in BLOCK.finditer(PAGE.read_text())}
    assert set(files) == {"estate.yaml", "people.yaml", "groups.yaml"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    estate, found = load(tmp_path, files_of(tmp_path))
    assert [str(one) for one in found] == []
    assert estate is not None
    production = estate.document.environments["production"]
    assert set(Environment.model_fields) - production.model_fields_set == set()
    assert {"waves", "soak", "minimum_available", "quorum"} <= estate.groups["databases"].model_fields_set
