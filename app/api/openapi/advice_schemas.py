"""The components of the description that are about advice."""

from typing import Any

from app.advice.report import Severity, Verdict
from app.api.openapi.json_schema import Schema, array_of, count, map_of, nullable, object_of, reference, text

_FINDING_EXAMPLE: dict[str, Any] = {
    "key": "operator_not_on_npu",
    "severity": "warning",
    "operator": "Einsum",
    "nodes": ["/attention/Einsum"],
    "count": 1,
    "text": "Einsum doesn't run on this chip's NPU. The toolchain may rewrite it or run it on the host's CPU; "
    "otherwise the conversion fails.",
    "remedy": "No chip runs Einsum on the NPU. Use MatMul with Reshape and Transpose instead.",
}
_COUNTS_EXAMPLE: dict[str, Any] = {"verdict": "partial", "npu_nodes": 52, "conditional_nodes": 1, "other_nodes": 1}
_CHIP_EXAMPLE: dict[str, Any] = _COUNTS_EXAMPLE | {"findings": [_FINDING_EXAMPLE]}
#: The advice of a response to `/inspect`, for one chip.
ADVICE_EXAMPLE: dict[str, Any] = {
    "format": "onnx",
    "producer": "pytorch 2.4.0",
    "opset": 13,
    "inputs": [{"name": "images", "element_type": "float32", "shape": [1, 3, 640, 640]}],
    "outputs": [{"name": "output0", "element_type": "float32", "shape": [1, 84, 8400]}],
    "operators": {"Conv": 53, "Einsum": 1},
    "folded_nodes": 2,
    "parameters": 3_151_904,
    "chips": {"720": _CHIP_EXAMPLE},
    "recommended": "720",
}
NO_ADVICE_EXAMPLE: dict[str, Any] = {
    "format": "unknown",
    "reason": "not_a_model",
    "text": "We can't check this file. You can still start the conversion.",
}
#: The advice of a job for the 720.
STORED_ADVICE_EXAMPLE: dict[str, Any] = {
    "format": "onnx",
    "chip": "720",
    "recommended": "730",
    "chips": {"720": _CHIP_EXAMPLE, "730": _COUNTS_EXAMPLE | {"verdict": "fits"}},
}
ADVICE_SUMMARY_EXAMPLE: dict[str, Any] = _COUNTS_EXAMPLE | {"finding": _FINDING_EXAMPLE}
CAPABILITIES_EXAMPLE: dict[str, Any] = {
    "source": "kneron/document_center",
    "chips": ["520", "720", "530", "630", "730"],
    "operators": {"Conv": {"720": {"condition": "6"}}, "Relu": {"720": {"condition": None}}},
    "conditions": {"6": "at most 4 dimensions, a kernel of at most 12"},
    "opsets": {"first": 8, "last": 18},
    "legacy_environment": {"opsets": {"first": 8, "last": 12}, "chips": ["520", "720", "530", "630"]},
    "model_ids": {"first": 32_768, "last": 65_535},
    "version_pattern": "^[0-9A-Fa-f]{4}$",
    "limits": {
        "upload_bytes": 5_368_709_120,
        "upload_parts": 2_000,
        "field_bytes": 1_048_576,
        "inspected_model_bytes": 8_388_608,
        "skeleton_bytes": 4_194_304,
    },
}

_FORMAT = text("`onnx`, another format by its name, or `unknown`.")
_REASON = text("Why there is no advice, as a stable key. Absent if there is advice.")
_REASON_TEXT = text("The reason in words, in the language that Accept-Language prefers.")
_RECOMMENDED: Schema = {
    "type": ["string", "null"],
    "description": "The chip that fits best; null if the model is unlikely to run on any.",
}
_TENSORS = array_of(reference("Tensor"))
_COUNTS: dict[str, Schema] = {
    "verdict": {
        "enum": [verdict.value for verdict in Verdict],
        "description": "From best to worst. Advice only: the toolchain may rewrite operators.",
    },
    "npu_nodes": count("Number of nodes that run on the NPU."),
    "conditional_nodes": count("Number of nodes that run on the NPU under a condition that can't be checked."),
    "other_nodes": count("Number of nodes that don't run on the NPU."),
}
_RANGE = object_of({"first": {"type": "integer"}, "last": {"type": "integer"}})

