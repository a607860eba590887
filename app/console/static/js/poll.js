// Poll a job: wait as long as Retry-After says, send the ETag, stop when the job has ended. Polls rarely while the page
// is hidden, and backs off after failures. Uses neither DOM nor network directly, so that tests can replace both.

export const BACKOFF_SECONDS = [2, 4, 8, 15, 30];
/** Often enough for the tab's title and for notifications. */
export const HIDDEN_SECONDS = 20;
const USUAL_SECONDS = 2;
const SHORTEST_SECONDS = 1;
const LONGEST_SECONDS = 60;

/** idle → asking ⇄ waiting → ended. Other states: reconnecting, signed-out, gone. */
export class Poller {
  #ask;
  #onJob;
  #onState;
  #setTimer;
  #clearTimer;
  #jobId = null;
  #etag = null;
  #timer = null;
  #isHidden = false;
  #failures = 0;
  #flight = 0;
  state = { name: "idle" };

  /**
   * `ask(jobId, etag)` resolves to `{data, etag, retryAfterSeconds}` (`data` is null if unchanged), or rejects with an
   * object that has a `status` and optionally `retryAfterSeconds`. `onJob` gets each new state of the job, and
   * `onState` each state of the poller.
   */
  constructor({ ask, onJob, onState = () => {}, setTimer, clearTimer }) {
    this.#ask = ask;
    this.#onJob = onJob;
    this.#onState = onState;
    this.#setTimer = setTimer ?? ((action, milliseconds) => setTimeout(action, milliseconds));
    this.#clearTimer = clearTimer ?? ((timer) => clearTimeout(timer));
  }

  /** Start polling a job, and stop polling the previous one. */
  start(jobId) {
    this.stop();
    this.#jobId = jobId;
    this.#askNow();
  }

  stop() {
    this.#cancel();
    this.#jobId = null;
    this.#etag = null;
    this.#failures = 0;
    this.#become("idle");
  }

  /** Tell the poller whether the page is visible. When it becomes visible, poll at once. */
  setHidden(isHidden) {
    const isBack = this.#isHidden && !isHidden;
    this.#isHidden = isHidden;
    if (isBack && ["waiting", "reconnecting"].includes(this.state.name)) {
      this.#cancel();
      this.#askNow();
    }
  }

  /** Poll now instead of later, because the network or the session is back. */
  resume() {
    // A job is also "gone" while another account is signed in. Its owner may be back.
    if (["waiting", "reconnecting", "signed-out", "gone"].includes(this.state.name)) {
      this.#cancel();
      this.#askNow();
    }
  }

  async #askNow() {
    const flight = ++this.#flight;
    if (this.#failures === 0) this.#become("asking");
    try {
      const response = await this.#ask(this.#jobId, this.#etag);
      if (flight === this.#flight) this.#take(response, flight);
    } catch (problem) {
      if (flight === this.#flight) this.#fail(problem);
    }
  }

  #take({ data, etag, retryAfterSeconds }, flight) {
    this.#failures = 0;
    if (data) {
      this.#etag = etag ?? null;
      this.#onJob(data);
      // The listener may have stopped polling, or started with another job.
      if (flight !== this.#flight) return;
      if (data.terminal) {
        this.#become("ended");
        return;
      }
    }
    this.#wait("waiting", retryAfterSeconds ?? USUAL_SECONDS);
  }

  #fail(problem) {
    if (problem.status === 401) this.#become("signed-out", { problem });
    else if (problem.status === 404 || problem.status === 501) this.#become("gone", { problem });
    else {
      const backoff = BACKOFF_SECONDS[Math.min(this.#failures, BACKOFF_SECONDS.length - 1)];
      this.#failures += 1;
      this.#wait("reconnecting", Math.max(backoff, problem.retryAfterSeconds ?? 0), { problem });
    }
  }

  #wait(name, seconds, more = {}) {
    const shortest = this.#isHidden ? HIDDEN_SECONDS : SHORTEST_SECONDS;
    const bounded = Math.min(Math.max(seconds, shortest), LONGEST_SECONDS);
    this.#timer = this.#setTimer(() => this.#askNow(), bounded * 1000);
    this.#become(name, { ...more, failures: this.#failures, seconds: bounded });
  }

  #cancel() {
    // Ignore the response to a request that is still running.
    this.#flight += 1;
    if (this.#timer !== null) this.#clearTimer(this.#timer);
    this.#timer = null;
  }

  #become(name, more = {}) {
    this.state = { name, ...more };
    this.#onState(this.state);
  }
}
