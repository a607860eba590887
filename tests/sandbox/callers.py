"""Small clients for the sandbox that use real sockets: a service, a browser, and a raw connection."""

import base64
import hashlib
import json
import secrets
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import requests

from sandbox.running import Running
from sandbox.settings import (
    SERVICE_CLIENT_ID,
    SERVICE_CLIENT_SECRET,
    TENANT_ID,
    WEB_CLIENT_ID,
    WEB_CLIENT_SECRET,
    Address,
    Settings,
)
from tests.support import multipart_bodies
from tests.support.clients import RawConnection

GATEWAY = "http://localhost:8000"
CALLBACK = f"{GATEWAY}/auth/authorize"
ANY_PORT = Address("localhost", 0)


def settings_for(data: Path, **changes: Any) -> Settings:
    """Settings on free ports; jobs last an hour, so that a test decides when one is completed."""
    chosen: dict[str, Any] = {
        "member_center": ANY_PORT,
        "converter": ANY_PORT,
        "file_access": ANY_PORT,
        "job_seconds": 3600.0,
    }
    return Settings(**(chosen | {"data": data} | changes))


@dataclass
class Multipart(multipart_bodies.Multipart):
    """A multipart body made by hand, so that tests can make it wrong. All have the same boundary."""

    boundary: str = "test-boundary-7d1f"

    def add(self, name: str, content: bytes | str, filename: str | None = None) -> "Multipart":
        content = content.encode() if isinstance(content, str) else content
        self.field(name, content) if filename is None else self.file(name, content, filename)
        return self

    @property
    def body(self) -> bytes:
        return self.as_bytes()


class Caller:
    """Talks to a sandbox as the gateway would."""

    def __init__(self, sandbox: Running) -> None:
        self.sandbox = sandbox
        self.session = requests.Session()
        self.session.trust_env = False

    def close(self) -> None:
        self.session.close()

    # Member Center

    def token(self, scope: str) -> str:
        response = self.session.post(
            f"{self.sandbox.urls.member_center}/oauth/token",
            data={"grant_type": "client_credentials", "scope": scope},
            auth=(SERVICE_CLIENT_ID, SERVICE_CLIENT_SECRET),
            timeout=10,
        )
        response.raise_for_status()
        return str(response.json()["access_token"])

    def bearer(self, scope: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(scope)}"}

    def download_token(self, object_key: str, **changes: Any) -> requests.Response:
        wish = {"tenant_id": TENANT_ID, "user_id": "u-1", "object_key": object_key, "method": "GET"} | changes
        return self.session.post(
            f"{self.sandbox.urls.member_center}/file-access/download-tokens",
            json=wish,
            headers=self.bearer("files:download.delegate"),
            timeout=10,
        )

    # Converter

    @property
    def jobs_url(self) -> str:
        return f"{self.sandbox.urls.converter}/api/v1/jobs"

    def upload(self, body: Any, content_type: str, **headers: str) -> requests.Response:
        headers = self.bearer("converter:job.write") | {"Content-Type": content_type} | headers
        return self.session.post(self.jobs_url, data=body, headers=headers, timeout=10)

    def start_job(self, user_id: str, model: bytes = b"a model", filename: str = "model.onnx") -> dict[str, Any]:
        form = usual_form(user_id).add("model", model, filename)
        response = self.upload(form.body, form.content_type)
        assert response.status_code == 201, response.text
        return dict(response.json())

    def get_job(self, job_id: str) -> requests.Response:
        return self.session.get(f"{self.jobs_url}/{job_id}", headers=self.bearer("converter:job.read"), timeout=10)

    def force(self, job_id: str, **changes: Any) -> requests.Response:
        url = f"{self.sandbox.urls.converter}/_sandbox/jobs/{job_id}"
        return self.session.patch(url, json=changes, timeout=10)

    def promote(self, job_id: str, user_id: str) -> requests.Response:
        return self.session.post(
            f"{self.jobs_url}/{job_id}/promote",
            json={"tenant_id": TENANT_ID, "user_id": user_id},
            headers=self.bearer("converter:job.write"),
            timeout=10,
        )

    def completed_job(self, user_id: str, model: bytes = b"a model", filename: str = "model.onnx") -> dict[str, Any]:
        job = self.start_job(user_id, model, filename)
        self.force(job["job_id"], status="completed")
        return job

    def attempts(self) -> list[dict[str, Any]]:
        return list(self.session.get(f"{self.sandbox.urls.converter}/_sandbox/uploads", timeout=10).json()["uploads"])

    # File Access Agent

    def file_url(self, object_key: str) -> str:
        return f"{self.sandbox.urls.file_access}/files/{quote(object_key)}"

    def put_file(self, content: bytes) -> str:
        object_key = f"{TENANT_ID}/u-1/{uuid.uuid4().hex}/模型 a+b 100%.nef"
        url = f"{self.sandbox.urls.file_access}/_sandbox/files/{quote(object_key)}"
        assert self.session.put(url, data=content, timeout=10).status_code == 201
        return object_key

    def get_file(self, object_key: str, method: str = "GET", **headers: str) -> requests.Response:
        headers = self.bearer("files:download.read") | {"Accept-Encoding": "identity"} | headers
        return self.session.request(method, self.file_url(object_key), headers=headers, timeout=10)

    # Any of them

    def fault(self, service: str, **rule: Any) -> requests.Response:
        return self.session.post(f"{self.sandbox.urls.of(service)}/_sandbox/faults", json=rule, timeout=10)

    def calls(self, service: str) -> list[dict[str, Any]]:
        return list(self.session.get(f"{self.sandbox.urls.of(service)}/_sandbox/calls", timeout=10).json()["calls"])


