"""Read a model's skeleton: its inputs and outputs, its operators, and the nodes that compute something.

Work is bounded by counts, not by time: a larger model raises NotAdvisableError.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from app.advice import onnx_model_pb2 as pb
from app.advice.graph import DEFAULT_DOMAINS, Node, Scope, bounded_name
from app.advice.report import Tensor
from app.advice.shapes import output_shape
from app.advice.tensors import INDEX_TYPES, is_external, value_shape, value_type

MAX_NODES = 4_000
MAX_VALUES = 20_000
#: Inputs, outputs and attributes of all nodes.
MAX_EDGES = 40_000
MAX_OPERATORS = 200
MAX_DEPTH = 16
#: Tensors in a description; the first ones.
_MAX_TENSORS = 32

_MAX_PARAMETERS = 2**53

#: The optimizer removes these from every model.
REMOVED = frozenset({"Constant", "Dropout", "Identity"})
#: Constant as soon as the shapes of the inputs are fixed, which the toolchain asks for.
CONSTANT_FOR_FIXED_SHAPES = frozenset({"Shape", "Size"})
_HAVE_GRAPHS = frozenset({"If", "Loop", "Scan", "SequenceMap"})
_RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)


class NotAdvisableError(Exception):
    """There can be no advice; `reason` is its stable key."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(slots=True)
class Description:
    """What a model's skeleton says."""

    producer: str | None = None
    #: The version of ONNX's own operators.
    opset: int | None = None
    inputs: Sequence[Tensor] = ()
    outputs: Sequence[Tensor] = ()
    input_count: int = 0
    #: Elements of all constants but indices; None for an impossible number.
    parameters: int | None = 0
    #: All nodes, also those in subgraphs, and in functions once for each call.
    operators: Counter[str] = field(default_factory=Counter)
    #: The nodes that compute something at run time, by operator.
    nodes: dict[str, list[Node]] = field(default_factory=dict)
    #: Nodes that the optimizer removes or computes beforehand.
    folded_nodes: int = 0
    has_external_data: bool = False


def describe(data: bytes) -> Description:
    """Read a skeleton. Raises NotAdvisableError."""
    try:
        model = pb.Model.FromString(data)
        return _Reader(model).read()
    except (DecodeError, UnicodeDecodeError) as error:
        raise NotAdvisableError("malformed") from error


