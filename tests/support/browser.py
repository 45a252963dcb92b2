"""A real Chromium without a window, and a report in it."""

import base64
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


class Browser:
    """Opens files, presses keys, knows what was asked of the network and said on the console."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(
        self, path: Path, address: str = "", *, scheme: str = "light", width: int = 1400
    ) -> None:
        """Open a report and wait until it is drawn."""
        self.scheme(scheme)
        size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.get("about:blank")  # so that another address of the same file is opened anew
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        self.driver.get(path.resolve().as_uri() + address)
        self.until("document.documentElement.dataset.ready === 'yes'")

    def scheme(self, scheme: str) -> None:
        """Prefer "light" or "dark" from now on; nothing moves, so colours are there at once."""
        preferred = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in preferred.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def js(self, code: str, *arguments: object) -> Any:
        """The value of an expression."""
        return self.driver.execute_script(f"return {code.strip()};", *arguments)

    def until(self, condition: str) -> None:
        """Wait until an expression is true."""
        from selenium.webdriver.support.wait import WebDriverWait

        wait = WebDriverWait(self.driver, 30, poll_frequency=0.02)
        wait.until(lambda _: self.js(f"Boolean({condition})"), condition)

    def press(self, *keys: str) -> None:
        """Press keys one after another, as a person does, wherever the focus is."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver, duration=0).send_keys(*keys).perform()

    def click(self, selector: str) -> None:
        """Click the first element of a selector."""
        self.driver.find_element("css selector", selector).click()

    def choose(self, name: str, value: str) -> None:
        """Give the field with this id a value, as who chooses or types it does."""
        self.driver.execute_script(
            "const field = document.getElementById(arguments[0]); field.value = arguments[1];"
            "for (const kind of ['input', 'change']) field.dispatchEvent(new Event(kind));",
            name, value,
        )  # fmt: skip

    def contrasts(self) -> list[tuple[float, str, str]]:
        """Of all texts that are seen the contrast to what is behind: ratio, class, beginning."""
        return self.js(_CONTRASTS)

    def texts(self, selector: str) -> list[str]:
        """What the elements say, as it is in the document."""
        return self.js(
            "[...document.querySelectorAll(arguments[0])].map((each) => each.textContent)", selector
        )

    def said(self) -> list[str]:
        """What is on the console."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requested(self) -> list[str]:
        """What was asked for since the last `open`, the file itself included."""
        messages = [
            json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")
        ]
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]

    def screenshot(self, path: Path) -> None:
        """Save what is to be seen."""
        shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
        path.write_bytes(base64.b64decode(shot["data"]))


_CONTRASTS = """
(() => {
  const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const light = (color) => {
    context.fillStyle = color;
    context.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...context.getImageData(0, 0, 1, 1).data].map((each) => each / 255)
      .map((each) => (each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (each) => {
    for (let at = each; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if (color !== "rgba(0, 0, 0, 0)") return color;
    }
    return "white";
  };
  const unseen = "script, style, .unseen, title, option";
  const found = [];
  for (const each of document.querySelectorAll("body *")) {
    const own = [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !each.checkVisibility() || each.matches(unseen)) continue;
    const style = getComputedStyle(each);
    const color = each.closest("svg") ? style.fill : style.color;
    const [a, b] = [light(color), light(behind(each))].sort((x, y) => y - x);
    const name = each.className.baseVal ?? each.className;
    found.push([(a + 0.05) / (b + 0.05), name, each.textContent.slice(0, 40)]);
  }
  return found;
})()
"""
"""Ratios by WCAG 2.1, of the colours that the browser computed."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One browser for all tests; they are skipped where there is none."""
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    from selenium.webdriver.chrome.service import Service

    chrome = os.environ.get("CHROME") or shutil.which("chromium") or shutil.which("google-chrome")
    driver = os.environ.get("CHROMEDRIVER") or shutil.which("chromedriver")
    if chrome is None or driver is None:
        pytest.skip("no Chromium with its driver: install them, or set CHROME and CHROMEDRIVER")
    options = selenium.ChromeOptions()
    options.binary_location = chrome
    for argument in ("--headless=new", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    if os.getuid() == 0:  # Chromium has no sandbox for root
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = selenium.Chrome(options=options, service=Service(driver))
    yield Browser(opened)
    opened.quit()
