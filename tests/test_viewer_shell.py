"""The frame of the page: toolbars, menu, drawer, search, tour, themes, widths, paper, names for screen readers."""

import base64
import gzip
import re
from collections import Counter
from pathlib import Path

import pytest
from helpers.random_graphs import random_graph

import cotrace

THEME = Path(cotrace.__file__).parent / "viewer" / "css" / "theme.css"
SURFACES = ("paper", "raised", "ground")
READABLE, VISIBLE = 4.5, 3.0  # WCAG 2.2: contrast of text, and of signs and frames


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return random_graph(5).render(tmp_path_factory.mktemp("page") / "a.html")


# --- themes -------------------------------------------------------------------------------


def colours(theme):
    """Return the hexadecimal colours of a theme; dark ones stand over the light ones."""
    light, dark = THEME.read_text().split('[data-theme="dark"]')
    found = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", light))
    return found | (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", dark)) if theme == "dark" else {})


def contrast(one, other):
    """Return the contrast of two colours as WCAG 2.2 defines it."""

    def luminance(colour):
        shares = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
        return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_and_signs_stand_out(theme):
    found = colours(theme)
    for surface in SURFACES:
        for name in ("ink", "ink-soft", "ink-faint", "accent", "good", "bad", "unsure", "positive-ink", "negative-ink"):
            assert contrast(found[name], found[surface]) >= READABLE, (name, surface)
        for name in ("positive", "negative", "feature", "error-line", "target-line", "group-line", "side-a", "side-b"):
            assert contrast(found[name], found[surface]) >= VISIBLE, (name, surface)
    for text, paper in (("good", "good-soft"), ("bad", "bad-soft"), ("unsure", "unsure-soft"), ("positive-ink", "positive-soft"),
                        ("negative-ink", "negative-soft"), ("ink-faint", "accent-soft"), ("ink-faint", "sunken")):  # fmt: skip
        assert contrast(found[text], found[paper]) >= READABLE, (text, paper)
    assert contrast(found["on-ink"], found["ink"]) >= READABLE


def test_the_theme_follows_the_system_until_a_user_chooses(path, open_page):
    page = open_page(path, color_scheme="dark")
    theme = "document.documentElement.dataset.theme"
    assert page.evaluate(theme) == "dark"
    page.emulate_media(color_scheme="light")
    page.wait_for_selector("html[data-theme=light]")
    page.evaluate("window.changes = 0; cotrace.on('theme', () => window.changes++)")
    page.keyboard.press("d")
    page.keyboard.press("d")
    assert page.evaluate(theme) == "dark"
    assert page.evaluate("changes") == 2
    assert page.get_by_role("button", name="Light or dark: dark").count() == 1


# --- commands, menu, drawer ------------------------------------------------------------------


def test_no_two_commands_share_a_key_and_the_list_has_them_all(path, open_page):
    page = open_page(path)
    keys = page.evaluate("cotrace.commands.all().flatMap(({keys}) => keys)")
    assert [
        key for key, times in Counter(keys).items() if times > 1 and key not in ("F2", "Escape")
    ] == []  # of what is chosen
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keyboard shortcuts")
    with_keys = page.evaluate("cotrace.commands.all().filter(({keys}) => keys.length).length")
    assert dialog.locator("dd").count() >= with_keys
    page.keyboard.press("n")  # the dialog is modal: shortcuts wait
    assert page.evaluate("cotrace.store.page.tab") is None
    page.keyboard.press("Escape")
    assert dialog.count() == 0
    page.keyboard.press("n")
    assert page.evaluate("cotrace.store.page.tab") == "table"


def test_a_button_with_the_focus_keeps_enter_and_space(path, open_page):
    page = open_page(path)
    page.evaluate(
        "window.runs = 0; cotrace.commands.add({ id: 'x', title: 'X', keys: ['Enter'], run: () => window.runs++ })"
    )
    page.get_by_role("button", name="Keyboard shortcuts").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("runs") == 0
    page.get_by_role("button", name="Take the tour").click()
    assert page.get_by_role("dialog", name="Tour").is_visible()


def test_the_menu_opens_by_keyboard_and_runs_an_entry(path, open_page):
    page = open_page(path)
    page.evaluate("cotrace.store.update(0, { pins: ['token@1'] })")
    page.get_by_role("button", name="Share, export and more").focus()
    page.keyboard.press("Enter")
    menu = page.get_by_role("menu")
    assert menu.is_visible()
    assert page.evaluate("document.activeElement.role") == "menuitem"
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement === [...document.querySelectorAll('[role=menuitem]')].at(-1)")
    page.keyboard.press("Escape")
    assert not menu.is_visible()
    assert page.evaluate("cotrace.store.file(0).pins") == ["token@1"]
    page.keyboard.press("Escape")
    assert page.evaluate("cotrace.store.file(0).pins") == []


def test_a_button_that_can_do_no_more_keeps_the_focus(path, open_page):
    page = open_page(path)
    page.evaluate("cotrace.store.update(0, { labels: { 'L0#1': 'x' } }, 'label L0#1')")
    undo, redo = (page.locator(f"[data-command={name}]") for name in ("undo", "redo"))
    assert (undo.is_enabled(), redo.is_enabled()) == (True, False)
    undo.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-command=undo][aria-disabled=true]:focus")
    page.keyboard.press("Enter")
    assert page.evaluate("[cotrace.store.undoTitle, cotrace.store.redoTitle]") == [None, "label L0#1"]
    page.keyboard.press("ArrowRight")
    assert redo.evaluate("(button) => button === document.activeElement")
    assert page.locator(".edit-tools [tabindex='0']").count() == 1


