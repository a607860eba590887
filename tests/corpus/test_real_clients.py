"""Clients that are installed here, as they are: what they upload through a gateway is read alike by everybody."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from requests_toolbelt.multipart.encoder import MultipartEncoder

from tests.corpus.judgement import assert_every_reader_sees
from tests.corpus.readers import Part
from tests.corpus.recorder import RecordingConverter
from tests.support.clients import Client
from tests.support.multipart_bodies import PARAMETERS
from tests.support.stack import Stack

FILENAME = "模型 (1).onnx"
MODEL = b"\x00\x01\r\n--model\r\n" * 5_000
SECONDS = 60

_FETCH = """
import { readFile } from "node:fs/promises";
const { url, cookie, path, filename, parameters } = JSON.parse(process.argv[1]);
const form = new FormData();
for (const [name, value] of Object.entries(parameters)) form.append(name, value);
form.append("model", new Blob([await readFile(path)]), filename);
form.append("user_id", "u-bob-c81e");
const response = await fetch(url, { method: "POST", body: form, headers: { cookie } });
console.log(response.status);
"""


def _node(url: str, cookie: str, path: Path) -> int:
    node = shutil.which("node")
    assert node is not None
    task = json.dumps({"url": url, "cookie": cookie, "path": str(path), "filename": FILENAME, "parameters": PARAMETERS})
    command = [node, "--input-type=module", "--eval", _FETCH, task]
    return int(subprocess.run(command, check=True, capture_output=True, timeout=SECONDS).stdout)


def _curl(url: str, cookie: str, path: Path) -> int:
    curl = shutil.which("curl")
    assert curl is not None
    command = [curl, "--silent", "--show-error", "--header", f"Cookie: {cookie}"]
    command += ["--output", "/dev/null", "--write-out", "%{http_code}"]
    for name, value in PARAMETERS.items():
        command += ["--form", f"{name}={value}"]
    command += ["--form", f'model=@{path};filename="{FILENAME}"', "--form", "user_id=u-bob-c81e", url]
    return int(subprocess.run(command, check=True, capture_output=True, timeout=SECONDS).stdout)


def _requests(url: str, cookie: str, path: Path) -> int:
    fields = {**PARAMETERS, "user_id": "u-bob-c81e"}
    files = {"model": (FILENAME, path.read_bytes())}
    return requests.post(url, data=fields, files=files, headers={"Cookie": cookie}, timeout=SECONDS).status_code


def _toolbelt(url: str, cookie: str, path: Path) -> int:
    with path.open("rb") as model:
        body = MultipartEncoder({**PARAMETERS, "model": (FILENAME, model), "user_id": "u-bob-c81e"})
        headers = {"Cookie": cookie, "Content-Type": body.content_type}
        return requests.post(url, data=body, headers=headers, timeout=SECONDS).status_code


@pytest.mark.parametrize("upload_by", [_curl, _requests, _toolbelt, _node], ids=lambda one: one.__name__.strip("_"))
def test_upload_by_a_real_client_is_read_alike_by_everybody(
    stack: Stack,
    converter: RecordingConverter,
    alice: Client,
    tmp_path: Path,
    upload_by: Callable[[str, str, Path], int],
) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(MODEL)

    status = upload_by(f"{stack.url}/api/conversion/init", alice.cookie_header, path)

    (upload,) = converter.take()
    assert status == 201
    assert upload.is_whole
    (model,) = [Part("model", MODEL, FILENAME)]
    expected = (*(Part(name, value.encode()) for name, value in PARAMETERS.items()), model)
    assert_every_reader_sees(upload.content_type, bytes(upload.body), expected)
