"""Uploads by curl, many in one process, so that it reuses connections if the responses allow it."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.early_clients.uploads import FOLLOW_UP, INIT, Outcome, Upload, by_hand

UPLOADS_A_PROCESS = 25
SECONDS = 60
_REPORT = r"\n@@%{http_code} %{exitcode} %{size_upload} %{errormsg}\n"
_ENTRY = re.compile(r"(.*?)\n@@(\d+) (\d+) (\d+) ([^\n]*)\n", re.DOTALL)


@dataclass(frozen=True)
class Transfer:
    """What curl reports of one request. `sent_bytes` are those of the body."""

    status: int
    exit_code: int
    sent_bytes: int
    body: str
    error: str


class CurlClient:
    """Its bodies are sparse files, which take no space and no time to write."""

    can_chunk = True
    can_be_cross_site = True

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._curl = shutil.which("curl") or "curl"

    def send(self, base_url: str, cookie: str, upload: Upload, times: int) -> list[Outcome]:
        outcomes: list[Outcome] = []
        while times > 0:
            outcomes += self._send(base_url, cookie, upload, min(times, UPLOADS_A_PROCESS))
            times -= UPLOADS_A_PROCESS
        return outcomes

    def transfers(self, base_url: str, cookie: str, upload: Upload, times: int = 1) -> list[Transfer]:
        """Give the uploads, each with the request that follows it, as curl reports them."""
        command = [self._curl, "-sS"]
        common = ["-m", str(SECONDS), "-w", _REPORT, *(["-H", f"Cookie: {cookie}"] if cookie else [])]
        for turn in range(times):
            command += ["--next"] if turn else []
            command += [*common, *self._body(upload), base_url + INIT]
            command += ["--next", *common, base_url + FOLLOW_UP]
        run = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS * times, check=False)
        found = [
            Transfer(int(status), int(exit_code), int(sent), body, error)
            for body, status, exit_code, sent, error in _ENTRY.findall(run.stdout)
        ]
        assert len(found) == 2 * times, (run.returncode, run.stdout[-500:], run.stderr[-500:])
        return found

    def close(self) -> None:
        """Do nothing: nothing is left open."""

    def _send(self, base_url: str, cookie: str, upload: Upload, times: int) -> list[Outcome]:
        found = self.transfers(base_url, cookie, upload, times)
        return [
            Outcome.of(first.status, first.body, first.error, after.status)
            for first, after in zip(found[::2], found[1::2], strict=True)
        ]

    def _body(self, upload: Upload) -> list[str]:
        headers = [option for name, value in upload.headers.items() for option in ("-H", f"{name}: {value}")]
        if upload.prefix is None and not upload.is_chunked:
            model = self._file("model", b"", upload.model_bytes, b"")
            fields = ["model_id=32769", "version=0001", "platform=720", f"model=@{model};filename=model.onnx"]
            return headers + [option for value in fields for option in ("-F", value)]
        prefix, suffix, content_type = by_hand(upload)
        whole = self._file("whole", prefix, upload.model_bytes, suffix)
        chunked = ["-H", "Transfer-Encoding: chunked"] if upload.is_chunked else []
        return [*headers, *chunked, "-H", f"Content-Type: {content_type}", "-X", "POST", "-T", str(whole)]

    def _file(self, name: str, prefix: bytes, hole_bytes: int, suffix: bytes) -> Path:
        path = self._directory / name
        with path.open("wb") as file:
            file.write(prefix)
            file.seek(hole_bytes, os.SEEK_CUR)
            file.write(suffix)
            file.truncate(len(prefix) + hole_bytes + len(suffix))
        return path
