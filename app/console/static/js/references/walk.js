// Files that were chosen or dropped, with their paths. Dropped folders are walked to the end.

/** Return `[{file, path}]` for the files of an input. If a folder was chosen, the paths begin with its name. */
export function chosenFiles(files) {
  return [...files].map((file) => ({ file, path: file.webkitRelativePath || file.name }));
}

/** Return what was dropped, for `walk`. Call this in the event itself: the browser empties the transfer after it. */
export function droppedEntries(transfer) {
  return [...transfer.items]
    .filter((item) => item.kind === "file")
    .map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
}

/** Resolve to `{files, unreadable}`: the files in the entries as `[{file, path}]`, and the paths that can't be read. */
export async function walk(entries) {
  const found = { files: [], unreadable: [] };
  for (const entry of entries) await walkEntry(entry, found);
  return found;
}

async function walkEntry(entry, found) {
  if (!("isDirectory" in entry)) {
    found.files.push({ file: entry, path: entry.name });
    return;
  }
  const path = entry.fullPath.replace(/^\//, "");
  try {
    if (entry.isDirectory) {
      for (const child of await childrenOf(entry)) await walkEntry(child, found);
    } else {
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
      found.files.push({ file, path });
    }
  } catch {
    found.unreadable.push(path);
  }
}

/** `readEntries` returns a folder in portions, of 100 entries in Chromium. The last one is empty. */
async function childrenOf(folder) {
  const reader = folder.createReader();
  const children = [];
  for (;;) {
    const portion = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (portion.length === 0) return children;
    children.push(...portion);
  }
}
