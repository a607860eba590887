// A paginated list with a search: loading, failed, empty, nothing found, and more rows as the user scrolls.

import { h } from "../dom.js";
import { addressOf, readFilters } from "../filters.js";
import { t } from "../i18n.js";
import { onMessage } from "../tabs.js";
import { emptyState, skeletonRows } from "./pieces.js";
import { button, failedState, problemPanel } from "./problem.js";
import { searchBar } from "./search.js";

const STALE_MILLISECONDS = 15_000;
const FIRST_PAGE = 20;
const FURTHER_PAGE = 50;
const MOST_PER_PAGE = 100;
/** Rows of the skeleton: enough to fill the screen, so that the foot of the page doesn't move, or for a short list. */
const MANY_BONES = 12;
const FEW_BONES = 3;
/** How far below the screen the next page is loaded. */
const AHEAD = "800px";

/** One listener for each event; it updates the list that is shown. */
let shown = null;
onMessage((event) => shown?.onMessage(event));
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) shown?.refreshIfStale();
});
// Before a click leads elsewhere, the current entry of the browser's history is still the list's.
document.addEventListener("click", (event) => shown?.remember(event.target), true);
// A reload shows the same rows again.
window.addEventListener("beforeunload", (event) => shown?.remember(event.target));

/** The list that was left last: its address, its items, the cursor after them, and the position of the last click. */
let left = null;
let isReturning = false;

/** Return a link to a list. If it was left last, the link leads to the same search, rows and position. */
export function linkBack(route, ...children) {
  const address = left?.route === route ? left.address : `#/${route}`;
  const click = (event) => {
    // With one of these keys, the link opens a new tab.
    isReturning = !(event.ctrlKey || event.metaKey || event.shiftKey);
  };
  return h("a", { class: "back", href: address, on: { click } }, ...children);
}

/**
 * Return a list whose filters are in the address.
 *
 * `fetchPage({cursor, limit, filters, signal})` resolves to `{items, next}`. `row(item, list)` returns an element with
 * `data-id`, `head()` the names of the columns, and `empty()` what to show if there are no items at all. `route` is the
 * view's name in the address and in the keys of texts, `event` the message that other tabs send after a change.
 */
