// An upload from its check to its job. After a broken connection it ends what the gateway still has of the upload, and
// sends it again. Doesn't know the form or the views.

import * as api from "./api.js";
import { serverNow } from "./clock.js";
import { countDown } from "./countdown.js";
import { Emitter } from "./emitter.js";
import { findUnreadable } from "./files.js";
import { beginUpload, isDead } from "./own_uploads.js";
import { ABORTED, FILE_CHANGED, GATEWAY_UNAVAILABLE, NETWORK, Problem, UNREACHABLE } from "./problems.js";
import { startUpload, uploadBody } from "./upload.js";

/** The pauses before the next tries. */
export const PAUSES_SECONDS = [5, 10, 20, 40, 60];
// The gateway has the whole upload, but not the converter's response.
const RESPONSE_SECONDS = 2;
const UNNOTICED_SECONDS = 5;
// The time of a job is by the converter's clock.
const CLOCKS_DIFFER_MILLISECONDS = 5000;
const LOST = new Set([NETWORK, UNREACHABLE, GATEWAY_UNAVAILABLE]);

const browser = { api, countDown, beginUpload, isDead, startUpload, isOnline: () => navigator.onLine };

export class ReliableUpload extends Emitter {
  /**
   * checking, uploading, accepting; waiting (for the network), recovering (ending an earlier upload), unnoticed (the
   * gateway hasn't noticed yet that the earlier upload is over)
   */
  phase = "checking";
  loaded = 0;
  bytesPerSecond = null;
  millisecondsLeft = null;
  /** When the progress last changed, by `performance.now()`. */
  movedAt = 0;
  /** During a pause: the seconds left, and whether the browser is offline. */
  secondsLeft = 0;
  isOffline = false;
  sessionExpiresAt = null;
  #wish;
  #body;
  #stopping;
  #world;
  /** The last try: `{id, startedAt}`. */
  #attempt = null;
  #transfer = null;
  #pause = null;
  #stop;
  #stopped;
  #isStopped = false;

