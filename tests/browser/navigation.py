"""What the tests of the page are made of: a browser that complains.

A test fails if its browser complained of anything: a script's error, an error on the
console, a breach of the content security policy.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request

# Patience, not a pause: a machine that runs other tests at the same time is slow.
PATIENCE_MS = 15_000
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# A breach of the policy is an error on the console, too; this one says which rule.
_WITNESS = """
document.addEventListener('securitypolicyviolation', event =>
  console.error('CSP ' + event.violatedDirective + ' ' + event.blockedURI));
"""


class Visits:
    """Opens pages, each in a context of its own, and keeps what the browser says."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[BrowserContext] = []
        self._forgiven: list[str] = []
        self._complaints: list[str] = []

    def page(self, url: str = "", **options: Any) -> Page:
        """Return a new page, at a URL if one is given."""
        context = self._browser.new_context(**options)
        context.set_default_timeout(PATIENCE_MS)
        context.add_init_script(_WITNESS)
        self._contexts.append(context)
        page = context.new_page()
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self._complaints.append(f"script: {error}"))
        page.on("dialog", self._dismissed)
        page.on("request", self._asked)
        if url:
            page.goto(url)
        return page

    def still_page(self, url: str, **options: Any) -> Page:
        """Return a page that does not update itself, for tests of what it shows."""
        page = self.page(**options)
        page.context.add_cookies(
            [{"name": "pgflow_updates", "value": "off", "url": url}]
        )
        return page

    def forgive(self, pattern: str) -> None:
        """Expect a complaint: the test is about what causes it."""
        self._forgiven.append(pattern)

    @property
    def complaints(self) -> list[str]:
        """Return what the browser has complained of, but for what was expected."""
        return [
            said
            for said in self._complaints
            if not any(re.search(pattern, said) for pattern in self._forgiven)
        ]

    def close(self) -> None:
        for context in self._contexts:
            context.close()

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self._complaints.append(f"{message.type}: {message.text}")

    def _asked(self, request: Request) -> None:
        if urlsplit(request.url).hostname not in (None, "127.0.0.1"):
            self._complaints.append(f"request: {request.url}")

    def _dismissed(self, dialog: Any) -> None:
        # Nothing of ours opens one: a payload has run.
        self._complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()
