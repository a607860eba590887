"""What the toolchain and the gateway accept: with it, another frontend can say the same as the advice."""

from typing import Any

from app.advice.texts import condition_text
from app.advice.toolchain import toolchain
from app.api.inspection import MAX_MODEL_BYTES, MAX_SKELETON_BYTES
from app.config import Settings
from app.streaming.content import MAX_FIELD_BYTES

LAST_MODEL_ID = 65_535


def capabilities_document(settings: Settings, language: str) -> dict[str, Any]:
    """Return the chip table and the limits, with the conditions in words."""
    table = toolchain()
    return {
        "source": table.source,
        "chips": table.chips,
        "operators": {
            operator: {chip: {"condition": support.condition} for chip, support in chips.items() if support.npu}
            for operator, chips in table.operators.items()
        },
        "conditions": {condition: condition_text(condition, language) for condition in table.conditions},
        "opsets": _range(*table.opsets),
        "legacy_environment": {
            "opsets": _range(*table.legacy_opsets),
            "chips": [chip for chip in table.chips if chip not in table.legacy_lacks],
        },
        "model_ids": _range(table.first_user_model_id, LAST_MODEL_ID),
        "version_pattern": table.version_pattern,
        "limits": {
            "upload_bytes": settings.max_upload_bytes,
            "upload_parts": settings.max_parts,
            "field_bytes": MAX_FIELD_BYTES,
            "inspected_model_bytes": MAX_MODEL_BYTES,
            "skeleton_bytes": MAX_SKELETON_BYTES,
        },
    }


def _range(first: int, last: int) -> dict[str, int]:
    return {"first": first, "last": last}
