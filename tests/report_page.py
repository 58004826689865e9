"""Reads a `report.html` as a browser does: headings, figures, tables, texts and scripts."""

import json
from html.parser import HTMLParser
from pathlib import Path


class Page(HTMLParser):
    """What is on a page.

    `figures` are plotly's, by section and title, or number where they have none. `tables` are rows of texts, by section.
    """

    def __init__(self, path: Path):
        super().__init__()
        self.size, self.scripts, self.links = path.stat().st_size, [], []
        self.figures: dict[tuple[str, str], dict] = {}
        self.tables: dict[str, list[list[list[str]]]] = {}
        self.texts: dict[str, list[str]] = {}
        self._section = self._title = ""
        self._open: list[str] = []
        self._json = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.links += [given[name] for name in ("href", "src") if name in given]
        if tag not in ("meta", "link", "br"):
            self._open.append(tag)
        if tag == "script":
            self.scripts.append("")
            self._json = given.get("type") == "application/json"
        if tag == "section":
            self._section = given["id"]
        if tag == "figure":
            self._title = ""
        if tag == "table":
            self.tables.setdefault(self._section, []).append([])
        if tag == "tr":
            self.tables[self._section][-1].append([])
        if tag in ("td", "th"):
            self.tables[self._section][-1][-1].append("")

    def handle_endtag(self, tag):
        if tag == "script" and self._json:
            title = self._title or str(sum(section == self._section for section, _ in self.figures))
            self.figures[self._section, title] = json.loads(self.scripts.pop())
            self._json = False
        self._open.pop()

    def handle_data(self, data):
        tag = self._open[-1] if self._open else ""
        if tag == "script":
            self.scripts[-1] += data
        elif tag == "h3":
            self._title += data
        elif tag in ("td", "th"):
            self.tables[self._section][-1][-1][-1] += data
        elif data.strip():
            self.texts.setdefault(self._section, []).append(data.strip())

    def rows(self, section: str, table: int = 0) -> list[dict[str, str]]:
        """A table as column -> text."""
        header, *rows = self.tables[section][table]
        return [dict(zip(header, row, strict=True)) for row in rows]
