"""The heat map of heads on the page works in a real browser."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge.web.heat_map import HEADS_NAME, HeatMap, read_heat_map
from tests.support.browsing import expect
from tests.support.heads import make_heads_file
from tests.support.serving import PageServer, start_server
from valyrian_jax.bundle.bundle import Bundle, load_bundle, save_bundle

pytestmark = pytest.mark.slow

COLUMNS = 8  # 2 layers of 3 heads, and their MLPs


@pytest.fixture(scope="module")
def directory(endless: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of High Valyrian, as its metadata say, with what its heads do."""
    path = tmp_path_factory.mktemp("valyrian") / "bundle"
    save_bundle(replace(endless, manifest={"held_out": {"entropy_bits_per_byte": 1.0}}), path)
    (path / HEADS_NAME).write_bytes(make_heads_file(load_bundle(path)))
    return path


@pytest.fixture(scope="module")
def heat_map(directory: Path) -> HeatMap:
    heat_map = read_heat_map([directory], load_bundle(directory))
    assert heat_map
    return heat_map


@pytest.fixture(scope="module")
def server(directory: Path) -> Iterator[PageServer]:
    with start_server(directory) as server:
        yield server


@pytest.fixture
def region(page: Any, server: PageServer) -> Any:
    """The heat map on the page."""
    page.goto(f"{server.url}?max_new_tokens=1")
    region = page.get_by_role("region", name="What each head does")
    expect(region.get_by_role("gridcell").last).to_be_attached()
    expect(page.locator("#status")).to_contain_text("1 token in ")  # Nothing moves from here on.
    return region


def describe(heat_map: HeatMap, row: int, column: int) -> str:
    name = heat_map.components[column]
    before, nats = heat_map.accuracy[row], heat_map.nats_lost[row][column]
    after = before + heat_map.changes[row][column]
    return (
        f"Without {name if name.startswith('MLP') else f'head {name}'}, rule "
        f"“{heat_map.rules[row]}”: {100 * after:.1f}% of the pairs are right instead of "
        f"{100 * before:.1f}%; the margin {'falls' if nats > 0 else 'grows'} by {abs(nats):.2f} "
        "nats."
    )


def test_the_table_has_a_cell_for_each_rule_and_component(region: Any, heat_map: HeatMap) -> None:
    headers = region.get_by_role("columnheader")
    expect(headers).to_have_text(["rule", "whole model", *heat_map.components])
    assert headers.evaluate_all("all => all.every(header => header.scope === 'col')")
    rows = region.locator("tbody tr")
    expect(rows.get_by_role("rowheader")).to_have_text(heat_map.rules)
    for row, accuracy, changes in zip(rows.all(), heat_map.accuracy, heat_map.changes, strict=True):
        points = [f"{100 * change:+.0f}".replace("-", "−") for change in changes]
        expect(row.get_by_role("gridcell")).to_have_text([f"{100 * accuracy:.1f}%", *points])
        kinds = row.locator("td[tabindex]").evaluate_all("all => all.map(cell => cell.className)")
        assert kinds == ["fall" if change < 0 else "rise" for change in changes]


def test_a_larger_fall_has_a_stronger_colour(region: Any, heat_map: HeatMap) -> None:
    cells = region.locator("td[tabindex]")
    shares = cells.evaluate_all(
        "all => all.map(cell => +getComputedStyle(cell).backgroundColor.match(/[\\d.]+/g)[3] || 0)"
    )
    changes = [change for row in heat_map.changes for change in row]
    assert shares == pytest.approx([min(2 * abs(c), 0.5) for c in changes], abs=0.01)


def test_pointing_at_a_cell_describes_it(region: Any, heat_map: HeatMap) -> None:
    cells, line = region.locator("td[tabindex]"), region.locator("#heat-map-cell")
    for row, column in ((0, 1), (1, COLUMNS - 1)):
        cells.nth(row * COLUMNS + column).hover()
        expect(line).to_have_text(describe(heat_map, row, column))


def test_the_keyboard_reaches_every_cell(page: Any, region: Any, heat_map: HeatMap) -> None:
    cells, line = region.locator("td[tabindex]"), region.locator("#heat-map-cell")
    page.locator("#lens-scroller").focus()
    page.keyboard.press("Tab")
    expect(cells.first).to_be_focused()
    expect(line).to_have_text(describe(heat_map, 0, 0))
    for key, row, column in (
        ("ArrowRight", 0, 1),
        ("ArrowDown", 1, 1),
        ("ArrowLeft", 1, 0),
        ("End", 1, COLUMNS - 1),
        ("ArrowUp", 0, COLUMNS - 1),
        ("ArrowUp", 0, COLUMNS - 1),
    ):
        page.keyboard.press(key)
        expect(cells.nth(row * COLUMNS + column)).to_be_focused()
        expect(line).to_have_text(describe(heat_map, row, column))
    assert cells.evaluate_all("all => all.filter(cell => cell.tabIndex === 0).length") == 1


def test_the_table_scrolls_in_its_own_box(page: Any, region: Any) -> None:
    scroller = region.locator("#heat-map-scroller")
    for width, scheme in itertools.product((360, 1280), ("dark", "light")):
        page.set_viewport_size({"width": width, "height": 740})
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        is_cut = scroller.evaluate("element => element.scrollWidth > element.clientWidth")
        assert is_cut == (width == 360)
    page.set_viewport_size({"width": 360, "height": 740})
    region.locator("td[tabindex]").last.focus()
    expect(region.locator("td[tabindex]").last).to_be_in_viewport(ratio=1)
    assert scroller.evaluate("element => element.scrollLeft") > 0


def test_without_the_file_the_page_says_how_to_make_it(page: Any, server: PageServer) -> None:
    page.route("**/heads", lambda route: route.fulfill(body=json.dumps(None)))
    page.goto(f"{server.url}?max_new_tokens=1")
    region = page.get_by_role("region", name="What each head does")
    expect(region).to_contain_text("python -m valyrian_jax inspect RUN --json > RUN/heads.jsonl")
    expect(page.locator("#status")).to_contain_text("1 token in ")
    expect(region.get_by_role("grid")).to_have_count(0)
