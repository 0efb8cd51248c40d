"""Typesetting of Markdown as PDF."""

import socket
from contextlib import closing
from datetime import date

import pytest

from domain.book import Book

TODAY = date(2026, 3, 1)

CURIOUS = [
    "",
    "# Heading\n\n***both** kinds* of `code` — “quotes”",
    "- a\n  - b\n    1. c\n\n       d\n- e",
    "> quote\n>\n> > deeper\n> - list",
    "```python\nprint('x')\n```\n\n    indented\n\n---\n\nHard  \nbreak",
    "[a](#nowhere) [b](javascript:alert) [c](/relative) [d](https://example.com) <https://example.com>",
    "![a picture](https://example.com/x.png) <script>alert(1)</script> <img src='http://127.0.0.1/'>",
    "| a | b |\n|---|---|\n| **1** | `2` |\n| 3 | |\n\n~~gone~~",
    "|" + " a |" * 200 + "\n|" + "--|" * 200 + "\n|" + " word " * 5000 + "|",
    "Γειά σου, Привет, שלום, 日本, 🎉 \x01\u200f",
    "x" * 5000,
    ">" * 60 + " deep\n\n" + "".join(f"{'  ' * n}- x\n" for n in range(60)),
]


@pytest.mark.parametrize("content", CURIOUS)
def test_book_takes_any_markdown(content: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(socket, "socket", lambda *_: pytest.fail("A book must not ask the network."))
    with closing(Book("Collected posts", "mara", TODAY)) as book:
        book.add_post("A title — “quoted” 🎉", "A subtitle", None, content)
        book.add_post("Another", None, TODAY, content)
        assert book.bind().startswith(b"%PDF-")
