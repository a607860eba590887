// An object with listeners. Views subscribe while they are shown.

export class Emitter {
  #listeners = new Set();

  /** Return a function that ends the subscription. */
  subscribe(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  emit() {
    for (const listener of [...this.#listeners]) listener(this);
  }
}
