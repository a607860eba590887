"""A part's header lines read in the one way in which all readers read them; what is read in several ways is refused.

Real clients write `form-data; name="a"; filename="b"` (browsers, curl, requests, form-data, OkHttp, Go), the same with
bare tokens (.NET), and `filename*` beside or in place of `filename` (.NET, older requests).
"""

import re
from urllib.parse import unquote_to_bytes

from app.errors import InvalidRequestError

_WORD = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_VALUE = rf'"(?:[^"\\]|\\.)*"|{_WORD}'
_PARAMETER = re.compile(rf"[ \t]*;[ \t]*({_WORD})[ \t]*=[ \t]*({_VALUE})")
_DISPOSITION = re.compile(rf"form-data(?:{_PARAMETER.pattern})*[ \t]*;?[ \t]*", re.IGNORECASE)
#: What nearly every client writes, and nothing in it can be read in two ways.
_PLAIN = re.compile(r'form-data; name="[^"\\\x00-\x1f\x7f]*"(?:; filename="[^"\\\x00-\x1f\x7f]*")?')
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_EXTENDED_VALUE = re.compile(r"(?i:utf-8)'[A-Za-z0-9-]*'((?:[A-Za-z0-9!#$&+.^_`|~-]|%[0-9A-Fa-f]{2})*)")
#: Encodings that are none. base64 and quoted-printable: some readers decode them and some do not.
_IDENTITY_ENCODINGS = {"7bit", "8bit", "binary"}
_ONCE = {"Content-Disposition", "Content-Type", "Content-Transfer-Encoding"}


def extended_filename(headers: list[tuple[str, str]]) -> str | None:
    """Check a part's headers, and return what its `filename*` says (RFC 5987), or None where it has none.

    Raises InvalidRequestError for a header, a parameter of Content-Disposition or an encoding that readers take in
    different ways.
    """
    names = [name for name, _ in headers]
    if any(names.count(name) > 1 for name in _ONCE):
        raise InvalidRequestError("a part has a header twice")
    if any(_CONTROL.search(value) for _, value in headers):
        raise InvalidRequestError("a part's header has a control character")
    values = dict(headers)
    if values.get("Content-Transfer-Encoding", "binary").strip(" \t").lower() not in _IDENTITY_ENCODINGS:
        raise InvalidRequestError("a part has a transfer encoding (RFC 7578, section 4.7)")
    disposition = values.get("Content-Disposition", "")
    if _PLAIN.fullmatch(disposition):
        return None
    if not _DISPOSITION.fullmatch(disposition):
        raise InvalidRequestError("a part's Content-Disposition is malformed")
    parameters = [(name.lower(), value) for name, value in _PARAMETER.findall(disposition)]
    keys = [name for name, _ in parameters]
    if len(set(keys)) < len(keys):
        raise InvalidRequestError("a part's Content-Disposition has a parameter twice")
    if any("*" in key and key != "filename*" for key in keys):
        raise InvalidRequestError("a part's Content-Disposition has an extended or continued parameter")
    extended = dict(parameters).get("filename*")
    if extended is None:
        return None
    if not (found := _EXTENDED_VALUE.fullmatch(extended)):
        raise InvalidRequestError("a part's filename* is malformed or not UTF-8")
    try:
        return unquote_to_bytes(found[1]).decode()
    except UnicodeDecodeError as error:
        raise InvalidRequestError("a part's filename* is malformed or not UTF-8") from error
