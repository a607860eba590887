// The uploads that this browser has begun, so that a page can end those whose tab is gone.

import { local } from "./storage.js";

const KEY = "uploads";
const MOST_IDS = 20;

/** The uploads of this page that are over. */
const finished = new Set();

/** Return `{id, finish}` of a new upload. Call `finish` when the page no longer sends it. */
export function beginUpload() {
  // `crypto.randomUUID` exists on secure origins only.
  const bytes = Array.from(crypto.getRandomValues(new Uint8Array(16)));
  const id = bytes.map((byte) => byte.toString(16).padStart(2, "0")).join("");
  local.set(KEY, [id, ...stored()].slice(0, MOST_IDS));
  let finish;
  const isOver = new Promise((resolve) => {
    finish = resolve;
  });
  isOver.then(() => finished.add(id));
  // The browser releases the lock of a tab that is gone.
  navigator.locks?.request(lockOf(id), () => isOver).catch(() => {});
  return { id, finish };
}

/** Resolve to whether this browser began the upload, and no tab sends it any more. */
export async function isDead(id) {
  if (finished.has(id)) return true;
  if (!navigator.locks || !stored().includes(id)) return false;
  return navigator.locks.request(lockOf(id), { ifAvailable: true }, (lock) => lock !== null);
}

const lockOf = (id) => `visiona.upload.${id}`;

function stored() {
  const ids = local.get(KEY);
  return Array.isArray(ids) ? ids : [];
}
