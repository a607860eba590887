// What the user can do when a job has ended: download or save the result, or learn why there is none.

import * as api from "../../api.js";
import { announce, toast } from "../../announcer.js";
import { guardLink } from "../../downloads.js";
import { h, icon, setText } from "../../dom.js";
import { t } from "../../i18n.js";
import { shortName } from "../../names.js";
import { broadcast } from "../../tabs.js";
import { againButton } from "../again.js";
import { button, problemPanel } from "../problem.js";
import { failurePanel, nextSteps } from "./failure.js";
import { notifySwitch } from "./notify.js";

/** Return the elements for the state of the job. */
export function outcomeOf(watcher, options) {
  const { job } = watcher;
  const other =
    options.onNew && button(t("job.new"), { symbol: "plus", kind: "quiet", run: options.onNew, id: "new-conversion" });
  if (!job.terminal) {
    // A job that can no longer be found never ends, so offer the way back to the form now.
    if (watcher.polling.name === "gone") return other ? [h("div", { class: "actions" }, other)] : [];
    const { button: notify, note } = notifySwitch();
    return [h("div", { class: "actions" }, downloadLater(), notify), note];
  }
  if (job.status === "completed") {
    return resultActions(watcher, options, [againButton(t("job.again"), job, options.conversion, { kind: "quiet" }), other]);
  }
  return [failurePanel(job), h("div", { class: "actions" }, nextSteps(job, options.conversion), other)];
}

/** Return the button that will become the download. It keeps the parts below it in their places. */
function downloadLater() {
  const properties = { class: "button", type: "button", disabled: true };
  return h("button", properties, icon("download"), h("span", {}, t("job.download")));
}

function resultActions(watcher, { isUploading }, others) {
  const { job } = watcher;
  const problemArea = h("div", { class: "problem-area", "aria-live": "polite" });
  const show = (problem) => problemArea.replaceChildren(problemPanel(problem));
  const clear = () => problemArea.replaceChildren();
  const download = h(
    "a",
    { class: "button", href: api.downloadPath(job.job_id), id: "download" },
    icon("download"),
    h("span", {}, t("job.download")),
  );
  guardLink(download, {
    check: () => api.checkDownload(job.job_id),
    isUploading,
    onBusy(isBusy) {
      if (isBusy) clear();
      download.classList.toggle("busy", isBusy);
      download.setAttribute("aria-busy", String(isBusy));
    },
    onReady: () => announce(t("job.download.begins")),
    onProblem: show,
  });
  const save = job.library_model_id ? savedLink(job.library_model_id) : saveButton(watcher, show, clear);
  return [h("div", { class: "actions" }, download, save, others), problemArea];
}

function savedLink(modelId) {
  return h(
    "a",
    { class: "button quiet", href: `#/models/${encodeURIComponent(modelId)}`, id: "saved" },
    icon("check"),
    h("span", {}, t("job.saved")),
  );
}

function saveButton(watcher, show, clear) {
  const label = h("span", {}, t("job.save"));
  const save = h("button", { class: "button quiet", type: "button", id: "save" }, icon("save"), label);
  save.addEventListener("click", async () => {
    if (save.classList.contains("busy")) return;
    clear();
    save.classList.add("busy");
    setText(label, t("job.saving"));
    try {
      const { data } = await api.promote(watcher.job.job_id);
      watcher.amend({ library_model_id: data.id });
      toast(t("job.saved.said", { name: shortName(data.name) }));
      broadcast("models");
      document.getElementById("saved")?.focus();
    } catch (problem) {
      show(problem);
    } finally {
      save.classList.remove("busy");
      setText(label, t("job.save"));
    }
  });
  return save;
}
