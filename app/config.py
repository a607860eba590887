"""The settings: every environment variable that the gateway reads, in one place, with its unit and its default.

`load_settings` reports all problems at once, by variable name and never by value, because values hold secrets. What
each variable means to an operator stands in `.env.example`.
"""

import difflib
import os
import re
import ssl
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from app.domain.basic_credentials import Encoding, find_problem, is_encoded_differently
from app.domain.job import is_job_id

PREFIX = "VISIONA_"
ROOT = Path(__file__).resolve().parent.parent

#: Threads a gunicorn worker has; pools and the default of the transfer slots are sized by it.
WORKER_THREADS = 32

_MIN_SECRET_CHARACTERS = 32
_LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


class ConfigurationError(Exception):
    """The environment does not make a gateway. `problems` has one sentence a problem, naming variables only."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("The configuration has problems:\n" + "\n".join(f"  - {problem}" for problem in problems))
        self.problems = problems


def _split(value: str) -> SplitResult:
    """The parts of a URL; the standard library's own complaint would repeat the value, which may hold a password."""
    try:
        return urlsplit(value)
    except ValueError:
        raise ValueError("is no URL") from None


def _base_url(value: str) -> str:
    parts = _split(value)
    try:
        _ = parts.port
    except ValueError:
        raise ValueError("has a port that is not a number") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be an absolute http or https URL")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must not hold credentials, a query or a fragment")
    if re.search(r"[\s\x00-\x1f\\]", value):
        raise ValueError("must not hold blanks, control characters or backslashes")
    return value.rstrip("/")


def _origin(value: str) -> str:
    """An origin in the form in which browsers send it (RFC 6454, section 6): lower case, without the usual port."""
    url = _base_url(value)
    parts = urlsplit(url)
    if parts.path:
        raise ValueError("must be an origin: scheme, host and port only")
    try:
        host = (parts.hostname or "").encode("idna").decode("ascii")
    except UnicodeError:
        raise ValueError("has a host that cannot be") from None
    if ":" in host:
        host = f"[{host}]"
    is_usual = parts.port in {None, 443 if parts.scheme == "https" else 80}
    return f"{parts.scheme}://{host}" + ("" if is_usual else f":{parts.port}")


def _plain(value: object) -> object:
    """Refuse what shells, editors and secret stores leave around a value: it would only fail much later."""
    if isinstance(value, str) and value:
        # Other bytes come as surrogates from the environment. What signs, sends or opens the value would crash.
        if any(unicodedata.category(character) == "Cs" for character in value):
            raise ValueError("must be UTF-8")
        # Control and format characters, and all that separate: line breaks, blanks, no-break spaces, byte order marks.
        if any(unicodedata.category(end) in {"Cc", "Cf", "Zl", "Zp", "Zs"} for end in (value[0], value[-1])):
            raise ValueError("must not begin or end with a blank, a line break or an invisible character")
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            raise ValueError("must not be enclosed in quotes")
    return value


def _list(value: object) -> object:
    """The members of a comma-separated list; blanks after a comma are allowed."""
    _plain(value)
    if not isinstance(value, str):
        return value
    members = [member.strip(" ") for member in value.split(",")]
    for member in members:
        _plain(member)
    return tuple(member for member in members if member)


_NO_CERTIFICATES = "must name a readable file of PEM certificates"


def _holds_certificates(path: Path) -> bool:
    try:
        ssl.create_default_context(cafile=str(path))
    except OSError:  # ssl.SSLError is one, too
        return False
    return True


T = TypeVar("T")
Credential = TypeVar("Credential", str, SecretStr, None)

Text = Annotated[str, BeforeValidator(_plain)]
Secret = Annotated[SecretStr, BeforeValidator(_plain)]
BaseURL = Annotated[Text, AfterValidator(_base_url)]


