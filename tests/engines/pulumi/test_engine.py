"""engines/pulumi against the real engine and a native provider whose world is a folder."""

from __future__ import annotations

from types import MappingProxyType

import pytest

from ismgr_automation.core.errors import InputError
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.ports.stacks import Operation, Output, OutputRef, ResourceStep

pytestmark = pytest.mark.engine

TWO = """
    config = pulumi.Config()
    a = Thing("a", size=config.get_float("size") or 1, key=config.get("key") or "k",
              token=pulumi.Output.secret("hunter2-token"), nested={"x": [1, {"y": "z"}]})
    b = Thing("b", size=2, note=a.serial)
    pulumi.export("serial", a.serial)
    pulumi.export("mixed", {"serial": b.serial, "number": 1, "list": ["x", a.serial]})
    pulumi.export("token", pulumi.Output.secret("hunter2-output"))
    pulumi.export("partly", {"open": 1, "hidden": pulumi.Output.secret("hunter2-output")})
"""


def test_the_life_of_a_stack(bench):
    request = bench.program(TWO)
    never = bench.engine.state(request)
    assert (never.outputs, never.resources) == ({}, 0)

    # a first preview: everything is created, what only the apply can know is unknown, and nothing is touched
    first = bench.preview(request)
    assert [(step.name, step.type, step.operation) for step in first.steps] == [
        ("a", "probe:index:Thing", Operation.CREATE),
        ("b", "probe:index:Thing", Operation.CREATE),
    ]
    world = str(bench.world)
    assert first.steps[0].after == {
        "key": "k", "nested": {"x": [1, {"y": "z"}]}, "size": 1, "token": "<secret>", "world": world
    }  # fmt: skip
    assert first.steps[1].after == {"note": "<unknown>", "size": 2, "world": world}
    assert first.outputs == {
        "serial": Output(value="<unknown>", known=False),
        "mixed": Output(value={"serial": "<unknown>", "number": 1, "list": ["x", "<unknown>"]}, known=False),
        "token": Output(value=None, secret=True),
        "partly": Output(value=None, secret=True),
    }
    assert (first.drift, first.unchanged, first.state_digest) == ((), 0, never.state_digest)
    assert first.engine == "pulumi 3.230.0; probe"
    assert bench.things() == {}
    assert list(bench.state_folder.iterdir()) == []
    assert bench.preview(request) == first

    # the first apply
    done = bench.up(request)
    assert done.failed == ()
    assert [(step.name, step.operation) for step in done.steps] == [("a", Operation.CREATE), ("b", Operation.CREATE)]
    assert set(bench.things()) == {"a", "b"}
    assert done.outputs["mixed"] == Output(value={"serial": "SN-b", "number": 1, "list": ["x", "SN-a"]})
    assert done.outputs["token"] == Output(value=None, secret=True)
    state = bench.engine.state(request)
    assert state.outputs == done.outputs
    assert (state.resources, state.state_digest) == (2, done.state_digest)
    assert done.state_digest != never.state_digest
    stepped = [(one.resource, one.operation, one.state) for one in bench.events if hasattr(one, "resource")]
    assert sorted(stepped) == [
        ("a", "create", "done"), ("a", "create", "started"), ("b", "create", "done"), ("b", "create", "started")
    ]  # fmt: skip

    # nothing to do
    idle = bench.preview(request)
    assert (idle.steps, idle.drift, idle.unchanged) == ((), (), 2)
    assert idle.outputs == done.outputs
    assert idle.state_digest == done.state_digest
    again = bench.up(request)
    assert (again.steps, again.failed) == ((), ())
    assert again.state_digest == done.state_digest, "an apply that changes nothing must not make plans stale"

    # an update in place, and a replacement
    bigger = bench.preview(bench.program(TWO, config={"size": 5}))
    assert bigger.steps == (
        ResourceStep(
            name="a", type="probe:index:Thing", operation=Operation.UPDATE,
            changed=("size",), before={"size": 1}, after={"size": 5},
        ),
    )  # fmt: skip
    other = bench.preview(bench.program(TWO, config={"key": "other"}))
    assert [(step.name, step.operation, step.changed) for step in other.steps] == [
        ("a", Operation.REPLACE, ("key",)),
        ("b", Operation.UPDATE, ("note",)),
    ]
    assert other.steps[0].before == {"key": "k"}
    assert other.steps[0].after == {"key": "other"}
    assert other.steps[1].after == {"note": "<unknown>"}
    assert bench.engine.state(request).state_digest == done.state_digest

    # the end
    gone = bench.destroy(request)
    assert [(step.name, step.operation) for step in gone.steps] == [("a", Operation.DELETE), ("b", Operation.DELETE)]
    assert (gone.failed, gone.outputs, gone.state_digest) == ((), {}, never.state_digest)
    assert bench.things() == {}
    assert bench.engine.state(request) == never
    assert bench.destroy(request).steps == ()
    assert b"hunter2" not in bench.written().replace((request.program / "__main__.py").read_bytes(), b"")


