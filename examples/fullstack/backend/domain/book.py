"""Typesetting: posts in Markdown become a PDF. Pure, and too slow for the event loop."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path

from fpdf import FPDF
from markdown_it import MarkdownIt
from markdown_it.token import Token

FONTS = Path(__file__).parent / "fonts"
INK, QUIET, ACCENT = (29, 43, 48), (96, 106, 110), (15, 91, 91)
LINE, INDENT = 5.6, 6.0  # Millimetres.


class Book(FPDF):
    """A small book that grows by one post at a time.

    Raw HTML stays text and pictures stay links: making a book fetches nothing.

    Args:
        title: What the cover says.
        author: Whose work it is.
        day: When it was made.
    """

    def __init__(self, title: str, author: str, day: date) -> None:
        super().__init__(format=(148, 210))
        self.set_title(title)
        self.set_author(author)
        self.set_margins(20, 20)
        self.c_margin = 0.0
        self.set_auto_page_break(auto=True, margin=22)
        for style, weight in {"": "Regular", "B": "Bold", "I": "Italic", "BI": "Bold"}.items():
            self.add_font("serif", style, FONTS / f"IBMPlexSerif-{weight}.ttf")
        self.add_font("mono", "", FONTS / "IBMPlexMono-Regular.ttf")
        self._markdown = MarkdownIt("commonmark", {"html": False}).disable("image")
        self._lists: list[int | None] = []  # The next number of each open list; None where it has bullets.
        self._quotes = 0
        self.add_page()
        self.set_y(70)
        self._paragraph(title, 26, "B")
        self._paragraph(author, 13, "I", QUIET)
        self._paragraph(written(day), 9, color=ACCENT)

    def add_post(self, title: str, subtitle: str | None, day: date | None, content: str) -> None:
        """Set one post, from the top of a new page; one without a day is a draft."""
        self.add_page()
        self.start_section(title)
        self._paragraph(title, 20, "B")
        if subtitle:
            self._paragraph(subtitle, 12, "I", QUIET)
        self._paragraph(written(day) if day else "Draft", 8, color=ACCENT)
        self.ln(4)
        for token in self._markdown.parse(content):
            self._block(token)

    def bind(self) -> bytes:
        """The finished file."""
        return bytes(self.output())

    def footer(self) -> None:
        """Number every page but the cover."""
        if self.page > 1:
            self.set_y(-15)
            self._type(8, color=QUIET)
            self.cell(0, LINE, str(self.page - 1), align="C")

    def normalize_text(self, text: str) -> str:
        """Show a lozenge for each character that the typeface doesn't have, rather than nothing."""
        known = self.current_font.cmap if self.is_ttf_font else {}  # type: ignore[union-attr]
        return super().normalize_text("".join(c if ord(c) in known or c.isspace() else "\u25ca" for c in text))

    def _block(self, token: Token) -> None:
        match token.type:
            case "heading_open":
                self.ln(2)
                self._type(16 - 1.5 * int(token.tag[1]), "B")
            case "paragraph_open" if self._quotes:
                self._type(10, "I", QUIET)
            case "paragraph_open":
                self._type(10)
            case "inline":
                self._inline(token.children or ())
            case "heading_close" | "paragraph_close":
                self.ln(LINE if token.hidden else LINE + 2.5)
            case "bullet_list_open" | "ordered_list_open":
                self._lists.append(int(token.attrGet("start") or 1) if token.tag == "ol" else None)
                self._indent(INDENT)
            case "bullet_list_close" | "ordered_list_close":
                self._lists.pop()
                self._indent(-INDENT)
                self.ln(1.5)
            case "list_item_open":
                self._mark_item()
            case "blockquote_open":
                self._quotes += 1
                self._indent(INDENT)
            case "blockquote_close":
                self._quotes -= 1
                self._indent(-INDENT)
            case "fence" | "code_block":
                self._type(8.5, family="mono")
                self.multi_cell(0, 4.6, token.content.rstrip("\n"), align="L", new_x="LMARGIN", new_y="NEXT")
                self.ln(2.5)
            case "hr":
                self._paragraph("* * *", 10, color=QUIET)

    def _inline(self, tokens: Sequence[Token]) -> None:
        """Set the words of a paragraph, starting from the type that is set."""
        size, color, base = self.font_size_pt, self.text_color, self.font_style
        emphasis, link = "", ""
        for token in tokens:
            match token.type:
                case "text":
                    self.write(LINE, token.content, link)
                case "softbreak":
                    self.write(LINE, " ", link)
                case "hardbreak":
                    self.ln(LINE)
                case "code_inline":
                    self.set_font("mono", "", size * 0.9)
                    self.write(LINE, token.content, link)
                case "strong_open" | "em_open":
                    emphasis += "B" if token.tag == "strong" else "I"
                case "strong_close" | "em_close":
                    emphasis = emphasis[:-1]
                case "link_open":
                    href = str(token.attrGet("href"))
                    link = href if href.startswith(("https:", "http:", "mailto:")) else ""
                case "link_close":
                    link = ""
            self.set_font("serif", "".join(sorted({*base, *emphasis})), size)
            self.set_text_color(ACCENT if link else color)

    def _mark_item(self) -> None:
        number = self._lists[-1]
        if number is not None:
            self._lists[-1] = number + 1
        self._type(10, color=ACCENT)
        self.set_x(self.l_margin - INDENT)
        self.cell(INDENT, LINE, "\u2022" if number is None else f"{number}.")

    def _paragraph(self, text: str, size: float, style: str = "", color: tuple[int, int, int] = INK) -> None:
        self._type(size, style, color)
        self.multi_cell(0, size * 0.5, text, align="L", new_x="LMARGIN", new_y="NEXT")
        self.ln(2)

    def _type(self, size: float, style: str = "", color: tuple[int, int, int] = INK, *, family: str = "serif") -> None:
        self.set_font(family, style, size)
        self.set_text_color(color)

    def _indent(self, width: float) -> None:
        self.set_left_margin(self.l_margin + width)
        self.set_x(self.l_margin)


def written(day: date) -> str:
    """A day as people write it."""
    return f"{day.day} {day:%B %Y}"
