// An upload from its check to its job. Doesn't know the form or the views.

import * as api from "./api.js";
import { Emitter } from "./emitter.js";
import { findUnreadable } from "./files.js";
import { ABORTED, FILE_CHANGED, NETWORK, Problem } from "./problems.js";
import { startUpload, uploadBody } from "./upload.js";

// The gateway needs a moment to notice that an upload was canceled. Until then it refuses another.
const ABORT_SETTLES_MILLISECONDS = 10_000;
const ABORT_WAIT_MILLISECONDS = 700;

let abortedAt = -Infinity;

export class ReliableUpload extends Emitter {
  /** checking, uploading, accepting */
  phase = "checking";
  loaded = 0;
  bytesPerSecond = null;
  millisecondsLeft = null;
  /** When the progress last changed, by `performance.now()`. */
  movedAt = 0;
  sessionExpiresAt = null;
  #wish;
  #body;
  #transfer = null;
  #stop;
  #stopped;
  #isStopped = false;

  /** `wish` has the values of the form: `{model, references, platform, size, modelId, version}`. */
  constructor(wish) {
    super();
    this.#body = uploadBody(wish);
    this.#wish = { ...wish, filename: wish.model.name, parts: [...this.#body.keys()].length };
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

  /** Cancel the upload or the check before it. No job is started. */
  abort() {
    abortedAt = performance.now();
    this.#isStopped = true;
    this.#stop(new Problem({ code: ABORTED }));
    this.#transfer?.abort();
  }

  async #deliver() {
    await this.#requireReadable();
    const { data } = await this.#check();
    this.sessionExpiresAt = data.session_expires_at;
    try {
      return await this.#send();
    } catch (problem) {
      if (problem.code !== NETWORK) throw problem;
      const job = await this.#findReason();
      if (job) return job;
      throw problem;
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

  async #check() {
    for (;;) {
      try {
        return await api.checkUpload(this.#wish);
      } catch (problem) {
        const settles = performance.now() - abortedAt < ABORT_SETTLES_MILLISECONDS;
        if (problem.code !== "upload_in_progress" || !settles) throw problem;
        await new Promise((resolve) => setTimeout(resolve, ABORT_WAIT_MILLISECONDS));
      }
    }
  }

  async #send() {
    // The upload may have been canceled during the check.
    if (this.#isStopped) throw new Problem({ code: ABORTED });
    this.movedAt = performance.now();
    this.#become("uploading");
    this.#transfer = startUpload("/api/conversion/init", this.#body, {
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
    }
  }

  /** After a broken connection, return the job if it started anyway, or reject with the reason. */
  async #findReason() {
    await this.#requireReadable();
    try {
      const { data } = await api.activeJob();
      if (data.active_job && data.active_job.filename === this.filename) return data.active_job;
      await api.checkUpload(this.#wish);
    } catch (problem) {
      // The upload in progress is our own, which has just failed.
      if (problem.code !== "upload_in_progress") throw problem;
    }
    return null;
  }

  #become(phase) {
    this.phase = phase;
    this.emit();
  }
}