export function pagedList({ session, fetchPage, row, head, empty, event, route, hasSearch = true, hasStatus = false }) {
  let address = location.hash;
  let filters = hasSearch ? readFilters(address) : {};
  const search = searchBar({ filters, hasStatus, names: route, onChange: filter });
  const content = h("div", { class: "list-content" });
  const element = h("div", { class: "list" }, search.element, content);
  const rows = h("ul", { class: "rows", "aria-label": t(`${route}.title`) });
  const more = h("div", { class: "more" });
  let lastPosition = null;
  let position = history.state?.list ?? null;
  if (isReturning && left?.address === address) position ??= left.position;
  isReturning = false;
  let items = [];
  let next = null;
  let wanted = position?.count ?? FIRST_PAGE;
  let isShown = false;
  let loadedAt = -Infinity;
  let run = 0;
  let aborter = new AbortController();
  let isLoadingMore = false;
  let failure = null;

  const isFiltered = () => Object.keys(filters).length > 0;

  function filter(changed) {
    filters = changed;
    wanted = FIRST_PAGE;
    address = addressOf(route, filters);
    history.replaceState({ ...history.state, list: null }, "", address);
    load({ isSearch: true });
  }

  /** If quiet, don't replace a problem by the same one or by a skeleton. */
  async function load({ isSearch = false, isQuiet = false } = {}) {
    const mine = ++run;
    aborter.abort();
    aborter = new AbortController();
    const { signal } = aborter;
    isLoadingMore = false;
    if (!isShown && !isQuiet) content.replaceChildren(skeletonRows(hasSearch && !isFiltered() ? MANY_BONES : FEW_BONES, head()));
    element.setAttribute("aria-busy", "true");
    try {
      const found = [];
      let cursor = null;
      // As many as before, so that the list doesn't get shorter while the user reads it. A page may be empty.
      do {
        const limit = Math.min(Math.max(wanted - found.length, FIRST_PAGE), MOST_PER_PAGE);
        const page = await fetchPage({ cursor, limit, filters, signal });
        found.push(...page.items);
        cursor = page.next;
      } while (mine === run && cursor && found.length < wanted);
      if (mine !== run) return;
      items = found;
      next = cursor;
      loadedAt = performance.now();
      show({ isSearch });
      list.restore();
    } catch (problem) {
      if (mine !== run) return;
      // Keep showing the items that are already there, unless they are not what the user is looking for.
      if (isShown && !isSearch) return;
      isShown = false;
      if (isQuiet && problem.code === failure) return;
      failure = problem.code;
      content.replaceChildren(failedState(problem, (how) => load({ isSearch, ...how })));
    } finally {
      if (mine === run) element.setAttribute("aria-busy", "false");
    }
  }

  function show({ isSearch = false } = {}) {
    isShown = true;
    search.element.hidden = !hasSearch || (items.length === 0 && !isFiltered());
    showCount({ isSearch });
    if (items.length === 0) {
      content.replaceChildren(isFiltered() ? nothingFound() : empty());
      return;
    }
    const focused = content.contains(document.activeElement) ? rowOf(document.activeElement) : null;
    const first = scrollY > 0 && [...rows.children].find((element) => element.getBoundingClientRect().bottom > 0);
    const top = first ? first.getBoundingClientRect().top : 0;
    rows.replaceChildren(...items.map((item) => row(item, list)));
    offerMore();
    content.replaceChildren(h("div", { class: "panel table" }, head(), rows), more);
    if (focused) focusRow(focused.dataset.id);
    if (first && !isSearch) hold(first.dataset.id, top);
  }

  function showCount({ isSearch = false } = {}) {
    search.showCount(items.length, { hasMore: Boolean(next), isSearch });
  }

  function nothingFound() {
    const action = button(t("list.clear"), { kind: "quiet", run: search.clearAll });
    return emptyState({ symbol: "search", title: t("list.nothing"), text: t(`${route}.nothing`), action });
  }

  function offerMore(problem = null) {
    more.replaceChildren(
      ...[
        problem && problemPanel(problem),
        next && button(t("list.more"), { kind: "quiet", run: () => loadMore({ isAsked: true }) }),
      ].filter(Boolean),
    );
    nearEnd.unobserve(more);
    if (next && !problem) nearEnd.observe(more);
  }

  /** Append the next page. If the user asked for it by the button, focus its first row. */
  async function loadMore({ isAsked }) {
    if (isLoadingMore || !next) return;
    const mine = run;
    isLoadingMore = true;
    more.querySelector("button")?.classList.add("busy");
    try {
      const page = await fetchPage({ cursor: next, limit: FURTHER_PAGE, filters, signal: aborter.signal });
      if (mine !== run) return;
      isLoadingMore = false;
      const hadFocus = more.contains(document.activeElement);
      const added = page.items.map((item) => row(item, list));
      items.push(...page.items);
      next = page.next;
      wanted = items.length;
      rows.append(...added);
      offerMore();
      showCount();
      if (isAsked || hadFocus) added[0]?.querySelector("a, button")?.focus();
    } catch (problem) {
      if (mine !== run) return;
      isLoadingMore = false;
      offerMore(problem);
    }
  }

  const nearEnd = new IntersectionObserver(
    (entries) => {
      if (entries.some(({ isIntersecting }) => isIntersecting)) loadMore({ isAsked: false });
    },
    { rootMargin: `0px 0px ${AHEAD}` },
  );

  const rowOf = (target) => target.closest?.("[data-id]");

  const find = (id) => rows.querySelector(`[data-id="${CSS.escape(id)}"]`);
  const focusRow = (id) => find(id)?.querySelector("a, button")?.focus({ preventScroll: true });

  /** Scroll so that a row is at this distance from the top. Rows get their heights when they come near the screen. */
  function hold(id, top) {
    const scroll = () => window.scrollBy(0, (find(id)?.getBoundingClientRect().top ?? top) - top);
    scroll();
    requestAnimationFrame(() => requestAnimationFrame(scroll));
  }

  /** Don't reload while a name is being edited or a dialog about a row is open. */
  const isEdited = () => rows.querySelector("input") !== null || document.querySelector("dialog[open]") !== null;

  const leave = session.subscribe(() => {
    if (session.state === "alive" && !isEdited()) load();
  });
  const list = {
    element,
    onMessage: (message) => {
      if (message === event && !isEdited()) load();
    },
    refreshIfStale: () => {
      if (performance.now() - loadedAt > STALE_MILLISECONDS && !isEdited()) load();
    },
    /** Remove an item. */
    remove(id) {
      items = items.filter((item) => item.id !== id);
      find(id)?.remove();
      showCount();
      if (items.length === 0) load();
    },
    /** Remember in the browser's history what is on the screen, and the row of the element that was clicked. */
    remember(target) {
      if (!isShown || !element.isConnected) return;
      const clicked = rows.contains(target) ? rowOf(target) : null;
      const seen = { count: items.length, scroll: scrollY };
      if (clicked) Object.assign(seen, { id: clicked.dataset.id, top: clicked.getBoundingClientRect().top });
      lastPosition = seen;
      history.replaceState({ ...history.state, list: seen }, "");
    },
    /** After Back, scroll to where the user was. Return false if that is unknown. */
    restore() {
      if (!position || !isShown || !element.isConnected) return false;
      const { id, top, scroll } = position;
      position = null;
      history.replaceState({ ...history.state, list: null }, "");
      window.scrollTo(0, scroll);
      if (id) {
        focusRow(id);
        hold(id, top);
      }
      return true;
    },
    destroy() {
      if (hasSearch) left = isShown ? { route, address, items, next, position: lastPosition } : null;
      aborter.abort();
      run += 1;
      leave();
      nearEnd.disconnect();
      search.destroy();
      if (shown === list) shown = null;
    },
  };
  shown = list;
  search.element.hidden = !hasSearch;
  if (position && left?.address === address) {
    ({ items, next } = left);
    show();
  }
  load();
  return list;
}
