"""Files for the two implementations of a model's skeleton, in Python and in the browser. Both must give the same."""

from collections.abc import Iterator

from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, helper

#: The encoding of protobuf, for messages that the onnx package does not write.
VARINT, FIXED64, LENGTH, GROUP_START, GROUP_END, FIXED32 = range(6)
_FLOAT = TensorProto.FLOAT


def varint(number: int) -> bytes:
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def entry(number: int, value: bytes | int) -> bytes:
    """Encode one field: a number, or bytes."""
    if isinstance(value, int):
        return varint(number << 3 | VARINT) + varint(value)
    return varint(number << 3 | LENGTH) + varint(len(value)) + value


def model_of(graph: bytes) -> bytes:
    """Encode a model with that graph."""
    return entry(1, 8) + entry(7, graph) + entry(8, entry(2, 13))


def graph_model(*nodes: bytes, initializers: tuple[bytes, ...] = ()) -> bytes:
    return model_of(b"".join(entry(1, node) for node in nodes) + b"".join(entry(5, item) for item in initializers))


def tensor(**fields: object) -> TensorProto:
    return TensorProto(name="weights", data_type=_FLOAT, **fields)  # type: ignore[arg-type]


def _graph(name: str, initializers: list[TensorProto] | None = None, **fields: object) -> GraphProto:
    value = helper.make_tensor_value_info("x", _FLOAT, [1, 3, None, "width"])
    node = helper.make_node("Relu", ["x"], ["x"], name=f"{name}/relu")
    return helper.make_graph([node], name, [value], [value], initializers or [], **fields)  # type: ignore[arg-type]


def _model(graph: GraphProto, **fields: object) -> bytes:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    model: ModelProto = helper.make_model(graph, opset_imports=opsets, producer_name="test", **fields)
    encoded: bytes = model.SerializeToString()
    return encoded


def _with_node(*attributes: AttributeProto, operator: str = "Foo", domain: str = "com.example") -> bytes:
    node = helper.make_node(operator, ["x"], ["x"], name="node", domain=domain)
    node.attribute.extend(attributes)
    graph = _graph("main")
    graph.node.append(node)
    return _model(graph)


def models() -> Iterator[tuple[str, bytes]]:
    """Valid models with everything that a skeleton may meet."""
    large, small = b"\x01\x02\x03\x04" * 1000, b"\x05\x06\x07\x08" * 3
    yield "without weights", _model(_graph("main"))
    yield "raw data", _model(_graph("main", [tensor(raw_data=large, dims=[10, 100]), tensor(raw_data=small)]))
    for size in (1023, 1024, 1025):
        yield f"{size} bytes of data", _model(_graph("main", [tensor(raw_data=bytes(size), doc_string="text")]))
    yield "float data", _model(_graph("main", [tensor(float_data=[1.5] * 1000), tensor(float_data=[1.5] * 3)]))
    yield "int32 data", _model(_graph("main", [tensor(int32_data=range(1000))]))
    yield "int64 data", _model(_graph("main", [tensor(int64_data=[-1] * 200)]))
    yield "double data", _model(_graph("main", [tensor(double_data=[0.5] * 200)]))
    yield "uint64 data", _model(_graph("main", [tensor(uint64_data=range(2000))]))
    yield "string data", _model(_graph("main", [tensor(string_data=[b"text" * 100] * 5)]))
    unpacked = b"".join(varint(5 << 3) + varint(number) for number in range(500))
    yield "unpacked data", graph_model(initializers=(entry(8, b"weights") + unpacked + entry(1, 500),))
    single = b"".join(entry(11, number) for number in range(700))
    yield "unpacked uint64 data", graph_model(initializers=(single + entry(8, b"weights"),))
    yield "unpacked small data", graph_model(initializers=(unpacked[:1498] + entry(8, b"w" * 600),))
    several = entry(9, bytes(600)) + entry(8, b"weights") + entry(4, bytes(600))
    yield "data in several fields", graph_model(initializers=(several,))
    yield (
        "small data between others",
        graph_model(
            initializers=(entry(9, bytes(500)) + entry(8, b"w" * 600) + entry(9, b"\x01" * 500) + entry(2, 1),)
        ),
    )
    external = tensor(data_location=TensorProto.EXTERNAL, dims=[1000, 1000])
    external.external_data.add(key="location", value="model.onnx_data")
    yield "external data", _model(_graph("main", [external]))

    body = _graph("branch", [tensor(raw_data=large)])
    yield (
        "subgraphs",
        _with_node(
            helper.make_attribute("then_branch", body),
            helper.make_attribute("else_branch", _graph("other")),
            helper.make_attribute("bodies", [body, _graph("small"), body]),
            operator="If",
            domain="",
        ),
    )
    deep = _graph("level 0", [tensor(raw_data=large)])
    for level in range(1, 8):
        outer = _graph(f"level {level}", [tensor(raw_data=small)])
        outer.node.append(helper.make_node("Loop", ["n", "go"], ["x"], body=deep))
        deep = outer
    yield "loops inside loops", _model(deep)
    yield (
        "constants",
        _with_node(
            helper.make_attribute("value", tensor(raw_data=large)),
            helper.make_attribute("small", tensor(raw_data=small)),
            helper.make_attribute("several", [tensor(raw_data=large), tensor(raw_data=small)]),
            operator="Constant",
            domain="",
        ),
    )
    sparse = helper.make_sparse_tensor(
        tensor(dims=[300], raw_data=bytes(1200)), TensorProto(name="at", dims=[300], raw_data=bytes(2400)), [90_000]
    )
    yield "sparse initializer", _model(_graph("main", sparse_initializer=[sparse]))
    yield (
        "sparse attributes",
        _with_node(helper.make_attribute("value", sparse), helper.make_attribute("several", [sparse, sparse])),
    )
    function = helper.make_function(
        "com.example",
        "Foo",
        ["x"],
        ["y"],
        [helper.make_node("Constant", [], ["y"], value=tensor(raw_data=large))],
        [helper.make_opsetid("", 17)],
    )
    yield "functions", _model(_graph("main"), functions=[function])
    yield (
        "large attributes",
        _with_node(
            helper.make_attribute("text", "x" * 5000),
            helper.make_attribute("numbers", list(range(600))),
            helper.make_attribute("values", [0.5] * 300),
        ),
    )
    yield "large texts", _model(_graph("main", doc_string="text " * 1000), doc_string="text " * 1000)
    yield "names in Chinese", _model(_graph("主圖", [tensor(raw_data=large, doc_string="說明" * 400)]))
    graph = model_of(entry(5, entry(9, large)) + entry(1, entry(4, b"Relu")))
    yield "graph after opset", entry(8, entry(2, 13)) + graph
    yield "graph in two fields", graph + entry(7, entry(1, entry(4, b"Relu") * 300))
    yield "32 messages inside each other", nested_graphs(11)
    graph_bytes = entry(5, entry(9, bytes(4000)))
    padded = bytes(len(graph_bytes) >> shift & 0x7F | 0x80 for shift in (0, 7, 14, 21)) + b"\x00"
    yield "padded length", entry(1, 8) + b"\x3a" + padded + graph_bytes


