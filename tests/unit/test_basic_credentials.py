"""How a client's id and secret are sent: what stays as it is, what is encoded, and what cannot be sent."""

import base64

import pytest

from app.domain.basic_credentials import basic_authorization, find_problem, is_encoded_differently


def decoded(header: str) -> str:
    scheme, _, encoded = header.partition(" ")
    assert scheme == "Basic"
    return base64.b64decode(encoded, validate=True).decode()


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("AZaz09-._~", "AZaz09-._~"),
        ("a+b%2Fc=&d", "a%2Bb%252Fc%3D%26d"),
        ("urn:a b", "urn%3Aa+b"),
        ("50€", "50%E2%82%AC"),
        ("*!'()", "%2A%21%27%28%29"),
        ("\r\n", "%0D%0A"),
    ],
)
def test_both_are_form_urlencoded_before_they_are_joined(text: str, sent: str) -> None:
    """RFC 6749, section 2.3.1 and appendix B."""
    assert decoded(basic_authorization(text, text, "rfc6749")) == f"{sent}:{sent}"
    assert decoded(basic_authorization(text, text, "raw")) == f"{text}:{text}"
    assert is_encoded_differently(text) == (sent != text)


def test_what_can_be_sent_has_no_problem() -> None:
    assert find_problem("a:\n€", "rfc6749", is_id=True) is None
    assert find_problem("a:€ b", "raw", is_id=False) is None
