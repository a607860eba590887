// The state of the session. When it ends, the page stays as it is, because a script cannot choose a file again. The
// user signs in in a second tab, and this tab notices when the session is back.

import * as api from "./api.js";
import { Emitter } from "./emitter.js";
import { onMessage } from "./tabs.js";

/** A page that begins the sign-in, tells this tab when it is done, and can then be closed. */
export const SIGN_IN_AGAIN = "/console/signed-in";

// Timers are limited to 31 bits. A longer session is checked again when the page becomes visible.
const LONGEST_TIMER = 2 ** 31 - 1;

export class Session extends Emitter {
  /** `alive`, `ended`, or `other`: a different account is now signed in. */
  state = "alive";
  #userId;
  #timer = null;

  constructor({ userId, expiresAt }) {
    super();
    this.#userId = userId;
    this.expiresAt = expiresAt;
    api.onSessionEnd(() => this.#become("ended"));
    onMessage((event) => {
      if (event === "signed-in" || event === "signed-out") this.check();
    });
    const checkIfDoubtful = () => {
      if (this.state !== "alive" || this.#isOver()) this.check();
    };
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) checkIfDoubtful();
    });
    window.addEventListener("focus", checkIfDoubtful);
    this.#watchTheEnd();
  }

  get userId() {
    return this.#userId;
  }

  /** Ask the gateway who is signed in. */
  async check() {
    try {
      const { data } = await api.me();
      this.expiresAt = data.session_expires_at;
      this.#watchTheEnd();
      this.#become(data.user_id === this.#userId ? "alive" : "other");
    } catch {
      // The listener of `api` handles a 401. Other failures say nothing about the session.
    }
  }

  #become(state) {
    if (this.state === state) return;
    this.state = state;
    this.emit();
  }

  #isOver() {
    return Date.parse(this.expiresAt) <= Date.now();
  }

  #watchTheEnd() {
    clearTimeout(this.#timer);
    const left = Date.parse(this.expiresAt) - Date.now() + 1000;
    if (left > 0) this.#timer = setTimeout(() => this.check(), Math.min(left, LONGEST_TIMER));
  }
}
