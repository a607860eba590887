"""`/docs`: the description for people, in both languages, and under the policy that every page has."""

import re
from html.parser import HTMLParser

import pytest
from flask import template_rendered
from jinja2 import Template

from app.api.openapi.operations import OPERATIONS
from app.console.docs import inline, prose
from app.errors import LANGUAGES, catalogue
from tests.api.edge import Edge

URL = "/docs"


class _Page(HTMLParser):
    """The ids, the links, and what a strict Content-Security-Policy would not let work."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.forbidden: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += [given["id"] or ""] if "id" in given else []
        self.links += [given["href"] or ""] if tag in {"a", "link", "use"} else []
        if tag == "style" or "style" in given or (tag == "script" and "src" not in given):
            self.forbidden.append(tag)
        self.forbidden += [name for name in given if name.startswith("on")]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_operation_and_every_failure_can_be_read(edge: Edge, language: str) -> None:
    """Anybody sees all operations, each with its summary and its failures' texts in the asked-for language."""
    answer = edge.client(None).get(URL, headers={"Accept-Language": language})
    assert (answer.status_code, answer.headers["Content-Language"]) == (200, language)
    page = _Page(answer.text)
    for operation in OPERATIONS:
        assert operation.operation_id in page.ids
        assert operation.summary[language] in answer.text.replace("&#39;", "'")
    for code in set(catalogue()) - {"method_not_allowed"}:
        assert f"<code>{code}</code>" in answer.text
        assert catalogue()[code].title[language] in answer.text.replace("&#39;", "'")


def test_it_keeps_to_the_policy_and_every_link_in_it_leads_somewhere(edge: Edge) -> None:
    """Nothing inline, nothing from another host; each fragment has its element, and no id is there twice."""
    answer = edge.client(None).get(URL)
    page = _Page(answer.text)
    assert "'unsafe-inline'" not in answer.headers["Content-Security-Policy"]
    assert page.forbidden == []
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    for link in {link for link in page.links if link.startswith("/") and not link.startswith("/auth/")}:
        assert edge.client(None).get(link).status_code == 200, link
    assert [link for link in page.links if not re.match(r"[/#?]", link)] == []


def test_descriptions_become_html_and_nothing_in_them_does() -> None:
    """Code, lists and paragraphs are marked up; markup in a description is shown as it is written."""
    assert prose("One.\n\n- a `b`\n- c") == '<p>One.</p><ul class="bullets"><li>a <code>b</code></li><li>c</li></ul>'
    assert inline("<b> `<i>`") == "&lt;b&gt; <code>&lt;i&gt;</code>"


def test_the_second_reader_gets_what_the_first_got_and_costs_no_rendering(edge: Edge) -> None:
    """What is the same for everybody is rendered once a language; what is somebody's own is not kept with it."""
    first = edge.client("alice").get(URL, headers={"Accept-Language": "en"})
    asked: list[str] = []

    def note(sender: object, template: Template, **_: object) -> None:
        asked.append(str(template.name))

    with template_rendered.connected_to(note, edge.app):
        second = edge.client(None).get(URL, headers={"Accept-Language": "en"})
        other = edge.client(None).get(URL, headers={"Accept-Language": "zh-TW"})
    assert asked == ["console/docs.html", "console/reference.html", "console/docs.html"]
    assert "data-user-id" in first.text
    assert "data-user-id" not in second.text
    reference = re.compile(r'<div class="reference">.*</article>', re.DOTALL)
    assert reference.findall(first.text) == reference.findall(second.text) != reference.findall(other.text)
