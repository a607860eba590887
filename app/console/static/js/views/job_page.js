// A job opened from the history.

import * as api from "../api.js";
import { h } from "../dom.js";
import { JobWatcher } from "../watcher.js";
import { backHead, jobPanel } from "./job.js";
import { skeletonRows } from "./pieces.js";
import { failedState } from "./problem.js";

/** Return the page. `onJob` is called whenever the job's state may have changed. */
export function jobPage({ conversion, session }, jobId, onJob) {
  const element = h("div", { class: "view" });
  let watcher = null;
  let panel = null;
  let isGone = false;
  let failure = null;

  async function load({ isQuiet = false } = {}) {
    if (!isQuiet) element.replaceChildren(h("div", { class: "page narrow" }, backHead(), skeletonRows(3)));
    try {
      const { data } = await api.job(jobId);
      if (isGone || watcher) return;
      watcher = new JobWatcher(data);
      panel = jobPanel(watcher, { conversion, onNew: null, head: backHead() });
      element.replaceChildren(panel.element);
      watcher.subscribe(onJob);
      onJob();
    } catch (problem) {
      if (isGone || (isQuiet && problem.code === failure)) return;
      failure = problem.code;
      element.replaceChildren(h("div", { class: "page narrow" }, backHead(), failedState(problem, load)));
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
    get watcher() {
      return watcher;
    },
    destroy() {
      isGone = true;
      leave();
      panel?.destroy();
      watcher?.close();
    },
  };
}
