"""A runbook as Markdown, and as one HTML page that needs nothing else. Pure; what it says of itself can be read back
from either, so that a printed one can be told from an old one."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from importlib.resources import files

from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.ports.paper import Order, When
from ismgr_automation.recovery.runbook import FORMAT, RULES, Head, PaperStep, Runbook, Section

BEFORE_YOU_BEGIN = (
    "Two people at least: one does, the other one reads along, confirms, and notes the time of each step.",
    "Run the blocks in their order, in one shell (bash), from one folder. Each block may be run again.",
    "The last line that a block prints is told below it. Where another one comes, stop and read what stands there.",
    "Blocks marked *only if* are for when the block before them did not end as it should.",
    "Nothing else may work on these hosts meanwhile: if a controller still runs, end it first.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What a printed runbook says of itself."""

    plan: str
    mode: DrillMode
    content: str
    commit: str


_MARK = re.compile(
    rf"<!-- {re.escape(FORMAT)} plan=(\S+) mode=(\S+) content=(sha256:[0-9a-f]{{64}}) commit=([0-9a-f]+) -->"
)


def read_mark(text: str) -> Mark:
    """What a runbook says of itself. Raises ``ValueError`` for a text that is none."""
    found = _MARK.search(text)
    if found is None:
        raise ValueError("there is no mark of a runbook in it")
    plan, mode, content, commit = found.groups()
    return Mark(plan=plan, mode=DrillMode(mode), content=content, commit=commit)


def markdown(runbook: Runbook) -> str:
    """The whole paper."""
    return "\n".join([*_head(runbook), *_desk(runbook), *_sections(runbook)]) + "\n"


def html(runbook: Runbook) -> str:
    """The same as a page without script or request: every text is escaped."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from markupsafe import Markup

    from ismgr_automation import __version__

    environment = ImmutableSandboxedEnvironment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    style = _file("run.css") + _file("runbook.css")
    page = environment.from_string(_file("runbook.html.j2")).render(
        mark=Markup(_mark(runbook)),  # noqa: S704  names and digits
        style=Markup(style),  # noqa: S704  our own file
        style_hash=Markup(f"sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}"),  # noqa: S704
        book=runbook,
        goals=_goals(runbook.head),
        rules=RULES,
        hints=[_plain(one) for one in BEFORE_YOU_BEGIN],
        otherwise=When.OTHERWISE,
        seconds=_seconds,
        plain=_plain,
        version=__version__,
    )
    return page.encode("utf-8", "backslashreplace").decode()


def _file(name: str) -> str:
    return files("ismgr_automation.reports").joinpath(name).read_text(encoding="utf-8")


def _plain(text: str) -> str:
    """Without the marks of Markdown."""
    return text.replace("`", "").replace("*", "")


def _mark(runbook: Runbook) -> str:
    head = runbook.head
    return f"<!-- {FORMAT} plan={head.plan} mode={head.mode} content={runbook.content} commit={head.commit} -->"


def _head(runbook: Runbook) -> Iterator[str]:
    head = runbook.head
    yield from (_mark(runbook), "", f"# Runbook: {head.mode} of {head.service} by the plan {head.plan}", "")
    if head.description:
        yield from (head.description, "")
    yield from _table(
        ("", ""),
        [
            ("estate, environment", f"{head.estate}, {head.environment}"),
            ("commit", f"`{head.commit}`"),
            ("digest of the plan", f"`{head.digest}`"),
            ("digest of this paper", f"`{runbook.content}`"),
            ("objectives", _goals(head)),
            ("clients connect to", ", ".join(head.endpoints)),
        ],
    )
    yield "Out of date? `ismgr drill runbook --check FILE` says so; on paper, compare the digest of this paper."
    yield from ("", "## Who is called", "")
    yield from _table(
        ("for", "team", "on call", "people"),
        [(one.what, one.team, one.on_call or "not told", "; ".join(one.people) or "-") for one in head.contacts],
    )
    yield from ("## Hosts", "")
    yield from _table(
        ("host", "site", "log in", "clients reach it at", "BMC", "host key"),
        [
            (one.name, one.site, one.login, one.clients, one.bmc or "-", ", ".join(one.keys) or "-")
            for one in head.places
        ],
    )
    yield from ("## Where secrets lie", "", "None stands on this paper. Blocks ask for them, and show none.", "")
    yield from _table(("what", "where"), [(one.what, one.where) for one in head.secrets])
    yield from ("## Rules", "", "A step names those that it must keep. No step is worth breaking one.", "")
    yield from (f"- **{name}**: {words}" for name, words in RULES.items())
    yield ""


def _desk(runbook: Runbook) -> Iterator[str]:
    yield from ("## Before you begin", "")
    yield from (f"- {one}" for one in BEFORE_YOU_BEGIN)
    yield ""
    for order in runbook.desk:
        yield from _order(order)


def _sections(runbook: Runbook) -> Iterator[str]:
    for number, section in enumerate(runbook.sections, start=1):
        yield from (f"## {number}. {section.title}", "", section.purpose, "")
        yield from _order_of_steps(section)
        for index, step in enumerate(section.steps, start=1):
            yield from _step(f"{number}.{index}", step)
    yield from ("## At the end", "", "Write down when each step began and ended, and what was other than told here.")


def _order_of_steps(section: Section) -> Iterator[str]:
    for step in section.steps:
        after = f"after {', '.join(step.after)}" if step.after else "first"
        yield f"- {step.name}: {after}, within {_seconds(step.deadline)}"
    yield from ("", f"All of it within {_seconds(section.at_most)}, as the plan has it.", "")


def _step(number: str, step: PaperStep) -> Iterator[str]:
    yield from (f"### {number} {step.name}: {step.title}", "", step.why, "")
    if step.rules:
        yield from (f"> **Rules:** {' '.join(f'{RULES[name]} ({name})' for name in step.rules)}", "")
    for order in step.orders:
        yield from _order(order)
    yield from (
        f"**If this step does not end well:** {step.fails}",
        "",
        "Began ______ ended ______ by ____________",
        "",
    )


def _order(order: Order) -> Iterator[str]:
    only = "*Only if the block before did not end as it should.* " if order.when is When.OTHERWISE else ""
    who = f" **{order.who}.**" if order.who else ""
    yield from (f"{only}{order.title}.{who}", "")
    yield from (f"```sh{' otherwise' if order.when is When.OTHERWISE else ''}", order.script, "```", "")
    yield f"Last line: `{order.sees}`{f' - else: {order.fails}' if order.fails else ''}"
    yield ""


def _table(titles: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(titles)} |"
    yield f"|{'---|' * len(titles)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|').replace(chr(10), ' ') for cell in row)} |"
    yield ""


def _goals(head: Head) -> str:
    named = (("RTO", head.goals.rto), ("RPO", head.goals.rpo), ("MTD", head.goals.mtd))
    return ", ".join(f"{name} {value:g} s" for name, value in named if value is not None) or "none"


def _seconds(span: timedelta) -> str:
    return f"{span.total_seconds():g} s"
