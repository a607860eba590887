// Comparing a chosen file with the model of an earlier conversion.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import test from "node:test";

import { compareWithJob } from "../js/comparison.js";

const file = (content) => new Blob([content]);
const digest = (content) => createHash("sha256").update(content).digest("hex");
const earlier = (content, sha256 = null) => ({ size: content.length, job: { jobId: "job", sha256 } });
const receiptOf = (sha256) => async (jobId) => ({ data: { model: { sha256: jobId === "job" ? sha256 : "" } } });

test("a file is the same if its size and its SHA-256 agree", async () => {
  const ask = receiptOf(digest("model"));
  assert.equal(await compareWithJob(file("model"), earlier("model"), { ask }), "same");
  assert.equal(await compareWithJob(file("medal"), earlier("model"), { ask }), "other_contents");
  assert.equal(await compareWithJob(file("models"), earlier("model"), { ask }), "other_size");
});

test("a digest that is already known is not requested", async () => {
  const ask = () => assert.fail("requested");
  assert.equal(await compareWithJob(file("model"), earlier("model", digest("model")), { ask }), "same");
});

test("without a digest, only the size agrees", async () => {
  assert.equal(await compareWithJob(file("medal"), earlier("model"), { ask: receiptOf(null) }), "same_size");
  const fails = { ask: () => Promise.reject(new Error("offline")) };
  assert.equal(await compareWithJob(file("medal"), earlier("model"), fails), "same_size");
  const digestFails = { ask: receiptOf(digest("model")), digest: () => Promise.reject(new Error("no crypto")) };
  assert.equal(await compareWithJob(file("medal"), earlier("model"), digestFails), "same_size");
});

test("nothing is compared if the earlier size is unknown", async () => {
  assert.equal(await compareWithJob(file("model"), { size: null, job: { jobId: "job" } }), "unknown");
});
