import assert from "node:assert/strict";
import { test } from "node:test";

import { remedyFor } from "../js/remedies.js";

test("known failures of the toolchain have advice", () => {
  const messages = {
    "undefined CPU op [NonZero] of node [/nms/NonZero]": "unsupported_operator",
    "subprocess run_updater: died with <Signals.SIGABRT: 6>": "analysis_killed",
    "Cannot find the corresponding input image folder for input_2": "missing_reference_images",
    "[ShapeInferenceError] Inferred shape and existing shape differ in rank: (4) vs (2)": "shape_mismatch",
  };
  for (const [message, remedy] of Object.entries(messages)) assert.equal(remedyFor(message), `job.remedy.${remedy}`);
});

test("other messages have no advice", () => {
  for (const message of ["out of disk space", "", undefined]) assert.equal(remedyFor(message), null);
});
