"""The settings: every environment variable that the gateway reads, with its unit and its default.

`load_settings` reports all problems at once. It names variables and never shows values, because some are secret.
`.env.example` explains each variable to operators.
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
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import ErrorDetails

from app.domain.basic_credentials import Encoding, find_problem, is_encoded_differently
from app.domain.job import is_job_id

PREFIX = "VISIONA_"
ROOT = Path(__file__).resolve().parent.parent

#: How a worker's threads are shared. Uploads may use what the others leave.
RESERVED_THREADS = 32  # for polls and all other short requests
PULL_SLOTS = 16
LIBRARY_DOWNLOAD_SLOTS = 32

_MIN_SECRET_CHARACTERS = 32
_LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


class ConfigurationError(Exception):
    """The settings are invalid. `problems` has one sentence per problem, with names of variables and no values."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("The configuration has problems:\n" + "\n".join(f"  - {problem}" for problem in problems))
        self.problems = problems


def _split(value: str) -> SplitResult:
    """Split a URL. The standard library's own message would repeat the value, which may contain a password."""
    try:
        return urlsplit(value)
    except ValueError:
        raise ValueError("is not a URL") from None


def _base_url(value: str) -> str:
    parts = _split(value)
    try:
        _ = parts.port
    except ValueError:
        raise ValueError("has a port that is not a number") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be an absolute http or https URL")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must not contain credentials, a query or a fragment")
    if re.search(r"[\s\x00-\x1f\\]", value):
        raise ValueError("must not contain whitespace, control characters or backslashes")
    return value.rstrip("/")


def _origin(value: str) -> str:
    """Return an origin as browsers send it (RFC 6454, section 6): lower case, without the scheme's default port."""
    url = _base_url(value)
    parts = urlsplit(url)
    if parts.path:
        raise ValueError("must be an origin: scheme, host and port only")
    try:
        host = (parts.hostname or "").encode("idna").decode("ascii")
    except UnicodeError:
        raise ValueError("has an invalid host name") from None
    if ":" in host:
        host = f"[{host}]"
    is_default = parts.port in {None, 443 if parts.scheme == "https" else 80}
    return f"{parts.scheme}://{host}" + ("" if is_default else f":{parts.port}")


def _plain(value: object) -> object:
    """Refuse characters that shells, editors and secret stores leave around a value. They would cause errors later."""
    if isinstance(value, str) and value:
        # Bytes that are not UTF-8 come from the environment as surrogates, which cannot be encoded again.
        if any(unicodedata.category(character) == "Cs" for character in value):
            raise ValueError("must be UTF-8")
        # Control, format and separator characters: line breaks, all kinds of spaces, byte order marks.
        if any(unicodedata.category(end) in {"Cc", "Cf", "Zl", "Zp", "Zs"} for end in (value[0], value[-1])):
            raise ValueError("must not begin or end with a space, a line break or an invisible character")
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            raise ValueError("must not be enclosed in quotes")
    return value


def _list(value: object) -> object:
    """Return the members of a comma-separated list. Spaces after a comma are allowed."""
    _plain(value)
    if not isinstance(value, str):
        return value
    members = [member.strip(" ") for member in value.split(",")]
    for member in members:
        _plain(member)
    return tuple(member for member in members if member)


_NO_CERTIFICATES = "must be the path of a readable file with PEM certificates"


def _holds_certificates(path: Path) -> bool:
    try:
        ssl.create_default_context(cafile=str(path))
    except OSError:  # the base class of ssl.SSLError
        return False
    return True


T = TypeVar("T")
Credential = TypeVar("Credential", str, SecretStr, None)

Text = Annotated[str, BeforeValidator(_plain)]
Secret = Annotated[SecretStr, BeforeValidator(_plain)]
BaseURL = Annotated[Text, AfterValidator(_base_url)]


