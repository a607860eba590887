// Downloads are navigations, for the browser to carry out: the file never passes through a script. A navigation that
// fails would show a page of JSON, so whether it would work is asked first.

/** Leave the page for a file, but not while an upload would end with it. */
export function navigateTo(path, { isUploading }) {
  if (isUploading) window.open(path, "_blank", "noopener");
  else location.assign(path);
}

/** Follow a link only if `check` resolves; what it rejects with goes to `onProblem`. */
export function guardLink(link, { check, isUploading, onBusy, onProblem, onReady = () => {} }) {
  let isBusy = false;
  link.addEventListener("click", async (event) => {
    // Whoever wants a new tab gets it as everywhere else.
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    if (isBusy) return;
    isBusy = true;
    onBusy(true);
    try {
      await check();
      onReady();
      navigateTo(link.getAttribute("href"), { isUploading: isUploading() });
    } catch (problem) {
      onProblem(problem);
    } finally {
      isBusy = false;
      onBusy(false);
    }
  });
}
