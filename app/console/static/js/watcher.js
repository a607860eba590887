// One job under observation: its state, how long its stages took, and how the watching itself is going.

import * as api from "./api.js";
import { serverNow } from "./clock.js";
import { Emitter } from "./emitter.js";
import { Poller } from "./poll.js";
import { merge, observe, told } from "./stages.js";
import { local } from "./storage.js";

const RECORDS_KEY = "stages";
const MOST_RECORDS = 40;

export class JobWatcher extends Emitter {
  job;
  record = null;
  polling = { name: "idle" };
  #poller;
  #leave = [];

  /** Begins at once, with what is already known of the job. */
  constructor(job) {
    super();
    this.#poller = new Poller({
      ask: api.job,
      onJob: (found) => this.#take(found),
      onState: (state) => {
        this.polling = state;
        this.emit();
      },
    });
    this.#take(job);
    if (!job.terminal) {
      this.#listen(document, "visibilitychange", () => this.#poller.setHidden(document.hidden));
      this.#listen(window, "online", () => this.#poller.resume());
      this.#poller.setHidden(document.hidden);
      this.#poller.start(job.job_id);
    }
  }

  /** The session or the network is back. */
  resume() {
    this.#poller.resume();
  }

  close() {
    this.#poller.stop();
    for (const leave of this.#leave) leave();
  }

  /** Something of the job is known from another answer. */
  amend(changes) {
    this.job = { ...this.job, ...changes };
    this.emit();
  }

  #listen(target, event, listener) {
    target.addEventListener(event, listener);
    this.#leave.push(() => target.removeEventListener(event, listener));
  }

  #take(job) {
    // The answer to an upload says less than a poll: what is known stays.
    this.job = { ...this.job, ...job };
    const records = local.get(RECORDS_KEY) ?? {};
    const known = merge(merge(this.record, records[job.job_id]), told(job));
    this.record = observe(known, job, serverNow());
    keep({ ...records, [job.job_id]: this.record });
    this.emit();
  }
}

function keep(records) {
  const newest = Object.entries(records).sort(([, one], [, other]) => (other.seenAt ?? 0) - (one.seenAt ?? 0));
  local.set(RECORDS_KEY, Object.fromEntries(newest.slice(0, MOST_RECORDS)));
}
