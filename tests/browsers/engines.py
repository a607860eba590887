"""Starting each browser for one test, with everything that it writes in one directory."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import requests

from tests.browsers.drivers import BiDi, Browser, WebDriver
from tests.support import chromium
from tests.support.processes import Child, free_port

#: WebDriver servers leave their browsers behind when they are ended by a signal.
_WITH_BROWSER = ["sh", "-c", 'trap "kill -9 0" TERM; "$@" & wait', "sh"]
_FIREFOX_PREFERENCES = {
    "browser.download.folderList": 2,
    "browser.download.always_ask_before_handling_new_types": False,
    "intl.accept_languages": "en-US",
}


@contextmanager
def _started(name: str, command: list[str], directory: Path, **environment: str) -> Iterator[Child]:
    child = Child(
        name,
        command,
        directory / f"{name}.log",
        environment={**os.environ, "HOME": str(directory), "TMPDIR": str(directory), "LANG": "C.UTF-8", **environment},
    )
    try:
        yield child
    finally:
        child.stop()


@contextmanager
def _served(
    name: str, command: list[str], directory: Path, capabilities: dict[str, Any], **environment: str
) -> Iterator[Browser]:
    """Start a WebDriver server and its browser."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"

    def is_ready() -> bool:
        try:
            return bool(requests.get(f"{url}/status", timeout=5).json()["value"]["ready"])
        except requests.RequestException:
            return False

    with _started(name, [*_WITH_BROWSER, *command, f"--port={port}"], directory, **environment) as server:
        server.wait_until_ready(is_ready)
        with closing(WebDriver(url, capabilities, directory / "downloads")) as browser:
            yield browser


@contextmanager
def _chromium(directory: Path) -> Iterator[Browser]:
    downloads = {"download.default_directory": str(directory / "downloads")}
    options = {"binary": chromium.PROGRAM, "args": ["--headless=new", *chromium.ARGUMENTS], "prefs": downloads}
    with _served("chromedriver", ["chromedriver"], directory, {"goog:chromeOptions": options}) as browser:
        yield browser


@contextmanager
def _firefox(directory: Path) -> Iterator[Browser]:
    profile = directory / "profile"
    profile.mkdir()
    preferences = {**_FIREFOX_PREFERENCES, "browser.download.dir": str(directory / "downloads")}
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in preferences.items()]
    (profile / "user.js").write_text("".join(lines), encoding="utf-8")
    command = ["firefox-esr", "--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port=0"]
    with _started("firefox", command, directory) as firefox:
        listens = firefox.wait_until_ready(lambda: re.search(r"listening on (ws://\S+)", firefox.log_end()))
        with closing(BiDi(listens[1], directory / "downloads")) as browser:
            yield browser


@contextmanager
def _webkitgtk(directory: Path) -> Iterator[Browser]:
    """WebKitGTK cannot run without a display."""
    settings = directory / ".config"
    settings.mkdir()
    (settings / "user-dirs.dirs").write_text('XDG_DOWNLOAD_DIR="$HOME/downloads"\n', encoding="utf-8")
    display = ["Xvfb", "-displayfd", "1", "-screen", "0", "1400x1000x24", "-nolisten", "tcp"]
    with _started("xvfb", display, directory) as server:
        number = server.wait_until_ready(lambda: re.search(r"^\d+$", server.log_end(), re.MULTILINE))
        served = _served("webkitgtk", ["WebKitWebDriver"], directory, {}, DISPLAY=f":{number[0]}")
        with served as browser:
            yield browser


_ENGINES = {"chromium": _chromium, "firefox": _firefox, "webkitgtk": _webkitgtk}
ENGINES = tuple(_ENGINES)


@contextmanager
def browser_of(engine: str, directory: Path) -> Iterator[Browser]:
    """Start the browser. It ends with the block or, if this process is killed, by itself."""
    (directory / "downloads").mkdir()
    with _ENGINES[engine](directory) as browser:
        yield browser