class _Reader:
    """Walks through one model."""

    def __init__(self, model: pb.Model) -> None:
        self._model = model
        #: With their opsets, which would otherwise be looked for in each call.
        self._functions = {
            (function.domain, function.name): (function, _opset(function.opset_import)) for function in model.functions
        }
        self._description = Description()
        self._operators: dict[tuple[str, str], str] = {}
        self._nodes = 0
        self._values = 0
        self._edges = 0
        self._parameters = 0

    def read(self) -> Description:
        model, description = self._model, self._description
        if not model.HasField("graph"):
            raise NotAdvisableError("not_a_model")
        description.producer = (
            bounded_name(" ".join(filter(None, (model.producer_name, model.producer_version)))) or None
        )
        description.opset = _opset(model.opset_import)
        initializers = {tensor.name for tensor in model.graph.initializer}
        # Old files list the initializers among the inputs.
        inputs = [value for value in model.graph.input if value.name not in initializers]
        description.input_count = len(inputs)
        description.inputs = _tensors(inputs)
        description.outputs = _tensors(model.graph.output)
        self._read_graph(model.graph, None, "", 0, description.opset)
        description.parameters = self._parameters if self._parameters <= _MAX_PARAMETERS else None
        return description

    def _read_graph(self, graph: pb.Graph, parent: Scope | None, path: str, depth: int, opset: int | None) -> None:
        self._count_values(1 + len(graph.initializer) + len(graph.sparse_initializer))
        self._count_values(len(graph.input) + len(graph.output) + len(graph.value_info))
        scope = Scope(parent)
        scope.declare(graph.value_info)
        scope.declare(graph.input)
        scope.declare(graph.output)
        for tensor in graph.initializer:
            scope.add_tensor(tensor.name, tensor)
            self._count_parameters(tensor)
        for sparse in graph.sparse_initializer:
            scope.constants.add(sparse.values.name)
            self._count_parameters(sparse.values)
        self._read_nodes(graph.node, scope, path, depth, opset)

    def _read_nodes(self, nodes: Iterable[pb.Node], scope: Scope, path: str, depth: int, opset: int | None) -> None:
        if depth > MAX_DEPTH:
            raise NotAdvisableError("too_deep")
        for proto in nodes:
            self._count_node(proto)
            known = self._functions.get((proto.domain, proto.op_type)) if self._functions else None
            if known is not None:
                function, own_opset = known
                inner = f"{path}{bounded_name(proto.name or proto.op_type)}/"
                self._read_nodes(function.node, Scope(), inner, depth + 1, own_opset or opset)
                continue
            self._read_node(Node(proto, self._operator(proto), scope, opset, path), path, depth)

    def _operator(self, proto: pb.Node) -> str:
        """Return the operator's name, with its domain unless that is ONNX's own."""
        key = (proto.domain, proto.op_type)
        name = self._operators.get(key)
        if name is None:
            name = bounded_name(key[1] if key[0] in DEFAULT_DOMAINS else f"{key[0]}::{key[1]}")
            self._operators[key] = name
        return name

    def _read_node(self, node: Node, path: str, depth: int) -> None:
        description, operator = self._description, node.operator
        description.operators[operator] += 1
        if len(description.operators) > MAX_OPERATORS:
            raise NotAdvisableError("too_complex")
        graphs = list(node.graphs()) if operator in _HAVE_GRAPHS or "::" in operator else []
        if operator == "Constant":
            self._read_constant(node)
        if self._is_folded(node, has_graphs=bool(graphs)):
            description.folded_nodes += 1
        else:
            description.nodes.setdefault(operator, []).append(node)
        _set_shapes(node)
        for graph in graphs:
            self._read_graph(graph, node.scope, f"{path}{node.name}/", depth + 1, node.opset)

    def _read_constant(self, node: Node) -> None:
        for attribute in node.proto.attribute:
            if attribute.HasField("t"):
                tensor = attribute.t
                self._count_parameters(tensor)
            elif attribute.name in ("value_float", "value_floats"):
                floats = attribute.floats if attribute.name == "value_floats" else [attribute.f]
                tensor = pb.Tensor(data_type=1, float_data=floats[:64], dims=_dims(attribute.name, len(floats)))
            elif attribute.name in ("value_int", "value_ints"):
                ints = attribute.ints if attribute.name == "value_ints" else [attribute.i]
                tensor = pb.Tensor(data_type=7, int64_data=ints[:64], dims=_dims(attribute.name, len(ints)))
            else:
                continue
            for name in node.outputs[:1]:
                node.scope.add_tensor(name, tensor)

    def _is_folded(self, node: Node, *, has_graphs: bool) -> bool:
        """Return whether the optimizer removes the node, and remember that its outputs are constant if they are."""
        operator, scope = node.operator, node.scope
        if operator in ("Dropout", "Identity"):
            if node.is_constant_input(0):
                scope.constants.update(node.outputs[:1])
            return True
        if operator not in REMOVED and operator not in CONSTANT_FOR_FIXED_SHAPES:
            if has_graphs or "::" in operator or operator in _RANDOM or not node.inputs:
                return False
            if not all(name == "" or scope.is_constant(name) for name in node.inputs):
                return False
        scope.constants.update(node.outputs)
        return True

    def _count_node(self, proto: pb.Node) -> None:
        self._nodes += 1
        self._edges += len(proto.input) + len(proto.output) + len(proto.attribute)
        if self._nodes > MAX_NODES or self._edges > MAX_EDGES:
            raise NotAdvisableError("too_complex")

    def _count_values(self, count: int) -> None:
        self._values += count
        if self._values > MAX_VALUES:
            raise NotAdvisableError("too_complex")

    def _count_parameters(self, tensor: pb.Tensor) -> None:
        if is_external(tensor):
            self._description.has_external_data = True
        if tensor.data_type not in INDEX_TYPES:
            self._parameters += max(0, math.prod(tensor.dims[:16]))


def _set_shapes(node: Node) -> None:
    """Note the shapes of the node's outputs: what the model declares, or what follows from the inputs."""
    if not node.outputs:
        return
    node.output = node.scope.shape(node.outputs[0])
    if node.output is None and (shape := output_shape(node)) is not None:
        node.output = shape
        for name in node.outputs:
            node.scope.set_shape(name, shape)


def _dims(attribute: str, length: int) -> Sequence[int]:
    return [length] if attribute.endswith("s") else []


def _opset(imports: Iterable[pb.OperatorSet]) -> int | None:
    versions = [each.version for each in imports if each.domain in DEFAULT_DOMAINS]
    return versions[0] if versions else None


def _tensors(values: Sequence[pb.ValueInfo]) -> Sequence[Tensor]:
    return tuple(
        Tensor(bounded_name(value.name), value_type(value), value_shape(value)) for value in values[:_MAX_TENSORS]
    )
