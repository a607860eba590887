"""The nodes of a model, each with what is known of its attributes, the shapes around it and its constants.

All accessors of `Node` return None for what cannot be told, for example because a value is computed at run time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from app.advice import onnx_model_pb2 as pb
from app.advice.tensors import Shape, Values, tensor_shape, tensor_values, value_shape

#: Whether a node meets a condition; None if the model doesn't tell.
Outcome = bool | None
#: The names of ONNX's own domain.
DEFAULT_DOMAINS = frozenset({"", "ai.onnx"})
#: Longer lists of attributes are not read.
_MAX_INTS = 32
_MAX_NAME_CHARACTERS = 120


def bounded_name(name: str) -> str:
    """Return a name without control characters and at most 120 characters long."""
    name = name[:_MAX_NAME_CHARACTERS]
    return name if name.isprintable() else "".join(c if c.isprintable() else " " for c in name)


class Scope:
    """The values that the nodes of one graph can refer to: its own, then those of the graphs around it."""

    __slots__ = ("_declared", "_parent", "_shapes", "_tensors", "constants")

    def __init__(self, parent: Scope | None = None) -> None:
        self._parent = parent
        #: What the model says about shapes, read when it is asked for.
        self._declared: dict[str, pb.ValueInfo] = {}
        self._shapes: dict[str, Shape] = {}
        self._tensors: dict[str, pb.Tensor] = {}
        #: Names of values that are known before the model runs, even if their data is not in the skeleton.
        self.constants: set[str] = set()

    def declare(self, values: Sequence[pb.ValueInfo]) -> None:
        """Remember the declared shapes of values."""
        for value in values:
            self._declared[value.name] = value

    def add_tensor(self, name: str, tensor: pb.Tensor) -> None:
        """Remember a constant."""
        self._tensors[name] = tensor
        self.constants.add(name)

    def set_shape(self, name: str, shape: Shape) -> None:
        """Remember a shape that follows from a node's inputs."""
        self._shapes[name] = shape

    def shape(self, name: str) -> Shape | None:
        """Return the shape of a value."""
        scope: Scope | None = self
        while scope is not None:
            if (shape := scope._shapes.get(name)) is not None:
                return shape
            found = None
            if (tensor := scope._tensors.get(name)) is not None:
                found = tensor_shape(tensor)
            elif (declared := scope._declared.get(name)) is not None:
                found = value_shape(declared)
            if found is not None:
                scope._shapes[name] = found
                return found
            scope = scope._parent
        return None

    def values(self, name: str) -> Values | None:
        """Return the numbers of a small constant."""
        scope: Scope | None = self
        while scope is not None:
            if (tensor := scope._tensors.get(name)) is not None:
                return tensor_values(tensor)
            scope = scope._parent
        return None

    def is_constant(self, name: str) -> bool:
        """Return whether a value is known before the model runs."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.constants:
                return True
            scope = scope._parent
        return False


class Node:
    """One node. `operator` has the domain as a prefix, if that is not the default one."""

    __slots__ = (
        "_attributes",
        "_integers",
        "inputs",
        "operator",
        "opset",
        "output",
        "outputs",
        "path",
        "proto",
        "scope",
    )

    def __init__(self, proto: pb.Node, operator: str, scope: Scope, opset: int | None, path: str) -> None:
        self.proto = proto
        self.operator = operator
        self.scope = scope
        self.opset = opset
        self.path = path
        self.inputs: Sequence[str] = proto.input
        self.outputs: Sequence[str] = proto.output
        #: The shape of the first output.
        self.output: Shape | None = None
        self._attributes: dict[str, pb.Attribute] | None = None
        self._integers: dict[str, tuple[int, ...] | None] = {}

    @property
    def name(self) -> str:
        """Return the node's name, or that of its first output, which viewers show for a node without a name."""
        name = self.proto.name or (self.outputs[0] if self.outputs else "")
        return bounded_name(self.path + name)

    def attribute(self, name: str) -> pb.Attribute | None:
        """Return an attribute, or None if the node lacks it."""
        if self._attributes is None:
            self._attributes = {attribute.name: attribute for attribute in self.proto.attribute}
        return self._attributes.get(name)

    def has(self, name: str) -> bool:
        """Return whether the node has an attribute."""
        return self.attribute(name) is not None

    def integer(self, name: str, default: int) -> int | None:
        """Return an integer attribute; the default if the node lacks it."""
        attribute = self.attribute(name)
        if attribute is None:
            return default
        return None if attribute.ref_attr_name else attribute.i

    def number(self, name: str, default: float) -> float | None:
        """Return a float attribute; the default if the node lacks it."""
        attribute = self.attribute(name)
        if attribute is None:
            return default
        return None if attribute.ref_attr_name else attribute.f

    def text(self, name: str, default: str) -> str | None:
        """Return a string attribute; the default if the node lacks it."""
        attribute = self.attribute(name)
        if attribute is None:
            return default
        return None if attribute.ref_attr_name else attribute.s.decode("utf-8", "replace")

    def integers(self, name: str, default: tuple[int, ...] | None) -> tuple[int, ...] | None:
        """Return a list of integers; the default if the node lacks it."""
        # Several conditions ask for the same list.
        if name in self._integers:
            return self._integers[name]
        attribute = self.attribute(name)
        if attribute is None:
            return default
        is_unknown = attribute.ref_attr_name or len(attribute.ints) > _MAX_INTS
        value = self._integers[name] = None if is_unknown else tuple(attribute.ints)
        return value

    def numbers(self, name: str) -> tuple[float, ...] | None:
        """Return a list of floats."""
        attribute = self.attribute(name)
        if attribute is None or attribute.ref_attr_name or len(attribute.floats) > _MAX_INTS:
            return None
        return tuple(attribute.floats)

    def has_input(self, index: int) -> bool:
        """Return whether an optional input is there."""
        return index < len(self.inputs) and self.inputs[index] != ""

    def input_shape(self, index: int = 0) -> Shape | None:
        """Return the shape of an input."""
        return self.scope.shape(self.inputs[index]) if self.has_input(index) else None

    def input_values(self, index: int) -> Values | None:
        """Return the numbers of an input that is a small constant."""
        return self.scope.values(self.inputs[index]) if self.has_input(index) else None

    def is_constant_input(self, index: int) -> bool:
        """Return whether an input is known before the model runs."""
        return self.has_input(index) and self.scope.is_constant(self.inputs[index])

    def integer_list(self, name: str, index: int, default: tuple[int, ...] | None) -> tuple[int, ...] | None:
        """Return a list that is an attribute in old opsets and an input in new ones; the default if it is neither."""
        if self.has(name):
            return self.integers(name, None)
        if not self.has_input(index):
            return default
        values = self.input_values(index)
        if values is None or len(values) > _MAX_INTS:
            return None
        integers = tuple(value for value in values if isinstance(value, int))
        return integers if len(integers) == len(values) else None

    def graphs(self) -> Iterator[pb.Graph]:
        """Yield the graphs in the node's attributes, for example the branches of an `If`."""
        for attribute in self.proto.attribute:
            if attribute.HasField("g"):
                yield attribute.g
            yield from attribute.graphs
