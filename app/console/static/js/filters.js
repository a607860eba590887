// The search and the filters of a list. They are in the address of its view, such as `#/history?q=yolo&platform=720`, so
// that reloads, bookmarks and the browser's Back have them. Pure functions.

import { CHIPS } from "./chips.js";

export const STATUSES = ["active", "completed", "failed", "cancelled"];
/** The API refuses more characters. */
export const MOST_CHARACTERS = 255;

const CHOICES = { platform: CHIPS, status: STATUSES };

/** Return the path of an address without `#/`, and its query. */
export function splitAddress(hash) {
  const address = hash.replace(/^#\/?/, "");
  const at = address.indexOf("?");
  return at < 0 ? [address, ""] : [address.slice(0, at), address.slice(at + 1)];
}

/** Return the filters in an address: an object without empty and unknown values. */
export function readFilters(hash) {
  const query = new URLSearchParams(splitAddress(hash)[1]);
  const filters = {};
  const words = tidy(query.get("q") ?? "");
  if (words) filters.q = words;
  for (const [name, choices] of Object.entries(CHOICES)) {
    if (choices.includes(query.get(name))) filters[name] = query.get(name);
  }
  return filters;
}

/** Return the address of a view with these filters. */
export function addressOf(route, filters) {
  const query = new URLSearchParams(filters).toString();
  return query ? `#/${route}?${query}` : `#/${route}`;
}

/** Return the text of a search as the API accepts it. */
export function tidy(text) {
  return text.replace(/\p{Cc}/gu, " ").trim().slice(0, MOST_CHARACTERS);
}
