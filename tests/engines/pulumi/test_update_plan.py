"""The engine's saved plan: its digest is the same for the same intent, it travels sealed, and an apply keeps to it."""

from __future__ import annotations

import base64
import copy
import json
import secrets
from dataclasses import replace

import pytest

from ismgr_automation.core.errors import PlanFileError
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines.pulumi import update_plan
from ismgr_automation.engines.pulumi.state import SECRET_SIGNATURE, SIGNATURE
from ismgr_automation.engines.pulumi.update_plan import keys, opened, refusal, sealed
from ismgr_automation.ports.stacks import Operation, Output, UpdatePlan

STACK = "organization/p/dev"
PARENT = "urn:pulumi:dev::p::pulumi:pulumi:Stack::p-dev"
WEB, LOG = (f"urn:pulumi:dev::p::t:i:Bucket::{name}" for name in ("web", "log"))
KEYS, OPEN = keys("open-sesame", STACK), keys("", STACK)
CANARY = "hunter2-canary"


def secret(value: object) -> dict[str, str]:
    return {SIGNATURE: SECRET_SIGNATURE, "plaintext": json.dumps(value)}


def resource(step: str, **adds: object) -> dict[str, object]:
    goal = {"type": "t:i:Bucket", "inputDiff": {"adds": adds}, "parent": PARENT, "dependencies": [WEB, PARENT]}
    return {"goal": goal, "steps": [step], "state": {"id": CANARY}, "seed": base64.b64encode(b"seed").decode()}


def plan() -> dict[str, object]:
    return {
        "manifest": {"time": "2026-11-22T08:00:00Z", "magic": "x", "version": "v3.230.0"},
        "config": {"p:token": {"secure": "v1:abc:def"}},
        "resourcePlans": {
            WEB: resource("create", name="web-0a1b2c3", token=secret(CANARY), size=3),
            LOG: resource("update", target="arn:web-0a1b2c3/x", label="log-1234567", big=2**60),
        },
    }


def the(body: object, urn: str = WEB) -> dict:
    return body["resourcePlans"][urn]


def digest(body: object, of: update_plan.Keys = KEYS) -> str:
    return sealed(json.dumps(body), STACK, of).digest


def adds(body: object, urn: str = WEB) -> dict:
    return the(body, urn)["goal"]["inputDiff"]["adds"]


SAME = {
    "another time": lambda body: body["manifest"].update(time="2027-01-01T00:00:00Z"),
    "another seed": lambda body: the(body).update(seed="AAAA"),
    "other outputs": lambda body: the(body).update(state={}),
    "other configuration": lambda body: body.update(config={}),
    "another order of dependencies": lambda body: the(body)["goal"]["dependencies"].reverse(),
    "another made up name": lambda body: (
        adds(body).update(name="web-fedcba9"),
        adds(body, LOG).update(target="arn:web-fedcba9/x"),
    ),
}
OTHER = {
    "a value": lambda body: adds(body).update(size=4),
    "a secret": lambda body: adds(body).update(token=secret("another")),
    "a secret that is none any more": lambda body: adds(body).update(token=CANARY),
    "a step": lambda body: the(body).update(steps=["replace"]),
    "one resource more": lambda body: body["resourcePlans"].update({"urn:pulumi:dev::p::t:i:B::x": resource("create")}),
    "one resource less": lambda body: body["resourcePlans"].pop(LOG),
    "protection": lambda body: the(body)["goal"].update(protect=True),
    "one dependency less": lambda body: the(body)["goal"]["dependencies"].pop(),
    "the name of a resource that is there": lambda body: adds(body, LOG).update(label="log-7654321"),
    "a name of another shape": lambda body: adds(body).update(name="web-mine"),
}


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
def test_what_differs_in_each_preview_does_not_change_the_digest(change):
    body = plan()
    change(body)
    assert body != plan()
    assert digest(body) == digest(plan())


@pytest.mark.parametrize("change", OTHER.values(), ids=OTHER)
def test_what_an_apply_would_do_otherwise_changes_the_digest(change):
    body = plan()
    change(body)
    assert digest(body) != digest(plan())


def test_equal_plans_are_equal_and_neither_they_nor_their_text_show_a_secret():
    first, again = (sealed(json.dumps(plan()), STACK, KEYS) for _ in range(2))
    assert first == again
    assert first.sealed != again.sealed, "a nonce is used once"
    assert CANARY not in repr(first) + first.sealed
    assert CANARY.encode() not in base64.b64decode(first.sealed.partition(".")[2])


def test_the_engine_gets_back_what_constrains_it_and_nothing_else():
    body = json.loads(opened(sealed(json.dumps(plan()), STACK, KEYS), STACK, KEYS))
    expected = copy.deepcopy(plan())
    del expected["config"]
    for urn in (WEB, LOG):
        del the(expected, urn)["state"]
    assert body == expected


