// Entry point: what every page needs, and the console if the user is signed in.

import { toast } from "./announcer.js";
import { speak, t } from "./i18n.js";
import { prepareLanguage, prepareTheme } from "./preferences.js";
import { finishSignIn, prepareSignIn, signInAtOnce } from "./sign_in.js";

const { page, userId } = document.body.dataset;
if (page === "home" || page === "signed-in") {
  if (userId) await finishSignIn();
  else if (page === "home") prepareSignIn();
  else signInAtOnce();
}
await speak(document.documentElement.lang);
// The server renders the API reference, so its language link loads a new page.
if (page !== "docs") prepareLanguage(() => toast(t("language.failed"), "alert"));
prepareTheme();

// Move the focus by hand, because the fragment of the address selects the view.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  document.getElementById("main").focus();
});

if (page === "signed-in" && userId) {
  const { broadcast } = await import("./tabs.js");
  // The other tab continues. This tab cannot close itself, because it was not opened by a script.
  broadcast("signed-in");
  const wanted = document.getElementById("wanted");
  // Only once: the user may come back to this page.
  if (wanted && !history.state?.isOpened) {
    history.replaceState({ isOpened: true }, "");
    wanted.click();
  }
} else if (page === "home" && userId) {
  const { startConsole } = await import("./console.js");
  startConsole();
}
document.documentElement.dataset.ready = "true";
