// Sets of reference images in this browser's IndexedDB: those that the user has named, and the last selection, which
// survives a reload. Other accounts in the same browser don't see them.

import { sizeOf } from "./images.js";

/** The most bytes of all sets of a user. */
export const MOST_BYTES = 500 * 1024 * 1024;
/** The name of the error if a set would exceed MOST_BYTES. The browser's own limit is a QuotaExceededError. */
export const SETS_FULL = "SetsFullError";

const DATABASE = "visiona-images";
const PUTS_AT_ONCE = 200;

/** The sets of one user. Methods reject with the browser's error if IndexedDB fails. */
export class ImageSets {
  /** Image => its key in the database, which is the same in all sets. */
  #keys = new WeakMap();
  /** Image => `{id, count}` of the named set that it belongs to. */
  #origins = new WeakMap();
  #removed = new Set();

  constructor(userId) {
    this.userId = userId;
  }

  /** The id of the last selection. */
  get lastId() {
    return `${this.userId}/last`;
  }

  /** Resolve to the sets as `[{id, name, count, size}]`, the newest first. The name of the last selection is null. */
  async list() {
    const transaction = await begin("readonly");
    const sets = await result(transaction.objectStore("sets").index("userId").getAll(this.userId));
    return sets.sort((one, other) => other.savedAt - one.savedAt);
  }

  /** Save images under a name. Rejects with SETS_FULL if there is not enough space for them. */
  async save(name, images) {
    const id = `${this.userId}/${crypto.getRandomValues(new Uint32Array(2)).join("-")}`;
    await this.#write(id, name, images);
    for (const image of images) this.#origins.set(image, { id, count: images.length });
  }

  /** Store images in place of the last selection. Resolves to the time, which tells this version from others. */
  saveLast(images) {
    return this.#write(this.lastId, null, images);
  }

  /** Resolve to the images of a set, or null if it is gone. With `savedAt`, only this version of it counts. */
  async load(id, savedAt = null) {
    const transaction = await begin("readonly");
    const [set, rows] = await Promise.all([
      result(transaction.objectStore("sets").get(id)),
      result(transaction.objectStore("images").getAll(imagesOf(id))),
    ]);
    if (set?.userId !== this.userId || (savedAt !== null && set.savedAt !== savedAt)) return null;
    if (rows.length !== set.count) return null;
    return rows.map(({ key, file, path }) => {
      const image = { file, path };
      this.#keys.set(image, key);
      if (set.name !== null) this.#origins.set(image, { id, count: set.count });
      return image;
    });
  }

  /** Resolves to whether the set is still there. */
  async rename(id, name) {
    const transaction = await begin("readwrite");
    const store = transaction.objectStore("sets");
    const set = await result(store.get(id));
    if (set) store.put({ ...set, name });
    await finished(transaction);
    return Boolean(set);
  }

  async remove(id) {
    this.#removed.add(id);
    const transaction = await begin("readwrite");
    transaction.objectStore("sets").delete(id);
    transaction.objectStore("images").delete(imagesOf(id));
    transaction.commit();
    await finished(transaction);
  }

  /** Return the id of the named set that consists of exactly these images, or null. */
  setOf(images) {
    const first = this.#origins.get(images[0]);
    if (first?.count !== images.length || this.#removed.has(first.id)) return null;
    return images.every((image) => this.#origins.get(image)?.id === first.id) ? first.id : null;
  }

  async #write(id, name, images) {
    const size = sizeOf(images);
    const others = (await this.list()).filter((set) => set.name !== null && set.id !== id);
    if (others.reduce((sum, set) => sum + set.size, size) > MOST_BYTES) throw new DOMException("", SETS_FULL);
    const transaction = await begin("readwrite");
    const store = transaction.objectStore("images");
    const added = new Map(images.map((image) => [this.#keyOf(image), image]));
    // Images that the set has already are not written again.
    for (const key of await result(store.getAllKeys(imagesOf(id)))) {
      if (!added.delete(key[1])) store.delete(key);
    }
    let number = 0;
    for (const [key, { file, path }] of added) {
      const request = store.put({ id, key, file, path });
      number += 1;
      // Let the page work. A longer wait would end the transaction.
      if (number % PUTS_AT_ONCE === 0) await result(request);
    }
    const savedAt = Date.now();
    transaction.objectStore("sets").put({ id, userId: this.userId, name, count: images.length, size, savedAt });
    // Not `commit()`: with it, WebKit completes the transaction although a file could not be stored.
    await finished(transaction);
    return savedAt;
  }

  #keyOf(image) {
    if (!this.#keys.has(image)) this.#keys.set(image, crypto.getRandomValues(new Uint32Array(4)).join("-"));
    return this.#keys.get(image);
  }
}

let opened = null;

function database() {
  opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(DATABASE, 1);
    request.addEventListener("upgradeneeded", () => {
      request.result.createObjectStore("sets", { keyPath: "id" }).createIndex("userId", "userId");
      request.result.createObjectStore("images", { keyPath: ["id", "key"] });
    });
    request.addEventListener("success", () => resolve(request.result));
    request.addEventListener("error", () => reject(request.error));
  });
  // A later call may succeed.
  opened.catch(() => {
    opened = null;
  });
  return opened;
}

const begin = async (mode) => (await database()).transaction(["sets", "images"], mode);

const imagesOf = (id) => IDBKeyRange.bound([id], [id, []]);

function result(request) {
  return new Promise((resolve, reject) => {
    request.addEventListener("success", () => resolve(request.result));
    request.addEventListener("error", () => reject(request.error));
  });
}

function finished(transaction) {
  return new Promise((resolve, reject) => {
    transaction.addEventListener("complete", resolve);
    transaction.addEventListener("abort", () => reject(transaction.error));
  });
}
