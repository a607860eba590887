"""Where a browser may be sent after signing in: our own pages, and nothing that anybody could read as another host."""

from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.signin_states import MAX_RETURN_PATH_CHARACTERS, safe_return_path


@pytest.mark.parametrize(
    ("asked", "given_back"),
    [
        ("/", "/"),
        ("/models", "/models"),
        ("/models/", "/models/"),
        ("/models?page=2&sort=-name", "/models?page=2&sort=-name"),
        ("/#/models", "/#/models"),
        ("/#/jobs/j-1.a_b~%20x", "/#/jobs/j-1.a_b~%20x"),
        ("/#/history?q=%E6%A8%A1+%2F%2F&platform=720", "/#/history?q=%E6%A8%A1+%2F%2F&platform=720"),
        ("/?next=https://elsewhere.example/", "/?next=https://elsewhere.example/"),
        ("/a%20b", "/a%20b"),
        ("/100%25", "/100%25"),
        ("/?q=%2F%2F", "/?q=%2F%2F"),
        ("/a b", "/a%20b"),
        ("/?q=模型", "/?q=%E6%A8%A1%E5%9E%8B"),
        ("/authors", "/authors"),
        ("/models/auth/", "/models/auth/"),
        ("/@somebody", "/@somebody"),
        ("/a..b/.hidden", "/a..b/.hidden"),
        ("/" + "x" * (MAX_RETURN_PATH_CHARACTERS - 1), "/" + "x" * (MAX_RETURN_PATH_CHARACTERS - 1)),
    ],
)
def test_a_path_of_ours_passes(asked: str, given_back: str) -> None:
    """Unchanged, except for characters that a Location header cannot hold."""
    assert safe_return_path(asked) == given_back


@pytest.mark.parametrize(
    "asked",
    [
        None,
        "",
        "models",
        "?a=1",
        "#x",
        "//evil",
        "///evil",
        "////evil",
        "http:///evil",
        "http:/evil",
        "http:evil",
        "https://evil",
        "https://gateway.example@evil/",
        "https://gateway.example/",
        "//gateway.example@evil/",
        "//user:password@evil/",
        "javascript:alert(1)",
        "data:text/html,x",
        "\\\\evil",
        "/\\evil",
        "\\/evil",
        "/models\\..",
        "/\t/evil",
        "\t//evil",
        "/\n/evil",
        "/\r\nSet-Cookie: a=b",
        "/\x00/evil",
        "/\x0b/evil",
        "/\x7f",
        "/\x85/evil",
        " //evil",
        "\u2028//evil",
        "/%2Fevil",
        "/%2f%2fevil",
        "/%5Cevil",
        "/%5c/evil",
        "/%09/evil",
        "/%0d%0aLocation:%20https://evil",
        "/%00",
        "/%252Fevil",
        "/%25252Fevil",
        "/%2525252525252Fevil",
        "/%255Cevil",
        "/./",
        "/.//evil",
        "/../evil",
        "/a/../auth/login",
        "/a/%2e%2e/auth/login",
        "/a/%252e%252e/auth/login",
        "/..//evil",
        "/auth",
        "/auth/",
        "/auth/login",
        "/auth/login?next=/",
        "/auth?x",
        "/auth#x",
        "/models#m-1",
        "/docs#/models",
        "/?a=1#/models",
        "/#x",
        "/#",
        "/#//evil:80",
        "/#/a?b=c?d",
        "/#/a?b=/evil",
        "/#/a?b=https://evil",
        '/#/a?"<b>',
        "/#/a#b",
        '/#/"<b>',
        "/AUTH/login",
        "/%61uth/login",
        "/%2561uth/login",
        "/" + "x" * MAX_RETURN_PATH_CHARACTERS,
        "/" + "模" * 60,
    ],
)
def test_everything_else_leads_home(asked: str | None) -> None:
    """Another host, another scheme, back into the sign-in, or too long."""
    assert safe_return_path(asked) == "/"


@given(st.text(alphabet=st.sampled_from("/\\.:@%?#&=2fF5cC0aAuth \t\n\x00模e"), max_size=24).map("/".__add__))
def test_whatever_is_asked_for_stays_on_our_origin(asked: str) -> None:
    """As the standard library parses it, in ASCII, and without a second slash even when decoded twice."""
    path = safe_return_path(asked)
    resolved = urlsplit(urljoin("https://gateway.example/", path))
    assert (resolved.scheme, resolved.netloc) == ("https", "gateway.example")
    assert path.isascii()
    assert path.isprintable()
    assert "\\" not in path
    assert path[1:2] != "/"
    assert not path.lower().startswith("/auth/")
