// Something that others watch. Views subscribe when they are shown and leave when they are not.

export class Emitter {
  #listeners = new Set();

  /** Returns what ends the subscription. */
  subscribe(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  emit() {
    for (const listener of [...this.#listeners]) listener(this);
  }
}
