// An upload and its recovery against a scripted gateway, a network and a clock that the test controls.

import assert from "node:assert/strict";
// Node 18 has no global one.
import { File } from "node:buffer";
import { test } from "node:test";

import { countDown } from "../js/countdown.js";
import { beginUpload, isDead } from "../js/own_uploads.js";
import { ABORTED, NETWORK, Problem, UNREACHABLE } from "../js/problems.js";
import { PAUSES_SECONDS, ReliableUpload } from "../js/reliable_upload.js";

const JOB = { job_id: "job-1", filename: "net.onnx" };
const lost = () => new Problem({ code: NETWORK });
const refusal = (status, code, more) => new Problem({ code, status, ...more });
const other = (id) => refusal(409, "upload_in_progress", { upload: { upload_id: id } });
const settle = () => new Promise((resolve) => setImmediate(resolve));

let world;

/** Start an upload. Each call takes its next response from `script`; the last one is repeated. */
function start(script, { stopping = null, dead = [], isOnline = true } = {}) {
  const responses = Object.fromEntries(Object.entries(script).map(([call, list]) => [call, [...list]]));
  const calls = [];
  const answer = (call, detail) => {
    calls.push(detail === undefined ? call : `${call} ${detail}`);
    const list = responses[call] ?? [];
    const response = list.length > 1 ? list.shift() : list[0];
    return response instanceof Error ? Promise.reject(response) : Promise.resolve(response);
  };
  world = { calls, pauses: [], phases: [], begun: 0 };
  const found = { data: { active_job: null } };
  responses.check ??= [{ data: { session_expires_at: "2026-11-29T12:00:00Z" } }];
  responses.active ??= [found];
  responses.jobs ??= [{ data: { jobs: [] } }];
  const upload = new ReliableUpload(
    { model: new File(["model"], "net.onnx"), references: [], platform: "720", size: 5, modelId: "32768", version: "0001" },
    stopping,
    {
      api: {
        checkUpload: () => answer("check"),
        endUpload: (id) => answer("end", id),
        activeJob: () => answer("active"),
        jobs: () => answer("jobs"),
        job: (id) => answer("job", id),
      },
      beginUpload: () => ({ id: `try-${(world.begun += 1)}`, finish: () => dead.push(`try-${world.begun}`) }),
      isDead: async (id) => dead.includes(id),
      isOnline: () => isOnline,
      startUpload: (url, body, { id }) => {
        let abort;
        const aborted = new Promise((_, reject) => (abort = () => reject(new Problem({ code: ABORTED }))));
        return { done: Promise.race([answer("send", id), aborted]), abort };
      },
      countDown: (seconds, onTick) => {
        world.pauses.push(seconds);
        onTick({ secondsLeft: seconds, isOffline: false });
        return { done: world.pausing ?? Promise.resolve(), end: () => calls.push("hurry") };
      },
    },
  );
  upload.subscribe(({ phase }) => world.phases.at(-1) !== phase && world.phases.push(phase));
  return upload;
}

test("a checked upload is sent once", async () => {
  assert.equal(await start({ send: [JOB] }).run(), JOB);
  assert.deepEqual(world.calls, ["check", "send try-1"]);
});

test("after a broken connection the page ends its own upload, checks again, and sends again", async () => {
  const job = await start({ send: [lost(), JOB], end: [{ status: 204 }] }).run();
  assert.equal(job, JOB);
  assert.deepEqual(world.calls, ["check", "send try-1", "end try-1", "check", "send try-2"]);
  assert.deepEqual(world.pauses, [PAUSES_SECONDS[0]]);
  assert.deepEqual(world.phases, ["uploading", "waiting", "recovering", "uploading"]);
});

test("it tries five more times with growing pauses, and then reports the lost connection", async () => {
  const upload = start({ send: [lost()], end: [lost(), refusal(502, "gateway_unavailable"), { status: 204 }] });
  await assert.rejects(upload.run(), { code: NETWORK });
  assert.deepEqual(world.pauses, PAUSES_SECONDS);
  assert.equal(world.begun, 4);
});

test("a proxy that is still starting counts as a lost connection, and its Retry-After is respected", async () => {
  const unavailable = new Problem({ code: "gateway_unavailable", status: 502 }, { retryAfterSeconds: 9 });
  await start({ send: [unavailable, JOB], end: [refusal(404, "upload_not_found")] }).run();
  assert.deepEqual(world.pauses, [9]);
});

test("a refusal is final, and so is a lost connection before anything was sent", async () => {
  for (const problem of [refusal(422, "converter_rejected"), refusal(409, "upload_ended"), refusal(413, UNREACHABLE)]) {
    await assert.rejects(start({ send: [problem] }).run(), problem);
    assert.equal(world.begun, 1);
  }
  await assert.rejects(start({ check: [lost()] }).run(), { code: NETWORK });
  assert.deepEqual(world.pauses, []);
});

test("a repeated request of the browser is not another upload", async () => {
  const job = await start({ send: [other("try-1"), JOB], end: [{ status: 204 }] }).run();
  assert.equal(job, JOB);
  assert.deepEqual(world.calls, ["check", "send try-1", "end try-1", "check", "send try-2"]);
});

test("if the upload was complete, the page waits for its job and sends nothing again", async () => {
  const none = { data: { active_job: null } };
  const complete = refusal(409, "upload_complete");
  const job = await start({ send: [lost()], end: [complete], active: [none, { data: { active_job: JOB } }] }).run();
  assert.equal(job, JOB);
  assert.equal(world.begun, 1);
});

