"""Work out the shape of a node's output from its inputs, for common operators.

Most exporters leave shapes out, and most conditions ask for them. A dimension that cannot be told is None; an operator
without a rule here gives an unknown shape.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from app.advice.graph import Node
from app.advice.tensors import Shape

_SAME = frozenset(
    {
        *("Abs", "BatchNormalization", "Cast", "Ceil", "Celu", "Clip", "CumSum", "DequantizeLinear", "Dropout", "Elu"),
        *("Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Hardmax", "Identity", "InstanceNormalization"),
        *("LRN", "LayerNormalization", "LeakyRelu", "Log", "LogSoftmax", "LpNormalization", "Mish", "Neg", "Not"),
        *("PRelu", "QuantizeLinear", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Softmax"),
        *("Softplus", "Softsign", "Sqrt", "Tanh", "ThresholdedRelu"),
    }
)
_BROADCAST = frozenset(
    {
        *("Add", "And", "Div", "Equal", "Greater", "Less", "Max", "Mean", "Min"),
        *("Mod", "Mul", "Or", "Pow", "Sub", "Sum", "Where", "Xor"),
    }
)
_REDUCE = frozenset(
    f"Reduce{name}" for name in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
)
#: More inputs of one node are not looked at.
_MAX_INPUTS = 64
#: Larger ranks and sizes are not remembered, so that no chain of operators makes them grow without end.
_MAX_RANK = 16
_MAX_SIZE = 2**40


def broadcast(shapes: Sequence[Shape | None]) -> Shape | None:
    """Return the shape that several shapes have together (numpy's rules)."""
    known = [shape for shape in shapes if shape is not None]
    if len(known) != len(shapes) or not known:
        return None
    if all(shape == known[0] for shape in known):
        return known[0]
    rank = max(len(shape) for shape in known)
    padded = [(1,) * (rank - len(shape)) + shape for shape in known]
    result: list[int | None] = []
    for sizes in zip(*padded, strict=True):
        larger = [size for size in sizes if size != 1]
        fixed = [size for size in larger if size is not None]
        result.append(fixed[0] if fixed else None if larger else 1)
    return tuple(result)


def normalized_axes(axes: Sequence[int], rank: int | None) -> tuple[int, ...] | None:
    """Return axes counted from the front; None if one is counted from the end and the rank is unknown."""
    if rank is None:
        return tuple(axes) if all(axis >= 0 for axis in axes) else None
    return tuple(axis + rank if axis < 0 else axis for axis in axes)


def _same(node: Node) -> Shape | None:
    return node.input_shape()


def _broadcast(node: Node) -> Shape | None:
    if len(node.inputs) > _MAX_INPUTS:
        return None
    return broadcast([node.input_shape(index) for index in range(len(node.inputs))])


def _window_size(size: int | None, kernel: int, stride: int, dilation: int, pads: int, *, ceil: bool) -> int | None:
    if size is None or stride < 1:
        return None
    steps = size + pads - dilation * (kernel - 1) - 1
    return max(1, (-(-steps // stride) if ceil else steps // stride) + 1)


def _windows(node: Node, shape: Shape, kernel: Sequence[int] | None, channels: int | None) -> Shape | None:
    """Return the shape after a convolution or a pooling."""
    spatial = len(shape) - 2
    unknown = (shape[0], channels, *[None] * spatial)
    strides, dilations = node.integers("strides", (1,) * spatial), node.integers("dilations", (1,) * spatial)
    pads, ceil_mode = node.integers("pads", (0,) * 2 * spatial), node.integer("ceil_mode", 0)
    auto_pad = node.text("auto_pad", "NOTSET")
    if spatial < 0 or kernel is None or strides is None or dilations is None or pads is None or ceil_mode is None:
        return unknown
    if not len(kernel) == len(strides) == len(dilations) == spatial or len(pads) != 2 * spatial:
        return unknown
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        sizes = [
            None if size is None or stride < 1 else -(-size // stride)
            for size, stride in zip(shape[2:], strides, strict=True)
        ]
    else:
        sizes = [
            _window_size(
                shape[2 + n], kernel[n], strides[n], dilations[n], pads[n] + pads[n + spatial], ceil=bool(ceil_mode)
            )
            for n in range(spatial)
        ]
    return (shape[0], channels, *sizes)


def kernel_of(node: Node) -> tuple[int, ...] | None:
    """Return the kernel of a convolution, from its attribute or the shape of its weights."""
    weights = node.input_shape(1)
    sizes = () if weights is None else tuple(size for size in weights[2:] if size is not None)
    return node.integers("kernel_shape", sizes if weights and len(sizes) == len(weights) - 2 else None)


def _conv(node: Node) -> Shape | None:
    shape, weights = node.input_shape(), node.input_shape(1)
    if shape is None:
        return None if weights is None else (None, *weights[:1], *[None] * (len(weights) - 2))
    return _windows(node, shape, kernel_of(node), weights[0] if weights else None) if len(shape) > 1 else None


def _pool(node: Node) -> Shape | None:
    shape, kernel = node.input_shape(), node.integers("kernel_shape", None)
    if shape is None:
        return None if kernel is None else (None,) * (len(kernel) + 2)
    return _windows(node, shape, kernel, shape[1]) if len(shape) > 1 else None


def _global_pool(node: Node) -> Shape | None:
    shape = node.input_shape()
    return None if shape is None else shape[:2] + (1,) * (len(shape) - 2)


def _rank_only(node: Node) -> Shape | None:
    shape = node.input_shape()
    return None if shape is None else (None,) * len(shape)


def _gemm(node: Node) -> Shape | None:
    first, second = node.input_shape(), node.input_shape(1)
    rows, columns = int(bool(node.integer("transA", 0))), int(not node.integer("transB", 0))
    return (
        first[rows] if first and len(first) == 2 else None,
        second[columns] if second and len(second) == 2 else None,
    )


def _matmul(node: Node) -> Shape | None:
    first, second = node.input_shape(), node.input_shape(1)
    if first is None or second is None or len(first) < 2 or len(second) < 2:
        return None
    batch = broadcast([first[:-2], second[:-2]])
    return None if batch is None else (*batch, first[-2], second[-1])


def _product(sizes: Shape) -> int | None:
    return None if None in sizes else math.prod(size for size in sizes if size is not None)


def _flatten(node: Node) -> Shape | None:
    shape, axis = node.input_shape(), node.integer("axis", 1)
    if shape is None or axis is None:
        return (None, None)
    return (_product(shape[:axis]), _product(shape[axis:]))


def _reshape(node: Node) -> Shape | None:
    sizes = node.integer_list("shape", 1, None)
    if sizes is None:
        # The length of the list of sizes is the rank.
        lengths = node.input_shape(1)
        rank = lengths[0] if lengths and len(lengths) == 1 else None
        return None if rank is None or not 0 <= rank <= 16 else (None,) * rank
    shape = node.input_shape()
    result = [
        (shape[n] if shape and n < len(shape) else None) if size == 0 else size if size > 0 else None
        for n, size in enumerate(sizes)
    ]
    total, rest = None if shape is None else _product(shape), [size for size in result if size is not None]
    if total is not None and result.count(None) == 1 and 0 not in rest:
        result[result.index(None)] = total // math.prod(rest)
    return tuple(result)


def _transpose(node: Node) -> Shape | None:
    shape = node.input_shape()
    order = node.integers("perm", None if shape is None else tuple(range(len(shape))[::-1]))
    if order is None:
        return None
    if shape is None or sorted(order) != list(range(len(shape))):
        return (None,) * len(order)
    return tuple(shape[axis] for axis in order)


def _concat(node: Node) -> Shape | None:
    count = min(len(node.inputs), _MAX_INPUTS)
    shapes = [shape for index in range(count) if (shape := node.input_shape(index)) is not None]
    axis = node.integer("axis", 0)
    if not shapes or axis is None:
        return None
    rank = len(shapes[0])
    axis = axis + rank if axis < 0 else axis
    if not 0 <= axis < rank or any(len(shape) != rank for shape in shapes):
        return None
    sizes = [shape[axis] for shape in shapes] if len(shapes) == len(node.inputs) else [None]
    fixed = [size for size in sizes if size is not None]
    joined = sum(fixed) if len(fixed) == len(sizes) else None
    return (*shapes[0][:axis], joined, *shapes[0][axis + 1 :])


def _unsqueeze(node: Node) -> Shape | None:
    shape, axes = node.input_shape(), node.integer_list("axes", 1, None)
    if shape is None or axes is None:
        return None
    rank = len(shape) + len(axes)
    added, rest = normalized_axes(axes, rank) or (), iter(shape)
    return tuple(1 if axis in added else next(rest, None) for axis in range(rank))


def _squeeze(node: Node) -> Shape | None:
    shape, axes = node.input_shape(), node.integer_list("axes", 1, None)
    removed = None if shape is None or axes is None else normalized_axes(axes, len(shape))
    if shape is None or removed is None:
        return None
    return tuple(size for axis, size in enumerate(shape) if axis not in removed)


def _reduce(node: Node) -> Shape | None:
    shape, axes, keep = node.input_shape(), node.integer_list("axes", 1, ()), node.integer("keepdims", 1)
    removed = None if shape is None or axes is None else normalized_axes(axes, len(shape))
    if shape is None or removed is None or keep is None:
        return None
    every = not removed
    if keep:
        return tuple(1 if every or axis in removed else size for axis, size in enumerate(shape))
    return () if every else tuple(size for axis, size in enumerate(shape) if axis not in removed)


def _gather(node: Node) -> Shape | None:
    shape, indices, axis = node.input_shape(), node.input_shape(1), node.integer("axis", 0)
    if shape is None or indices is None or axis is None or not -len(shape) <= axis < len(shape):
        return None
    axis %= len(shape)
    return shape[:axis] + indices + shape[axis + 1 :]


def _resize(node: Node) -> Shape | None:
    shape, scales = node.input_shape(), resize_scales(node)
    if shape is None or scales is None or len(scales) != len(shape):
        return _rank_only(node)
    return tuple(
        int(size * scale) if size is not None and 0 < scale < _MAX_SIZE else None
        for size, scale in zip(shape, scales, strict=True)
    )


def resize_scales(node: Node) -> tuple[float, ...] | None:
    """Return the factor of each dimension of a Resize or an Upsample."""
    if node.has("scales"):
        return node.numbers("scales")
    # Upsample, and Resize in opset 10, have the scales as their second input.
    scales = node.input_values(2 if node.operator == "Resize" and len(node.inputs) > 2 else 1)
    if scales:
        return scales
    shape, sizes = node.input_shape(), node.input_values(3)
    if not sizes or shape is None or len(sizes) != len(shape):
        return None
    known = [size for size in shape if size]
    if len(known) != len(shape):
        # The sizes of other dimensions are rarely fixed if the batch is not.
        return None
    return tuple(new / old for new, old in zip(sizes, known, strict=True))


def _depth_to_space(node: Node) -> Shape | None:
    shape, size = node.input_shape(), node.integer("blocksize", 0)
    if shape is None or len(shape) != 4 or not size or size < 1:
        return None
    depth, height, width = shape[1:]
    return (
        shape[0],
        None if depth is None else depth // (size * size),
        None if height is None else height * size,
        None if width is None else width * size,
    )


def _expand(node: Node) -> Shape | None:
    target = node.integer_list("shape", 1, None)
    return None if target is None else broadcast([node.input_shape(), target])


def _constant_of_shape(node: Node) -> Shape | None:
    return node.integer_list("shape", 0, None)


def _shape(node: Node) -> Shape | None:
    shape = node.input_shape()
    return None if shape is None else (len(shape),)


_RULES: Mapping[str, Callable[[Node], Shape | None]] = {
    **dict.fromkeys(_SAME, _same),
    **dict.fromkeys(_BROADCAST, _broadcast),
    **dict.fromkeys(_REDUCE, _reduce),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"), _global_pool),
    **dict.fromkeys(("ConvTranspose", "Pad", "Slice", "Split"), _rank_only),
    **dict.fromkeys(("AveragePool", "MaxPool", "LpPool"), _pool),
    **dict.fromkeys(("Resize", "Upsample"), _resize),
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Conv": _conv,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Reshape": _reshape,
    "Shape": _shape,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}


def output_shape(node: Node) -> Shape | None:
    """Return the shape of the node's outputs; None if it cannot be told."""
    rule = _RULES.get(node.operator)
    shape = rule(node) if rule else None
    if shape is None:
        return None
    return tuple(size if size is not None and 0 <= size <= _MAX_SIZE else None for size in shape[:_MAX_RANK])
