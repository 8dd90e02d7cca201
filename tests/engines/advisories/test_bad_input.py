"""What is broken or hostile is refused with its place, costs little, and leaves nothing behind."""

from __future__ import annotations

import gzip
import io
import json
import os
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from ismgr_automation.core.errors import InputError
from ismgr_automation.engines.advisories import FileAdvisories, Limits
from tests.engines.advisories.site import CASES, wanted

SAID = json.loads((CASES / "bad" / "said.json").read_text())
RECORD = {"id": "CVE-2026-0001", "modified": "2026-11-20T08:00:00Z"}
SMALL = Limits(file_bytes=10_000, member_bytes=1_000, unpacked_bytes=2_000, members=3)


def refusal(reader: FileAdvisories, form: str, path: Path) -> str:
    with pytest.raises(InputError) as refused:
        reader.read([wanted(form, path)], ["bookworm"])
    assert refused.value.next_step
    return str(refused.value)


def attempted(folder: Path, form: str, path: Path) -> int | None:
    """How many entries there are; None where the source was refused."""
    try:
        return FileAdvisories(folder / "cache").read([wanted(form, path)], ["bookworm"]).sources[0].entries
    except InputError:
        return None


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("name", SAID)
def test_a_bad_source_is_refused_with_its_guilty_place(reader: FileAdvisories, name: str) -> None:
    said = refusal(reader, name.partition("-")[0], CASES / "bad" / name)
    assert SAID[name] in said
    assert name in said


def test_every_bad_sample_is_tried() -> None:
    assert set(SAID) | {"said.json"} == {path.name for path in (CASES / "bad").iterdir()}


@pytest.mark.parametrize("form", ["debian", "osv", "kev"])
@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, '{"a": ' + "[" * 5_000 + "]" * 5_000 + "}", "1" * 10_000, '"\\ud800"']
)
def test_nesting_without_end_and_numbers_without_end_are_refused(tmp_path: Path, form: str, text: str) -> None:
    path = tmp_path / "source.json"
    path.write_text(text)
    assert refusal(FileAdvisories(tmp_path / "cache"), form, path)


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"\x00" * 100, b'{"a": "\xc3("}', b"\x1f\x8b", b"PK\x03\x04junk"]
)
@pytest.mark.parametrize("form", ["debian", "osv", "kev", "epss"])
def test_what_is_no_text_is_refused(reader: FileAdvisories, tmp_path: Path, form: str, content: bytes) -> None:
    path = tmp_path / "source"
    path.write_bytes(content)
    assert "source" in refusal(reader, form, path)


def test_bytes_that_are_no_text_are_told_with_line_and_column(reader: FileAdvisories, tmp_path: Path) -> None:
    (tmp_path / "kev.json").write_bytes(b'{\n "a": "\xc3("}')
    assert "kev.json:2:8: error: this is no text in UTF-8" in refusal(reader, "kev", tmp_path / "kev.json")


def test_a_gzip_bomb_is_not_unpacked_past_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "epss.csv.gz"
    path.write_bytes(gzip.compress(b"0" * 50_000_000))
    assert "too large" in refusal(FileAdvisories(tmp_path / "cache", limits=Limits(file_bytes=100_000)), "epss", path)


def test_a_gzip_file_that_is_cut_off_is_refused(reader: FileAdvisories, tmp_path: Path) -> None:
    path = tmp_path / "epss.csv.gz"
    path.write_bytes(gzip.compress((CASES / "epss.csv").read_bytes())[:-12])
    assert "damaged" in refusal(reader, "epss", path)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"a.json": b" " * 1_500_000}, "too large"),
        ({f"{one}.json": json.dumps(RECORD).encode() + b" " * 700 for one in "abc"}, "too large"),
        ({f"{one}.txt": b"" for one in "abcd"}, "more than 3 members"),
        ({"a.json": b"{"}, "all.zip/a.json:1:2"),
        ({"\x1b[2J.json": b"{"}, "all.zip/?[2J.json:1:2"),
    ],
    ids=["one bomb", "many small ones", "members", "no JSON", "a name for the terminal"],
)
def test_a_hostile_archive_is_refused(tmp_path: Path, members: dict[str, bytes], said: str) -> None:
    path = zipped(tmp_path / "all.zip", members)
    assert said in refusal(FileAdvisories(tmp_path / "cache", limits=SMALL), "osv", path)


def test_a_size_that_an_archive_lies_about_is_not_believed(tmp_path: Path) -> None:
    honest = zipped(tmp_path / "all.zip", {"a.json": b" " * 1_500_000}).read_bytes()
    (tmp_path / "all.zip").write_bytes(honest.replace((1_500_000).to_bytes(4, "little"), (5).to_bytes(4, "little")))
    assert "all.zip" in refusal(FileAdvisories(tmp_path / "cache", limits=SMALL), "osv", tmp_path / "all.zip")