test("a job that has ended while the network was away is found in the history", async () => {
  const gone = refusal(404, "upload_not_found");
  const listed = (at) => [{ data: { jobs: [{ ...JOB, created_at: new Date(Date.now() + at).toISOString() }] } }];
  const script = { send: [lost(), { job_id: "job-2" }], end: [gone], job: [{ data: JOB }] };
  assert.equal(await start({ ...script, jobs: listed(5000) }).run(), JOB);
  assert.equal(await start({ ...script, jobs: listed(-1500) }).run(), JOB);
  assert.equal((await start({ ...script, jobs: listed(-60_000) }).run()).job_id, "job-2");
  const ofEarlierVersion = { ...script, end: [refusal(405, "method_not_allowed")] };
  assert.equal((await start(ofEarlierVersion).run()).job_id, "job-2");
});

test("while the gateway has not noticed the end, the page asks again", async () => {
  const end = [{ status: 202, retryAfterSeconds: 7 }, { status: 202, retryAfterSeconds: 7 }, { status: 204 }];
  await start({ send: [lost(), JOB], end }).run();
  assert.deepEqual(world.pauses, [PAUSES_SECONDS[0], 7, 7]);
  assert.deepEqual(world.phases, ["uploading", "waiting", "recovering", "unnoticed", "uploading"]);
});

test("the upload of a tab that is gone is ended without a question, any other is reported", async () => {
  const ok = { data: {} };
  await start({ check: [other("old"), ok], end: [{ status: 204 }], send: [JOB] }, { dead: ["old"] }).run();
  assert.deepEqual(world.calls, ["check", "end old", "check", "send try-1"]);
  await assert.rejects(start({ check: [other("foreign")] }, { dead: ["old"] }).run(), { code: "upload_in_progress" });
  assert.deepEqual(world.calls, ["check"]);
});

test("an upload that the user wants to stop is ended first, and if it is too late the check says why", async () => {
  const check = [other("foreign"), other("foreign"), refusal(409, "active_job_conflict")];
  const upload = start({ check, end: [refusal(409, "upload_complete")] }, { stopping: "foreign" });
  await assert.rejects(upload.run(), { code: "active_job_conflict" });
});

test("canceling ends the upload at the gateway, and tells if that was too late", async () => {
  for (const [end, isTooLate] of [[{ status: 204 }, false], [refusal(409, "upload_complete"), true]]) {
    const upload = start({ send: [new Promise(() => {})], end: [end] });
    const run = upload.run();
    await settle();
    const aborted = upload.abort();
    await assert.rejects(run, { code: ABORTED });
    assert.equal(await aborted, isTooLate);
    assert.deepEqual(world.calls, ["check", "send try-1", "end try-1"]);
  }
});

test("canceling while something is looked up shows no later state", async () => {
  let refuse;
  const upload = start({ check: [new Promise((_, reject) => (refuse = reject))] }, { dead: ["old"] });
  const run = upload.run();
  await settle();
  refuse(other("old"));
  await Promise.resolve();
  const aborted = upload.abort();
  await assert.rejects(run, { code: ABORTED });
  await aborted;
  await settle();
  assert.deepEqual([world.phases, world.calls], [[], ["check"]]);
});

test("canceling during a pause sends nothing any more", async () => {
  const upload = start({ send: [lost()], end: [{ status: 204 }] }, { isOnline: false });
  let finish;
  world.pausing = new Promise((resolve) => (finish = resolve));
  const run = upload.run();
  await settle();
  await settle();
  upload.hurry();
  const aborted = upload.abort();
  finish();
  await assert.rejects(run, { code: ABORTED });
  assert.equal(await aborted, false);
  await settle();
  assert.deepEqual(world.calls, ["check", "send try-1", "hurry", "hurry"]);
});

test("a countdown ends by itself, or when the network is back, but not while it is away", async () => {
  let now = 0;
  let online = true;
  let timer = null;
  const listeners = new Set();
  const ticks = [];
  const network = {
    isOnline: () => online,
    onOnline: (listener) => listeners.add(listener) && (() => listeners.delete(listener)),
    now: () => now,
    setTimer: (action) => (timer = action),
    clearTimer: () => (timer = null),
  };
  const begin = () => countDown(2, ({ secondsLeft, isOffline }) => ticks.push([secondsLeft, isOffline]), network);
  const pass = () => {
    now += 1000;
    timer();
  };
  const first = begin();
  pass();
  pass();
  await first.done;
  assert.deepEqual(ticks, [[2, false], [1, false]]);
  online = false;
  const second = begin();
  for (let n = 0; n < 4; n += 1) pass();
  assert.deepEqual(ticks.at(-1), [0, true]);
  for (const listener of listeners) listener();
  await second.done;
  assert.deepEqual([timer, listeners.size], [null, 0]);
});

test("a page knows its own uploads, and those of tabs that are gone by their free locks", async () => {
  const stored = new Map();
  const held = new Map();
  globalThis.localStorage = { getItem: (key) => stored.get(key) ?? null, setItem: (key, value) => stored.set(key, value) };
  const locks = {
    async request(name, options, use = options) {
      if (options.ifAvailable) return use(held.has(name) ? null : {});
      held.set(name, true);
      await use({});
      held.delete(name);
    },
  };
  Object.defineProperty(globalThis, "navigator", { value: { locks }, configurable: true });
  const { id, finish } = beginUpload();
  assert.match(id, /^[0-9a-f]{32}$/);
  assert.equal(await isDead(id), false);
  finish();
  await settle();
  assert.equal(await isDead(id), true);
  // Of another tab: its lock is held until the tab is gone.
  stored.set("visiona.uploads", JSON.stringify(["old"]));
  held.set("visiona.upload.old", true);
  assert.equal(await isDead("old"), false);
  held.delete("visiona.upload.old");
  assert.deepEqual([await isDead("old"), await isDead("of curl")], [true, false]);
});
