"""People who follow a link get a page instead of a problem document; programs get the same as ever."""

import re
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from markupsafe import escape
from werkzeug.test import TestResponse

from app.api.signin_states import safe_return_path
from app.errors import (
    GatewayError,
    JobNotFoundError,
    MCTokenUnavailableError,
    OwnershipMismatchError,
    UploadCapacityError,
    catalogue,
)
from tests.api.edge import Edge, make_edge
from tests.api.oidc_provider import HTML

NAVIGATION = {"Accept": HTML, "Sec-Fetch-Mode": "navigate", "X-Request-ID": "request-1"}
DOWNLOAD = "/api/conversion/job-1/download"


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """One edge for all tests, because a failure leaves no state behind."""
    with make_edge(tmp_path_factory.mktemp("edge")) as made:
        yield made


def ask(edge: Edge, path: str = DOWNLOAD, user: str | None = "alice", **headers: str) -> TestResponse:
    return edge.client(user).get(path, headers=NAVIGATION | {name.replace("_", "-"): headers[name] for name in headers})


def failing(edge: Edge, failure: Exception, **headers: str) -> TestResponse:
    edge.conversions.failure = failure
    return ask(edge, **headers)


def failure_of(code: str) -> GatewayError:
    failure = GatewayError("the reason is for the log", texts=dict.fromkeys(catalogue()[code].placeholders, "FILLED"))
    failure.code = code  # type: ignore[misc]
    failure.retry_after_seconds = failure.entry.retry_after_seconds
    return failure


def links(response: TestResponse) -> list[str]:
    [main] = re.findall("<main.*</main>", response.text, re.DOTALL)
    return re.findall(r'<a [^>]*href="([^"]*)"', main)


@pytest.mark.parametrize("language", ["en", "zh-TW"])
@pytest.mark.parametrize("code", sorted(catalogue()))
def test_every_code_has_a_page(edge: Edge, code: str, language: str) -> None:
    """With the catalog's texts and a way on, without scripts, and with the status and headers of the document."""
    failure = failure_of(code)
    document = failing(edge, failure, Accept="*/*", Accept_Language=language)
    page = failing(edge, failure, Accept_Language=language)
    entry = catalogue()[code]
    assert document.content_type == "application/problem+json"
    assert page.content_type == "text/html; charset=utf-8"
    assert page.status_code == document.status_code == entry.status
    changing = {"content-type", "content-length"}
    headers = [
        [(name, value) for name, value in response.headers.items() if name.lower() not in changing]
        for response in (page, document)
    ]
    assert headers[0] == headers[1]
    assert {"accept", "sec-fetch-mode"} <= {name.lower() for name in page.vary}
    assert f'<html lang="{language}"' in page.text
    assert f"<h1>{escape(entry.title[language])}</h1>" in page.text
    assert page.headers["X-Request-ID"] in page.text
    assert links(page)
    assert not re.search(r"<script|<style| style=|\son\w+=|for the log|\{", page.text)
    assert ("FILLED" in page.text) == bool(entry.placeholders)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Sec-Fetch-Mode": "navigate", "Accept": "*/*"}, id="no HTML in Accept"),
        pytest.param({"Sec-Fetch-Mode": "navigate", "Accept": "text/html;q=0, */*"}, id="HTML refused"),
        pytest.param({"Sec-Fetch-Mode": "navigate", "Accept": "text/html," + "x" * 1100}, id="Accept too long"),
        pytest.param({"Sec-Fetch-Mode": "navigate"}, id="no Accept"),
        pytest.param({"Sec-Fetch-Mode": "cors", "Accept": HTML}, id="a script"),
        pytest.param({"Sec-Fetch-Mode": "no-cors", "Accept": HTML}, id="an image"),
        pytest.param({"Accept": HTML}, id="no Sec-Fetch-Mode"),
        pytest.param({}, id="curl"),
    ],
)
def test_everything_but_a_navigation_gets_the_document(edge: Edge, headers: dict[str, str]) -> None:
    for user, path in (("alice", "/nothing"), (None, "/api/me"), ("alice", "/api/models/x")):
        response = edge.client(user).get(path, headers=headers)
        assert response.content_type == "application/problem+json"
        assert response.get_json()["status"] == response.status_code


@pytest.mark.parametrize("method", ["POST", "HEAD", "DELETE", "PATCH"])
def test_other_methods_do_not_depend_on_it(edge: Edge, method: str) -> None:
    response = edge.client(None).open("/api/models/x", method=method, headers=NAVIGATION)
    assert response.content_type == "application/problem+json"
    assert "accept" not in {name.lower() for name in response.vary}