def test_signs_may_be_typed_with_alt_and_letters_not(path, open_page):
    page = open_page(path)
    page.evaluate("""() => {
        globalThis.pressed = [];
        const add = (key) => cotrace.commands.add({ id: key, title: key, keys: [key], run: () => pressed.push(key) });
        for (const key of ["{", "Q", "8", "Alt+F8"]) add(key);
        for (const key of ["{", "q", "8", "F8"]) document.body.dispatchEvent(
            new KeyboardEvent("keydown", { key, altKey: true, bubbles: true }));
    }""")
    assert page.evaluate("pressed") == ["{", "Alt+F8"]


def test_the_drawer_is_a_list_of_tabs_whose_edge_moves(path, open_page):
    page = open_page(path)
    tab = page.get_by_role("tab", name="Table")
    assert (tab.get_attribute("aria-selected"), page.get_by_role("tabpanel").count()) == ("false", 0)
    tab.click()
    panel = page.get_by_role("tabpanel", name="Table")
    height = panel.bounding_box()["height"]
    page.get_by_role("separator", name="Height of the drawer").focus()
    page.keyboard.press("ArrowUp")
    assert panel.bounding_box()["height"] > height
    page.keyboard.press("b")
    assert page.get_by_role("tabpanel").count() == 0


# --- search ---------------------------------------------------------------------------------


def test_search_pins_by_name_with_the_keyboard_alone(path, open_page):
    page = open_page(path)
    page.keyboard.press("/")
    page.keyboard.type("token@")
    assert page.locator(".search-results [role=option]").count() == 4
    page.keyboard.press("ArrowDown")
    chosen = page.locator(".search-results [aria-selected=true] .mono").inner_text()
    page.keyboard.press("Enter")
    assert page.evaluate("cotrace.store.file(0).pins") == [chosen]
    assert not page.locator(".search-results").is_visible()
    assert page.locator("#live").inner_text().startswith(f"Pinned {chosen}")


def test_an_exact_name_is_found_first(path, open_page):
    page = open_page(path)
    names = page.evaluate(
        "Array.from({length: cotrace.files[0].graph.size}, (_, node) => cotrace.files[0].graph.nameOf(node))"
    )
    page.keyboard.press("/")
    for name in names[::7]:
        page.get_by_role("combobox", name="Find a node").fill(name.lower())
        assert page.locator("[role=option]").first.locator(".mono").inner_text() == name
    page.get_by_role("combobox", name="Find a node").fill("no such node")
    assert page.get_by_text("No node has this name").is_visible()


def test_the_keyboard_alone_is_enough_to_group_and_take_back(path, open_page):
    page = open_page(path)
    page.keyboard.press("n")
    page.keyboard.type("L2#")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.role") == "grid":
            break
    for key in ("Home", " ", "ArrowDown", " "):
        page.keyboard.press(key)
    chosen = page.evaluate("cotrace.store.file(0).selected")
    assert len(chosen) == 2
    page.keyboard.press("g")
    page.keyboard.press("Escape")  # leaves the field for the name, if there is one
    assert page.evaluate("cotrace.store.file(0).groups.map(({nodes}) => nodes)") == [chosen]
    page.keyboard.press("Control+z")
    assert page.evaluate("cotrace.store.file(0).groups") == []


# --- the tour -------------------------------------------------------------------------------


