"""Decide for one node whether it meets a condition of the chip table.

Each predicate returns True if the node meets the condition, False if it does not, and None if the model doesn't tell.
The limits are those of the toolchain's table of operators, whose source `toolchain.json` names.
"""

from collections.abc import Callable, Mapping, Sequence

from app.advice.graph import Node, Outcome
from app.advice.pooling import average_pool_520, average_pool_720, average_pool_730, max_pool_520, max_pool_530
from app.advice.shapes import kernel_of, normalized_axes, resize_scales

Predicate = Callable[[Node], Outcome]


def every(*outcomes: Outcome) -> Outcome:
    """Return False if one outcome is False, else None if one is unknown, else True."""
    if any(outcome is False for outcome in outcomes):
        return False
    return None if None in outcomes else True


def _is(value: object, expected: object) -> Outcome:
    return None if value is None else value == expected


def _within(value: float | None, least: float, most: float) -> Outcome:
    return None if value is None else least <= value <= most


def _rank(node: Node) -> int | None:
    shape = node.output
    return None if shape is None else len(shape)


def _input_rank(node: Node) -> int | None:
    shape = node.input_shape()
    return None if shape is None else len(shape)


def rank_at_most_4(node: Node) -> Outcome:
    """1, 8: the rank is at most 4."""
    rank = _rank(node)
    return _within(_input_rank(node) if rank is None else rank, 0, 4)


def _stride_limits(node: Node) -> Outcome:
    strides = node.integers("strides", (1, 1))
    if strides is None:
        return None
    if len(strides) == 2:
        return strides[0] <= 4 and strides[1] <= 16
    if len(strides) == 1:
        # The table doesn't say which of the two limits holds for one dimension.
        return True if strides[0] <= 4 else None if strides[0] <= 16 else False
    return None


def conv_520(node: Node) -> Outcome:
    """6: rank at most 4, kernel at most 12, horizontal stride at most 16, vertical stride at most 4."""
    kernel = kernel_of(node)
    small = None if kernel is None else all(size <= 12 for size in kernel)
    return every(rank_at_most_4(node), small, _stride_limits(node))


def conv_720(node: Node) -> Outcome:
    """7: rank at most 4, horizontal stride at most 16, vertical stride at most 4."""
    return every(rank_at_most_4(node), _stride_limits(node))


def stride_of_2(node: Node) -> Outcome:
    """9: the stride is 2 in all directions."""
    strides = node.integers("strides", (1, 1))
    return None if strides is None else all(stride == 2 for stride in strides)


def square_stride(node: Node) -> Outcome:
    """10: the stride is the same in all directions."""
    strides = node.integers("strides", (1, 1))
    return None if strides is None else len(set(strides)) == 1


def _bound(node: Node, name: str, index: int, default: float) -> float | None:
    if node.has(name):
        return node.number(name, default)
    if not node.has_input(index):
        return default
    values = node.input_values(index)
    return float(values[0]) if values else None


def clip_from_0(node: Node) -> Outcome:
    """5: the lower bound is 0 and the upper bound at least 0."""
    lower, upper = _bound(node, "min", 1, float("-inf")), _bound(node, "max", 2, float("inf"))
    return every(_is(lower, 0), _within(upper, 0, float("inf")))


def depth_to_one_channel(node: Node) -> Outcome:
    """11: blocksize 2, mode CRD, and the input is 1x4xHxW."""
    shape = node.input_shape()
    if shape is None:
        fits: Outcome = None
    else:
        fits = every(len(shape) == 4, _is(shape[0], 1), _is(shape[1], 4)) if len(shape) > 1 else False
    return every(_is(node.integer("blocksize", 0), 2), _is(node.text("mode", "DCR"), "CRD"), fits)


def blocksize_2_or_4(node: Node) -> Outcome:
    """12, 41: the blocksize is 2 or 4."""
    size = node.integer("blocksize", 0)
    return None if size is None else size in (2, 4)


