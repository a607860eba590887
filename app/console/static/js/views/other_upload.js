// Another upload of this user, in another tab or program, because of which this one can't start.

import { confirmLoss } from "../dialogs.js";
import { formatClock, formatSize } from "../format.js";
import { language, t } from "../i18n.js";
import { button } from "./problem.js";

/** Return when an upload began and how far it is, or null without one. */
export function progressOf(upload) {
  if (!upload) return null;
  const { started_at: startedAt, received_bytes: received, total_bytes: total } = upload;
  const key = total === null ? "other_upload.received" : "other_upload.progress";
  const sizes = { received: formatSize(received, language()), total: formatSize(total, language()) };
  return t(key, { time: formatClock(startedAt, language()), ...sizes });
}

/** Return the button that ends the upload, after a question, and then calls `goOn` with its ID. */
export function stopButton({ upload_id: id }, goOn) {
  return button(t("other_upload.stop"), {
    symbol: "cross",
    kind: "quiet",
    id: "stop-upload",
    async run() {
      const question = { title: t("other_upload.stop.title"), text: t("other_upload.stop.text"), symbol: "cross" };
      if (await confirmLoss({ ...question, yes: t("other_upload.stop") })) goOn(id);
    },
  });
}
