// The search field and the filters above a list.

import { announce } from "../announcer.js";
import { CHIPS, chipName } from "../chips.js";
import { h, icon, setText } from "../dom.js";
import { MOST_CHARACTERS, STATUSES, tidy } from "../filters.js";
import { formatNumber } from "../format.js";
import { language, t } from "../i18n.js";
import { button } from "./problem.js";

const DEBOUNCE_MILLISECONDS = 250;

/**
 * Return the search field and the filters, with these values. `onChange(filters)` is called when the user has paused.
 * `names` are the keys of the texts: `history` or `models`.
 */
export function searchBar({ filters, hasStatus, names, onChange }) {
  const words = h("input", {
    class: "input",
    type: "search",
    value: filters.q ?? "",
    maxlength: MOST_CHARACTERS,
    placeholder: t(`${names}.search`),
    "aria-label": t(`${names}.search`),
    autocomplete: "off",
    spellcheck: "false",
  });
  const chip = choice("platform", t("list.chip.all"), CHIPS, chipName);
  const status = hasStatus && choice("status", t("list.status.all"), STATUSES, (name) => t(`list.status.${name}`));
  const count = h("p", { class: "quiet-text" });
  const clear = button(t("list.clear"), { kind: "plain small", run: clearAll });
  const result = h("div", { class: "search-result vacant" }, count, clear);
  const element = h(
    "form",
    { class: "search", role: "search", "aria-label": t(`${names}.search.label`), on: { submit: searchNow } },
    h("div", { class: "search-words" }, icon("search"), words),
    h("div", { class: "search-choice" }, chip, icon("right")),
    status && h("div", { class: "search-choice" }, status, icon("right")),
    result,
  );
  let timer = null;
  let shown = JSON.stringify(filters);

  function choice(name, all, values, nameOf) {
    const options = [["", all], ...values.map((value) => [value, nameOf(value)])];
    const select = h(
      "select",
      { class: "input", "aria-label": t(`list.${name}`), on: { change: apply } },
      options.map(([value, text]) => h("option", { value }, text)),
    );
    select.value = filters[name] ?? "";
    return select;
  }

  function apply() {
    clearTimeout(timer);
    const values = { q: tidy(words.value), platform: chip.value, status: status ? status.value : "" };
    const changed = Object.fromEntries(Object.entries(values).filter(([, value]) => value));
    if (JSON.stringify(changed) === shown) return;
    shown = JSON.stringify(changed);
    reserveResult(changed);
    onChange(changed);
  }

  /** Give the result its line before it is known, so that the list stays where it is. */
  function reserveResult(values) {
    result.hidden = Object.keys(values).length === 0;
    if (result.hidden) result.classList.add("vacant");
  }

  function searchNow(event) {
    event.preventDefault();
    apply();
  }

  function clearAll() {
    words.value = "";
    chip.value = "";
    if (status) status.value = "";
    apply();
    words.focus();
  }

  words.addEventListener("input", (event) => {
    // Wait until the characters are composed.
    if (event.isComposing) return;
    clearTimeout(timer);
    timer = setTimeout(apply, DEBOUNCE_MILLISECONDS);
  });
  words.addEventListener("compositionend", apply);
  reserveResult(filters);
  return {
    element,
    clearAll,
    /** Show how many items were found, and announce it if the user has just searched. `hasMore`: there are others. */
    showCount(number, { hasMore, isSearch }) {
      const values = { n: hasMore ? 0 : number, count: formatNumber(number, language()) };
      // If nothing was found, the list says so.
      result.classList.toggle("vacant", result.hidden || number === 0);
      setText(count, t(hasMore ? "list.found.more" : number === 0 ? "list.found.none" : "list.found", values));
      if (isSearch) announce(count.textContent);
    },
    destroy: () => clearTimeout(timer),
  };
}
