import assert from "node:assert/strict";
import { test } from "node:test";

import { adviceText, verdictName } from "../js/views/advice.js";
import { isLongerThanUsual, usualTime } from "../js/views/usual.js";

// Without loaded texts, `t` returns its key.

test("the text to copy names each finding with its nodes, and says how many more there are", () => {
  const chip = {
    verdict: "partial",
    npu_nodes: 5,
    conditional_nodes: 0,
    other_nodes: 3,
    findings: [
      { severity: "error", text: "Einsum does not run on the NPU.", nodes: ["/a/Einsum", ""], count: 3 },
      { severity: "info", text: "The model has two inputs." },
    ],
  };
  assert.deepEqual(adviceText("m.onnx, KL520", chip).split("\n"), [
    "m.onnx, KL520advice.colonverdict.partial",
    "advice.npuadvice.separatoradvice.other",
    "",
    "- Einsum does not run on the NPU.",
    "    /a/Einsum",
    "    advice.unnamed",
    "    advice.more",
    "",
    "- The model has two inputs.",
    "",
  ]);
});

test("a verdict of a later gateway is shown as one that needs a look", () => {
  assert.equal(verdictName("splendid"), "verdict.conditional");
});

test("a usual time has two ends only if they differ", () => {
  assert.equal(usualTime(null), "");
  assert.equal(usualTime({ median_seconds: 241, p90_seconds: 250, jobs: 9 }), "usual.about");
  assert.equal(usualTime({ median_seconds: 240, p90_seconds: 540, jobs: 9 }), "usual.range");
});

test("a conversion takes longer than usual after the 90th percentile", () => {
  const usual = { median_seconds: 240, p90_seconds: 540, jobs: 9 };
  assert.equal(isLongerThanUsual(usual, 540), false);
  assert.equal(isLongerThanUsual(usual, 541), true);
  assert.equal(isLongerThanUsual(null, 541), false);
});