def broken_files() -> Iterator[tuple[str, bytes, str]]:
    """Files without skeleton, and the reasons."""
    start = model_of(entry(1, entry(4, b"Relu")))
    large = model_of(entry(1, entry(4, b"Relu")) + entry(5, entry(9, bytes(5000))))
    yield "empty", b"", "empty"
    yield "zeros", bytes(5000), "not_a_model"
    yield "text", b'{"model": "squeezenet", "layers": []}', "text"
    yield "no graph", entry(1, 8) + entry(2, b"pytorch"), "not_a_model"
    yield "ends within a key", start + b"\x80", "truncated"
    yield "ends within a number", start + b"\x08\x80", "truncated"
    yield "ends within a copied field", start + b"\x12\x05abc", "truncated"
    yield "ends within weights", large[:3000], "truncated"
    yield "ends after weights", large[: large.index(bytes(5000)) + 4999], "truncated"
    yield "field 0", start + b"\x00\x01", "malformed"
    yield "start of a group", start + b"\x0b", "malformed"
    yield "end of a group", start + b"\x0c", "malformed"
    yield "wire type 6", start + b"\x0e", "malformed"
    yield "wire type 7", start + b"\x0f", "malformed"
    yield "number of 11 bytes", start + b"\x08" + b"\x80" * 10 + b"\x00", "malformed"
    yield "key of 6 bytes", start + b"\x88\x80\x80\x80\x80\x00\x01", "malformed"
    yield "key over 32 bits", start + b"\xf8\xff\xff\xff\x1f\x01", "malformed"
    yield "negative length", start + b"\x12" + b"\xff" * 9 + b"\x01", "malformed"
    yield "length of 2 GiB", start + b"\x12" + varint(2**31), "malformed"
    yield "weights beyond their graph", model_of(entry(1, entry(4, b"Relu")) + b"\x2a" + varint(5000)), "malformed"
    nodes = entry(1, entry(4, b"Relu")) * 500
    yield "weights beyond their large graph", model_of(nodes + b"\x2a" + varint(5000)) + entry(1, 8) * 3000, "malformed"
    yield "ends after a node", model_of(nodes)[: 5 + len(nodes) // 2], "truncated"
    yield "name beyond its node", graph_model(b"\x1a\x10name"), "malformed"
    yield "group in a node", graph_model(b"\x0b\x0c"), "malformed"
    yield "group in a large tensor", graph_model(initializers=(b"\x0b\x0c" + entry(9, bytes(2000)),)), "malformed"
    yield "name that is not UTF-8", graph_model(entry(3, b"\xff\xfe")), "malformed"
    yield "33 messages inside each other", nested_graphs(11, 0), "too_deep"
    yield "33 large messages inside each other", nested_graphs(11, 2000), "too_deep"
    yield "bomb of small messages", graph_model(nested_attributes(150)), "too_deep"


def nested_graphs(levels: int, padding: int | None = None) -> bytes:
    """A model with `levels` graphs inside each other: 3 * `levels` - 1 messages, and a tensor if there is padding."""
    graph = entry(2, b"x" * 100) + (b"" if padding is None else entry(5, entry(9, bytes(padding))))
    for _ in range(levels - 1):
        graph = entry(1, entry(5, entry(6, graph)))
    return model_of(graph)


def nested_attributes(levels: int) -> bytes:
    """A node with as many subgraphs inside each other, in a few bytes each."""
    node = entry(4, b"If")
    for _ in range(levels):
        node = entry(5, entry(6, entry(1, node)))
    return node
