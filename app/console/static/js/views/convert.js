// The first page: the form, the upload or the job, depending on the phase.

import { h } from "../dom.js";
import { t } from "../i18n.js";
import { conversionForm } from "./form.js";
import { jobPanel } from "./job.js";
import { emptyState, pageHead } from "./pieces.js";
import { failedState } from "./problem.js";
import { uploadPanel } from "./upload.js";

const KIND = {
  checking: "form",
  accepting: "uploading",
  waiting: "uploading",
  recovering: "uploading",
  unnoticed: "uploading",
};

/** The view of each phase. Within one view, the view updates itself. */
const kindOf = (phase) => KIND[phase] ?? phase;

/** The server has rendered it, see home.html. */
const skeleton = document.getElementById("loading");

const MAKERS = {
  looking: () => ({ element: loading() }),
  disabled: () => ({
    element: h(
      "div",
      { class: "page" },
      pageHead(t("convert.title"), null),
      emptyState({ symbol: "info", title: t("convert.disabled"), text: t("convert.disabled.text") }),
    ),
  }),
  lost: lostView,
  form: conversionForm,
  uploading: uploadPanel,
  job: ({ conversion }) =>
    jobPanel(conversion.watcher, {
      conversion,
      onNew: () => conversion.reset(),
    }),
};

export function convertView(console_) {
  const { conversion } = console_;
  const element = h("div", { class: "view" });
  let kind = null;
  let watcher = null;
  let view = null;

  function update() {
    const wanted = kindOf(conversion.phase);
    if (wanted === kind && conversion.watcher === watcher) {
      view.update?.();
      return;
    }
    const hadFocus = element.contains(document.activeElement) && document.activeElement !== document.body;
    view?.destroy?.();
    kind = wanted;
    watcher = conversion.watcher;
    view = MAKERS[kind](console_);
    element.replaceChildren(view.element);
    // The focused element was removed. Without this, keyboard users would start at the top of the page again.
    if (hadFocus) (view.focus ?? (() => focusHeading(element)))();
  }

  const leave = conversion.subscribe(update);
  update();
  return {
    element,
    destroy() {
      leave();
      view?.destroy?.();
    },
  };
}

/** Shown while we can't tell whether a conversion is running. Keeps asking; updates only if the reason changes. */
function lostView({ conversion }) {
  const area = h("div", {});
  let code = null;

  function update() {
    if (conversion.problem.code === code) return;
    code = conversion.problem.code;
    area.replaceChildren(failedState(conversion.problem, () => conversion.look()));
  }

  update();
  return { element: h("div", { class: "page" }, pageHead(t("convert.title"), t("convert.lost")), area), update };
}

function focusHeading(element) {
  const heading = element.querySelector("h1");
  heading?.setAttribute("tabindex", "-1");
  heading?.focus();
}

function loading() {
  const element = skeleton.cloneNode(true);
  element.querySelector("h1").textContent = t("app.loading");
  return element;
}
