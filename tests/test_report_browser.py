"""The report in a browser: opened from disk without a network, by mouse, keyboard and finger, on a desk and on a phone.

Playwright drives whatever Chromium the machine has, without a driver of its own version, and downloads nothing.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from reports import HOSTILE, patch_table, report, sample, scores, training

from rsdata.catalog.audit_page import write_audit_page
from rsdata.catalog.report import choose_samples
from rsdata.splits.audit import examine

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed; see the extra `dev`")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"no browser is installed: none of {', '.join(BROWSERS)} is on the path, and CHROMIUM names none")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])  # tests in containers run as root
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    patches = patch_table()
    patches.loc[patches["tile_id"] == "32UMC", "country"] = HOSTILE
    chosen = choose_samples(patches, 8)
    index = {patch_id: place for place, patch_id in enumerate(patches["patch_id"])}
    folder = tmp_path_factory.mktemp("report")
    report(
        folder,
        patches,
        samples=[sample(patches, index[patch_id]) for patch_id in chosen],
        captions={chosen[0]: f"A meadow by a brook. {HOSTILE}"},
        training=training(test=scores(0.8)),
    )
    return folder / "index.html"


@pytest.fixture(scope="module")
def audit_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of an audit that has findings of several kinds."""
    table = patch_table()
    table = pd.concat([table[table["kept"]], table[table["kept"]].iloc[:3].assign(split="test")], ignore_index=True)
    path = tmp_path_factory.mktemp("audit") / "index.html"
    write_audit_page(path, *examine(table), "a table")
    return path


