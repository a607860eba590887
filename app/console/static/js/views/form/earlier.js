// The earlier conversion whose settings fill the form, and whether the chosen model is the same.

import { announce } from "../../announcer.js";
import { chipName } from "../../chips.js";
import { compareWithJob } from "../../comparison.js";
import { h, icon, setText } from "../../dom.js";
import { formatAgo } from "../../format.js";
import { language, t } from "../../i18n.js";
import { shortName } from "../../names.js";

export function earlierPanel(form, changed) {
  const comparison = h("p", {});
  const element = h("section", { class: "earlier", "aria-label": t("form.earlier.label"), hidden: true });
  let shown;

  function update() {
    const state = [form.expected?.job, form.model];
    if (shown?.every((value, index) => value === state[index])) return;
    shown = state;
    const [job, model] = state;
    element.hidden = !job;
    setText(comparison, "");
    if (!job) return;
    element.replaceChildren(icon("history"), h("div", {}, h("p", {}, wordsOf(form.expected)), comparison), dismissButton());
    if (model) compare(model, form.expected);
  }

  async function compare(model, expected) {
    element.dataset.agrees = "";
    setText(comparison, t("form.earlier.comparing"));
    const outcome = await compareWithJob(model, expected);
    if (form.model !== model || form.expected !== expected) return;
    element.dataset.agrees = outcome;
    setText(comparison, t(`form.earlier.${outcome}`));
    announce(comparison.textContent);
  }

  function dismissButton() {
    const dismiss = () => {
      form.expected = form.model ? null : { ...form.expected, job: null };
      changed();
      document.getElementById("model").focus();
    };
    return h(
      "button",
      { class: "icon-button", type: "button", "aria-label": t("form.earlier.dismiss"), on: { click: dismiss } },
      icon("cross"),
    );
  }

  return { element, update };
}

function wordsOf({ name, job }) {
  const from = t("form.earlier", {
    name: shortName(name),
    chip: chipName(job.platform),
    time: formatAgo(job.createdAt, Date.now(), language()),
  });
  return job.references ? `${from} ${t("form.earlier.images", { n: job.references })}` : from;
}
