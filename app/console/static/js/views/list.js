// A paginated list: loading, failed, empty, and loading more on request.

import { h } from "../dom.js";
import { t } from "../i18n.js";
import { onMessage } from "../tabs.js";
import { skeletonRows } from "./pieces.js";
import { button, failedState, problemPanel } from "./problem.js";

const STALE_MILLISECONDS = 15_000;

/** One listener for messages from other tabs; it updates the list that is shown. */
let shown = null;
onMessage((event) => shown?.onMessage(event));
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) shown?.refreshIfStale();
});

/**
 * `fetchPage(cursor)` resolves to `{items, next}`. `row(item, list)` returns an element, and `empty()` what to show
 * without items. `event` is the message that other tabs send after a change.
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
      // Load as many as before, so that the list doesn't get shorter while the user reads it.
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
      // Keep showing the items that are already there.
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

  /** Don't reload while a name is being edited or a dialog about a row is open. */
  const isEdited = () => element.querySelector("input") !== null || document.querySelector("dialog[open]") !== null;

  const leave = session.subscribe(() => {
    if (session.state === "alive" && !isEdited()) load();
  });
  const list = {
    element,
    load,
    onMessage: (message) => {
      if (message === event && !isEdited()) load();
    },
    refreshIfStale: () => {
      if (performance.now() - loadedAt > STALE_MILLISECONDS && !isEdited()) load();
    },
    /** Remove an item. */
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
