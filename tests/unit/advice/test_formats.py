"""Files that are not ONNX are recognized by their first bytes."""

import gzip
import io
import json
import zipfile

import pytest

from app.advice.formats import recognize
from app.advice.skeleton import SkeletonParser
from tests.support.skeleton_cases import entry, model_of
from tests.unit.advice.skeletons import skeleton_of


def archive(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name in names:
            file.writestr(name, b"content")
    return stream.getvalue()


LARGE = entry(1, entry(1, b"x" * 3000))
FILES = {
    "TFLite": (b"\x1c\x00\x00\x00TFL3" + bytes(200), "tflite", "tflite"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(200), "hdf5", "hdf5"),
    "Keras 3": (archive("metadata.json", "config.json", "model.weights.h5"), "hdf5", "hdf5"),
    "PyTorch": (archive("archive/data.pkl", "archive/data/0"), "pytorch", "pytorch"),
    "PyTorch with another name": (archive("resnet50/data.pkl", "resnet50/byteorder"), "pytorch", "pytorch"),
    "new PyTorch": (archive("model/.format_version", "model/data.pkl"), "pytorch", "pytorch"),
    "PyTorch before 1.6": (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.", "pytorch", "pytorch"),
    "zip": (archive("model.onnx"), "unknown", "compressed"),
    "gzip": (gzip.compress(model_of(entry(1, b""))), "unknown", "compressed"),
    "SavedModel": (entry(1, 1) + entry(2, LARGE), "unknown", "saved_model"),
    "JSON": (json.dumps({"format": "layers-model"}).encode(), "unknown", "text"),
    "JSON with indentation": (b'{\n  "format": "layers-model"\n}', "unknown", "text"),
    "weights of a model": (b"\x00\x00\x80\x3f" * 1000, "unknown", "not_a_model"),
    "empty": (b"", "unknown", "empty"),
}


@pytest.mark.parametrize(("content", "model_format", "reason"), FILES.values(), ids=FILES)
def test_file_of_another_format_is_named(content: bytes, model_format: str, reason: str) -> None:
    for chunk_bytes in (1, 5, 100, 65536):
        skeleton = skeleton_of(content, chunk_bytes)
        assert (skeleton.format, skeleton.reason, skeleton.data) == (model_format, reason, b"")


def test_start_of_a_format_is_not_enough() -> None:
    assert recognize(b"\x89HDF") is None
    assert recognize(b"\x1c\x00\x00\x00TFL") is None


def test_first_fields_of_onnx_models_are_no_other_format() -> None:
    """Also of models with few fields, and with long producer names."""
    assert recognize(model_of(entry(1, b""))) is None
    assert recognize(entry(1, 1) + entry(2, b"p" * 300)) is None
    assert recognize(entry(8, entry(2, 13)) + entry(7, b"")) is None


@pytest.mark.parametrize(
    ("file_name", "reason"),
    [
        ("model.onnx_data", "external_data"),
        ("Model.ONNX.data", "external_data"),
        ("model_kl720.nef", "nef"),
        ("model.onnx", "not_a_model"),
        ("", "not_a_model"),
    ],
)
def test_file_without_format_is_named_by_its_name(file_name: str, reason: str) -> None:
    parser = SkeletonParser()
    parser.file_name = file_name
    parser.feed(b"\x00\x00\x80\x3f" * 1000)
    assert parser.finish().reason == reason


def test_name_of_a_model_does_not_matter() -> None:
    parser = SkeletonParser()
    parser.file_name = "model.nef"
    parser.feed(model_of(entry(1, entry(4, b"Relu"))))
    assert parser.finish().format == "onnx"
