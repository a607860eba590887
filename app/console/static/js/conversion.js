// The state of the current conversion: form, upload, job. Views show it and call its methods; it doesn't know the
// views.

import * as api from "./api.js";
import { Emitter } from "./emitter.js";
import { ConversionForm } from "./form.js";
import { Identities } from "./identities.js";
import { ModelHandles } from "./model_handles.js";
import { ABORTED, FILE_CHANGED, Problem } from "./problems.js";
import { ReliableUpload } from "./reliable_upload.js";
import { local } from "./storage.js";
import { broadcast, onMessage } from "./tabs.js";
import { JobWatcher } from "./watcher.js";

/** The phases of an upload that was interrupted. */
const RETRYING = new Set(["waiting", "recovering", "unnoticed"]);
/** The phases of an upload in which the user must not leave. */
const UPLOADING = new Set(["uploading", "accepting", ...RETRYING]);
const CHECK_AGAIN_MILLISECONDS = 10_000;

/** Problems that name a state, not an event: they end with it. */
const STATES = new Set([
  "active_job_conflict",
  "upload_in_progress",
  "too_many_requests",
  "converter_busy",
  "upload_capacity",
  "draining",
]);

/** The phases that the form may replace. The others are an upload, or there is no converter. */
const REPLACEABLE = new Set(["looking", "lost", "form", "job"]);

export class Conversion extends Emitter {
  /** looking, lost, disabled, form, job, or the phase of an upload */
  phase = "looking";
  form;
  /** Where the chosen models are, a ModelHandles. */
  handles;
  /** Proposes IDs and versions of models. */
  identities = new Identities();
  problem = null;
  /** The current upload, a ReliableUpload. */
  upload = null;
  watcher = null;
  /** Called when a problem is gone because its cause has ended. */
  onReady = null;
  #userId;
  /** The files of the jobs that this tab has started, by job ID: `{model, references}`. */
  #sent = new Map();
  #timer = null;
  #run = 0;

  constructor(userId, { isEnabled }) {
    super();
    this.#userId = userId;
    this.form = new ConversionForm(userId);
    this.handles = new ModelHandles(userId);
    window.addEventListener("beforeunload", (event) => {
      if (this.isUploading) event.preventDefault();
    });
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && this.phase === "form" && !this.problem) this.#lookQuietly();
    });
    onMessage((event) => {
      if (event !== "jobs") return;
      this.identities.forget();
      if (this.phase === "form") this.#lookQuietly();
    });
    if (isEnabled) this.look();
    else this.phase = "disabled";
  }

  get isUploading() {
    return UPLOADING.has(this.phase);
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
    }
  }

  /** Tell whether this shows the job, or will once the gateway has responded. */
  shows(jobId) {
    if (this.watcher) return this.watcher.job.job_id === jobId;
    return ["looking", "lost"].includes(this.phase) && local.get(this.#key) === jobId;
  }

  /** Start watching a job. */
  follow(job) {
    this.#begin("job", new JobWatcher(job));
    this.watcher.subscribe(() => this.emit());
    local.set(this.#key, job.job_id);
  }

  /** Stop watching the job, and show the form without files, for another model. */
  reset() {
    local.remove(this.#key);
    this.form.removeFiles();
    this.#begin("form");
  }

  /**
   * Show the form with the settings of an earlier conversion, see `ConversionForm.prepare`, and with its files if this
   * tab has sent them. Return false, and change nothing, while an upload is running.
   */
  prepare(wish) {
    if (!REPLACEABLE.has(this.phase)) return false;
    local.remove(this.#key);
    this.form.prepare(wish, this.filesOf(wish.jobId));
    this.#begin("form");
    return true;
  }

  /** Return what `prepare` would remove from the form that has not been sent yet: `{model, references}`, or null. */
  lossBy(wish) {
    const { model, references } = this.form;
    const sent = [...this.#sent.values()];
    const keepsModel = model === null || sent.some((files) => files.model === model) || this.form.hasModel(wish);
    const sentImages = new Set(sent.flatMap((files) => files.references));
    const keepsImages = !this.filesOf(wish.jobId) || references.every((image) => sentImages.has(image));
    if (!REPLACEABLE.has(this.phase) || (keepsModel && keepsImages)) return null;
    return { model: keepsModel ? null : model, references: keepsImages ? [] : references };
  }

  /** Return the files of a job that this tab has started, `{model, references}`, or null. */
  filesOf(jobId) {
    return this.#sent.get(jobId) ?? null;
  }

  /** Check that the upload will be accepted, then send it. `stopping` is the ID of an upload that is ended first. */
  async start(stopping = null) {
    if (this.phase !== "form") return;
    const run = this.#begin("checking");
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
    this.upload = new ReliableUpload(wish, stopping);
    this.upload.subscribe(({ phase }) => {
      if (run === this.#run) this.#become(phase);
    });
    try {
      const job = await this.upload.run();
      if (run !== this.#run) return;
      this.#started(job, wish);
      broadcast("jobs");
    } catch (problem) {
      if (run !== this.#run) return;
      this.#fail(problem);
    }
  }

  /** Cancel the upload or the check before it. If that was too late, show the job, and resolve to true. */
  async abort() {
    const isTooLate = await this.upload?.abort();
    if (isTooLate && this.phase === "form") this.look();
    return isTooLate;
  }

  /** Stop trying again: the session is over, and the next one may be a different account's. */
  stopRetrying() {
    if (RETRYING.has(this.phase)) this.abort();
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

  get #isPrepared() {
    return Boolean(this.form.model || this.form.expected?.job);
  }

  /** Show a job that another tab started, unless the user is preparing a conversion. */
  async #lookQuietly() {
    if (this.#isPrepared) return;
    const run = this.#run;
    try {
      const { data } = await api.activeJob();
      if (run === this.#run && data.active_job && !this.#isPrepared) this.follow(data.active_job);
    } catch {
      // The user is told when starting a conversion.
    }
  }

  #started(job, { model, references }) {
    this.#sent.set(job.job_id, { model, references });
    this.identities.forget();
    this.form.remember();
    this.follow(job);
  }

  /** `isRefused`: nothing was sent, so the problem is only that the upload can't start now. */
  #fail(problem, { isRefused = this.upload.phase === "checking" } = {}) {
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
    // Remove files that have changed on disk, so that the user can choose them again.
    if (problem.code === FILE_CHANGED) {
      const { gone } = problem.document;
      this.form.references = this.form.references.filter(({ file }) => !gone.has(file));
    }
    this.#become("form", problem);
    const canEnd = isRefused && problem.retryable && problem.code !== FILE_CHANGED;
    if (canEnd || STATES.has(problem.code)) this.#awaitEnd(problem);
  }

  /** Remove a problem when the upload would be accepted, or replace it if the reason is now another. */
  #awaitEnd(problem) {
    const run = this.#run;
    const isOver = () => run !== this.#run || this.problem !== problem;
    const seconds = problem.retryAfterSeconds ?? 0;
    this.#timer = setTimeout(
      async () => {
        if (isOver()) return;
        try {
          if (!document.hidden) {
            await this.upload.check();
            if (isOver()) return;
            this.dismissProblem();
            this.onReady?.();
            return;
          }
        } catch (found) {
          if (isOver()) return;
          if (found.code !== problem.code) {
            this.#fail(found, { isRefused: true });
            return;
          }
        }
        this.#awaitEnd(problem);
      },
      Math.max(CHECK_AGAIN_MILLISECONDS, seconds * 1000),
    );
  }
}
