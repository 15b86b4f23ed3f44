"""Parses a page: its text, external addresses, images and charts."""

import base64
import io
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from PIL import Image

_FETCHING = {"src", "href", "srcset", "poster", "action", "data"}


class PageReader(HTMLParser):
    """Parser of a page; created by `read_page`.

    Attributes:
        text: visible text in order.
        fetched: external addresses that a browser would request.
        pictures: inline images.
        charts: chart data by id of their element.
        weights: selectable guidance weights.
    """

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.fetched: list[str] = []
        self.pictures: list[Image.Image] = []
        self.charts: dict[str, Any] = {}
        self.weights: list[str] = []
        self._chart: str | None = None
        self._inside = ""

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self._inside = tag
        self._chart = found.get("data-for") if tag == "script" else None
        if tag == "input" and found.get("name") == "w":
            self.weights.append(found["value"])
        for name in _FETCHING & found.keys():
            prefix, comma, content = found[name].partition("base64,")
            if comma and prefix == "data:image/png;":
                self.pictures.append(Image.open(io.BytesIO(base64.b64decode(content))))
            else:
                self.fetched.append(found[name])

    def handle_endtag(self, tag: str) -> None:
        self._inside, self._chart = "", None

    def handle_data(self, data: str) -> None:
        if self._chart:
            self.charts[self._chart] = json.loads(data)
        elif self._inside == "style":
            assert "url(" not in data
            assert "@import" not in data
        elif self._inside != "script":
            self.words.append(data)


def read_page(path: Path) -> PageReader:
    reader = PageReader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader
