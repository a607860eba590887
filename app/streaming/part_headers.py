"""Read a part's header lines in the one way in which all readers read them, and refuse what they read differently.

Real clients write `form-data; name="a"; filename="b"` (browsers, curl, requests, form-data, OkHttp, Go), the same with
bare tokens (.NET), and `filename*` beside or in place of `filename` (.NET, older requests).

No regular expression backtracks: a repetition never begins with what may also end the one before it, so that each
header is read in a few passes.
"""

import base64
import binascii
import quopri
import re
from urllib.parse import unquote_to_bytes

from app.errors import InvalidRequestError, PayloadTooLargeError

MAX_PART_HEADER_BYTES = 8 * 1024
MAX_NAME_BYTES = 1024

_WORD = r"[A-Za-z0-9!#$%&'*+.^_`|~-]++"
# JavaScript's encodeURIComponent leaves '()* as they are, and many programs write `filename*` by it.
_VALUE = rf'"[^"\\]*+(?:\\.[^"\\]*+)*"|(?>(?<=\*=)[A-Za-z0-9!#$%&\'()*+.^_`|~-]++|{_WORD})'
_PARAMETER = re.compile(rf";[ \t]*+({_WORD})[ \t]*+=[ \t]*+({_VALUE})[ \t]*+")
_DISPOSITION = re.compile(rf"form-data[ \t]*+(?:{_PARAMETER.pattern})*;?[ \t]*+", re.IGNORECASE)
#: What nearly every client writes; it can be read in one way only.
_PLAIN = re.compile(r'form-data; name="[^"\\\x00-\x1f\x7f]*"(?:; filename="[^"\\\x00-\x1f\x7f]*")?')
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# RFC 8187, section 3.2.1, and '()* as above; RFC 5987 allows ISO-8859-1, too. Some clients put quotes around the whole
# value, and then leave blanks and similar characters unencoded.
_EXTENDED_VALUE = re.compile(
    r"(?i:(utf-8|iso-8859-1))'[A-Za-z0-9-]*'((?:[A-Za-z0-9!#$&'()*+.^_`|~-]|%[0-9A-Fa-f]{2})*)"
    r"|\"(?i:(utf-8|iso-8859-1))'[A-Za-z0-9-]*'((?:[ !#$&-:<-\[\]-~]|%[0-9A-Fa-f]{2})*)\""
)
#: An encoded word (RFC 2047, section 2), and the blanks between two of them, which are not text (section 6.2).
_ENCODED_WORD = re.compile(r"=\?([A-Za-z0-9_-]{1,40})(?:\*[A-Za-z0-9-]{1,40})?\?([BbQq])\?([!->@-~]*+)\?=")
_BETWEEN_WORDS = re.compile(r"\?=[ \t]+(?==\?)")
_WORD_CHARSETS = re.compile(
    r"(?i:utf-?8|us-ascii|iso-8859-\d{1,2}|windows-125\d|big5|cp950|gbk|gb2312|gb18030|shift_jis|euc-(?:jp|kr))"
)
#: Encodings that change nothing. Some readers decode base64 and quoted-printable, and some do not.
_IDENTITY_ENCODINGS = {"7bit", "8bit", "binary"}
_ONCE = {"Content-Disposition", "Content-Type", "Content-Transfer-Encoding"}


def decode_text(data: bytes) -> str:
    """Decode what should be UTF-8 but, from clients that use their system's charset, may be Big5 or GB18030.

    A backslash can be a byte of another character in these, so a header is decoded before it is parsed; a quote, a
    semicolon and an equals sign cannot. In any other charset, everything but ASCII becomes U+FFFD.
    """
    # cp950 is Big5 as Windows writes it.
    for charset in ("utf-8", "cp950", "gb18030"):
        try:
            return data.decode(charset)
        except UnicodeDecodeError:
            continue
    return data.decode("utf-8", "replace")


