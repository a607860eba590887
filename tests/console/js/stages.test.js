import assert from "node:assert/strict";
import { test } from "node:test";

import { fromGateway, merge, observe, stageTimes } from "../js/stages.js";

const START = Date.parse("2026-11-23T12:00:00Z");
const at = (seconds) => new Date(START + seconds * 1000).toISOString();
const job = (status, stage_index, seconds) => ({
  status,
  stage_index,
  terminal: ["completed", "failed", "cancelled"].includes(status),
  created_at: at(0),
  updated_at: at(seconds),
});

/** What somebody knows who looked at these moments (seconds, status, stage). */
function watched(looks) {
  return looks.reduce(
    (record, [seconds, status, stage]) => observe(record, job(status, stage, seconds), START + seconds * 1000),
    null,
  );
}

const seconds = (times) => times.map(({ milliseconds }) => (milliseconds === null ? null : milliseconds / 1000));

test("each stage lasts until the next one is first observed", () => {
  const looks = [
    [0, "queued", null],
    [2, "running", 0],
    [4, "running", 0],
    [6, "running", 1],
    [10, "running", 2],
    [14, "completed", 2],
  ];
  const times = stageTimes(watched(looks), job("completed", 2, 14), START + 99_000);
  assert.deepEqual(seconds(times), [4, 4, 4]);
  assert.deepEqual(
    times.map(({ state }) => state),
    ["done", "done", "done"],
  );
  assert.ok(times.every(({ isRough }) => !isRough));
});

test("the running stage keeps counting, and later ones have not started", () => {
  const times = stageTimes(
    watched([
      [2, "running", 0],
      [6, "running", 1],
    ]),
    job("running", 1, 6),
    START + 9000,
  );
  assert.deepEqual(seconds(times), [4, 3, null]);
  assert.deepEqual(
    times.map(({ state }) => state),
    ["done", "running", "pending"],
  );
});

test("stages that were not observed have no time", () => {
  const times = stageTimes(watched([[60, "running", 1]]), job("running", 1, 60), START + 62_000);
  assert.deepEqual(seconds(times), [null, 2, null]);
  assert.ok(times[1].isRough, "it may have begun long before");
});

test("a stage that was missed between two polls has no time", () => {
  const times = stageTimes(
    watched([
      [2, "running", 0],
      [40, "running", 2],
    ]),
    job("running", 2, 40),
    START + 41_000,
  );
  assert.deepEqual(seconds(times), [null, null, 1]);
});

test("a job that was never polled has no times, rather than zeros", () => {
  const times = stageTimes(watched([[90, "completed", 2]]), job("completed", 2, 90), START + 99_000);
  assert.deepEqual(seconds(times), [null, null, null]);
});

test("a failed job shows the stage that failed", () => {
  const times = stageTimes(
    watched([
      [2, "running", 0],
      [5, "running", 1],
      [8, "failed", 1],
    ]),
    job("failed", 1, 8),
    START + 99_000,
  );
  assert.deepEqual(
    times.map(({ state }) => state),
    ["done", "failed", "pending"],
  );
  assert.deepEqual(seconds(times), [3, 3, null]);
});

const seen = (stage, from, to = null, approximate = false) => ({
  stage,
  started_at: at(from),
  ended_at: to === null ? null : at(to),
  approximate,
});

test("a browser that comes later gets the gateway's observations", () => {
  const stages = [seen("onnx", 2, 6), seen("bie", 6, 10, true), seen("nef", 10, 14)];
  const ended = { ...job("completed", 2, 14), stages };
  const times = stageTimes(observe(fromGateway(ended), ended, START + 99_000), ended, START + 99_000);
  assert.deepEqual(seconds(times), [4, 4, 4]);
  assert.deepEqual(
    times.map(({ isRough }) => isRough),
    [true, true, false],
  );
});

test("the end of an earlier stage is not used as the end of the job", () => {
  const failed = { ...job("failed", 1, 30), stages: [seen("onnx", 2, 6), seen("bie", 6)] };
  const times = stageTimes(observe(fromGateway(failed), failed, START + 40_000), failed, START + 40_000);
  assert.deepEqual(seconds(times), [4, 24, null]);
});

test("the more exact of the gateway's and the page's observations is used", () => {
  const running = { ...job("running", 1, 6), stages: [seen("onnx", 0), seen("bie", 6, null, true)] };
  const own = watched([
    [2, "running", 0],
    [6, "running", 1],
  ]);
  const known = merge(own, fromGateway(running));
  assert.deepEqual(known.began, { onnx: START, bie: START + 6000 });
  assert.deepEqual(known.rough, { onnx: false, bie: false });
});

test("the observations of two tabs are merged", () => {
  const early = watched([[2, "running", 0]]);
  const late = watched([
    [30, "running", 0],
    [32, "running", 1],
  ]);
  assert.deepEqual(merge(late, early).began, { onnx: START + 2000, bie: START + 32_000 });
  assert.equal(merge(null, early), early);
});
