"""Uploads by XMLHttpRequest in Chromium, from a page of the gateway's own, headless."""

import time
from typing import Any

from playwright.sync_api import Page

from tests.support.chromium import shared_browser
from tests.support.early_clients.uploads import INIT, MODEL_BYTES, Outcome, Upload

EVENTS_SECONDS = 5.0

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

_SEND_ELSEWHERE = """
async ({url, size, times}) => {
  const model = new Blob([new Uint8Array(size)]);
  for (let turn = 0; turn < times; turn += 1) {
    const form = new FormData();
    form.append('model', model, 'model.onnx');
    await new Promise((resolve) => {
      const xhr = new XMLHttpRequest();
      xhr.open('POST', url);
      xhr.withCredentials = true;
      xhr.onloadend = resolve;
      xhr.send(form);
    });
  }
}
"""


class ChromiumClient:
    """One browser, one page. It never sends chunked bodies; as another site's page it can do one thing only."""

    can_chunk = False
    can_be_cross_site = False

    def __init__(self) -> None:
        self._context = shared_browser().new_context()
        self._page = self._context.new_page()

    def send(self, base_url: str, cookie: str, upload: Upload, times: int) -> list[Outcome]:
        page = self._page_at(base_url, cookie)
        wish = upload.as_json("", times)
        found: list[dict[str, Any]] = page.evaluate(_SEND, wish)
        return [
            Outcome.of(one["status"], one["body"], "" if one["status"] else "network error", one["next_status"])
            for one in found
        ]

    def statuses_from_elsewhere(self, page_url: str, base_url: str, cookie: str, times: int) -> list[int]:
        """Upload from a page of another origin, whose cookies go along; the statuses that have come over the wire.

        The page itself is shown none of them (the same-origin policy), so the browser's network log is asked.
        """
        page = self._page_at(base_url, cookie)
        page.goto(page_url)
        log = self._context.new_cdp_session(page)
        ours: set[str] = set()
        statuses: dict[str, int] = {}

        def note_request(event: dict[str, Any]) -> None:
            # The browser asks for other things as well: a page's icon, whenever it thinks of it.
            if event["request"]["url"] == base_url + INIT:
                ours.add(event["requestId"])

        def note_response(event: dict[str, Any]) -> None:
            statuses[event["requestId"]] = int(event["statusCode"])

        log.on("Network.requestWillBeSent", note_request)
        log.on("Network.responseReceivedExtraInfo", note_response)
        log.send("Network.enable")
        page.evaluate(_SEND_ELSEWHERE, {"url": base_url + INIT, "size": MODEL_BYTES, "times": times})
        # Its network is a process of its own, so the last events may arrive after the page's response.
        ends_at = time.monotonic() + EVENTS_SECONDS
        while not (len(ours) == times and ours <= statuses.keys()) and time.monotonic() < ends_at:
            page.wait_for_timeout(20)
        log.detach()
        return [statuses.get(number, 0) for number in ours]

    def close(self) -> None:
        self._context.close()

    def _page_at(self, base_url: str, cookie: str) -> Page:
        self._context.clear_cookies()
        for pair in cookie.split("; ") if cookie else []:
            name, _, value = pair.partition("=")
            self._context.add_cookies([{"name": name, "value": value, "url": base_url}])
        if not self._page.url.startswith(base_url + "/"):
            self._page.goto(base_url + "/")
        return self._page
