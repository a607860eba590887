"""Messages that claim to say who asks: `user_id` and `tenant_id` in every disguise."""

from tests.corpus.case import (
    CLAIM,
    INVALID,
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

#: Names that some reader or upstream takes for one of the two; each is tried as a field and as a file.
DISGUISES: dict[str, str] = {
    "plain": "user_id",
    "tenant": "tenant_id",
    "capitals": "USER_ID",
    "camel-case": "userId",
    "pascal-case": "TenantId",
    "hyphen": "user-id",
    "no-separator": "userid",
    "space": "user id",
    "trailing-blank": "user_id ",
    "leading-blank": " user_id",
    "double-underscore": "user__id",
    "dot": "user.id",
    "array": "user_id[]",
    "index": "user_id[0]",
    "operator": "user_id[$ne]",
    "nested-in-brackets": "form[user_id]",
    "nested-deep": "a[b][tenant-id][c]",
    "nested-by-dot": "params.user_id",
    "unclosed-bracket": "user_id[",
    "colon": "form:user_id",
    "slash": "form/user_id",
    "braces": "{user_id}",
    "percent": "user%5Fid",
    "percent-lower": "user%5fid",
    "percent-letter": "%75ser_id",
    "percent-twice": "user%255Fid",
    "percent-thrice": "user%25255Fid",
    "percent-overlong": "user%C1%9Fid",
    "percent-nul": "user_id%00",
    "percent-line-break": "user_id%0D%0A",
    "percent-unicode": "user%u005Fid",
    "plus": "user+id",
    "equals": "user_id=",
    "ampersand": "&user_id&",
    "single-quotes": "'user_id'",
    "asterisk": "user_id*",
    "fullwidth": "ｕｓｅｒ＿ｉｄ",
    "fullwidth-capitals": "ＵＳＥＲ_ID",
    "mathematical": "𝐮𝐬𝐞𝐫_𝐢𝐝",
    "circled": "ⓤⓢⓔⓡ_ⓘⓓ",
    "long-s": "uſer_id",
    "dotless-i": "user_ıd",
    "dotted-capital-i": "USER_İD",
    "accents": "uséŕ_íd",
    "combining": "u\u0308ser_id",
    "cyrillic": "us\u0435r_id",
    "greek": "t\u03b5nant_id".replace("\u03b5", "e").replace("a", "\u03b1"),
    "zero-width-space": "user\u200b_id",
    "zero-width-joiner": "us\u200der_id",
    "soft-hyphen": "user\u00ad_id",
    "byte-order-mark": "\ufeffuser_id",
    "right-to-left-override": "\u202euser_id",
    "word-joiner": "user_\u2060id",
    "tab": "user\t_id",
    "next-line": "user_\u0085id",
    "line-separator": "user_\u2028id",
    "variation-selector": "user_id\ufe0f",
    "no-break-space": "user\u00a0id",
    "ideographic-space": "user\u3000id",
    "fullwidth-low-line": "user\uff3fid",
    "one-dot-leader": "user\u2024id",
    "en-dash": "user\u2013id",
    "hangul-filler": "user_id\u3164",
    "tag-characters": "user_id\U000e0041",
}

_ESCAPED: dict[str, tuple[bytes, str]] = {
    "nul-within": (b"user\0_id", "a control character in a name: readers end the name there, or drop it"),
    "nul-after": (b"user_id\0", "as above"),
    "delete-within": (b"user\x7f_id", "as above"),
    "carriage-return": (b"user\r_id", "a bare CR ends a line for some"),
    "line-feed": (b"user\n_id", "a bare LF ends a line for some"),
    "line-break": (b"user\r\n_id", "the header ends within its quotes"),
    "escaped-quote": (b'note\\"; name=\\"user_id', "an escaped quote ends the name for some"),
    "percent-quote": (b"note%22; name=%22user_id", "what browsers write for a quote; decoded, it is one"),
    "semicolon": (b"note;name=user_id", "a semicolon ends the name for those who do not know quotes"),
    "encoded-word-q": (b"=?utf-8?q?user=5Fid?=", "RFC 2047 in a name: readers of mail decode it"),
    "encoded-word-b": (b"=?utf-8?b?dXNlcl9pZA==?=", "as above"),
    "not-utf-8": (b"user_id\xff", "a name in no charset that was named"),
    "overlong-utf-8": (b"user\xc1\x9fid", "an overlong underscore: no UTF-8"),
    "utf-16": (b"\xff\xfeu\0s\0e\0r\0_\0i\0d\0", "UTF-16 is not what headers are in"),
    "utf-8-surrogate": (b"user_id\xed\xa0\x80", "half a surrogate pair: no UTF-8"),
}

_HEADERS: list[Case] = [
    with_part(
        "claim-as-a-bare-token", disposition("name=user_id", CLAIM), passes(), "a client may leave out the quotes"
    ),
    with_part("claim-in-a-header-in-capitals", part('CONTENT-DISPOSITION: FORM-DATA; NAME="user_id"', CLAIM), passes()),
    with_part("claim-in-a-header-in-lower-case", part('content-disposition:form-data;name="user_id"', CLAIM), passes()),
    with_part("claim-with-blanks-around-equals", disposition('name = "user_id"', CLAIM), passes()),
    with_part(
        "claim-in-a-folded-header",
        part('Content-Disposition: form-data;\r\n name="user_id"', CLAIM),
        passes(),
        "folding (RFC 5322, section 2.2.3) is old but has one meaning",
    ),
    with_part(
        "claim-in-a-header-folded-by-a-tab",
        part('Content-Disposition: form-data;\r\n\tname="user_id"', CLAIM),
        passes(),
    ),
    with_part(
        "claim-folded-within-its-quotes",
        part('Content-Disposition: form-data; name="user\r\n _id"', CLAIM),
        passes(),
        "whichever way it is unfolded, what it means is user_id",
    ),
    with_part(
        "claim-in-a-second-name",
        disposition('name="note"; name="user_id"', CLAIM),
        refused(),
        "some readers take the first, some the last",
    ),
    with_part("claim-in-a-first-name", disposition('name="user_id"; name="note"', CLAIM), refused()),
    with_part("claim-in-a-second-name-of-another-case", disposition('name="note"; NAME="user_id"', CLAIM), refused()),
    with_part("claim-twice-in-one-header", disposition('name="user_id"; name="user_id"', CLAIM), refused()),
    with_part(
        "claim-in-an-extended-name-beside-another",
        disposition("name=\"note\"; name*=UTF-8''user%5Fid", CLAIM),
        refused(),
        "RFC 5987 says that the extended one counts, RFC 7578 that there is none",
    ),
    with_part("claim-in-an-extended-name-alone", disposition("name*=UTF-8''user%5Fid", CLAIM), refused()),
    with_part(
        "claim-in-an-extended-name-before-another", disposition("name*=utf-8'en'user_id; name=note", CLAIM), refused()
    ),
    with_part(
        "claim-in-a-continued-name",
        disposition('name*0="user"; name*1="_id"', CLAIM),
        refused(),
        "readers of mail join the two (RFC 2231)",
    ),
    with_part(
        "claim-in-a-continued-name-beside-another",
        disposition('name="note"; name*0="user"; name*1="_id"', CLAIM),
        refused(),
    ),
    with_part(
        "claim-in-a-second-disposition",
        part('Content-Disposition: form-data; name="note"\r\nContent-Disposition: form-data; name="user_id"', CLAIM),
        refused(),
        "some readers take the first, some the last",
    ),
    with_part(
        "claim-in-a-first-disposition",
        part('Content-Disposition: form-data; name="user_id"\r\nContent-Disposition: form-data; name="note"', CLAIM),
        refused(),
    ),
    with_part(
        "claim-in-a-second-disposition-after-a-bare-line-feed",
        part('Content-Disposition: form-data; name="note"\nContent-Disposition: form-data; name="user_id"', CLAIM),
        refused(),
        "one header or two, depending on what ends a line",
    ),
    with_part(
        "claim-in-a-second-disposition-after-a-bare-carriage-return",
        part('Content-Disposition: form-data; name="note"\rContent-Disposition: form-data; name="user_id"', CLAIM),
        refused(),
    ),
    with_part(
        "claim-escaped-within-quotes",
        disposition('name="user\\_id"', CLAIM),
        passes(),
        "with or without the backslash, what it means is user_id",
    ),
    with_part("claim-escaped-by-letters", disposition('name="\\u\\s\\e\\r_id"', CLAIM), passes()),
    with_part(
        "claim-behind-the-quotes",
        disposition('name="note"user_id', CLAIM),
        refused(),
        "no grammar allows it, and readers join or drop the rest",
    ),
    with_part("claim-in-open-quotes", disposition('name="user_id', CLAIM), refused()),
    with_part("claim-closed-but-not-opened", disposition('name=user_id"', CLAIM), refused()),
    with_part(
        "claim-in-another-parameter",
        disposition('name="note"; x="; name=user_id"', b"1"),
        passes(Part("note", b"1")),
        "within quotes a semicolon is a semicolon; the parameter does not go on",
    ),
    with_part(
        "claim-after-an-unknown-parameter-with-a-backslash",
        disposition('x="\\\\"; name="user_id"', CLAIM),
        passes(),
        "the backslash is escaped, and the quotes end before the name",
    ),
    with_part(
        "claim-in-a-disposition-that-is-no-form-data",
        part('Content-Disposition: attachment; name="user_id"', CLAIM),
        refused(),
    ),
    with_part("claim-in-an-inline-disposition", part('Content-Disposition: inline; name="user_id"', CLAIM), refused()),
    with_part(
        "claim-in-content-type-name",
        part('Content-Type: text/plain; name="user_id"', CLAIM),
        refused(),
        "readers of mail know a name there; a part without a disposition is none of a form",
    ),
    with_part(
        "claim-in-content-type-name-beside-a-disposition",
        disposition('name="note"', b"1", 'Content-Type: text/plain; name="user_id"'),
        passes(Part("note", b"1")),
        "it goes on as a parameter of the type, which names no field",
    ),
    with_part(
        "claim-in-content-id", disposition('name="note"', b"1", "Content-ID: <user_id>"), passes(Part("note", b"1"))
    ),
    with_part(
        "claim-in-a-header-of-that-name",
        disposition('name="note"', b"1", "User-Id: u-bob-c81e", "X-User-Id: u-bob-c81e"),
        passes(Part("note", b"1")),
    ),
    with_part("claim-with-a-comment", part('Content-Disposition: form-data (x); name="user_id"', CLAIM), refused()),
    with_part("claim-with-a-comment-after", disposition('name="user_id" (x)', CLAIM), refused()),
    with_part(
        "claim-in-the-file-name-without-a-name",
        disposition('filename="user_id"', CLAIM),
        refused(),
        "a part without a name is refused",
    ),
    with_part(
        "claim-in-the-file-name",
        file("note", b"1", "user_id"),
        passes(Part("note", b"1", "user_id")),
        "a file may be called anything; its field is what counts",
    ),
    with_part(
        "claim-in-a-file-name-that-leaves-its-quotes",
        file("note", b"1", 'a\\"; name=\\"user_id'),
        passes(Part("note", b"1", "a_ name=user_id")),
        "quotes, backslashes and semicolons go from file names, and then nothing is left to be read in two ways",
    ),
    with_part(
        "claim-in-a-file-name-by-percent-quotes",
        file("note", b"1", "a%22; name=%22user_id"),
        passes(Part("note", b"1", "a_ name=user_id")),
    ),
    with_part(
        "claim-in-a-file-name-with-line-break",
        file("note", b"1", b'a\r\nContent-Disposition: form-data; name="user_id'),
        refused(),
        "two headers for those who do not know quotes",
    ),
    with_part(
        "claim-between-two-file-names", disposition('filename="x"; name="user_id"; filename="y"', CLAIM), refused()
    ),
    with_part("claim-after-the-file-name", disposition('filename="x"; name="user_id"', CLAIM), passes()),
]

_PLACES: list[Case] = [
    Case(
        "claims-before-between-and-after",
        message(
            field("user_id", CLAIM),
            MODEL_ID_BYTES,
            field("tenant_id", b"x"),
            MODEL_BYTES,
            file("userId", CLAIM, "u.txt"),
        ),
        passes_only(MODEL_ID, MODEL),
    ),
    Case("hundred-claims", upload(*[field("user_id", CLAIM)] * 100), passes()),
    Case("claim-alone", message(field("user_id", CLAIM)), passes_only()),
    with_part("claim-that-is-empty", field("user_id", b""), passes()),
    with_part("claim-of-our-own-value", field("user_id", b"u-alice-7f3a"), passes(), "right or wrong, it is not asked"),
    with_part("claim-of-a-megabyte", field("user_id", b"x" * (1024 * 1024 + 1)), refused("payload_too_large")),
    with_part(
        "claim-as-a-file-of-two-megabytes",
        file("user_id", b"x" * 2 * 1024 * 1024, "u.bin"),
        passes(),
        "files have no limit of their own",
    ),
    with_part(
        "claim-in-json",
        disposition('name="data"', b'{"user_id": "x"}', "Content-Type: application/json"),
        passes(Part("data", b'{"user_id": "x"}')),
        "what a field holds is its own",
    ),
    with_part(
        "claim-in-an-urlencoded-part",
        disposition('name="data"', b"user_id=x", "Content-Type: application/x-www-form-urlencoded"),
        passes(Part("data", b"user_id=x")),
        "goes on without that type, so that nobody looks into it",
    ),
    with_part(
        "claim-in-a-value-like-a-part",
        field("note", b'\r\nContent-Disposition: form-data; name="user_id"\r\n\r\nx'),
        passes(Part("note", b'\r\nContent-Disposition: form-data; name="user_id"\r\n\r\nx')),
    ),
    Case(
        "names-that-are-like-it-but-are-not",
        upload(field("user"), field("id"), field("user_identity"), field("xuser_id"), field("tenant")),
        passes(*(Part(name, b"1") for name in ("user", "id", "user_identity", "xuser_id", "tenant"))),
        "dropping more than what means it would lose fields of honest clients",
    ),
]


def _disguised() -> list[Case]:
    cases = []
    for slug, name in DISGUISES.items():
        cases.append(with_part(f"claim-{slug}", field(name, CLAIM), passes()))
        cases.append(with_part(f"claim-{slug}-as-a-file", file(name, CLAIM, "claim.txt"), passes()))
    for slug, (raw, why) in _ESCAPED.items():
        cases.append(with_part(f"claim-{slug}", field(raw, CLAIM), refused(INVALID), why))
    return cases


CASES: list[Case] = [*_disguised(), *_HEADERS, *_PLACES]
