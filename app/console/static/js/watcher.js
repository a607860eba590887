// Watches one job: its state, the times of its stages, and the state of the polling.

import * as api from "./api.js";
import { serverNow } from "./clock.js";
import { Emitter } from "./emitter.js";
import { onLanguage } from "./i18n.js";
import { notifyEnd } from "./notifications.js";
import { Poller } from "./poll.js";
import { fromGateway, merge, observe } from "./stages.js";
import { local } from "./storage.js";

const RECORDS_KEY = "stages";
const MOST_RECORDS = 40;

export class JobWatcher extends Emitter {
  job;
  record = null;
  polling = { name: "idle" };
  #poller;
  #leave = [];

  /** Start at once, with the known state of the job. */
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
    // The sentences of the advice are in the language of the response.
    this.#leave.push(onLanguage(() => this.#poller.start(job.job_id)));
    if (!job.terminal) {
      this.#listen(document, "visibilitychange", () => this.#poller.setHidden(document.hidden));
      this.#listen(window, "online", () => this.#poller.resume());
      this.#poller.setHidden(document.hidden);
      this.#poller.start(job.job_id);
    }
  }

  /** Poll now, because the session or the network is back. */
  resume() {
    this.#poller.resume();
  }

  close() {
    this.#poller.stop();
    for (const leave of this.#leave) leave();
  }

  /** Take over a state of the job from another response. */
  amend(changes) {
    this.job = { ...this.job, ...changes };
    this.emit();
  }

  #listen(target, event, listener) {
    target.addEventListener(event, listener);
    this.#leave.push(() => target.removeEventListener(event, listener));
  }

  #take(job) {
    const wasRunning = this.job && !this.job.terminal;
    // The response to an upload has fewer members than a poll, so merge them.
    this.job = { ...this.job, ...job };
    const records = local.get(RECORDS_KEY) ?? {};
    const known = merge(merge(this.record, records[job.job_id]), fromGateway(job));
    this.record = observe(known, job, serverNow());
    storeRecords({ ...records, [job.job_id]: this.record });
    if (wasRunning && this.job.terminal) notifyEnd(this.job);
    this.emit();
  }
}

function storeRecords(records) {
  const newest = Object.entries(records).sort(([, one], [, other]) => (other.seenAt ?? 0) - (one.seenAt ?? 0));
  local.set(RECORDS_KEY, Object.fromEntries(newest.slice(0, MOST_RECORDS)));
}
