// The switch for a notification at the end of a conversion.

import { announce } from "../../announcer.js";
import { h, setText } from "../../dom.js";
import { t } from "../../i18n.js";
import { canNotify, isNotifying, setNotifying } from "../../notifications.js";
import { button } from "../problem.js";

/** Return the switch and the note below it; both are null in browsers without notifications. */
export function notifySwitch() {
  if (!canNotify()) return { button: null, note: null };
  const note = h("p", { class: "quiet-text" });
  const element = button(t("notify.ask"), { symbol: "bell", kind: "quiet", run: change, id: "notify" });

  function show() {
    const isOn = isNotifying();
    element.setAttribute("aria-pressed", String(isOn));
    element.querySelector("use").setAttribute("href", isOn ? "#i-check" : "#i-bell");
  }

  async function change() {
    const permission = await setNotifying(!isNotifying());
    const isDenied = permission === "denied";
    setText(note, isDenied ? t("notify.denied") : "");
    if (isDenied) announce(t("notify.denied"));
    show();
  }

  show();
  return { button: element, note };
}
