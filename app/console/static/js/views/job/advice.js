// The advice about a job's model, as it was when the model was uploaded.

import { chipName } from "../../chips.js";
import { h } from "../../dom.js";
import { t } from "../../i18n.js";
import { copyAdviceButton, findingsList, nodeBar, nodeCounts, verdictBadge } from "../advice.js";

/** Return a panel that is hidden until the job has advice. */
export function advicePanel() {
  const element = h("section", { class: "panel job-advice", hidden: true });
  let shown = null;

  /** Show the advice if it has changed, and otherwise leave unfolded nodes as they are. */
  function update(job) {
    const key = JSON.stringify(job.advice ?? null);
    if (key === shown) return;
    shown = key;
    element.hidden = !job.advice;
    element.replaceChildren(...(job.advice ? contentOf(job) : []));
  }

  return { element, update };
}

function contentOf({ advice, filename, parameters: { platform } }) {
  const name = chipName(platform);
  const chip = advice.chips?.[advice.chip];
  const heading = h("h2", {}, t("job.advice", { chip: name }));
  if (!chip) return [heading, h("p", { class: "quiet-text" }, advice.text)];
  const findings = findingsList(chip.findings ?? []);
  const best = advice.recommended;
  return [
    h("div", { class: "job-advice-head" }, heading, verdictBadge(chip.verdict)),
    nodeBar(chip),
    h("p", { class: "quiet-text" }, nodeCounts(chip)),
    findings,
    h(
      "div",
      { class: "job-advice-foot" },
      h(
        "p",
        { class: "quiet-text" },
        h("span", {}, t("job.advice.when")),
        best && best !== advice.chip && h("span", {}, t("job.advice.better", { chip: chipName(best) })),
      ),
      copyAdviceButton(t("job.advice.of", { name: filename || t("job.unnamed"), chip: name }), chip, findings),
    ),
  ];
}
