"""Real models: the graphs of known networks, and one with weights."""

from pathlib import Path

import onnx
import pytest

from tests.support.clients import Client
from tests.support.models import MEGABYTE, bundled_networks, expected_bytes, expected_sha256, write_large_model
from tests.support.multipart_bodies import sha256_of
from tests.support.stack import Stack

NETWORKS = bundled_networks()


def test_the_onnx_package_contains_networks() -> None:
    """Otherwise the tests below would test nothing."""
    names = {path.stem for path in NETWORKS}
    assert {"light_resnet50", "light_densenet121", "light_squeezenet", "light_vgg19"} <= names


@pytest.mark.parametrize("path", NETWORKS, ids=lambda path: path.stem.removeprefix("light_"))
def test_network_comes_back_converted(stack: Stack, alice: Client, path: Path) -> None:
    model = path.read_bytes()
    onnx.checker.check_model(onnx.load_from_string(model))

    job_id = stack.completed_job(alice, model, path.name)
    kept = alice.promote(job_id).json()

    chip = alice.get(f"/api/conversion/{job_id}").json()["advice"]["chips"]["720"]
    assert chip["npu_nodes"] + chip["conditional_nodes"] > chip["other_nodes"]
    [received] = [part for part in stack.sandbox.last_upload()["parts"] if part["name"] == "model"]
    assert (received["filename"], received["sha256"]) == (path.name, sha256_of(model))
    assert kept["filename"] == f"{path.stem}_kl720.nef"
    assert alice.get(f"/api/models/{kept['id']}/file").content == expected_bytes(model)


@pytest.fixture(scope="module")
def large_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_large_model(tmp_path_factory.mktemp("models") / "large.onnx")


@pytest.mark.timeout(120)
def test_model_of_more_than_50_mb_comes_back_converted(stack: Stack, alice: Client, large_model: Path) -> None:
    size = large_model.stat().st_size
    assert size >= 50 * MEGABYTE
    with large_model.open("rb") as model:
        job_id = stack.completed_job(alice, model, large_model.name)
        sha256, wanted = sha256_of(model), expected_sha256(model)

    job = alice.get(f"/api/conversion/{job_id}").json()
    kept = alice.promote(job_id).json()
    served = alice.get(f"/api/models/{kept['id']}/file")

    [received] = [part for part in stack.sandbox.last_upload()["parts"] if part["name"] == "model"]
    assert (received["size"], received["sha256"], job["size"]) == (size, sha256, size)
    assert job["advice"]["chips"]["720"]["npu_nodes"] > 0
    assert kept["sha256"] == sha256_of(served.content) == wanted
    assert alice.delete(f"/api/models/{kept['id']}").status_code == 204


def test_large_model_is_reproducible(tmp_path: Path, large_model: Path) -> None:
    """The seed determines the script's model, so that a failure can be reproduced."""
    again, other = write_large_model(tmp_path / "again.onnx"), tmp_path / "other.onnx"
    assert again.read_bytes() == large_model.read_bytes()
    assert (
        write_large_model(other, megabytes=8, seed=2).read_bytes()
        != write_large_model(tmp_path / "third.onnx", megabytes=8, seed=3).read_bytes()
    )
