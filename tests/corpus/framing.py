"""Messages that are cut up wrongly: boundaries, line ends, preambles, epilogues, messages within messages."""

from tests.corpus.case import (
    CLAIM,
    MODEL,
    MODEL_BYTES,
    MODEL_ID_BYTES,
    TOO_LARGE,
    UNSUPPORTED,
    Case,
    disposition,
    field,
    file,
    message,
    part,
    passes,
    passes_only,
    refused,
    upload,
    with_part,
)
from tests.corpus.readers import Part

_CLAIM_PART = field("user_id", CLAIM)
_NESTED = message(field("user_id", CLAIM), boundary="inner")
_LINE_FEEDS_ONLY = upload().replace(b"\r\n", b"\n")


def _content(name: str, content: bytes, why: str = "") -> list[Case]:
    """Content that looks like something else; it is a file's in one case and a field's in the other."""
    as_file = upload(file("extra", content, "e.bin"))
    return [
        Case(f"{name}-in-a-file", as_file, passes(Part("extra", content, "e.bin")), why),
        with_part(f"{name}-in-a-field", field("extra", content), passes(Part("extra", content)), why),
    ]


_BOUNDARIES = [
    Case("empty-body", b"", refused()),
    Case("no-multipart-at-all", b"user_id=x", refused()),
    Case("no-parts", b"--b--\r\n", passes_only(), "whole, and of no parts; what is missing, the converter says"),
    Case("no-parts-and-no-line-end", b"--b--", passes_only()),
    Case(
        "first-boundary-without-hyphens",
        upload()[2:],
        passes_only(MODEL),
        "up to the first boundary everything is preamble; the converter misses the field",
    ),
    Case("first-boundary-with-one-hyphen", upload()[1:], passes_only(MODEL), "as above"),
    Case("boundary-with-three-hyphens", b"-" + upload(), refused(), "the boundary is not at the beginning of its line"),
    Case("boundary-of-another-case", upload(boundary="B"), refused()),
    Case("boundary-never-comes", upload(boundary="other"), refused()),
    Case("second-boundary-is-another", message(MODEL_ID_BYTES, end=b"x\r\n") + MODEL_BYTES + b"\r\n--b--", refused()),
    with_part(
        "boundary-is-the-beginning-of-another",
        file("extra", b"1\r\n--bb\r\n2", "e.bin"),
        refused(),
        "RFC 2046 compares beginnings of lines, others whole lines: the client has chosen its boundary badly",
    ),
    Case(
        "boundary-a-and-lines-of-another",
        upload(field("extra", b"1\r\n--ab\r\n2"), boundary="a"),
        refused(),
        "",
        "multipart/form-data; boundary=a",
    ),
    Case(
        "boundary-with-text-behind-it",
        upload().replace(b"--b\r\n", b"--b x\r\n", 1),
        refused(),
    ),
    Case(
        "boundary-with-padding",
        upload().replace(b"--b\r\n", b"--b \t\r\n", 1),
        refused(),
        "allowed by RFC 2046 for gateways of mail, sent by no client, taken for content by some readers",
    ),
    Case(
        "inner-boundary-with-padding", message(MODEL_ID_BYTES, end=b" \r\n") + MODEL_BYTES + b"\r\n--b--\r\n", refused()
    ),
    Case("closing-boundary-with-padding", upload(end=b"-- \t\r\n"), passes()),
    Case(
        "closing-boundary-with-text-behind-it",
        upload(end=b"--x\r\nrest"),
        refused(),
        "the end for some, content for others",
    ),
    Case("closing-boundary-with-a-hyphen-more", upload(end=b"---\r\n"), refused()),
    Case("closing-boundary-missing", upload(end=b"\r\n"), refused()),
    Case("closing-boundary-half", upload(end=b"-\r\n"), refused()),
    Case("closing-boundary-without-its-line-end", upload(end=b"--"), passes(), "the last CRLF is often left out"),
    Case("closing-boundary-and-a-bare-line-feed", upload(end=b"--\n"), passes()),
    Case(
        "closing-boundary-and-a-bare-carriage-return",
        upload(end=b"--\r"),
        passes(),
        "nothing more comes that could differ",
    ),
    Case("nothing-after-the-last-boundary", upload(end=b""), refused()),
    Case("cut-within-the-model", upload()[:-20], refused()),
    Case("cut-within-a-header", upload()[:20], refused()),
    Case("cut-after-the-headers", message(MODEL_ID_BYTES)[:-14], refused()),
    Case(
        "boundary-twice-in-a-row",
        upload().replace(b"--b\r\n", b"--b\r\n--b\r\n", 1),
        refused(),
        "a part with a boundary for a header",
    ),
    with_part("part-without-headers", b"\r\n\r\n1", refused()),
    with_part("part-without-an-empty-line", b'Content-Disposition: form-data; name="a"', refused()),
    Case(
        "empty-part-without-its-line-end",
        b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + upload(),
        passes_only(
            Part("a", upload()[: -len(b"\r\n--b--\r\n")].partition(b"\r\n--b\r\n")[0]),
            *passes_only(Part("model", MODEL_BYTES.partition(b"\r\n\r\n")[2], "m.onnx")).parts,
        ),
        "a boundary begins with a line end (RFC 2046), so this one is content",
    ),
    Case("long-boundary", upload(boundary="x" * 200), passes(), "", "multipart/form-data; boundary=" + "x" * 200),
    Case(
        "boundary-of-70-characters",
        upload(boundary="'()+_,-./:=?" + "x" * 58),
        passes(),
        "",
        f'multipart/form-data; boundary="{chr(39)}()+_,-./:=?{"x" * 58}"',
    ),
    *[
        Case(
            f"boundary-{slug}",
            upload(boundary=boundary),
            passes(),
            "in samples of code",
            f"multipart/form-data; boundary={given}",
        )
        for slug, boundary, given in [
            ("of-stars", "*****", "*****"),
            ("in-braces", "{8a1c-44}", "{8a1c-44}"),
            ("of-bars", "|||", '"|||"'),
            ("of-other-characters", "~ # & @ ! %", '"~ # & @ ! %"'),
            ("with-blanks-without-quotes", "a b", "a b"),
        ]
    ],
    Case("boundary-with-blanks", upload(boundary="a b c"), passes(), "", 'multipart/form-data; boundary="a b c"'),
    Case(
        "boundary-of-hyphens",
        upload(boundary="--"),
        passes(),
        "no end is taken for a beginning",
        'multipart/form-data; boundary="--"',
    ),
    Case(
        "boundary-that-ends-with-hyphens", upload(boundary="b--"), passes(), "", 'multipart/form-data; boundary="b--"'
    ),
    Case(
        "boundary-with-a-special-character", upload(boundary="b=?"), passes(), "", 'multipart/form-data; boundary="b=?"'
    ),
]