class Settings(BaseSettings):
    """The whole configuration, checked. Immutable; make it with `load_settings`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="ignore", hide_input_in_errors=True
    )

    #: How ids and secrets of clients are sent to MC. It stands first because they are checked against it.
    basic_credentials: Encoding = "rfc6749"

    # --- always required
    oidc_issuer: BaseURL
    oidc_client_id: Text = Field(min_length=1)
    oidc_client_secret: Secret = Field(min_length=1)
    public_base_url: BaseURL
    #: The first signs; all verify. Comma-separated in the environment, so that keys can be rotated.
    secret_key: Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_list)]

    # --- conversion; enabled when both base URLs are set
    converter_base_url: BaseURL | None = None
    faa_base_url: BaseURL | None = None
    #: Where browsers reach the FAA; None means `faa_base_url`.
    faa_public_base_url: BaseURL | None = None
    tenant_id: Text | None = Field(default=None, validate_default=True)
    service_client_id: Text | None = Field(default=None, validate_default=True)
    service_client_secret: Secret | None = Field(default=None, validate_default=True)

    # --- with defaults
    #: The certification authorities that upstreams are checked against, in PEM; None is the usual public ones.
    ca_file: Path | None = None
    database_url: Secret = SecretStr(f"sqlite:///{ROOT / 'var' / 'visiona.db'}")
    storage_url: Text = (ROOT / "var" / "models").as_uri()
    auto_migrate: bool = True
    session_seconds: int = Field(default=43_200, ge=60, le=30 * 86_400)
    request_deadline_seconds: float = Field(default=60, gt=0, le=3_600)
    max_upload_bytes: int = Field(default=5 * 1024**3, ge=1)
    max_parts: int = Field(default=2_000, ge=2, le=100_000)
    #: Long transfers at once, a worker; None leaves a quarter of the worker's threads to everything else.
    upload_slots: int | None = Field(default=None, ge=1, le=WORKER_THREADS)
    #: Well below the upload lease's life (150 s), which is renewed as bytes arrive.
    upload_idle_seconds: float = Field(default=60, gt=0, le=120)
    upload_min_bytes_per_second: int = Field(default=1_024, ge=0)
    #: Hash each model while it streams; its digest is in init's answer and in the log.
    upload_digest: Literal["none", "sha256"] = "none"
    #: How long a worker that is told to stop still accepts, in seconds, so that everybody hears of it.
    drain_seconds: float = Field(default=2, ge=0, le=60)
    #: What one user's models may take in the library, in bytes; None is no limit.
    library_bytes_per_user: int | None = Field(default=None, ge=0)
    allowed_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_list)] = ()
    #: Where each gunicorn master makes the directory of its workers' counts; None: in memory where that is possible.
    metrics_dir: Path | None = None
    log_format: Literal["json", "console"] = "json"

    @field_validator("oidc_client_id", "oidc_client_secret", "service_client_id", "service_client_secret")
    @classmethod
    def _check_credentials(cls, value: Credential, info: ValidationInfo) -> Credential:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        is_id = str(info.field_name).endswith("_id")
        problem = text and find_problem(text, info.data.get("basic_credentials", "rfc6749"), is_id=is_id)
        if problem:
            raise ValueError(problem)
        return value

    @field_validator("ca_file")
    @classmethod
    def _check_ca_file(cls, value: Path | None) -> Path | None:
        if value is not None and not _holds_certificates(value):
            raise ValueError(_NO_CERTIFICATES)
        return value

    @field_validator("secret_key")
    @classmethod
    def _check_keys(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if not keys:
            raise ValueError("is required")
        if any(len(key.get_secret_value()) < _MIN_SECRET_CHARACTERS for key in keys):
            raise ValueError(f"each key needs at least {_MIN_SECRET_CHARACTERS} characters")
        return keys

    @field_validator("allowed_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_origin(origin) for origin in origins)

    @field_validator("tenant_id", "service_client_id", "service_client_secret")
    @classmethod
    def _required_for_conversion(cls, value: T, info: ValidationInfo) -> T:
        # Base URLs that are themselves wrong are absent from `info.data`, and get their own sentence.
        if value is None and info.data.get("converter_base_url") and info.data.get("faa_base_url"):
            raise ValueError("is required, because conversion is enabled")
        return value

    @field_validator("tenant_id")
    @classmethod
    def _check_tenant(cls, value: str | None) -> str | None:
        if value is not None and not is_job_id(value):
            raise ValueError("may hold letters, digits, _ and - only (at most 128)")
        return value

    @field_validator("public_base_url")
    @classmethod
    def _check_public(cls, value: str) -> str:
        origin = _origin(value)
        parts = urlsplit(origin)
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK_HOSTS:
            raise ValueError("must be https (plain http is for localhost only)")
        return origin

    @field_validator("storage_url")
    @classmethod
    def _check_storage(cls, value: str) -> str:
        parts = _split(value)
        if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
            return value
        if parts.scheme == "s3" and parts.netloc:
            return value
        raise ValueError("must be file:///absolute/folder or s3://bucket/prefix")

    @field_validator("database_url")
    @classmethod
    def _check_database(cls, value: SecretStr) -> SecretStr:
        parts = _split(value.get_secret_value())
        scheme = parts.scheme
        if scheme not in {"sqlite", "postgresql", "postgresql+psycopg"}:
            raise ValueError("must begin with sqlite:/// or postgresql://")
        if scheme == "sqlite" and (parts.netloc or parts.path in {"", "/", "/:memory:"}):
            raise ValueError("must name a file: sqlite:////absolute/path")
        try:
            _ = parts.port
        except ValueError:
            raise ValueError("has a port that is not a number") from None
        return value

    @property
    def is_conversion_enabled(self) -> bool:
        """Are both upstreams of a conversion configured?"""
        return self.converter_base_url is not None and self.faa_base_url is not None

    @property
    def is_https(self) -> bool:
        """Do browsers reach us by https?"""
        return self.public_base_url.startswith("https://")

    @property
    def public_host(self) -> str:
        """The value that a Host header must have, lower case, with the port where it is not the scheme's."""
        return urlsplit(self.public_base_url).netloc.lower()

    @property
    def secret_keys(self) -> list[str]:
        """The signing keys in the clear, the signing one first."""
        return [key.get_secret_value() for key in self.secret_key]

    @property
    def secrets(self) -> list[str]:
        """Every secret in the clear, for the log's redactor and for nothing else."""
        holders = (*self.secret_key, self.oidc_client_secret, self.service_client_secret)
        database_password = urlsplit(self.database_url.get_secret_value()).password or ""
        spellings = [database_password, unquote(database_password)]
        return [holder.get_secret_value() for holder in holders if holder is not None] + spellings

    def require_what_it_names(self) -> None:
        """Raise ConfigurationError if a file that the settings name is not what it was when the process started.

        What is running goes on; but the next worker could not start, and connections that are made anew would fail.
        """
        if self.ca_file is not None and not _holds_certificates(self.ca_file):
            raise ConfigurationError([f"{PREFIX}CA_FILE {_NO_CERTIFICATES}"])

    def warnings(self, environ: Mapping[str, str] | None = None) -> list[str]:
        """Sentences about what is allowed but probably not meant."""
        found = []
        if (self.converter_base_url is None) != (self.faa_base_url is None):
            missing = "CONVERTER_BASE_URL" if self.converter_base_url is None else "FAA_BASE_URL"
            found.append(f"Conversion is disabled because {PREFIX}{missing} is not set; it needs both base URLs.")
        credentials = {
            "OIDC_CLIENT_ID": self.oidc_client_id,
            "OIDC_CLIENT_SECRET": self.oidc_client_secret.get_secret_value(),
            "SERVICE_CLIENT_ID": self.service_client_id,
            "SERVICE_CLIENT_SECRET": self.service_client_secret and self.service_client_secret.get_secret_value(),
        }
        differing = [PREFIX + name for name, text in credentials.items() if text and is_encoded_differently(text)]
        if differing:
            other = "raw" if self.basic_credentials == "rfc6749" else "rfc6749"
            found.append(
                f"{', '.join(differing)} would be sent differently if {PREFIX}BASIC_CREDENTIALS were {other} "
                f"(it is {self.basic_credentials}). If Member Center refuses the client, change it."
            )
        known = {PREFIX + name.upper() for name in type(self).model_fields}
        for name in sorted(set(os.environ if environ is None else environ) - known):
            if name.startswith(PREFIX):
                close = difflib.get_close_matches(name, known, n=1)
                found.append(f"{name} is not a setting" + (f"; did you mean {close[0]}?" if close else "."))
        return found


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read and check the environment (or `environ` instead, in tests).

    Raises ConfigurationError, which names every problem at once and no value.
    """
    try:
        if environ is None:
            return Settings()
        given = {name: value for name, value in environ.items() if name.startswith(PREFIX) and value}
        values: dict[str, Any] = {name.removeprefix(PREFIX).lower(): value for name, value in given.items()}
        return _FromMapping(**values)
    except ValidationError as error:
        raise ConfigurationError([_sentence(problem) for problem in error.errors(include_input=False)]) from None


class _FromMapping(Settings):
    """The same settings read from keyword arguments alone, deaf to the process's environment."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)


def _sentence(problem: ErrorDetails) -> str:
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "missing":
        message = "is required"
    if problem["type"] == "string_unicode":
        message = "must be UTF-8"
    name = PREFIX + str(problem["loc"][0]).upper() if problem["loc"] else ""
    return f"{name} {message}".strip()
