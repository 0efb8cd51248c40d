"""Typesetting: converts posts in Markdown to a PDF. CPU-bound, so run it in a thread."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path

from fpdf import FPDF
from fpdf.fonts import TTFFont
from markdown_it import MarkdownIt
from markdown_it.token import Token

FONTS = Path(__file__).parent / "fonts"
INK, QUIET, ACCENT = "#26201a", "#6d655c", "#a83a1a"
LINE, INDENT = 5.6, 6.0  # Millimetres.
EMPHASIS = {"strong": "B", "em": "I", "s": "S", "a": ""}


class Book(FPDF):
    """A PDF book to which posts are added one at a time. Images become links, so nothing is downloaded."""

    def __init__(self, title: str, author: str, day: date) -> None:
        super().__init__(format=(148, 210))
        self.set_title(title)
        self.set_author(author)
        self.set_margins(20, 20)
        self.set_auto_page_break(auto=True, margin=22)
        self.c_margin = 0.0
        for style, weight in {"": "Regular", "B": "Bold", "I": "Italic", "BI": "Bold"}.items():
            self.add_font("serif", style, FONTS / f"IBMPlexSerif-{weight}.ttf")
            self.add_font("mono", style, FONTS / "IBMPlexMono-Regular.ttf")
        self._markdown = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable("image")
        self._lists: list[int | None] = []  # The next number of each open list; None where it has bullets.
        self._rows: list[list[str]] = []  # Rows of the open table.
        self._quotes = 0
        self.add_page()
        self.set_y(70)
        self._line(title, 26, "B")
        self._line(author, 13, "I", QUIET)
        self._line(_written(day), 9, color=ACCENT)

    def add_post(self, title: str, subtitle: str | None, day: date | None, content: str) -> None:
        """Add a post on a new page. A post without a date is a draft."""
        self.add_page()
        self.start_section(title)
        self._line(title, 20, "B")
        if subtitle:
            self._line(subtitle, 12, "I", QUIET)
        self._line(_written(day) if day else "Draft", 8, color=ACCENT)
        self.ln(4)
        for token in self._markdown.parse(content):
            self._block(token)

    def bind(self) -> bytes:
        """The finished PDF."""
        return bytes(self.output())

    def close(self) -> None:
        """Close the font files."""
        for font in self.fonts.values():
            if isinstance(font, TTFFont):
                font.close()

    def footer(self) -> None:
        """Print the page number, except on the cover."""
        if self.page > 1:
            self.set_y(-15)
            self._type(8, color=QUIET)
            self.cell(0, LINE, str(self.page - 1), align="C")

    def normalize_text(self, text: str) -> str:
        """Replace characters that the font doesn't have with a lozenge."""
        known = self.current_font.cmap if self.is_ttf_font else {}  # type: ignore[union-attr] # TTF fonts have a cmap
        return super().normalize_text("".join(c if ord(c) in known or c.isspace() else "\u25ca" for c in text))

    def _block(self, token: Token) -> None:
        match token.type:
            case "inline" if self._rows:
                self._rows[-1].append("".join(child.content for child in token.children or ()))
            case "inline":
                self._inline(token.children or ())
            case "heading_open":
                self.ln(2)
                self._type(16 - 1.5 * int(token.tag[1]), "B")
            case "paragraph_open":
                self._type(10, "I" if self._quotes else "")
            case "heading_close" | "paragraph_close":
                self.ln(LINE if token.hidden else LINE + 2.5)
            case "bullet_list_open" | "ordered_list_open":
                self._lists.append(int(token.attrGet("start") or 1) if token.tag == "ol" else None)
                self._indent(INDENT)
            case "list_item_open":
                self._mark_item()
            case "bullet_list_close" | "ordered_list_close":
                self._lists.pop()
                self._indent(-INDENT)
                self.ln(1.5)
            case "blockquote_open" | "blockquote_close":
                self._quotes += token.nesting
                self._indent(token.nesting * INDENT)
            case "fence" | "code_block":
                self._line(token.content.rstrip("\n"), 8.5, family="mono")
            case "tr_open":
                self._rows.append([])
            case "table_close":
                widths = [max(map(len, column)) for column in zip(*self._rows, strict=True)]
                rows = ("  ".join(map(str.ljust, row, widths)) for row in self._rows)
                self._line("\n".join(rows), 8.5, family="mono")
                self._rows = []
            case "hr":
                self._line("* * *", 10, color=QUIET)

    def _inline(self, tokens: Sequence[Token]) -> None:
        """Write the text of a paragraph, in the current font."""
        size, styles, link = self.font_size_pt, [self.font_style], ""
        for token in tokens:
            if token.nesting > 0:
                styles.append(EMPHASIS[token.tag])
                href = str(token.attrGet("href"))
                link = href if href.startswith(("https:", "http:", "mailto:")) else link
            elif token.nesting < 0:
                styles.pop()
                link = "" if token.tag == "a" else link
            else:
                family = "mono" if token.type == "code_inline" else "serif"
                color = ACCENT if link else QUIET if self._quotes else INK
                self._type(size, "".join(sorted({*"".join(styles)})), color, family)
                self.write(LINE, {"softbreak": " ", "hardbreak": "\n"}.get(token.type, token.content), link)

    def _mark_item(self) -> None:
        number = self._lists[-1]
        if number is not None:
            self._lists[-1] = number + 1
        self._type(10, color=ACCENT)
        self.set_x(self.l_margin - INDENT)
        self.cell(INDENT, LINE, "\u2022" if number is None else f"{number}.")

    def _line(self, text: str, size: float, style: str = "", color: str = INK, family: str = "serif") -> None:
        self._type(size, style, color, family)
        self.multi_cell(0, size * 0.5, text, align="L", new_x="LMARGIN", new_y="NEXT")
        self.ln(2)

    def _type(self, size: float, style: str = "", color: str = INK, family: str = "serif") -> None:
        self.set_font(family, style, size)
        self.set_text_color(color)

    def _indent(self, width: float) -> None:
        self.set_left_margin(self.l_margin + width)
        self.set_x(self.l_margin)


def _written(day: date) -> str:
    return f"{day.day} {day:%B %Y}"
