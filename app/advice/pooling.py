"""Decide whether a pooling meets the conditions of the chip table. As in `conditions`, None says "unknown"."""

from app.advice.graph import Node, Outcome

Sizes = tuple[int, ...]


class _Window:
    """The window of a pooling."""

    def __init__(self, node: Node, kernel: Sizes, strides: Sizes, dilations: Sizes) -> None:
        self.kernel, self.strides = kernel, strides
        self.is_dense = all(dilation == 1 for dilation in dilations)
        self.rounds_down = node.integer("ceil_mode", 0) == 0
        self.leaves_out_padding = node.integer("count_include_pad", 0) == 0
        self.is_square = len(set(kernel)) == len(set(strides)) == 1

    def is_power_of_two(self) -> bool:
        """Return whether kernel and stride are the same power of two above 3, in all directions."""
        size = self.kernel[0]
        return self.is_square and self.strides == self.kernel and size > 3 and size & (size - 1) == 0

    def only_skips(self) -> bool:
        """Return whether the window has one element and a stride above 1."""
        return all(size == 1 for size in self.kernel) and all(stride > 1 for stride in self.strides)

    def strides_far(self) -> bool:
        """Return whether the stride is the same in all directions and above 3."""
        return len(set(self.strides)) == 1 and self.strides[0] > 3

    def is_small(self, *, equal_row: bool) -> bool:
        """Return whether kernel and stride are at most 3, and square or in one direction.

        `equal_row` says that a row's kernel and stride must be the same.
        """
        if max(*self.kernel, *self.strides) > 3:
            return False
        if self.is_square:
            return True
        is_column = self.kernel[1] == self.strides[1] == 1
        is_row = self.kernel[0] == self.strides[0] == 1
        return is_column or (is_row and not (equal_row and self.kernel[1] != self.strides[1]))


def _window(node: Node) -> _Window | None:
    kernel = node.integers("kernel_shape", None)
    if not kernel:
        return None
    ones = (1,) * len(kernel)
    strides, dilations = node.integers("strides", ones), node.integers("dilations", ones)
    if strides is None or dilations is None or len(strides) != len(kernel):
        return None
    return _Window(node, kernel, strides, dilations)


def _is_large_average(window: _Window, *, skipping_counts_padding: bool) -> bool:
    if not window.rounds_down:
        return False
    if window.is_dense and window.only_skips():
        return skipping_counts_padding or window.leaves_out_padding
    return window.leaves_out_padding and (window.is_power_of_two() or window.strides_far())


def _covers_image(node: Node, window: _Window) -> Outcome:
    """Return whether the window has the size of the image, without padding."""
    shape, pads = node.input_shape(), node.integers("pads", ())
    if pads is not None and any(pads):
        return False
    if shape is None:
        return None
    sizes = shape[2:]
    if len(sizes) != len(window.kernel):
        return False
    pairs = zip(sizes, window.kernel, strict=True)
    if any(size is not None and size != extent for size, extent in pairs):
        return False
    return None if pads is None or None in sizes else True


def _other_average(node: Node, window: _Window) -> Outcome:
    # The optimizer usually writes an average over the whole image as GlobalAveragePool.
    return False if _covers_image(node, window) is False else None


def average_pool_520(node: Node) -> Outcome:
    """2: the kernel is at most 3x3 and the stride not larger; or one of the forms for large windows."""
    window = _window(node)
    if window is None:
        return None
    if _is_large_average(window, skipping_counts_padding=True):
        return True
    if len(window.kernel) == 2 and window.is_dense and window.is_square and window.kernel[0] <= 3:
        return True if window.strides[0] <= window.kernel[0] else _other_average(node, window)
    return _other_average(node, window)


def average_pool_720(node: Node) -> Outcome:
    """3: kernel and stride are at most 3, square or in one direction; or one of the forms for large windows."""
    window = _window(node)
    if window is None:
        return None
    if _is_large_average(window, skipping_counts_padding=True):
        return True
    if len(window.kernel) == 2 and window.is_dense and window.is_small(equal_row=True):
        return True
    return _other_average(node, window)


def average_pool_730(node: Node) -> Outcome:
    """4: as on the other chips, and in one dimension too."""
    window = _window(node)
    if window is None:
        return None
    if _is_large_average(window, skipping_counts_padding=False):
        return True
    if len(window.kernel) <= 2 and window.is_dense and window.is_small(equal_row=False):
        return True
    return _other_average(node, window)


def _is_large_maximum(window: _Window) -> bool:
    if not window.rounds_down:
        return False
    if window.is_dense and (window.only_skips() or window.is_power_of_two()):
        return True
    return all(size > 3 for size in window.kernel)


def max_pool_520(node: Node) -> Outcome:
    """24: the kernel is 2x2 or 3x3 and the stride not larger; or the kernel is above 3."""
    window = _window(node)
    if window is None:
        return None
    if _is_large_maximum(window):
        return True
    if len(window.kernel) != 2 or not window.is_dense or not window.is_square:
        return False
    return 2 <= window.kernel[0] <= 3 and window.strides[0] <= window.kernel[0]


def max_pool_530(node: Node) -> Outcome:
    """25: kernel and stride are at most 3, square or in one direction; or the kernel is above 3."""
    window = _window(node)
    if window is None:
        return None
    if _is_large_maximum(window):
        return True
    return len(window.kernel) == 2 and window.is_dense and window.is_small(equal_row=True)
