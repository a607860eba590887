"""Parts with odd headers: names, file names, content types, charsets, transfer encodings."""

from tests.corpus.case import (
    MODEL,
    MODEL_BYTES,
    MODEL_ID,
    MODEL_ID_BYTES,
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

_MODEL_CONTENT = MODEL.content


def _filename(slug: str, raw: str | bytes, arrives: str, why: str = "") -> Case:
    body = message(MODEL_ID_BYTES, file("model", _MODEL_CONTENT, raw))
    return Case(f"file-name-{slug}", body, passes_only(MODEL_ID, Part("model", _MODEL_CONTENT, arrives)), why)


def _type(slug: str, content_type: str, why: str = "") -> Case:
    body = message(MODEL_ID_BYTES, file("model", _MODEL_CONTENT, "m.onnx", content_type))
    return Case(f"type-{slug}", body, passes_only(MODEL_ID, MODEL), why)


def _encoding(value: str, *, is_plain: bool) -> Case:
    slug = value.replace(" ", "-") or "none"
    body = upload(disposition('name="a"', b"MQ==", f"Content-Transfer-Encoding: {value}"))
    why = (
        "" if is_plain else "some readers decode it and some do not, so the bytes would differ (RFC 7578, section 4.7)"
    )
    return Case(f"transfer-encoding-{slug}", body, passes(Part("a", b"MQ==")) if is_plain else refused(), why)


_NAMES = [
    with_part("name-empty", field(""), refused(), "nobody can ask for it"),
    with_part("name-missing", part("Content-Disposition: form-data", b"1"), refused()),
    with_part("name-missing-from-a-file", disposition('filename="a.bin"'), refused()),
    with_part("name-without-value", disposition("name="), refused()),
    with_part("name-without-equals", disposition("name"), refused()),
    with_part("name-of-a-blank", field(" "), passes(Part(" ", b"1"))),
    with_part("name-in-chinese", field("模型名稱"), passes(Part("模型名稱", b"1"))),
    with_part("name-with-emoji", field("🦆"), passes(Part("🦆", b"1"))),
    Case(
        "name-in-brackets", upload(field("tags[]"), field("tags[]")), passes(Part("tags[]", b"1"), Part("tags[]", b"1"))
    ),
    with_part("name-with-percent", field("100%25"), passes(Part("100%25", b"1")), "no reader of forms decodes it"),
    with_part("name-with-backslash", field("a\\b"), refused(), "an escape for some and a character for others"),
    with_part("name-with-quote", field('a\\"b'), refused()),
    with_part("name-with-semicolon", field("a;b"), refused()),
    with_part("name-with-nul", field(b"a\0b"), refused()),
    with_part("name-with-latin-1", field(b"gr\xf6\xdfe"), refused(), "names are UTF-8"),
    with_part("name-with-encoded-word", field("=?utf-8?q?a?="), refused()),
    Case("same-name-many-times", upload(*[field("a")] * 3), passes(*[Part("a", b"1")] * 3)),
    with_part("no-disposition", part("Content-Type: text/plain", b"1"), refused()),
    with_part("disposition-empty", part("Content-Disposition:", b"1"), refused()),
    with_part("disposition-attachment", part('Content-Disposition: attachment; name="a"; filename="b"'), refused()),
    with_part("disposition-file", part('Content-Disposition: file; filename="b"'), refused()),
    with_part("disposition-in-capitals", part('CONTENT-DISPOSITION: FORM-DATA; NAME="a"'), passes(Part("a", b"1"))),
    with_part("disposition-with-a-comment", part('Content-Disposition: form-data (a form); name="a"'), refused()),
    with_part("disposition-with-semicolon-at-its-end", disposition('name="a";'), passes(Part("a", b"1"))),
    with_part("disposition-with-two-semicolons", disposition(';name="a"'), refused()),
    with_part("disposition-with-a-comma", part('Content-Disposition: form-data, name="a"'), refused()),
    with_part("disposition-with-garbage", disposition('name="a"x; filename="b"'), refused()),
    with_part(
        "disposition-with-open-file-name",
        disposition('name="a"; filename="b'),
        refused(),
        "a field for some, a file for others",
    ),
    with_part(
        "disposition-with-unknown-parameters",
        disposition('name="a"; size=1; creation-date="now"'),
        passes(Part("a", b"1")),
    ),
    with_part("header-without-colon", disposition('name="a"', b"1", "no colon"), refused()),
    with_part("header-without-name", disposition('name="a"', b"1", ": x"), refused()),
    with_part("header-name-with-blank-within", disposition('name="a"', b"1", "X Y: z"), refused()),
    with_part("header-name-not-ascii", disposition('name="a"', b"1", "模: z"), refused()),
    with_part("header-begins-with-a-blank", b" X: y\r\n" + field("a"), refused(), "continues a line that is not there"),
    with_part("header-folded-to-nothing", disposition('name="a"', b"1", "X: y", "  "), refused()),
    with_part("header-name-after-a-line-feed", disposition('name="a"', b"1", "\nX: y"), refused()),
    with_part("header-name-after-a-no-break-space", disposition('name="a"', b"1", "\u00a0X: y"), refused()),
    with_part("disposition-after-a-no-break-space", part('\u00a0Content-Disposition: form-data; name="a"'), refused()),
    with_part(
        "header-name-with-a-blank-behind", part('Content-Disposition : form-data; name="a"'), passes(Part("a", b"1"))
    ),
    with_part("line-feed-in-the-first-of-two-headers", disposition('name="a"', b"1", "X: y\nz", "X: y"), refused()),
    with_part("unknown-headers", disposition('name="a"', b"1", "X-Y: z", "Date: now"), passes(Part("a", b"1"))),
    with_part(
        "part-length-right",
        disposition('name="a"', b"12", "Content-Length: 2"),
        passes(Part("a", b"12")),
        "OkHttp sends it",
    ),
    with_part("part-length-too-long", disposition('name="a"', b"12", "Content-Length: 3"), refused()),
    with_part("part-length-too-short", disposition('name="a"', b"12", "Content-Length: 1"), refused()),
    with_part("part-length-no-number", disposition('name="a"', b"12", "Content-Length: 0x2"), refused()),
    with_part("part-length-twice", disposition('name="a"', b"12", "Content-Length: 2", "Content-Length: 2"), refused()),
    with_part(
        "charset-field",
        field("_charset_", b"utf-16"),
        passes(Part("_charset_", b"utf-16")),
        "comes after user_id, whose bytes are ASCII; no reader here heeds it",
    ),
    Case(
        "model-without-file-name",
        message(MODEL_ID_BYTES, disposition('name="model"', b"x")),
        passes_only(MODEL_ID, Part("model", b"x")),
        "a field; the converter refuses it",
    ),
    Case(
        "model-of-octets-without-file-name",
        message(MODEL_ID_BYTES, disposition('name="model"', b"x", "Content-Type: application/octet-stream")),
        passes_only(MODEL_ID, Part("model", b"x", "file")),
        "RFC 7578, section 4.2, only recommends a file name",
    ),
    Case(
        "field-of-octets-without-file-name",
        message(MODEL_ID_BYTES, disposition('name="a"', b"1", "Content-Type: application/octet-stream"), MODEL_BYTES),
        passes_only(MODEL_ID, Part("a", b"1"), MODEL),
        "some clients write every field so",
    ),
    *[
        Case(
            f"nothing-chosen-{place}",
            message(*parts[:at], disposition(f'name="{name}"; filename=""', b""), *parts[at:]),
            passes_only(MODEL_ID, MODEL),
            "how browsers send a file input without a file",
        )
        for parts in [[MODEL_ID_BYTES, MODEL_BYTES]]
        for at, (place, name) in enumerate([("first", "ref_images"), ("between", "model"), ("last", "a;b")])
    ],
    with_part(
        "nothing-chosen-but-content", disposition('name="a"; filename=""', b"1"), passes(Part("a", b"1", "file"))
    ),
    with_part(
        "an-empty-file-with-a-name",
        disposition('name="a"; filename="empty.txt"', b""),
        passes(Part("a", b"", "empty.txt")),
    ),
    Case(
        "model-that-is-empty",
        message(MODEL_ID_BYTES, file("model", b"", "m.onnx")),
        passes_only(MODEL_ID, Part("model", b"", "m.onnx")),
    ),
    with_part(
        "two-models",
        file("model", b"first", "1.onnx"),
        passes(Part("model", b"first", "1.onnx")),
        "passed on, and refused by the converter",
    ),
    Case("fields-after-the-file", message(MODEL_BYTES, MODEL_ID_BYTES), passes_only(MODEL, MODEL_ID)),
    Case(
        "reference-images",
        upload(*[file("ref_images", b"\x89PNG%d" % n, f"{n}.png", "image/png") for n in range(1000)]),
        passes(*[Part("ref_images", b"\x89PNG%d" % n, f"{n}.png") for n in range(1000)]),
    ),
]

_FILE_NAMES = [
    _filename("empty", "", "file"),
    _filename("suffix-alone", "??.onnx", "file.onnx", "the suffix says what the file is"),
    _filename("dots", "..", "file"),
    _filename("path", "../../etc/passwd", "passwd"),
    _filename("path-absolute", "/etc/passwd", "passwd"),
    _filename("path-of-windows", "C:\\models\\m.onnx", "m.onnx"),
    _filename("path-of-a-share", "\\\\host\\share\\m.onnx", "m.onnx"),
    _filename("slash-at-its-end", "models/", "file"),
    _filename("quote-escaped", 'a\\"b.onnx', "ab.onnx"),
    _filename("quote-percent", "a%22b.onnx", "ab.onnx", "what browsers write for a quote"),
    _filename("line-break-percent", "a%0D%0Ab.onnx", "ab.onnx", "what browsers write for a line break"),
    _filename("line-break-percent-and-header", "a%0D%0AX-Evil: 1%0D%0A%0D%0A.onnx", "aX-Evil 1.onnx"),
    _filename("semicolon", "a;b.onnx", "a_b.onnx"),
    _filename("percent", "100%.onnx", "100%.onnx"),
    _filename("percent-encoded", "%2e%2e%2fm.onnx", "%2e%2e%2fm.onnx", "no reader of forms decodes it"),
    _filename("chinese", "模型 影像.onnx", "模型 影像.onnx"),
    _filename("chinese-of-4-kilobytes", "模" * 1366 + ".onnx", "模" * 83 + ".onnx", "shortened, with its suffix"),
    _filename("decomposed", "mode\u0301le.onnx", "mod\u00e9le.onnx"),
    _filename("right-to-left-override", "a\u202exnno.exe", "axnno.exe"),
    _filename("zero-width", "m\u200bodel.onnx", "model.onnx"),
    _filename("leading-and-trailing-blanks", "  m.onnx  ", "m.onnx"),
    _filename("reserved-characters", "a<b>c:d|e?f*g.onnx", "abcdefg.onnx"),
    _filename("encoded-word", "=?utf-8?q?m.onnx?=", "m.onnx", "RFC 7578 has none, but mail libraries write them"),
    _filename("encoded-word-b", "=?UTF-8?B?5qih5Z6L?= =?UTF-8?B?Lm9ubng=?=", "模型.onnx", "RFC 2047, section 6.2"),
    _filename("encoded-word-path", "=?utf-8?q?../=22=3Bx=0D=0A.onnx?=", "_x.onnx"),
    _filename("encoded-word-of-no-charset", "=?rot13?q?m?=.onnx", "=rot13qm=.onnx"),
    _filename("latin-1", b"caf\xe9.onnx", "caf\ufffd.onnx", "neither UTF-8 nor Big5 nor GB18030"),
    _filename("big-5", "模型.onnx".encode("big5"), "模型.onnx", "curl on Windows in Taiwan"),
    _filename("big-5-with-backslashes", "許功蓋".encode("big5"), "許功蓋", "the second byte of each is a backslash"),
    _filename("gb-18030", "丂丄.onnx".encode("gb18030"), "丂丄.onnx", "no Big5"),
    _filename("joiners", "می\u200cخواهم👩\u200d🔬.onnx", "می\u200cخواهم👩\u200d🔬.onnx", "they belong to the word"),
    _filename("emoji", "🦆.onnx", "🦆.onnx"),
    _filename("long", "x" * 300 + ".onnx", "x" * 250 + ".onnx"),
    with_part(
        "file-name-line-break", file("a", b"1", b"a\r\nb.onnx"), refused(), "a header that ends within its quotes"
    ),
    with_part(
        "file-name-line-break-and-header",
        file("a", b"1", b'a"\r\nX-Evil: "1'),
        passes(Part("a", b"1", "a")),
        "the file name ends before the line does; the other header does not go on",
    ),
    with_part("file-name-line-break-in-quotes-and-header", file("a", b"1", b"a\r\nX-Evil: 1"), refused()),
    with_part("file-name-line-feed", file("a", b"1", b"a\nb.onnx"), refused()),
    with_part("file-name-carriage-return", file("a", b"1", b"a\rb.onnx"), refused()),
    with_part("file-name-nul", file("a", b"1", b"a.onnx\0.exe"), refused()),
    with_part(
        "file-name-tab",
        file("a", b"1", b"a\tb.onnx"),
        passes(Part("a", b"1", "ab.onnx")),
        "a tab is white space, and means nothing else to anybody",
    ),
    with_part("name-in-big-5", field("模".encode("big5")), refused(), "names are UTF-8"),
    with_part("file-name-twice", disposition('name="a"; filename="1"; filename="2"'), refused()),
    with_part(
        "file-name-extended",
        disposition("name=\"a\"; filename*=UTF-8''%E6%A8%A1%E5%9E%8B.onnx"),
        passes(Part("a", b"1", "模型.onnx")),
        "older versions of requests send it alone",
    ),
    with_part(
        "file-name-extended-and-plain",
        disposition('name="a"; filename="x.onnx"; filename*=UTF-8\'\'%E6%A8%A1%E5%9E%8B.onnx'),
        passes(Part("a", b"1", "模型.onnx")),
        "the extended one counts (RFC 6266, section 4.3)",
    ),
    with_part(
        "file-name-extended-with-language",
        disposition("name=\"a\"; filename*=utf-8'zh-TW'%E6%A8%A1.onnx"),
        passes(Part("a", b"1", "模.onnx")),
    ),
    with_part(
        "file-name-extended-path",
        disposition("name=\"a\"; filename*=UTF-8''..%2F..%2Fx%22%0D%0A.onnx"),
        passes(Part("a", b"1", "x.onnx")),
    ),
    with_part(
        "file-name-percent-of-a-percent",
        disposition("name=\"a\"; filename*=UTF-8''a%2522b.onnx"),
        passes(Part("a", b"1", "a_22b.onnx")),
        "some readers take %22 in a file name for a quote",
    ),
    with_part(
        "file-name-extended-not-utf-8",
        disposition("name=\"a\"; filename*=UTF-8''%FF.onnx"),
        passes(Part("a", b"1", "\ufffd.onnx")),
    ),
    with_part(
        "file-name-extended-in-quotes",
        disposition('name="a"; filename*="UTF-8\'\'%E6%A8%A1 (1).onnx"'),
        passes(Part("a", b"1", "模 (1).onnx")),
    ),
    with_part(
        "file-name-extended-as-javascript-encodes-it",
        disposition('name="a"; filename="a.onnx"; filename*=UTF-8\'\'it\'s%20a%20copy!%20(1).onnx'),
        passes(Part("a", b"1", "it's a copy! (1).onnx")),
        "encodeURIComponent leaves !'()* as they are",
    ),
    with_part("name-in-parentheses", disposition("name=a(b)"), refused(), "a comment for readers of mail"),
    with_part(
        "file-name-extended-in-latin-1",
        disposition("name=\"a\"; filename*=ISO-8859-1'en'caf%E9.onnx"),
        passes(Part("a", b"1", "café.onnx")),
        "RFC 5987, section 3.2",
    ),
    with_part("file-name-extended-other-charset", disposition("name=\"a\"; filename*=big5''%BC%D2.onnx"), refused()),
    with_part("file-name-extended-malformed", disposition('name="a"; filename*="x"'), refused()),
    with_part(
        "file-name-continued",
        disposition('name="a"; filename*0="x"; filename*1=".onnx"'),
        refused(),
        "readers of mail join it, others see a field",
    ),
]

_TYPES = [
    _type("none", ""),
    _type("no-type", "model"),
    _type("text", "text/plain"),
    _type("with-quotes", 'text/plain; charset="utf-8"'),
    _type("onnx", "application/onnx"),
    _type("long", "x" * 500 + "/y"),
    _type("not-ascii", "tëxt/plain"),
    _type("two", "text/plain, text/html"),
    _type("with-quote-open", 'text/plain; charset="utf-8'),
    _type("multipart-with-spaces", " multipart/mixed ; boundary=x"),
    _type("with-boundary", "text/plain; boundary=x"),
    _type("with-encoded-word", "=?utf-8?q?text/plain?="),
    with_part(
        "type-line-break",
        disposition('name="a"', b"1", "Content-Type: text/plain\r\nX-Evil: 1"),
        passes(Part("a", b"1")),
    ),
    with_part(
        "type-line-break-in-quotes",
        disposition('name="a"', b"1", 'Content-Type: text/plain; a="\r\nX-Evil: 1"'),
        passes(Part("a", b"1")),
        "two headers; neither goes on",
    ),
    with_part("type-line-feed", disposition('name="a"', b"1", "Content-Type: text/plain\nX-Evil: 1"), refused()),
    with_part("type-nul", disposition('name="a"', b"1", "Content-Type: text/plain\0"), refused()),
    with_part(
        "type-twice",
        disposition('name="a"', b"1", "Content-Type: text/plain", "Content-Type: multipart/mixed; boundary=x"),
        refused(),
        "some readers take the first, some the last",
    ),
    with_part(
        "type-of-a-field-octets",
        disposition('name="a"', b"1", "Content-Type: application/octet-stream"),
        passes(Part("a", b"1")),
    ),
]

_CHARSETS_DIFFER = "some readers decode a field by its charset, some take it for UTF-8, and some lose it"

_CHARSETS = [
    with_part(
        "charset-utf-8",
        disposition('name="a"', "模".encode(), "Content-Type: text/plain; charset=UTF-8"),
        passes(Part("a", "模".encode())),
    ),
    with_part(
        "charset-latin-1",
        disposition('name="a"', b"\xf6", "Content-Type: text/plain; charset=iso-8859-1"),
        passes(Part("a", b"\xf6")),
    ),
    *(
        with_part(
            f"charset-{charset}",
            disposition('name="a"', content, f"Content-Type: text/plain; charset={charset}"),
            refused(),
            _CHARSETS_DIFFER,
        )
        for charset, content in {
            "big5": "模".encode("big5"),
            "utf-16": "user_id".encode("utf-16"),
            "utf-7": b"user+AF8-id",
            "base64": b"dXNlcl9pZA==",
            "x-none": b"1",
        }.items()
    ),
    with_part(
        "charset-big5-of-a-file",
        file("a", "模".encode("big5"), "a.txt", "text/plain; charset=big5"),
        passes(Part("a", "模".encode("big5"), "a.txt")),
        "nobody decodes a file",
    ),
    with_part("charset-with-nul", disposition('name="a"', b"1", "Content-Type: text/plain; charset=\0"), refused()),
    with_part(
        "value-not-utf-8",
        field("a", b"\xff\xfe\x80"),
        passes(Part("a", b"\xff\xfe\x80")),
        "what a field holds is its own",
    ),
    with_part("value-with-byte-order-mark", field("a", b"\xef\xbb\xbf1"), passes(Part("a", b"\xef\xbb\xbf1"))),
    Case("byte-order-mark-before-the-message", b"\xef\xbb\xbf" + upload(), refused()),
    with_part("byte-order-mark-before-a-header", b"\xef\xbb\xbf" + field("a"), refused()),
    Case("message-in-utf-16", upload().decode("latin-1").encode("utf-16"), refused()),
]

CASES: list[Case] = [
    *_NAMES,
    *_FILE_NAMES,
    *_TYPES,
    *_CHARSETS,
    *(_encoding(value, is_plain=True) for value in ("7bit", "8bit", "binary", "BINARY")),
    *(
        _encoding(value, is_plain=False)
        for value in ("base64", "quoted-printable", "x-uuencode", "gzip", "base64, binary", "")
    ),
    with_part(
        "transfer-encoding-twice",
        disposition('name="a"', b"MQ==", "Content-Transfer-Encoding: binary", "Content-Transfer-Encoding: base64"),
        refused(),
    ),
]
