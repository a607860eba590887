"""The settings of a sandbox: addresses, data directory, durations, and its published names and secrets.

The secrets protect nothing. They are published so that a gateway can use the sandbox without preparation.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

MEMBER_CENTER: Final = "member-center"
CONVERTER: Final = "converter"
FILE_ACCESS: Final = "file-access"
SERVICES: Final = (MEMBER_CENTER, CONVERTER, FILE_ACCESS)

TENANT_ID: Final = "visiona-sandbox"
WEB_CLIENT_ID: Final = "visiona-gateway"
WEB_CLIENT_SECRET: Final = "sandbox-web-secret"
SERVICE_CLIENT_ID: Final = "visiona-gateway-service"
SERVICE_CLIENT_SECRET: Final = "sandbox-service-secret"

BASIC_CREDENTIALS: Final = ("rfc6749", "raw")

DEFAULT_GATEWAY: Final = "http://localhost:8000"


@dataclass(frozen=True)
class Account:
    """An account of the sandbox's Member Center."""

    username: str
    password: str = field(repr=False)
    subject: str
    name: str
    email: str


ACCOUNTS: Final = (
    Account("alice", "alice", "u-alice-7f3a", "Alice Chen 陳愛麗", "alice@sandbox.example"),
    Account("bob", "bob", "u-bob-c81e", "Bob Lin 林柏宇", "bob@sandbox.example"),
)


@dataclass(frozen=True)
class Address:
    """The address of a server; with port 0 the system chooses one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Parse `HOST:PORT`; raises ValueError with a sentence."""
        host, separator, port = text.rpartition(":")
        if not separator or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise ValueError(f"{text!r} is not HOST:PORT")
        return cls(host, int(port))

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"


@dataclass(frozen=True)
class Settings:
    """The settings of `sandbox.running.start`. Durations are in seconds, sizes in bytes."""

    member_center: Address = Address("localhost", 9001)
    converter: Address = Address("localhost", 9002)
    file_access: Address = Address("localhost", 9003)
    data: Path = Path("var/sandbox")
    gateways: tuple[str, ...] = (DEFAULT_GATEWAY,)
    """Base URLs whose `/auth/authorize` may receive codes and whose `/` may receive people after signing out."""
    only: str | None = None
    """One of SERVICES to run alone; None runs all three."""
    job_seconds: float = 12.0
    access_token_seconds: int = 300
    max_upload_bytes: int = 6 * 1024**3
    client_secret: str | None = None
    """The secret of both clients, instead of the published ones."""
    basic_credentials: str = "rfc6749"
    """The form of client ids and secrets in Basic authentication: form-urlencoded, or `raw`."""

    def __post_init__(self) -> None:
        if self.only is not None and self.only not in SERVICES:
            raise ValueError(f"{self.only!r} is none of {', '.join(SERVICES)}")
        if self.job_seconds < 0 or self.access_token_seconds <= 0 or self.max_upload_bytes <= 0:
            raise ValueError("durations and sizes must be positive")
        if self.basic_credentials not in BASIC_CREDENTIALS:
            raise ValueError(f"{self.basic_credentials!r} is none of {', '.join(BASIC_CREDENTIALS)}")

    @property
    def services(self) -> tuple[str, ...]:
        return SERVICES if self.only is None else (self.only,)

    def address_of(self, service: str) -> Address:
        addresses = {
            MEMBER_CENTER: self.member_center,
            CONVERTER: self.converter,
            FILE_ACCESS: self.file_access,
        }
        return addresses[service]


@dataclass(frozen=True)
class URLs:
    """The base URLs of the three servers, without a slash at the end."""

    member_center: str
    converter: str
    file_access: str

    def of(self, service: str) -> str:
        return {MEMBER_CENTER: self.member_center, CONVERTER: self.converter, FILE_ACCESS: self.file_access}[service]

    def gateway_environment(self, gateway: str = DEFAULT_GATEWAY) -> dict[str, str]:
        """Return the `VISIONA_*` variables that point a gateway at this sandbox."""
        return {
            "VISIONA_OIDC_ISSUER": self.member_center,
            "VISIONA_OIDC_CLIENT_ID": WEB_CLIENT_ID,
            "VISIONA_OIDC_CLIENT_SECRET": WEB_CLIENT_SECRET,
            "VISIONA_PUBLIC_BASE_URL": gateway,
            "VISIONA_CONVERTER_BASE_URL": self.converter,
            "VISIONA_FAA_BASE_URL": self.file_access,
            "VISIONA_TENANT_ID": TENANT_ID,
            "VISIONA_SERVICE_CLIENT_ID": SERVICE_CLIENT_ID,
            "VISIONA_SERVICE_CLIENT_SECRET": SERVICE_CLIENT_SECRET,
        }
