"""Browsers as Debian ships them, each with a profile of its own, driven by the protocol that it speaks.

Chromium and WebKitGTK have WebDriver servers. Firefox speaks WebDriver BiDi itself. (Its WebDriver server, geckodriver,
is not in Debian.)
"""

import base64
import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import requests
import websocket

from tests.support.processes import wait_until

SECONDS = 60.0
_WIDTH, _HEIGHT = 1280, 900


class CommandFailedError(Exception):
    """The browser could not do what it was told to."""


class Browser(ABC):
    """A browser with one window. Not thread-safe.

    Methods that take a CSS selector wait until an element matches. Downloads arrive in `downloads` without a question.
    """

    def __init__(self, downloads: Path) -> None:
        self.downloads = downloads

    @abstractmethod
    def open(self, url: str) -> None:
        """Go to the address of a page, and wait until it has loaded."""

    @abstractmethod
    def run(self, body: str) -> Any:
        """Run the body of a function in the page, and return what it returns: anything that JSON can express."""

    @abstractmethod
    def press(self, selector: str) -> None:
        """Click an element."""

    @abstractmethod
    def write(self, selector: str, text: str) -> None:
        """Type into a field."""

    @abstractmethod
    def choose(self, selector: str, *paths: Path) -> None:
        """Choose files in a file input."""

    @abstractmethod
    def back(self) -> None:
        """Go back in the history."""

    @abstractmethod
    def picture(self) -> bytes:
        """Return what the window shows, as PNG."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection to the browser. The browser stays."""

    def see(self, selector: str, text: str = "") -> None:
        """Wait until an element is displayed that contains the text."""
        self._wait_for(selector, f"element.checkVisibility() && element.innerText.includes({json.dumps(text)})", text)

    def downloaded(self, suffix: str) -> bytes:
        """Wait until a file with this suffix, and no other, has been downloaded. Remove it, and return its content."""

        def arrived() -> Path | None:
            # Until it is complete, it has another name, or is empty and has a second file beside it.
            found = list(self.downloads.iterdir())
            return found[0] if [path.suffix for path in found] == [suffix] and found[0].stat().st_size else None

        path = wait_until(arrived, f"a {suffix} file has been downloaded", seconds=SECONDS, every=0.1)
        content = path.read_bytes()
        path.unlink()
        return content

    def _wait_for(self, selector: str, condition: str = "true", text: str = "") -> None:
        body = f"return [...document.querySelectorAll({json.dumps(selector)})].some((element) => {condition})"
        try:
            wait_until(lambda: self.run(body), f"the page has {selector} {text}", seconds=SECONDS, every=0.1)
        except AssertionError as error:
            error.add_note(self.run("return location.href + '\\n' + document.body.innerText"))
            raise


class WebDriver(Browser):
    """A browser behind a WebDriver server (https://www.w3.org/TR/webdriver2/)."""

    def __init__(self, url: str, capabilities: dict[str, Any], downloads: Path) -> None:
        """Have the server start the browser."""
        super().__init__(downloads)
        self._http = requests.Session()
        self._http.trust_env = False
        self._base = f"{url}/session"
        session = self._call("", capabilities={"alwaysMatch": capabilities})
        self._base += f"/{session['sessionId']}"
        self._call("/window/rect", width=_WIDTH, height=_HEIGHT)

    def open(self, url: str) -> None:
        self._call("/url", url=url)

    def run(self, body: str) -> Any:
        return self._call("/execute/sync", script=body, args=[])

    def press(self, selector: str) -> None:
        def is_pressed() -> bool:
            # While a view is being shown, an element may have gone or not be in its place.
            try:
                self._call(f"{self._element(selector)}/click")
            except CommandFailedError:
                return False
            return True

        wait_until(is_pressed, f"{selector} can be clicked", seconds=SECONDS, every=0.1)

    def write(self, selector: str, text: str) -> None:
        self._call(f"{self._element(selector)}/value", text=text)

    def choose(self, selector: str, *paths: Path) -> None:
        self.write(selector, "\n".join(map(str, paths)))

    def back(self) -> None:
        self._call("/back")

    def picture(self) -> bytes:
        return base64.b64decode(self._call("/screenshot", "GET"))

    def close(self) -> None:
        self._http.close()

    def _element(self, selector: str) -> str:
        self._wait_for(selector)
        [element] = self._call("/element", using="css selector", value=selector).values()
        return f"/element/{element}"

    def _call(self, path: str, method: str = "POST", **parameters: Any) -> Any:
        body = parameters if method == "POST" else None
        value = self._http.request(method, self._base + path, json=body, timeout=2 * SECONDS).json()["value"]
        if isinstance(value, dict) and "error" in value:
            raise CommandFailedError(f"{method} {path}: {value['error']}: {value['message']}")
        return value


class BiDi(Browser):
    """A browser that speaks WebDriver BiDi (https://www.w3.org/TR/webdriver-bidi/)."""

    def __init__(self, url: str, downloads: Path) -> None:
        """Connect to a browser that has just been started."""
        super().__init__(downloads)
        self._socket = websocket.create_connection(f"{url}/session", timeout=2 * SECONDS, suppress_origin=True)
        self._calls = 0
        self._call("session.new", capabilities={})
        self._context = self._call("browsingContext.getTree")["contexts"][0]["context"]
        self._in_page("browsingContext.setViewport", viewport={"width": _WIDTH, "height": _HEIGHT})

    def open(self, url: str) -> None:
        self._in_page("browsingContext.navigate", url=url, wait="complete")

    def run(self, body: str) -> Any:
        text = self._evaluate(f"JSON.stringify((() => {{ {body} }})() ?? null)")["value"]
        return json.loads(text)

    def press(self, selector: str) -> None:
        element = self._element(selector)
        self._evaluate(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'nearest'}})")
        move = {"type": "pointerMove", "x": 0, "y": 0, "origin": {"type": "element", "element": element}}
        actions = [move, {"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]
        self._in_page("input.performActions", actions=[{"type": "pointer", "id": "mouse", "actions": actions}])

    def write(self, selector: str, text: str) -> None:
        self.press(selector)
        keys = [{"type": kind, "value": key} for key in text for kind in ("keyDown", "keyUp")]
        self._in_page("input.performActions", actions=[{"type": "key", "id": "keyboard", "actions": keys}])

    def choose(self, selector: str, *paths: Path) -> None:
        self._in_page("input.setFiles", element=self._element(selector), files=[str(path) for path in paths])

    def back(self) -> None:
        self._in_page("browsingContext.traverseHistory", delta=-1)

    def picture(self) -> bytes:
        return base64.b64decode(self._in_page("browsingContext.captureScreenshot")["data"])

    def close(self) -> None:
        self._socket.close()

    def _element(self, selector: str) -> dict[str, Any]:
        self._wait_for(selector)
        return {"sharedId": self._evaluate(f"document.querySelector({json.dumps(selector)})")["sharedId"]}

    def _evaluate(self, expression: str) -> dict[str, Any]:
        target = {"context": self._context}
        answer = self._call("script.evaluate", expression=expression, target=target, awaitPromise=False)
        assert answer["type"] == "success", answer
        return dict(answer["result"])

    def _in_page(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._call(method, context=self._context, **parameters)

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._calls += 1
        self._socket.send(json.dumps({"id": self._calls, "method": method, "params": parameters}))
        # No events are subscribed to, so the next message is the answer.
        answer = json.loads(self._socket.recv())
        if answer["type"] != "success":
            raise CommandFailedError(f"{method}: {answer['error']}: {answer['message']}")
        return dict(answer["result"])
