"""A client's id and secret in HTTP Basic authentication: encoded as OAuth wants it, or raw.

RFC 6749, section 2.3.1, form-urlencodes both (UTF-8, appendix B) before RFC 7617 joins them with a colon and encodes
the pair in base64. Some providers don't decode them again and expect both raw. Ordinary secrets look the same either
way.
"""

import base64
import re
from typing import Literal
from urllib.parse import quote_plus

Encoding = Literal["rfc6749", "raw"]

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def basic_authorization(client_id: str, client_secret: str, encoding: Encoding) -> str:
    """Return the value of the Authorization header.

    The client's id and secret must have no problem (`find_problem`) in this encoding.
    """
    if encoding == "rfc6749":
        client_id, client_secret = _form_urlencoded(client_id), _form_urlencoded(client_secret)
    return "Basic " + base64.b64encode(f"{client_id}:{client_secret}".encode()).decode("ascii")


def is_encoded_differently(text: str) -> bool:
    """Return whether the two encodings send this id or secret differently."""
    return _form_urlencoded(text) != text


def find_problem(text: str, encoding: Encoding, *, is_id: bool) -> str | None:
    """Return why this id or secret (valid Unicode) cannot be sent, as a phrase without it; None if it can."""
    # RFC 7617, section 2: neither may hold control characters, and the id no colon.
    if encoding == "raw" and _CONTROL.search(text):
        return "must not contain control characters, because it is sent raw"
    if encoding == "raw" and is_id and ":" in text:
        return "must not contain a colon, because it is sent raw"
    return None


def _form_urlencoded(text: str) -> str:
    # Leaves letters, digits and `-._~` alone, the unreserved characters of RFC 3986, section 2.3.
    return quote_plus(text, safe="")
