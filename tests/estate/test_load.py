"""The loader on whole trees: every mistake, exactly once, at its place; and sound trees without a word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.core.address import Address
from ismgr_automation.core.diagnostic import Severity
from ismgr_automation.estate.load import files_below, load
from tests.estate.cases import expected, lay_out, names
from tests.estate.generate import generate


@pytest.mark.parametrize("name", names("bad"))
def test_a_bad_tree_gets_exactly_its_marked_diagnostics(name, tmp_path):
    estate, found = load(tmp_path, lay_out("bad", name, tmp_path))
    wanted = list(expected("bad", name))
    assert wanted, "a bad case marks its guilty lines"
    missing = [one for one in wanted if not any(one.meets(said) for said in found)]
    surplus = [str(said) for said in found if not any(one.meets(said) for one in wanted)]
    assert (missing, surplus) == ([], [])
    assert len(found) == len(wanted)
    assert (estate is None) == any(one.severity is Severity.ERROR for one in found)


@pytest.mark.parametrize("name", [*names("good")])
def test_a_sound_tree_is_an_estate_without_diagnostics(name, tmp_path):
    estate, found = load(tmp_path, lay_out("good", name, tmp_path))
    assert [str(one) for one in found] == []
    assert estate is not None
    assert estate.document.name == "base"


def test_no_message_shows_a_word_of_the_validation_library(tmp_path):
    words = ("_type", "validat", "pydantic", "Input should", "Field required", "extra_", "regex", "pattern '")
    for name in names("bad"):
        folder = tmp_path / name
        _, found = load(folder, lay_out("bad", name, folder))
        assert [str(one) for one in found for word in words if word in str(one)] == []


def test_a_secret_in_clear_text_is_never_repeated(tmp_path):
    for name in ("secret-in-clear-text.yaml", "malformed-values.yaml"):
        folder = tmp_path / name
        _, found = load(folder, lay_out("bad", name, folder))
        assert found
        assert not any("hunter2" in str(one) for one in found)


def test_an_estate_knows_where_its_documents_and_values_stand(tmp_path):
    estate, _ = load(tmp_path, lay_out("good", "sites", tmp_path))
    assert estate is not None
    webs = Address.parse("group/webs")
    assert str(estate.positions[webs]) == "documents.yaml:24:7"
    assert str(estate.fields[webs, "needs.0"]) == "documents.yaml:27:9"
    assert str(estate.fields[Address.parse("stack/servers"), "config.site"]) == "documents.yaml:12:9"
    assert estate.files == ("dc2.yml", "documents.yaml", "estate.yaml")
    assert estate.size == 8


def test_diagnostics_come_sorted_by_place(tmp_path):
    _, found = load(tmp_path, lay_out("bad", "selectors.yaml", tmp_path))
    assert list(found) == sorted(found, key=lambda one: (one.position.path, one.position.line, one.position.column))


def test_a_file_that_cannot_be_read_is_a_diagnostic(tmp_path):
    files = lay_out("good", "sites", tmp_path)
    (tmp_path / "dc2.yml").unlink()
    estate, found = load(tmp_path, files)
    assert estate is None
    assert [str(one) for one in found] == ["dc2.yml:1:1: error: the file cannot be read: No such file or directory"]


def test_a_file_that_is_not_utf8_is_shown_at_its_byte(tmp_path):
    files = lay_out("good", "sites", tmp_path)
    (tmp_path / "dc2.yml").write_bytes(b"kind: Site\nname: \xe9\n")
    _, found = load(tmp_path, files)
    assert [str(one) for one in found] == ["dc2.yml:2:7: error: the file is not UTF-8 text; expected UTF-8"]


def test_an_empty_folder_says_what_is_missing(tmp_path):
    estate, found = load(tmp_path, ())
    assert estate is None
    assert ["no document of kind Estate" in str(one) for one in found] == [True]


def test_a_folder_that_is_not_in_git_is_listed_without_hidden_folders(tmp_path):
    (tmp_path / ".secrets").mkdir()
    (tmp_path / ".secrets/x.yaml").write_text("")
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b.yaml").write_text("")
    (tmp_path / ".gitignore").write_text("")
    assert files_below(tmp_path) == (".gitignore", "a/b.yaml")


def test_a_thousand_documents_are_an_estate(tmp_path):
    files = generate(tmp_path, 1000)
    estate, found = load(tmp_path, files)
    assert [str(one) for one in found] == []
    assert estate is not None
    assert estate.size == 1000


_words = st.sampled_from(
    ["kind", "name", "Stack", "HostGroup", "Site", "config", "needs", "program", "selector", "x", "machines", "<<", ""]
)
_plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), _words, st.text())
_values = st.recursive(
    _plain,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_words | st.text(), inner, max_size=4),
    max_leaves=12,
)
_kinds = st.sampled_from(["Estate", "Team", "Site", "Stack", "HostGroup", "Service"])


@given(st.binary(max_size=200))
def test_no_bytes_make_the_loader_raise(tmp_path_factory, content):
    root = tmp_path_factory.mktemp("tree")
    (root / "estate.yaml").write_bytes(content)
    estate, found = load(root, ["estate.yaml"])
    assert estate is None
    assert found


@given(
    st.lists(
        st.text(alphabet="kindame: -[]{}&*!<>|'\"\n\t#%@,?", max_size=60)
        | st.sampled_from(
            ["kind: Stack\n", "name: x\n", "--- \n", "config:\n  ", "&a [", "*a", "<<: *a\n", "!!binary "]
        ),
        max_size=8,
    ).map("".join)
)
def test_no_text_makes_the_loader_raise(tmp_path_factory, text):
    root = tmp_path_factory.mktemp("tree")
    (root / "estate.yaml").write_text(text)
    estate, found = load(root, ["estate.yaml"])
    assert estate is None
    assert found


@given(
    _kinds, st.dictionaries(_words | st.sampled_from(["owner", "environments", "waves", "hosts"]), _values, max_size=6)
)
def test_no_document_makes_the_loader_raise(tmp_path_factory, kind, body):
    import yaml

    root = tmp_path_factory.mktemp("tree")
    text = yaml.safe_dump({**body, "kind": kind}, allow_unicode=True)
    (root / "estate.yaml").write_text(text, encoding="utf-8", errors="surrogatepass")
    estate, found = load(root, ["estate.yaml"])
    assert (estate is None) == any(one.severity is Severity.ERROR for one in found)
