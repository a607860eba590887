"""Which ID tokens sign a person in: each claim, the signature and the key are checked."""

from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from tests.api.oidc_provider import CLIENT_SECRET, FakeClock, OIDCProvider, World, refused, rsa_key


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": None},
        {"nonce": ""},
        {"nonce": "another"},
        {"nonce": ["another"]},
        {"nonce": 7},
        {"iss": None},
        {"iss": "https://evil.example"},
        {"iss": ["https://evil.example"]},
        {"aud": None},
        {"aud": ""},
        {"aud": "another"},
        {"aud": ["another"]},
        {"aud": {"gateway": True}},
        {"aud": ["gateway", "another"], "azp": "another"},
        {"aud": ["gateway", 7]},
        {"azp": "another"},
        {"azp": ["gateway"]},
        {"azp": 7},
        {"exp": None},
        {"exp": 0},
        {"exp": "never"},
        {"exp": True},
        {"exp": float("nan")},
        {"iat": None},
        {"iat": 1e12},
        {"iat": "now"},
        {"nbf": 1e12},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": ["user-alice"]},
        {"sub": "a" * 256},
        {"sub": "line\nbreak"},
        {"sub": "使用者"},
        {"sub": " "},
    ],
)
def test_an_id_token_with_a_wrong_claim_is_refused(
    world: World, provider: OIDCProvider, claims: dict[str, Any]
) -> None:
    provider.claims = claims
    refused(world.browser(), 400, "sign_in_failed")


@pytest.mark.parametrize(
    "claims",
    [{"aud": ["gateway"]}, {"azp": "gateway"}, {"aud": ["gateway", "another"], "azp": "gateway"}, {"name": 7}],
)
def test_an_id_token_with_unusual_but_right_claims_signs_in(
    world: World, provider: OIDCProvider, claims: dict[str, Any]
) -> None:
    provider.claims = claims
    world.browser().signed_in()


def test_clocks_may_differ_by_a_minute(world: World, provider: OIDCProvider, clock: FakeClock) -> None:
    """A token that expired less than a minute ago is accepted, and an older one is not."""
    now = clock.now().timestamp()
    provider.claims = {"exp": int(now) - 59, "iat": int(now) + 59}
    world.browser().signed_in()
    provider.claims = {"exp": int(now) - 60}
    refused(world.browser(), 400, "sign_in_failed")


def test_an_id_token_without_a_signature_is_refused(world: World, provider: OIDCProvider) -> None:
    """`alg: none`, also when discovery announces it."""
    provider.document["id_token_signing_alg_values_supported"] = ["none", "HS256", 7]
    provider.token_response = {"id_token": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1c2VyLWV2ZSJ9."}
    refused(world.browser(), 400, "sign_in_failed")


def test_an_id_token_signed_with_the_client_secret_is_refused(world: World, provider: OIDCProvider) -> None:
    """HMAC, also when discovery announces it and the key set holds the secret."""
    secret = OctKey.import_key(CLIENT_SECRET + "-and-more", {"kid": "shared"})
    provider.document["id_token_signing_alg_values_supported"] = ["HS256", "RS256"]
    provider.published_keys = [secret.as_dict(), rsa_key("first").as_dict(private=False)]
    provider.token_response = {"id_token": jwt.encode({"alg": "HS256", "kid": "shared"}, {"sub": "user-eve"}, secret)}
    refused(world.browser(), 400, "sign_in_failed")


@pytest.mark.parametrize("kid", ["first", "unknown"])
def test_an_id_token_signed_with_another_key_is_refused(world: World, provider: OIDCProvider, kid: str) -> None:
    """Under a known key id and under an unknown one; the keys are fetched again only once."""
    provider.published_keys = [rsa_key("first").as_dict(private=False)]
    forger = type(rsa_key("second")).import_key({**rsa_key("second").as_dict(private=True), "kid": kid})
    provider.signing_key = forger
    refused(world.browser(), 400, "sign_in_failed")
    assert provider.count("/keys") == 2


def test_a_changed_signature_is_refused(world: World, provider: OIDCProvider) -> None:
    usual = provider._id_token

    def tampered(nonce: str) -> str:
        header, payload, signature = usual(nonce).split(".")
        return f"{header}.{payload[:-2]}{'A' if payload[-2] != 'A' else 'B'}{payload[-1]}.{signature}"

    provider._id_token = tampered
    refused(world.browser(), 400, "sign_in_failed")


@pytest.mark.parametrize("kid", ["first", "second"])
def test_the_provider_may_change_its_keys(world: World, provider: OIDCProvider, kid: str) -> None:
    world.browser().signed_in()
    provider.signing_key = type(rsa_key("second")).import_key({**rsa_key("second").as_dict(private=True), "kid": kid})
    world.browser().signed_in()
    world.browser().signed_in()
    assert provider.count("/keys") == 2


def test_a_broken_key_beside_a_good_one_does_no_harm(world: World, provider: OIDCProvider) -> None:
    good = rsa_key("first").as_dict(private=False)
    provider.published_keys = [{"kty": "RSA", "n": "!"}, {"kty": "AKP", "kid": "future"}, "odd", good]
    world.browser().signed_in()
