"""A drill as one PDF with the same content as its page, made without a browser. Pure: the same report gives the same
bytes. Its fonts are those that every reader has, and know Western European letters only; others are written as
escapes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from ismgr_automation.reports.drawing import Anchor, Box, Drawing, Ink, Rule, Shape, Words
from ismgr_automation.reports.drill_views import Cell, DrillPage, Section, Table
from ismgr_automation.reports.views import Tone

if TYPE_CHECKING:
    from fpdf import FPDF

FONT = "helvetica"
MARGIN = 15.0
PIXEL = 0.27
"""Millimetres of a pixel of a drawing."""
LAST = "\xff"
"""The last letter that the fonts know."""
LONGEST = 600
"""Characters of one cell that are shown."""
PLAIN = str.maketrans({"\N{RIGHTWARDS ARROW}": "->", "\N{EN DASH}": "-", "\N{HORIZONTAL ELLIPSIS}": "...", "\t": " "})
ESCAPED = (
    "Some characters of this report are not in the fonts of a PDF without fonts of its own. They stand here as escapes "
    "such as \\u03b1; the HTML page of the same report has them as they were written."
)
Color = tuple[int, int, int]
INK: Color = (27, 35, 48)
SOFT: Color = (90, 102, 117)
LINE: Color = (223, 228, 234)
TONES: Mapping[Tone, Color] = {
    Tone.GOOD: (26, 127, 75),
    Tone.BAD: (184, 38, 47),
    Tone.WARN: (154, 98, 0),
    Tone.CALM: (102, 117, 138),
}
INKS: Mapping[Ink, Color] = {
    Ink.GOOD: TONES[Tone.GOOD],
    Ink.BAD: TONES[Tone.BAD],
    Ink.WARN: TONES[Tone.WARN],
    Ink.CALM: TONES[Tone.CALM],
    Ink.GAP: (251, 231, 232),
    Ink.LANE: (241, 244, 247),
}
NARROWEST, WIDEST = 6, 45
"""Characters that a column has room for at least, and for which it is made wider at most."""


def render(page: DrillPage, dated: datetime) -> bytes:
    """The file. ``dated`` is the time that it carries."""
    from fpdf import FPDF

    from ismgr_automation import __version__

    class Sheet(FPDF):
        """Pages with a number."""

        def footer(self) -> None:
            """The last line of each page."""
            self.set_y(-12)
            _font(self, 8, SOFT)
            self.cell(0, 5, _plain(f"{page.title}, page {self.page_no()}"), align="C")

    sheet = Sheet(format="A4")
    sheet.set_margin(MARGIN)
    sheet.set_auto_page_break(auto=True, margin=MARGIN + 3)
    sheet.set_creation_date(dated)
    sheet.set_title(_plain(f"{page.verdict}: {page.title}"))
    sheet.set_creator(f"ismgr {__version__}")
    sheet.set_producer(f"ismgr {__version__}")
    sheet.set_lang("en")
    sheet.add_page()
    _head(sheet, page)
    for section in page.sections:
        _section(sheet, section)
    if _unprintable(page):
        _write(sheet, ESCAPED, 9, TONES[Tone.WARN])
    _write(sheet, f"Made by ismgr {__version__} {page.made}from the drill's own record. Times are UTC.", 8, SOFT)
    return bytes(sheet.output())


def _plain(text: str) -> str:
    """Text in letters that the fonts have, without what moves the pen."""
    kept = "".join(one if one.isprintable() or one == "\n" or one > LAST else " " for one in text.translate(PLAIN))
    told = kept.encode("latin-1", "backslashreplace").decode("latin-1")
    return told if len(told) <= LONGEST else f"{told[:LONGEST]} ..."


def _unprintable(page: DrillPage) -> bool:
    """Whether some text of the page has letters that the fonts do not know."""
    return any(one > LAST for text in _texts(page) for one in text.translate(PLAIN))


def _texts(value: object) -> Iterator[str]:
    """All texts of a page, wherever they stand in it."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple | list | frozenset):
        for one in value:
            yield from _texts(one)
    elif is_dataclass(value):
        for one in fields(value):
            yield from _texts(getattr(value, one.name))


def _font(sheet: FPDF, size: float, color: Color = INK, style: str = "") -> None:
    sheet.set_font(FONT, style, size)
    sheet.set_text_color(*color)


def _write(sheet: FPDF, text: str, size: float, color: Color = INK, style: str = "") -> None:
    """A paragraph."""
    _font(sheet, size, color, style)
    sheet.multi_cell(0, size * 0.5, _plain(text), new_x="LMARGIN", new_y="NEXT", align="L")


