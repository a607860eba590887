"""`/docs`: the API reference in both languages, under the policy of all pages."""

import json
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any

import pytest
from flask import template_rendered
from jinja2 import Template

from app.api.openapi.operations import OPERATIONS
from app.config import load_settings
from app.console.docs import inline, prose, render_reference
from app.console.texts import reference_texts
from app.errors import LANGUAGES, catalogue
from tests.api.edge import ENVIRON, Edge

URL = "/docs"
#: Texts of examples that are the same in all languages.
_NAMES = {"Alice Chen", "pytorch 2.4.0", "yolo for the front door"}


class _Page(HTMLParser):
    """The ids and links of a page, and anything that a strict Content-Security-Policy would block."""

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
def test_every_operation_and_every_failure_is_shown(edge: Edge, language: str) -> None:
    """The page is public, and shows all operations with their summaries and failures in the requested language."""
    response = edge.client(None).get(URL, headers={"Accept-Language": language})
    assert (response.status_code, response.headers["Content-Language"]) == (200, language)
    page = _Page(response.text)
    for operation in OPERATIONS:
        assert operation.operation_id in page.ids
        assert operation.summary[language] in response.text.replace("&#39;", "'")
    for code in set(catalogue()) - {"method_not_allowed"}:
        assert f"<code>{code}</code>" in response.text
        assert catalogue()[code].title[language] in response.text.replace("&#39;", "'")
    placeholders = {f"{{{name}}}" for entry in catalogue().values() for name in entry.placeholders}
    assert {text for text in placeholders if text in response.text} == set()


def test_the_page_obeys_its_content_security_policy_and_has_no_dead_links(edge: Edge) -> None:
    """Nothing inline, nothing from another host. Each fragment has its element, and ids are unique."""
    response = edge.client(None).get(URL)
    page = _Page(response.text)
    assert "'unsafe-inline'" not in response.headers["Content-Security-Policy"]
    assert page.forbidden == []
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    for link in {link for link in page.links if link.startswith("/") and not link.startswith("/auth/")}:
        assert edge.client(None).get(link).status_code == 200, link
    assert [link for link in page.links if not re.match(r"[/#?]", link)] == []


class _Noting(dict[str, str]):
    """Translations that note which texts the page has asked for."""

    def __init__(self, translations: Mapping[str, str]) -> None:
        super().__init__(translations)
        self.asked: set[str] = set()

    def get(self, text: str, default: Any = None) -> Any:
        self.asked.add(text)
        return super().get(text, default)


@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_the_page_is_translated_as_a_whole(edge: Edge, language: str) -> None:
    """Every line of the descriptions and every text of the examples, and there are no stale translations."""
    noting = _Noting(reference_texts(language))
    with edge.app.test_request_context():
        page = render_reference(load_settings(ENVIRON), language, noting)
    file = f"app/console/reference.{language}.toml"
    # Texts of examples without a space are words of JSON.
    missing = {text for text in noting.asked - noting.keys() if " " in text} - _NAMES
    assert missing == set(), f"add the translations to {file}:\n" + "\n".join(map(json.dumps, sorted(missing)))
    stale = noting.keys() - noting.asked
    assert stale == set(), f"remove from {file}, because no description has these lines:\n" + "\n".join(sorted(stale))
    assert 'lang="en"' not in page
    for text, translation in noting.items():
        assert set(re.findall("`[^`]+`", text)) == set(re.findall("`[^`]+`", translation)), text
        assert set(re.findall(r"\d{3,}", text)) == set(re.findall(r"\d{3,}", translation)), text


def test_descriptions_are_rendered_and_markup_in_them_is_escaped() -> None:
    """Code, lists and paragraphs become HTML. Markup in a description is shown as text."""
    assert prose("One.\n\n- a `b`\n- c") == '<p>One.</p><ul class="bullets"><li>a <code>b</code></li><li>c</li></ul>'
    assert inline("<b> `<i>`") == "&lt;b&gt; <code>&lt;i&gt;</code>"


def test_the_reference_is_rendered_once_per_language(edge: Edge) -> None:
    """The part that is the same for everybody is cached, without anything of a user."""
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
