"""Client secrets with special characters work for the sign-in and for service tokens."""

from pathlib import Path

import pytest

from tests.support.stack import Stack

SECRET = "a+b%2Fc=&d 50€ ~密碼"


@pytest.mark.parametrize("encoding", ["rfc6749", "raw"])
def test_a_conversion_with_odd_client_secrets_works_from_sign_in_to_download(tmp_path: Path, encoding: str) -> None:
    """Against a Member Center that decodes the credentials (RFC 6749, section 2.3.1), and one that takes them raw."""
    environment = {
        "VISIONA_OIDC_CLIENT_SECRET": SECRET,
        "VISIONA_SERVICE_CLIENT_SECRET": SECRET,
        "VISIONA_BASIC_CREDENTIALS": encoding,
    }
    with Stack(tmp_path, environment=environment, workers=1, client_secret=SECRET, basic_credentials=encoding) as stack:
        stack.note_secret(SECRET)
        alice = stack.signed_in("alice")
        job_id = stack.completed_job(alice)
        assert alice.get(f"/api/conversion/{job_id}/download").status_code == 302
        warnings = [line for line in stack.log_path.read_text().splitlines() if "configuration.warning" in line]
        assert len(warnings) == 1
        assert "VISIONA_OIDC_CLIENT_SECRET, VISIONA_SERVICE_CLIENT_SECRET" in warnings[0]
