// The poller against a scripted gateway and a clock that the test controls.

import assert from "node:assert/strict";
import { test } from "node:test";

import { BACKOFF_SECONDS, HIDDEN_SECONDS, Poller } from "../js/poll.js";

const running = (extra = {}) => ({ data: { terminal: false, ...extra }, etag: '"1"', retryAfterSeconds: 2 });
const failure = (status, retryAfterSeconds = null) => Object.assign(new Error(), { status, retryAfterSeconds });

/** Respond with `responses` one after the other; an Error is thrown. */
function watch(responses) {
  const world = { asked: [], jobs: [], states: [], timers: [] };
  const poller = new Poller({
    ask: async (jobId, etag) => {
      world.asked.push([jobId, etag]);
      const response = responses.shift();
      if (response instanceof Error) throw response;
      return response;
    },
    onJob: (job) => world.jobs.push(job),
    onState: (state) => world.states.push(state.name),
    setTimer: (action, milliseconds) => {
      const timer = { action, milliseconds };
      world.timers.push(timer);
      return timer;
    },
    clearTimer: (timer) => {
      world.timers = world.timers.filter((other) => other !== timer);
    },
  });
  world.poller = poller;
  world.settle = () => new Promise((resolve) => setImmediate(resolve));
  world.tick = async () => {
    const timer = world.timers.shift();
    timer.action();
    await world.settle();
    return timer.milliseconds;
  };
  return world;
}

test("it waits as long as Retry-After says and sends the ETag", async () => {
  const world = watch([running(), { ...running(), retryAfterSeconds: 5 }, { data: null, retryAfterSeconds: 5 }]);
  world.poller.start("job-1");
  await world.settle();
  assert.equal(await world.tick(), 2000);
  assert.equal(await world.tick(), 5000);
  assert.deepEqual(world.asked, [
    ["job-1", null],
    ["job-1", '"1"'],
    ["job-1", '"1"'],
  ]);
  assert.equal(world.jobs.length, 2, "a response without changes is not reported");
});

test("it stops when the job has ended", async () => {
  const world = watch([{ data: { terminal: true, status: "completed" } }]);
  world.poller.start("job-1");
  await world.settle();
  assert.equal(world.poller.state.name, "ended");
  assert.deepEqual(world.timers, []);
  world.poller.resume();
  assert.equal(world.asked.length, 1);
});

test("it backs off after failures, and then continues", async () => {
  const failures = BACKOFF_SECONDS.map(() => failure(502));
  const world = watch([...failures, failure(0), running()]);
  world.poller.start("job-1");
  await world.settle();
  const waits = [];
  for (let n = 0; n <= BACKOFF_SECONDS.length; n += 1) waits.push((await world.tick()) / 1000);
  assert.deepEqual(waits, [...BACKOFF_SECONDS, BACKOFF_SECONDS.at(-1)]);
  assert.equal(world.poller.state.name, "waiting");
  assert.equal(world.states.filter((name) => name === "asking").length, 1, "the notice does not flicker");
});

test("a longer Retry-After of a failure is respected", async () => {
  const world = watch([failure(503, 20), running()]);
  world.poller.start("job-1");
  await world.settle();
  assert.equal(await world.tick(), 20_000);
});

test("while the page is hidden it polls rarely, and when the page is shown it polls at once", async () => {
  const world = watch([running(), failure(502), running(), running()]);
  world.poller.setHidden(true);
  world.poller.start("job-1");
  await world.settle();
  assert.equal(await world.tick(), HIDDEN_SECONDS * 1000);
  assert.equal(await world.tick(), HIDDEN_SECONDS * 1000);
  assert.equal(world.asked.length, 3);
  world.poller.setHidden(false);
  await world.settle();
  assert.equal(world.asked.length, 4);
  assert.deepEqual(
    world.timers.map(({ milliseconds }) => milliseconds),
    [2000],
  );
});

test("without a session it waits until it is told that there is one", async () => {
  const world = watch([failure(401), running()]);
  world.poller.start("job-1");
  await world.settle();
  assert.equal(world.poller.state.name, "signed-out");
  assert.deepEqual(world.timers, []);
  world.poller.resume();
  await world.settle();
  assert.equal(world.poller.state.name, "waiting");
});

test("a job that does not exist is not polled again", async () => {
  const world = watch([failure(404)]);
  world.poller.start("job-1");
  await world.settle();
  assert.equal(world.poller.state.name, "gone");
  assert.deepEqual(world.timers, []);
});

test("a response for the previous job is ignored", async () => {
  const world = watch([running({ job_id: "old" }), running({ job_id: "new" })]);
  world.poller.start("old");
  world.poller.start("new");
  await world.settle();
  assert.deepEqual(
    world.jobs.map((job) => job.job_id),
    ["new"],
  );
});
