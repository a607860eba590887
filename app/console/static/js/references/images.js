// The chosen reference images: order, folders, and the names under which they are sent. Pure functions.

// File names may have 255 bytes. So many characters have at most 240, and leave space for a number.
const MOST_NAME_BYTES = 240;
const MOST_NAME_CHARACTERS = 80;

// `numeric` sorts 2.jpg before 10.jpg.
const collator = new Intl.Collator("en", { numeric: true });
const encoder = new TextEncoder();

/** Return the folder in a path, or "". */
export const folderOf = (path) => path.slice(0, Math.max(0, path.lastIndexOf("/")));

/** Return the last segment of a path. */
export const nameOf = (path) => path.slice(path.lastIndexOf("/") + 1);

/** Return the total size in bytes. */
export const sizeOf = (images) => images.reduce((sum, { file }) => sum + file.size, 0);

/** Return the images sorted by folder and name. */
export function inOrder(images) {
  const keyed = images.map((image) => ({ image, folder: folderOf(image.path), name: nameOf(image.path) }));
  keyed.sort((one, other) => collator.compare(one.folder, other.folder) || collator.compare(one.name, other.name));
  return keyed.map(({ image }) => image);
}

/** Return `[{folder, images, size}]`, in the order of the images. */
export function groupByFolder(images) {
  const groups = new Map();
  for (const image of images) {
    const folder = folderOf(image.path);
    if (!groups.has(folder)) groups.set(folder, []);
    groups.get(folder).push(image);
  }
  return [...groups].map(([folder, members]) => ({ folder, images: members, size: sizeOf(members) }));
}

/**
 * Return the file names to send, which are all different, even on systems that ignore case. The converter gets no
 * folders, so a name begins with its folders, without those that all images share: `left/1.jpg` becomes `left_1.jpg`.
 * Names that are still the same get a number: `1-2.jpg`.
 */
export function uploadNames(images) {
  const shared = sharedFolders(images);
  const used = new Set();
  const numbers = new Map();
  return images.map(({ path }) => {
    const name = cleaned(path.split("/").slice(shared).join("_"));
    let unique = name;
    for (let number = numbers.get(name) ?? 2; used.has(unique.toLowerCase()); number += 1) {
      unique = name.replace(/(?=\.[^.]*$)|$/, `-${number}`);
      numbers.set(name, number + 1);
    }
    used.add(unique.toLowerCase());
    return unique;
  });
}

function sharedFolders(images) {
  const [first, ...others] = new Set(images.map(({ path }) => folderOf(path)));
  if (first === undefined || first === "") return 0;
  let shared = first.split("/");
  for (const folder of others) {
    const parts = folder.split("/");
    const end = shared.findIndex((part, index) => part !== parts[index]);
    if (end !== -1) shared = shared.slice(0, end);
  }
  return shared.length;
}

/** Replace what the gateway would remove, because two names could become the same by that. */
function cleaned(name) {
  const safe = name
    .normalize("NFC")
    .replace(/[\\:*?"<>|;%\p{C}\p{Zl}\p{Zp}]/gu, "_")
    .replace(/\s+/g, " ")
    .replace(/^[ .]+|[ .]+$/g, "_");
  return encoder.encode(safe).length > MOST_NAME_BYTES ? safe.slice(-MOST_NAME_CHARACTERS) : safe;
}
