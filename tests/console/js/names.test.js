// Long names are cut in the middle.

import assert from "node:assert/strict";
import { test } from "node:test";

import { shortName, splitName } from "../js/names.js";

test("a short name stays whole", () => {
  assert.deepEqual(splitName("mobilenet_v3.onnx"), { start: "mobilenet_v3.onnx", end: "", endWidth: 0 });
  assert.equal(shortName("mobilenet_v3_large_quantized.onnx"), "mobilenet_v3_large_quantized.onnx");
});

test("a long name has an end that remains visible, and nothing is lost", () => {
  const name = `${"detector_".repeat(8)}v2_final.onnx`;
  const { start, end, endWidth } = splitName(name);
  assert.equal(end, "2_final.onnx");
  assert.equal(start + end, name);
  assert.ok(endWidth > 6 && endWidth < 12, endWidth);
});

test("full-width characters and capitals get more space", () => {
  const width = (name) => splitName("x".repeat(30) + name).endWidth;
  assert.ok(width("模型模型模型模型模型模型") >= 12);
  assert.ok(width("WWWWWWWWWWWW") > width("iiiiiiiiiiii"));
});

test("names are never cut within a character", () => {
  const family = "👨‍👩‍👧";
  assert.equal(splitName(`${"x".repeat(30)}${family}elevenlette`).end, `${family}elevenlette`);
  assert.equal(shortName(`${"é".repeat(35)}${family.repeat(30)}`), `${"é".repeat(35)}${family}…${family.repeat(12)}`);
});

test("a sentence gets a name of limited length", () => {
  const name = shortName(`${"模型".repeat(100)}.onnx`);
  assert.equal([...name].length, 49);
  assert.match(name, /^模型.*…型模型模型模型\.onnx$/);
});
