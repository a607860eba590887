"""The console's routes: the shell in the user's language, the page's files, the error catalog."""

import re
from http.cookies import SimpleCookie

import pytest

from app.console.assets import VERSION
from app.console.texts import texts
from app.errors import catalogue
from tests.api.edge import Edge
from tests.support.processes import ROOT

STATIC = ROOT / "app" / "console" / "static"


def page(edge: Edge, user: str | None = None, path: str = "/", language: str = "en", **cookies: str) -> str:
    client = edge.client(user)
    for name, value in cookies.items():
        client.set_cookie(name, value)
    response = client.get(path, headers={"Accept-Language": language})
    assert response.status_code == 200
    return str(response.get_data(as_text=True))


def test_the_page_uses_the_language_that_the_browser_prefers(edge: Edge) -> None:
    assert '<html lang="zh-TW"' in page(edge, language="zh-HK")
    assert "登入" in page(edge, language="zh-TW")
    assert '<html lang="en"' in page(edge, language="fr")


def test_a_stored_language_overrides_the_browsers(edge: Edge) -> None:
    assert '<html lang="zh-TW"' in page(edge, visiona_lang="zh-TW")
    assert '<html lang="en"' in page(edge, visiona_lang="<script>")


def test_a_requested_language_is_stored(edge: Edge) -> None:
    response = edge.client(None).get("/?lang=zh-TW")
    cookie = SimpleCookie(response.headers["Set-Cookie"])["visiona_lang"]
    assert (cookie.value, cookie["samesite"], cookie["path"]) == ("zh-TW", "Lax", "/")
    assert "Set-Cookie" not in edge.client(None).get("/?lang=xx").headers


@pytest.mark.parametrize(("remembered", "shown"), [("dark", "dark"), ("light", "light"), ("<b>", "system")])
def test_the_server_renders_the_stored_theme(edge: Edge, remembered: str, shown: str) -> None:
    assert f'data-theme="{shown}"' in page(edge, visiona_theme=remembered)


def test_the_page_shows_who_is_signed_in(edge: Edge) -> None:
    shown = page(edge, "alice")
    assert "alice" in shown
    assert "Sign out" in shown
    assert "/auth/login" not in shown
    assert "Sign out" not in page(edge)
    assert edge.client("alice").get("/").headers["Cache-Control"] == "no-store"


def test_the_page_has_nothing_inline(edge: Edge) -> None:
    for user in ("alice", None):
        shown = page(edge, user)
        assert "<style" not in shown
        assert " style=" not in shown
        assert not re.search(r"\son\w+=", shown)
        assert re.findall(r"<script[^>]*>", shown) == [f'<script type="module" src="/console/{VERSION}/app.js">']


def test_names_are_escaped(edge: Edge) -> None:
    assert "<script>alert" not in page(edge, "<script>alert(1)</script>")


def test_the_page_after_a_second_sign_in_shows_whether_it_worked(edge: Edge) -> None:
    assert "You are signed in again" in page(edge, "alice", "/console/signed-in")
    assert "/auth/login?next=/console/signed-in" in page(edge, None, "/console/signed-in")


def test_files_may_be_cached_forever_under_the_current_version_only(edge: Edge) -> None:
    client = edge.client(None)
    current = client.get(f"/console/{VERSION}/js/app.js")
    assert current.content_type == "text/javascript; charset=utf-8"
    assert "immutable" in current.headers["Cache-Control"]
    other = client.get("/console/0123456789ab/js/app.js")
    assert (other.status_code, other.headers["Cache-Control"]) == (200, "no-cache")
    again = client.get("/console/0123456789ab/js/app.js", headers={"If-None-Match": other.headers["ETag"]})
    assert again.status_code == 304


@pytest.mark.parametrize("name", ["js/nothing.js", "../__init__.py", "%2e%2e/assets.py", "js", "", "js//app.js"])
def test_there_are_no_other_files(edge: Edge, name: str) -> None:
    assert edge.client(None).get(f"/console/{VERSION}/{name}").status_code == 404


def test_a_signed_in_user_loads_few_files(edge: Edge) -> None:
    """Each further file can cost a round trip. All of them can be cached forever."""
    shown = page(edge, "alice")
    files = re.findall(rf'(?:href|src)="/console/{VERSION}/(\S+)"', shown)
    assert sorted(files) == ["app.js", "console.css", "logo.svg", "texts/en.json"]


def test_the_script_has_all_modules_and_a_source_map(edge: Edge) -> None:
    client = edge.client(None)
    script = client.get(f"/console/{VERSION}/app.js").text
    modules = [path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*.js")]
    assert [name for name in modules if f'\n"{name}"() {{' not in script] == ["js/app.js"]
    assert script.endswith("//# sourceMappingURL=app.js.map\n")
    source_map = client.get(f"/console/{VERSION}/app.js.map").get_json()
    assert sorted(source_map["sources"]) == sorted(modules)
    assert all(client.get(f"/console/{VERSION}/{name}").status_code == 200 for name in modules)


def test_every_style_sheet_is_loaded_by_a_page(edge: Edge) -> None:
    client = edge.client(None)
    styles = client.get(f"/console/{VERSION}/console.css").text
    shown = page(edge) + page(edge, None, "/docs")
    for path in (STATIC / "css").iterdir():
        assert path.read_text(encoding="utf-8") in styles or f"css/{path.name}" in shown, path.name


def test_the_whole_error_catalog_is_served_and_may_be_cached(edge: Edge) -> None:
    response = edge.client(None).get("/console/errors.json")
    document = response.get_json()
    assert document["languages"] == ["en", "zh-TW"]
    assert document["errors"].keys() == catalogue().keys()
    entry = document["errors"]["active_job_conflict"]
    assert entry["title"]["zh-TW"] == catalogue()["active_job_conflict"].title["zh-TW"]
    assert (entry["status"], entry["retryable"], entry["blame"]) == (409, True, "user")
    assert response.headers["Cache-Control"] == "public, max-age=3600"
    again = edge.client(None).get("/console/errors.json", headers={"If-None-Match": response.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


def test_an_unknown_language_has_no_texts() -> None:
    with pytest.raises(LookupError):
        texts("tlh")
