"""Search logs for secrets in every form in which they might appear."""

import base64
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

#: Shorter values (an emptied cookie, for instance) would be found anywhere.
MIN_CHARACTERS = 12
#: A log that cuts its texts may show the beginning only. Long enough to be more than what all of a kind begin with.
_TELLING_CHARACTERS = 40


def find_leaks(log_paths: Iterable[Path], secrets: Iterable[str]) -> list[str]:
    """Return a sentence for each secret in a log, with the line and a digest of the secret instead of the secret."""
    logs = {path: path.read_text(encoding="utf-8", errors="replace") for path in log_paths if path.exists()}
    found = []
    for secret in sorted(set(secrets)):
        if len(secret) < MIN_CHARACTERS:
            continue
        for form in sorted(_forms(secret)):
            for path, text in logs.items():
                if (position := text.find(form)) >= 0:
                    line = text.count("\n", 0, position) + 1
                    digest = hashlib.sha256(secret.encode()).hexdigest()[:12]
                    found.append(f"{path}:{line} shows a secret of {len(secret)} characters (SHA-256 {digest}…)")
    return sorted(set(found))


def _forms(secret: str) -> set[str]:
    """The secret as it is, encoded for a URL or a Basic header, and the beginnings of all of these."""
    whole = {secret, quote(secret, safe=""), quote(secret), quote_plus(secret), repr(secret)[1:-1]}
    whole |= {base64.b64encode(form.encode()).decode().rstrip("=") for form in set(whole)}
    return whole | set(_beginnings(whole))


def _beginnings(forms: Iterable[str]) -> Iterator[str]:
    for form in forms:
        if len(form) > _TELLING_CHARACTERS:
            # A JSON Web Token or a signed cookie tells nothing before its first dot.
            head, dot, rest = form.partition(".")
            yield form[: max(_TELLING_CHARACTERS, len(head) + 1 + 12 if dot and rest else 0)]
