"""Which key verifies an ID token, with the keys and tokens that providers really publish and sign."""

import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey
from joserfc.util import urlsafe_b64encode

from app.clients.id_tokens import ALGORITHMS, MAX_KEYS_TRIED, read_keys, verify_claims, verify_signature
from app.errors import SignInFailedError

EVERY = tuple(sorted(ALGORITHMS))
CLAIMS = {"sub": "user-alice"}


@cache
def rsa(name: str) -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": name})


@cache
def ec(curve: str = "P-256") -> ECKey:
    return ECKey.generate_key(curve)


def published(key: Key, **members: Any) -> dict[str, Any]:
    """The public half as a provider publishes it, with these members; None removes one."""
    entry = {name: value for name, value in key.as_dict(private=False).items() if name != "kid"}
    return {name: value for name, value in {**entry, **members}.items() if value is not None}


def assembled(header: dict[str, Any], sign: Callable[[bytes], bytes], payload: object = CLAIMS) -> str:
    """A token made by hand: the library would not sign some of these."""
    head, body = (urlsafe_b64encode(json.dumps(part).encode()) for part in (header, payload))
    return b".".join((head, body, urlsafe_b64encode(sign(head + b"." + body)))).decode()


def signed(key: Key, alg: str = "RS256", **header: Any) -> str:
    return assembled({"alg": alg, **header}, lambda data: jws.JWSRegistry.algorithms[alg].sign(data, key))


def verified(token: str, *entries: object) -> dict[str, Any]:
    return verify_signature(token, read_keys({"keys": list(entries)}), EVERY)


@pytest.mark.parametrize(
    ("token_kid", "key_kid"), [(None, None), (None, "a"), ("a", None), ("a", "a"), ("", "a"), ("a", "")]
)
def test_a_key_id_is_a_hint_that_either_side_may_lack(token_kid: str | None, key_kid: str | None) -> None:
    """Also beside another key, whose id the token doesn't name."""
    header = {} if token_kid is None else {"kid": token_kid}
    entries = (published(rsa("other"), kid="b"), published(rsa("mine"), kid=key_kid))
    assert verified(signed(rsa("mine"), **header), *entries) == CLAIMS


def test_a_key_for_another_purpose_of_the_same_type_does_not_hide_the_right_one() -> None:
    mine = OKPKey.generate_key("Ed25519")
    entries = (published(OKPKey.generate_key("X25519")), published(ec("P-384")), published(mine))
    assert verified(signed(mine, "EdDSA"), *entries) == CLAIMS


def test_several_keys_may_share_an_id() -> None:
    """EC and RSA (RFC 7517, section 4.5), and two of one type; in either order."""
    entries = [published(key, kid="a") for key in (ec(), rsa("mine"), rsa("other"))]
    for order in (entries, entries[::-1]):
        assert verified(signed(rsa("mine"), kid="a"), *order) == CLAIMS
        assert verified(signed(ec(), "ES256", kid="a"), *order) == CLAIMS


def test_keys_for_encryption_stand_beside_those_for_signatures() -> None:
    entries = [
        published(rsa("other"), kid="a", use="enc", alg="RSA-OAEP"),
        published(rsa("other"), kid="a", key_ops=["encrypt", "wrapKey"]),
        published(rsa("mine"), kid="a", use="sig", alg="RS256", key_ops=["verify"]),
    ]
    assert verified(signed(rsa("mine"), kid="a"), *entries) == CLAIMS


@pytest.mark.parametrize(
    "entry",
    [
        {"kty": "AKP", "alg": "ML-DSA-44", "pub": "x", "kid": "a"},
        {"kty": "RSA", "n": "!", "e": "AQAB", "kid": "a"},
        {"kty": "RSA", "kid": "a"},
        {"kty": "EC", "crv": "P-999", "x": "AA", "y": "AA", "kid": "a"},
        {"kty": ["RSA"]},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "a"},
        {},
        7,
        None,
        "odd",
    ],
)
def test_keys_that_are_not_understood_are_left_out(entry: object) -> None:
    """RFC 7517, section 5."""
    assert verified(signed(rsa("mine"), kid="a"), entry, published(rsa("mine"), kid="a")) == CLAIMS


@pytest.mark.parametrize(
    "members",
    [{"use": "", "alg": ""}, {"kid": 7}, {"x5u": "no URL", "x5c": "odd", "x5t": 7}, {"key_ops": "verify"}],
)
def test_a_member_that_is_not_used_cannot_make_a_key_unusable(members: dict[str, Any]) -> None:
    assert verified(signed(rsa("mine"), kid="a"), published(rsa("mine"), **members)) == CLAIMS


@pytest.mark.parametrize(
    "members",
    [{"use": "enc"}, {"use": ["sig"]}, {"key_ops": ["sign"]}, {"alg": "RS512"}, {"alg": "RSA-OAEP"}, {"kid": "b"}],
)
def test_a_key_that_is_not_meant_verifies_nothing(members: dict[str, Any]) -> None:
    """Although it has made the signature."""
    with pytest.raises(SignInFailedError):
        verified(signed(rsa("mine"), kid="a"), published(rsa("mine"), **members))