def test_the_tour_begins_on_the_first_visit_only(path, open_page):
    page = open_page(path, tour=True)
    tour = page.get_by_role("dialog", name="Tour")
    while page.get_by_role("button", name="Next").count():
        box = tour.bounding_box()
        assert box["x"] >= 0
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= 900
        for place in (".circuit-foot", ".view-tools"):
            assert not overlap(box, page.locator(place).first.bounding_box()), place
        page.get_by_role("button", name="Next").click()
    page.get_by_role("button", name="Done").click()
    assert tour.count() == 0
    page.reload()
    page.wait_for_selector("html[data-ready=true]")
    assert tour.count() == 0


def overlap(one, other):
    """Return whether two boxes {x, y, width, height} share a place."""
    return all(
        one[at] < other[at] + other[size] and other[at] < one[at] + one[size]
        for at, size in (("x", "width"), ("y", "height"))
    )


def test_without_storage_the_tour_does_not_begin_again_and_again(path, open_page):
    page = open_page(path, wait=False)
    page.add_init_script("Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no') } })")
    page.reload()
    page.wait_for_selector("html[data-ready=true]")
    assert page.get_by_role("dialog", name="Tour").count() == 0


# --- widths, paper, screen readers, old browsers ------------------------------------------------


# texts of choices and of the empty search that are longer than their fields
CUT = """() => [...document.querySelectorAll(".circuit-foot select, .search input")].filter((field) => field.checkVisibility()).flatMap((field) => {
    const style = getComputedStyle(field);
    const context = new OffscreenCanvas(1, 1).getContext("2d");
    context.font = `${style.fontSize} ${style.fontFamily}`;
    const text = field.placeholder || field.selectedOptions[0].text;
    const room = field.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    return context.measureText(text).width > room + 0.5 ? [text] : [];
})"""


def test_no_size_breaks_the_page(path, open_page):
    page = open_page(path)
    page.evaluate("cotrace.store.updatePage({ tab: 'table' })")
    for size in [(390, 844), (320, 568), (1000, 700), (844, 390)]:
        page.set_viewport_size(dict(zip(("width", "height"), size, strict=True)))
        root = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
        assert tuple(root) == size
        circuit = page.locator(".circuit").bounding_box()
        assert circuit["height"] > 40, size
        assert circuit["width"] > 200, size
        for name in ("Find a node by name, label or token", "Share, export and more"):
            box = page.get_by_label(name, exact=True).bounding_box()
            assert box["x"] >= 0, size
            assert box["x"] + box["width"] <= size[0], size
        assert page.evaluate(CUT) == [], size
        count = page.locator(".legend-count")
        if count.is_visible():
            assert not overlap(count.bounding_box(), page.locator(".view-tools").bounding_box()), size
            assert count.bounding_box()["height"] <= page.locator(".circuit-foot").bounding_box()["height"], size


