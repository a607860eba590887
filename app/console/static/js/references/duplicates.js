// Images with the same content. Few files are read: only those of the same size, and whole only if they begin alike.

const BEGINNING_BYTES = 64 * 1024;
const AT_ONCE = 8;

const digests = new WeakMap();

/** Resolve to a map from each duplicate to the earlier image with the same content. Nothing is read over http. */
export async function findDuplicates(images) {
  const duplicates = new Map();
  // Only pages from https and localhost have it.
  if (!globalThis.crypto?.subtle) return duplicates;
  let alike = split([images], ({ file }) => file.size);
  await inParallel(alike.flat(), (image) => digest(image.file, BEGINNING_BYTES));
  alike = split(alike, ({ file }) => digests.get(file).beginning);
  await inParallel(alike.flat(), (image) => digest(image.file, Infinity));
  for (const [first, ...others] of split(alike, ({ file }) => digests.get(file).whole)) {
    for (const other of others) duplicates.set(other, first);
  }
  return duplicates;
}

/** Split each group by a key, and return the groups of at least two. */
function split(groups, keyOf) {
  return groups.flatMap((group) => {
    const parts = new Map();
    for (const image of group) {
      const key = keyOf(image);
      if (!parts.has(key)) parts.set(key, []);
      parts.get(key).push(image);
    }
    return [...parts.values()].filter((part) => part.length > 1);
  });
}

async function digest(file, most) {
  if (!digests.has(file)) digests.set(file, {});
  const known = digests.get(file);
  const name = most < file.size ? "beginning" : "whole";
  if (known[name]) return;
  try {
    const hashed = await crypto.subtle.digest("SHA-256", await file.slice(0, most).arrayBuffer());
    known[name] = [...new Uint8Array(hashed)].join();
  } catch {
    // A file that can't be read is like no other. The check before the upload reports it.
    known[name] = Symbol(name);
  }
  if (name === "whole") known.beginning ??= known.whole;
}

async function inParallel(items, work) {
  const waiting = items.values();
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      for (const item of waiting) await work(item);
    }),
  );
}