def require_readable(headers: list[tuple[str, str]]) -> None:
    """Check that all readers understand these header lines of a part alike.

    Raises InvalidRequestError for a header, a parameter of Content-Disposition or an encoding that they understand
    differently, and PayloadTooLargeError for a header of more than MAX_PART_HEADER_BYTES.
    """
    if any(len(f"{name}: {value}".encode("utf-8", "replace")) > MAX_PART_HEADER_BYTES for name, value in headers):
        raise header_too_large()
    names = [name for name, _ in headers]
    if any(names.count(name) > 1 for name in _ONCE):
        raise InvalidRequestError("a part has the same header twice")
    if any(_CONTROL.search(value) for _, value in headers):
        raise InvalidRequestError("a part's header has a control character")
    values = dict(headers)
    if values.get("Content-Transfer-Encoding", "binary").strip(" \t").lower() not in _IDENTITY_ENCODINGS:
        raise InvalidRequestError("a part has a Content-Transfer-Encoding (RFC 7578, section 4.7)")
    disposition = values.get("Content-Disposition", "")
    if _PLAIN.fullmatch(disposition):
        return
    if not _DISPOSITION.fullmatch(disposition):
        raise InvalidRequestError("a part's Content-Disposition is malformed")
    keys = [name.lower() for name, _ in _PARAMETER.findall(disposition)]
    if len(set(keys)) < len(keys):
        raise InvalidRequestError("a part's Content-Disposition has the same parameter twice")
    if any("*" in key and key != "filename*" for key in keys):
        raise InvalidRequestError("a part's Content-Disposition has an extended or continued parameter")


def require_name(name: str, *, is_utf8: bool) -> None:
    """Check a part's name: raises PayloadTooLargeError if it is too long, InvalidRequestError if it is not UTF-8."""
    if len(name) > MAX_NAME_BYTES or len(name.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES:
        raise PayloadTooLargeError(f"a part's name may have at most {MAX_NAME_BYTES} bytes")
    if not is_utf8 and not name.isascii():
        raise InvalidRequestError("the name of a field is not UTF-8")


def filename_of(headers: list[tuple[str, str]], plain: str | None) -> str | None:
    """Return a part's file name: its `filename*`, else `plain` with its encoded words decoded (RFC 2047), else None.

    Raises InvalidRequestError for a malformed `filename*`.
    """
    disposition = dict(headers).get("Content-Disposition", "")
    if "*" in disposition and not _PLAIN.fullmatch(disposition):
        for name, value in _PARAMETER.findall(disposition):
            if name.lower() == "filename*":
                return _extended(value)
    if plain is None or "=?" not in plain:
        return plain
    return _ENCODED_WORD.sub(_decoded_word, _BETWEEN_WORDS.sub("?=", plain))


def header_too_large() -> PayloadTooLargeError:
    """Return the failure for a part whose headers exceed MAX_PART_HEADER_BYTES."""
    return PayloadTooLargeError(f"a part's headers may have at most {MAX_PART_HEADER_BYTES} bytes")


def _extended(value: str) -> str:
    found = _EXTENDED_VALUE.fullmatch(value)
    if found is None:
        raise InvalidRequestError("a part's filename* is malformed, or neither UTF-8 nor ISO-8859-1")
    data = unquote_to_bytes(found[2] or found[4] or "")
    return decode_text(data) if (found[1] or found[3]).lower() == "utf-8" else data.decode("latin-1")


def _decoded_word(word: re.Match[str]) -> str:
    """Return the text of one encoded word, or the word itself if it cannot be decoded."""
    charset, encoding, text = word[1], word[2].upper(), word[3]
    if not _WORD_CHARSETS.fullmatch(charset):
        return word[0]
    try:
        data = (
            base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
            if encoding == "B"
            else quopri.decodestring(text, header=True)
        )
        return data.decode(charset, "replace")
    except (binascii.Error, LookupError, ValueError):
        return word[0]