_CONTENT_TYPES = [
    Case("no-content-type", upload(), refused(UNSUPPORTED), "", ""),
    Case("content-type-urlencoded", b"user_id=x", refused(UNSUPPORTED), "", "application/x-www-form-urlencoded"),
    Case("content-type-multipart-mixed", upload(), refused(UNSUPPORTED), "", "multipart/mixed; boundary=b"),
    Case("content-type-related", upload(), refused(UNSUPPORTED), "", "multipart/related; boundary=b"),
    Case("content-type-that-begins-like-it", upload(), refused(UNSUPPORTED), "", "multipart/form-data-x; boundary=b"),
    Case("content-type-in-capitals", upload(), passes(), "", "MULTIPART/FORM-DATA; BOUNDARY=b"),
    Case("content-type-with-charset", upload(), passes(), "", "multipart/form-data; charset=utf-8; boundary=b"),
    Case("content-type-without-blanks", upload(), passes(), "", "multipart/form-data;boundary=b"),
    Case("no-boundary", upload(), refused(), "", "multipart/form-data"),
    Case("empty-boundary", upload(boundary=""), refused(), "", 'multipart/form-data; boundary=""'),
    Case("boundary-too-long", upload(boundary="x" * 201), refused(), "", "multipart/form-data; boundary=" + "x" * 201),
    Case("boundary-that-ends-with-a-blank", upload(boundary="b "), refused(), "", 'multipart/form-data; boundary="b "'),
    Case(
        "boundary-with-an-escaped-quote", upload(boundary='b"'), refused(), "", 'multipart/form-data; boundary="b\\""'
    ),
    Case(
        "two-boundaries-in-the-content-type",
        upload(boundary="c"),
        refused(),
        "which one counts, differs; nothing is a guess here",
        "multipart/form-data; boundary=b; boundary=c",
    ),
    Case(
        "boundary-unquoted-with-equals",
        upload(boundary="a=b"),
        passes(),
        "not a token, but its meaning is plain",
        "multipart/form-data; boundary=a=b",
    ),
    Case("boundary-with-open-quote", upload(), refused(), "", 'multipart/form-data; boundary=b"x'),
    Case("extended-boundary", upload(), refused(), "", "multipart/form-data; boundary*=utf-8''b"),
    Case(
        "extended-boundary-beside-a-plain-one",
        upload(),
        refused(),
        "readers of mail may take the extended one",
        "multipart/form-data; boundary=b; boundary*=utf-8''c",
    ),
    Case("continued-boundary", upload(boundary="bc"), refused(), "", "multipart/form-data; boundary*0=b; boundary*1=c"),
]