ADVICE_SCHEMAS: dict[str, Schema] = {
    "Advice": object_of(
        {
            "format": _FORMAT,
            "reason": _REASON,
            "text": _REASON_TEXT,
            "producer": {"type": ["string", "null"], "description": "The program that wrote the model."},
            "opset": {"type": ["integer", "null"]},
            "inputs": _TENSORS,
            "outputs": _TENSORS,
            "operators": map_of(
                count(""),
                description="How often each operator occurs. The name of a custom operator has its domain: "
                "`com.example::Foo`.",
            ),
            "folded_nodes": count(
                "Number of nodes that the optimizer removes. The counts of the chips don't include them."
            ),
            "parameters": count("Number of weights.", is_nullable=True),
            "chips": map_of(reference("ChipAdvice")),
            "recommended": _RECOMMENDED,
        },
        optional=(
            "reason",
            "text",
            "producer",
            "opset",
            "inputs",
            "outputs",
            "operators",
            "folded_nodes",
            "parameters",
            "chips",
            "recommended",
        ),
        description="What a model is, and how it fits each chip. Without advice, only `format`, `reason` and `text`.",
    ),
    "JobAdvice": object_of(
        {
            "format": _FORMAT,
            "reason": _REASON,
            "text": _REASON_TEXT,
            "chip": {"type": ["string", "null"], "description": "The chip of the job; only this one has findings."},
            "recommended": _RECOMMENDED,
            "chips": map_of(reference("ChipAdvice")),
        },
        optional=("reason", "text", "chip", "recommended", "chips"),
        description="What the advice said when the job started.",
    ),
    "AdviceSummary": object_of(
        {**_COUNTS, "finding": nullable(reference("Finding"), description="The worst finding.")},
        description="How the model of a job fits its chip.",
    ),
    "ChipAdvice": object_of(
        {
            **_COUNTS,
            "findings": array_of(reference("Finding"), description="The worst finding first."),
            "usual_time": nullable(
                reference("UsualTime"),
                description="In `/inspect` only. Null if the size of the model is unknown, or fewer than five such "
                "jobs are known.",
            ),
        },
        optional=("findings", "usual_time"),
    ),
    "Finding": object_of(
        {
            "key": text("Identifies the kind of finding. For programs."),
            "severity": {"enum": [severity.value for severity in Severity]},
            "operator": {"type": ["string", "null"]},
            "nodes": array_of(
                text(), description="Names of the first nodes, or of the first inputs. `count` is the number of all."
            ),
            "count": count("Number of nodes."),
            "text": text("For people, in the language that Accept-Language prefers."),
            "remedy": {
                "type": ["string", "null"],
                "description": "Which chips run these nodes on the NPU, and what to use instead.",
            },
        }
    ),
    "Tensor": object_of(
        {
            "name": text(),
            "element_type": text(examples=["float32"]),
            "shape": {
                "type": ["array", "null"],
                "items": {"type": ["integer", "null"]},
                "description": "Null if unknown; a dimension is null if its size is not fixed.",
            },
        }
    ),
    "FailureExplanation": object_of(
        {
            "key": text("Identifies the kind of failure. For programs."),
            "operator": {"type": ["string", "null"]},
            "nodes": array_of(text(), description="Nodes of the operator in this model."),
            "chips": array_of(text(), description="Other chips that run the operator on the NPU."),
            "replacement": {"type": ["string", "null"], "description": "What to use instead."},
            "text": text("The whole explanation for people, in the language that Accept-Language prefers."),
        },
        description="What the converter's message means for this model. Absent if the message is not known.",
    ),
    "Capabilities": object_of(
        {
            "source": text("Where the table of operators comes from."),
            "chips": array_of(text()),
            "operators": map_of(
                map_of(object_of({"condition": {"type": ["string", "null"], "description": "A key of `conditions`."}})),
                description="The chips whose NPU runs each ONNX operator.",
            ),
            "conditions": map_of(text(), description="In words, in the language that Accept-Language prefers."),
            "opsets": _RANGE,
            "legacy_environment": object_of({"opsets": _RANGE, "chips": array_of(text())}),
            "model_ids": _RANGE,
            "version_pattern": text("A regular expression."),
            "limits": object_of(
                {
                    "upload_bytes": count("Maximum size of an upload in bytes."),
                    "upload_parts": count("Maximum number of fields and files in an upload."),
                    "field_bytes": count("Maximum size of a field in bytes."),
                    "inspected_model_bytes": count("Maximum size of a model in `/inspect` in bytes."),
                    "skeleton_bytes": count("Maximum size of a skeleton in `/inspect` and `/check` in bytes."),
                }
            ),
        }
    ),
}