def test_without_a_passphrase_a_plan_holds_no_secret_and_any_will_do():
    one, another = plan(), plan()
    adds(another).update(token=secret("another"))
    assert digest(one, OPEN) == digest(another, OPEN)
    text = opened(sealed(json.dumps(one), STACK, OPEN), STACK, OPEN)
    assert CANARY not in text
    assert adds(json.loads(text))["token"] == update_plan._ANY_VALUE


@pytest.mark.parametrize("passphrase", ["open-sesame", ""])
def test_a_secret_of_the_configuration_is_one_wherever_the_program_put_it(passphrase):
    body = plan()
    adds(body).update(url=f"https://user:{CANARY}@db", token="")
    of = keys(passphrase, STACK, [CANARY, "abc"])
    made = sealed(json.dumps(body), STACK, of)
    adds(body).update(url="https://user:another@db")
    assert digest(body, of) != made.digest
    text = opened(made, STACK, of)
    assert (CANARY in text) == bool(passphrase)
    assert CANARY not in json.dumps(update_plan._hidden(json.loads(text), of))
    assert CANARY not in repr(of)


def flipped(text: str, at: int) -> str:
    data = bytearray(base64.b64decode(text.partition(".")[2]))
    data[at] ^= 1
    return f"v1.{base64.b64encode(bytes(data)).decode()}"


GOOD = sealed(json.dumps(plan()), STACK, KEYS)
UNUSABLE = {
    "another passphrase": (GOOD, STACK, keys("open-sesam", STACK)),
    "no passphrase": (GOOD, STACK, OPEN),
    "another stack": (GOOD, "organization/p/prod", keys("open-sesame", "organization/p/prod")),
    "another stack's name on it": (GOOD, "organization/p/prod", KEYS),
    "another digest": (replace(GOOD, digest="sha256:" + "0" * 64), STACK, KEYS),
    "a flipped bit at the start": (replace(GOOD, sealed=flipped(GOOD.sealed, 0)), STACK, KEYS),
    "a flipped bit at the end": (replace(GOOD, sealed=flipped(GOOD.sealed, -1)), STACK, KEYS),
    "cut off": (replace(GOOD, sealed=GOOD.sealed[:-8]), STACK, KEYS),
    "nothing": (replace(GOOD, sealed=""), STACK, KEYS),
    "no base64": (replace(GOOD, sealed="v1.!"), STACK, KEYS),
    "a later version": (replace(GOOD, sealed="v2" + GOOD.sealed[2:]), STACK, KEYS),
}


@pytest.mark.parametrize("case", UNUSABLE.values(), ids=UNUSABLE)
def test_a_plan_that_is_not_what_was_sealed_is_not_opened(case):
    with pytest.raises(PlanFileError, match=r"update plan of stack .* cannot be used"):
        opened(*case)


def test_whoever_knows_the_key_cannot_put_another_plan_under_a_signed_digest():
    other = plan()
    adds(other).update(size=4)
    bound = digest(plan(), OPEN)
    text = json.dumps({key: value for key, value in other.items() if key != "config"})
    nonce = secrets.token_bytes(12)
    data = update_plan.zlib.compress(text.encode())
    closed = nonce + update_plan._cipher(OPEN).encrypt(nonce, data, update_plan._bound_to(STACK, bound))
    forged = UpdatePlan(digest=bound, sealed="v1." + base64.b64encode(closed).decode())
    with pytest.raises(PlanFileError, match="its content is not what its digest says"):
        opened(forged, STACK, OPEN)


@pytest.mark.parametrize(
    ("urn", "text", "said"),
    [
        (
            WEB,
            f"resource {WEB} violates plan: properties changed: +~token[{{&{{{{{CANARY}}}}}}}!={{&{{{{x}}}}}}], --size",
            ("web", "other values than in the plan: token, size"),
        ),
        (WEB, "resource violates plan: properties changed: ++url[{a}]", ("web", "other values than in the plan: url")),
        (WEB, f"resource {WEB} violates plan: protect changed (expected {CANARY})", "protect changed"),
        (
            WEB,
            f"resource {WEB} violates plan: resource unexpectedly not deleted\n",
            "it stays, and the plan deletes it",
        ),
        (WEB, f"resource {WEB} violates plan: aliases changed: added {CANARY}", "aliases changed"),
        ("", "delete is not allowed by the plan: this resource is constrained to same\n", ("", "constrained to same")),
        (WEB, "create is not allowed by the plan: no steps were expected for this resource", "create is not in the"),
        ("", f"expected resource operations for {LOG} but none were seen", ("log", "did not come")),
    ],
)
def test_a_refused_step_is_told_by_name_and_without_any_value(urn, text, said):
    name, why = refusal(urn, text)
    expected_name, expected = said if isinstance(said, tuple) else ("web", said)
    assert name == expected_name
    assert expected in why
    assert CANARY not in why


