// Where the page begins: what every page has, and for those who are signed in, the console.

import { toast } from "./announcer.js";
import { speak, t } from "./i18n.js";
import { prepareLanguage, prepareTheme } from "./preferences.js";

await speak(document.documentElement.lang);
const { page, userId } = document.body.dataset;
// The reference is rendered by the server, so its language changes with a new page, as the link itself says.
if (page !== "docs") prepareLanguage(() => toast(t("language.failed"), "alert"));
prepareTheme();

// By hand, because the part of the address behind "#" says which view is shown.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  document.getElementById("main").focus();
});

if (page === "signed-in" && userId) {
  const { tell } = await import("./tabs.js");
  // The tab that waits for it goes on. This one cannot close itself: a person has opened it, and not a script.
  tell("signed-in");
} else if (page === "home" && userId) {
  const { startConsole } = await import("./console.js");
  startConsole();
}
document.documentElement.dataset.ready = "true";
