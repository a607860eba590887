// The model that was chosen before a reload, or of an earlier conversion: open it again, if the browser can.

import { h } from "../../dom.js";
import { t } from "../../i18n.js";
import { openHandle } from "../../model_handles.js";
import { shortName } from "../../names.js";
import { button } from "../problem.js";

/** Return an area that opens the expected model, or offers to do so if the browser has to ask for permission. */
export function reopenArea(form, handles, choose) {
  const element = h("div", { class: "reopen", hidden: true });
  let shown = null;

  function update() {
    const wanted = form.model ? null : form.expected;
    if (wanted === shown) return;
    shown = wanted;
    show();
    if (wanted) offer(wanted);
  }

  async function offer(wanted) {
    try {
      const handle = await handles.find(wanted.name);
      const file = handle && !wanted.isRemoved && (await openHandle(handle));
      if (shown !== wanted) return;
      if (file) choose(file);
      else if (handle) show(reopenButton(handle, wanted.name));
    } catch {
      // The file is no longer there, or IndexedDB doesn't work. The user can choose the file.
    }
  }

  function reopenButton(handle, name) {
    return button(t("form.model.reopen", { name: shortName(name) }), {
      symbol: "file",
      kind: "quiet",
      id: "reopen",
      async run() {
        try {
          const file = await openHandle(handle, { ask: true });
          if (!file) return;
          choose(file);
          document.getElementById("model").focus();
        } catch {
          show(h("p", { class: "error", role: "alert" }, t("form.model.reopen.gone", { name: shortName(name) })));
        }
      },
    });
  }

  function show(...content) {
    element.hidden = content.length === 0;
    element.replaceChildren(...content);
  }

  return { element, update };
}
