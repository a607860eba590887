// Announcements for screen readers.

import assert from "node:assert/strict";
import test from "node:test";

import { announce } from "../js/announcer.js";

test("a message stays for a second, and the newest ones follow", ({ mock }) => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const region = {};
  globalThis.document = { getElementById: () => region };
  const said = () => {
    const text = region.textContent;
    mock.timers.tick(1000);
    return text;
  };
  for (const text of ["saved", "1 image added", "1 image added", "2 images added"]) announce(text);
  assert.deepEqual([said(), said(), said(), said()], ["saved", "1 image added", "2 images added", "2 images added"]);
  // A text that is the same as the last one is still announced.
  for (const number of [2, 3, 4, 5, 6]) announce(`${number} images added`);
  assert.deepEqual([said(), said(), said(), said()], ["2 images added\u00a0", "4 images added", "5 images added", "6 images added"]);
});
