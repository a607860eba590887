// Which model ID and version to propose for a model, by the user's earlier jobs. Jobs that failed or were canceled leave
// theirs free.

import * as api from "./api.js";
import { FIRST_MODEL_ID, LAST_MODEL_ID } from "./chips.js";

const PER_PAGE = 100;
/** An ID with more jobs than these pages hold gets its version by the newest ones. */
const MOST_PAGES = 5;
const MOST_PROBES = 5;
const HIGHEST_VERSION = 0xffff;

export class Identities {
  #list;
  #known = new Map();

  constructor(list = api.jobs) {
    this.#list = list;
  }

  /** Forget the earlier jobs, because a job has started. */
  forget() {
    this.#known.clear();
  }

  /**
   * Resolve to what a form should have. `name` is the model's, and the other members are those of the form:
   * `{modelId, version}` for the fields that were not edited, null if nothing is proposed;
   * `last`, whether the ID is the one that the model had last;
   * `takenBy`, the job because of which a new model gets another ID than `base`, or null;
   * `isNext`, whether the version is the one after the highest of this ID on this chip;
   * `nextVersion`, that version, or null;
   * `usedBy`, the newest job that has used the ID and version on this chip, or null.
   * Rejects if the jobs can't be fetched.
   */
  async propose({ name, platform, base, edited, modelId, version }) {
    const last = base.name === name ? null : await this.#lastOf(name, platform);
    const wanted = last ?? base;
    const isIdEdited = edited.has("modelId");
    let id = Number(isIdEdited ? modelId : wanted.modelId);
    let jobs = await this.#usedBy(id);
    let takenBy = null;
    // The model is new, and settings of no earlier job fill the form.
    if (!last && base.name === null && !isIdEdited && jobs.length > 0) {
      const free = await this.#freeAfter(id);
      if (free !== null) [takenBy, id, jobs] = [jobs[0], free, []];
    }
    const onChip = jobs.filter(({ parameters }) => parameters.platform === platform);
    const find = (text) => onChip.find(({ parameters }) => hex(parameters.version) === hex(text)) ?? null;
    const highest = Math.max(0, ...onChip.map(({ parameters }) => hex(parameters.version)).filter(Number.isFinite));
    const nextVersion = highest < HIGHEST_VERSION ? (highest + 1).toString(16).toUpperCase().padStart(4, "0") : null;
    const stays = id === Number(wanted.modelId) && !find(wanted.version);
    const proposed = edited.has("version") ? null : stays ? String(wanted.version) : nextVersion;
    return {
      modelId: isIdEdited ? null : String(takenBy ? id : wanted.modelId),
      version: proposed,
      last: last !== null && !isIdEdited,
      takenBy,
      isNext: proposed !== null && !stays && onChip.length > 0,
      nextVersion,
      usedBy: find(proposed ?? version),
    };
  }

  /** The ID and version that a model had last: on this chip, or else on any. */
  async #lastOf(name, platform) {
    const jobs = (await this.#jobs({ filename: name })).filter(({ parameters }) => parameters?.model_id && parameters.version);
    const job = jobs.find(({ parameters }) => parameters.platform === platform) ?? jobs[0];
    return job ? { modelId: job.parameters.model_id, version: job.parameters.version } : null;
  }

  /** The jobs that use an ID, newest first. */
  async #usedBy(id) {
    const isValid = Number.isInteger(id) && id >= FIRST_MODEL_ID && id <= LAST_MODEL_ID;
    return isValid ? (await this.#jobs({ model_id: id })).filter(isUsed) : [];
  }

  /** The next ID that no job uses, or null if it isn't found soon. */
  async #freeAfter(id) {
    const recent = (await this.#jobs({}, 1)).filter(isUsed);
    const taken = new Set(recent.map(({ parameters }) => parameters.model_id));
    const count = LAST_MODEL_ID - FIRST_MODEL_ID + 1;
    let probes = 0;
    for (let step = 1; step < count && probes < MOST_PROBES; step += 1) {
      const candidate = FIRST_MODEL_ID + ((id - FIRST_MODEL_ID + step) % count);
      if (taken.has(candidate)) continue;
      probes += 1;
      if ((await this.#usedBy(candidate)).length === 0) return candidate;
    }
    return null;
  }

  #jobs(filters, mostPages = MOST_PAGES) {
    const key = JSON.stringify(filters);
    if (!this.#known.has(key)) {
      const found = this.#fetch(filters, mostPages);
      this.#known.set(key, found);
      found.catch(() => this.#known.delete(key));
    }
    return this.#known.get(key);
  }

  async #fetch(filters, mostPages) {
    const jobs = [];
    let cursor = null;
    let pages = 0;
    do {
      const { data } = await this.#list({ cursor, limit: PER_PAGE, filters });
      jobs.push(...data.jobs);
      cursor = data.next_cursor;
      pages += 1;
    } while (cursor && pages < mostPages);
    return jobs;
  }
}

const hex = (version) => Number.parseInt(version, 16);
const isUsed = ({ status, parameters }) => Boolean(parameters) && status !== "failed" && status !== "cancelled";
