// A list that the API hands out page by page: loading, failing, empty, and more on request.

import { h } from "../dom.js";
import { t } from "../i18n.js";
import { onTold } from "../tabs.js";
import { skeletonRows } from "./pieces.js";
import { button, failedState, problemPanel } from "./problem.js";

const STALE_MILLISECONDS = 15_000;

/** A list has few listeners of its own: one for all lists, told to the one that is shown. */
let shown = null;
onTold((event) => shown?.told(event));
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) shown?.refreshIfStale();
});

/**
 * `fetchPage(cursor)` resolves to `{items, next}`; `row(item, list)` makes an element, `empty()` what is shown without
 * items; `event` is what other tabs say when they have changed something.
 */
export function pagedList({ session, fetchPage, row, empty, event, label }) {
  const element = h("div", { class: "list" });
  const rows = h("ul", { class: "rows panel", "aria-label": label });
  const more = h("div", { class: "more" });
  let items = [];
  let loadedAt = -Infinity;
  let run = 0;

  async function load() {
    const mine = ++run;
    if (loadedAt === -Infinity) element.replaceChildren(skeletonRows(4));
    element.setAttribute("aria-busy", "true");
    try {
      // As many as were shown before, so that the list does not shrink under the reader.
      const wanted = items.length;
      let page = await fetchPage(null);
      const found = [...page.items];
      while (mine === run && page.next && found.length < wanted) {
        page = await fetchPage(page.next);
        found.push(...page.items);
      }
      if (mine !== run) return;
      items = found;
      loadedAt = performance.now();
      show(page.next);
    } catch (problem) {
      if (mine !== run) return;
      // What is there already is better than nothing.
      if (loadedAt === -Infinity) element.replaceChildren(failedState(problem, load));
    } finally {
      if (mine === run) element.setAttribute("aria-busy", "false");
    }
  }

  function show(next) {
    if (items.length === 0) {
      element.replaceChildren(empty());
      return;
    }
    rows.replaceChildren(...items.map((item) => row(item, list)));
    offerMore(next);
    element.replaceChildren(rows, more);
  }

  function offerMore(next, problem = null) {
    more.replaceChildren(
      ...[
        problem && problemPanel(problem),
        next && button(t("list.more"), { kind: "quiet", run: (event_) => loadMore(next, event_.currentTarget) }),
      ].filter(Boolean),
    );
  }

  async function loadMore(cursor, pressed) {
    if (pressed.classList.contains("busy")) return;
    const mine = run;
    pressed.classList.add("busy");
    try {
      const page = await fetchPage(cursor);
      if (mine !== run) return;
      const added = page.items.map((item) => row(item, list));
      items.push(...page.items);
      rows.append(...added);
      offerMore(page.next);
      added[0]?.querySelector("a, button")?.focus();
    } catch (problem) {
      if (mine === run) offerMore(cursor, problem);
    }
  }

  /** A name that is being written would be lost with its row; so would the row that a question is about. */
  const isEdited = () => element.querySelector("input") !== null || document.querySelector("dialog[open]") !== null;

  const leave = session.subscribe(() => {
    if (session.state === "alive" && !isEdited()) load();
  });
  const list = {
    element,
    load,
    told: (told) => {
      if (told === event && !isEdited()) load();
    },
    refreshIfStale: () => {
      if (performance.now() - loadedAt > STALE_MILLISECONDS && !isEdited()) load();
    },
    /** An item has gone. */
    remove(id) {
      items = items.filter((item) => item.id !== id);
      rows.querySelector(`[data-id="${CSS.escape(id)}"]`)?.remove();
      if (items.length === 0) load();
    },
    destroy() {
      leave();
      if (shown === list) shown = null;
    },
  };
  shown = list;
  load();
  return list;
}
