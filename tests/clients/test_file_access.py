"""Pulling a file from a real server that cuts, changes, lies and forgets: the bytes are right, or there are none."""

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.errors import (
    FileServiceUnavailableError,
    GatewayError,
    ResultMissingError,
    StorageUnavailableError,
)
from tests.clients.upstreams import Clients, LocalServer, Request, Script, Sink, Wire, clients_of, response, serving
from tests.support.fakes import call_context

FILE = bytes(range(256)) * 40


@dataclass
class FileServer:
    """Serves one file with ranges; `cuts` says after how many bytes each response is cut off (None: not)."""

    content: bytes = FILE
    etag: str | None = '"v1"'
    cuts: list[int | None] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    change: Callable[["FileServer", int], None] = lambda server, number: None
    is_chunked: bool = False
    honours_if_range: bool = True
    honours_range: bool = True

    def __call__(self, wire: Wire) -> None:
        request = wire.read_head()
        self.requests.append(request)
        number = len(self.requests)
        self.change(self, number)
        headers = {"ETag": self.etag} if self.etag else {}
        start, status = 0, 200
        asked = re.fullmatch(r"bytes=([0-9]+)-", request.headers.get("range", ""))
        is_same = request.headers.get("if-range") == self.etag or not self.honours_if_range
        if asked and is_same and self.honours_range:
            start, status = int(asked[1]), 206
            headers["Content-Range"] = f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
            if start >= len(self.content):
                wire.send(response(b"", 416, {"Content-Range": f"bytes */{len(self.content)}"}))
                return
        body = self.content[start:]
        cut = self.cuts[number - 1] if number <= len(self.cuts) else None
        if self.is_chunked:
            headers["Transfer-Encoding"] = "chunked"
            head = response(b"", status, headers).replace(b"Content-Length: 0\r\n", b"")
            sent = body if cut is None else body[:cut]
            wire.send(
                head + (b"%x\r\n%s\r\n" % (len(sent), sent) if sent else b"") + (b"0\r\n\r\n" if cut is None else b"")
            )
            return
        whole = response(body, status, headers)
        wire.send(whole if cut is None else whole[: len(whole) - len(body) + cut])


def pull(server: FileServer) -> tuple[Sink, Clients]:
    sink = Sink()
    with clients_of(server) as (clients, _):
        size = clients.files.pull("a/b", sink, call_context())
    assert size == len(sink.data)
    return sink, clients


def pull_failure(talk: Callable[[Wire], None]) -> tuple[GatewayError, Clients]:
    with clients_of(talk) as (clients, _):
        with pytest.raises(GatewayError) as caught:
            clients.files.pull("a/b", Sink(), call_context())
        return caught.value, clients


@pytest.fixture(scope="module")
def any_server() -> Iterator[LocalServer]:
    """One listener for many examples; each sets what it speaks."""
    with serving(lambda wire: None) as server:
        yield server


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=2_000),
    cuts=st.lists(st.floats(0, 1), max_size=2),
    etag=st.sampled_from(['"v1"', 'W/"v1"', None]),
    is_chunked=st.booleans(),
)
def test_a_pull_survives_two_cuts_at_any_byte_with_the_right_hash(
    any_server: LocalServer, content: bytes, cuts: list[float], etag: str | None, is_chunked: bool
) -> None:
    speaker = FileServer(content, etag, is_chunked=is_chunked)
    # To learn that a chunked body has no more costs a try: see its own test. So it is cut once only.
    speaker.cuts = [int(cut * len(content)) for cut in (cuts[:1] if is_chunked else cuts)]
    any_server.talk = speaker
    clients, sink = Clients(any_server.url), Sink()
    assert clients.files.pull("a/b", sink, call_context()) == len(content)
    clients.close()
    assert hashlib.sha256(sink.data).digest() == hashlib.sha256(content).digest()
    assert clients.sleep.waits == [1.0, 2.0][: len(speaker.requests) - 1]


@pytest.mark.parametrize("cut", [0, 1, 4_096, len(FILE) - 1])
def test_a_pull_that_was_cut_off_goes_on_where_it_stopped(cut: int) -> None:
    server = FileServer(cuts=[cut])
    sink, clients = pull(server)
    assert sink.data == FILE
    assert sink.restarts == 0
    assert clients.sleep.waits == [1.0]
    again = server.requests[1].headers
    assert (again.get("range"), again.get("if-range")) == ((f"bytes={cut}-", '"v1"') if cut else (None, None))


