// What is done with chosen reference images before they are shown.

import assert from "node:assert/strict";
// Node 18 has neither as a global one.
import { File } from "node:buffer";
import { webcrypto } from "node:crypto";
import { test } from "node:test";

import { findDuplicates } from "../js/references/duplicates.js";
import { groupByFolder, inOrder, uploadNames } from "../js/references/images.js";
import { sortFiles } from "../js/references/kinds.js";
import { SelectionMemory } from "../js/references/memory.js";
import { walk } from "../js/references/walk.js";

globalThis.crypto ??= webcrypto;

const image = (path, content = path) => ({ path, file: new File([content], path.split("/").at(-1)) });
const named = (...paths) => uploadNames(paths.map((path) => image(path)));

/** An entry of a dropped folder, which returns its children in portions. */
function folder(fullPath, children, portion = 100) {
  const createReader = () => {
    let from = 0;
    return {
      readEntries(resolve) {
        resolve(children.slice(from, from + portion));
        from += portion;
      },
    };
  };
  return { isDirectory: true, fullPath, createReader };
}

const entry = (fullPath, file = new File(["x"], "x")) => ({
  isDirectory: false,
  fullPath,
  file: (resolve, reject) => (file ? resolve(file) : reject(new Error("NotReadableError"))),
});

test("a dropped folder is walked to the end, also if the browser returns it in portions", async () => {
  const many = Array.from({ length: 250 }, (_, n) => entry(`/set/left/${n}.png`));
  const { files, unreadable } = await walk([
    folder("/set", [folder("/set/left", many), folder("/set/empty", []), entry("/set/locked.png", null)]),
    new File(["y"], "alone.png"),
  ]);
  assert.equal(files.length, 251);
  const paths = files.map(({ path }) => path);
  assert.ok(paths.includes("set/left/249.png") && paths.includes("alone.png"));
  assert.deepEqual(unreadable, ["set/locked.png"]);
});

test("files are sorted into models, images and ignored ones with a reason", () => {
  const paths = ["a/net.ONNX", "a/1.jpg", "a/.DS_Store", "a/.git/2.jpg", "Thumbs.db", "net.onnx_data", "net.onnx.data", "x.txt"];
  const photo = { path: "a/photo.heic", file: new File(["x"], "photo.heic", { type: "image/heic" }) };
  const { models, images, ignored } = sortFiles([...paths.map((path) => image(path)), photo]);
  assert.deepEqual(models.map(({ path }) => path), ["a/net.ONNX"]);
  assert.deepEqual(images.map(({ path }) => path), ["a/1.jpg", "a/photo.heic"]);
  const reasons = ignored.map(({ reason }) => reason);
  assert.deepEqual(reasons, ["hidden", "hidden", "hidden", "external", "external", "other"]);
});

test("images are ordered by folder and number, and grouped by folder", () => {
  const sorted = inOrder(["b/1.jpg", "a/10.jpg", "a/2.jpg", "top.jpg"].map((path) => image(path)));
  assert.deepEqual(sorted.map(({ path }) => path), ["top.jpg", "a/2.jpg", "a/10.jpg", "b/1.jpg"]);
  const groups = groupByFolder(sorted).map(({ folder: name, images, size }) => [name, images.length, size]);
  assert.deepEqual(groups, [["", 1, 7], ["a", 2, 15], ["b", 1, 7]]);
});

test("the names that are sent begin with the folders that tell the images apart", () => {
  assert.deepEqual(named("1.jpg", "2.jpg"), ["1.jpg", "2.jpg"]);
  assert.deepEqual(named("set/1.jpg", "set/2.jpg"), ["1.jpg", "2.jpg"]);
  assert.deepEqual(named("set/left/1.jpg", "set/right/1.jpg"), ["left_1.jpg", "right_1.jpg"]);
  assert.deepEqual(named("set/1.jpg", "set/deep/er/1.jpg"), ["1.jpg", "deep_er_1.jpg"]);
  assert.deepEqual(named("1.jpg", "set/1.jpg"), ["1.jpg", "set_1.jpg"]);
});

test("no two names that are sent are the same, also after the gateway has cleaned them", () => {
  const long = "長".repeat(100);
  const names = named("1.jpg", "1.JPG", "1.jpg", "a/b.jpg", "a_b.jpg", "x?.jpg", "x*.jpg", `${long}1.jpg`, `${long}2.jpg`, "none", "none");
  assert.equal(new Set(names.map((name) => name.toLowerCase())).size, names.length);
  assert.deepEqual(names.slice(0, 3), ["1.jpg", "1-2.JPG", "1-3.jpg"]);
  assert.ok(names.every((name) => Buffer.byteLength(name) <= 255 && !/[\\/:*?"<>|;%]/.test(name)));
});

test("duplicates are found by content, and a name and a size are not enough", async () => {
  const images = [image("a/1.png", "same"), image("b/1.png", "else"), image("c/9.png", "same"), image("d.png", "longer")];
  assert.deepEqual([...(await findDuplicates(images))], [[images[2], images[0]]]);
});

test("of images with the same size, the whole is read only if they begin alike", async () => {
  const read = [];
  const big = (path, first, last) => {
    const bytes = new Uint8Array(200_000);
    [bytes[0], bytes[199_999]] = [first, last];
    const file = new File([bytes], path);
    file.slice = (from, to) => {
      read.push(Number.isFinite(to) ? path : `${path} whole`);
      return new Blob([bytes.slice(from, Number.isFinite(to) ? to : undefined)]);
    };
    return { path, file };
  };
  const images = [big("1", 1, 1), big("2", 2, 1), big("3", 1, 2), big("4", 1, 1)];
  assert.deepEqual([...(await findDuplicates(images))], [[images[3], images[0]]]);
  assert.deepEqual(read.sort(), ["1", "1 whole", "2", "3", "3 whole", "4", "4 whole"]);
});

test("an image that can't be read is like no other", async () => {
  const images = [image("1", "same"), image("2", "same")];
  images[1].file.slice = () => ({ arrayBuffer: () => Promise.reject(new Error("NotReadableError")) });
  assert.equal((await findDuplicates(images)).size, 0);
});

test("a tab without images leaves the selection that another tab has stored", async () => {
  const calls = [];
  const sets = {
    lastId: "last",
    setOf: () => null,
    saveLast: async () => calls.push("save"),
    remove: async (id) => calls.push(`remove ${id}`),
  };
  const form = { references: [] };
  const memory = new SelectionMemory(form, sets);
  for (const images of [[], [image("1.jpg")], []]) {
    form.references = images;
    memory.changed();
    await new Promise(setImmediate);
  }
  assert.deepEqual(calls, ["save", "remove last"]);
});
