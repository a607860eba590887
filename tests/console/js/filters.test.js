// The filters of a list and the address that has them.

import assert from "node:assert/strict";
import { test } from "node:test";

import { addressOf, readFilters, splitAddress, tidy } from "../js/filters.js";

test("filters survive the way through an address", () => {
  for (const filters of [
    {},
    { q: "yolo" },
    { q: "模型 a/b?c=d&e#f+g%h" },
    { platform: "720", status: "active" },
    { q: "x", platform: "520", status: "cancelled" },
  ]) {
    const address = addressOf("history", filters);
    assert.deepEqual(readFilters(address), filters);
    assert.equal(splitAddress(address)[0], "history");
  }
  assert.equal(addressOf("models", {}), "#/models");
});

test("unknown and empty values of an address are ignored", () => {
  assert.deepEqual(readFilters("#/history?q=%20&platform=999&status=done&other=1"), {});
  assert.deepEqual(readFilters("#/history"), {});
  assert.deepEqual(readFilters(""), {});
  assert.deepEqual(readFilters("#/history?q=%"), { q: "%" });
});

test("a search is what the API accepts", () => {
  assert.equal(tidy("  a\tb\u0000c  "), "a b c");
  assert.equal(tidy("x".repeat(300)).length, 255);
});

test("the path of an address has no query", () => {
  assert.deepEqual(splitAddress("#/jobs/a%3Fb?c=d?e"), ["jobs/a%3Fb", "c=d?e"]);
  assert.deepEqual(splitAddress("#models"), ["models", ""]);
});
