// The library: rename, download and delete models.

import * as api from "../api.js";
import { toast } from "../announcer.js";
import { confirmLoss } from "../dialogs.js";
import { guardLink } from "../downloads.js";
import { h, icon } from "../dom.js";
import { t } from "../i18n.js";
import { shortName } from "../names.js";
import { problemWords } from "../problems.js";
import { broadcast } from "../tabs.js";
import { againIcon, convertAgain, wishOf } from "./again.js";
import { columnHeads, detailCells, timeCell } from "./columns.js";
import { linkBack, pagedList } from "./list.js";
import { nameEditor } from "./name_editor.js";
import { cutName, emptyState, pageHead } from "./pieces.js";
import { copyButton, problemPanel } from "./problem.js";
import { receiptLink } from "./receipt.js";

const SHOWN_DIGITS = 12;

/** Return the view of the library, or of the one model with this ID. */
export function libraryView({ session, conversion }, modelId = null) {
  const list = pagedList({
    session,
    event: "models",
    route: "models",
    hasSearch: !modelId,
    fetchPage: modelId ? () => fetchOne(modelId) : fetchPage,
    row: (model, owner) => row(model, owner, { conversion, isAlone: Boolean(modelId) }),
    head: () => columnHeads("model-columns", { name: t("list.name"), time: t("list.saved") }),
    empty: () =>
      emptyState({
        symbol: "box",
        title: t("models.empty"),
        text: t("models.empty.text"),
        action: h("a", { class: "button", href: "#/" }, icon("convert"), h("span", {}, t("models.empty.action"))),
      }),
  });
  return {
    element: h(
      "div",
      { class: "page" },
      modelId ? oneHead() : pageHead(t("models.title"), t("models.lead")),
      list.element,
    ),
    restore: list.restore,
    destroy: list.destroy,
  };
}

function oneHead() {
  const link = linkBack("models", icon("right", "flipped"), h("span", {}, t("models.title")));
  return h("div", {}, link, pageHead(t("models.one"), null));
}

async function fetchPage(wanted) {
  const { data } = await api.models(wanted);
  return { items: data.models, next: data.next_cursor };
}

async function fetchOne(modelId) {
  const { data } = await api.model(modelId);
  return { items: [data], next: null };
}

function row(model, list, { conversion, isAlone }) {
  const problemArea = h("div", { class: "problem-area row-wide" });
  const show = (problem) => problemArea.replaceChildren(problemPanel(problem));
  const clear = () => problemArea.replaceChildren();
  const sum = h("code", { title: model.sha256 }, `${model.sha256.slice(0, SHOWN_DIGITS)}…`);
  const receipt = receiptLink(model.source_job_id, { isUploading: () => conversion.isUploading, problemArea });
  const source = h("a", { href: `#/jobs/${encodeURIComponent(model.source_job_id)}` }, t("models.source"));
  const download = downloadLink();
  const repeat = againIcon(model.name, convertSourceAgain);
  const remove = deleteButton();
  const element = h(
    "li",
    { class: "row model-row model-columns", dataset: { id: model.id } },
    h(
      "div",
      { class: "row-main" },
      nameEditor(model.name, { begin: clear, save: rename }),
      h(
        "ul",
        { class: "facts" },
        h("li", { class: "file-fact" }, cutName(model.filename)),
        h(
          "li",
          { class: "sum" },
          "SHA-256 ",
          sum,
          copyButton(() => model.sha256, sum),
        ),
      ),
      h("ul", { class: "facts" }, h("li", {}, source), h("li", {}, receipt)),
    ),
    detailCells({ platform: model.platform, modelId: model.model_id, version: model.version, size: model.size }),
    timeCell(t("list.saved"), model.created_at),
    h("div", { class: "row-actions" }, download, repeat, remove),
    problemArea,
  );

  /** Label the buttons with the model's name for screen readers. */
  function renamed() {
    download.setAttribute("aria-label", t("models.download.label", { name: model.name }));
    source.setAttribute("aria-label", t("models.source.label", { name: model.name }));
    receipt.setAttribute("aria-label", t("models.receipt.label", { name: model.name }));
    repeat.setAttribute("aria-label", t("list.again.label", { name: model.name }));
    remove.setAttribute("aria-label", t("models.delete.label", { name: model.name }));
  }

  async function rename(name, refuse) {
    try {
      const { data } = await api.renameModel(model.id, name);
      model.name = data.name;
      renamed();
      toast(t("models.renamed", { name: shortName(data.name) }));
      broadcast("models");
      return data.name;
    } catch (problem) {
      if (problem.code === "invalid_request") refuse(problemWords(problem).detail);
      else show(problem);
      return null;
    }
  }

  async function convertSourceAgain() {
    clear();
    try {
      const { data } = await api.job(model.source_job_id);
      await convertAgain(conversion, wishOf(data));
    } catch (problem) {
      show(problem);
    }
  }

  function downloadLink() {
    const link = h(
      "a",
      { class: "button quiet small", href: api.filePath(model.id) },
      icon("download"),
      h("span", {}, t("models.download")),
    );
    guardLink(link, {
      check: () => api.model(model.id),
      isUploading: () => conversion.isUploading,
      onBusy(isBusy) {
        if (isBusy) clear();
        link.classList.toggle("busy", isBusy);
      },
      onProblem: show,
    });
    return link;
  }

  function deleteButton() {
    const press = h(
      "button",
      { class: "icon-button danger", type: "button", title: t("models.delete") },
      icon("trash"),
    );
    press.addEventListener("click", async () => {
      const question = {
        title: t("models.delete.title", { name: shortName(model.name) }),
        text: t("models.delete.text"),
        yes: t("models.delete"),
      };
      if (!(await confirmLoss(question))) return;
      clear();
      press.disabled = true;
      try {
        await api.removeModel(model.id);
        const next = element.nextElementSibling ?? element.previousElementSibling;
        if (isAlone) location.hash = "#/models";
        else list.remove(model.id);
        (next?.querySelector("button, a") ?? document.querySelector("main h1")).focus();
        toast(t("models.deleted", { name: shortName(model.name) }));
        broadcast("models");
      } catch (problem) {
        press.disabled = false;
        show(problem);
      }
    });
    return press;
  }

  renamed();
  return element;
}
