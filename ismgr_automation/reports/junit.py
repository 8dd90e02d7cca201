"""Check results as JUnit XML, as continuous integration systems read it. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree as ET

from ismgr_automation.ports.verification import CheckResult, Verdict

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that no XML document can hold, not even escaped."""


def junit(checks: Sequence[CheckResult]) -> str:
    """One ``testsuite`` for each host, one ``testcase`` for each check; the suite's path is the class name.

    A check that could not be made is an ``error``, one that said no a ``failure``.
    """
    root = ET.Element("testsuites", {"name": "ismgr verify", **_counts(checks)})
    for host in sorted({one.host for one in checks}):
        mine = [one for one in checks if one.host == host]
        suite = ET.SubElement(root, "testsuite", {"name": _clean(host), "hostname": _clean(host), **_counts(mine)})
        for check in mine:
            _case(suite, check)
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _case(suite: ET.Element, check: CheckResult) -> None:
    case = ET.SubElement(
        suite,
        "testcase",
        {
            "classname": _clean(check.suite.removesuffix(".py").replace("/", ".")),
            "name": _clean(f"{check.check}[{check.host}]"),
            "file": _clean(check.suite),
            "time": f"{check.seconds:.3f}",
        },
    )
    first = _clean(check.message.partition("\n")[0])
    match check.verdict:
        case Verdict.PASSED:
            return
        case Verdict.SKIPPED:
            ET.SubElement(case, "skipped", {"message": first})
        case Verdict.FAILED:
            ET.SubElement(case, "failure", {"message": first, "type": "failed"}).text = _clean(check.message)
        case Verdict.ERROR:
            ET.SubElement(case, "error", {"message": first, "type": "error"}).text = _clean(check.message)


def _counts(checks: Sequence[CheckResult]) -> dict[str, str]:
    def count(verdict: Verdict) -> str:
        return str(sum(1 for one in checks if one.verdict is verdict))

    return {
        "tests": str(len(checks)),
        "failures": count(Verdict.FAILED),
        "errors": count(Verdict.ERROR),
        "skipped": count(Verdict.SKIPPED),
        "time": f"{sum(one.seconds for one in checks):.3f}",
    }


def _clean(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
