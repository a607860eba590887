"""Settings: defaults, and messages that name every problem and show no value."""

from pathlib import Path

import pytest

from app.config import (
    LIBRARY_DOWNLOAD_SLOTS,
    PREFIX,
    PULL_SLOTS,
    RESERVED_THREADS,
    ConfigurationError,
    Settings,
    load_settings,
)
from tests.support.certificates import write_certificate

SECRET = "s3cr3t-" * 6
REQUIRED = {
    "VISIONA_OIDC_ISSUER": "https://mc.example/",
    "VISIONA_OIDC_CLIENT_ID": "gateway",
    "VISIONA_OIDC_CLIENT_SECRET": "oidc-secret-s3cr3t",
    "VISIONA_PUBLIC_BASE_URL": "https://visiona.example",
    "VISIONA_SECRET_KEY": SECRET,
}
CONVERSION = {
    "VISIONA_CONVERTER_BASE_URL": "http://converter:3000",
    "VISIONA_FAA_BASE_URL": "http://faa:4000/",
    "VISIONA_TENANT_ID": "tenant-1",
    "VISIONA_SERVICE_CLIENT_ID": "service",
    "VISIONA_SERVICE_CLIENT_SECRET": "service-secret-s3cr3t",
}


def problems(environ: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(environ)
    return caught.value.problems


def test_required_settings_alone_give_the_documented_defaults() -> None:
    settings = load_settings(REQUIRED)
    assert settings.oidc_issuer == "https://mc.example"
    assert not settings.is_conversion_enabled
    assert settings.session_seconds == 43_200
    assert settings.request_deadline_seconds == 60
    assert settings.max_upload_bytes == 5 * 1024**3
    assert settings.max_parts == 2_000
    assert (settings.worker_threads, settings.max_uploads) == (336, 256)
    assert settings.upload_idle_seconds == 60
    assert settings.upload_min_bytes_per_second == 1_024
    assert settings.allowed_origins == ()
    assert settings.log_format == "json"
    assert settings.auto_migrate is True
    assert settings.database_url.get_secret_value().startswith("sqlite:////")
    assert settings.storage_url.startswith("file:///")
    assert settings.warnings({}) == []


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("value", [None, ""])
def test_each_missing_required_setting_is_named(name: str, value: str | None) -> None:
    environ = {key: text for key, text in REQUIRED.items() if key != name}
    if value is not None:
        environ[name] = value
    assert problems(environ) == [f"{name} is required"]


@pytest.mark.parametrize("name", ["VISIONA_TENANT_ID", "VISIONA_SERVICE_CLIENT_ID", "VISIONA_SERVICE_CLIENT_SECRET"])
def test_conversion_requires_all_of_its_settings(name: str) -> None:
    environ = REQUIRED | {key: text for key, text in CONVERSION.items() if key != name}
    assert problems(environ) == [f"{name} is required, because conversion is enabled"]


def test_conversion_is_enabled_by_its_two_base_urls() -> None:
    settings = load_settings(REQUIRED | CONVERSION)
    assert settings.is_conversion_enabled
    assert settings.faa_base_url == "http://faa:4000"
    assert settings.faa_public_base_url is None


@pytest.mark.parametrize("one", ["VISIONA_CONVERTER_BASE_URL", "VISIONA_FAA_BASE_URL"])
def test_with_one_base_url_conversion_is_disabled_and_a_warning_names_the_other(one: str) -> None:
    settings = load_settings(REQUIRED | {one: CONVERSION[one]})
    assert not settings.is_conversion_enabled
    (other,) = {"VISIONA_CONVERTER_BASE_URL", "VISIONA_FAA_BASE_URL"} - {one}
    (warning,) = settings.warnings({})
    assert other in warning


@pytest.mark.parametrize("threads", ["", "112"])
@pytest.mark.parametrize("slots", [1, 24, 32])
def test_a_number_of_upload_slots_that_fits_is_used(threads: str, slots: int) -> None:
    settings = load_settings(
        REQUIRED | {"VISIONA_WORKER_THREADS": threads, "VISIONA_UPLOAD_SLOTS": str(slots)},
    )
    assert settings.max_uploads == slots
    assert settings.warnings({}) == []


@pytest.mark.parametrize(("threads", "slots", "uploads"), [("112", "33", 32), ("", "257", 256), ("400", "9999", 320)])
def test_more_upload_slots_than_the_threads_allow_are_lowered_with_a_warning(
    threads: str, slots: str, uploads: int
) -> None:
    """Polls, pulls and library downloads have threads that no setting takes from them."""
    settings = load_settings(REQUIRED | {"VISIONA_WORKER_THREADS": threads, "VISIONA_UPLOAD_SLOTS": slots})
    assert settings.max_uploads == uploads
    assert uploads + PULL_SLOTS + LIBRARY_DOWNLOAD_SLOTS + RESERVED_THREADS == settings.worker_threads
    (warning,) = settings.warnings({})
    assert "VISIONA_UPLOAD_SLOTS" in warning
    assert f"{uploads} uploads" in warning


@pytest.mark.parametrize("drain", [2, 60])
def test_the_grace_includes_the_drain_and_three_seconds(drain: int) -> None:
    """Otherwise gunicorn would kill workers that still accept requests."""
    environ = REQUIRED | {"VISIONA_DRAIN_SECONDS": str(drain), "VISIONA_GRACE_SECONDS": str(drain + 3)}
    assert load_settings(environ).grace_seconds == drain + 3
    environ |= {"VISIONA_DRAIN_SECONDS": "58", "VISIONA_GRACE_SECONDS": "60"}
    assert problems(environ) == ["VISIONA_GRACE_SECONDS must be at least 3 more than VISIONA_DRAIN_SECONDS"]


WRONG = {
    "VISIONA_OIDC_ISSUER": "mc.s3cr3t",
    "VISIONA_PUBLIC_BASE_URL": "http://visiona.s3cr3t",
    "VISIONA_SECRET_KEY": "short-s3cr3t",
    "VISIONA_CONVERTER_BASE_URL": "ftp://s3cr3t",
    "VISIONA_FAA_BASE_URL": "http://user:s3cr3t@faa",
    "VISIONA_FAA_PUBLIC_BASE_URL": "http://faa:s3cr3t",
    "VISIONA_TENANT_ID": "a/s3cr3t",
    "VISIONA_DATABASE_URL": "mysql://root:s3cr3t@db/x",
    "VISIONA_STORAGE_URL": "ftp://s3cr3t",
    "VISIONA_AUTO_MIGRATE": "s3cr3t",
    "VISIONA_SESSION_SECONDS": "59",
    "VISIONA_REQUEST_DEADLINE_SECONDS": "s3cr3t",
    "VISIONA_MAX_UPLOAD_BYTES": "0",
    "VISIONA_MAX_PARTS": "1",
    "VISIONA_UPLOAD_SLOTS": "0",
    "VISIONA_WORKER_THREADS": "111",
    "VISIONA_UPLOAD_IDLE_SECONDS": "nan-s3cr3t",
    "VISIONA_UPLOAD_MIN_BYTES_PER_SECOND": "-1",
    "VISIONA_ALLOWED_ORIGINS": "https://a.example/path-s3cr3t",
    "VISIONA_LOG_FORMAT": "s3cr3t",
}


def test_every_problem_is_reported_at_once_by_name_and_never_by_value() -> None:
    found = problems(REQUIRED | CONVERSION | WRONG)
    assert {problem.split(" ")[0] for problem in found} == set(WRONG)
    assert len(found) == len(WRONG)
    assert "s3cr3t" not in "\n".join(found)


@pytest.mark.parametrize(
    ("name", "value", "must"),
    [
        ("AUTO_MIGRATE", "maybe", "must be 0 or 1"),
        ("MAX_PARTS", "many", "must be a valid integer"),
        ("SESSION_SECONDS", "59", "must be greater than or equal to 60"),
        ("LOG_FORMAT", "xml", "must be 'json' or 'console'"),
    ],
)
def test_a_problem_says_what_the_value_must_be(name: str, value: str, must: str) -> None:
    assert problems(REQUIRED | {f"VISIONA_{name}": value}) == [f"VISIONA_{name} {must}"]


@pytest.mark.parametrize("name", WRONG)
def test_each_problem_is_found_alone_and_the_exception_has_no_value(name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(REQUIRED | CONVERSION | {name: WRONG[name]})
    assert [problem.split(" ")[0] for problem in caught.value.problems] == [name]
    assert "s3cr3t" not in str(caught.value)
    assert caught.value.__cause__ is None


INVALID = {
    "OIDC_ISSUER": [
        "s3cr3t.example",
        "//s3cr3t",
        "http://",
        "https://s3cr3t/?q=1",
        "https://s3cr3t/#f",
        "https://s3cr3t b",
        "https://s3cr3t\\y",
        "https://s3cr3t\n",
        # The standard library's message about unbalanced brackets would contain the value.
        "https://[s3cr3t]/",
    ],
    "STORAGE_URL": ["s3://[s3cr3t]/x"],
    "DATABASE_URL": [
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "postgresql://u:s3cr3t@db:port/x",
        "postgresql://u:s3cr3t@[db/x",
    ],
    "ALLOWED_ORIGINS": [f"https://{'s3cr3t' * 11}.example"],
    "BASIC_CREDENTIALS": ["s3cr3t"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in INVALID.items() for value in values])
def test_an_invalid_value_is_one_problem_that_does_not_show_it(name: str, value: str) -> None:
    (problem,) = problems(REQUIRED | {f"VISIONA_{name}": value})
    assert problem.startswith(f"VISIONA_{name} ")
    assert "s3cr3t" not in problem


@pytest.mark.parametrize("url", ["http://localhost:8000", "http://127.0.0.1", "http://[::1]:8000", "https://x.example"])
def test_plain_http_is_for_this_machine_only(url: str) -> None:
    settings = load_settings(REQUIRED | {"VISIONA_PUBLIC_BASE_URL": url})
    assert settings.is_https == url.startswith("https")
    assert settings.public_host == url.split("//")[1]


def test_secret_keys_can_be_rotated_and_the_first_one_signs() -> None:
    new, old = "n" * 32, "o" * 32
    assert load_settings(REQUIRED | {"VISIONA_SECRET_KEY": f"{new} ,, {old},"}).secret_keys == [new, old]
    assert problems(REQUIRED | {"VISIONA_SECRET_KEY": f"{new},short"}) == [
        "VISIONA_SECRET_KEY must have at least 32 characters in each key"
    ]
    assert problems(REQUIRED | {"VISIONA_SECRET_KEY": ","}) == ["VISIONA_SECRET_KEY is required"]


def test_origins_are_split_and_exact() -> None:
    settings = load_settings(REQUIRED | {"VISIONA_ALLOWED_ORIGINS": "https://a.example, http://localhost:5173/"})
    assert settings.allowed_origins == ("https://a.example", "http://localhost:5173")


def test_every_secret_is_known_to_the_redactor_and_never_shown() -> None:
    settings = load_settings(REQUIRED | CONVERSION | {"VISIONA_DATABASE_URL": "postgresql://u:db-pass-s3cr3t@db/x"})
    assert set(settings.secrets) == {SECRET, "oidc-secret-s3cr3t", "service-secret-s3cr3t", "db-pass-s3cr3t"}
    assert "s3cr3t" not in repr(settings)
    assert "s3cr3t" not in str(settings)
    assert "s3cr3t" not in settings.model_dump_json()


def test_settings_cannot_be_changed() -> None:
    settings = load_settings(REQUIRED)
    with pytest.raises(ValueError, match="frozen"):
        settings.max_parts = 5  # type: ignore[misc]


def test_a_misspelled_variable_gets_a_warning() -> None:
    settings = load_settings(REQUIRED)
    (warning,) = settings.warnings({"VISIONA_MAX_UPLOAD_BYTE": "s3cr3t", "PATH": "/bin"})
    assert warning == "VISIONA_MAX_UPLOAD_BYTE is not a setting; did you mean VISIONA_MAX_UPLOAD_BYTES?"


def test_a_given_mapping_replaces_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONA_MAX_PARTS", "7")
    assert load_settings(REQUIRED).max_parts == 2_000


def test_the_environment_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(PREFIX + name.upper(), raising=False)
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("VISIONA_MAX_PARTS", "7")
    monkeypatch.setenv("VISIONA_TENANT_ID", "")
    settings = load_settings()
    assert settings.max_parts == 7
    assert settings.tenant_id is None


def test_a_database_password_is_known_to_the_redactor_in_both_spellings() -> None:
    settings = load_settings(REQUIRED | {"VISIONA_DATABASE_URL": "postgresql://u:p%40ss@db/x"})
    assert {"p%40ss", "p@ss"} <= set(settings.secrets)


@pytest.mark.parametrize(
    ("given", "origin", "host"),
    [
        ("https://VisionA.Example", "https://visiona.example", "visiona.example"),
        ("https://visiona.example:443", "https://visiona.example", "visiona.example"),
        ("https://visiona.example:8443/", "https://visiona.example:8443", "visiona.example:8443"),
        ("http://localhost:80", "http://localhost", "localhost"),
        ("http://[::1]:8000", "http://[::1]:8000", "[::1]:8000"),
        ("https://視覺.example", "https://xn--yw2auc.example", "xn--yw2auc.example"),
    ],
)
def test_origins_are_normalized_to_what_browsers_send(given: str, origin: str, host: str) -> None:
    settings = load_settings(REQUIRED | {"VISIONA_PUBLIC_BASE_URL": given, "VISIONA_ALLOWED_ORIGINS": given})
    assert settings.public_base_url == origin
    assert settings.public_host == host
    assert settings.allowed_origins == (origin,)


def test_the_ca_file_must_contain_certificates(tmp_path: Path) -> None:
    """Without certificates, every https call would fail, and only at the first call."""
    empty, good = tmp_path / "empty.pem", tmp_path / "good.pem"
    empty.write_text("no certificates", encoding="utf-8")
    write_certificate(good, tmp_path / "key.pem")
    for name in (empty, tmp_path / "absent.pem", tmp_path):
        (problem,) = problems(REQUIRED | {"VISIONA_CA_FILE": str(name)})
        assert problem.startswith("VISIONA_CA_FILE")
    assert load_settings(REQUIRED | {"VISIONA_CA_FILE": str(good)}).ca_file == good


def test_the_storage_may_be_a_bucket() -> None:
    assert load_settings(REQUIRED | {"VISIONA_STORAGE_URL": "s3://bucket/some/prefix"}).storage_url.startswith("s3://")


@pytest.mark.parametrize("name", ["OIDC_CLIENT_ID", "OIDC_CLIENT_SECRET", "SERVICE_CLIENT_ID", "SERVICE_CLIENT_SECRET"])
@pytest.mark.parametrize(
    ("encoding", "value"),
    [("rfc6749", "surrogate-\udcff"), ("raw", "surrogate-\udcff"), ("raw", "line\nbreak"), ("raw", "\x7f")],
)
def test_credentials_that_cannot_be_sent_are_reported(name: str, encoding: str, value: str) -> None:
    """Bytes that are not UTF-8 become surrogates, and RFC 7617 forbids control characters."""
    environ = REQUIRED | CONVERSION | {"VISIONA_BASIC_CREDENTIALS": encoding, f"VISIONA_{name}": value}
    (problem,) = problems(environ)
    assert problem.startswith(f"VISIONA_{name} must ")


def test_a_client_id_with_a_colon_can_only_be_sent_encoded() -> None:
    environ = REQUIRED | {"VISIONA_OIDC_CLIENT_ID": "urn:gateway"}
    assert load_settings(environ).oidc_client_id == "urn:gateway"
    (problem,) = problems(environ | {"VISIONA_BASIC_CREDENTIALS": "raw"})
    assert problem == "VISIONA_OIDC_CLIENT_ID must not contain a colon, because it is sent raw"


@pytest.mark.parametrize("encoding", ["rfc6749", "raw"])
def test_one_warning_names_the_credentials_whose_encoding_matters(encoding: str) -> None:
    environ = REQUIRED | CONVERSION | {"VISIONA_BASIC_CREDENTIALS": encoding}
    assert load_settings(environ).warnings({}) == []
    odd = {"VISIONA_OIDC_CLIENT_SECRET": "a+b%2Fc=&d", "VISIONA_SERVICE_CLIENT_SECRET": "50€"}
    (warning,) = load_settings(environ | odd).warnings({})
    assert warning.startswith("VISIONA_OIDC_CLIENT_SECRET, VISIONA_SERVICE_CLIENT_SECRET would be sent differently")
    assert "VISIONA_BASIC_CREDENTIALS" in warning
    assert not any(value in warning for value in odd.values())


#: Characters that shells, editors and secret stores leave around a value.
ODD_ENDS = ["\n", "\r\n", " ", "\t", "\u00a0", "\ufeff", "\u200b", "\u3000", "\u2028", "\x00", "\x7f"]
GIVEN = {
    **REQUIRED,
    **CONVERSION,
    "VISIONA_FAA_PUBLIC_BASE_URL": "https://files.example",
    "VISIONA_DATABASE_URL": "postgresql://visiona:pass-s3cr3t@db/visiona",
    "VISIONA_STORAGE_URL": "s3://bucket/prefix",
    "VISIONA_ALLOWED_ORIGINS": "https://app.example",
}


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize("end", ODD_ENDS, ids=lambda end: end.encode("unicode_escape").decode())
def test_whitespace_and_invisible_characters_at_the_ends_are_refused(name: str, end: str) -> None:
    sentence = f"{name} must not begin or end with a space, a line break or an invisible character"
    assert sentence in problems(GIVEN | {name: GIVEN[name] + end})
    assert sentence in problems(GIVEN | {name: end + GIVEN[name]})


@pytest.mark.parametrize("name", GIVEN)
def test_bytes_that_are_not_utf_8_are_refused(name: str) -> None:
    """They come from the environment as surrogates, which cannot be encoded again."""
    assert f"{name} must be UTF-8" in problems(GIVEN | {name: GIVEN[name] + "\udcff"})


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize("quote", ['"', "'"])
def test_quotes_around_a_value_are_refused(name: str, quote: str) -> None:
    assert f"{name} must not be enclosed in quotes" in problems(GIVEN | {name: quote + GIVEN[name] + quote})


@pytest.mark.parametrize("name", ["VISIONA_SECRET_KEY", "VISIONA_ALLOWED_ORIGINS"])
def test_whitespace_and_quotes_around_members_of_a_list_are_refused(name: str) -> None:
    for odd in (
        f"{GIVEN[name]}\u00a0,{GIVEN[name]}",
        f"{GIVEN[name]},'{GIVEN[name]}'",
        f"{GIVEN[name]},\n{GIVEN[name]}",
    ):
        assert len(problems(GIVEN | {name: odd})) == 1, odd


@pytest.mark.parametrize(
    "secret", ["'not a pair", 'not a pair"', 'a "quoted" word', "\"one pair'", "inner blanks, too", '"']
)
def test_quotes_and_spaces_within_a_secret_are_allowed(secret: str) -> None:
    settings = load_settings(REQUIRED | {"VISIONA_OIDC_CLIENT_SECRET": secret})
    assert settings.oidc_client_secret.get_secret_value() == secret


@pytest.mark.parametrize("name", ["a%20b", "what?", "x?y=z", "a#b", "100%", "a b", "ü@:&;[x"])
def test_folders_of_any_name_are_allowed(name: str) -> None:
    given = {"VISIONA_DATABASE_URL": f"sqlite:////srv/{name}/visiona.db", "VISIONA_STORAGE_URL": f"file:///srv/{name}"}
    settings = load_settings(REQUIRED | given)
    assert settings.database_url.get_secret_value() == given["VISIONA_DATABASE_URL"]
    assert settings.storage_url == given["VISIONA_STORAGE_URL"]
