// Formats, texts, problems and the form's rules.

import assert from "node:assert/strict";
import { test } from "node:test";

import { ConversionForm, findMistakes } from "../js/form.js";
import { formatAgo, formatDuration, formatPercent, formatRoughly, formatSize } from "../js/format.js";
import { NETWORK, UNREACHABLE, problemFrom } from "../js/problems.js";
import { SpeedMeter } from "../js/speed.js";

test("sizes use units of 1024", () => {
  assert.equal(formatSize(0, "en"), "0\u00a0B");
  assert.equal(formatSize(1023, "en"), "1,023\u00a0B");
  assert.equal(formatSize(1536, "en"), "1.5\u00a0KB");
  assert.equal(formatSize(1024 ** 2 - 1, "en"), "1\u00a0MB");
  assert.equal(formatSize(5 * 1024 ** 3, "zh-TW"), "5\u00a0GB");
  assert.equal(formatSize(undefined, "en"), "–");
});

test("durations have their two largest units, in the user's language", () => {
  assert.equal(formatDuration(400, "en"), "0 sec");
  assert.equal(formatDuration(134_000, "en"), "2 min 14 sec");
  assert.equal(formatDuration(3_600_000, "en"), "1 hr");
  assert.match(formatDuration(134_000, "zh-TW"), /2.*分.*14.*秒/);
  assert.equal(formatDuration(NaN, "en"), "–");
});

test("usual durations have seconds only below a minute", () => {
  assert.equal(formatRoughly(41, "en"), "41 sec");
  assert.equal(formatRoughly(254, "en"), "4 min");
  assert.equal(formatRoughly(7_300, "en"), "2 hr 2 min");
});

test("times are relative", () => {
  const now = Date.parse("2026-11-23T12:00:00Z");
  assert.equal(formatAgo("2026-11-23T11:59:50Z", now, "en"), "just now");
  assert.equal(formatAgo("2026-11-23T11:59:50Z", now, "zh-TW"), "剛剛");
  assert.equal(formatAgo("2026-11-23T11:57:00Z", now, "en"), "3 minutes ago");
  assert.match(formatAgo("2026-11-22T12:00:00Z", now, "zh-TW"), /昨天/);
  assert.match(formatAgo("2026-01-02T12:00:00Z", now, "en"), /Jan 2, 2026/);
  assert.equal(formatPercent(0.47, "en"), "47%");
});

test("the form applies the toolchain's rules", () => {
  const right = { ...new ConversionForm(), references: [], model: { size: 1 }, platform: "730", modelId: "32768", version: "00aF" };
  assert.deepEqual(findMistakes(right), {});
  for (const [field, values] of Object.entries({
    model: [null, { size: 0 }],
    platform: ["", "999"],
    modelId: ["", "32767", "0", "-1", "4e4", "１２３"],
    version: ["", "1", "00001", "00G1", "0x01"],
  })) {
    for (const value of values) {
      assert.deepEqual(Object.keys(findMistakes({ ...right, [field]: value })), [field], `${field}: ${value}`);
    }
  }
});

test("what is in the form survives a reload, but not a change of the user", () => {
  const items = new Map();
  globalThis.sessionStorage = { getItem: (key) => items.get(key) ?? null, setItem: (key, text) => items.set(key, text) };
  try {
    const form = new ConversionForm("alice");
    form.version = "0BEE";
    form.edited.add("version");
    form.choose({ name: "net.onnx", size: 1 });
    form.store();
    const { version, edited, modelName } = new ConversionForm("alice");
    assert.deepEqual([version, [...edited], modelName], ["0BEE", ["version"], "net.onnx"]);
    const other = new ConversionForm("bob");
    assert.notEqual(other.version, "0BEE");
    assert.equal(other.expected, null);
  } finally {
    delete globalThis.sessionStorage;
  }
});

test("the number and the size of reference images have limits, and the model counts towards the size", () => {
  const limits = { bytes: 10, images: 2 };
  const form = { ...new ConversionForm(), limits, model: { size: 7 }, references: [{ file: { size: 1 } }, { file: { size: 2 } }] };
  assert.deepEqual(findMistakes(form), {});
  const { references } = form;
  assert.deepEqual(findMistakes({ ...form, model: { size: 8 } }), { references: "form.too_large" });
  assert.deepEqual(findMistakes({ ...form, model: { size: 11 }, references: [] }), { model: "form.too_large" });
  assert.deepEqual(findMistakes({ ...form, references: [...references, references[0]] }), { references: "form.references.too_many" });
  assert.deepEqual(findMistakes({ ...form, isReadingReferences: true }), { references: "form.references.reading" });
});

test("problem documents are read, and other responses of proxies become problems", () => {
  const text = JSON.stringify({ code: "draining", status: 503, request_id: "abc", retryable: true });
  const problem = problemFrom({ status: 503, contentType: "application/problem+json", text, retryAfter: "7" });
  assert.deepEqual([problem.code, problem.requestId, problem.retryAfterSeconds], ["draining", "abc", 7]);
  const page = problemFrom({ status: 502, contentType: "text/html", text: "<html>", requestId: null });
  assert.deepEqual([page.code, page.status, page.retryable], [UNREACHABLE, 502, true]);
  const cut = problemFrom({ status: 500, contentType: "application/problem+json", text: '{"code":' });
  assert.equal(cut.code, UNREACHABLE);
  assert.notEqual(NETWORK, UNREACHABLE);
});

test("the speed is that of the last seconds, and is not reported too early", () => {
  const meter = new SpeedMeter();
  meter.add(0, 0);
  meter.add(50_000, 100);
  assert.equal(meter.bytesPerSecond, null);
  meter.add(1_000_000, 1000);
  assert.equal(meter.bytesPerSecond, 1_000_000);
  assert.equal(meter.millisecondsLeft(3_000_000), 2000);
  for (let second = 2; second <= 12; second += 1) meter.add(1_000_000 + second * 100_000, second * 1000);
  assert.equal(meter.bytesPerSecond, 100_000, "the quick beginning is forgotten");
});
