"""What real providers send and expect, and what the sign-in makes of it: credentials, tokens, keys and claims."""

from typing import Any

import pytest
from joserfc.jwk import ECKey

from tests.api.oidc_provider import (
    HTML,
    FakeClock,
    OIDCProvider,
    World,
    make_world,
    responding,
    rsa_key,
)

# --- the client's credentials


@pytest.mark.parametrize("client_id", ["gateway", "urn:gateway:1", "a b", "模型"])
@pytest.mark.parametrize("client_secret", ["plain-._~", "a+b%2Fc=&d", "50€", "two words", "密碼", "line\nbreak"])
def test_a_provider_that_decodes_the_credentials_accepts_any(
    provider: OIDCProvider, clock: FakeClock, client_id: str, client_secret: str
) -> None:
    """RFC 6749, section 2.3.1."""
    provider.client_id, provider.client_secret = client_id, client_secret
    make_world(provider.issuer, clock, oidc_client_id=client_id, oidc_client_secret=client_secret).browser().signed_in()


@pytest.mark.parametrize("client_secret", ["plain-._~", "a+b%2Fc=&d", "50€", "with:colon"])
def test_a_provider_that_expects_raw_credentials_can_have_them(
    provider: OIDCProvider, clock: FakeClock, client_secret: str
) -> None:
    provider.is_decoding_credentials, provider.client_secret = False, client_secret
    world = make_world(provider.issuer, clock, oidc_client_secret=client_secret, basic_credentials="raw")
    world.browser().signed_in()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, '{"error": "invalid_client"}'),
        (401, ""),
        (400, '{"error": "invalid_client"}'),
        (400, '{"error": "unauthorized_client"}'),
        (200, '{"error": "invalid_client"}'),
        (400, '{"error": "unsupported_grant_type"}'),
    ],
)
def test_a_refused_client_is_our_fault_and_not_the_persons(
    world: World, provider: OIDCProvider, status: int, body: str
) -> None:
    """Signing in again would not help."""
    provider.handlers["/token"] = responding(status, body)
    response = world.browser().sign_in("/models")
    assert (response.status_code, response.json["code"]) == (500, "idp_misconfigured")
    assert response.json["retryable"] is False
    page = world.browser().sign_in("/models", headers={"Accept": HTML}).get_data(as_text=True)
    assert "visionA is not set up correctly" in page
    assert 'href="/auth/login?next=/models"' in page


def test_a_wrong_client_secret_is_a_misconfiguration(provider: OIDCProvider, clock: FakeClock) -> None:
    world = make_world(provider.issuer, clock, oidc_client_secret="another")
    response = world.browser().sign_in()
    assert (response.status_code, response.json["code"]) == (500, "idp_misconfigured")


# --- the token response


@pytest.mark.parametrize("expires_in", ["soon", "", [], {}, -1, 0, True, "299.5", 1e300])
@pytest.mark.parametrize("member", ["expires_in", "expires_at", "token_type", "refresh_token", "scope"])
def test_unused_members_cannot_fail_a_sign_in(
    world: World, provider: OIDCProvider, member: str, expires_in: object
) -> None:
    provider.token_response = {member: expires_in}
    world.browser().signed_in()


def test_an_access_token_is_not_needed(world: World, provider: OIDCProvider) -> None:
    provider.token_response = {"access_token": None, "token_type": None, "expires_in": None}
    world.browser().signed_in()


# --- the ID token


@pytest.mark.parametrize("groups", [0, 3_000])
@pytest.mark.parametrize("header", [{"x5c": ["M" * 3_000]}, {"kid": None}])
def test_a_large_id_token_signs_in(world: World, provider: OIDCProvider, groups: int, header: dict[str, Any]) -> None:
    """A certificate chain in the header, and the groups of a person in a large company."""
    provider.header = header
    provider.claims = {
        "groups": [f"cn=group-{number},ou=department,o=company-with-a-long-name" for number in range(groups)]
    }
    world.browser().signed_in()


