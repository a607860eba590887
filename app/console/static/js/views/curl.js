// A dialog with the API calls of a conversion as curl commands, each with a copy button.

import { PLACEHOLDER } from "../curl.js";
import { showDialog } from "../dialogs.js";
import { h } from "../dom.js";
import { t } from "../i18n.js";
import { copyButton } from "./problem.js";

/**
 * Show the calls that `list` returns for `{origin, cookie}`, see `curl.js`. `missing` is the number of reference images
 * that the calls lack because the page no longer knows their names.
 */
export function showCurl(list, missing = 0) {
  const place = { origin: location.origin, cookie: document.body.dataset.cookie };
  const cookie = t("curl.cookie", { placeholder: PLACEHOLDER, cookie: place.cookie });
  const { dialog } = showDialog({ title: t("curl.open"), text: t("curl.text") }, [
    h("p", {}, cookie),
    missing > 0 && h("p", {}, t("curl.references", { n: missing })),
    list(place).map(callSection),
    h("div", { class: "actions end" }, h("button", { class: "button quiet", value: "" }, t("dialog.close"))),
  ]);
  dialog.classList.add("wide");
}

function callSection({ name, command }) {
  const title = t(`curl.call.${name}`);
  const code = h("code", {}, command);
  return h(
    "section",
    { class: "curl-call", dataset: { call: name } },
    h("div", {}, h("h3", {}, title), copyButton(() => command, code, t("copy"))),
    // Focusable, so that keys can scroll a long command.
    h("pre", { tabindex: "0", role: "group", "aria-label": title }, code),
  );
}
