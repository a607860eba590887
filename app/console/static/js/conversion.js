// The state of the current conversion: form, upload, job. Views show it and call its methods; it doesn't know the
// views.

import * as api from "./api.js";
import { Emitter } from "./emitter.js";
import { ConversionForm } from "./form.js";
import { ABORTED, FILE_CHANGED, Problem } from "./problems.js";
import { ReliableUpload } from "./reliable_upload.js";
import { local } from "./storage.js";
import { broadcast, onMessage } from "./tabs.js";
import { JobWatcher } from "./watcher.js";

const LOOK_AGAIN_MILLISECONDS = 10_000;

export class Conversion extends Emitter {
  /** looking, lost, disabled, form, checking, uploading, accepting, job */
  phase = "looking";
  form = new ConversionForm();
  problem = null;
  /** The current upload, a ReliableUpload. */
  upload = null;
  watcher = null;
  hasAborted = false;
  #userId;
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
    this.upload = new ReliableUpload(wish);
    this.upload.subscribe(({ phase }) => {
      if (run === this.#run) this.#become(phase);
    });
    try {
      const job = await this.upload.run();
      if (run !== this.#run) return;
      this.form.clear();
      this.follow(job);
      broadcast("jobs");
    } catch (problem) {
      if (run !== this.#run) return;
      this.#fail(problem);
    }
  }

  /** Cancel the upload or the check before it. No job is started. */
  abort() {
    this.hasAborted = true;
    this.upload?.abort();
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

  #fail(problem) {
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
      this.form.references = this.form.references.filter((file) => !gone.has(file));
    }
    this.#become("form", problem);
  }
}
