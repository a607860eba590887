// Files between being chosen and being sent. A File is a promise of the browser's: once the file on disk is edited, moved
// or deleted, reading it fails, and an upload of it breaks off like a connection that was lost.

const AT_ONCE = 32;

/** The files that can no longer be read as they were chosen, by a look at the first byte of each. */
export async function findUnreadable(files) {
  const unreadable = [];
  for (let from = 0; from < files.length; from += AT_ONCE) {
    const some = files.slice(from, from + AT_ONCE);
    const areReadable = await Promise.all(some.map(isReadable));
    unreadable.push(...some.filter((_, index) => !areReadable[index]));
  }
  return unreadable;
}

async function isReadable(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
    return true;
  } catch {
    // NotReadableError or NotFoundError; whatever else it may be, an upload would fail of it, too.
    return false;
  }
}