def decomposed(_: Node) -> Outcome:
    """14, 39, 40: the toolchain decomposes the operator; there is nothing to meet."""
    return True


def _expanded_axes(node: Node) -> set[int] | None:
    shape, target = node.input_shape(), node.output
    if shape is None or target is None or len(target) != 4 or len(shape) > 4:
        return None
    shape = (1,) * (4 - len(shape)) + shape
    if None in shape or None in target:
        return None
    return {axis for axis in range(4) if shape[axis] != target[axis]}


def expands_rows_or_columns(node: Node) -> Outcome:
    """15: only rows or columns are repeated."""
    axes = _expanded_axes(node)
    return None if axes is None else axes <= {2, 3}


def expands_all_but_batch(node: Node) -> Outcome:
    """16: only channels, rows or columns are repeated."""
    axes = _expanded_axes(node)
    return None if axes is None else axes <= {1, 2, 3}


def axis_1(node: Node) -> Outcome:
    """17: the axis is 1."""
    axis = node.integer("axis", 1)
    if axis is not None and axis < 0:
        rank = _input_rank(node)
        axis = None if rank is None else axis + rank
    return _is(axis, 1)


def single_index(node: Node) -> Outcome:
    """18: there is a single index."""
    shape = node.input_shape(1)
    if shape is None:
        return None
    if all(size == 1 for size in shape):
        return True
    return None if None in shape else False


def _area_at_most(node: Node, most: int) -> Outcome:
    shape = node.input_shape()
    if shape is None or len(shape) > 4:
        return None if shape is None else False
    area = 1
    for size in shape[2:]:
        if size is None:
            return None
        area *= size
    return area <= most


def area_at_most_256(node: Node) -> Outcome:
    """19: rank at most 4, and rows x columns at most 256."""
    return _area_at_most(node, 256)


def area_at_most_16384(node: Node) -> Outcome:
    """20: rank at most 4, and rows x columns at most 16384."""
    return _area_at_most(node, 16384)


def more_than_3_rows(node: Node) -> Outcome:
    """21: there are more than 3 rows."""
    shape = node.input_shape()
    rows = shape[2] if shape and len(shape) > 2 else None
    return None if rows is None else rows > 3


def _matrices(node: Node, least: int, most: int) -> Outcome:
    if node.is_constant_input(1):
        shape = node.input_shape(1)
        if shape is None:
            return None
        return len(shape) == 2 or (len(shape) == 4 and every(_is(shape[0], 1), _is(shape[1], 1)))
    return _within(_rank(node), least, most)


def matmul_720(node: Node) -> Outcome:
    """22: the second input is a constant matrix, or the rank is 4."""
    return _matrices(node, 4, 4)


def matmul_730(node: Node) -> Outcome:
    """23: the second input is a constant matrix, or the rank is 3 to 5."""
    return _matrices(node, 3, 5)


def _padding(node: Node) -> tuple[Sequence[int], Sequence[int]] | None:
    """Return the pads at the beginning and the end of each dimension."""
    pads = node.integer_list("pads", 1, None)
    if pads is None or node.has_input(3):
        return None
    half = len(pads) // 2
    return pads[:half], pads[half:]


def _pad(node: Node, first_limited_axis: int) -> Outcome:
    value = _bound(node, "value", 2, 0.0)
    constant = every(_is(node.text("mode", "constant"), "constant"), _is(value, 0))
    padding = _padding(node)
    if padding is None:
        return every(constant, None)
    before, after = padding
    keeps_batch = all(side[0] == 0 for side in padding if side)
    limited = [*before[first_limited_axis:], *after[first_limited_axis:]]
    return every(constant, keeps_batch, all(size < 32 for size in limited))


def pad_spatial_under_32(node: Node) -> Outcome:
    """26: zeros, none in the batch, and less than 32 in rows and columns."""
    return _pad(node, 2)


def pad_under_32(node: Node) -> Outcome:
    """27: zeros, none in the batch, and less than 32 anywhere."""
    return _pad(node, 0)


