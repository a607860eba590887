// A job without a result: the converter's message, what it means, and what to do next.

import { chipName } from "../../chips.js";
import { h, icon } from "../../dom.js";
import { t } from "../../i18n.js";
import { againButton } from "../again.js";
import { nodeList } from "../advice.js";
import { convertersMessage, copyButton } from "../problem.js";

/** A failure shows the names of so many nodes at once, and folds more. */
const MOST_OPEN_NODES = 5;
/** The field of the form that the user should change, by the key of the explanation. */
const FIELDS = { analysis_killed: "references", missing_reference_images: "references", shape_mismatch: "model" };

/** Return what happened, for a job that has failed or was canceled. */
export function failurePanel(job) {
  const { status, explanation } = job;
  const isFailed = status === "failed";
  const nodes = explanation?.nodes ?? [];
  const message = messageOf(job);
  const body = h(
    "div",
    { class: "problem-body" },
    h("p", { class: "problem-title" }, t(isFailed ? "job.failed.title" : "job.cancelled.title")),
    message && convertersMessage(message),
    h("p", {}, meaningOf(job)),
    nodeList(nodes, { operator: explanation?.operator, open: nodes.length <= MOST_OPEN_NODES }),
    h("p", { class: "request-id" }, `${t("job.number")} `, h("code", {}, job.job_id)),
  );
  if (isFailed) body.append(h("div", {}, copyButton(() => failureText(job), body, t("job.failed.copy"))));
  return h("div", { class: "problem bad", role: "alert" }, h("span", { class: "problem-icon" }, icon("alert")), body);
}

/** Return the buttons that lead back to the form, the most promising first. */
export function nextSteps(job, conversion) {
  const { key, operator, chips = [] } = job.explanation ?? {};
  const again = (text, more) => againButton(text, job, conversion, more);
  // If no chip runs the operator, the model has to change.
  const field = operator && chips.length === 0 ? "model" : FIELDS[key];
  const platform = chips.includes(job.advice?.recommended) ? job.advice.recommended : chips[0];
  const otherChip = (more) => again(t("job.again.chip"), { field: "platform", ...more });
  const same = again(t("job.again"), { kind: "quiet" });
  if (job.status !== "failed" || isLost(job)) return [again(t("job.again"))];
  if (field) return [again(t(`job.again.${field}`), { field }), otherChip({ kind: "quiet" })];
  if (platform) return [again(t("job.again.on", { chip: chipName(platform) }), { field: "platform", platform }), same];
  return [otherChip(), same];
}

/** Return the failure as plain text, for a ticket or a message to a colleague. */
export function failureText(job) {
  const name = job.filename || t("job.unnamed");
  const lines = [
    t("job.advice.of", { name, chip: chipName(job.parameters?.platform) }) + t("advice.colon") + t("job.failed.title"),
    `${t("job.number")} ${job.job_id}`,
    job.stage && t("job.failed.stage", { stage: t(`stage.${job.stage}`) }),
    messageOf(job) && `\n${messageOf(job)}`,
    `\n${meaningOf(job)}`,
  ];
  return `${lines.filter(Boolean).join("\n")}\n`;
}

/** The gateway's own failure: the converter has lost the job. */
const isLost = ({ error }) => error?.code === "job_lost";

const messageOf = (job) => (isLost(job) ? "" : (job.error?.message ?? ""));

/** Return what the failure means, as far as the gateway knows the converter's message. */
function meaningOf(job) {
  if (job.status !== "failed") return t("job.cancelled.next");
  if (isLost(job)) return t("job.failed.lost");
  return job.explanation?.text ?? t("job.failed.next");
}
