// The advice about a model on one chip: the verdict, the number of nodes on the NPU, and the findings with their nodes.
// `chip` is one member of the API's `chips`.

import { h, icon } from "../dom.js";
import { formatNumber } from "../format.js";
import { language, t } from "../i18n.js";
import { copyButton } from "./problem.js";

const VERDICT_ICONS = { fits: "check", conditional: "info", partial: "minus", unlikely: "alert" };
const SEVERITY_ICONS = { info: "info", warning: "alert", error: "alert" };

const verdictOf = (verdict) => (verdict in VERDICT_ICONS ? verdict : "conditional");

/** Return the verdict's short name. */
export const verdictName = (verdict) => t(`verdict.${verdictOf(verdict)}`);

export function verdictBadge(verdict) {
  const known = verdictOf(verdict);
  return h("span", { class: `verdict ${known}` }, icon(VERDICT_ICONS[known]), h("span", {}, verdictName(known)));
}

/** Return the verdict as a small fact beside others. */
export function verdictMark(verdict) {
  const known = verdictOf(verdict);
  return h("span", { class: `verdict-mark ${known}` }, icon(VERDICT_ICONS[known]), h("span", {}, verdictName(known)));
}

/** Return a bar of the nodes on the NPU, on it under a condition, and not on it. Show `nodeCounts` with it. */
export function nodeBar({ npu_nodes: npu, conditional_nodes: conditional, other_nodes: other }) {
  const part = (kind, count) => {
    const element = h("span", { class: kind });
    element.style.flexGrow = count;
    return count > 0 && element;
  };
  return h(
    "div",
    { class: "node-bar", "aria-hidden": "true" },
    part("npu", npu),
    part("conditional", conditional),
    part("other", other),
  );
}

/** Return the sentence that says the same as the bar. */
export function nodeCounts({ npu_nodes: npu, conditional_nodes: conditional, other_nodes: other }) {
  const number = (count) => formatNumber(count, language());
  return [
    t("advice.npu", { count: number(npu), all: number(npu + conditional + other) }),
    conditional > 0 && t("advice.conditional", { count: number(conditional) }),
    other > 0 && t("advice.other", { count: number(other) }),
  ]
    .filter(Boolean)
    .join(t("advice.separator"));
}

/** Return the list of findings. The nodes of each are folded. */
export function findingsList(findings) {
  return h("ul", { class: "findings" }, findings.map(finding));
}

function finding({ severity, operator, text, remedy, nodes = [], count = nodes.length }) {
  const known = severity in SEVERITY_ICONS ? severity : "info";
  return h(
    "li",
    { class: "finding", dataset: { severity: known } },
    icon(SEVERITY_ICONS[known]),
    h(
      "div",
      {},
      h("p", {}, h("span", { class: "unseen" }, t(`severity.${known}`)), text),
      remedy && h("p", { class: "quiet-text" }, remedy),
      nodeList(nodes, { count, operator }),
    ),
  );
}

/**
 * Return the names of nodes, folded unless `open`, or null without any. `count` includes those that are not named here.
 * A finding without an operator is about the model's inputs.
 */
export function nodeList(names, { count = names.length, operator = null, open = false } = {}) {
  if (names.length === 0) return null;
  const values = { n: count, count: formatNumber(count, language()) };
  const more = count - names.length;
  return h(
    "details",
    { class: "nodes", open },
    h("summary", {}, operator ? t("advice.nodes", values) : t("advice.inputs", values)),
    h(
      "ul",
      {},
      names.map((name) => h("li", {}, h("code", {}, name || t("advice.unnamed")))),
      more > 0 && h("li", {}, t("advice.more", { count: formatNumber(more, language()) })),
    ),
  );
}

/** Return the advice as plain text, for a ticket or a message to a colleague. */
export function adviceText(title, chip) {
  const lines = [`${title}${t("advice.colon")}${verdictName(chip.verdict)}`, nodeCounts(chip)];
  for (const { text, remedy, nodes = [], count = nodes.length } of chip.findings ?? []) {
    lines.push("", `- ${[text, remedy].filter(Boolean).join(" ")}`);
    lines.push(...nodes.map((name) => `    ${name || t("advice.unnamed")}`));
    if (count > nodes.length && nodes.length > 0) {
      lines.push(`    ${t("advice.more", { count: formatNumber(count - nodes.length, language()) })}`);
    }
  }
  return `${lines.join("\n")}\n`;
}

/** Return a button that copies the advice as text. `shown` is selected instead if the clipboard is not available. */
export function copyAdviceButton(title, chip, shown) {
  return copyButton(() => adviceText(title, chip), shown, t("advice.copy"));
}
