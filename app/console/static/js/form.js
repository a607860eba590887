// The values of the form. They are held apart from the fields on the page, so that they survive changes of view and
// language. After a reload, the parameters are restored, and the name of the model is known (see `expected`).

import { CHIPS, DEFAULTS, FIRST_MODEL_ID, LAST_MODEL_ID, VERSION_PATTERN } from "./chips.js";
import { sizeOf } from "./references/images.js";
import { local, tab } from "./storage.js";

const KEY = "form";
const LAST_KEY = "last-parameters";

/** The text keys of the errors, by field. */
export function findMistakes({ model, references, isReadingReferences, limits, platform, modelId, version }) {
  const errors = {};
  const isTooLarge = (model?.size ?? 0) + sizeOf(references) > limits.bytes;
  if (!model) errors.model = "form.model.missing";
  else if (model.size === 0) errors.model = "form.model.empty";
  else if (isTooLarge && references.length === 0) errors.model = "form.too_large";
  if (!CHIPS.includes(platform)) errors.platform = "form.chip.missing";
  if (!/^[0-9]{1,9}$/.test(modelId.trim())) errors.modelId = "form.id.not_a_number";
  else if (Number(modelId) < FIRST_MODEL_ID) errors.modelId = "form.id.reserved";
  else if (Number(modelId) > LAST_MODEL_ID) errors.modelId = "form.id.too_high";
  if (!VERSION_PATTERN.test(version.trim())) errors.version = "form.version.wrong";
  if (isReadingReferences) errors.references = "form.references.reading";
  else if (references.length > limits.images) errors.references = "form.references.too_many";
  else if (isTooLarge && references.length > 0) errors.references = "form.too_large";
  return errors;
}

export class ConversionForm {
  model = null;
  /** What is known about the model, see `inspection.js`; null while it is being read. */
  inspection = null;
  /** Whether chosen reference images are still being read. */
  isReadingReferences = false;
  /** The number of reference images that were chosen before the page was reloaded and can't be restored. */
  lostReferences = 0;
  /** Called after each change of the reference images. */
  onReferences = null;
  /** The most bytes of an upload, and the most reference images. */
  limits = { bytes: Infinity, images: Infinity };
  /**
   * The model that is to be chosen, as `{name, size, job}`: the one before a reload, or that of an earlier conversion.
   * `job` is the earlier conversion with whose model a chosen file is compared, or null:
   * `{jobId, platform, createdAt, references, sha256}`. `isRemoved`: the user has removed this model, so the page
   * doesn't open it by itself.
   */
  expected = null;
  /** The field that the form focuses when it is shown next, or null. */
  field = null;
  touched = new Set();
  /** The fields `modelId` and `version` that the user has edited. Proposals leave them as they are. */
  edited = new Set();
  /**
   * The ID and version from which proposals start, `{name, modelId, version}`. `name` is that of the earlier conversion's
   * model whose settings fill the form, or null.
   */
  base;
  #userId;
  #references = [];

  constructor(userId) {
    this.#userId = userId;
    const ofTab = tab.get(KEY);
    // The tab may have been another user's.
    const stored = { ...DEFAULTS, ...local.get(LAST_KEY), ...(ofTab?.userId === userId ? ofTab : {}) };
    this.platform = String(stored.platform);
    this.modelId = String(stored.modelId);
    this.version = String(stored.version);
    this.expected = typeof stored.expected?.name === "string" ? stored.expected : null;
    this.edited = new Set(stored.edited);
    this.base = stored.base ?? { name: null, modelId: this.modelId, version: this.version };
  }

  /** The reference images as `[{file, path}]`. */
  get references() {
    return this.#references;
  }

  set references(images) {
    this.#references = images;
    if (images.length > 0) this.lostReferences = 0;
    this.onReferences?.();
  }

  /** The name of the model, also if it is still to be chosen, or null. */
  get modelName() {
    return this.model?.name ?? this.expected?.name ?? null;
  }

  get errors() {
    return findMistakes(this);
  }

  /** The advice about the model on the chosen chip, or null. */
  get chipAdvice() {
    return this.inspection?.advice?.chips[this.platform] ?? null;
  }

  /** The total size of all files in bytes, to which the upload limit applies. */
  get size() {
    return (this.model?.size ?? 0) + sizeOf(this.references);
  }

  store() {
    const { model } = this;
    const expected = model ? { name: model.name, size: model.size, job: this.expected?.job ?? null } : this.expected;
    const { base } = this;
    tab.set(KEY, { userId: this.#userId, ...this.#parameters, expected, base, edited: [...this.edited] });
  }

  /** After an upload: remember the parameters as the defaults of other tabs. All files stay in the form. */
  remember() {
    local.set(LAST_KEY, this.#parameters);
    this.#startFrom(null);
    this.touched.clear();
    this.lostReferences = 0;
    this.store();
  }

  choose(model) {
    this.model = model;
    this.inspection = null;
    this.touched.add("model");
    if (!this.expected?.job) this.expected = null;
  }

  /** Whether the chosen model has the name and the size of an earlier conversion's. */
  hasModel({ modelName, size }) {
    return this.model !== null && this.model.name === modelName && this.model.size === size;
  }

  /** Remove the model. The earlier conversion, if there is one, stays. */
  removeModel() {
    this.model = null;
    this.inspection = null;
    if (this.expected) this.expected = { ...this.expected, isRemoved: true };
  }

  /** Remove all files, for another model. */
  removeFiles() {
    this.model = null;
    this.inspection = null;
    this.references = [];
    this.expected = null;
    this.touched.clear();
    this.store();
  }

  /**
   * Fill in the settings of an earlier conversion: `{jobId, createdAt, platform, modelId, version, modelName, size,
   * sha256, references}`, of which all but the job ID may be missing. `references` is the number of images. `field` is
   * the one that the user should look at first. `files` are the conversion's files, `{model, references}`, or null if
   * they have to be chosen again.
   */
  prepare(wish, files = null) {
    const { jobId, createdAt, modelName: name, size = null, sha256 = null, references = null, field = null } = wish;
    this.platform = String(wish.platform ?? this.platform);
    this.modelId = String(wish.modelId ?? this.modelId);
    this.version = String(wish.version ?? this.version);
    this.field = field;
    const model = files?.model ?? (this.hasModel(wish) ? this.model : null);
    this.#startFrom(name ?? model?.name ?? "");
    if (model !== this.model) this.inspection = null;
    this.model = model;
    this.references = files?.references ?? this.references;
    const job = { jobId, platform: this.platform, createdAt, references, sha256 };
    this.expected = files || !name ? null : { name, size, job };
    this.touched.clear();
    this.store();
  }

  #startFrom(name) {
    this.base = { name, modelId: this.modelId, version: this.version };
    this.edited.clear();
  }

  get #parameters() {
    const { platform, modelId, version } = this;
    return { platform, modelId, version };
  }
}
