// Check chosen files before they are sent. If a file on disk was edited, moved or deleted since it was chosen, the
// browser can no longer read it, and its upload would fail like a broken connection.

const AT_ONCE = 32;

/** Resolve to the files that can no longer be read. Reads the first byte of each. */
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
    // Usually NotReadableError or NotFoundError. With any error, an upload would fail too.
    return false;
  }
}
