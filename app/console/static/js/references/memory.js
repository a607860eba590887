// The selection of reference images survives a reload of the tab: as the named set that it is, or as the last selection.
// If neither can be had, the form says how many images are missing.

import { inOrder } from "./images.js";
import { tab } from "../storage.js";

const KEY = "references";

export class SelectionMemory {
  #form;
  #sets;
  #storing = Promise.resolve();
  #isWaiting = false;
  /** Whether the last selection is this tab's. Another tab of the user may have stored it. */
  #isOurs = false;

  constructor(form, sets) {
    this.#form = form;
    this.#sets = sets;
  }

  /** Restore the selection, call `onRestored` if there was one, and store every change from now on. */
  async start(onRestored) {
    const stored = tab.get(KEY);
    this.#form.onReferences = () => this.changed();
    if (!stored?.count || stored.userId !== this.#sets.userId) return;
    const images = stored.id ? await this.#sets.load(stored.id, stored.savedAt).catch(() => null) : null;
    if (this.#form.references.length > 0) return;
    this.#isOurs = Boolean(images) && stored.id === this.#sets.lastId;
    if (images) this.#form.references = inOrder(images);
    else this.#form.lostReferences = stored.count;
    onRestored();
  }

  /** Store the selection. Until that is done, a reload says how many images are missing. */
  changed() {
    this.#note({});
    if (this.#isWaiting) return;
    this.#isWaiting = true;
    this.#storing = this.#storing.then(() => this.#store());
  }

  /** Forget the selection, because the user signs out. Named sets stay. */
  async forget() {
    tab.remove(KEY);
    await this.#sets.remove(this.#sets.lastId).catch(() => {});
  }

  async #store() {
    this.#isWaiting = false;
    const images = this.#form.references;
    const named = this.#sets.setOf(images);
    try {
      if (named || images.length === 0) {
        if (this.#isOurs) await this.#sets.remove(this.#sets.lastId);
        this.#isOurs = false;
        if (images === this.#form.references) this.#note({ id: named });
      } else {
        const savedAt = await this.#sets.saveLast(images);
        this.#isOurs = true;
        if (images === this.#form.references) this.#note({ id: this.#sets.lastId, savedAt });
      }
    } catch {
      // Without space or IndexedDB, the images have to be chosen again after a reload, and the form says so then.
      this.#sets.remove(this.#sets.lastId).catch(() => {});
    }
  }

  #note(where) {
    tab.set(KEY, { userId: this.#sets.userId, count: this.#form.references.length, ...where });
  }
}