def test_what_was_changed_by_hand_is_drift_and_the_way_back_is_a_step(bench):
    request = bench.program(TWO)
    bench.up(request)
    bench.change("a", size=9)
    (bench.world / "b.json").unlink()
    before = bench.engine.state(request)
    seen = bench.preview(request)
    assert seen.drift == (
        ResourceStep(
            name="a", type="probe:index:Thing", operation=Operation.DRIFT,
            changed=("size",), before={"size": 1}, after={"size": 9},
        ),
        ResourceStep(
            name="b", type="probe:index:Thing", operation=Operation.DRIFT,
            before={"note": "SN-a", "serial": "SN-b", "size": 2, "world": str(bench.world)},
        ),
    )  # fmt: skip
    assert [(step.name, step.operation, step.before, step.after) for step in seen.steps] == [
        ("a", Operation.UPDATE, {"size": 9}, {"size": 1}),
        ("b", Operation.CREATE, None, {"note": "SN-a", "size": 2, "world": str(bench.world)}),
    ]
    assert bench.engine.state(request) == before
    assert bench.things()["a"]["size"] == 9
    done = bench.up(request)
    assert [(step.name, step.operation) for step in done.steps] == [("a", Operation.UPDATE), ("b", Operation.CREATE)]
    assert bench.things()["a"]["size"] == 1
    assert bench.preview(request).drift == ()


def test_drift_of_a_resource_that_the_program_dropped_is_seen_before_it_is_deleted(bench):
    bench.up(bench.program(TWO))
    bench.change("b", size=7)
    seen = bench.preview(bench.program('Thing("a", key="k", size=1)'))
    assert [(step.name, step.changed, step.after) for step in seen.drift] == [("b", ("size",), {"size": 7})]
    assert ("b", Operation.DELETE) in [(step.name, step.operation) for step in seen.steps]


def test_config_comes_as_it_was_given_and_the_users_own_file_is_kept(bench):
    code = """
        config = pulumi.Config()
        pulumi.export("seen", {
            "text": config.require("text"), "yes": config.require_bool("yes"), "count": config.require_int("count"),
            "site": config.require_object("site"), "mine": config.require("mine"), "over": config.require("over"),
            "zone": pulumi.Config("cloud").require("zone"), "date": config.require("date"),
        })
    """
    site = {"name": "dc1", "machines": [{"name": "db1", "bmc": {"password": {"secret": "env:BMC"}}}]}
    request = bench.program(
        code,
        config={
            "text": "true", "yes": True, "count": 7, "site": site, "over": "estate", "cloud:zone": "z1",
            "date": "2026-01-02", "nothing": None,
        },
    )  # fmt: skip
    own = request.program / "Pulumi.things.yaml"
    own.write_text("config:\n  things:mine: kept\n  things:over: user\n")
    before = own.read_text()
    assert bench.up(request).outputs["seen"].value == {
        "text": "true", "yes": True, "count": 7, "site": site, "mine": "kept", "over": "estate", "zone": "z1",
        "date": "2026-01-02",
    }  # fmt: skip
    assert own.read_text() == before
    assert sorted(path.name for path in request.program.iterdir()) == [
        "Pulumi.things.yaml", "Pulumi.yaml", "__main__.py"
    ]  # fmt: skip


