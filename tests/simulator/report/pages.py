"""What a test needs of an HTML page: whether it is sound, what it says, its pictures."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

_VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """A page that is read strictly: every element is closed, in order; no id is there twice."""

    def __init__(self, html):
        super().__init__()
        self.html = html
        self.open = []
        self.faults = []
        self.tags = []
        self.ids = []
        self.text = []
        self.feed(html)
        self.close()
        self.faults += [f"<{tag}> stays open" for tag in self.open]
        self.faults += [f"id {each} twice" for each in {*self.ids} if self.ids.count(each) > 1]
        self.said = " ".join(" ".join(self.text).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> out of place")

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)

    @property
    def pictures(self):
        return [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", self.html, re.DOTALL)]

    @property
    def drawn(self):
        """All text of the pictures."""
        return " ".join(text.strip() for svg in self.pictures for text in svg.itertext())

    def headings(self, level):
        return re.findall(rf"<h{level}>(.*?)</h{level}>", self.html)


def sound(html):
    """The page, if it is one that stands for itself; fails otherwise."""
    page = Page(html)
    assert page.faults == []
    loaded = re.findall(r"""(?:src|href|action)=["'](?!#)([^"']*)|url\((?!["']?#)|@import""", html)
    assert loaded == [], "it loads something"
    for tag, attributes in page.tags:
        assert tag not in {"script", "iframe", "object", "img", "link"}
        assert not any(name.startswith("on") for name in attributes)
        if tag == "svg":
            assert attributes["role"] == "img"
            assert len(attributes["aria-label"]) > 10
    bare = set(
        re.findall(r"(?<!, )#[0-9a-f]{6}\b", "".join(re.findall(r"<svg.*?</svg>", html, re.DOTALL)))
    )
    assert bare <= {"#000000"}, "a colour does not follow the theme"
    return page
