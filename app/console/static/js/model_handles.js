// Where chosen models are on the disk, so that the page can open them again after a reload. Only some browsers give
// pages such handles, and they ask for permission again. A handle has no content: IndexedDB holds only references.

const DATABASE = "visiona-models";
const STORE = "handles";
const MOST_HANDLES = 50;
const PICKER = { types: [{ accept: { "application/octet-stream": [".onnx", ".tflite"] } }] };

/** Promises of the handles of the last choice or drop. */
let offered = [];

export const hasPicker = () => "showOpenFilePicker" in globalThis;

/** Let the user choose a model. Resolve to the file, or to null if the user chooses none. */
export async function pickModel() {
  try {
    const [handle] = await globalThis.showOpenFilePicker(PICKER);
    offered = [Promise.resolve(handle)];
    return await handle.getFile();
  } catch (error) {
    if (error.name === "AbortError") return null;
    throw error;
  }
}

/** Take the handles of dropped files. Call this in the event itself: the browser empties the transfer after it. */
export function takeHandles(transfer) {
  const items = [...transfer.items].filter((item) => item.kind === "file");
  offered = items.map((item) => Promise.resolve(item.getAsFileSystemHandle?.()).catch(() => null));
}

/** The handles of one user's models by file name. In browsers without handles, nothing is ever found. */
export class ModelHandles {
  #userId;

  constructor(userId) {
    this.#userId = userId;
  }

  /**
   * Store where the file is, if the browser gave its handle, or that of its folder, with the last choice or drop.
   * `path` begins with the name of what was dropped.
   */
  async remember(file, path = file.name) {
    try {
      for (const handle of await Promise.all(offered.map(async (one) => fileAt(await one, path.split("/"))))) {
        if (handle && isSame(await handle.getFile(), file)) await this.#store(handle);
      }
    } catch {
      // IndexedDB doesn't work, or the file is already gone. The user will have to choose the model again.
    }
  }

  async #store(handle) {
    const database = await open();
    const store = database.transaction(STORE, "readwrite").objectStore(STORE);
    store.put({ userId: this.#userId, name: handle.name, handle, savedAt: Date.now() });
    const all = await result(store.getAll());
    all.sort((one, other) => other.savedAt - one.savedAt);
    for (const old of all.slice(MOST_HANDLES)) store.delete([old.userId, old.name]);
  }

  /** Resolve to the handle of the model that was last chosen under this name, or to null. */
  async find(name) {
    const database = await open();
    const found = await result(database.transaction(STORE).objectStore(STORE).get([this.#userId, name]));
    return found?.handle ?? null;
  }
}

/** Resolve to the file if the page may read it. If `ask`, ask the user, which is possible only after a click. */
export async function openHandle(handle, { ask = false } = {}) {
  const wanted = { mode: "read" };
  const state = ask ? await handle.requestPermission(wanted) : await handle.queryPermission(wanted);
  return state === "granted" ? handle.getFile() : null;
}

/** Resolve to the handle of the file with this path in what was dropped, or to null. */
async function fileAt(handle, [name, ...rest]) {
  if (!handle || handle.name !== name) return null;
  if (handle.kind === "file") return handle;
  const child = rest.length > 1 ? handle.getDirectoryHandle(rest[0]) : handle.getFileHandle(rest[0]);
  return fileAt(await child.catch(() => null), rest);
}

const isSame = (one, other) =>
  one.name === other.name && one.size === other.size && one.lastModified === other.lastModified;

function open() {
  const request = indexedDB.open(DATABASE, 1);
  request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: ["userId", "name"] });
  return result(request);
}

function result(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
