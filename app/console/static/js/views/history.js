// All conversions, newest first.

import * as api from "../api.js";
import { h, icon } from "../dom.js";
import { t } from "../i18n.js";
import { verdictMark } from "./advice.js";
import { againIcon, convertAgain, wishOf } from "./again.js";
import { columnHeads, detailCells, timeCell } from "./columns.js";
import { pagedList } from "./list.js";
import { cutName, emptyState, pageHead, statusPill } from "./pieces.js";

export function historyView({ session, conversion }) {
  const list = pagedList({
    session,
    event: "jobs",
    route: "history",
    hasStatus: true,
    async fetchPage(wanted) {
      const { data } = await api.jobs(wanted);
      return { items: data.jobs, next: data.next_cursor };
    },
    row: (job) => row(job, conversion),
    head: () => columnHeads("job-columns", { name: t("list.file"), time: t("list.started"), status: t("list.status") }),
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
    restore: list.restore,
    destroy: list.destroy,
  };
}

function row(job, conversion) {
  const { platform, model_id: modelId, version } = job.parameters ?? {};
  const name = job.filename || t("job.unnamed");
  const address = `#/jobs/${encodeURIComponent(job.job_id)}`;
  return h(
    "li",
    { class: "row job-row job-columns", dataset: { id: job.job_id } },
    h(
      "div",
      { class: "row-main" },
      h("a", { class: "row-name", href: address }, cutName(name)),
      h(
        "ul",
        { class: "facts" },
        job.advice?.verdict && h("li", {}, verdictMark(job.advice.verdict)),
        job.library_model_id && h("li", {}, libraryLink(job.library_model_id)),
      ),
    ),
    detailCells({ platform, modelId, version, size: job.size }),
    timeCell(t("list.started"), job.created_at),
    h("div", { class: "row-status" }, statusPill(job.status)),
    h("div", { class: "row-actions" }, againIcon(name, () => convertAgain(conversion, wishOf(job)))),
  );
}

function libraryLink(modelId) {
  return h(
    "a",
    { class: "saved", href: `#/models/${encodeURIComponent(modelId)}` },
    icon("save"),
    h("span", {}, t("history.saved")),
  );
}
