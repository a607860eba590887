// A job opened from the history.

import * as api from "../api.js";
import { h } from "../dom.js";
import { t } from "../i18n.js";
import { JobWatcher } from "../watcher.js";
import { backHead, jobPanel } from "./job.js";
import { skeletonRows } from "./pieces.js";
import { failedState } from "./problem.js";

export function jobPage({ conversion, session }, jobId) {
  const element = h("div", { class: "view" });
  let watcher = null;
  let panel = null;
  let isGone = false;

  async function load() {
    element.replaceChildren(h("div", { class: "page narrow" }, backHead(), skeletonRows(3)));
    try {
      const { data } = await api.job(jobId);
      if (isGone) return;
      watcher = new JobWatcher(data);
      panel = jobPanel(watcher, { conversion, onNew: null, head: backHead() });
      element.replaceChildren(panel.element);
      document.title = `${data.filename || jobId} – ${t("app.title")}`;
    } catch (problem) {
      if (!isGone) element.replaceChildren(h("div", { class: "page narrow" }, backHead(), failedState(problem, load)));
    }
  }

  const leave = session.subscribe(() => {
    if (session.state !== "alive") return;
    if (watcher) watcher.resume();
    else load();
  });
  load();
  return {
    element,
    destroy() {
      isGone = true;
      leave();
      panel?.destroy();
      watcher?.close();
    },
  };
}
