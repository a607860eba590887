// The history of a sign-in from the welcome page, in a browser of fakes.

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { finishSignIn, prepareSignIn } from "../js/sign_in.js";

let world;

beforeEach(() => {
  const stored = new Map();
  const listeners = {};
  const link = { addEventListener: (name, action) => (listeners[name] = action) };
  world = { link, listeners, went: [], replaced: null, isLeaving: true };
  globalThis.sessionStorage = {
    getItem: (key) => stored.get(key) ?? null,
    setItem: (key, value) => stored.set(key, value),
    removeItem: (key) => stored.delete(key),
  };
  globalThis.document = { querySelectorAll: () => [link] };
  globalThis.window = {
    addEventListener: (name, action) => {
      listeners[name] = action;
      if (name === "beforeunload" && world.isLeaving) action();
    },
  };
  globalThis.location = { pathname: "/", hash: "#/models", replace: (url) => (world.replaced = url) };
  globalThis.history = {
    length: 2,
    state: null,
    go: (steps) => world.went.push(steps),
    replaceState: (state) => (history.state = state),
    pushState: (state) => {
      history.length += 1;
      history.state = state;
    },
  };
});

function click(keys = {}) {
  let isDefault = true;
  world.listeners.click({ ...keys, currentTarget: world.link, preventDefault: () => (isDefault = false) });
  return isDefault;
}

test("the links carry the view, and follow the address", () => {
  prepareSignIn();
  assert.equal(world.link.href, "/auth/login?next=%2F%23%2Fmodels");
  location.hash = "#/jobs/j-1";
  world.listeners.hashchange();
  assert.equal(world.link.href, "/auth/login?next=%2F%23%2Fjobs%2Fj-1");
});

test("after a sign-in, the page goes back to where it began, and on from there", async () => {
  prepareSignIn();
  assert.equal(click(), false);
  assert.equal(world.replaced, world.link.href);
  const start = 2;
  // Member Center's second page, and the console.
  history.length += 2;
  history.state = null;
  finishSignIn();
  assert.deepEqual(world.went, [start - (history.length - 1)]);
  history.state = { isSignInStart: true };
  await finishSignIn();
  assert.equal(history.state, null);
  assert.equal(world.went.length, 1);
  await finishSignIn();
  assert.equal(world.went.length, 1);
});

test("a page that did not begin a sign-in goes nowhere", async () => {
  await finishSignIn();
  prepareSignIn();
  click();
  // The user came back without signing in, and signed in elsewhere.
  prepareSignIn();
  await finishSignIn();
  assert.deepEqual(world.went, []);
});

test("a link that is followed after a sign-in was left unfinished is not replaced", async () => {
  prepareSignIn();
  click();
  history.state = null;
  location.hash = "#/jobs/j-1";
  await finishSignIn();
  assert.deepEqual(world.went, []);
});

test("a browser that counts its entries in another way stays where it is", async () => {
  prepareSignIn();
  click();
  history.state = null;
  history.length = 1;
  await finishSignIn();
  assert.deepEqual(world.went, []);
});

test("links are ordinary links in a long history and for a new tab", () => {
  prepareSignIn();
  assert.equal(click({ ctrlKey: true }), true);
  history.length = 41;
  assert.equal(click(), true);
  assert.equal(world.replaced, null);
});
