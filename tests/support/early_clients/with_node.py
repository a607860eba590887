"""Uploads by the fetch that Node brings along (undici)."""

import json
import shutil
import subprocess
from pathlib import Path

from tests.support.early_clients.uploads import FORM_PREFIX, FORM_TYPE, Outcome, Upload

PROGRAM = Path(__file__).with_name("fetch.mjs")
STOP_SECONDS = 10


class NodeClient:
    """One process for all uploads, with fetch's own pool of connections. Its complaints go to `log_path`."""

    can_chunk = True
    can_be_cross_site = True

    def __init__(self, log_path: Path) -> None:
        self._log_path = log_path
        with log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [shutil.which("node") or "node", str(PROGRAM)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                bufsize=1,
            )

    def send(self, base_url: str, cookie: str, upload: Upload, times: int) -> list[Outcome]:
        wish = upload.as_json(cookie, times) | {"base": base_url}
        if upload.is_chunked and upload.prefix is None:
            # A stream has no form. It lacks the message's end, which is of no use where its length is refused.
            wish |= {"prefix": FORM_PREFIX.decode(), "content_type": FORM_TYPE}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(wish) + "\n")
        line = self._process.stdout.readline()
        assert line, self._log_path.read_text(encoding="utf-8")[-1000:]
        found = json.loads(line)
        return [Outcome.of(one["status"], one["body"], one["error"], one["next_status"]) for one in found]

    def close(self) -> None:
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
