// Convert again: the way from an earlier conversion to the form with its settings.

import { toast } from "../announcer.js";
import { confirmLoss } from "../dialogs.js";
import { h, icon } from "../dom.js";
import { t } from "../i18n.js";
import { shortName } from "../names.js";
import { button } from "./problem.js";

/** Return the settings of a job, for `Conversion.prepare`. */
export function wishOf(job, field = null) {
  const { platform, model_id: modelId, version } = job.parameters ?? {};
  return {
    jobId: job.job_id,
    createdAt: job.created_at,
    platform,
    modelId,
    version,
    modelName: job.filename,
    size: job.size,
    sha256: job.model_sha256,
    references: job.reference_images?.count,
    field,
  };
}

/**
 * Return a button that fills the form with the settings of a job. `field` is the one that the user should look at, and
 * `platform` the chip if it is not the job's.
 */
export function againButton(text, job, conversion, { field, platform, kind = "" } = {}) {
  const wish = wishOf(job, field);
  if (platform) wish.platform = platform;
  return button(text, { symbol: "convert", kind, run: () => convertAgain(conversion, wish) });
}

/** Return a small button for a row. `name` is of the row, for screen readers. */
export function againIcon(name, run) {
  const label = t("list.again.label", { name });
  return h(
    "button",
    { class: "icon-button", type: "button", title: t("list.again"), "aria-label": label, on: { click: run } },
    icon("convert"),
  );
}

/** Show the form with these settings, unless an upload is running or the user wants to keep the files in the form. */
export async function convertAgain(conversion, wish) {
  const loss = conversion.lossBy(wish);
  if (loss && !(await confirmLoss({ ...questionOf(loss), yes: t("form.replace.yes") }))) return;
  if (!conversion.prepare(wish)) {
    toast(t("job.again.uploading"), "alert");
    return;
  }
  // If the form has just replaced the job in this view, a new address must not show the view a second time.
  if (document.querySelector("[data-route=convert][aria-current]")) history.replaceState(null, "", "#/");
  else location.hash = "#/";
}

/** Ask about a model and images that have not been sent yet. */
function questionOf({ model, references }) {
  const n = references.length;
  const imagesText = n > 0 && t("form.replace.images.text");
  if (!model) return { title: t("form.replace.images", { n }), text: imagesText, symbol: "image" };
  const text = [t("form.replace.text"), imagesText].filter(Boolean).join(" ");
  return { title: t("form.replace", { name: shortName(model.name) }), text, symbol: "file" };
}