  /**
   * `wish` has the values of the form: `{model, references, platform, size, modelId, version}`. `stopping` is the ID of
   * another upload of this user that is to be ended first. Tests replace the `world`.
   */
  constructor(wish, stopping = null, world = browser) {
    super();
    this.#body = uploadBody(wish);
    this.#wish = { ...wish, filename: wish.model.name, parts: [...this.#body.keys()].length };
    this.#stopping = stopping;
    this.#world = world;
    this.filename = wish.model.name;
    this.platform = wish.platform;
    this.total = wish.size;
    this.#stopped = new Promise((_, reject) => {
      this.#stop = reject;
    });
  }

  /** Check that the upload will be accepted, and send it. Resolves to the job or rejects with a Problem. */
  run() {
    return Promise.race([this.#deliver(), this.#stopped]);
  }

  /** Resolve if the gateway would accept the upload now. Rejects with a Problem. */
  check() {
    return this.#world.api.checkUpload(this.#wish);
  }

  /** Cancel the upload or the check before it. Resolves to whether it was too late, so that a job may have started. */
  async abort() {
    this.#isStopped = true;
    this.#stop(new Problem({ code: ABORTED }));
    this.#transfer?.abort();
    this.#pause?.end();
    if (!this.#attempt || !this.#world.isOnline()) return false;
    try {
      await this.#world.api.endUpload(this.#attempt.id);
    } catch ({ code }) {
      // After other failures, the next upload ends this one.
      return code === "upload_complete";
    }
    return false;
  }

  /** End a pause. */
  hurry() {
    this.#pause?.end();
  }

  async #deliver() {
    await this.#ask(this.#requireReadable());
    for (const seconds of [...PAUSES_SECONDS, null]) {
      try {
        const job = this.#attempt && (await this.#recover());
        return job || (await this.#start());
      } catch (problem) {
        if (seconds === null || !this.#isLost(problem)) throw problem;
        await this.#ask(this.#requireReadable());
        await this.#wait("waiting", Math.max(seconds, problem.retryAfterSeconds ?? 0));
      }
    }
  }

  /** Reject if a file has changed since it was chosen. */
  async #requireReadable() {
    const { model, references } = this.#wish;
    const gone = new Set(await findUnreadable([model, ...references.map(({ file }) => file)]));
    if (gone.size === 0) return;
    const [first] = gone;
    throw new Problem({ code: FILE_CHANGED, name: first.name, isModel: first === model, gone, blame: "user" });
  }

  /** Check and send. Before that, end uploads that no tab sends any more, and the one that the user wants to stop. */
  async #start() {
    for (;;) {
      let obstacle;
      try {
        const { data } = await this.#ask(this.#world.api.checkUpload(this.#wish));
        this.sessionExpiresAt = data.session_expires_at;
        return await this.#send();
      } catch (problem) {
        obstacle = problem.document?.upload?.upload_id;
        if (!obstacle || obstacle === this.#attempt?.id || !(await this.#ask(this.#mayEnd(obstacle)))) throw problem;
      }
      // If it is complete, the check will soon find its job.
      if ((await this.#end(obstacle)) !== "ended") await this.#wait("recovering", RESPONSE_SECONDS);
    }
  }

  async #mayEnd(id) {
    return id === this.#stopping || this.#world.isDead(id);
  }

  async #send() {
    const { id, finish } = this.#world.beginUpload();
    this.#attempt = { id, startedAt: serverNow() };
    Object.assign(this, { loaded: 0, bytesPerSecond: null, millisecondsLeft: null, movedAt: performance.now() });
    this.#become("uploading");
    this.#transfer = this.#world.startUpload("/api/conversion/init", this.#body, {
      id,
      onProgress: (progress) => {
        Object.assign(this, progress, { movedAt: performance.now() });
        this.emit();
      },
      onSent: () => this.#become("accepting"),
    });
    try {
      return await this.#transfer.done;
    } finally {
      this.#transfer = null;
      finish();
    }
  }

  /** Whether the gateway's response to the last try, or to a request after it, was lost. */
  #isLost({ code, status, document }) {
    if (!this.#attempt) return false;
    // Chromium silently repeats a request whose connection was closed; the gateway then has the first one.
    const isRepeated = document?.upload?.upload_id === this.#attempt.id;
    return isRepeated || (LOST.has(code) && (status === 0 || status >= 500));
  }

  /** End the last try. Resolve to its job if it started anyway, else to null. */
  async #recover() {
    for (;;) {
      const outcome = await this.#end(this.#attempt.id);
      if (outcome === "ended") return null;
      const job = await this.#findJob();
      if (job || outcome === "unknown") return job;
      await this.#wait("recovering", RESPONSE_SECONDS);
    }
  }

  /** End an upload. Resolve to "ended", "unknown" (there is no such upload) or "complete" (it is too late). */
  async #end(id) {
    this.#become("recovering");
    for (;;) {
      try {
        const { status, retryAfterSeconds } = await this.#ask(this.#world.api.endUpload(id));
        if (status !== 202) return "ended";
        await this.#wait("unnoticed", retryAfterSeconds ?? UNNOTICED_SECONDS);
      } catch (problem) {
        if (problem.code === "upload_complete") return "complete";
        // 405: a gateway of an earlier version, during a deployment.
        if (problem.status === 404 || problem.status === 405) return "unknown";
        throw problem;
      }
    }
  }

  /** Return the job that the last try started, which may have ended meanwhile, or null. */
  async #findJob() {
    const { api: gateway } = this.#world;
    // As the gateway stores it.
    const filename = this.filename.normalize("NFC");
    const active = (await this.#ask(gateway.activeJob())).data.active_job;
    if (active?.filename === filename) return active;
    const { data } = await this.#ask(gateway.jobs({ limit: 1, filters: { filename } }));
    const [newest] = data.jobs;
    const isOurs = newest && Date.parse(newest.created_at) >= this.#attempt.startedAt - CLOCKS_DIFFER_MILLISECONDS;
    return isOurs ? (await this.#ask(gateway.job(newest.job_id))).data : null;
  }

  async #wait(phase, seconds) {
    this.#pause = this.#world.countDown(seconds, (state) => {
      Object.assign(this, state);
      this.#become(phase);
    });
    await this.#ask(this.#pause.done);
    this.#pause = null;
  }

  /** Resolve to the response, unless the upload was canceled meanwhile. */
  async #ask(response) {
    const found = await response;
    if (this.#isStopped) throw new Problem({ code: ABORTED });
    return found;
  }

  #become(phase) {
    this.phase = phase;
    this.emit();
  }
}
