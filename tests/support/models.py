"""Models to upload, and the results of their conversion by the sandbox.

`python -m tests.support.models PATH [MEGABYTES]` writes a large model, for trying things by hand.
"""

import hashlib
import io
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from sandbox.result import expected_result
from tests.support.multipart_bodies import PARAMETERS, LazyBytes

MEGABYTE = 1024 * 1024
_LAYER_MEGABYTES = 8


def expected_pieces(model: bytes | BinaryIO | LazyBytes, parameters: Mapping[str, str] = PARAMETERS) -> Iterator[bytes]:
    """Give the result of converting `model` with the parameters of an upload, a piece at a time."""
    stream = io.BytesIO(model) if isinstance(model, bytes) else model
    stream.seek(0)
    yield from expected_result(stream, {**parameters, "model_id": int(parameters["model_id"])})  # type: ignore[arg-type]


def expected_bytes(model: bytes, parameters: Mapping[str, str] = PARAMETERS) -> bytes:
    """Return the result of converting a small model."""
    return b"".join(expected_pieces(model, parameters))


def expected_sha256(model: bytes | BinaryIO | LazyBytes, parameters: Mapping[str, str] = PARAMETERS) -> str:
    """Return the SHA-256 of the result of converting a model of any size."""
    digest = hashlib.sha256()
    for piece in expected_pieces(model, parameters):
        digest.update(piece)
    return digest.hexdigest()


def bundled_networks() -> list[Path]:
    """The graphs of well-known networks that the onnx package carries for its own tests, without their weights."""
    import onnx.backend.test  # noqa: PLC0415 - takes a moment that only some tests need

    folder = Path(onnx.backend.test.__file__).parent / "data" / "light"
    return sorted(path for path in folder.glob("light_*.onnx"))


def model_with(*operators: str, weight_bytes: int = 4096) -> bytes:
    """Return an ONNX model: a Conv with so many weights, then one node of each operator, in a row."""
    import onnx  # noqa: PLC0415
    from onnx import TensorProto, helper  # noqa: PLC0415

    shape = [weight_bytes // 4, 1, 1, 1]
    weights = onnx.TensorProto(name="weights", data_type=TensorProto.FLOAT, dims=shape, raw_data=b"w" * weight_bytes)
    nodes = [helper.make_node("Conv", ["input", "weights"], ["value_0"], name="conv")]
    for number, operator in enumerate(operators):
        name = f"{operator.lower()}_{number}"
        nodes.append(helper.make_node(operator, [f"value_{number}"], [f"value_{number + 1}"], name=name))
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 1, 32, 32])],
        [helper.make_tensor_value_info(f"value_{len(operators)}", TensorProto.FLOAT, None)],
        [weights],
    )
    model = helper.make_model(graph, producer_name="tests", opset_imports=[helper.make_opsetid("", 13)])
    return bytes(model.SerializeToString())


def write_large_model(path: Path, *, megabytes: int = 52, seed: int = 20_260_101) -> Path:
    """Write a valid ONNX model (a tower of matrix products) of at least that size; the same bytes for the same seed."""
    import numpy  # noqa: PLC0415
    import onnx  # noqa: PLC0415
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415

    generator = numpy.random.Generator(numpy.random.PCG64(seed))
    width = 512
    rows = _LAYER_MEGABYTES * MEGABYTE // 4 // width
    nodes, weights, flowing = [], [], "input"
    for layer in range(-(-megabytes // _LAYER_MEGABYTES)):
        down, up = generator.standard_normal((2, width * rows // 2), dtype=numpy.float32)
        weights.append(numpy_helper.from_array(down.reshape(width, rows // 2), f"down_{layer}"))
        weights.append(numpy_helper.from_array(up.reshape(rows // 2, width), f"up_{layer}"))
        nodes.append(helper.make_node("MatMul", [flowing, f"down_{layer}"], [f"wide_{layer}"]))
        nodes.append(helper.make_node("Relu", [f"wide_{layer}"], [f"active_{layer}"]))
        nodes.append(helper.make_node("MatMul", [f"active_{layer}", f"up_{layer}"], [f"output_{layer}"]))
        flowing = f"output_{layer}"
    graph = helper.make_graph(
        nodes,
        "tower",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, width])],
        [helper.make_tensor_value_info(flowing, TensorProto.FLOAT, [1, width])],
        weights,
    )
    model = helper.make_model(graph, producer_name="visiona-tests", opset_imports=[helper.make_opsetid("", 17)])
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


if __name__ == "__main__":
    print(write_large_model(Path(sys.argv[1]), megabytes=int(sys.argv[2]) if len(sys.argv) > 2 else 52))
