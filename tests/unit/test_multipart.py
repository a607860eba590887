"""Re-composition: one message in, another out, and no end to it unless there was one.

What other readers make of hostile messages, and of arrivals cut anywhere, is in tests/corpus.
"""

import hashlib
import tracemalloc
from collections.abc import Callable, Iterable, Iterator

import pytest
from multipart import ParserLimitReached

from app.errors import GatewayError, InvalidRequestError, PayloadTooLargeError, UnsupportedMediaTypeError
from app.streaming import Chunk
from app.streaming.content import MAX_FIELD_BYTES
from app.streaming.events import MAX_PART_HEADERS, MessageEvents
from app.streaming.inbound import IncompleteBodyError
from app.streaming.multipart import (
    JOIN_BELOW_BYTES,
    UploadMessage,
    canonical_content_type,
    parse_boundary,
)
from app.streaming.part_headers import MAX_NAME_BYTES, MAX_PART_HEADER_BYTES, require_readable
from tests.corpus import readers
from tests.corpus.giving import lent

#: A part as any parser sees it: name, file name (None for a field), content.
Part = tuple[str, str | None, bytes]


def part(name: str, content: bytes = b"", filename: str | None = None, *headers: str) -> bytes:
    """One inbound part, written as browsers do."""
    file = "" if filename is None else f'; filename="{filename}"'
    lines = [f'Content-Disposition: form-data; name="{name}"{file}', *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def inbound(*parts: bytes, boundary: bytes = b"b", end: bytes = b"--\r\n") -> bytes:
    return b"".join(b"--" + boundary + b"\r\n" + one + b"\r\n" for one in parts) + b"--" + boundary + end


def recompose(
    data: bytes | Iterable[bytes], *, boundary: str = "b", max_parts: int = 100
) -> tuple[UploadMessage, bytes]:
    message = UploadMessage([data] if isinstance(data, bytes) else data, boundary, "alice", max_parts=max_parts)
    return message, b"".join(message)


def outbound_boundary(message: UploadMessage) -> str:
    return message.content_type.partition("boundary=")[2]


def read_by_multipart(message: UploadMessage, data: bytes) -> list[Part]:
    return [(one.name, one.filename, one.content) for one in readers.read_by_multipart(message.content_type, data)]


MODEL = part("model", b"\x00\x01\r\n--model", "m.onnx", "Content-Type: application/octet-stream")


def test_facts_are_learned_on_the_way() -> None:
    message, _ = recompose(inbound(part("platform", b"KL730"), MODEL, part("user_id", b"bob"), part("x", b"\xff")))
    facts = message.facts
    assert message.progress.is_whole
    assert (facts.filename, facts.model_bytes, facts.parts, facts.dropped_identities) == ("m.onnx", 11, 4, 1)


def test_the_boundary_is_fresh_for_every_message() -> None:
    boundaries = {outbound_boundary(recompose(inbound(MODEL))[0]) for _ in range(20)}
    assert len(boundaries) == 20
    assert all(len(boundary) >= 32 for boundary in boundaries)


@pytest.mark.parametrize("size", [1, 2, 3, 100, JOIN_BELOW_BYTES, 10 * JOIN_BELOW_BYTES])
def test_what_arrived_goes_out_before_more_is_asked_for(size: int) -> None:
    given_out = 0

    def source() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="version"\r\n\r\nv1\r\n'
        yield b'--b\r\nContent-Disposition: form-data; name="model"; filename="m"\r\n\r\n'
        for count in range(100):
            assert given_out >= count * size, "bytes that arrived are held back"
            yield b"x" * size
        yield b"\r\n--b--\r\n"

    for chunk in UploadMessage(source(), "b", "alice", max_parts=10):
        given_out += chunk.count(b"x")
    assert given_out >= 100 * size


def test_a_large_arrival_goes_out_as_it_is_and_is_not_copied() -> None:
    arrival = b"x" * (1 << 20)
    source = [b'--b\r\nContent-Disposition: form-data; name="model"; filename="m"\r\n\r\n', arrival, b"\r\n--b--\r\n"]
    chunks = list(UploadMessage(source, "b", "alice", max_parts=10))
    assert next(chunk for chunk in chunks if len(chunk) == len(arrival)) is arrival


def test_the_digest_is_of_what_a_lent_buffer_held_and_not_of_what_it_holds_by_then() -> None:
    pieces = [bytes([number]) * 300_000 for number in range(40)]
    head = b'--b\r\nContent-Disposition: form-data; name="model"; filename="m"\r\n\r\n'
    source = lent([head, *pieces, b"\r\n--b--\r\n"])
    message = UploadMessage(source, "b", "alice", max_parts=10, wants_digest=True)
    for _ in message:
        pass
    assert message.facts.model_sha256 == hashlib.sha256(b"".join(pieces)).hexdigest()


class Watcher:
    """Takes a copy of every part that it sees."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str | None, bytearray]] = []

    def watch(self, name: str, *, file_name: str | None) -> Callable[[Chunk], object] | None:
        if name == "version":
            return None
        content = bytearray()
        self.seen.append((name, file_name, content))
        return content.extend


def test_a_watcher_sees_the_parts_that_are_passed_on_as_they_pass() -> None:
    pieces = [bytes([number]) * 300_000 for number in range(9)]
    fields = {b"user_id": b"bob", b"platform": b"720", b"version": b"0001"}
    head = b"".join(
        b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % field for field in fields.items()
    )
    model = b'--b\r\nContent-Disposition: form-data; name="model"; filename="m"\r\n\r\n'
    watcher = Watcher()
    message = UploadMessage(
        lent([head + model, *pieces, b"\r\n--b--\r\n"]), "b", "alice", max_parts=10, wants_digest=True, watcher=watcher
    )
    for _ in message:
        pass
    assert watcher.seen == [("platform", None, b"720"), ("model", "m", b"".join(pieces))]
    assert message.facts.model_sha256 == hashlib.sha256(b"".join(pieces)).hexdigest()


def test_tiny_parts_at_hand_go_out_together() -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="ref_images[]"; filename="i"\r\n\r\n1\r\n'
    chunks = list(UploadMessage([part * 1000 + b"--b--\r\n"], "b", "alice", max_parts=1000))
    assert len(chunks) < 20


# --- who is asking


@pytest.mark.parametrize("filename", [None, "user.txt"], ids=["field", "file"])
def test_a_part_that_claims_to_say_who_asks_is_dropped_wherever_it_stands(filename: str | None) -> None:
    claim = part("user_id", b"mallory" * 100_000 if filename else b"mallory", filename)
    message, out = recompose(inbound(claim, part("a", b"1"), claim, MODEL, claim))
    assert b"mallory" not in out
    assert [(one[0], one[2]) for one in read_by_multipart(message, out)][:2] == [("user_id", b"alice"), ("a", b"1")]
    assert out.count(b"user_id") == 1
    assert message.facts.dropped_identities == 3
    assert message.progress.is_whole


def test_an_empty_message_still_says_who_asks() -> None:
    message, out = recompose(b"--b--\r\n")
    assert read_by_multipart(message, out) == [("user_id", None, b"alice")]


# --- what is refused


@pytest.mark.parametrize(
    "name",
    ['a\\"b', "a\\\\b", "a\tb", "a\0b", "a\x7fb", "a\x85b", "a\u2028b", "a;b", "=?utf-8?q?user=5Fid?=", ""],
    ids=ascii,
)
def test_a_name_that_parsers_read_differently_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequestError):
        recompose(inbound(part(name, b"1")))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"hello", id="no multipart"),
        pytest.param(inbound(MODEL, end=b""), id="no end"),
        pytest.param(inbound(MODEL, end=b"-"), id="half an end"),
        pytest.param(inbound(MODEL)[:-30], id="cut within the content"),
        pytest.param(b"--b\r\nContent-Dispo", id="cut within a header"),
        pytest.param(b"--b\r\n\r\n1\r\n--b--\r\n", id="no headers"),
        pytest.param(b"--b\r\nX: y\r\n\r\n1\r\n--b--\r\n", id="no disposition"),
        pytest.param(b"--b\r\nContent-Disposition: attachment; name=a\r\n\r\n1\r\n--b--\r\n", id="another disposition"),
        pytest.param(b"--b\r\nContent-Disposition: form-data\r\n\r\n1\r\n--b--\r\n", id="no name"),
        pytest.param(b"--b\nContent-Disposition: form-data; name=a\n\n1\n--b--\n", id="bare line feeds"),
        pytest.param(b"--b\r\nno colon\r\n\r\n1\r\n--b--\r\n", id="a header that is none"),
        pytest.param(b'--b\r\nContent-Disposition: form-data; name="\xff"\r\n\r\n1\r\n--b--\r\n', id="no UTF-8"),
        pytest.param(inbound(MODEL).replace(b"--b--", b"--bX"), id="another boundary"),
    ],
)
def test_a_malformed_message_is_refused_and_its_end_never_given_out(data: bytes) -> None:
    message = UploadMessage([data] if data else [], "b", "alice", max_parts=10)
    given: list[bytes] = []
    with pytest.raises(InvalidRequestError):
        given.extend(message)
    assert not message.progress.is_whole
    assert f"--{outbound_boundary(message)}--".encode() not in b"".join(given)


@pytest.mark.parametrize("failure", [IncompleteBodyError("cut"), PayloadTooLargeError("total"), RuntimeError("a bug")])
@pytest.mark.parametrize("cut", [0, 10, 60, 100, -10, -1])
def test_when_the_source_fails_its_failure_comes_out_and_no_end(failure: Exception, cut: int) -> None:
    data = inbound(MODEL, part("z", b"1"))

    def source() -> Iterator[bytes]:
        if data[:cut]:
            yield data[:cut]
        raise failure

    message = UploadMessage(source(), "b", "alice", max_parts=10)
    given: list[bytes] = []
    with pytest.raises(type(failure)) as caught:
        given.extend(message)
    assert caught.value is failure
    assert not message.progress.is_whole
    assert f"--{outbound_boundary(message)}--".encode() not in b"".join(given)
    with pytest.raises(RuntimeError, match="once"):
        next(iter(message))
    assert not message.progress.is_whole


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_message_cut_anywhere_near_its_end_is_never_whole(cut: int) -> None:
    data = inbound(MODEL)
    whole = len(data) - len(b"\r\n")  # the last line break is not needed
    if cut <= 2:
        assert recompose(data[: len(data) - cut])[0].progress.is_whole
        return
    message = UploadMessage([data[: whole - cut + 2]], "b", "alice", max_parts=10)
    with pytest.raises(InvalidRequestError):
        list(message)
    assert not message.progress.is_whole


# --- limits


def test_exactly_as_many_parts_as_allowed_and_not_one_more() -> None:
    parts = [part(f"p{number}", b"1") for number in range(1_000)]
    message, _ = recompose(inbound(*parts), max_parts=1_000)
    assert message.facts.parts == 1_000
    with pytest.raises(PayloadTooLargeError, match="1000 parts"):
        recompose(inbound(*parts, part("more")), max_parts=1_000)


def test_limits_are_told_apart_without_the_words_of_the_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version of the library may say it in other words."""
    monkeypatch.setattr(ParserLimitReached, "__str__", lambda _self: "a limit")
    with pytest.raises(PayloadTooLargeError, match="at most 2 parts"):
        recompose(inbound(part("a"), part("b"), part("c")), max_parts=2)
    with pytest.raises(PayloadTooLargeError, match="headers"):
        recompose(inbound(part("a", b"", None, *["X: 1"] * MAX_PART_HEADERS)), max_parts=2)


def test_a_field_of_exactly_the_limit_and_one_byte_more() -> None:
    recompose(inbound(part("a", b"x" * MAX_FIELD_BYTES)))
    with pytest.raises(PayloadTooLargeError, match="field"):
        recompose(inbound(part("a", b"x" * (MAX_FIELD_BYTES + 1))))


def test_a_file_has_no_limit_of_its_own() -> None:
    message, _ = recompose(inbound(part("model", b"x" * (MAX_FIELD_BYTES + 1), "m")))
    assert message.facts.model_bytes == MAX_FIELD_BYTES + 1


def test_a_name_of_exactly_the_limit_and_one_byte_more() -> None:
    recompose(inbound(part("n" * MAX_NAME_BYTES)))
    with pytest.raises(PayloadTooLargeError, match="name"):
        recompose(inbound(part("n" * (MAX_NAME_BYTES + 1))))
    with pytest.raises(PayloadTooLargeError, match="name"):
        recompose(inbound(part("模" * (MAX_NAME_BYTES // 3 + 1))))


def test_headers_are_limited_in_length_and_number() -> None:
    recompose(inbound(part("a", b"", None, *(f"X-{number}: y" for number in range(MAX_PART_HEADERS - 1)))))
    with pytest.raises(PayloadTooLargeError):
        recompose(inbound(part("a", b"", None, *(f"X-{number}: y" for number in range(MAX_PART_HEADERS)))))
    with pytest.raises(PayloadTooLargeError):
        recompose(inbound(part("a", b"", None, "X: " + "y" * MAX_PART_HEADER_BYTES)))
    with pytest.raises(PayloadTooLargeError):
        recompose([b"--b\r\nX: ", *[b"y" * 1_000] * 20])


# --- headers that somebody chose


@pytest.mark.parametrize(
    ("filename", "arrives"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\\\models\\\\m.onnx", "m.onnx"),
        ('a\\"; name=\\"user_id', "a_ name=user_id"),
        ("", "file"),
        ("..", "file"),
        ("模型.onnx", "模型.onnx"),
        ("a\tb.onnx", "ab.onnx"),
        ("a;b.onnx", "a_b.onnx"),
        ("a.onnx;", "a.onnx"),
        ("x" * 300 + ".onnx", "x" * 250 + ".onnx"),
    ],
)
def test_a_hostile_file_name_arrives_tamed(filename: str, arrives: str) -> None:
    message, out = recompose(inbound(part("model", b"data", filename)))
    assert read_by_multipart(message, out) == [("user_id", None, b"alice"), ("model", arrives, b"data")]
    assert message.facts.filename == arrives


@pytest.mark.parametrize(
    "value",
    [
        "text/plain",
        "application/octet-stream",
        "image/svg+xml",
        "text/plain; charset=utf-8",
        'text/plain;charset="utf-8"',
    ],
)
def test_a_plain_content_type_is_passed_on(value: str) -> None:
    assert canonical_content_type(value) == value
    assert f"Content-Type: {value}".encode() in recompose(inbound(part("a", b"", "f", f"Content-Type: {value}")))[1]


@pytest.mark.parametrize(
    "value",
    [
        "",
        "text",
        "text/",
        "multipart/mixed; boundary=a b",
        # Readers of mail look into these, and would find what nobody has checked.
        "multipart/mixed; boundary=zz",
        "Multipart/Form-Data; boundary=zz",
        "message/rfc822",
        "application/x-www-form-urlencoded",
        'text/plain; a="\'\\"',
        "x" * 500 + "/y",
        "tëxt/plain",
        "text/plain, text/html",
    ],
)
def test_any_other_content_type_becomes_octets_or_none(value: str) -> None:
    assert canonical_content_type(value) is None
    message, out = recompose(
        inbound(part("f", b"1", "f", f"Content-Type: {value}"), part("a", b"2", None, f"Content-Type: {value}"))
    )
    assert out.count(b"Content-Type: ") == 1
    assert b"Content-Type: application/octet-stream\r\n" in out
    assert [one[2] for one in read_by_multipart(message, out)] == [b"alice", b"1", b"2"]


def test_no_other_header_of_a_part_is_passed_on() -> None:
    _, out = recompose(
        inbound(part("a", b"1", None, "Content-Transfer-Encoding: binary", "X-Evil: 1", "Content-Length: 1"))
    )
    assert b"Evil" not in out
    assert b"Transfer-Encoding" not in out
    assert b"Content-Length" not in out


def test_preamble_and_epilogue_are_not_passed_on() -> None:
    message, out = recompose(
        b"preamble\r\n" + inbound(MODEL) + b"--b\r\nepilogue\r\n" + inbound(part("user_id", b"bob"))
    )
    assert b"preamble" not in out
    assert b"epilogue" not in out
    assert len(read_by_multipart(message, out)) == 2


# --- the boundary


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=abc", "abc"),
        ('Multipart/Form-Data; charset=utf-8; boundary="a b:c?d=e"', "a b:c?d=e"),
        ("multipart/form-data; boundary=" + "x" * 200, "x" * 200),
        ("multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxk", "----WebKitFormBoundary7MA4YWxk"),
        ("multipart/form-data; boundary=*****", "*****"),
        ("multipart/form-data;boundary={8a1c-44} ; charset=utf-8", "{8a1c-44}"),
        ('multipart/form-data; boundary="|||~ # & @ ! % <>[]^`$"', "|||~ # & @ ! % <>[]^`$"),
        ("multipart/form-data; boundary=a b", "a b"),
    ],
)
def test_a_usable_boundary_is_read(content_type: str, boundary: str) -> None:
    assert parse_boundary(content_type) == boundary


@pytest.mark.parametrize(
    "content_type", [None, "", "application/json", "multipart/mixed; boundary=a", "form-data", "\0"]
)
def test_anything_but_form_data_is_unsupported(content_type: str | None) -> None:
    with pytest.raises(UnsupportedMediaTypeError):
        parse_boundary(content_type)


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "; boundary=",
        '; boundary=""',
        "; boundary=" + "x" * 201,
        '; boundary="a "',
        '; boundary="a\nb"',
        "; boundary=ä",
        '; boundary="a\\"b"',
        '; boundary=" a"',
        "; boundary=a; boundary=b",
        "; boundary*=UTF-8''a",
    ],
)
def test_form_data_without_a_usable_boundary_is_malformed(rest: str) -> None:
    with pytest.raises(InvalidRequestError):
        parse_boundary("multipart/form-data" + rest)


def test_every_refusal_is_the_callers() -> None:
    for failure in (InvalidRequestError("x"), PayloadTooLargeError("x"), UnsupportedMediaTypeError()):
        assert isinstance(failure, GatewayError)
        assert failure.entry.blame == "user"


@pytest.mark.parametrize("control", ["\0", "\n", "\r", "\x1f", "\x7f"])
def test_a_control_character_in_a_header_is_refused_whatever_the_parser_lets_through(control: str) -> None:
    with pytest.raises(InvalidRequestError, match="control character"):
        require_readable([("Content-Disposition", 'form-data; name="model"'), ("X-Other", f"a{control}b")])


def test_of_large_content_in_a_lent_buffer_only_the_ends_are_copied() -> None:
    """Copies would lie in as many heaps as there are threads, and stay there."""
    model = bytes(range(256)) * 16_000
    buffer = memoryview(bytearray(inbound(part("version", b"v1"), part("model", model, "m.onnx"), part("x", b"y"))))
    size = 0
    tracemalloc.start()
    for event in MessageEvents([buffer[:]], "b", 10):
        if isinstance(event, bytes | memoryview):
            size += len(event)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size == len(b"v1") + len(model) + len(b"y")
    assert peak < len(model) / 4
