"""Clients generated from the OpenAPI document: they compile, and one of them converts a model."""

import importlib
import json
import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from types import ModuleType

import pytest

from app.api.openapi import build_document
from app.config import load_settings
from tests.api.edge import ENVIRON
from tests.support.models import expected_bytes
from tests.support.multipart_bodies import PARAMETERS
from tests.support.processes import ROOT
from tests.support.stack import Stack

PACKAGE = "generated_gateway_client"
NODE_PACKAGES = ROOT / "tests" / "node" / "node_modules"

#: What a frontend writes. Each @ts-expect-error fails where TypeScript finds no error in the line that follows.
TYPESCRIPT = """
import type { components, paths } from "./api";

type Job = components["schemas"]["Job"];
type Upload = paths["/api/conversion/init"]["post"]["requestBody"]["content"]["multipart/form-data"];

const upload: Upload = { model_id: 32769, version: "0001", platform: "720", model: "the file" };
export const uploads: Upload[] = [
    upload,
    { ...upload, ref_images: ["an image"] },
    // @ts-expect-error The converter requires the three fields.
    { model: "the file" },
    // @ts-expect-error It is the number on the chip, and not the library's model.
    { ...upload, model_id: "0d5e9c1b7f3a4a4e9a3d3c5f0c7b1e42" },
];
export const onChip = (job: Job): number | undefined => job.parameters.model_id;
export const inLibrary = (job: Job): string | undefined => job.library_model_id;
// @ts-expect-error The name has one meaning.
export const ambiguous = (job: Job): unknown => job.model_id;
"""


@pytest.fixture
def description(tmp_path: Path) -> Path:
    path = tmp_path / "openapi.json"
    path.write_text(json.dumps(build_document(load_settings(ENVIRON))), encoding="utf-8")
    return path


@pytest.fixture
def package(description: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Generate a Python client with openapi-python-client, without a warning."""
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--fail-on-warning", "--meta", "none"]
    command += ["--path", str(description), "--output-path", str(tmp_path / PACKAGE)]
    # It formats what it has made with ruff.
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    monkeypatch.syspath_prepend(str(tmp_path))
    return importlib.import_module(PACKAGE)


def part(package: ModuleType, name: str) -> ModuleType:
    return importlib.import_module(f"{package.__name__}.{name}")


def test_a_generated_python_client_converts_a_model_and_reads_the_result(stack: Stack, package: ModuleType) -> None:
    """Upload with reference images, promote the result, and fetch its file; each response has the described type."""
    models, file_of = part(package, "models"), part(package, "types").File
    calls = part(package, "api.conversion.start_conversion"), part(package, "api.conversion.promote_to_models")
    start, keep, fetch = *calls, part(package, "api.models.get_model_file")
    cookies = stack.signed_in("alice").cookies.get_dict()
    with package.Client(base_url=stack.url, cookies=cookies) as client:
        upload = models.Upload(
            model_id=int(PARAMETERS["model_id"]),
            version=PARAMETERS["version"],
            platform=PARAMETERS["platform"],
            model=file_of(BytesIO(b"a model"), "net.onnx", "application/octet-stream"),
            ref_images=[file_of(BytesIO(b"an image"), f"{number}.png", "image/png") for number in range(2)],
        )
        job = start.sync(client=client, body=upload)
        assert isinstance(job, models.Job), job
        assert (job.filename, job.parameters.model_id, job.parameters.version) == ("net.onnx", 32_769, "0001")
        received = [entry["name"] for entry in stack.sandbox.last_upload()["parts"]]
        assert received == ["user_id", "model_id", "version", "platform", "model", "ref_images", "ref_images"]

        stack.sandbox.complete(job.job_id)
        stack.wait_for_status(stack.signed_in("alice"), job.job_id, "completed")
        model = keep.sync(job.job_id, client=client)
        assert isinstance(model, models.Model), model
        assert fetch.sync(model.id, client=client).payload.read() == expected_bytes(b"a model")


def test_generated_typescript_types_say_what_an_upload_needs(description: Path, tmp_path: Path) -> None:
    sample = tmp_path / "sample.ts"
    sample.write_text(TYPESCRIPT, encoding="utf-8")
    types = [str(NODE_PACKAGES / "openapi-typescript" / "bin" / "cli.js"), str(description)]
    check = [str(NODE_PACKAGES / "typescript" / "bin" / "tsc"), "--noEmit", "--strict", "--skipLibCheck", "false"]
    for command in ([*types, "--output", str(tmp_path / "api.d.ts")], [*check, str(sample)]):
        done = subprocess.run(["node", *command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