def test_paths_inside_an_archive_are_never_written(reader: FileAdvisories, tmp_path: Path) -> None:
    names = ["../../escaped.json", "/escaped.json", "a/../../escaped.json"]
    path = zipped(tmp_path / "all.zip", {name: json.dumps(RECORD).encode() for name in names})
    assert reader.read([wanted("osv", path)], ["bookworm"]).sources[0].entries == 3
    assert not list(tmp_path.rglob("escaped*"))
    assert not Path("/escaped.json").exists()


def test_an_archive_with_a_password_is_refused(reader: FileAdvisories, tmp_path: Path) -> None:
    content = bytearray(zipped(tmp_path / "all.zip", {"a.json": b"{}"}).read_bytes())
    content[6] |= 1
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "all.zip").write_bytes(content)
    assert "of a kind that is not read" in refusal(reader, "osv", tmp_path / "all.zip")


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ("debian", {"open\x1b[2Jssl": {}}),
        ("debian", {"openssl": {"CVE 1": {}}}),
        ("debian", {"openssl": {"CVE-1": {"releases": {"bookworm": {"status": "open", "urgency": "\x07"}}}}}),
        ("osv", RECORD | {"id": "a\nb"}),
        ("osv", RECORD | {"affected": [{"package": {"ecosystem": "Debian", "name": "a b"}, "versions": ["1"]}]}),
        ("osv", RECORD | {"modified": "0001-01-01T00:00:00+23:00"}),
        ("kev", {"vulnerabilities": [{"cveID": "", "dateAdded": "2026-01-01"}]}),
    ],
)
def test_names_and_times_that_are_none_are_refused(
    reader: FileAdvisories, tmp_path: Path, form: str, value: object
) -> None:
    (tmp_path / "source.json").write_text(json.dumps(value))
    assert all(line.isprintable() for line in refusal(reader, form, tmp_path / "source.json").splitlines())


def test_a_summary_brings_no_control_characters_to_a_terminal(reader: FileAdvisories, tmp_path: Path) -> None:
    state = {"bookworm": {"status": "open"}}
    value = {"openssl": {"CVE-1": {"description": "one\n two\x1b[2J " + "long " * 200, "releases": state}}}
    (tmp_path / "source.json").write_text(json.dumps(value))
    summary = reader.read([wanted("debian", tmp_path / "source.json")], ["bookworm"]).vulnerabilities["CVE-1"].summary
    assert summary.startswith("one two?[2J long")
    assert (summary.isprintable(), len(summary) <= 204) == (True, True)


def test_links_in_a_folder_are_not_followed(reader: FileAdvisories, tmp_path: Path) -> None:
    (tmp_path / "osv").mkdir()
    (tmp_path / "outside.json").write_text(json.dumps(RECORD))
    (tmp_path / "osv" / "link.json").symlink_to(tmp_path / "outside.json")
    (tmp_path / "osv" / "up").symlink_to(tmp_path)
    assert reader.read([wanted("osv", tmp_path / "osv")], ["bookworm"]).sources[0].entries == 0


def test_a_pipe_is_refused_instead_of_waited_for(reader: FileAdvisories, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "kev.json")
    assert "no plain file" in refusal(reader, "kev", tmp_path / "kev.json")


def test_a_file_larger_than_the_limit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kev.json").write_bytes(b" " * 10_001)
    assert "10,000 bytes" in refusal(FileAdvisories(tmp_path / "cache", limits=SMALL), "kev", tmp_path / "kev.json")


def test_a_file_of_another_format_lists_only_its_first_mistakes(reader: FileAdvisories, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps({f"source-{number}": [] for number in range(5_000)}))
    assert len(refusal(reader, "debian", tmp_path / "x.json").splitlines()) == 21


json_values = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats(allow_nan=False, allow_infinity=False) | some.text(),
    lambda inner: (
        some.lists(inner, max_size=4)
        | some.dictionaries(
            some.sampled_from(
                ["id", "modified", "affected", "package", "severity", "releases", "status", "vulnerabilities"]
            )
            | some.text(max_size=4),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("form", ["debian", "osv", "kev", "epss"])
@given(value=json_values)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_json_is_read_or_refused_and_nothing_else(tmp_path: Path, form: str, value: object) -> None:
    path = tmp_path / "any.json"
    path.write_text(json.dumps(value))
    assert attempted(tmp_path, form, path) in {None, 0, 1}


@given(noise=some.binary(max_size=40), at=some.integers(0, 400))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_archive_is_read_or_refused_and_nothing_else(tmp_path: Path, noise: bytes, at: int) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.json", json.dumps(RECORD))
    content = packed.getvalue()
    path = tmp_path / "all.zip"
    path.write_bytes(content[:at] + noise + content[at + len(noise) :])
    assert attempted(tmp_path, "osv", path) in {None, 0, 1}
