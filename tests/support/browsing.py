"""Expectations of the page in a browser."""

from typing import Any


def expect(locator: Any) -> Any:
    from playwright.sync_api import expect

    return expect(locator)
