// Signing in. Afterwards the user sees the view that the address names, and the browser's Back does not lead to Member
// Center's login page: we go back in the history to the page where the sign-in began, which the server now renders for a
// signed-in user, and on from there, which removes the entries of the sign-in.

import { tab } from "./storage.js";

const KEY = "sign-in";
// Browsers forget the oldest of more than 50 entries, and the length then says nothing.
const MOST_ENTRIES = 40;
const LONGEST_WAIT_MILLISECONDS = 5000;

/** Prepare the links of the welcome page. */
export function prepareSignIn() {
  // A sign-in that was begun earlier was not completed.
  tab.remove(KEY);
  const links = document.querySelectorAll("a[href^='/auth/login']");
  // The server does not see the fragment, so the link must carry it.
  const show = () => {
    for (const link of links) link.href = `/auth/login?next=${encodeURIComponent(address())}`;
  };
  window.addEventListener("hashchange", show);
  show();
  beginByClick(links);
}

/** Begin the sign-in of a page whose only purpose it is, unless the user has come back from there. */
export function signInAtOnce() {
  tab.remove(KEY);
  const link = document.querySelector("main a[href^='/auth/login']");
  beginByClick([link]);
  if (!history.state?.isSignInStart) link.click();
}

const address = () => location.pathname + location.hash;

function beginByClick(links) {
  for (const link of links) link.addEventListener("click", begin);
  window.addEventListener("pageshow", (event) => {
    // The browser has restored the page as it was, perhaps before a sign-in.
    if (event.persisted) location.reload();
  });
}

function begin(event) {
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey || history.length > MOST_ENTRIES) return;
  event.preventDefault();
  history.replaceState({ isSignInStart: true }, "");
  // The sign-in returns to a second entry of this page. In WebKit, Back skips an entry that a page has added without a
  // click, such as the one that `finishSignIn` adds, together with the entry below. It then leads to the first one.
  history.pushState({ isSignInStart: true }, "");
  // A new entry ends the history, so its length tells where we are. The sign-in replaces this entry.
  history.pushState(null, "");
  tab.set(KEY, { length: history.length, address: address() });
  location.replace(event.currentTarget.href);
}

/** Leave the sign-in's part of the history, if a sign-in that began on a page of ours has just been completed. */
export async function finishSignIn() {
  const begun = tab.get(KEY);
  if (!begun) return;
  if (history.state?.isSignInStart) {
    tab.remove(KEY);
    history.replaceState(null, "");
    history.pushState(null, "");
    return;
  }
  const steps = history.length - begun.length + 1;
  // The user may have left the sign-in and opened another address here. The server uses / for addresses that it refuses.
  const isElsewhere = ![begun.address, "/"].includes(address());
  if (begun.isReturning || isElsewhere || steps < 1) {
    tab.remove(KEY);
    return;
  }
  tab.set(KEY, { ...begun, isReturning: true });
  history.go(-steps);
  // If the browser counts its entries in another way, nothing happens, and the page continues.
  await new Promise((resolve) => {
    const timer = setTimeout(resolve, LONGEST_WAIT_MILLISECONDS);
    window.addEventListener("beforeunload", () => clearTimeout(timer));
  });
}
