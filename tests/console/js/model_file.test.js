// Reading what a model says about itself, from bytes that are put together as the formats define them.

import assert from "node:assert/strict";
import { test } from "node:test";

import { inspectModel } from "../js/model_file.js";

const text = new TextEncoder();

function varint(value) {
  const bytes = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return Uint8Array.from([...bytes, rest]);
    bytes.push((rest % 128) + 128);
  }
}

const number = (field, value) => [varint(field * 8), varint(value)];
const bytes = (field, content) => [varint(field * 8 + 2), varint(content.length), content];
const joined = (...parts) =>
  Uint8Array.from(parts.flat(9).flatMap((part) => (typeof part === "number" ? [part] : [...part])));
const opset = (domain, version) => bytes(8, joined(bytes(1, text.encode(domain)), number(2, version)));

/** A file that counts the bytes which are read from it. */
function file(name, ...parts) {
  const blob = new Blob(parts);
  const made = { name, size: blob.size, bytesRead: 0 };
  made.slice = (from, to) => {
    const piece = blob.slice(from, to);
    made.bytesRead += piece.size;
    return piece;
  };
  return made;
}

const head = joined(number(1, 8), bytes(2, text.encode("pytorch")), bytes(3, text.encode("2.4.0")));

test("the opset and producer of an ONNX file are read without its weights", async () => {
  const size = 20_000_000;
  const graph = new Blob([joined(varint(58), varint(size)), new Uint8Array(size)]);
  const tail = joined(opset("com.custom", 3), opset("", 17));
  const model = file("net.onnx", head, graph, tail);
  assert.deepEqual(await inspectModel(model), { format: "onnx", claims: "onnx", opset: 17, producer: "pytorch 2.4.0" });
  assert.ok(model.bytesRead < 300_000, `${model.bytesRead} bytes were read`);
});

test("a TFLite file is recognized by its identifier, whatever its name", async () => {
  const model = file("net.bin", joined([28, 0, 0, 0], text.encode("TFL3"), new Uint8Array(100)));
  assert.deepEqual(await inspectModel(model), { format: "tflite", claims: null, opset: null, producer: null });
});

test("any other content is unknown and never an error", async () => {
  const odd = [
    [],
    [[0]],
    [text.encode("hello, this is no model at all")],
    [new Uint8Array(5000).fill(255)],
    [head],
    [joined(head, varint(58), varint(1e9))],
  ];
  for (const parts of odd) {
    const content = joined(...parts);
    const found = await inspectModel(file("net.onnx", content));
    assert.equal(found.format, "unknown", `${content.slice(0, 20)}`);
    assert.equal(found.claims, "onnx");
  }
});

test("a file that can no longer be read is not reported as an unknown format", async () => {
  const arrayBuffer = () => Promise.reject(new DOMException("", "NotReadableError"));
  const gone = { name: "net.onnx", size: 100, slice: () => ({ arrayBuffer }) };
  assert.equal((await inspectModel(gone)).format, "unreadable");
});

test("a producer's name is shortened and has no control characters", async () => {
  const name = text.encode(`\u0007evil\n${"x".repeat(500)}`);
  const model = file("net.onnx", joined(bytes(2, name), bytes(7, [1, 2, 3])));
  const { producer } = await inspectModel(model);
  assert.ok(producer.startsWith("evilx"));
  assert.ok(producer.length <= 60);
});
