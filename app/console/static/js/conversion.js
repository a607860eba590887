// The state of the current conversion: form, upload, job. Views show it and call its methods; it doesn't know the
// views.

import * as api from "./api.js";
import { Emitter } from "./emitter.js";
import { ConversionForm } from "./form.js";
import { findUnreadable } from "./files.js";
import { ABORTED, FILE_CHANGED, NETWORK, Problem } from "./problems.js";
import { local } from "./storage.js";
import { broadcast, onMessage } from "./tabs.js";
import { startUpload, uploadBody } from "./upload.js";
import { JobWatcher } from "./watcher.js";

const LOOK_AGAIN_MILLISECONDS = 10_000;
// The gateway needs a moment to notice that an upload was canceled. Until then it refuses another.
const ABORT_SETTLES_MILLISECONDS = 10_000;
const ABORT_WAIT_MILLISECONDS = 700;

export class Conversion extends Emitter {
  /** looking, lost, disabled, form, checking, uploading, accepting, job */
  phase = "looking";
  form = new ConversionForm();
  problem = null;
  upload = null;
  watcher = null;
  hasAborted = false;
  #userId;
  #transfer = null;
  #abortedAt = -Infinity;
  #timer = null;
  #run = 0;

  constructor(userId, { isEnabled }) {
    super();
    this.#userId = userId;
    window.addEventListener("beforeunload", (event) => {
      if (this.isUploading) event.preventDefault();
    });
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && this.phase === "form" && !this.problem) this.#lookQuietly();
    });
    onMessage((event) => {
      if (event === "jobs" && this.phase === "form") this.#lookQuietly();
    });
    if (isEnabled) this.look();
    else this.phase = "disabled";
  }

  get isUploading() {
    return this.phase === "uploading" || this.phase === "accepting";
  }

  /** Show the running job, else the last shown job, else the form. */
  async look() {
    // Keep showing a failure until there is something better to show.
    const run = this.phase === "lost" ? this.#begin("lost", null, this.problem) : this.#begin("looking");
    try {
      const job = await this.#findJob();
      if (run !== this.#run) return;
      if (job) this.follow(job);
      else this.#become("form");
    } catch (problem) {
      if (run !== this.#run) return;
      this.#become(problem.status === 501 ? "disabled" : "lost", problem);
      if (this.phase === "lost" && problem.status !== 401) {
        this.#timer = setTimeout(() => this.look(), LOOK_AGAIN_MILLISECONDS);
      }
    }
  }

  /** Start watching a job. */
  follow(job) {
    this.#begin("job", new JobWatcher(job));
    this.watcher.subscribe(() => this.emit());
    local.set(this.#key, job.job_id);
  }

  /** Stop watching the job, and show an empty form. */
  reset() {
    local.remove(this.#key);
    this.#begin("form");
  }

  /** Check that the upload will be accepted, then send it. */
  async start() {
    if (this.phase !== "form") return;
    const run = this.#begin("checking");
    this.hasAborted = false;
    const { model, references, platform, size } = this.form;
    // Copy the values, because the user can edit the form during the check.
    const wish = {
      model,
      references,
      platform,
      size,
      modelId: this.form.modelId.trim(),
      version: this.form.version.trim(),
    };
    const body = uploadBody(wish);
    wish.parts = [...body.keys()].length;
    try {
      await this.#requireReadable(wish);
      const checked = await this.#check({ ...wish, filename: model.name });
      if (run !== this.#run) return;
      this.upload = {
        filename: model.name,
        platform,
        loaded: 0,
        total: size,
        bytesPerSecond: null,
        millisecondsLeft: null,
        movedAt: performance.now(),
        sessionExpiresAt: checked.data.session_expires_at,
      };
      this.#become("uploading");
      const job = await this.#send(body);
      if (run !== this.#run) return;
      this.form.clear();
      this.follow(job);
      broadcast("jobs");
    } catch (problem) {
      if (run !== this.#run) return;
      await this.#fail(problem, wish, run);
    }
  }

  /** Cancel the upload or the check before it. No job is started. */
  abort() {
    this.#abortedAt = performance.now();
    this.hasAborted = true;
    if (this.#transfer) this.#transfer.abort();
    else if (this.phase === "checking") this.#begin("form");
    this.emit();
  }

  dismissProblem() {
    this.problem = null;
    this.emit();
  }

  /** Continue after the session has returned. */
  resume() {
    if (this.phase === "lost") this.look();
    else if (this.problem?.code === "unauthenticated") this.dismissProblem();
    this.watcher?.resume();
  }

  get #key() {
    return `job.${this.#userId}`;
  }

  /** Start over: ignore the results of everything that is still running. */
  #begin(phase, watcher = null, problem = null) {
    clearTimeout(this.#timer);
    const run = ++this.#run;
    const before = this.watcher;
    this.watcher = watcher;
    this.#become(phase, problem);
    before?.close();
    return run;
  }

  #become(phase, problem = null) {
    this.phase = phase;
    this.problem = problem;
    this.emit();
  }

  async #findJob() {
    const { data } = await api.activeJob();
    if (data.active_job) return data.active_job;
    const remembered = local.get(this.#key);
    if (typeof remembered !== "string") return null;
    try {
      return (await api.job(remembered)).data;
    } catch (problem) {
      if (problem.status !== 404) throw problem;
      local.remove(this.#key);
      return null;
    }
  }

  /** Show a job that another tab started, unless the form has a chosen file, which would be lost. */
  async #lookQuietly() {
    if (this.form.model) return;
    const run = this.#run;
    try {
      const { data } = await api.activeJob();
      if (run === this.#run && data.active_job && !this.form.model) this.follow(data.active_job);
    } catch {
      // The user is told when starting a conversion.
    }
  }

  async #check(wish) {
    for (;;) {
      try {
        return await api.checkUpload(wish);
      } catch (problem) {
        const settles = performance.now() - this.#abortedAt < ABORT_SETTLES_MILLISECONDS;
        if (problem.code !== "upload_in_progress" || !settles) throw problem;
        await new Promise((resolve) => setTimeout(resolve, ABORT_WAIT_MILLISECONDS));
      }
    }
  }

  /** Remove files that have changed on disk from the form, so that the user can choose them again. */
  async #requireReadable({ model, references }) {
    const gone = new Set(await findUnreadable([model, ...references]));
    if (gone.size === 0) return;
    this.form.references = this.form.references.filter((file) => !gone.has(file));
    const [first] = gone;
    throw new Problem({ code: FILE_CHANGED, name: first.name, isModel: first === model, blame: "user" });
  }

  async #send(body) {
    this.#transfer = startUpload("/api/conversion/init", body, {
      onProgress: (progress) => {
        Object.assign(this.upload, progress, { movedAt: performance.now() });
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

  async #fail(problem, wish, run) {
    if (!(problem instanceof Problem)) {
      // A bug in this page: report it, and return to the form instead of checking forever.
      this.#become("form");
      throw problem;
    }
    if (problem.code === ABORTED) {
      this.#become("form");
      return;
    }
    api.reportSessionEnd(problem);
    let found = problem;
    if (problem.code === NETWORK) {
      const reason = await this.#findReason(wish);
      if (run !== this.#run) return;
      if (reason.job) {
        this.form.clear();
        this.follow(reason.job);
        return;
      }
      found = reason.problem ?? problem;
    }
    this.#become("form", found);
  }

  /** After a broken connection, find out whether the job started anyway. */
  async #findReason(wish) {
    try {
      await this.#requireReadable(wish);
      const { data } = await api.activeJob();
      if (data.active_job && data.active_job.filename === wish.model.name) return { job: data.active_job };
      await api.checkUpload({ ...wish, filename: wish.model.name });
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      // The upload in progress is our own, which has just failed.
      if (problem.code !== "upload_in_progress") return { problem };
    }
    return {};
  }
}