_LINE_ENDS = [
    Case("line-feeds-only", _LINE_FEEDS_ONLY, refused()),
    Case("carriage-returns-only", upload().replace(b"\r\n", b"\r"), refused()),
    with_part("line-feeds-in-the-headers-only", disposition('name="a"', b"1").replace(b"\r\n", b"\n"), refused()),
    Case("line-feed-after-the-first-boundary", upload().replace(b"--b\r\n", b"--b\n", 1), refused()),
    Case(
        "line-feed-after-an-inner-boundary",
        message(MODEL_ID_BYTES, end=b"\n") + MODEL_BYTES + b"\r\n--b--\r\n",
        refused(),
    ),
    with_part(
        "line-feed-before-an-inner-boundary",
        field("extra", b'1\n--b\nContent-Disposition: form-data; name="user_id"\n\nx'),
        passes(Part("extra", b'1\n--b\nContent-Disposition: form-data; name="user_id"\n\nx')),
        "content here; and behind a fresh boundary it is content for everybody",
    ),
    with_part(
        "line-feed-before-the-closing-boundary", field("extra", b"1\n--b--\n"), passes(Part("extra", b"1\n--b--\n"))
    ),
    with_part(
        "carriage-return-before-an-inner-boundary", field("extra", b"1\r--b\r2"), passes(Part("extra", b"1\r--b\r2"))
    ),
    with_part("line-feed-in-a-header", disposition('name="a"', b"1", "X: y\nz: 1"), refused(), "a line end for some"),
    with_part("carriage-return-in-a-header", disposition('name="a"', b"1", "X: y\rz: 1"), refused(), "as above"),
    with_part("line-feed-before-the-empty-line", disposition('name="a"\n', b"1"), refused()),
    with_part("carriage-return-doubled", disposition('name="a"\r', b"1"), refused()),
]

_AROUND = [
    Case("preamble", upload(before=b"This is a message in MIME format.\r\n"), passes(), "a preamble is no part"),
    Case("preamble-of-one-line-break", upload(before=b"\r\n"), passes(), "some clients begin with one"),
    Case("preamble-without-line-break", upload(before=b"x"), refused()),
    Case("preamble-of-eight-bytes-without-line-break", upload(before=b"xxxxxxxx"), refused(), "wherever it is cut"),
    Case("preamble-that-ends-with-a-line-feed", upload(before=b"preamble\n"), refused()),
    Case("preamble-that-ends-with-a-carriage-return", upload(before=b"preamble\r"), refused()),
    Case("preamble-with-a-half-boundary", upload(before=b"\r\n--\r\n--x\r\n"), passes()),
    Case("preamble-with-the-boundary-in-a-line", upload(before=b"x --b\r\n"), refused(), "begins a part for some"),
    Case("preamble-with-the-boundary-and-a-line-feed", upload(before=b"--b\n"), refused()),
    Case("preamble-with-a-longer-boundary", upload(before=b"--bb\r\n"), refused()),
    Case(
        "preamble-with-a-header",
        upload(before=b'Content-Disposition: form-data; name="user_id"\r\n\r\nx\r\n'),
        passes(),
    ),
    Case(
        "preamble-of-a-megabyte",
        upload(before=b"x" * 1024 * 1024 + b"\r\n"),
        refused(),
        "no client sends such a long preamble",
    ),
    Case("epilogue", upload(end=b"--\r\nepilogue"), passes()),
    Case("epilogue-of-line-breaks", upload(end=b"--\r\n\r\n\r\n"), passes()),
    Case(
        "epilogue-with-a-part",
        upload(end=b"--\r\n--b\r\n" + _CLAIM_PART + b"\r\n--b--\r\n"),
        passes(),
        "behind the end nothing is read, and nothing goes on",
    ),
    Case("epilogue-with-another-message", upload() + upload(_CLAIM_PART), passes()),
    Case("epilogue-of-a-megabyte", upload(end=b"--\r\n" + b"x" * 1024 * 1024), passes()),
    Case("epilogue-that-is-a-request", upload(end=b"--\r\nGET /api/me HTTP/1.1\r\nHost: localhost\r\n\r\n"), passes()),
]

