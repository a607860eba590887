"""The cost of a request grows no faster than its size, and is small for every request that nginx lets through.

Costs are CPU time of this thread, so that other load counts little; each is the least of several
measurements, as a machine of usual speed would need it. Requests are made as WSGI environments, beforehand.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from io import BytesIO
from itertools import product

import pytest

from app.api.announcement import MAX_FORM_BYTES
from app.api.requests import MAX_SMALL_BODY_BYTES
from app.domain.identity import claims_identity
from app.domain.model import clean_filename, clean_name
from app.errors import GatewayError
from app.streaming.multipart import UploadMessage, parse_boundary
from tests.api.edge import Edge, make_edge

#: `large_client_header_buffers 4 8k` in deploy/nginx.conf: of one name in all, and of a request's line.
HEADER_BYTES, LINE_BYTES = 4 * 8 * 1024, 8 * 1024
MOST_SECONDS = 0.1
#: Costs below this are not compared: they are made of other things than the input.
NEGLIGIBLE_SECONDS = 0.005
#: Twice, and what measurements differ by. A cost that grows with the square of the size is multiplied by four.
MOST_GROWTH = 3.0


def cpu_seconds_of(act: Callable[[], object]) -> float:
    begun_at = time.thread_time()
    act()
    return time.thread_time() - begun_at


@cache
def slowness() -> float:
    """How many times slower this machine is than one that adds 200,000 squares in 20 ms; at least 1."""
    return max(1.0, min(cpu_seconds_of(lambda: sum(n * n for n in range(200_000))) for _ in range(10)) / 0.02)


def cost_of(act: Callable[[], object], *, tries: int = 5, enough: float = NEGLIGIBLE_SECONDS) -> float:
    """Return the CPU seconds of a call: the least of several, or the first that is less than `enough`."""
    least = float("inf")
    for _ in range(tries):
        least = min(least, cpu_seconds_of(act) / slowness())
        if least < enough:
            break
    return least


def assert_cheap(make: Callable[[int], Callable[[], object]], size: int, what: object) -> None:
    """`make(n)` prepares an act on n bytes. Other processes disturb a measurement, so the best of three counts.

    The first time, the whole is measured once: a disturbance can only make it look too expensive, and is repeated.
    """
    troubles = []
    for tries in (1, 5, 5):
        cost = cost_of(make(size), tries=tries)
        if cost < NEGLIGIBLE_SECONDS:
            return
        half = cost_of(make(size // 2), tries=3)
        if cost <= MOST_SECONDS and cost <= MOST_GROWTH * half:
            return
        troubles.append(f"{half * 1e3:.1f} ms become {cost * 1e3:.1f} ms with twice the size")
    raise AssertionError(f"{what!r} of {size} bytes: {', '.join(troubles)}")


def filled(prefix: str, unit: str, suffix: str) -> Callable[[int], str]:
    """Return a text of this size: a unit that is repeated between two ends."""

    def fill(size: int) -> str:
        left = size - len(prefix) - len(suffix)
        return prefix + (unit * (left // len(unit) + 1))[:left] + suffix

    return fill


@dataclass
class Request:
    """A request as the server gives it to the application."""

    method: str
    path: str
    query: str = ""
    content_type: str = ""
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    user_id: str | None = "alice"


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with make_edge(tmp_path_factory.mktemp("costs")) as made:
        yield made


def prepared(edge: Edge, asked: Request) -> Callable[[], str]:
    """Return a function that handles the request and returns the status."""
    environ = {
        "REQUEST_METHOD": asked.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": asked.path,
        "RAW_URI": asked.path,
        "QUERY_STRING": asked.query,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "localhost",
        "CONTENT_TYPE": asked.content_type,
        "CONTENT_LENGTH": str(len(asked.body)),
        "wsgi.url_scheme": "http",
        "wsgi.version": (1, 0),
        "wsgi.errors": BytesIO(),
    }
    cookies = ["" if asked.user_id is None else edge.client(asked.user_id).get_cookie("visiona_session")]
    session = "; ".join(f"visiona_session={cookie.value}" for cookie in cookies if cookie)
    for name, value in asked.headers.items():
        key = name.upper().replace("-", "_")
        environ[key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}"] = value
    environ["HTTP_COOKIE"] = "; ".join(filter(None, [session, environ.get("HTTP_COOKIE", "")]))

    def act() -> str:
        statuses: list[str] = []
        response = edge.app({**environ, "wsgi.input": BytesIO(asked.body)}, lambda status, *_: statuses.append(status))
        for _ in response:
            pass
        getattr(response, "close", lambda: None)()
        assert not statuses[0].startswith("500"), asked
        return statuses[0]

    return act


HEADERS = ["Accept", "Accept-Language", "Accept-Encoding", "Content-Encoding", "Content-Type", "Cookie", "Host"]
HEADERS += ["If-Match", "If-Modified-Since", "If-None-Match", "If-Range", "If-Unmodified-Since", "Origin", "Purpose"]
HEADERS += ["Range", "Sec-Fetch-Mode", "Sec-Purpose", "Traceparent", "Transfer-Encoding", "X-Request-Id"]
ENDS = [
    ("", ""),
    ("a", "x"),
    ("a=", '"'),
    ("text/html", "x"),
    ("bytes=", "x"),
    ("multipart/form-data; boundary=b", "x"),
]
UNITS = [" ", "\t", ",", ";", '"', "a", "a,", "a=b;", "; ", ";a=", '"a",', '\\"', "%41", "*/*,", "zh;q=0.5,", "0-0,"]
ROUTES = [
    Request("GET", "/api/conversion/job-1"),
    Request("POST", "/api/conversion/check", content_type="application/x-www-form-urlencoded", body=b"size=1"),
    Request("POST", "/api/conversion/init", content_type="multipart/form-data; boundary=b", body=b"--b--\r\n"),
    Request("GET", "/api/models/absent/file"),
    Request("GET", "/auth/authorize", query="state=s&code=c", user_id=None),
    Request("POST", "/auth/logout", user_id=None),
    Request("GET", "/openapi.json", user_id=None),
    Request("GET", "/", user_id=None),
]


def assert_all_cheap(
    edge: Edge, texts: Iterable[tuple[str, str, str]], size: int, request: Callable[[str], Request]
) -> None:
    """Check the requests that `request` makes of texts, each given by its beginning, repeated unit and end."""
    for text in texts:
        fill = filled(*text)

        def make(size: int, fill: Callable[[int], str] = fill) -> Callable[[], str]:
            return prepared(edge, request(fill(size)))

        assert_cheap(make, size, text)


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_no_header_costs_much(edge: Edge, route: Request, name: str) -> None:
    texts = [(prefix, unit, suffix) for (prefix, suffix), unit in product(ENDS, UNITS)]
    assert_all_cheap(edge, texts, HEADER_BYTES, lambda text: replace(route, headers={**route.headers, name: text}))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/conversion/jobs"),
        ("GET", "/api/models"),
        ("GET", "/auth/login"),
        ("GET", "/auth/authorize"),
        ("GET", "/"),
        ("POST", "/api/conversion/check"),
    ],
)
def test_no_query_costs_much(edge: Edge, method: str, path: str) -> None:
    texts = product(
        ["next=/", "state=", "code=", "limit=", "cursor=", "lang=", ""],
        [" ", "a", "/", "../", "%2f", "%25", "%2525", "&", "a&", "a=b&", "=", "+", "\\", "%cc%81%cc%a3", "?", "#"],
        [""],
    )
    assert_all_cheap(edge, texts, LINE_BYTES, lambda text: Request(method, path, query=text))


def test_no_path_costs_much(edge: Edge) -> None:
    texts = product(
        ["/", "/api/conversion/", "/api/models/", "/console/v/", "/auth/"],
        ["/", "a", "a/", "../", "%", "\xcc\x81", "."],
        [""],
    )
    assert_all_cheap(edge, texts, LINE_BYTES, lambda text: Request("GET", text))


#: Combining marks in the wrong order, which to put right takes a time that grows with the square of their number.
MARKS = "\u0301\u0323"


@pytest.mark.parametrize("megabytes", [0.06, 0.5, 4])
def test_no_json_costs_much(edge: Edge, megabytes: float) -> None:
    texts = [
        ('{"name":"', MARKS, '"}'),
        ('{"name":"a', MARKS, '"}'),
        ('{"name":"', "\\u0301\\u0323", '"}'),
        ('{"name":"', " ", '"}'),
        ('{"name":"', "\u202e", '"}'),
        ('{"name":', "9", "}"),
        ('{"name":0.', "9", "}"),
        ('{"name":1e', "9", "}"),
        ('{"name":', "[", "}"),
        ("", '{"a":', ""),
        ("{", '"a":1,', '"b":1}'),
        ("[", "1,", "1]"),
        ("", " ", "{}"),
    ]
    size = int(megabytes * 1024**2)
    assert_all_cheap(edge, texts, size, lambda text: Request("PATCH", "/api/models/m", body=text.encode()))


def form(content_type: str, body: bytes) -> Request:
    return Request("POST", "/api/conversion/check", content_type=content_type, body=body)


@pytest.mark.parametrize("megabytes", [0.06, 0.5, 4])
def test_no_urlencoded_form_costs_much(edge: Edge, megabytes: float) -> None:
    texts = [
        ("", MARKS, "=1"),
        ("", "%CC%81%CC%A3", "=1"),
        ("a", " ", "=1"),
        ("", "%25", "=1"),
        ("", "%u0301%u0323", "=1"),
        ("", "a[", "=1"),
        ("", "a&", ""),
        ("", "a=b&", "a=b"),
        ("size=", "9", ""),
        ("filename=", MARKS, ""),
        ("a=", "%", ""),
        ("", "&", ""),
    ]
    kind = "application/x-www-form-urlencoded"
    assert_all_cheap(edge, texts, int(megabytes * 1024**2), lambda text: form(kind, text.encode()))


#: Header lines of a part: what stands before, what is repeated, what stands behind.
PART_HEADERS = [
    *product(
        ['Content-Disposition: form-data; name="', 'Content-Disposition: form-data; name="a"; filename="'],
        [MARKS, "\u202e", " ", "\\", '\\"', "%22", "=?utf-8?q?", "=?utf-8?q?a?= ", "%u0301", "a[", "%25", "\xff"],
        ['"', ""],
    ),
    *product(
        ['Content-Disposition: form-data; name="a"', "Content-Disposition: form-data"],
        [" ", "\t", ";", "; ", ' ;a="', ";a=b", "; a*0=b", ';a="\\"', "\\"],
        ["x", ""],
    ),
    *product(
        ["Content-Disposition: form-data; name=a; filename*=UTF-8''"], ["%41", "%", "a", "'", "(", ";a*=b"], ["", "\\"]
    ),
    *product(
        ['Content-Disposition: form-data; name="a"\r\nContent-Type: '], [" ", ";", ';a="', ";a=b", "a/"], ["x", ""]
    ),
    *product(['Content-Disposition: form-data; name="a"\r\n'], ["a: b\r\n", " b\r\n", "a", ":", " "], [""]),
]


def message_of(header: Callable[[int], str], size: int) -> bytes:
    """Return a message of parts with headers close to their limit."""
    one = header(min(size, 7_000)).encode("latin-1" if "\xff" in header(100) else "utf-8")
    return b"".join(b"--b\r\n" + one + b"\r\n\r\n1\r\n" for _ in range(max(1, size // 7_000))) + b"--b--\r\n"


@pytest.mark.parametrize("megabytes", [0.5, 8])
def test_no_multipart_form_costs_much(edge: Edge, megabytes: float) -> None:
    kind = "multipart/form-data; boundary=b"
    parameters = filled('--b\r\nContent-Disposition: form-data; name="a"', ";a=b", "\r\n\r\n1\r\n--b--\r\n")
    small_parts = filled("", '--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n', "--b--\r\n")
    messages: list[Callable[[int], bytes]] = [
        lambda size: parameters(size).encode(),
        lambda size: small_parts(size).encode(),
    ]
    for prefix, unit, suffix in PART_HEADERS:
        header = filled(prefix, unit, suffix)
        messages.append(lambda size, header=header: message_of(header, size))  # type: ignore[misc]
    for number, message in enumerate(messages):

        def make(size: int, message: Callable[[int], bytes] = message) -> Callable[[], str]:
            return prepared(edge, form(kind, message(size)))

        assert_cheap(make, int(megabytes * 1024**2), number)


def recompose(body: Iterable[bytes]) -> None:
    with suppress(GatewayError):
        for _ in UploadMessage(body, "b", "alice", max_parts=2_000):
            pass


#: CPU seconds for a megabyte of part headers: they are taken apart, which costs more than content, but not endlessly.
SECONDS_PER_MEGABYTE_OF_HEADERS = 0.5


@pytest.mark.parametrize(("prefix", "unit", "suffix"), PART_HEADERS, ids=repr)
def test_headers_of_an_uploads_parts_cost_in_proportion_to_their_size(prefix: str, unit: str, suffix: str) -> None:
    header = filled(prefix, unit, suffix)
    most = 0.35 * SECONDS_PER_MEGABYTE_OF_HEADERS
    assert cost_of(lambda: recompose([message_of(header, 350_000)]), enough=most) < most
    costs = [cost_of(lambda size=size: recompose([message_of(header, size)])) for size in (3_500, 7_000)]  # type: ignore[misc]
    assert costs[1] <= max(NEGLIGIBLE_SECONDS, MOST_GROWTH * costs[0])


def test_an_upload_that_comes_byte_by_byte_costs_in_proportion_to_its_size() -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="model"; filename="m"\r\n\r\n'

    def cost(size: int, prefix: bytes) -> float:
        return cost_of(lambda: recompose(prefix[i : i + 1] for i in range(min(len(prefix), size))))

    for whole in (head + b"x" * 20_000, b"y" * 16_000, head[:20] + b"n" * 8_000):
        assert cost(len(whole), whole) <= MOST_GROWTH * cost(len(whole) // 2, whole)


@pytest.mark.parametrize(
    "act", [clean_name, lambda text: clean_filename(text, "file"), claims_identity], ids=["name", "file name", "field"]
)
@pytest.mark.parametrize("unit", [MARKS, "a" + MARKS, "\u0344\u0323", "\u302e\u302a", " ", "\u202e", "[", "%25", "."])
def test_names_cost_in_proportion_to_their_length(act: Callable[[str], object], unit: str) -> None:
    text = filled("", unit, "")
    costs = [cost_of(lambda size=size: act(text(size))) for size in (20_000, 40_000)]  # type: ignore[misc]
    assert costs[1] <= max(NEGLIGIBLE_SECONDS, MOST_GROWTH * costs[0])


def test_a_content_type_costs_in_proportion_to_its_length() -> None:
    for (prefix, suffix), unit in product(ENDS, UNITS):
        text = filled("multipart/form-data;" + prefix, unit, suffix)

        def read(size: int, text: Callable[[int], str] = text) -> None:
            with suppress(GatewayError):
                parse_boundary(text(size))

        assert cost_of(lambda read=read: read(16_000)) < NEGLIGIBLE_SECONDS  # type: ignore[misc]


def test_these_tests_go_up_to_the_limits_of_forms() -> None:
    assert MAX_SMALL_BODY_BYTES == 64 * 1024
    assert MAX_FORM_BYTES <= 8.25 * 1024**2
