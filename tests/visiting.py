"""A server in a process of its own, and a person with a Chromium in front of it."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selenium.webdriver.remote.webelement import WebElement

PATIENCE_SECONDS = 240.0
PROGRAMS = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
# Of the keyboard, as WebDriver names them.
CONTROL, RELEASED, TAB, ENTER = "\ue009", "\ue000", "\ue004", "\ue007"
PACKAGES = ("gradio", "selenium")
NO_GRADIO = importlib.util.find_spec("gradio") is None
MISSING = [name for name, found in PROGRAMS.items() if found is None]
MISSING += [name for name in PACKAGES if importlib.util.find_spec(name) is None]


@dataclass
class Server:
    """A running `passionsr serve`, and the environment it has."""

    process: subprocess.Popen[str]
    url: str
    environment: dict[str, str]
    _expected: dict[tuple[bytes, tuple[str, ...]], bytes] = field(default_factory=dict)

    def files(self) -> list[Path]:
        """What was uploaded and made, and is still there."""
        places = Path(self.environment["PASSIONSR_CACHE"]).glob(".serve.*")
        return [path for place in places for path in place.rglob("*") if path.is_file()]

    def expected(self, source: Path, *options: str) -> bytes:
        """What the command writes, with the server's models."""
        asked = (source.read_bytes(), options)
        if asked not in self._expected:
            output = source.with_name(f"expected {source.name}.png")
            command = [sys.executable, "-m", "passionsr_cli", "upscale", str(source), *options]
            command += ["--output", str(output), "--overwrite"]
            done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            self._expected[asked] = output.read_bytes()
        return self._expected[asked]

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """The exit code after a signal."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_SECONDS)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment_of(folder: Path) -> dict[str, str]:
    """The environment of commands whose home and cache are in a folder."""
    home, cache = str(folder / "home"), str(folder / "cache")
    return {**os.environ, "PASSIONSR_HOME": home, "PASSIONSR_CACHE": cache}


@contextmanager
def serving(folder: Path, *options: str, **environment: str) -> Iterator[Server]:
    """A server whose home and cache are in `folder`; it has ended afterwards."""
    values, working = {**environment_of(folder), **environment}, folder / "work"
    working.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "passionsr_cli", "serve", "--port", str(free_port()), *options]
    process = subprocess.Popen(command, cwd=working, env=values, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        said = process.stderr.readline()
        assert "is open; Ctrl-C ends it" in said, said + process.stderr.read()
        yield Server(process, said.split()[0], values)
    finally:
        process.kill()
        process.communicate()


def wait_for(found: Callable[[], Any]) -> Any:
    """The first value of `found` that is true."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not (value := found()):
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.1)
    return value


@dataclass
class Person:
    """A browser of its own, with what a person does and sees there."""

    driver: Any
    folder: Path
    requests: set[str] = field(default_factory=set)

    def find(self, selector: str) -> list[WebElement]:
        """The elements that are to be seen."""
        found = self.driver.find_elements("css selector", selector)
        return [each for each in found if each.is_displayed()]

    def open(self, url: str) -> None:
        self.driver.get(url)
        wait_for(lambda: self._buttons("Upscale"))

    def press(self, name: str) -> None:
        self._click(wait_for(lambda: self._buttons(name))[0])

    def _click(self, element: WebElement) -> None:
        """Click when it has come to rest and nothing is before it."""
        from selenium.common.exceptions import ElementClickInterceptedException

        def clicked() -> bool:
            self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
            place = element.rect
            time.sleep(0.3)
            if place != element.rect:
                return False
            try:
                element.click()
            except ElementClickInterceptedException:
                return False
            return True

        wait_for(clicked)

    def _buttons(self, name: str) -> list[WebElement]:
        return [each for each in self.find("button") if each.text == name]

    def choose(self, label: str, value: str) -> None:
        """Choose of a list, by typing."""
        self.type(label, value, ENTER)
        (field,) = self.find(f"input[aria-label='{label}']")
        wait_for(lambda: field.get_attribute("value") == value)

    def type(self, label: str, value: str, end: str = TAB) -> None:
        """Type a value in place of another, and leave the field."""
        field = wait_for(lambda: self.find(f"input[aria-label*='{label}']"))[0]
        self._click(field)
        field.send_keys(f"{CONTROL}a{RELEASED}{value}{end}")

    def drop(self, *photographs: Path) -> None:
        """Upload files, and wait until they are there."""
        field = self.driver.find_element("css selector", "input[type=file]")
        field.send_keys("\n".join(map(str, photographs)))
        names = {path.name for path in photographs}
        wait_for(lambda: names <= {each.get_attribute("download") for each in self.find("a")})

    def pictures(self) -> list[WebElement]:
        """Before and after, in the slider that shows."""
        return self.find("[data-testid=imageslider-image]")

    def wait_for_pictures(self) -> None:
        """Wait until before and after show."""
        wait_for(lambda: [each for each in self.pictures() if each.get_property("naturalWidth")])

    def messages(self) -> list[str]:
        return [each.text for each in self.find(".toast-message-text")]

    def download(self, name: str) -> bytes:
        """The file behind a result's link."""
        links = wait_for(lambda: self.find(f"a[download='{name}']"))
        self._click(links[0])
        path = self.folder / name
        wait_for(lambda: path.exists() and not list(self.folder.glob("*.crdownload")))
        return path.read_bytes()

    def asked_for(self) -> set[str]:
        """Addresses that the browser asked for, up to now."""
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self.requests.add(message["params"]["request"]["url"])
        return self.requests


@contextmanager
def person(folder: Path, telephone: bool = False) -> Iterator[Person]:
    """A person in front of a screen, or with a telephone; downloads go to `folder`."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(PROGRAMS["chromium"])
    for option in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,1000"):
        options.add_argument(option)
    options.add_argument(f"--user-data-dir={folder / 'profile'}")
    options.add_experimental_option("prefs", {"download.default_directory": str(folder)})
    if telephone:
        screen = {"width": 390, "height": 844, "pixelRatio": 2.0, "touch": True}
        options.add_experimental_option("mobileEmulation", {"deviceMetrics": screen})
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(PROGRAMS["chromedriver"]))
    try:
        yield Person(driver, folder)
    finally:
        driver.quit()