def test_a_long_key_id_signs_in(world: World, provider: OIDCProvider) -> None:
    provider.header = {"kid": "k" * 2_000}
    provider.published_keys = [rsa_key("first").as_dict(private=False, kid="k" * 2_000)]
    world.browser().signed_in()


def test_an_id_token_larger_than_the_bound_on_responses_makes_mc_unavailable(
    world: World, provider: OIDCProvider
) -> None:
    provider.claims = {"groups": ["g" * (1 << 20)]}
    assert world.browser().sign_in().status_code == 503


@pytest.mark.parametrize(
    ("claims", "null_claims"),
    [
        ({"azp": ""}, ()),
        ({}, ("azp",)),
        ({}, ("nbf",)),
        ({}, ("jti",)),
        ({"jti": 7}, ()),
        ({}, ("nbf", "jti", "azp", "auth_time", "acr", "amr", "at_hash", "name", "email")),
        ({"aud": ["gateway", "another"]}, ()),
        ({"aud": ["gateway", "another"], "azp": "gateway"}, ()),
        ({"auth_time": "yesterday", "at_hash": 7, "email_verified": "no"}, ()),
    ],
)
def test_claims_that_are_optional_may_be_anything(
    world: World, provider: OIDCProvider, claims: dict[str, Any], null_claims: tuple[str, ...]
) -> None:
    provider.claims, provider.null_claims = claims, null_claims
    world.browser().signed_in()


@pytest.mark.parametrize("name", ["iss", "aud", "exp", "nonce", "sub"])
def test_a_claim_that_decides_may_not_be_null(world: World, provider: OIDCProvider, name: str) -> None:
    provider.null_claims = (name,)
    response = world.browser().sign_in()
    assert (response.status_code, response.json["code"]) == (400, "sign_in_failed")


# --- keys


@pytest.mark.parametrize("name", ["kid", "use", "alg"])
def test_a_published_key_may_leave_out_optional_members(world: World, provider: OIDCProvider, name: str) -> None:
    """There is a second key, so the gateway has to choose."""
    usual = rsa_key("first").as_dict(private=False, alg="RS256", use="sig")
    mine = {key: value for key, value in usual.items() if key != name}
    provider.published_keys = [rsa_key("second").as_dict(private=False), mine]
    world.browser().signed_in()
    assert provider.count("/keys") == 1


@pytest.mark.parametrize(
    "others",
    [
        [ECKey.generate_key("P-256").as_dict(private=False)],
        [rsa_key("second").as_dict(private=False)],
        [rsa_key("second").as_dict(private=False, use="enc", alg="RSA-OAEP")],
        [{"kty": "AKP", "alg": "ML-DSA-44", "pub": "x"}, {"kty": "OKP", "crv": "X25519", "x": "AAAA"}],
    ],
    ids=["EC", "RSA", "enc", "unknown"],
)
def test_other_keys_may_share_the_id_of_the_one_that_signs(
    world: World, provider: OIDCProvider, others: list[dict[str, Any]]
) -> None:
    """RFC 7517, section 4.5: keys of different types that stand for each other may have one id."""
    provider.published_keys = [{**key, "kid": "first"} for key in others]
    provider.published_keys.append(rsa_key("first").as_dict(private=False))
    world.browser().signed_in()
    assert provider.count("/keys") == 1


def test_a_provider_may_change_its_algorithm_with_its_key(world: World, provider: OIDCProvider) -> None:
    """From RSA to EC, while discovery and keys are cached: both are fetched again, once."""
    world.browser().signed_in()
    provider.signing_key = ECKey.generate_key("P-256", {"kid": "first"})
    provider.header = {"alg": "ES256"}
    provider.document = {"id_token_signing_alg_values_supported": ["ES256"]}
    world.browser().signed_in()
    world.browser().signed_in()
    assert (provider.count("/keys"), provider.count("/.well-known/openid-configuration")) == (2, 2)
