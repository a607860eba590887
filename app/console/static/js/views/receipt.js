// The link that downloads a job's receipt.

import * as api from "../api.js";
import { guardLink } from "../downloads.js";
import { h, icon } from "../dom.js";
import { t } from "../i18n.js";
import { problemPanel } from "./problem.js";

/** Return the link. A problem is shown in `problemArea`. */
export function receiptLink(jobId, { isUploading, problemArea }) {
  const link = h(
    "a",
    { class: "receipt", href: api.receiptPath(jobId) },
    icon("download"),
    h("span", {}, t("job.receipt")),
  );
  guardLink(link, {
    check: () => api.receipt(jobId),
    isUploading,
    onBusy(isBusy) {
      if (isBusy) problemArea.replaceChildren();
      link.classList.toggle("busy", isBusy);
    },
    onProblem: (problem) => problemArea.replaceChildren(problemPanel(problem)),
  });
  return link;
}