@pytest.mark.parametrize("cuts", [[0, 0, 0], [10, 10, 10], [0, 10, 0], [10, 0, 0]])
def test_a_third_cut_is_the_end(cuts: list[int | None]) -> None:
    server = FileServer(cuts=cuts)
    failure, clients = pull_failure(server)
    assert isinstance(failure, FileServiceUnavailableError)
    assert len(server.requests) == 3
    assert clients.sleep.waits == [1.0, 2.0]


def test_every_try_counts_whatever_it_failed_of() -> None:
    """A pull has two retries, before and after its first byte together."""
    whole = response(FILE, headers={"ETag": '"v1"'})
    script = Script([response(b"", 503), whole[:500], response(b"", 503)])
    failure, clients = pull_failure(script)
    assert isinstance(failure, FileServiceUnavailableError)
    assert len(script.requests) == 3
    assert clients.sleep.waits == [1.0, 2.0]


def test_a_server_that_is_away_while_a_pull_would_go_on_is_waited_for() -> None:
    server = FileServer(cuts=[100])
    sink = Sink()
    with clients_of(server) as (clients, _):
        here = clients.upstream.base_url

        def come_and_go(seconds: float) -> None:
            clients.sleep.waits.append(seconds)
            clients.upstream.base_url = "http://nobody.invalid" if seconds == 1.0 else here

        clients.retrier._sleep = come_and_go
        assert clients.files.pull("a/b", sink, call_context()) == len(FILE)
    assert sink.data == FILE
    assert clients.sleep.waits == [1.0, 2.0]


@pytest.mark.parametrize("etag", ['W/"v1"', None, "v1", '""x"'])
def test_without_a_strong_etag_nothing_proves_that_the_rest_belongs_to_it_so_all_is_pulled_again(
    etag: str | None,
) -> None:
    server = FileServer(etag=etag, cuts=[100])
    sink, _ = pull(server)
    assert sink.data == FILE
    assert sink.restarts == 1
    assert "range" not in server.requests[1].headers


OTHER = bytes(reversed(FILE))


@pytest.mark.parametrize("honours_if_range", [True, False])
def test_a_file_that_changed_meanwhile_is_pulled_from_its_beginning(honours_if_range: bool) -> None:
    """A server that honours If-Range sends 200, one that does not sends a 206 with another ETag: never a mixture."""

    def change(server: FileServer, number: int) -> None:
        if number == 2:
            server.content, server.etag = OTHER, '"v2"'

    server = FileServer(cuts=[100], change=change, honours_if_range=honours_if_range)
    sink, clients = pull(server)
    assert sink.data == OTHER
    assert sink.restarts == 1
    assert len(server.requests) == (2 if honours_if_range else 3)
    assert len(clients.sleep.waits) == len(server.requests) - 1


def test_a_server_that_knows_no_ranges_sends_all_again() -> None:
    sink, _ = pull(FileServer(cuts=[100], honours_range=False))
    assert sink.data == FILE
    assert sink.restarts == 1


WHOLE = response(FILE, headers={"ETag": '"v1"'})
CUT = WHOLE[: len(WHOLE) - len(FILE) + 100]
SIZE = len(FILE)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({"Content-Range": f"bytes 99-{SIZE - 1}/{SIZE}", "ETag": '"v1"'}, 206, id="another offset"),
        pytest.param({"Content-Range": f"bytes 100-{SIZE - 1}/{SIZE + 1}", "ETag": '"v1"'}, 206, id="another size"),
        pytest.param({"Content-Range": f"bytes 100-{SIZE - 1}/*", "ETag": '"v1"'}, 206, id="a size unsaid"),
        pytest.param({"Content-Range": "bytes", "ETag": '"v1"'}, 206, id="no range"),
        pytest.param({"ETag": '"v1"'}, 206, id="none at all"),
        pytest.param({"Content-Range": f"bytes 100-{SIZE - 1}/{SIZE}"}, 206, id="no ETag"),
        pytest.param({"Content-Range": f"bytes 100-{SIZE - 1}/{SIZE}", "ETag": 'W/"v1"'}, 206, id="a weak ETag"),
        pytest.param({"Content-Range": "bytes */50"}, 416, id="shorter than what we have"),
    ],
)
def test_a_rest_that_is_not_provably_the_rest_is_thrown_away(headers: dict[str, str], status: int) -> None:
    script = Script([CUT, response(b"x" * (SIZE - 100), status, headers), WHOLE])
    sink = Sink()
    with clients_of(script) as (clients, _):
        clients.files.pull("a/b", sink, call_context())
    assert sink.data == FILE
    assert sink.restarts == 1
    assert "range" not in script.requests[2].headers