class Browser:
    """Signs in as a person would, with PKCE as a gateway would."""

    def __init__(self, sandbox: Running) -> None:
        self.member_center = sandbox.urls.member_center
        self.session = requests.Session()
        self.session.trust_env = False
        self.verifier = secrets.token_urlsafe(48)

    def close(self) -> None:
        self.session.close()

    def authorization_query(self) -> dict[str, str]:
        digest = hashlib.sha256(self.verifier.encode()).digest()
        return {
            "response_type": "code",
            "client_id": WEB_CLIENT_ID,
            "redirect_uri": CALLBACK,
            "scope": "openid profile email",
            "state": "a-state",
            "nonce": "a-nonce",
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }

    def open_login(self, language: str = "en", **changes: str) -> requests.Response:
        query = {name: value for name, value in (self.authorization_query() | changes).items() if value}
        return self.session.get(
            f"{self.member_center}/oauth/authorize",
            params=query,
            headers={"Accept-Language": language},
            allow_redirects=False,
            timeout=10,
        )

    def log_in(self, username: str = "alice", password: str = "alice") -> requests.Response:
        page = self.open_login()
        form = {"username": username, "password": password}
        return self.session.post(page.url, data=form, allow_redirects=False, timeout=10)

    def redeem(self, location: str, **changes: str) -> requests.Response:
        form = {
            "grant_type": "authorization_code",
            "code": query_of(location)["code"],
            "redirect_uri": CALLBACK,
            "code_verifier": self.verifier,
        }
        form = {name: value for name, value in (form | changes).items() if value}
        auth = (WEB_CLIENT_ID, WEB_CLIENT_SECRET)
        return self.session.post(f"{self.member_center}/oauth/token", data=form, auth=auth, timeout=10)


class Wire(RawConnection):
    """One raw connection, for what a decent client would never send."""

    def request(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_head(method, path, headers)
        if body:
            self.send(body)

    def rest(self) -> bytes:
        """Everything until the other side closes."""
        return b"".join(iter(lambda: self.socket.recv(65536), b""))


def usual_form(user_id: str) -> Multipart:
    form = Multipart().add("user_id", user_id)
    return form.add("model_id", "40000").add("version", "0001").add("platform", "KL720")


def query_of(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def claims_of(token: str) -> dict[str, Any]:
    """A JWT's claims, unverified."""
    payload = token.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))))
