"""What people and programs get from nginx itself while the gateway cannot be reached: the files of deploy/pages."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import Page, expect

from app.console.assets import find_asset
from app.errors import catalogue
from tests.console.browser import AXE
from tests.support.chromium import shared_browser
from tests.support.nginx import CONFIGURATION, PAGES, Nginx
from tests.support.processes import free_port

NAVIGATION = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8", "Sec-Fetch-Mode": "navigate"}
TITLES = {"en": "The service cannot be reached", "zh-TW": "無法連線到服務"}


@pytest.fixture(scope="module")
def gateway_port() -> int:
    """A port at which nothing listens, except during `gateway`."""
    return free_port()


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory, gateway_port: int) -> Iterator[Nginx]:
    with Nginx(tmp_path_factory.mktemp("nginx"), gateway_port) as made:
        yield made


class Answering(BaseHTTPRequestHandler):
    """A gateway that is up, and responds with its own 503 to one address."""

    def do_GET(self) -> None:
        status, body = (503, b"the gateway's own") if self.path == "/own" else (200, b"<h1>The gateway</h1>")
        self.send_response(status)
        self.send_header("Content-Type", "text/html")
        self.send_header("X-Request-ID", "of-the-gateway")
        self.send_header("Retry-After", "17")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the base class names it
        """Log nothing."""


@contextmanager
def gateway(port: int) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", port), Answering)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("headers", "language"),
    [
        ({}, "en"),
        ({"Accept-Language": "zh-HK,zh;q=0.9"}, "zh-TW"),
        ({"Accept-Language": "zh-TW", "Cookie": "visiona_lang=en"}, "en"),
        ({"Accept-Language": "en", "Cookie": "a=b; visiona_lang=zh-TW"}, "zh-TW"),
        ({"Accept-Language": "zh", "Cookie": "visiona_lang=<script>"}, "zh-TW"),
    ],
)
def test_people_get_a_page_in_their_language(nginx: Nginx, headers: dict[str, str], language: str) -> None:
    for path in ("/", "/api/models/m/file?code=s3cret", "/docs", "/auth/authorize?code=s3cret"):
        response = requests.get(nginx.url + path, headers=NAVIGATION | headers, timeout=10)
        assert response.status_code == 502
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        assert (response.headers["Retry-After"], response.headers["Cache-Control"]) == ("5", "no-store")
        assert "Sec-Fetch-Mode" in response.headers["Vary"]
        assert "Content-Encoding" not in response.headers
        assert f'<html lang="{language}">' in response.text
        assert f"<h1>{TITLES[language]}</h1>" in response.text
        assert "s3cret" not in response.text


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", {}),
        ("GET", {"Accept": "text/html"}),
        ("GET", NAVIGATION | {"Accept": "*/*"}),
        ("GET", NAVIGATION | {"Sec-Fetch-Mode": "cors"}),
        ("POST", NAVIGATION),
    ],
)
def test_programs_get_the_problem_document(nginx: Nginx, method: str, headers: dict[str, str]) -> None:
    response = requests.request(method, f"{nginx.url}/api/me", headers=headers, timeout=10)
    assert (response.status_code, response.headers["Content-Type"]) == (502, "application/problem+json")
    assert response.json()["code"] == "gateway_unavailable"


def test_the_gateways_own_failures_pass_unchanged(nginx: Nginx, gateway_port: int) -> None:
    with gateway(gateway_port):
        response = requests.get(f"{nginx.url}/own", headers=NAVIGATION, timeout=10)
    assert (response.status_code, response.text) == (503, "the gateway's own")
    assert response.headers["Retry-After"] == "17"
    assert "Vary" not in response.headers


def test_without_the_files_everyone_gets_the_problem_document(tmp_path: Path, gateway_port: int) -> None:
    """An update of the configuration alone must not break anything."""
    with Nginx(tmp_path, gateway_port, replacements={str(PAGES): str(tmp_path / "nothing")}) as nginx:
        response = requests.get(nginx.url, headers=NAVIGATION, timeout=10)
    assert (response.status_code, response.json()["code"]) == (502, "gateway_unavailable")


def test_too_many_requests_have_a_page_too(tmp_path: Path, gateway_port: int) -> None:
    changes = {"location / {": "location = /limited { return 429; }\n    location / {"}
    with Nginx(tmp_path, gateway_port, replacements=changes) as nginx:
        page = requests.get(f"{nginx.url}/limited", headers=NAVIGATION, timeout=10)
        document = requests.get(f"{nginx.url}/limited", timeout=10)
    assert page.status_code == document.status_code == 429
    assert page.headers["Retry-After"] == document.headers["Retry-After"] == "5"
    assert "<h1>Too many requests at once</h1>" in page.text
    assert document.json()["code"] == "too_many_requests"


@pytest.mark.parametrize("path", ["/metrics", "/readyz", "/.pages/"])
def test_an_address_that_nginx_closes_has_a_page_too(nginx: Nginx, path: str) -> None:
    page = requests.get(nginx.url + path, headers=NAVIGATION, timeout=10)
    document = requests.get(nginx.url + path, timeout=10)
    assert page.status_code == document.status_code == document.json()["status"] == 404
    assert "<h1>Not found</h1>" in page.text
    assert "Sec-Fetch-Mode" in page.headers["Vary"]
    assert document.json()["code"] == "not_found"


def test_a_browser_with_too_many_cookies_gets_a_page(nginx: Nginx) -> None:
    """As browsers order their headers. The cookies cannot be read, so the language is the preferred one."""
    cookies = {"Cookie": "; ".join(f"c{number}={'x' * 4000}" for number in range(12))}
    headers = NAVIGATION | {"Accept-Language": "zh-TW"}
    page = requests.get(nginx.url, headers=headers | cookies, timeout=10)
    document = requests.get(nginx.url, headers={"Accept-Language": "en"} | cookies, timeout=10)
    assert page.status_code == document.status_code == document.json()["status"] == 400
    assert "<h1>請求格式錯誤</h1>" in page.text
    assert "Sec-Fetch-Mode" in page.headers["Vary"]
    assert document.json()["code"] == "invalid_request"


@pytest.mark.parametrize("language", TITLES)
def test_the_pages_say_what_the_documents_say(language: str) -> None:
    text = CONFIGURATION.read_text(encoding="utf-8")
    for name, variable in (("unavailable", "$visiona_unavailable"), ("too_many", "$visiona_too_many")):
        [texts] = re.findall(rf"map \$visiona_language \{variable} {{(.*?)}}", text, re.DOTALL)
        [said] = re.findall(rf"\"{language}\"\s+'(.*)';", texts)
        page = (PAGES / f"{name}.{language}.html").read_text(encoding="utf-8")
        assert f"<h1>{json.loads(f'{{{said}}}')['title']}</h1>" in page
        assert not re.search(r"<style| style=|<script(?! type=\"module\" src=)", page)
    page = (PAGES / f"invalid_request.{language}.html").read_text(encoding="utf-8")
    assert f"<h1>{catalogue()['invalid_request'].title[language]}</h1>" in page
    not_found = catalogue()["not_found"]
    page = (PAGES / f"not_found.{language}.html").read_text(encoding="utf-8")
    assert f"<h1>{not_found.title[language]}</h1>\n    <p>{not_found.detail[language]}</p>" in page


def test_the_logo_is_the_consoles() -> None:
    logo = find_asset("logo.svg")
    assert logo is not None
    assert (PAGES / "logo.svg").read_bytes() == logo.body


def problems_of(page: Page) -> list[str]:
    page.evaluate(AXE.read_text(encoding="utf-8") + "; undefined")
    return [found["id"] for found in page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_readable(nginx: Nginx, scheme: Any) -> None:
    """The policy allows its files, axe finds nothing, and it fits 320 pixels."""
    context = shared_browser().new_context(color_scheme=scheme, viewport={"width": 320, "height": 640})
    try:
        page = context.new_page()
        violations: list[str] = []
        page.on("console", lambda message: violations.append(message.text) if "Security" in message.text else None)
        page.goto(nginx.url)
        expect(page.locator("h1")).to_have_text(TITLES["en"])
        assert page.evaluate("getComputedStyle(document.querySelector('main')).display") == "grid"
        assert page.evaluate("document.querySelector('img').naturalWidth") > 0
        assert page.evaluate("document.documentElement.scrollWidth") == 320
        assert problems_of(page) == []
        assert violations == []
    finally:
        context.close()


@pytest.mark.parametrize(("path", "has_scripts"), [("/#/models", True), ("/docs", False)])
def test_the_page_loads_again_by_itself(nginx: Nginx, gateway_port: int, path: str, has_scripts: bool) -> None:
    context = shared_browser().new_context(java_script_enabled=has_scripts)
    try:
        page = context.new_page()
        page.goto(nginx.url + path)
        expect(page.locator("h1")).to_have_text(TITLES["en"])
        with gateway(gateway_port):
            expect(page.locator("h1")).to_have_text("The gateway", timeout=20_000)
        assert page.url == nginx.url + path
    finally:
        context.close()
