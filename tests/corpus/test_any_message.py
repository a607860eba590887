"""Any message at all, in any arrivals: one outcome, and what was sent is what is read."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.corpus.giving import cut, give, lent
from tests.corpus.judgement import assert_every_reader_sees, could_mean_an_identity
from tests.corpus.readers import Part, read_by_multipart

BOUNDARY = "b-1"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"

#: What boundaries, line ends and headers are made of, so that contents are full of beginnings of them.
FRAGMENTS = st.sampled_from(
    [b"\r", b"\n", b"\r\n", b"-", b"--", b"b", b"b-1", b"--b-1", b"\r\n--b-", b"\r\n--b-1-", b"\n--b-1\r\n", b"x"]
)
CONTENTS = st.one_of(st.binary(max_size=300), st.lists(FRAGMENTS, max_size=15).map(b"".join)).filter(
    lambda content: b"\r\n--b-1" not in b"\r\n" + content
)
#: Names that nobody reads in two ways, some of them claims.
NAMES = st.one_of(
    st.sampled_from(["model", "ref_images", "user"]),
    st.sampled_from(["user_id", "tenant_id", "User-ID", "ｕｓｅｒ＿ｉｄ", "a[user%5Fid]"]),
    st.text(
        st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters='"\\;%?'), min_size=1, max_size=20
    ),
)
PARTS = st.builds(Part, NAMES, CONTENTS, st.none() | st.sampled_from(["m.onnx", "模型.onnx", "user_id"]))
CUTS = st.lists(st.integers(min_value=0), max_size=8)

#: Parts that may be anything at all.
RAW_HEADS = st.lists(
    st.sampled_from(
        [
            b"Content-Disposition: form-data; ",
            b'name="a"',
            b'name="user_id"',
            b"name=a",
            b"name*=utf-8''user_id",
            b'filename="f"',
            b"filename*=utf-8''f",
            b"; ",
            b"\r\n",
            b"\r\n ",
            b"\n",
            b"\r",
            b"Content-Type: text/plain",
            b"Content-Transfer-Encoding: base64",
            b"Content-Length: 1",
            b"\\",
            b'"',
            b"\0",
            b"\xff",
            b": ",
        ]
    ),
    max_size=8,
).map(b"".join)
WILD = st.lists(
    st.one_of(
        FRAGMENTS,
        RAW_HEADS,
        st.sampled_from([b"--b-1\r\n", b"\r\n--b-1\r\n", b"\r\n--b-1--\r\n", b"\r\n\r\n"]),
        st.just(b'Content-Disposition: form-data; name="a"\r\n\r\n'),
    ),
    max_size=20,
).map(b"".join)


def composed(parts: list[Part]) -> bytes:
    """A message of these parts as a browser would write it."""
    body = b""
    for part in parts:
        filename = "" if part.filename is None else f'; filename="{part.filename}"'
        head = f'Content-Disposition: form-data; name="{part.name}"{filename}\r\n\r\n'
        body += f"--{BOUNDARY}\r\n{head}".encode() + part.content + b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode()


def points(body: bytes, cuts: list[int]) -> list[int]:
    return [point % (len(body) + 1) for point in cuts]


@settings(max_examples=400)
@given(st.lists(PARTS, max_size=6), CUTS)
def test_whatever_is_sent_arrives_and_nobody_sees_another_identity(parts: list[Part], cuts: list[int]) -> None:
    body = composed(parts)

    whole = give(CONTENT_TYPE, cut(body))
    assert give(CONTENT_TYPE, cut(body, *points(body, cuts))).outcome == whole.outcome
    assert give(CONTENT_TYPE, lent(cut(body, *points(body, cuts)))).outcome == whole.outcome

    assert whole.is_whole
    # What is dropped is judged by the broad rule here: a name that means an identity to nobody must arrive.
    seen = read_by_multipart(whole.content_type, whole.body)[1:]
    assert [part for part in seen if could_mean_an_identity(part.name)] == []
    assert seen == [part for part in parts if not could_mean_an_identity(part.name)]
    assert_every_reader_sees(whole.content_type, whole.body, tuple(seen))


@settings(max_examples=1_500)
@given(WILD, CUTS)
@example(b"x" * 20 + b"--b-1\r\n", [20])
@example(b'--b-1\r\nContent-Disposition: form-data; name="a"\nX: y\r\n\r\n1\r\n--b-1--', [50])
def test_whatever_comes_has_one_outcome_however_it_is_cut(tail: bytes, cuts: list[int]) -> None:
    beginning, end = f"--{BOUNDARY}\r\n".encode(), f"\r\n--{BOUNDARY}--".encode()
    for body in (tail, beginning + tail, beginning + tail + end):
        whole = give(CONTENT_TYPE, cut(body))
        assert whole.is_whole == (whole.code is None)
        assert give(CONTENT_TYPE, cut(body, *points(body, cuts))).outcome == whole.outcome
        assert give(CONTENT_TYPE, lent(cut(body, *points(body, cuts)))).outcome == whole.outcome
        assert give(CONTENT_TYPE, cut(body, *range(len(body)))).outcome == whole.outcome
        if whole.is_whole:
            # Whatever it was, those who read on see one identity and agree about the rest.
            seen = read_by_multipart(whole.content_type, whole.body)
            assert_every_reader_sees(whole.content_type, whole.body, tuple(seen[1:]))
