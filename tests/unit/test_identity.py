"""The caller's identity, and field names that would claim one in disguise."""

import unicodedata
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.identity import Identity, claims_identity, identity_from_claims

DISGUISES = [
    "user_id",
    "userId",
    "USER_ID",
    "user-id",
    "user id",
    " user_id ",
    "user_id\t",
    "user.id",
    "user__id",
    "_user_id_",
    "userid",
    "UserID",
    "user_id[]",
    "user_id[0]",
    "user_id[$ne]",
    "form[user_id]",
    "a[b][user_id][]",
    "a.user_id",
    "a.b.tenantId",
    "[user_id]",
    "user[id]",
    "user_id.x",
    "user%5Fid",
    "user%5fid",
    "%75ser_id",
    "user%255Fid",
    "user%25255Fid",
    "user%20id",
    "user+id",
    "user_id%00",
    "user_id\0",
    "user_id\0.txt",
    "ｕｓｅｒ＿ｉｄ",
    "user\u200b_id",
    "user\u00ad_id",
    "\ufeffuser_id",
    "user\u2010id",
    "user\u2014id",
    "usér_id",
    "use\u0301r_id",
    "user_\u0345d",
    "use" + "\u0301\u0323" * 100 + "r_id",
    "user_\u0301\u302e\u0323id",
    "user_\u0131d",
    "u\u0455er_id",
    "us\u0435r_id",
    "𝓾𝓼𝓮𝓻_𝓲𝓭",
    "ⓤⓢⓔⓡ_ⓘⓓ",
    "uſer_id",
    "tenant_id",
    "tenantId",
    "TENANT-ID",
    "tenant_id[]",
    "tenant%5Fid",
    "ｔｅｎａｎｔ＿ｉｄ",
    "tenan\u0442_id",
    "user:id",
    "user/id",
    "x/user_id",
    "{user_id}",
    "user_id=",
]
HARMLESS = [
    "model_id",
    "user",
    "id",
    "version",
    "platform",
    "model",
    "ref_images",
    "ref_images[]",
    "username",
    "user_idea",
    "superuser_id",
    "my_user_id_2",
    "tenant",
    "identity",
    "模型",
    "a+b%",
    "",
    "%",
    "100%",
]


@pytest.mark.parametrize("name", DISGUISES)
def test_a_name_that_some_parser_reads_as_the_users_claims_identity(name: str) -> None:
    assert claims_identity(name)


@pytest.mark.parametrize("name", HARMLESS)
def test_a_name_that_means_something_else_does_not(name: str) -> None:
    assert not claims_identity(name)


NAMES = st.sampled_from(["user_id", "tenant_id"])
SEPARATORS = st.sampled_from(["", "_", "-", " ", ".", "__", "\u2010", "%5F", "%2D", "\0", "\u200b_", "+"])


@given(NAMES, SEPARATORS, st.lists(st.booleans(), min_size=9, max_size=9))
def test_case_and_separators_hide_nothing(name: str, separator: str, upper: list[bool]) -> None:
    letters = (c.upper() if up else c for c, up in zip(name, [*upper, False], strict=False))
    assert claims_identity("".join(letters).replace("_", separator))


@given(NAMES, st.integers(0, 3))
def test_percent_encoding_hides_nothing_also_when_repeated(name: str, times: int) -> None:
    name = "".join(f"%{ord(character):02x}" for character in name)
    for _ in range(times):
        name = quote(name, safe="")
    assert claims_identity(name)


@given(NAMES, st.sampled_from("\u200b\u200c\u200d\u2060\ufeff\u00ad\u0301\u0336\u20e3"), st.integers(0, 9))
def test_invisible_characters_hide_nothing(name: str, mark: str, place: int) -> None:
    assert claims_identity(name[:place] + mark + name[place:])


@given(NAMES, st.sampled_from(["a[{}]", "{}[]", "{}[0][1]", "a.{}", "{}.b", "a[b].{}[c]", "[{}]"]))
def test_nesting_hides_nothing(name: str, nesting: str) -> None:
    assert claims_identity(nesting.format(name))


@given(NAMES)
def test_full_width_letters_hide_nothing(name: str) -> None:
    wide = "".join(chr(ord(c) + 0xFEE0) for c in name)
    assert unicodedata.normalize("NFKC", wide) == name
    assert claims_identity(wide)


@given(st.text(max_size=200))
def test_every_text_gets_a_decision(name: str) -> None:
    assert claims_identity(name) in {True, False}


def test_a_very_long_name_is_decided_quickly() -> None:
    assert not claims_identity("%25" * 30_000)
    assert claims_identity("a." * 30_000 + "user_id")


@pytest.mark.parametrize("subject", ["alice", "auth0|5f7", "a", "x" * 255, "a b", "~!@#$%^&*()"])
def test_a_subject_of_visible_ascii_names_a_user(subject: str) -> None:
    identity = identity_from_claims({"sub": subject})
    assert identity is not None
    assert identity.user_id == subject


@pytest.mark.parametrize(
    "subject", [None, "", 5, [], " a", "a ", "a\n", "a\r\nb", "a\0", "ä", "模", "x" * 256, b"a", True]
)
def test_any_other_subject_is_refused(subject: object) -> None:
    assert identity_from_claims({"sub": subject}) is None
    assert identity_from_claims({}) is None


@pytest.mark.parametrize(
    ("claims", "name", "email"),
    [
        ({}, "", ""),
        ({"name": "Ada 王", "email": "a@x"}, "Ada 王", "a@x"),
        ({"preferred_username": "ada"}, "ada", ""),
        ({"email": "a@x"}, "a@x", "a@x"),
        ({"name": "", "preferred_username": "ada"}, "ada", ""),
        ({"name": 5, "email": ["a@x"]}, "", ""),
        ({"name": "a\r\nb\0\u202ec"}, "abc", ""),
        ({"name": "n" * 1_000}, "n" * 200, ""),
    ],
)
def test_names_are_for_display_only_bounded_and_printable(claims: dict[str, object], name: str, email: str) -> None:
    assert identity_from_claims({"sub": "alice", **claims}) == Identity("alice", name, email)
