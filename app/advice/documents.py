"""The advice as JSON: for a response, and in a compact form to be stored with a job.

What is stored has keys and values, and gets its sentences when it is read.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from app.advice.report import Advice, ChipAdvice, Finding, Tensor, Verdict
from app.advice.texts import condition_text, replacement_text, sentence
from app.advice.toolchain import toolchain

_STORED_FINDINGS = 20
_STORED_NAMES = 20
#: Bytes of all findings that are stored. The counts of the chips take less than 1,000.
_STORED_BYTES = 15_000


def advice_json(advice: Advice, language: str) -> dict[str, Any]:
    """Return the advice as a response shows it. Without advice, `reason` and `text` say why."""
    if advice.reason is not None:
        return {"format": advice.format, **_reason(advice.format, advice.reason, language)}
    return {
        "format": advice.format,
        "producer": advice.producer,
        "opset": advice.opset,
        "inputs": [_tensor(tensor) for tensor in advice.inputs],
        "outputs": [_tensor(tensor) for tensor in advice.outputs],
        "operators": dict(advice.operators),
        "folded_nodes": advice.folded_nodes,
        "parameters": advice.parameters,
        "chips": {
            name: _counts(chip) | {"findings": [_finding(_record(each), name, language) for each in chip.findings]}
            for name, chip in advice.chips.items()
        },
        "recommended": advice.recommended,
    }


def stored_advice(advice: Advice, chip: str | None) -> dict[str, Any]:
    """Return what to store with a job: the findings for its chip, and the counts for the others (at most 16 KB)."""
    if advice.reason is not None:
        return {"format": advice.format, "reason": advice.reason}
    chips = {name: _counts(each) for name, each in advice.chips.items()}
    if chip is not None and chip in advice.chips:
        chips[chip]["findings"] = _shortened(advice.chips[chip].findings)
    return {"format": advice.format, "chip": chip, "recommended": advice.recommended, "chips": chips}


def stored_advice_json(stored: Mapping[str, Any], language: str) -> dict[str, Any]:
    """Return stored advice as a response shows it: as `advice_json` for the chips, and `chip`, the job's own."""
    if "chips" not in stored:
        return {"format": stored["format"], **_reason(stored["format"], stored["reason"], language)}
    chips = {
        name: chip | {"findings": [_finding(each, name, language) for each in chip["findings"]]}
        if "findings" in chip
        else chip
        for name, chip in stored["chips"].items()
    }
    return {**stored, "chips": chips}


def advice_summary(stored: Mapping[str, Any], language: str) -> dict[str, Any] | None:
    """Return the verdict for the job's chip, its counts and its worst `finding` (or None); None without advice."""
    name = stored.get("chip")
    chip = stored.get("chips", {}).get(name)
    if name is None or chip is None:
        return None
    findings = chip.get("findings", [])
    worst = _finding(findings[0], name, language) if findings else None
    return {name: value for name, value in chip.items() if name != "findings"} | {"finding": worst}


def remedy(operator: str, chips: Sequence[str], chip: str | None, language: str) -> str:
    """Return in words which `chips` run an operator on the NPU, and what to write instead on `chip`; may be empty."""
    values = {
        "operator": operator,
        "chips": ("、" if language == "zh-TW" else ", ").join(f"KL{each}" for each in chips),
    }
    texts = [replacement_text(operator, language, chip)]
    if chips or not toolchain().chips_with(operator):
        texts.insert(0, sentence("remedy", "chips" if chips else "no_chips", language, values))
    return ("" if language == "zh-TW" else " ").join(filter(None, texts))


def _finding(finding: Mapping[str, Any], chip: str, language: str) -> dict[str, Any]:
    """Return a finding with its sentence, and `remedy`: which chips run the nodes, and what to write instead."""
    values, operator = finding["values"], finding["operator"]
    if "condition" in values:
        values = values | {"condition": condition_text(values["condition"], language)}
    return {
        "key": finding["key"],
        "severity": finding["severity"],
        "operator": operator,
        "nodes": list(finding["nodes"]),
        "count": finding["count"],
        "text": sentence("finding", finding["key"], language, values) or finding["key"],
        "remedy": remedy(operator, values["chips"].split(), chip, language) or None if "chips" in values else None,
    }


def _reason(model_format: str, reason: str, language: str) -> dict[str, str]:
    for key in (reason, model_format, "other"):
        if (text := sentence("reason", key, language)) is not None:
            return {"reason": reason, "text": text}
    raise AssertionError("there is a text for other reasons")


def _counts(chip: ChipAdvice) -> dict[str, Any]:
    return {
        "verdict": Verdict(chip.verdict).value,
        "npu_nodes": chip.npu_nodes,
        "conditional_nodes": chip.conditional_nodes,
        "other_nodes": chip.other_nodes,
    }


def _tensor(tensor: Tensor) -> dict[str, Any]:
    shape = None if tensor.shape is None else list(tensor.shape)
    return {"name": tensor.name, "element_type": tensor.element_type, "shape": shape}


def _record(finding: Finding) -> dict[str, Any]:
    return {
        "key": finding.key,
        "severity": finding.severity.value,
        "operator": finding.operator,
        "nodes": list(finding.nodes),
        "count": finding.count,
        "values": dict(finding.values),
    }


def _shortened(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Return the first findings with the first names, as many as there is space for."""
    left = _STORED_BYTES
    records: list[dict[str, Any]] = []
    for finding in findings[:_STORED_FINDINGS]:
        record = _record(finding)
        del record["nodes"][_STORED_NAMES:]
        if len(json.dumps(record)) > left // 2:
            record["nodes"] = []
        left -= len(json.dumps(record))
        if left < 0:
            break
        records.append(record)
    return records
