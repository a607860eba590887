// The values of the form. They are held apart from the fields on the page, so that they survive changes of view and
// language. Except for files, which browsers don't allow to store, they also survive a reload.

import { CHIPS, DEFAULTS, FIRST_MODEL_ID, LAST_MODEL_ID, VERSION_PATTERN } from "./chips.js";
import { local, tab } from "./storage.js";

const KEY = "form";
const LAST_KEY = "last-parameters";

/** The text keys of the errors, by field. */
export function findMistakes({ model, platform, modelId, version }) {
  const errors = {};
  if (!model) errors.model = "form.model.missing";
  else if (model.size === 0) errors.model = "form.model.empty";
  if (!CHIPS.includes(platform)) errors.platform = "form.chip.missing";
  if (!/^[0-9]{1,9}$/.test(modelId.trim())) errors.modelId = "form.id.not_a_number";
  else if (Number(modelId) < FIRST_MODEL_ID) errors.modelId = "form.id.reserved";
  else if (Number(modelId) > LAST_MODEL_ID) errors.modelId = "form.id.too_high";
  if (!VERSION_PATTERN.test(version.trim())) errors.version = "form.version.wrong";
  return errors;
}

export class ConversionForm {
  model = null;
  /** What is known about the model, see `inspection.js`; null while it is being read. */
  inspection = null;
  references = [];
  /** The name of the model that was chosen before the page was reloaded. */
  lostModel = null;
  touched = new Set();

  constructor() {
    const stored = { ...DEFAULTS, ...local.get(LAST_KEY), ...tab.get(KEY) };
    this.platform = String(stored.platform);
    this.modelId = String(stored.modelId);
    this.version = String(stored.version);
    this.lostModel = typeof stored.modelName === "string" ? stored.modelName : null;
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
    return [this.model, ...this.references].reduce((sum, file) => sum + (file?.size ?? 0), 0);
  }

  store() {
    const { platform, modelId, version } = this;
    tab.set(KEY, { platform, modelId, version, modelName: this.model?.name ?? this.lostModel });
  }

  /** After an upload: remove the files, and keep the other values for the next conversion. */
  clear() {
    const { platform, modelId, version } = this;
    local.set(LAST_KEY, { platform, modelId, version });
    this.model = null;
    this.inspection = null;
    this.references = [];
    this.lostModel = null;
    this.touched.clear();
    tab.set(KEY, { platform, modelId, version });
  }
}