def power_of_2(node: Node) -> Outcome:
    """29: the exponent is 2."""
    exponent = node.input_values(1)
    if exponent is None:
        return None
    return all(value == 2 for value in exponent)


def keeps_dimensions(node: Node) -> Outcome:
    """30: keepdims is 1."""
    return _is(node.integer("keepdims", 1), 1)


def _reduced_axes(node: Node) -> set[int] | None:
    """Return the axes; None if unknown. No axes mean all of them, the batch among them."""
    axes = node.integer_list("axes", 1, ())
    if axes is None:
        return None
    if not axes:
        return {0}
    found = normalized_axes(axes, _input_rank(node))
    return None if found is None else set(found)


def _averages_image(node: Node) -> Outcome:
    axes = _reduced_axes(node)
    return every(node.operator == "ReduceMean", _is(_input_rank(node), 4), _is(axes, {2, 3}))


def reduces_all_but_batch(node: Node) -> Outcome:
    """31: keepdims is 1, and the batch is not reduced."""
    axes = _reduced_axes(node)
    outcome = every(keeps_dimensions(node), None if axes is None else 0 not in axes)
    # The optimizer usually writes an average over the whole image as GlobalAveragePool.
    return None if outcome is False and _averages_image(node) is not False else outcome


def reduces_channels(node: Node) -> Outcome:
    """32: keepdims is 1, and only channels are reduced."""
    axes = _reduced_axes(node)
    return every(keeps_dimensions(node), None if axes is None else axes == {1})


def resize_530(node: Node) -> Outcome:
    """36: not cubic, and zeros outside of the image."""
    mode, outside = node.text("mode", "nearest"), node.number("extrapolation_value", 0.0)
    return every(None if mode is None else mode != "cubic", _is(outside, 0))


def _starts_at_first_pixel(node: Node) -> Outcome:
    # Opset 10 has no such attribute and begins at the first pixel. Half pixels begin between two, in most sizes.
    coordinates = node.text("coordinate_transformation_mode", "half_pixel")
    if node.opset == 10:
        return True
    return True if coordinates in ("asymmetric", "align_corners") else None


def resize_520(node: Node) -> Outcome:
    """34: as on the 530, and rank 4, from the first pixel on; nearest rounds down; no tf_crop_and_resize."""
    rounds_down: Outcome = True
    if node.text("mode", "nearest") == "nearest" and node.opset != 10:
        rounds_down = _is(node.text("nearest_mode", "round_prefer_floor"), "floor")
    return every(
        resize_530(node),
        _is(_input_rank(node), 4),
        rounds_down,
        node.text("coordinate_transformation_mode", "") != "tf_crop_and_resize",
        _starts_at_first_pixel(node),
    )


def _enlarges(node: Node) -> tuple[bool, bool] | None:
    """Return whether a resize makes the image higher, and wider."""
    scales = resize_scales(node)
    return (scales[2] > 1, scales[3] > 1) if scales and len(scales) == 4 else None


def resize_720(node: Node) -> Outcome:
    """35: as on the 530, and rank 4, not enlarged in both directions, from the first pixel on."""
    enlarges = _enlarges(node)
    if enlarges is None:
        fits: Outcome = None
    elif all(enlarges):
        fits = False
    else:
        fits = _starts_at_first_pixel(node) if any(enlarges) else True
    return every(resize_530(node), _is(_input_rank(node), 4), fits)


def upsample_rows_and_columns(node: Node) -> Outcome:
    """44, 46: rank 4, only rows and columns, nearest or linear."""
    scales, mode = resize_scales(node), node.text("mode", "nearest")
    known_mode = None if mode is None else mode in ("nearest", "linear", "bilinear", "align_corner")
    if scales is None:
        return every(known_mode, None)
    return every(known_mode, len(scales) == 4 and scales[0] == scales[1] == 1)