def test_a_foreign_job_and_an_absent_one_have_the_same_page(edge: Edge) -> None:
    pages = [failing(edge, failure) for failure in (JobNotFoundError("absent"), OwnershipMismatchError("foreign"))]
    assert pages[0].data == pages[1].data
    assert pages[0].headers == pages[1].headers


def test_a_link_without_a_session_stays_401_and_leads_through_the_sign_in_to_the_file(edge: Edge) -> None:
    response = ask(edge, "/api/models/m-1/file?token=s3cret", user=None)
    assert response.status_code == 401
    assert "Location" not in response.headers
    [page, _] = links(response)
    assert page == "/console/signed-in?then=/api/models/m-1/file"
    beginning = edge.client(None).get(page)
    [sign_in] = links(beginning)
    assert f'<noscript><meta http-equiv="refresh" content="0; url={sign_in}"></noscript>' in beginning.text
    [wanted] = parse_qs(urlsplit(sign_in).query)["next"]
    assert safe_return_path(wanted) == wanted == page
    landing = edge.client("alice").get(wanted).text
    assert '<meta http-equiv="refresh" content="0; url=/api/models/m-1/file">' in landing
    assert 'href="/api/models/m-1/file"' in landing


@pytest.mark.parametrize("then", ["", "/", "//evil.example/api/", "https://evil.example/", "/api/../auth/login", "/x"])
def test_the_page_after_a_sign_in_leads_only_to_the_api(edge: Edge, then: str) -> None:
    response = edge.client("alice").get("/console/signed-in", query_string={"then": then})
    assert "http-equiv" not in response.text
    assert "evil" not in response.text


@pytest.mark.parametrize(
    ("path", "failure", "expected"),
    [
        (DOWNLOAD, MCTokenUnavailableError(), [DOWNLOAD, "/#/jobs/job-1"]),
        (DOWNLOAD, JobNotFoundError(), ["/"]),
        ("/api/models/m-1/file", None, ["/#/models"]),
        ("/api/conversion/a%22%3E%3Cb%3E", MCTokenUnavailableError(), None),
        ("/nothing", None, ["/"]),
    ],
)
def test_the_ways_on_lead_to_pages_of_ours(
    edge: Edge, path: str, failure: Exception | None, expected: list[str] | None
) -> None:
    edge.conversions.failure = failure
    response = ask(edge, path)
    assert "<b>" not in response.text.partition("<main")[2]
    if expected is None:
        expected = ["/api/conversion/a%22%3E%3Cb%3E", "/#/jobs/a%22%3E%3Cb%3E"]
    assert links(response) == expected


def test_an_unknown_host_is_led_to_the_right_one(edge: Edge) -> None:
    response = ask(edge, "/", Host="elsewhere.example")
    assert response.status_code == 400
    assert links(response) == ["http://localhost/"]


@pytest.mark.parametrize(
    "path", ["/nothing?secret=s3cret", "/api/me?s3cret", "/auth/authorize?code=s3cret&state=s3cret", "/docs/x?s3cret"]
)
def test_no_page_holds_the_query(edge: Edge, path: str) -> None:
    response = ask(edge, path, user=None, Referer="http://localhost/?s3cret", User_Agent="s3cret")
    assert response.mimetype == "text/html"
    assert "s3cret" not in response.text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "in one second."), (7.1, "in 8 seconds."), (91, "in 2 minutes."), (None, "in 5 seconds.")],
)
def test_the_time_to_wait_is_in_words(edge: Edge, seconds: float | None, words: str) -> None:
    assert words in failing(edge, UploadCapacityError(retry_after_seconds=seconds)).text


def test_the_page_has_the_language_and_the_theme_of_the_console(edge: Edge) -> None:
    client = edge.client("alice")
    client.set_cookie("visiona_lang", "zh-TW")
    client.set_cookie("visiona_theme", "dark")
    response = client.get("/nothing", headers=NAVIGATION | {"Accept-Language": "en"})
    assert '<html lang="zh-TW" data-theme="dark">' in response.text
    assert response.headers["Content-Language"] == "zh-TW"
    assert "找不到資源" in response.text


def test_a_bug_has_a_page_too(edge: Edge) -> None:
    response = failing(edge, ZeroDivisionError("s3cret"))
    assert (response.status_code, response.mimetype) == (500, "text/html")
    assert "s3cret" not in response.text
