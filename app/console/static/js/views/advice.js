// The advice about a model on one chip: the verdict, the number of nodes on the NPU, and the findings with their nodes.
// `chip` is one member of the API's `chips`.

import { h, icon } from "../dom.js";
import { formatNumber, formatRoughly } from "../format.js";
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

function finding({ severity, text, nodes = [], count = nodes.length }) {
  const known = severity in SEVERITY_ICONS ? severity : "info";
  return h(
    "li",
    { class: `finding ${known}` },
    icon(SEVERITY_ICONS[known]),
    h("div", {}, h("p", {}, h("span", { class: "unseen" }, t(`severity.${known}`)), text), nodeList(nodes, count)),
  );
}

/** Return the folded names of nodes, or null without any. `count` includes the nodes that are not named here. */
export function nodeList(nodes, count = nodes.length) {
  if (nodes.length === 0) return null;
  const more = count - nodes.length;
  return h(
    "details",
    { class: "nodes" },
    h("summary", {}, t("advice.nodes", { n: count, count: formatNumber(count, language()) })),
    h(
      "ul",
      {},
      nodes.map((name) => h("li", {}, h("code", {}, name || t("advice.unnamed")))),
      more > 0 && h("li", {}, t("advice.more", { count: formatNumber(more, language()) })),
    ),
  );
}

/** Return the advice as plain text, for a ticket or a message to a colleague. */
export function adviceText(title, chip) {
  const lines = [`${title}${t("advice.colon")}${verdictName(chip.verdict)}`, nodeCounts(chip)];
  for (const { text, nodes = [], count = nodes.length } of chip.findings ?? []) {
    lines.push("", `- ${text}`, ...nodes.map((name) => `    ${name || t("advice.unnamed")}`));
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

/** Return a short sentence about the usual time of a conversion, or "" if it is unknown. */
export function usualTime(usual) {
  if (!usual) return "";
  const median = formatRoughly(usual.median_seconds, language());
  const longest = formatRoughly(usual.p90_seconds, language());
  return median === longest ? t("usual.about", { median }) : t("usual.range", { median, longest });
}
