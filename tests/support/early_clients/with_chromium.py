"""Uploads by XMLHttpRequest in Chromium, from a page of the gateway's own, headless."""

import shutil
from contextlib import ExitStack
from typing import Any

from playwright.sync_api import Page, sync_playwright

from tests.support.early_clients.uploads import Outcome, Upload

_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

_SEND = """
async (wish) => {
  window.models ??= new Map();
  if (!window.models.has(wish.model_bytes)) {
    const pieces = [];
    for (let left = wish.model_bytes; left > 0; left -= 1000000) pieces.push(new Uint8Array(Math.min(left, 1000000)));
    window.models.set(wish.model_bytes, new Blob(pieces));
  }
  const model = window.models.get(wish.model_bytes);
  const bodyOf = () => {
    if (wish.prefix !== null) return new Blob([wish.prefix, model]);
    const form = new FormData();
    form.append('model_id', '32769');
    form.append('version', '0001');
    form.append('platform', '720');
    form.append('model', model, 'model.onnx');
    return form;
  };
  const request = (method, path, headers, body) => new Promise((resolve) => {
    const xhr = new XMLHttpRequest();
    xhr.open(method, path);
    for (const [name, value] of Object.entries(headers)) xhr.setRequestHeader(name, value);
    xhr.upload.onprogress = () => {};
    xhr.onloadend = () => resolve({status: xhr.status, body: xhr.responseText});
    xhr.send(body);
  });
  const headers = wish.content_type ? {...wish.headers, 'Content-Type': wish.content_type} : wish.headers;
  const outcomes = [];
  for (let turn = 0; turn < wish.times; turn += 1) {
    const first = await request('POST', wish.init, headers, bodyOf());
    const after = await request('GET', wish.follow_up, {}, null);
    outcomes.push({...first, next_status: after.status});
  }
  return outcomes;
}
"""


class ChromiumClient:
    """One browser, one page. It never sends chunked bodies, and its own pages are never another site's."""

    can_chunk = False
    can_be_cross_site = False

    def __init__(self) -> None:
        self._ending = ExitStack()
        with ExitStack() as opened:
            playwright = opened.enter_context(sync_playwright())
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_OPTIONS)
            opened.callback(browser.close)
            self._context = browser.new_context()
            self._page = self._context.new_page()
            self._ending = opened.pop_all()

    def send(self, base_url: str, cookie: str, upload: Upload, times: int) -> list[Outcome]:
        page = self._page_at(base_url, cookie)
        wish = upload.as_json("", times)
        found: list[dict[str, Any]] = page.evaluate(_SEND, wish)
        return [
            Outcome.of(one["status"], one["body"], "" if one["status"] else "network error", one["next_status"])
            for one in found
        ]

    def close(self) -> None:
        self._ending.close()

    def _page_at(self, base_url: str, cookie: str) -> Page:
        self._context.clear_cookies()
        for pair in cookie.split("; ") if cookie else []:
            name, _, value = pair.partition("=")
            self._context.add_cookies([{"name": name, "value": value, "url": base_url}])
        if not self._page.url.startswith(base_url + "/"):
            self._page.goto(base_url + "/")
        return self._page
