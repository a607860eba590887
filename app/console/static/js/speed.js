// Speed and remaining time of an upload, averaged over the last seconds to keep the numbers steady and current.

const WINDOW_MILLISECONDS = 5000;
const SETTLED_MILLISECONDS = 700;

export class SpeedMeter {
  #samples = [];

  /** Record that `loaded` bytes were sent at the time `now` (milliseconds). */
  add(loaded, now) {
    this.#samples.push({ loaded, now });
    while (this.#samples.length > 2 && now - this.#samples[0].now > WINDOW_MILLISECONDS) this.#samples.shift();
  }

  /** Bytes per second; null until there is enough data. */
  get bytesPerSecond() {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    if (!first || last.now - first.now < SETTLED_MILLISECONDS) return null;
    return ((last.loaded - first.loaded) * 1000) / (last.now - first.now);
  }

  /** Milliseconds until `total` bytes are sent; null if unknown. */
  millisecondsLeft(total) {
    const rate = this.bytesPerSecond;
    const last = this.#samples.at(-1);
    return rate ? (Math.max(0, total - last.loaded) * 1000) / rate : null;
  }
}
