// What a tab in the background shows: its title and icon, and notifications; in a browser of fakes.

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { canNotify, notifyEnd, setNotifying } from "../js/notifications.js";
import { showTabState } from "../js/tab_state.js";

let world;

beforeEach(() => {
  const stored = new Map();
  const attributes = {};
  const link = {
    getAttribute: (name) => attributes[name],
    setAttribute: (name, value) => (attributes[name] = value),
  };
  world = { shown: [], asked: 0, answer: "granted", focused: 0, icon: () => attributes.href };
  globalThis.sessionStorage = {
    getItem: (key) => stored.get(key) ?? null,
    setItem: (key, value) => stored.set(key, value),
  };
  globalThis.document = { hidden: true, hasFocus: () => !document.hidden, querySelector: () => link, body: { dataset: { assets: "" } } };
  globalThis.window = { focus: () => (world.focused += 1) };
  globalThis.location = { hash: "" };
  globalThis.isSecureContext = true;
  globalThis.Notification = class extends EventTarget {
    static permission = "default";

    static async requestPermission() {
      world.asked += 1;
      Notification.permission = world.answer;
      return world.answer;
    }

    constructor(title, options) {
      super();
      if (Notification.permission === "granted") world.shown.push(Object.assign(this, { title, options, isOpen: true }));
    }

    close() {
      this.isOpen = false;
    }
  };
});

const job = (changes) => ({ job_id: "j/1", status: "running", terminal: false, progress: 58, filename: "net.onnx", ...changes });
const ended = job({ status: "completed", terminal: true });
const watched = (changes) => ({ phase: "job", watcher: { job: job(changes) } });

test("a notification is shown to users who asked for it and look elsewhere, and leads to the job", async () => {
  notifyEnd(ended);
  assert.deepEqual([world.asked, world.shown], [0, []]);
  await setNotifying(true);
  notifyEnd(ended);
  const [notification] = world.shown;
  assert.equal(notification.options.tag, "j/1");
  notification.dispatchEvent(new Event("click"));
  assert.deepEqual([world.focused, location.hash, notification.isOpen], [1, "#/jobs/j%2F1", false]);
  document.hidden = false;
  notifyEnd(ended);
  document.hidden = true;
  await setNotifying(false);
  notifyEnd(ended);
  assert.deepEqual([world.asked, world.shown.length], [1, 1]);
});

test("without the permission there are no notifications", async () => {
  world.answer = "denied";
  assert.equal(await setNotifying(true), "denied");
  notifyEnd(ended);
  assert.deepEqual(world.shown, []);
});

test("the constructor of phones, which throws, does no harm", async () => {
  await setNotifying(true);
  globalThis.Notification = class {
    static permission = "granted";

    constructor() {
      throw new TypeError("Illegal constructor");
    }
  };
  assert.equal(canNotify(), true);
  notifyEnd(ended);
  assert.equal(canNotify(), false);
});

test("the icon shows the progress in the background, and the end until the user looks", () => {
  const states = [
    [{ phase: "uploading", upload: { loaded: 1, total: 4 } }, /^↑ 25 %/, "/tab/25.svg"],
    [{ phase: "accepting" }, /^↑ 100 %/, "/tab/75.svg"],
    [{ phase: "waiting" }, /^upload.lost/, "/tab/0.svg"],
    [{ phase: "recovering" }, /^↑ 0 %/, "/tab/0.svg"],
    [watched(), /^58 % net.onnx/, "/tab/50.svg"],
    [watched(ended), /^✓ net.onnx/, "/tab/done.svg"],
  ];
  for (const [state, title, icon] of states) {
    showTabState([state]);
    assert.match(document.title, title);
    assert.equal(world.icon(), icon);
  }
  document.hidden = false;
  showTabState([watched(ended)]);
  assert.equal(world.icon(), "/logo.svg");
  document.hidden = true;
  showTabState([watched(ended)]);
  assert.equal(world.icon(), "/logo.svg");
  showTabState([{ phase: "form", problem: {} }]);
  assert.equal(world.icon(), "/tab/failed.svg");
});

test("an upload or job in progress comes before a job that is open in the history", () => {
  const { job: old } = watched({ ...ended, job_id: "j2", filename: "old.onnx" }).watcher;
  showTabState([watched(), { phase: "job", watcher: { job: old } }]);
  assert.match(document.title, /^58 % net.onnx/);
  showTabState([{ phase: "form" }, { phase: "job", watcher: { job: old } }], "History");
  assert.match(document.title, /^✓ old.onnx – History/);
});