@pytest.mark.parametrize("text", ["update failed", "boom: no plan", "the plan is fine", ""])
def test_other_words_of_the_engine_are_no_refusal(text):
    assert refusal(WEB, text) is None


TWO = f"""
    a = Thing("a", size=1, token=pulumi.Output.secret("{CANARY}"))
    b = Thing("b", size=2, note=a.serial, opts=pulumi.ResourceOptions(depends_on=[a]))
    pulumi.export("serial", a.serial)
    pulumi.export("hidden", pulumi.Output.secret("{CANARY}"))
"""


@pytest.mark.engine
def test_an_apply_does_what_its_plan_holds_and_says_what_it_refused(bench):
    asked = bench.program(TWO)
    first, again = bench.preview(asked), bench.preview(asked)
    assert first.update_plan is not None
    assert first.update_plan == again.update_plan

    # the first resource is as planned, the second is not: the first has landed by then
    done = bench.up(bench.program(TWO.replace("size=2", "size=3")), first.update_plan)
    assert (done.failed, done.unplanned) == ((), ("b: other values than in the plan: size",))
    assert [(one.name, one.operation) for one in done.steps] == [("a", Operation.CREATE)]
    assert set(bench.things()) == {"a"}

    # another secret, one resource more, one less
    done = bench.up(bench.program(TWO.replace(f'secret("{CANARY}"))\n', 'secret("other"))\n', 1)), first.update_plan)
    assert done.unplanned == ("a: other values than in the plan: token",)
    done = bench.up(bench.program(TWO + '    Thing("c")'), first.update_plan)
    assert done.unplanned == ("c: create is not in the plan: no steps were expected for this resource",)
    done = bench.up(bench.program("pass"), first.update_plan)
    assert done.unplanned == ("a: delete is not in the plan: this resource is constrained to create",)
    assert set(bench.things()) == {"a"}

    # what is left of the plan can still be done
    done = bench.up(bench.program(TWO), first.update_plan)
    assert (done.failed, done.unplanned, [one.name for one in done.steps]) == ((), (), ["b"])

    written = b"".join(path.read_bytes() for path in bench.state_folder.rglob("*") if path.is_file())
    assert CANARY.encode() not in written
    assert CANARY not in str(bench.events)


@pytest.mark.engine
def test_a_world_or_a_state_that_moved_after_the_plan_is_refused(bench):
    asked = bench.program(TWO)
    bench.up(asked)
    idle = bench.preview(asked)
    assert (idle.steps, idle.drift) == ((), ())
    bench.change("a", size=9)
    done = bench.up(asked, idle.update_plan)
    assert done.unplanned == ("a: other values than in the plan: size",)
    assert bench.things()["a"]["size"] == 9

    # a plan that was made with the drift in sight brings it back
    seen = bench.preview(asked)
    assert seen.update_plan != idle.update_plan
    assert bench.up(asked, seen.update_plan).unplanned == ()
    assert bench.things()["a"]["size"] == 1

    without_b = bench.program('a = Thing("a", size=1, token=pulumi.Output.secret("x"))')
    delete = bench.preview(without_b)
    done = bench.up(bench.program(TWO.replace(CANARY, "x")), delete.update_plan)
    assert "b: it stays, and the plan deletes it" in done.unplanned
    assert set(bench.things()) == {"a", "b"}


@pytest.mark.engine
def test_names_that_are_made_up_anew_each_time_bind_nothing_until_they_are_applied(bench):
    asked = bench.program(
        'a = Thing("a", named=True)\nThing("b", note=a.label)\npulumi.export("label", a.label)', head=AUTO
    )
    first, again = bench.preview(asked), bench.preview(asked)
    assert first == again
    assert first.steps[0].after is not None
    assert first.steps[0].after["label"] == "a-<generated>"
    assert first.outputs["label"] == Output(value="<unknown>", known=False)
    done = bench.up(asked, first.update_plan)
    assert (done.failed, done.unplanned) == ((), ())
    assert bench.preview(asked).steps == ()


AUTO = """\
import pulumi

class Thing(pulumi.CustomResource):
    label: pulumi.Output[str]
    serial: pulumi.Output[str]
    def __init__(self, name, opts=None, **props):
        super().__init__("probe:index:Thing", name, {"world": WORLD, **props, "label": None, "serial": None}, opts)

"""


@pytest.mark.engine
def test_a_plan_of_another_passphrase_is_refused_before_anything_is_touched(bench, monkeypatch):
    asked = bench.program(TWO)
    seen = bench.preview(asked)
    monkeypatch.setenv("OTHER", "another-passphrase")
    with pytest.raises(PlanFileError):
        bench.up(replace(asked, passphrase=SecretRef("env", "OTHER")), seen.update_plan)
    assert list(bench.state_folder.iterdir()) == []