_NESTING = [
    with_part(
        "nested-mixed",
        disposition('name="files"', _NESTED, "Content-Type: multipart/mixed; boundary=inner"),
        passes(Part("files", _NESTED)),
        "goes on without that type, so that nobody looks into it",
    ),
    with_part(
        "nested-mixed-file",
        file("files", _NESTED, "f", "multipart/mixed; boundary=inner"),
        passes(Part("files", _NESTED, "f")),
    ),
    with_part(
        "nested-form-data",
        disposition('name="form"', _NESTED, "content-type: MULTIPART/Form-Data;boundary=inner"),
        passes(Part("form", _NESTED)),
    ),
    with_part(
        "nested-with-the-same-boundary",
        disposition('name="form"', message(_CLAIM_PART), "Content-Type: multipart/mixed; boundary=b"),
        passes_only(Part("form", b"--b\r\n" + _CLAIM_PART)),
        "the inner beginning follows no line break, so it is content; the inner end is the outer one's",
    ),
    with_part(
        "message-rfc822",
        disposition('name="mail"', b"Content-Type: text/plain\r\n\r\nuser_id", "Content-Type: message/rfc822"),
        passes(Part("mail", b"Content-Type: text/plain\r\n\r\nuser_id")),
    ),
    with_part(
        "message-partial",
        disposition('name="mail"', b"1", "Content-Type: message/partial; id=x; number=1; total=1"),
        passes(Part("mail", b"1")),
    ),
    with_part(
        "message-external-body",
        disposition('name="mail"', b"1", "Content-Type: message/external-body; access-type=URL"),
        passes(Part("mail", b"1")),
    ),
    with_part(
        "type-folded-into-multipart",
        disposition('name="files"', _NESTED, "Content-Type:\r\n multipart/mixed; boundary=inner"),
        passes(Part("files", _NESTED)),
    ),
]

_LIMITS = [
    Case("2000-parts", message(*[field("p", b"")] * 2000), passes_only(*[Part("p", b"")] * 2000)),
    Case("2001-parts", message(*[field("p", b"")] * 2001), refused(TOO_LARGE)),
    Case("2001-claims", message(*[_CLAIM_PART] * 2001), refused(TOO_LARGE), "what is dropped counts, too"),
    with_part("field-of-a-megabyte", field("a", b"x" * 1024 * 1024), passes(Part("a", b"x" * 1024 * 1024))),
    with_part("field-of-a-megabyte-and-a-byte", field("a", b"x" * (1024 * 1024 + 1)), refused(TOO_LARGE)),
    Case(
        "field-too-long-and-then-malformed",
        upload(field("a", b"x" * (1024 * 1024 + 1)), end=b"x"),
        refused(TOO_LARGE),
        "the first fault counts, whether or not the second has arrived by then",
    ),
    Case("malformed-and-then-a-field-too-long", upload(part("X: y"), field("a", b"x" * (1024 * 1024 + 1))), refused()),
    Case("nameless-and-then-too-many-parts", message(*[field("")] * 2001), refused()),
    with_part("header-flood", disposition('name="a"', b"1", *[f"X-{n}: y" for n in range(100)]), refused(TOO_LARGE)),
    with_part("header-flood-of-one-name", disposition('name="a"', b"1", *["X: y"] * 5000), refused(TOO_LARGE)),
    with_part("header-of-9-kilobytes", disposition('name="a"', b"1", "X: " + "y" * 9000), refused(TOO_LARGE)),
    Case("header-that-never-ends", upload()[:-5] + b"\r\n--b\r\nX: " + b"y" * 100_000, refused(TOO_LARGE)),
    with_part(
        "header-folded-a-thousand-times",
        disposition('name="a"', b"1", "X: y" + "\r\n yyyyyyyyy" * 1000),
        refused(TOO_LARGE),
    ),
    with_part("name-of-a-kilobyte", field("n" * 1024), passes(Part("n" * 1024, b"1"))),
    with_part("name-of-a-kilobyte-and-a-byte", field("n" * 1025), refused(TOO_LARGE)),
    with_part("name-of-4-kilobytes-of-chinese", field("模" * 1366), refused(TOO_LARGE)),
]

CASES: list[Case] = [
    *_BOUNDARIES,
    *_CONTENT_TYPES,
    *_LINE_ENDS,
    *_AROUND,
    *_NESTING,
    *_LIMITS,
    *_content("nothing", b""),
    *_content("a-line-break", b"\r\n"),
    *_content("line-breaks", b"\r\n" * 50),
    *_content("carriage-returns", b"\r" * 50),
    *_content("line-feeds", b"\n" * 50),
    *_content("hyphens", b"--"),
    *_content("boundary-without-line-break", b"--b"),
    *_content("closing-boundary-without-line-break", b"--b--"),
    *_content("boundary-within-a-line", b"x--b\r\ny"),
    *_content("half-boundaries", b"\r\n--\r\n-\r\n--\r"),
    *_content("a-carriage-return-at-the-end", b"1\r"),
    *_content("a-line-feed-at-the-end", b"1\n"),
    *_content("a-line-break-at-the-end", b"1\r\n"),
    *_content("a-nul", b"\0"),
    *_content("boundaries-of-others", b"\r\n--a\r\n\r\n--WebKit--\r\n\r\n--user_id"),
    *_content("unicode-line-ends", "1\u2028\u2029\x0b\x0c\x1c\x85".encode()),
]
