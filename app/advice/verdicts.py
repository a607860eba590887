"""Compare a model's structure with the chip table: findings and a verdict for each chip, and the recommended chip.

docs/advice.md defines the verdicts.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from app.advice.conditions import CONDITIONS, Predicate
from app.advice.description import Description, NotAdvisableError, describe
from app.advice.graph import Node
from app.advice.report import Advice, ChipAdvice, Finding, Severity, Verdict
from app.advice.skeleton import Skeleton
from app.advice.toolchain import Support, Toolchain, toolchain

#: Names of nodes in one finding, and findings of one chip.
MAX_NAMES = 50
MAX_FINDINGS = 40

#: The optimizer usually writes these as other operators: the operator, and the condition that says so. The source is
#: optimizer_scripts/tools/combo.py of kneron/ONNX_Convertor.
REWRITTEN: Mapping[str, tuple[str, str]] = {
    "Div": ("BatchNormalization", "as_batch_normalization"),
    "Mul": ("BatchNormalization", "as_batch_normalization"),
    "ReduceMean": ("GlobalAveragePool", "as_global_average"),
    "Split": ("Slice", "as_slice"),
    "Squeeze": ("Reshape", "as_reshape"),
    "Sum": ("Add", "as_add"),
    "Unsqueeze": ("Reshape", "as_reshape"),
}
#: Reference images are real numbers.
_QUANTIZABLE = frozenset({"float32", "float16", "float64", "bfloat16"})
_ORDER = (Severity.ERROR, Severity.WARNING, Severity.INFO)
_VERDICTS = tuple(Verdict)


def advise(
    skeleton: Skeleton, table: Toolchain | None = None, *, chip: str | None = None, model_id: int | None = None
) -> Advice:
    """Tell how a model fits each chip of the table, or only `chip`; `recommended` always considers all.

    Without advice, `reason` says why. `model_id` is the number that the user has chosen.
    """
    if skeleton.format != "onnx" or skeleton.reason is not None:
        return Advice(format=skeleton.format, reason=skeleton.reason or skeleton.format)
    table = table or toolchain()
    try:
        model = describe(skeleton.data)
    except NotAdvisableError as error:
        return Advice(format=skeleton.format, reason=error.reason)
    judge = _Judge(table, model, model_id)
    chips = {name: judge.judge(name) for name in table.chips}
    return Advice(
        format=skeleton.format,
        producer=model.producer,
        opset=model.opset,
        inputs=model.inputs,
        outputs=model.outputs,
        operators=dict(sorted(model.operators.items(), key=lambda item: (-item[1], item[0]))),
        folded_nodes=model.folded_nodes,
        parameters=model.parameters,
        chips={name: advice for name, advice in chips.items() if chip in (None, name)},
        recommended=recommended(chips),
    )


def recommended(chips: Mapping[str, ChipAdvice]) -> str | None:
    """Return the chip that fits best, or None if the model is unlikely to run on any.

    The best verdict decides, then the fewest nodes that don't run on the NPU, then the fewest with an open condition.
    Of equal chips, the first of the table is enough for the model.
    """
    best = min(
        chips,
        key=lambda name: (_VERDICTS.index(chips[name].verdict), chips[name].other_nodes, chips[name].conditional_nodes),
        default=None,
    )
    return None if best is None or chips[best].verdict is Verdict.UNLIKELY else best


@dataclass(frozen=True, slots=True)
class _Sorted:
    """The nodes of one operator by the outcome of one condition."""

    met: int
    unmet: Sequence[Node]
    unknown: Sequence[Node]


def _sort(predicate: Predicate, nodes: Iterable[Node]) -> _Sorted:
    met, unmet, unknown = 0, [], []
    for node in nodes:
        outcome = predicate(node)
        if outcome:
            met += 1
        elif outcome is None:
            unknown.append(node)
        else:
            unmet.append(node)
    return _Sorted(met, unmet, unknown)


class _Judge:
    """Compares one model with the chips. Each condition is decided once for all chips."""

    def __init__(self, table: Toolchain, model: Description, model_id: int | None) -> None:
        self._table = table
        self._model = model
        self._common = _common_findings(table, model, model_id)
        self._sorted: dict[tuple[str, str], _Sorted] = {}
        self._findings: dict[tuple[str, str], Finding] = {}

    def judge(self, chip: str) -> ChipAdvice:
        findings = [*self._common, *_legacy_findings(self._table, self._model, chip)]
        npu = conditional = other = 0
        for operator, nodes in self._model.nodes.items():
            support = self._support(operator, chip)
            if not support.npu:
                other += len(nodes)
                findings.append(
                    self._finding("custom_operator" if "::" in operator else "operator_not_on_npu", operator)
                )
                continue
            if support.condition is None:
                npu += len(nodes)
                continue
            outcome = self._outcome(operator, support.condition)
            npu += outcome.met
            conditional += len(outcome.unknown)
            other += len(outcome.unmet)
            if outcome.unmet:
                findings.append(self._finding("condition_not_met", operator, support.condition))
            if outcome.unknown:
                findings.append(self._finding("condition_unknown", operator, support.condition))
        if not npu + conditional + other:
            findings.append(Finding("no_nodes", Severity.ERROR))
        verdict = _verdict(npu, conditional, other, findings)
        return ChipAdvice(verdict, npu, conditional, other, _worst_first(findings))

    def _support(self, operator: str, chip: str) -> Support:
        support = self._table.support(operator, chip)
        if not support.npu and operator in REWRITTEN:
            replacement, condition = REWRITTEN[operator]
            return Support(self._table.support(replacement, chip).npu, condition)
        return support

    def _outcome(self, operator: str, condition: str) -> _Sorted:
        key = (operator, condition)
        if key not in self._sorted:
            self._sorted[key] = _sort(CONDITIONS[condition], self._model.nodes[operator])
        return self._sorted[key]

    def _finding(self, key: str, operator: str, condition: str = "") -> Finding:
        """Return the finding of one operator, which is the same for all chips."""
        known = self._findings.get((key, operator + condition))
        if known is None:
            known = self._findings[key, operator + condition] = self._make_finding(key, operator, condition)
        return known

    def _make_finding(self, key: str, operator: str, condition: str) -> Finding:
        values: dict[str, str | int] = {"operator": operator}
        nodes: Sequence[Node] = self._model.nodes[operator]
        severity = Severity.ERROR if key == "custom_operator" else Severity.WARNING
        if condition:
            outcome = self._outcome(operator, condition)
            values["condition"] = condition
            nodes = outcome.unmet if key == "condition_not_met" else outcome.unknown
        if key == "condition_unknown":
            severity = Severity.INFO
        elif key != "custom_operator":
            values["chips"] = " ".join(self._chips_for(operator, nodes))
        return Finding(key, severity, operator, tuple(node.name for node in nodes[:MAX_NAMES]), len(nodes), values)

    def _chips_for(self, operator: str, nodes: Iterable[Node]) -> Iterator[str]:
        """Yield the chips whose NPU runs the operator, unless one of the nodes doesn't meet the chip's condition."""
        asked = set(nodes)
        for chip in self._table.chips_with(operator):
            condition = self._table.support(operator, chip).condition
            if condition is None or asked.isdisjoint(self._outcome(operator, condition).unmet):
                yield chip


def _verdict(npu: int, conditional: int, other: int, findings: Iterable[Finding]) -> Verdict:
    severities = {finding.severity for finding in findings}
    if Severity.ERROR in severities or other * 2 > npu + conditional + other:
        return Verdict.UNLIKELY
    if other:
        return Verdict.PARTIAL
    return Verdict.CONDITIONAL if conditional or Severity.WARNING in severities else Verdict.FITS


def _worst_first(findings: Sequence[Finding]) -> Sequence[Finding]:
    ordered = sorted(
        findings, key=lambda finding: (_ORDER.index(finding.severity), -finding.count, finding.operator or "")
    )
    if len(ordered) <= MAX_FINDINGS:
        return tuple(ordered)
    rest = len(ordered) - MAX_FINDINGS + 1
    return (*ordered[: MAX_FINDINGS - 1], Finding("more_findings", Severity.INFO, count=rest, values={"count": rest}))


def _common_findings(table: Toolchain, model: Description, model_id: int | None) -> Sequence[Finding]:
    """Return what holds for every chip."""
    findings = []
    first, last = table.opsets
    if model.opset is None:
        findings.append(Finding("opset_missing", Severity.WARNING, values={"first": first, "last": last}))
    elif not first <= model.opset <= last:
        values: dict[str, str | int] = {"opset": model.opset, "first": first, "last": last}
        findings.append(Finding("opset_unsupported", Severity.ERROR, values=values))
    if model.has_external_data:
        findings.append(Finding("external_data", Severity.ERROR))
    if model_id is not None and model_id < table.first_user_model_id:
        values = {"model_id": model_id, "first": table.first_user_model_id}
        findings.append(Finding("model_id_reserved", Severity.WARNING, values=values))
    return (*findings, *_input_findings(model))


def _input_findings(model: Description) -> Iterable[Finding]:
    if model.input_count > 1:
        names = tuple(tensor.name for tensor in model.inputs)
        yield Finding("several_inputs", Severity.WARNING, None, names, model.input_count, {"count": model.input_count})
    for tensor in model.inputs:
        values: dict[str, str | int] = {"input": tensor.name}
        if tensor.element_type not in _QUANTIZABLE:
            values["type"] = tensor.element_type
            yield Finding("input_type", Severity.WARNING, None, (tensor.name,), 1, dict(values))
        if tensor.shape is None:
            yield Finding("input_shape_missing", Severity.WARNING, None, (tensor.name,), 1, values)
        elif None in tensor.shape:
            values["shape"] = " x ".join("?" if size is None else str(size) for size in tensor.shape)
            yield Finding("input_shape_dynamic", Severity.WARNING, None, (tensor.name,), 1, values)
        elif len(tensor.shape) > 1 and tensor.shape[0] != 1:
            values["batch"] = tensor.shape[0] or 0
            yield Finding("batch_not_one", Severity.WARNING, None, (tensor.name,), 1, values)


def _legacy_findings(table: Toolchain, model: Description, chip: str) -> Iterable[Finding]:
    first, last = table.legacy_opsets
    if chip in table.legacy_lacks:
        yield Finding("chip_not_in_legacy_environment", Severity.INFO)
    elif model.opset is not None and table.opsets[0] <= model.opset <= table.opsets[1] and model.opset > last:
        values: dict[str, str | int] = {"opset": model.opset, "first": first, "last": last}
        yield Finding("opset_not_in_legacy_environment", Severity.INFO, values=values)