class Settings(BaseModel):
    """The whole configuration, checked. Immutable; create it with `load_settings`."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    #: How client ids and secrets are sent to MC. It comes first because their validation depends on it.
    basic_credentials: Encoding = "rfc6749"

    # --- always required
    oidc_issuer: BaseURL
    oidc_client_id: Text = Field(min_length=1)
    oidc_client_secret: Secret = Field(min_length=1)
    public_base_url: BaseURL
    #: The first key signs and all keys verify, so that keys can be rotated.
    secret_key: Annotated[tuple[SecretStr, ...], BeforeValidator(_list)]

    # --- conversion; enabled when both base URLs are set
    converter_base_url: BaseURL | None = None
    faa_base_url: BaseURL | None = None
    #: The FAA's address for browsers; None means `faa_base_url`.
    faa_public_base_url: BaseURL | None = None
    tenant_id: Text | None = Field(default=None, validate_default=True)
    service_client_id: Text | None = Field(default=None, validate_default=True)
    service_client_secret: Secret | None = Field(default=None, validate_default=True)

    # --- with defaults
    #: PEM file with the certificate authorities to trust for upstreams; None means the public ones.
    ca_file: Path | None = None
    database_url: Secret = SecretStr(f"sqlite:///{ROOT / 'var' / 'visiona.db'}")
    storage_url: Text = (ROOT / "var" / "models").as_uri()
    auto_migrate: bool = True
    session_seconds: int = Field(default=43_200, ge=60, le=30 * 86_400)
    request_deadline_seconds: float = Field(default=60, gt=0, le=3_600)
    max_upload_bytes: int = Field(default=5 * 1024**3, ge=1)
    max_parts: int = Field(default=2_000, ge=2, le=100_000)
    #: Threads of each worker. The smallest number leaves 32 upload slots.
    worker_threads: int = Field(default=336, ge=112, le=1_024)
    #: Concurrent uploads per worker; None means as many as possible. `max_uploads` is the number in effect.
    upload_slots: int | None = Field(default=None, ge=1)
    #: Well below the upload lease's lifetime (150 s), which is renewed as bytes arrive.
    upload_idle_seconds: float = Field(default=60, gt=0, le=120)
    upload_min_bytes_per_second: int = Field(default=1_024, ge=0)
    #: Hash each model while it streams; the digest goes into the response to the upload and into the log.
    upload_digest: Literal["none", "sha256"] = "none"
    #: How many seconds a worker that is shutting down still accepts connections.
    drain_seconds: float = Field(default=2, ge=0, le=60)
    #: How many seconds running requests have after SIGTERM, including the drain. gunicorn's graceful_timeout.
    grace_seconds: int = Field(default=120, ge=5, le=86_400)
    #: Quota of each user's models in the library, in bytes; None means no limit.
    library_bytes_per_user: int | None = Field(default=None, ge=0)
    allowed_origins: Annotated[tuple[str, ...], BeforeValidator(_list)] = ()
    #: Where the gunicorn master creates the directory for its workers' metrics; None means in memory if possible.
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
            raise ValueError(f"must have at least {_MIN_SECRET_CHARACTERS} characters in each key")
        return keys

    @field_validator("allowed_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_origin(origin) for origin in origins)

    @field_validator("tenant_id", "service_client_id", "service_client_secret")
    @classmethod
    def _required_for_conversion(cls, value: T, info: ValidationInfo) -> T:
        # Base URLs that are invalid are absent from `info.data`, and are reported themselves.
        if value is None and info.data.get("converter_base_url") and info.data.get("faa_base_url"):
            raise ValueError("is required, because conversion is enabled")
        return value

    @field_validator("tenant_id")
    @classmethod
    def _check_tenant(cls, value: str | None) -> str | None:
        if value is not None and not is_job_id(value):
            raise ValueError("must contain only letters, digits, _ and - (at most 128)")
        return value

    @field_validator("public_base_url")
    @classmethod
    def _check_public(cls, value: str) -> str:
        origin = _origin(value)
        parts = urlsplit(origin)
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK_HOSTS:
            raise ValueError("must be https (http is allowed for localhost only)")
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
            raise ValueError("must name a file, such as sqlite:////absolute/path")
        try:
            _ = parts.port
        except ValueError:
            raise ValueError("has a port that is not a number") from None
        return value

    @field_validator("grace_seconds")
    @classmethod
    def _check_grace(cls, value: int, info: ValidationInfo) -> int:
        # The last 3 s are for the responses to uploads that are not done.
        if value < info.data.get("drain_seconds", 0) + 3:
            raise ValueError(f"must be at least 3 more than {PREFIX}DRAIN_SECONDS")
        return value

    @property
    def is_conversion_enabled(self) -> bool:
        """Whether both upstreams of a conversion are configured."""
        return self.converter_base_url is not None and self.faa_base_url is not None

    @property
    def max_uploads(self) -> int:
        """The number of concurrent uploads per worker, which leaves enough threads for everything else."""
        most = self.worker_threads - RESERVED_THREADS - PULL_SLOTS - LIBRARY_DOWNLOAD_SLOTS
        return most if self.upload_slots is None else min(self.upload_slots, most)

    @property
    def is_https(self) -> bool:
        """Whether browsers connect by https."""
        return self.public_base_url.startswith("https://")

    @property
    def public_host(self) -> str:
        """The required Host header, in lower case, with the port unless it is the scheme's default."""
        return urlsplit(self.public_base_url).netloc.lower()

    @property
    def secret_keys(self) -> list[str]:
        """The session keys in the clear; the first one signs."""
        return [key.get_secret_value() for key in self.secret_key]

    @property
    def secrets(self) -> list[str]:
        """Every secret in the clear. Only for the log's redactor."""
        holders = (*self.secret_key, self.oidc_client_secret, self.service_client_secret)
        database_password = urlsplit(self.database_url.get_secret_value()).password or ""
        spellings = [database_password, unquote(database_password)]
        return [holder.get_secret_value() for holder in holders if holder is not None] + spellings

    def require_what_it_names(self) -> None:
        """Raise ConfigurationError if a file that the settings name is no longer valid.

        Running requests are not affected, but the next worker could not start, and new connections would fail.
        """
        if self.ca_file is not None and not _holds_certificates(self.ca_file):
            raise ConfigurationError([f"{PREFIX}CA_FILE {_NO_CERTIFICATES}"])

    def warnings(self, environ: Mapping[str, str] = os.environ) -> list[str]:
        """Return a sentence about each setting that is valid but probably a mistake."""
        found = []
        if (self.converter_base_url is None) != (self.faa_base_url is None):
            missing = "CONVERTER_BASE_URL" if self.converter_base_url is None else "FAA_BASE_URL"
            found.append(f"Conversion is disabled because {PREFIX}{missing} is not set; both base URLs are required.")
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
                f"{', '.join(differing)} would be sent differently with {PREFIX}BASIC_CREDENTIALS={other} "
                f"(it is {self.basic_credentials}). If Member Center refuses the client, try {other}."
            )
        if self.upload_slots is not None and self.upload_slots > self.max_uploads:
            found.append(
                f"{PREFIX}UPLOAD_SLOTS is larger than {PREFIX}WORKER_THREADS allows. Each worker accepts "
                f"{self.max_uploads} uploads at once, because the other threads are for other requests."
            )
        known = {PREFIX + name.upper() for name in type(self).model_fields}
        for name in sorted(set(environ) - known):
            if name.startswith(PREFIX):
                close = difflib.get_close_matches(name, known, n=1)
                found.append(f"{name} is not a setting" + (f"; did you mean {close[0]}?" if close else "."))
        return found


def load_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read and check the settings. A variable that is empty counts as not set.

    Raises ConfigurationError, which names all problems and shows no values.
    """
    given = {name: value for name, value in environ.items() if name.startswith(PREFIX) and value}
    values: dict[str, Any] = {name.removeprefix(PREFIX).lower(): value for name, value in given.items()}
    try:
        return Settings(**values)
    except ValidationError as error:
        raise ConfigurationError([_sentence(problem) for problem in error.errors(include_input=False)]) from None


def _sentence(problem: ErrorDetails) -> str:
    message = str(problem["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")
    if problem["type"] == "missing":
        message = "is required"
    if problem["type"] == "string_unicode":
        message = "must be UTF-8"
    if problem["type"] == "bool_parsing":
        message = "must be 0 or 1"
    # "must be a valid integer, unable to parse string as an integer" says the same thing twice.
    message = message.partition(", unable to")[0]
    return f"{PREFIX}{str(problem['loc'][0]).upper()} {message}"
