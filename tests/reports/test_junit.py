"""JUnit XML: what every consumer counts and shows."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.ports.verification import CheckResult, Verdict
from ismgr_automation.reports.junit import junit


def read(checks) -> ET.Element:
    return ET.fromstring(junit(checks).encode())  # noqa: S314  our own output


def check(host: str, verdict: Verdict, message: str = "", name: str = "test_it") -> CheckResult:
    return CheckResult(host=host, suite="verify/test_a.py", check=name, verdict=verdict, seconds=0.25, message=message)


def test_each_verdict_has_its_element_and_each_host_its_suite():
    checks = (
        check("db1", Verdict.PASSED),
        check("db1", Verdict.FAILED, "first line\nsecond line", "test_b"),
        check("web1", Verdict.ERROR, "no answer"),
        check("web1", Verdict.SKIPPED, "not today", "test_b"),
    )
    root = read(checks)
    assert root.tag == "testsuites"
    assert {key: root.get(key) for key in ("tests", "failures", "errors", "skipped", "time")} == {
        "tests": "4",
        "failures": "1",
        "errors": "1",
        "skipped": "1",
        "time": "1.000",
    }
    assert [(suite.get("name"), suite.get("tests")) for suite in root] == [("db1", "2"), ("web1", "2")]
    cases = {(case.get("name"), case.get("classname")): [child.tag for child in case] for case in root.iter("testcase")}
    assert cases == {
        ("test_it[db1]", "verify.test_a"): [],
        ("test_b[db1]", "verify.test_a"): ["failure"],
        ("test_it[web1]", "verify.test_a"): ["error"],
        ("test_b[web1]", "verify.test_a"): ["skipped"],
    }
    failure = root.find(".//failure")
    assert failure is not None
    assert (failure.get("message"), failure.text) == ("first line", "first line\nsecond line")


def test_no_checks_are_an_empty_report():
    assert read(()).get("tests") == "0"


@given(st.text(), st.text())
def test_any_text_gives_a_document_that_can_be_read(name, message):
    checks = [check(name, Verdict.FAILED, message, name)]
    assert read(checks).get("failures") == "1"
