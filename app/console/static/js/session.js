// Is there a session, and what if it has ended? The page stays as it is: a File that was chosen cannot be chosen again by
// a script, so the person signs in in a second tab, and this one notices when the session is back.

import * as api from "./api.js";
import { Emitter } from "./emitter.js";
import { onTold } from "./tabs.js";

/** Where signing in leads back to: a page that tells this one, and can be closed. */
export const SIGN_IN_AGAIN = "/auth/login?next=/console/signed-in";

// Timers are kept in 31 bits; a session of weeks is looked at again when the page is shown.
const LONGEST_TIMER = 2 ** 31 - 1;

export class Session extends Emitter {
  /** `alive`, `ended`, or `other`: somebody else has signed in in this browser. */
  state = "alive";
  #userId;
  #timer = null;

  constructor({ userId, expiresAt }) {
    super();
    this.#userId = userId;
    this.expiresAt = expiresAt;
    api.onSessionEnd(() => this.#become("ended"));
    onTold((event) => {
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

  /** Ask the gateway who is signed in now. */
  async check() {
    try {
      const { data } = await api.me();
      this.expiresAt = data.session_expires_at;
      this.#watchTheEnd();
      this.#become(data.user_id === this.#userId ? "alive" : "other");
    } catch {
      // A 401 has already told; anything else says nothing about the session.
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
