"""The desk: who may ask, what they get, and how events come in."""

from __future__ import annotations

import json
import socket
import stat
import threading
import time

import pytest

from ismgr_automation.core.secret import Secret, SecretRef
from ismgr_automation.engines.ansible.desk import Desk
from ismgr_automation.engines.ansible.redaction import Cleaner
from ismgr_automation.engines.secrets import Backends

STORE = Backends(environment={"APP": "canary-9c", "OTHER": "canary-other"})
APP = SecretRef.parse("env:APP")


def ask(desk: Desk, **message: object) -> dict[str, str]:
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(desk.place))
        line.sendall(json.dumps(message).encode() + b"\n")
        line.shutdown(socket.SHUT_WR)
        return json.loads(line.makefile().readline() or "{}")


@pytest.fixture
def heard() -> list[object]:
    return []


@pytest.fixture
def desk(tmp_path, heard):
    with Desk(tmp_path, STORE, [APP, SecretRef.parse("env:GONE")], Cleaner(), heard.append) as one:
        yield one


def test_a_named_secret_is_opened_for_who_knows_the_token(desk):
    assert ask(desk, token=desk.token, secret="env:APP") == {"value": "canary-9c"}


def test_without_the_token_there_is_no_answer_at_all(desk):
    assert ask(desk, token="guess", secret="env:APP") == {}
    assert ask(desk, secret="env:APP") == {}


def test_a_secret_that_is_not_named_is_refused_without_looking(desk):
    assert "may not open it" in ask(desk, token=desk.token, secret="env:OTHER")["error"]


def test_a_secret_that_is_missing_is_said_to_be(desk):
    assert "GONE is not set" in ask(desk, token=desk.token, secret="env:GONE")["error"]


def test_only_we_may_knock(desk):
    assert stat.S_IMODE(desk.place.stat().st_mode) == 0o600


def test_events_come_in_order_without_secrets_that_were_opened(tmp_path, heard):
    with Desk(tmp_path, STORE, [APP], Cleaner(), heard.append) as desk:
        ask(desk, token=desk.token, secret="env:APP")
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(str(desk.place))
            for number in range(500):
                event = {"token": desk.token, "kind": "x", "number": number, "deep": [{"text": "a canary-9c b"}]}
                line.sendall(json.dumps(event).encode() + b"\n")
    assert [one["number"] for one in heard] == list(range(500))
    assert heard[0] == {"kind": "x", "number": 0, "deep": [{"text": "a <secret> b"}]}
    assert not desk.place.exists()


def test_a_slow_watcher_does_not_hold_up_who_asks(tmp_path):
    going = threading.Event()
    with Desk(tmp_path, STORE, [APP], Cleaner(), lambda _: going.wait(30)) as desk:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(10)
            line.connect(str(desk.place))
            for _ in range(200):
                line.sendall(json.dumps({"token": desk.token, "text": "x" * 5000}).encode() + b"\n")
        assert ask(desk, token=desk.token, secret="env:APP") == {"value": "canary-9c"}
        going.set()


def test_an_error_of_the_watcher_comes_back(tmp_path):
    def fail(_event: object) -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"), Desk(tmp_path, STORE, [], Cleaner(), fail) as desk:
        ask(desk, token=desk.token, kind="x")


def test_nothing_is_left_when_the_body_raises(tmp_path):
    before = threading.active_count()
    with pytest.raises(KeyError), Desk(tmp_path, STORE, [], Cleaner(), lambda _: None):
        raise KeyError
    until = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.01)
    assert threading.active_count() == before
    assert list(tmp_path.iterdir()) == []


REPLACED = {
    "a secret that is replaced": (
        {"before": "a\nkey=old\n\nb\n", "after": "a\nkey=canary-9c\n\nc\n"},
        {"before": "a\n<secret>\n\n<secret>\n", "after": "a\nkey=<secret>\n\nc\n"},
    ),
    "none that comes": ({"before": "key=old", "after": "key="}, {"before": "key=old", "after": "key="}),
    "in an item": (
        {"items": [{"before": "old", "after": "canary-9c"}, {"before": "x", "after": "y"}]},
        {"items": [{"before": "<secret>", "after": "<secret>"}, {"before": "x", "after": "y"}]},
    ),
    "in a prepared difference": (
        {"before": "", "after": "", "prepared": "-old\n+canary-9c"},
        {"before": "", "after": "", "prepared": "<secret>"},
    ),
    "a prepared difference without": ({"prepared": "-old\n+new"}, {"prepared": "-old\n+new"}),
}


@pytest.mark.parametrize(("said", "told"), REPLACED.values(), ids=list(REPLACED))
def test_what_a_secret_replaces_is_hidden_with_it(said, told):
    cleaner = Cleaner()
    cleaner.learn(Secret("canary-9c"))
    assert cleaner.clean_value(said) == told


@pytest.mark.parametrize("form", ["{}", '"{}"', "'{}'", "prefix{}suffix"])
def test_a_learnt_secret_is_taken_out_in_its_usual_disguises(form):
    value = "p@ss \"w'ord\\ $x"
    cleaner = Cleaner()
    cleaner.learn(Secret(value))
    import base64
    import shlex
    from urllib.parse import quote

    for shown in (value, json.dumps(value)[1:-1], shlex.quote(value), quote(value, safe=""), repr(value)[1:-1]):
        assert "w" not in cleaner.clean(form.format(shown)).replace("prefix", "").replace("suffix", "")
    encoded = base64.b64encode(value.encode()).decode()
    assert cleaner.clean(encoded) == "<secret>"