def test_on_a_phone_the_details_are_a_sheet_that_opens_with_a_pin(path, open_page):
    page = open_page(path, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    for width in (390, 360):  # fields are larger than on a narrow window
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate(CUT) == [], width
    details = page.get_by_role("complementary", name="Details")
    assert not details.is_visible()
    page.evaluate("cotrace.store.update(0, { pins: ['token@1'] })")
    assert details.is_visible()
    details.get_by_role("button", name="Close").first.click()
    assert not details.is_visible()


def test_every_control_has_a_name_and_every_dialog_and_region_too(path, open_page):
    page = open_page(path)
    for tab in page.get_by_role("tab").all():
        tab.click()
    nameless = page.evaluate("""() => [...document.querySelectorAll('button, input, select, textarea, [role=img], [tabindex="0"]')]
        .filter((element) => element.checkVisibility())
        .filter((element) => !(element.getAttribute('aria-label') || element.labels?.length || element.textContent.trim()
                               || document.getElementById(element.getAttribute('aria-labelledby'))))
        .map((element) => element.outerHTML)""")
    assert nameless == []
    for role in ("banner", "main", "complementary", "search"):
        assert page.get_by_role(role).count() >= 1
    assert page.get_by_role("heading", level=1).count() == 1
    doubled = page.evaluate("""() => { const ids = [...document.querySelectorAll('[id]')].map(({id}) => id);
        return ids.filter((id, at) => ids.indexOf(id) !== at) }""")
    assert doubled == []


def test_the_focus_is_visible_on_every_stop_of_the_tab_key(path, open_page):
    page = open_page(path, reduced_motion="reduce")
    stops = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        stop, outline = (
            page.evaluate("""() => { const { activeElement } = document; const style = getComputedStyle(activeElement);
            const after = getComputedStyle(activeElement, '::after');
            return [activeElement.getAttribute('aria-label') ?? activeElement.textContent,
                    style.outlineStyle !== 'none' || (activeElement.role === 'separator' && after.opacity !== '0')] }""")
        )
        if stop in stops:
            break
        stops.add(stop)
        assert outline or activates_body(page), stop
    assert "Find a node by name, label or token" in stops


def activates_body(page):
    return page.evaluate("document.activeElement === document.body")


def test_paper_has_a_drawing_instead_of_the_canvas(path, open_page):
    page = open_page(path, color_scheme="dark")
    assert page.pdf().startswith(b"%PDF")
    page.evaluate("cotrace.store.update(0, { pins: [cotrace.circuit.model.nodes[0].name] })")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert (
        page.evaluate("[...document.querySelectorAll('button .icon')].filter((icon) => icon.checkVisibility()).length")
        == 0
    )
    for name in ("Unpin", "more", "Rename", "Accept all"):
        assert not [button for button in page.get_by_role("button", name=name).all() if button.is_visible()], name
    accent = page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--accent')")
    assert page.locator(f".print-picture svg > [stroke='{accent}']").count() == 1
    assert page.locator(".print-picture svg").is_visible()
    assert not page.locator(".circuit").is_visible()
    assert page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--paper')") == "#ffffff"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator(".print-picture svg").count() == 0


def test_without_scripts_there_is_a_message_and_the_picture(path, open_page):
    page = open_page(path, wait=False, java_script_enabled=False)
    assert page.get_by_text("JavaScript is off").is_visible()
    assert page.locator("#fallback img").is_visible()


def test_an_old_browser_gets_a_message_and_the_picture(path, open_page):
    page = open_page(path, wait=False)
    page.add_init_script("delete globalThis.DecompressionStream")
    page.reload()
    page.get_by_text("this browser is too old, it lacks DecompressionStream").wait_for()
    assert page.locator("#fallback img").is_visible()
    assert open_page.problems == ["this browser is too old, it lacks DecompressionStream"]
    open_page.problems.clear()


def test_a_damaged_page_says_so_and_keeps_the_picture(path, open_page, tmp_path):
    damaged = tmp_path / "damaged.html"
    damaged.write_text(path.read_text().replace('id="part-graph-0">H4sI', 'id="part-graph-0">AAAA'))
    page = open_page(damaged, wait=False)
    page.get_by_text("its part graph-0 is damaged").wait_for()
    assert page.locator("#fallback img").is_visible()
    assert open_page.problems
    open_page.problems.clear()


def test_a_page_whose_worker_fails_shows_the_picture(path, open_page, tmp_path):
    """The error comes after the parts of the page are there."""
    broken = base64.b64encode(gzip.compress(b"throw new Error('broken')")).decode()
    damaged = tmp_path / "damaged.html"
    damaged.write_text(re.sub(r'(id="part-worker-prune">)[^<]*', rf"\g<1>{broken}", path.read_text()))
    page = open_page(damaged, wait=False)
    page.get_by_text("This page cannot be shown: Uncaught Error: broken").wait_for()
    assert page.locator("#fallback img").is_visible()
    assert page.get_by_role("banner").count() == 0
    assert open_page.problems
    open_page.problems.clear()


def test_a_later_failure_of_the_worker_is_said_once(path, open_page):
    page = open_page(path)
    page.evaluate("() => void (cotrace.files[0].pruner.prune = () => Promise.reject(new Error('no memory')))")
    for threshold in (0.5, 0.6):
        page.evaluate("nodeThreshold => cotrace.store.update(0, { nodeThreshold })", threshold)
    page.locator(".toast", has_text="The graph is not pruned: no memory").wait_for()
    assert page.locator(".toast").count() == 1


def test_a_held_key_runs_its_command_once_unless_it_repeats(path, open_page):
    page = open_page(path)
    page.evaluate("""() => {
        globalThis.runs = { once: 0, again: 0 };
        cotrace.commands.add({ id: "once", title: "once", keys: ["Alt+F9"], run: () => runs.once++ });
        cotrace.commands.add({ id: "again", title: "again", keys: ["Alt+F10"], repeats: true, run: () => runs.again++ });
    }""")
    page.keyboard.down("Alt")
    for key in ("F9", "F10"):
        for _ in range(3):
            page.keyboard.down(key)
        page.keyboard.up(key)
    page.keyboard.up("Alt")
    assert page.evaluate("runs") == {"once": 1, "again": 3}


def test_the_tour_takes_the_focus_where_it_was_asked_for_and_gives_it_back(path, open_page):
    page = open_page(path)
    page.evaluate("document.activeElement.blur()")
    page.locator(".search input").focus()
    page.evaluate("cotrace.commands.run('tour')")
    page.wait_for_selector(".tour:focus")
    page.keyboard.press("Escape")
    assert page.locator(".tour").count() == 0
    assert page.evaluate("document.activeElement.matches('.search input')")