def test_secret_config_reaches_the_program_and_is_written_nowhere(bench, monkeypatch):
    monkeypatch.setenv("PROBE_WORD", "swordfish-4711")
    code = """
        config = pulumi.Config()
        word = config.require_secret("word")
        Thing("a", token=word, size=1)
        pulumi.export("length", word.apply(lambda text: f"{len(text)} letters"))
        pulumi.export("cloud", pulumi.Config("cloud").require_secret("key").apply(len))
        print("the word is", config.get("word"))
        import os, pathlib
        files = [path for path in pathlib.Path(os.environ["TMPDIR"]).parent.rglob("*") if path.is_file()]
        pulumi.export("looked", bool(files))
        pulumi.export("leaks", [str(path) for path in files if b"swordfish" in path.read_bytes()])
        pulumi.export("environment", [name for name, value in os.environ.items() if "swordfish" in value])
        pulumi.log.warn("so the word is swordfish-4711")
    """
    request = bench.program(
        code, config={"word": SecretRef("env", "PROBE_WORD"), "cloud:key": SecretRef("env", "PROBE_WORD")}
    )
    seen = bench.preview(request)
    assert seen.steps[0].after["token"] == "<secret>"
    done = bench.up(request)
    assert done.failed == ()
    assert bench.things()["a"]["token"] == "swordfish-4711"
    assert done.outputs["length"].secret
    assert done.outputs["looked"] == Output(value=True)
    assert done.outputs["leaks"] == Output(value=[])
    assert done.outputs["environment"] == Output(value=[])
    said = [one.text for one in bench.events if hasattr(one, "text")]
    assert "the word is <secret>" in said
    assert "so the word is <secret>" in said
    program = (request.program / "__main__.py").read_bytes()
    world = (bench.world / "a.json").read_bytes()
    assert b"swordfish" not in bench.written().replace(program, b"").replace(world, b"")
    assert "swordfish" not in repr([seen, done, bench.events])


def test_config_that_the_project_declares_is_known_to_the_engine_too(bench, monkeypatch):
    monkeypatch.setenv("PROBE_WORD", "swordfish-4711")
    code = """
        config = pulumi.Config()
        pulumi.export("word", config.require_secret("word"))
        pulumi.export("sizes", config.require_object("sizes"))
    """
    request = bench.program(code, config={"word": SecretRef("env", "PROBE_WORD"), "sizes": (1, MappingProxyType({}))})
    project = request.program / "Pulumi.yaml"
    project.write_text(project.read_text() + "config:\n  word: {type: string, secret: true}\n")
    outputs = bench.preview(request).outputs
    assert outputs == {"sizes": Output(value=[1, {}]), "word": Output(value=None, secret=True)}


def test_a_stack_gets_the_outputs_of_another_and_secret_ones_stay_secret(bench):
    bench.up(bench.program(TWO, name="lower"))
    code = """
        config = pulumi.Config()
        pulumi.export("serial", config.require("serial"))
        pulumi.export("mixed", config.require_object("mixed"))
        pulumi.export("secret", config.require_secret("token"))
        pulumi.export("partly", config.require_secret_object("partly").apply(lambda one: one["open"]))
    """
    outputs = {name: OutputRef(stack="lower", output=name) for name in ("serial", "mixed", "token", "partly")}
    request = bench.program(code, name="upper", config=outputs)
    done = bench.up(request)
    assert done.failed == ()
    assert done.outputs["serial"] == Output(value="SN-a")
    assert done.outputs["mixed"] == Output(value={"serial": "SN-b", "number": 1, "list": ["x", "SN-a"]})
    assert done.outputs["secret"] == Output(value=None, secret=True)
    assert done.outputs["partly"].secret
    programs = [path.read_bytes() for path in bench.root.rglob("__main__.py")]
    written = bench.written()
    for one in programs:
        written = written.replace(one, b"")
    written = written.replace((bench.world / "a.json").read_bytes(), b"")
    assert b"hunter2" not in written


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (OutputRef(stack="nowhere", output="x"), "never applied"),
        (OutputRef(stack="lower", output="serail"), "Did you mean 'serial'"),
    ],
)
def test_an_output_that_is_not_there_is_named(bench, output, words):
    bench.up(bench.program('pulumi.export("serial", 1)', name="lower"))
    with pytest.raises(InputError, match=words):
        bench.preview(bench.program("", name="upper", config={"wanted": output}))


def test_a_program_may_refer_to_other_stacks_in_pulumis_own_way(bench):
    bench.up(bench.program('pulumi.export("serial", "SN-1")', name="lower"))
    code = """
        other = pulumi.StackReference("organization/lower/lower")
        pulumi.export("serial", other.require_output("serial"))
    """
    assert bench.preview(bench.program(code, name="upper")).outputs["serial"] == Output(value="SN-1")