def test_a_chunked_file_that_was_cut_after_its_last_byte_is_not_taken_for_whole() -> None:
    sink, _ = pull(FileServer(is_chunked=True, cuts=[SIZE]))
    assert sink.data == FILE


def test_an_empty_file_is_a_file() -> None:
    sink, clients = pull(FileServer(content=b""))
    assert sink.data == b""
    assert clients.sleep.waits == []


@pytest.mark.parametrize("status", [404, 410])
def test_a_missing_file_is_missing_also_in_the_middle(status: int) -> None:
    for script in (Script([response(b"", status)]), Script([CUT, response(b"", status)])):
        failure, _ = pull_failure(script)
        assert isinstance(failure, ResultMissingError)


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("before", [[], [CUT]], ids=["at the beginning", "in the middle"])
def test_a_refused_token_is_replaced_once(status: int, before: list[bytes]) -> None:
    server = FileServer()
    script = Script([*before, response(b"", status), WHOLE])
    if before:
        script.responses[-1] = response(
            FILE[100:], 206, {"Content-Range": f"bytes 100-{SIZE - 1}/{SIZE}", "ETag": '"v1"'}
        )
    sink = Sink()
    with clients_of(script) as (clients, _):
        assert clients.files.pull("a/b", sink, call_context()) == SIZE
    assert sink.data == server.content
    assert [request.headers["authorization"] for request in script.requests][-2:] == [
        "Bearer token-1",
        "Bearer token-2",
    ]
    assert clients.token_source.scopes == ["files:download.read"] * 2


def test_a_receiver_that_fails_ends_the_pull_with_its_own_failure() -> None:
    """If our disk is full, the FAA is not blamed, and the pull is not retried."""

    class Full(Sink):
        def write(self, data: bytes) -> None:
            raise StorageUnavailableError("no space left")

    server = FileServer()
    with clients_of(server) as (clients, _), pytest.raises(StorageUnavailableError):
        clients.files.pull("a/b", Full(), call_context())
    assert len(server.requests) == 1


def test_a_stall_in_the_middle_is_resumed_after_the_idle_time() -> None:
    def talk(wire: Wire) -> None:
        if not server.requests:
            server.requests.append(wire.read_head())
            wire.send(CUT)
            wire.wait_for_end()
        else:
            server(wire)

    server = FileServer()
    sink = Sink()
    with clients_of(talk, seconds=0.3) as (clients, _):
        clients.files.pull("a/b", sink, call_context())
    assert sink.data == FILE
    assert clients.sleep.waits == [1.0]


def test_nothing_but_identity_is_asked_for_and_anything_else_refused() -> None:
    script = Script([response(b"\x1f\x8b", headers={"Content-Encoding": "gzip"})])
    failure, _ = pull_failure(script)
    assert isinstance(failure, FileServiceUnavailableError)
    assert script.requests[0].headers["accept-encoding"] == "identity"


def test_the_browsers_address_comes_from_the_configuration_alone() -> None:
    clients = Clients("http://internal:9000")
    url = clients.files.download_url("results/a b.nef", "t&=?#/+%")
    assert url == "https://files.example/files/results/a%20b.nef?access_token=t%26%3D%3F%23%2F%2B%25"


def test_a_continuation_that_ends_before_the_file_does_is_gone_on_from() -> None:
    """A server may send less of a range than was requested. The rest is requested again."""
    requests: list[str] = []

    def talk(wire: Wire) -> None:
        asked = wire.read_head().headers.get("range", "")
        requests.append(asked)
        if not asked:
            whole = response(FILE, 200, {"ETag": '"v1"'})
            wire.send(whole[: len(whole) - len(FILE) + 100])
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        end = min(start + 8_000, len(FILE))
        headers = {"ETag": '"v1"', "Content-Range": f"bytes {start}-{end - 1}/{len(FILE)}"}
        wire.send(response(FILE[start:end], 206, headers))

    sink = Sink()
    with clients_of(talk) as (clients, _):
        assert clients.files.pull("a/b", sink, call_context()) == len(FILE)
    assert bytes(sink.data) == FILE
    assert requests == ["", "bytes=100-", "bytes=8100-"]