@pytest.fixture
def opened(browser, request) -> Iterator[object]:
    """The page, on a desk unless the test asks for a phone or for the audit; fails if it logs an error or asks for anything but itself."""
    asked_for = getattr(request, "param", DESK)
    page_path = request.getfixturevalue("audit_path" if asked_for == "audit" else "page_path")
    size = DESK if asked_for == "audit" else asked_for
    context = browser.new_context(offline=True, viewport=size, has_touch=size is PHONE, reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(20_000)
    errors, asked = [], []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("dialog", lambda dialog: (errors.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(page_path.as_uri())
    page.wait_for_selector("#map[data-scale]")
    yield page
    assert not errors
    assert [url for url in asked if not url.startswith("data:")] == [page_path.as_uri()]
    context.close()


def shown(page) -> list[dict[str, str]]:
    return page.eval_on_selector_all(
        "#cards > .card", "cards => cards.filter(c => !c.hidden).map(c => ({...c.dataset, text: c.textContent}))"
    )


def map_scale(page) -> float:
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return float(page.get_attribute("#map", "data-scale"))


def colored_pixels(page, red: int, green: int, blue: int) -> int:
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return page.evaluate(
        """([red, green, blue]) => {
            const map = document.getElementById("map"), data = map.getContext("2d").getImageData(0, 0, map.width, map.height).data;
            let count = 0;
            for (let i = 0; i < data.length; i += 4) {
                count += Math.abs(data[i] - red) + Math.abs(data[i + 1] - green) + Math.abs(data[i + 2] - blue) < 12;
            }
            return count;
        }""",
        [red, green, blue],
    )


def test_the_gallery_is_filtered_by_split_class_season_country_and_words(opened):
    assert opened.inner_text("#shown") == "24 patches" and len(shown(opened)) == 12
    opened.click("#more")
    assert len(shown(opened)) == 24 and opened.is_hidden("#more")
    opened.select_option("#filter-split", "test")
    cards = shown(opened)
    assert len(cards) == 8 and {card["split"] for card in cards} == {"test"} and opened.inner_text("#shown") == "8 of 24 patches"
    opened.select_option("#filter-split", "validation")
    assert {card["split"] for card in shown(opened)} == {"validation"}
    opened.select_option("#filter-season", "autumn")
    autumn = shown(opened)
    assert 0 < len(autumn) < 8 and {card["season"] for card in autumn} == {"autumn"}
    opened.select_option("#filter-class", "Pastures")
    assert 0 < len(shown(opened)) <= len(autumn) and all("Pastures" in card["class"] for card in shown(opened))
    opened.click("#filters button[type=reset]")
    opened.wait_for_function("() => document.getElementById('shown').textContent === '24 patches'")
    opened.select_option("#filter-country", HOSTILE)
    assert {card["country"] for card in shown(opened)} == {HOSTILE}
    opened.select_option("#filter-country", "")
    opened.fill("#filter-text", "MEADOW brook")
    assert len(shown(opened)) == 1 and "A meadow by a brook." in shown(opened)[0]["text"] and HOSTILE in shown(opened)[0]["text"]
    opened.fill("#filter-text", "no such word")
    assert not shown(opened) and opened.is_visible("#none-shown") and opened.inner_text("#shown") == "0 of 24 patches"


def test_the_map_zooms_by_buttons_wheel_and_keys(opened):
    home = map_scale(opened)
    opened.click("#zoom-in")
    assert map_scale(opened) == pytest.approx(1.8 * home)
    opened.click("#zoom-out")
    assert map_scale(opened) == pytest.approx(home)
    opened.hover("#map")
    opened.keyboard.down("Control")
    opened.mouse.wheel(0, -500)
    opened.keyboard.up("Control")
    opened.wait_for_function("home => +document.getElementById('map').dataset.scale > 1.5 * home", arg=home)
    opened.click("#zoom-all")
    opened.click("#map")  # which gives it the focus
    opened.mouse.wheel(0, -500)
    opened.wait_for_function("home => +document.getElementById('map').dataset.scale > 1.5 * home", arg=home)
    before = map_scale(opened)
    opened.keyboard.press("+")
    assert map_scale(opened) == pytest.approx(1.6 * before)
    opened.keyboard.press("0")
    assert map_scale(opened) == pytest.approx(home)
    opened.keyboard.press("ArrowLeft")
    assert "° N" in opened.inner_text("#readout")
    opened.click("button[data-span]")  # a region
    assert map_scale(opened) > 3 * home


def test_a_wheel_that_turns_past_the_map_scrolls_the_page_and_says_how_to_zoom(opened):
    home = map_scale(opened)
    opened.hover("#map")
    at = opened.evaluate("scrollY")
    opened.mouse.wheel(0, 300)
    opened.wait_for_function("at => scrollY > at + 200", arg=at)
    assert map_scale(opened) == home and "hold Ctrl" in opened.inner_text("#readout")
    assert opened.get_attribute("#map", "role") == "application" and opened.get_attribute("#map", "aria-label")
    assert "Ctrl" in opened.inner_text(f"#{opened.get_attribute('#map', 'aria-describedby')}")


def test_the_map_names_only_splits_that_it_shows(opened):
    opened.click("button[data-span]")
    box = opened.query_selector("#map").bounding_box()

    def said() -> set[str]:
        found = set()
        for part in range(1, 40):
            opened.mouse.move(box["x"] + box["width"] * part / 40, box["y"] + box["height"] / 2)
            found |= set(opened.inner_text("#readout").partition(": ")[2].split(", "))
        return found - {""}

    assert said() >= {"train", "validation", "test"}
    opened.uncheck("label:has-text('train') input[data-split]")
    assert "train" not in said() and "test" in said()


def test_splits_are_switched_off_and_on_on_the_map(opened):
    opened.click("button[data-span]")
    blue, orange = (0, 114, 178), (230, 159, 0)
    mixed = [round(0.85 * part + 0.15 * 247) for part in blue]  # squares let a little of the ground through
    both = colored_pixels(opened, *blue) + colored_pixels(opened, *mixed)
    assert both > 500
    opened.uncheck("label:has-text('train') input[data-split]")
    assert colored_pixels(opened, *blue) + colored_pixels(opened, *mixed) == 0
    other = [round(0.85 * part + 0.15 * 247) for part in orange]
    assert colored_pixels(opened, *orange) + colored_pixels(opened, *other) > 50
    opened.check("label:has-text('train') input[data-split]")
    assert colored_pixels(opened, *blue) + colored_pixels(opened, *mixed) == both


@pytest.mark.parametrize("opened", [PHONE], indirect=True)
def test_a_phone_scrolls_only_down_and_pinches_the_map(opened):
    assert opened.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    opened.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    assert opened.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    home = map_scale(opened)
    opened.evaluate(
        """() => {
            const map = document.getElementById("map"), box = map.getBoundingClientRect();
            map.setPointerCapture = () => {};
            const send = (kind, id, x) => map.dispatchEvent(new PointerEvent(kind, {
                pointerId: id, pointerType: "touch", clientX: box.left + x, clientY: box.top + 100, bubbles: true }));
            send("pointerdown", 1, 140); send("pointerdown", 2, 180);
            send("pointermove", 2, 260);
            send("pointerup", 1, 140); send("pointerup", 2, 260);
        }"""
    )
    assert map_scale(opened) == pytest.approx(3 * home)


@pytest.mark.parametrize("opened", [PHONE], indirect=True)
def test_one_finger_scrolls_past_the_map_and_two_move_it(opened):
    opened.evaluate("document.getElementById('map').scrollIntoView({block: 'center'})")
    box, home, at = opened.query_selector("#map").bounding_box(), map_scale(opened), opened.evaluate("scrollY")
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    wire = opened.context.new_cdp_session(opened)

    def picture() -> str:
        map_scale(opened)  # waits until it is drawn
        return opened.evaluate("document.getElementById('map').toDataURL()")

    def drag(*fingers: tuple[float, float], dx: float = 0, dy: float = 0) -> None:
        for step in range(21):
            points = [{"x": px + dx * step / 20, "y": py + dy * step / 20, "id": number} for number, (px, py) in enumerate(fingers)]
            wire.send("Input.dispatchTouchEvent", {"type": "touchMove" if step else "touchStart", "touchPoints": points})
        opened.wait_for_timeout(200)  # a finger that is lifted while it moves would set the page going
        wire.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    before = picture()
    drag((x, y), dy=-200)
    opened.wait_for_function("at => scrollY > at + 150", arg=at)
    assert picture() == before
    opened.evaluate("at => scrollTo(0, at)", at)
    drag((x - 60, y), (x + 60, y), dy=-80)
    assert picture() != before and opened.evaluate("scrollY") == at and map_scale(opened) == pytest.approx(home)
    wire.send("Input.synthesizePinchGesture", {"x": x, "y": y, "scaleFactor": 2.0, "gestureSourceType": "touch"})
    opened.wait_for_function("home => +document.getElementById('map').dataset.scale > 1.5 * home", arg=home)
    assert opened.evaluate("[scrollY, visualViewport.scale]") == [at, 1]


def test_the_keyboard_reaches_the_content_first_and_what_has_the_focus_is_marked(opened):
    opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.className") == "skip"
    assert opened.evaluate("document.activeElement.getBoundingClientRect().left") > 0
    opened.keyboard.press("Enter")
    assert opened.evaluate("document.activeElement.id") == "main"
    names = opened.evaluate(
        """() => [...document.querySelectorAll("select, input, button")].filter(each => !each.hidden).map(each =>
            each.getAttribute("aria-label") || [...(each.labels || [])].map(label => label.textContent.trim()).join("")
            || each.textContent.trim())"""
    )
    assert len(names) > 10 and all(names)
    for selector in ("#map", "#filter-split", "#zoom-in", "nav a"):
        opened.focus(selector)
        opened.keyboard.press("Shift+Tab")
        opened.keyboard.press("Tab")
        assert opened.evaluate("getComputedStyle(document.activeElement).outlineWidth") == "3px", selector


def test_every_text_stands_out_from_its_ground(opened):
    """WCAG 2.2, 1.4.3: 4.5 to 1."""
    worst = opened.evaluate(
        """() => {
            const parts = text => text.match(/[\\d.]+/g).map(Number);
            const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
            const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
            let worst = [99, ""];
            for (const each of document.querySelectorAll("body *:not(script):not(style):not(noscript):not(svg):not(svg *)")) {
                if (![...each.childNodes].some(node => node.nodeType === 3 && node.textContent.trim())) continue;
                let ground = [255, 255, 255];
                const above = [];
                for (let node = each; node; node = node.parentElement) above.unshift(parts(getComputedStyle(node).backgroundColor));
                for (const [r, g, b, alpha = 1] of above) ground = [r, g, b].map((v, i) => v * alpha + ground[i] * (1 - alpha));
                const a = light(parts(getComputedStyle(each).color).slice(0, 3)), b = light(ground);
                const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
                if (ratio < worst[0]) worst = [ratio, `${each.textContent.trim().slice(0, 40)} ${getComputedStyle(each).color} ${ground}`];
            }
            return worst;
        }"""
    )
    assert worst[0] >= 4.5, worst


def test_paper_shows_what_was_folded_and_every_card_that_the_filter_lets_through(opened):
    folded = opened.evaluate("document.querySelectorAll('details:not([open])').length")
    assert len(shown(opened)) == 12
    opened.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert folded > 0 and opened.evaluate("document.querySelectorAll('details:not([open])').length") == 0
    assert len(shown(opened)) == 24 and opened.is_hidden("#more")
    opened.emulate_media(media="print")
    opened.set_viewport_size({"width": 718, "height": 1000})  # A4 less its margins
    assert opened.evaluate("document.documentElement.scrollWidth") == 718 and opened.is_hidden("#filters") and opened.is_hidden("nav")
    opened.emulate_media(media="screen")
    opened.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert opened.evaluate("document.querySelectorAll('details:not([open])').length") == folded
    assert len(shown(opened)) == 12 and opened.is_visible("#more")
    opened.select_option("#filter-season", "autumn")
    autumn = int(opened.inner_text("#shown").split()[0])
    opened.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert len(shown(opened)) == autumn < 24
    opened.evaluate("window.dispatchEvent(new Event('afterprint'))")
    opened.click("#filters button[type=reset]")
    opened.wait_for_function("() => document.getElementById('shown').textContent === '24 patches'")
    pictures = opened.evaluate("new Set([...document.querySelectorAll('.card img')].map(each => each.src)).size")
    assert opened.pdf(format="A4").count(b"/Subtype /Image") >= pictures > 60  # also those that were hidden and not yet loaded


def test_the_map_keeps_its_shape_on_paper(opened):
    screen = opened.evaluate("(({width, height}) => width / height)(document.getElementById('map'))")
    opened.emulate_media(media="print")
    opened.set_viewport_size({"width": 718, "height": 1000})
    width, height, fit = opened.evaluate(
        "(map => [map.getBoundingClientRect().width, map.getBoundingClientRect().height, getComputedStyle(map).objectFit])"
        "(document.getElementById('map'))"
    )
    assert fit == "contain" or width / height == pytest.approx(screen, rel=0.02)
    assert height <= 421


@pytest.mark.parametrize("opened", ["audit"], indirect=True)
def test_paper_shows_the_findings_of_an_audit_that_were_folded(opened):
    assert opened.evaluate("document.querySelectorAll('details:not([open])').length") > 0
    for event, hidden in (("beforeprint", 0), ("beforeprint", 0), ("afterprint", 1)):
        opened.evaluate("name => window.dispatchEvent(new Event(name))", event)
        assert (opened.evaluate("document.querySelectorAll('details:not([open])').length") > 0) == hidden
    opened.emulate_media(media="print")
    assert opened.is_hidden(".examples button") and opened.is_hidden("#map-help")


@pytest.mark.parametrize("opened", [PHONE], indirect=True)
def test_tables_of_classes_need_no_scrolling_sideways_on_a_phone(opened):
    wide = opened.evaluate(
        """name => ["class-table", "area-table", "score-table"].filter(id => {
            const table = document.getElementById(id);
            for (const each of table.querySelectorAll("tbody .name > span > span:last-child")) each.textContent = name;
            return table.scrollWidth > table.parentElement.clientWidth;
        })""",
        "Moors, heathland and sclerophyllous vegetation",  # the longest word in the names of CORINE's classes
    )
    assert wide == []