def _head(sheet: FPDF, page: DrillPage) -> None:
    _write(sheet, page.title, 11, SOFT)
    _write(sheet, page.verdict, 22, TONES[page.tone], "B")
    _write(sheet, page.lead, 11)
    for one in page.reasons:
        _write(sheet, one, 10, TONES[page.tone])
    sheet.ln(2)
    tiles = tuple(
        (Cell(text=one.label), Cell(text=one.value, tone=one.tone), Cell(text=one.note)) for one in page.tiles
    )
    _table(sheet, Table(heads=("what", "measured", "beside"), rows=tiles))


def _section(sheet: FPDF, section: Section) -> None:
    # a title alone at the end of a page is of no use
    first = section.drawings[0].height * PIXEL + 8 * len(section.sentences) if section.drawings else 0
    if sheet.will_page_break(24 + first):
        sheet.add_page()
    sheet.ln(4)
    sheet.start_section(_plain(section.title))
    _write(sheet, section.title, 13, INK, "B")
    sheet.ln(1)
    for one in section.sentences:
        word = f"[{one.word}] " if one.word else ""
        _write(sheet, f"{word}{one.text}", 9.5, TONES[one.tone] if one.word else INK)
    for drawing in section.drawings:
        _drawing(sheet, drawing)
    for table in section.tables:
        sheet.ln(1)
        if table.name:
            _write(sheet, table.name, 10, INK, "B")
        _table(sheet, table)
    for command in section.commands:
        _font(sheet, 8.5)
        sheet.set_font("courier", "", 8.5)
        sheet.multi_cell(0, 4.5, _plain(command), new_x="LMARGIN", new_y="NEXT")


def _table(sheet: FPDF, table: Table) -> None:
    from fpdf.enums import Align, TableBordersLayout
    from fpdf.fonts import FontFace

    _font(sheet, 8.5)
    sheet.set_draw_color(*LINE)
    sheet.set_fill_color(255)
    aligns = tuple(Align.R if head in table.numbers else Align.L for head in table.heads)
    with sheet.table(
        borders_layout=TableBordersLayout.HORIZONTAL_LINES,
        headings_style=FontFace(emphasis="BOLD", color=SOFT),
        line_height=4.4,
        padding=0.6,
        text_align=aligns,
        col_widths=_widths(table),
    ) as made:
        for row in (tuple(Cell(text=head) for head in table.heads), *table.rows):
            line = made.row()
            for cell in row:
                style = FontFace(emphasis="BOLD", color=TONES[cell.tone]) if cell.tone is not None else None
                line.cell(_plain(cell.text), style=style)


def _widths(table: Table) -> tuple[int, ...]:
    """How wide columns are to each other: as their longest text, within bounds."""
    columns = zip(table.heads, *([cell.text for cell in row] for row in table.rows), strict=True)
    return tuple(min(max(NARROWEST, *map(len, texts)), WIDEST) for texts in columns)


def _drawing(sheet: FPDF, drawing: Drawing) -> None:
    height = drawing.height * PIXEL
    if sheet.will_page_break(height + 16):
        sheet.add_page()
    sheet.ln(1)
    _write(sheet, drawing.name, 10, INK, "B")
    top = sheet.get_y() + 1
    for shape in drawing.shapes:
        _shape(sheet, shape, top)
    sheet.set_y(top + height + 1)
    if drawing.note:
        _write(sheet, drawing.note, 8.5, SOFT)


def _shape(sheet: FPDF, shape: Shape, top: float) -> None:
    def across(share: float) -> float:
        return MARGIN + share / 100 * sheet.epw

    def down(pixels: float) -> float:
        return top + pixels * PIXEL

    match shape:
        case Box():
            sheet.set_fill_color(*INKS[shape.ink])
            width = max(across(shape.width) - MARGIN, 0.2)
            sheet.rect(across(shape.left), down(shape.top), width, shape.height * PIXEL, style="F")
        case Rule():
            sheet.set_draw_color(*LINE)
            sheet.line(across(shape.left), down(shape.top), across(shape.right), down(shape.bottom))
        case Words():
            _font(sheet, 7, SOFT)
            text = _plain(shape.text)
            wide = sheet.get_string_width(text)
            back = {Anchor.START: 0.0, Anchor.MIDDLE: wide / 2, Anchor.END: wide}[shape.anchor]
            sheet.text(across(shape.left) - back, down(shape.top), text)