def upsample_one_direction(node: Node) -> Outcome:
    """45: rank 4, rows or columns but not both, nearest or linear."""
    enlarges = _enlarges(node)
    return every(upsample_rows_and_columns(node), None if enlarges is None else not all(enlarges))


def steps_of_1(node: Node) -> Outcome:
    """38: all steps are 1."""
    steps = node.integer_list("steps", 4, (1,))
    return None if steps is None else all(step == 1 for step in steps)


def slice_720(node: Node) -> Outcome:
    """37: rank at most 4, and all steps are 1."""
    return every(rank_at_most_4(node), steps_of_1(node))


def _order(node: Node) -> tuple[int, ...] | None:
    rank = _input_rank(node)
    return node.integers("perm", None if rank is None else tuple(range(rank)[::-1]))


def transpose_720(node: Node) -> Outcome:
    """42: rows with columns, or channels with rows."""
    order = _order(node)
    if order is None:
        return None
    if order in ((0, 1, 2, 3), (0, 1, 3, 2), (0, 2, 1, 3)):
        return True
    # The table doesn't say whether the two may be combined, nor what holds for other ranks.
    return None if order[:1] == (0,) else False


def transpose_all_but_batch(node: Node) -> Outcome:
    """43: the batch stays where it is."""
    order = _order(node)
    return None if order is None else order[:1] in ((), (0,))


def as_reshape(_: Node) -> Outcome:
    """Return None: the optimizer usually writes Squeeze and Unsqueeze as Reshape."""
    return None


def as_slice_or_add(node: Node) -> Outcome:
    """Return None, or False for a rank above 4: the optimizer usually writes Split as Slices, and Sum as Add."""
    return every(rank_at_most_4(node), None)


def as_batch_normalization(node: Node) -> Outcome:
    """Return None for Mul and Div by a constant for each channel: usually written as BatchNormalization. Else False."""
    shape = node.input_shape(1) if node.is_constant_input(1) else (None,) * 5
    per_channel = None if shape is None else all(size == 1 for size in (*shape[:-3], *shape[-2:]))
    return every(per_channel, rank_at_most_4(node), None)


def as_global_average(node: Node) -> Outcome:
    """Return None for a mean over at most 256 rows x columns: usually written as GlobalAveragePool. Else False."""
    return every(_averages_image(node), area_at_most_256(node), None)


#: By the key of the table; and for the operators that are usually written as others, by a key of our own.
CONDITIONS: Mapping[str, Predicate] = {
    "as_add": as_slice_or_add,
    "as_batch_normalization": as_batch_normalization,
    "as_global_average": as_global_average,
    "as_reshape": as_reshape,
    "as_slice": as_slice_or_add,
    "1": rank_at_most_4,
    "2": average_pool_520,
    "3": average_pool_720,
    "4": average_pool_730,
    "5": clip_from_0,
    "6": conv_520,
    "7": conv_720,
    "8": rank_at_most_4,
    "9": stride_of_2,
    "10": square_stride,
    "11": depth_to_one_channel,
    "12": blocksize_2_or_4,
    "14": decomposed,
    "15": expands_rows_or_columns,
    "16": expands_all_but_batch,
    "17": axis_1,
    "18": single_index,
    "19": area_at_most_256,
    "20": area_at_most_16384,
    "21": more_than_3_rows,
    "22": matmul_720,
    "23": matmul_730,
    "24": max_pool_520,
    "25": max_pool_530,
    "26": pad_spatial_under_32,
    "27": pad_under_32,
    "29": power_of_2,
    "30": keeps_dimensions,
    "31": reduces_all_but_batch,
    "32": reduces_channels,
    "34": resize_520,
    "35": resize_720,
    "36": resize_530,
    "37": slice_720,
    "38": steps_of_1,
    "39": decomposed,
    "40": decomposed,
    "41": blocksize_2_or_4,
    "42": transpose_720,
    "43": transpose_all_but_batch,
    "44": upsample_rows_and_columns,
    "45": upsample_one_direction,
    "46": upsample_rows_and_columns,
}
