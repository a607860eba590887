// All conversions, newest first.

import * as api from "../api.js";
import { h, icon } from "../dom.js";
import { formatSize } from "../format.js";
import { language, t } from "../i18n.js";
import { verdictMark } from "./advice.js";
import { pagedList } from "./list.js";
import { ago, chipBadge, cutName, emptyState, pageHead, statusPill } from "./pieces.js";

export function historyView({ session }) {
  const list = pagedList({
    session,
    event: "jobs",
    label: t("history.title"),
    async fetchPage(cursor) {
      const { data } = await api.jobs(cursor);
      return { items: data.jobs, next: data.next_cursor };
    },
    row,
    empty: () =>
      emptyState({
        symbol: "history",
        title: t("history.empty"),
        text: t("history.empty.text"),
        action: h("a", { class: "button", href: "#/" }, icon("convert"), h("span", {}, t("history.empty.action"))),
      }),
  });
  return {
    element: h("div", { class: "page" }, pageHead(t("history.title"), t("history.lead")), list.element),
    destroy: list.destroy,
  };
}

function row(job) {
  const { parameters = {} } = job;
  return h(
    "li",
    { class: "row job-row", dataset: { id: job.job_id } },
    h(
      "div",
      { class: "row-main" },
      h("a", { class: "row-name", href: `#/jobs/${encodeURIComponent(job.job_id)}` }, cutName(job.filename || t("job.unnamed"))),
      h(
        "ul",
        { class: "facts" },
        h("li", {}, ago(job.created_at)),
        Number.isFinite(job.size) && h("li", {}, formatSize(job.size, language())),
        parameters.model_id !== undefined && h("li", {}, `${parameters.model_id} · ${parameters.version ?? "–"}`),
        job.advice?.verdict && h("li", {}, verdictMark(job.advice.verdict)),
        job.library_model_id && h("li", { class: "saved" }, icon("save"), h("span", {}, t("history.saved"))),
      ),
    ),
    h("div", { class: "row-side" }, chipBadge(parameters.platform), statusPill(job.status)),
    icon("right", "row-arrow"),
  );
}
