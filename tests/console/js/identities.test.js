// Proposed model IDs and versions.

import assert from "node:assert/strict";
import test from "node:test";

import { ConversionForm } from "../js/form.js";
import { Identities } from "../js/identities.js";

const job = (filename, platform, model_id, version, status = "completed") => ({
  filename,
  status,
  parameters: { platform, model_id, version },
});

/** A gateway with these jobs, newest first, that returns pages of two and counts the requests. */
function gatewayOf(...jobs) {
  const list = async ({ cursor, filters }) => {
    list.requests += 1;
    const found = jobs.filter(({ filename, parameters }) =>
      Object.entries(filters).every(([name, value]) => (name === "filename" ? filename : parameters?.[name]) === value),
    );
    const start = cursor ?? 0;
    return { data: { jobs: found.slice(start, start + 2), next_cursor: found.length > start + 2 ? start + 2 : null } };
  };
  list.requests = 0;
  return list;
}

/** What is proposed for a model with these earlier jobs. `edited` are the values that the user has entered. */
async function proposed(jobs, name, { platform = "720", version = "", base = {}, edited = {} } = {}) {
  const start = { name: null, modelId: "32768", version: "0001", ...base };
  const wish = { name, platform, version, base: start, ...edited, edited: new Set(Object.keys(edited)) };
  return new Identities(gatewayOf(...jobs)).propose(wish);
}

const pair = ({ modelId, version }) => [modelId, version];

const YOLO = [
  job("yolo.onnx", "720", 40000, "00FF"),
  job("yolo.onnx", "530", 40000, "0003"),
  job("yolo.onnx", "720", 40000, "00fe"),
  job("old.onnx", "720", 32768, "0001"),
];

test("a model gets its last ID, and on its chip the version after the highest one", async () => {
  const found = await proposed(YOLO, "yolo.onnx");
  assert.deepEqual(pair(found), ["40000", "0100"]);
  assert.deepEqual([found.last, found.isNext, found.takenBy, found.usedBy], [true, true, null, null]);
  assert.deepEqual(pair(await proposed(YOLO, "yolo.onnx", { platform: "530" })), ["40000", "0004"]);
  // This version is free on another chip.
  assert.deepEqual(pair(await proposed(YOLO, "yolo.onnx", { platform: "630" })), ["40000", "00FF"]);
});

test("jobs that failed or were canceled leave their version free, and running ones don't", async () => {
  for (const [status, version] of [["failed", "0002"], ["cancelled", "0002"], ["running", "0003"]]) {
    const jobs = [job("net.onnx", "720", 32770, "0002", status), job("net.onnx", "720", 32770, "0001")];
    assert.deepEqual(pair(await proposed(jobs, "net.onnx")), ["32770", version], status);
  }
});

test("a new model keeps the defaults, or gets a free ID if another model uses theirs", async () => {
  assert.deepEqual(pair(await proposed([], "new.onnx")), ["32768", "0001"]);
  const used = [job("a.onnx", "720", 32769, "0001"), ...YOLO, job("b.onnx", "720", 32770, "0001", "failed")];
  const found = await proposed(used, "new.onnx", { base: { version: "0007" } });
  assert.deepEqual(pair(found), ["32770", "0001"]);
  assert.deepEqual([found.takenBy.filename, found.isNext], ["old.onnx", false]);
  const last = [job("a.onnx", "720", 65535, "0001")];
  assert.deepEqual(pair(await proposed(last, "new.onnx", { base: { modelId: "65535" } })), ["32768", "0001"]);
});

test("the settings of an earlier conversion stay if they are free, whatever the file's name is", async () => {
  const again = (name, version, platform) =>
    proposed(YOLO, name, { platform, base: { name: "yolo.onnx", modelId: 40000, version } }).then(pair);
  assert.deepEqual(await again("yolo.onnx", "0003", "720"), ["40000", "0003"]);
  assert.deepEqual(await again("yolo.onnx", "0003", "530"), ["40000", "0004"]);
  assert.deepEqual(await again("yolo_fixed.onnx", "0003", "530"), ["40000", "0004"]);
  assert.deepEqual(await again("old.onnx", "0003", "530"), ["32768", "0001"]);
});

test("edited fields stay, and the one that was not edited follows", async () => {
  const id = await proposed(YOLO, "new.onnx", { edited: { modelId: "40000" } });
  assert.deepEqual(pair(id), [null, "0100"]);
  const version = await proposed(YOLO, "yolo.onnx", { edited: { version: "00fF" } });
  assert.deepEqual([...pair(version), version.usedBy, version.nextVersion], ["40000", null, YOLO[0], "0100"]);
  // What the user enters as a version doesn't change the ID.
  assert.deepEqual(pair(await proposed(YOLO, "new.onnx", { edited: { version: "0002" } })), ["32769", null]);
});

test("after the highest version nothing is proposed, and the job that used it is known", async () => {
  const jobs = [job("net.onnx", "720", 32770, "FFFF"), { filename: "net.onnx", status: "completed", parameters: null }];
  for (const edited of [{}, { version: "ffff" }]) {
    const { version, nextVersion, usedBy } = await proposed(jobs, "net.onnx", { version: "FFFF", edited });
    assert.deepEqual([version, nextVersion, usedBy], [null, null, jobs[0]]);
  }
});

test("responses are reused until a job starts, except failed ones", async () => {
  const list = gatewayOf(...YOLO);
  let isOffline = true;
  const identities = new Identities((wanted) => (isOffline ? Promise.reject(new Error("offline")) : list(wanted)));
  const wish = { name: "yolo.onnx", platform: "720", base: new ConversionForm().base, edited: new Set() };
  await assert.rejects(identities.propose(wish));
  isOffline = false;
  await identities.propose(wish);
  const { requests } = list;
  await identities.propose({ ...wish, platform: "530" });
  assert.equal(list.requests, requests);
  identities.forget();
  await identities.propose(wish);
  assert.equal(list.requests, 2 * requests);
});
