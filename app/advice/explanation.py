"""Explain a failed job by the converter's message and the advice that was stored with the job."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from app.advice.documents import remedy
from app.advice.graph import bounded_name
from app.advice.texts import replacement_text, sentence
from app.advice.toolchain import toolchain

#: No two neighbors match the same character, so the time is linear in the length of the message.
_OPERATOR_AND_NODE = re.compile(
    r"undefined CPU op[\s:\[]*(\w[\w.:]*)[\s\]]*(?:of node[\s:\[]*([^\s:\[\],;][^\s\],;]*))?", re.IGNORECASE
)
_MAX_NODES = 20
_UNSUPPORTED_OPERATOR = "unsupported_operator"


def explain_failure(message: str, stored: Mapping[str, Any] | None, language: str) -> dict[str, Any] | None:
    """Return why a job failed, or None if the message is not known.

    `nodes` are those that the message names, then those of the same operator in the job's advice. `chips` are the
    others whose NPU runs the operator, `replacement` says what to write instead. `text` sums all up.
    """
    key = next((failure.key for failure in toolchain().failures if failure.pattern.search(message)), None)
    if key is None:
        return None
    named = _OPERATOR_AND_NODE.search(message)
    operator = bounded_name(named[1]) if named else None
    nodes = _nodes(operator, bounded_name(named[2]) if named and named[2] else None, stored)
    ending = "" if nodes else "_without_node" if operator else "_without_operator"
    values = {"operator": operator or "", "nodes": nodes[0] if nodes else ""}
    text = sentence("failure", key + ending, language, values) or sentence("failure", key, language, values) or key
    chip = (stored or {}).get("chip")
    chips: list[str] = []
    replacement = None
    if key == _UNSUPPORTED_OPERATOR:
        texts = [text]
        if operator is not None:
            chips = [each for each in toolchain().chips_with(operator) if each != chip]
            replacement = replacement_text(operator, language, chip)
            texts.append(remedy(operator, chips, chip, language))
        if not chips and not replacement:
            texts.append(str(sentence("remedy", "other", language)))
        text = ("" if language == "zh-TW" else " ").join(filter(None, texts))
    return {
        "key": key,
        "operator": operator,
        "nodes": nodes,
        "chips": chips,
        "replacement": replacement,
        "text": text.strip(),
    }


def _nodes(operator: str | None, named: str | None, stored: Mapping[str, Any] | None) -> Sequence[str]:
    found = [] if named is None else [named]
    advice = (stored or {}).get("chips", {}).get((stored or {}).get("chip"), {})
    for finding in advice.get("findings", ()):
        if operator is not None and finding["operator"] == operator:
            found.extend(name for name in finding["nodes"] if name not in found)
    return found[:_MAX_NODES]