@pytest.mark.parametrize(
    ("alg", "key"),
    [
        ("ES256", ec()),
        ("ES384", ec("P-384")),
        ("ES512", ec("P-521")),
        ("RS512", rsa("mine")),
        ("PS256", rsa("mine")),
        ("Ed25519", OKPKey.generate_key("Ed25519")),
        ("EdDSA", OKPKey.generate_key("Ed25519")),
    ],
)
def test_a_key_serves_the_algorithms_of_its_type_and_curve(alg: str, key: Key) -> None:
    token, stranger = signed(key, alg), ec() if key.key_type != "EC" else ec("secp256k1")
    assert verified(token, published(stranger), published(key)) == CLAIMS
    with pytest.raises(SignInFailedError):
        verified(token, published(stranger))


@pytest.mark.parametrize("alg", ["HS256", "HS512"])
def test_a_public_key_is_never_the_secret_of_an_hmac(alg: str) -> None:
    """Algorithm confusion (RFC 8725, section 2.1): the attacker signs with the public key."""
    entry = published(rsa("mine"), kid="a")
    for secret in (rsa("mine").as_pem(private=False), json.dumps(entry).encode(), entry["n"].encode()):
        token = assembled({"alg": alg, "kid": "a"}, partial(hmac.digest, secret, digest=f"sha{alg[2:]}"))
        for algorithms in (EVERY, (*EVERY, alg)):
            with pytest.raises(SignInFailedError):
                verify_signature(token, read_keys({"keys": [entry]}), algorithms)


def test_the_algorithm_none_is_refused() -> None:
    token = assembled({"alg": "none"}, lambda _: b"")
    for algorithms in (EVERY, (*EVERY, "none")):
        with pytest.raises(SignInFailedError):
            verify_signature(token, read_keys({"keys": [published(rsa("mine"))]}), algorithms)


def test_only_the_providers_own_algorithms_count() -> None:
    with pytest.raises(SignInFailedError):
        verify_signature(signed(rsa("mine")), read_keys({"keys": [published(rsa("mine"))]}), ("PS256",))


def test_the_number_of_keys_that_are_tried_is_bounded() -> None:
    others = [published(rsa("other"))] * (MAX_KEYS_TRIED - 1)
    assert verified(signed(rsa("mine")), *others, published(rsa("mine"))) == CLAIMS
    with pytest.raises(SignInFailedError, match="no key verifies it"):
        verified(signed(rsa("mine")), *others, published(rsa("other")), published(rsa("mine")))


def test_keys_that_do_not_fit_are_not_counted() -> None:
    others = [published(ec())] * MAX_KEYS_TRIED + [published(rsa("other"), kid="b")] * MAX_KEYS_TRIED
    assert verified(signed(rsa("mine"), kid="a"), *others, published(rsa("mine"))) == CLAIMS


@pytest.mark.parametrize(
    "header", [{"x5c": ["M" * 20_000]}, {"kid": "k" * 5_000}, {"kid": None, "x5u": "no URL"}, {"jwk": 7, "typ": None}]
)
def test_a_header_may_be_long_and_hold_unused_members(header: dict[str, Any]) -> None:
    assert verified(signed(rsa("mine"), **header), published(rsa("mine"))) == CLAIMS


@pytest.mark.parametrize("header", [{"crit": ["b64"], "b64": False}, {"crit": ["exp"], "exp": 1}, {"crit": "alg"}])
def test_an_extension_that_must_be_understood_is_not(header: dict[str, Any]) -> None:
    """RFC 7515, section 4.1.11."""
    with pytest.raises(SignInFailedError):
        verified(signed(rsa("mine"), **header), published(rsa("mine")))


@pytest.mark.parametrize("payload", [[], "text", None, 7])
def test_claims_are_a_json_object(payload: object) -> None:
    token = assembled(
        {"alg": "RS256"}, lambda data: jws.JWSRegistry.algorithms["RS256"].sign(data, rsa("mine")), payload
    )
    with pytest.raises(SignInFailedError, match="signs no claims"):
        verified(token, published(rsa("mine")))


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "e30.e30.e30", "\ud800.e30.e30", "e30." * 50_000])
def test_a_text_that_is_not_a_token_is_refused(token: str) -> None:
    with pytest.raises(SignInFailedError):
        verified(token, published(rsa("mine")))


@pytest.mark.parametrize("nonce", ["\ud800", ["n"], {"n": 1}, 7, "N", "n "])
def test_a_nonce_is_the_very_text_that_was_sent(nonce: object) -> None:
    now = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
    seconds = int(now.timestamp())
    claims = {"iss": "i", "aud": "c", "exp": seconds + 60, "iat": seconds, "sub": "s", "nonce": "n"}
    verify_claims(claims, issuer="i", client_id="c", nonce="n", now=now)
    with pytest.raises(SignInFailedError):
        verify_claims(claims | {"nonce": nonce}, issuer="i", client_id="c", nonce="n", now=now)
