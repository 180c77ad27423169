"""The circuit of a page: where nodes are, what is drawn, and what pointer and keyboard do."""

import itertools
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from helpers.browser import Opener
from helpers.random_graphs import random_graph

from cotrace.viewer.page.html import ROOM
from cotrace.viewer.page.link import link
from cotrace.viewer.page.payload import PageFile, write_page

SVG = "{http://www.w3.org/2000/svg}"
STATE = "(key) => cotrace.store.file(0)[key]"
WITHOUT_PRUNING = "cotrace.store.update(0, { nodeThreshold: 1, edgeThreshold: 1, keepErrors: true })"
SHAPES = """() => cotrace.circuit.scene.shapes.map((shape) => {
    const { name, kind, layer, position, node } = cotrace.circuit.model.nodes[shape.at] ?? { kind: "more" };
    return { ...shape, name, kind, layer, position, node };
})"""


@pytest.fixture(scope="module")
def graph():
    return random_graph(5, n_layers=6, n_positions=5, n_features=40, n_errors=6, n_logits=3, density=0.4)


@pytest.fixture(scope="module")
def path(graph, tmp_path_factory):
    return write_page([PageFile("a.arrow", graph)], tmp_path_factory.mktemp("page") / "a.html")


@pytest.fixture(scope="module")
def shared_page(path, browser):
    """Return a page that shows every node of the graph, for all tests that leave it as it is."""
    opener = Opener(browser)
    page = opened(opener, path)
    page.evaluate("globalThis.first = structuredClone(cotrace.store.file(0))")
    yield page
    opener.close()


@pytest.fixture
def page(shared_page):
    """Return the shared page in its first state."""
    shared_page.mouse.move(2, 2)
    shared_page.evaluate(
        "() => { document.activeElement.blur(); cotrace.store.update(0, structuredClone(globalThis.first)); }"
    )
    return shared_page


def opened(open_page, path, **options):
    """Open a page without its tour, and show every node."""
    page = open_page(path, permissions=["clipboard-read", "clipboard-write"], **options)
    page.keyboard.press("Escape")
    page.evaluate(f"new Promise((resolve) => {{ cotrace.on('pruned', resolve); {WITHOUT_PRUNING} }})")
    page.evaluate("cotrace.circuit.settled()")
    return page


def centre(page, name):
    """Return the middle of a node in the window."""
    return page.evaluate(
        "(name) => { const box = cotrace.circuit.rectOf(name); return [box.x + box.width / 2, box.y + box.height / 2]; }",
        name,
    )


def shown_edges(page):
    """Return the edges of the circuit as (source, target, key) with numbers of the graph."""
    return page.evaluate("""() => {
        const { scene: { edges }, model: { nodes } } = cotrace.circuit;
        return Array.from(edges.key, (key, at) => [nodes[edges.from[at]].node, nodes[edges.to[at]].node, key]);
    }""")


# --- places ---------------------------------------------------------------------------------


def test_layers_go_up_and_positions_to_the_right(page, graph):
    shapes = page.evaluate(SHAPES)
    assert sorted(shape["node"] for shape in shapes) == sorted(
        page.evaluate("[...cotrace.results[0].nodes.keys()].filter((node) => cotrace.results[0].nodes[node])")
    )
    inner = [shape for shape in shapes if shape["kind"] in ("feature", "error")]
    assert len(inner) >= 30
    columns = page.evaluate("cotrace.circuit.scene.columns")
    for shape in inner:
        assert columns[shape["position"]]["left"] < shape["x"] < columns[shape["position"]]["right"]
    lowest = {
        layer: max(s["y"] + s["h"] for s in inner if s["layer"] == layer) for layer in {s["layer"] for s in inner}
    }
    highest = {layer: min(s["y"] - s["h"] for s in inner if s["layer"] == layer) for layer in lowest}
    layers = sorted(lowest)
    assert all(lowest[above] <= highest[below] for below, above in itertools.pairwise(layers))
    assert all(s["y"] > lowest[layers[0]] for s in shapes if s["kind"] == "token")
    assert all(s["y"] < highest[layers[-1]] for s in shapes if s["kind"] == "logit")


def test_shapes_do_not_cover_each_other(page):
    shapes = [shape for shape in page.evaluate(SHAPES) if shape["form"] != "frame"]
    box = np.array(
        [
            [
                s["x"] - min(s["w"], s["room"] or np.inf),
                s["y"] - s["h"],
                s["x"] + min(s["w"], s["room"] or np.inf),
                s["y"] + s["h"],
            ]
            for s in shapes
        ]
    )
    apart = (box[:, None, 0] >= box[None, :, 2]) | (box[:, None, 1] >= box[None, :, 3])
    apart |= apart.T
    assert (apart | np.eye(len(box), dtype=bool)).all()


def test_the_area_of_a_node_is_its_influence(page, graph):
    influence = np.array(graph.nodes["influence"])
    circles = [s for s in page.evaluate(SHAPES) if s["kind"] == "feature" and s["w"] > 3]
    assert len(circles) > 3
    ratios = [s["w"] ** 2 / influence[s["node"]] for s in circles]
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-4)


def test_nodes_can_be_sized_by_their_effect_on_a_target(page, graph):
    page.evaluate("cotrace.store.update(0, { target: 1, sizeBy: 'effect' })")
    effect = np.abs(
        np.nan_to_num([values[1] for values in graph.nodes["expected_effect"].to_pylist()[: graph.order.n_features]])
    )
    circles = [s for s in page.evaluate(SHAPES) if s["kind"] == "feature" and s["w"] > 3]
    ratios = [s["w"] ** 2 / effect[s["node"]] for s in circles if s["w"] < 12]
    assert len(ratios) > 3
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-3)


# --- edges ----------------------------------------------------------------------------------


def test_the_edges_drawn_are_those_of_the_pruned_graph(page, graph):
    kept = page.evaluate("[...cotrace.results[0].edges]")
    weights = graph.csr.weights[kept]
    expected = set(
        zip(
            graph.csr.indices[kept].tolist(),
            graph.csr.edge_targets()[kept].tolist(),
            (weights < 0).tolist(),
            strict=True,
        )
    )
    found = {(source, target, key % 2 == 1) for source, target, key in shown_edges(page)}  # negative ones are dashed
    assert found == expected


def test_the_strongest_edge_is_drawn_last(page, graph):
    targets, influence = graph.csr.edge_targets(), np.array(graph.nodes["influence"], np.float64)
    for target in graph.info["targets"]:
        influence[target["node"]] += target["weight"]
    size = np.abs(graph.csr.weights.astype(np.float64))
    total = np.bincount(targets, size, graph.order.n_nodes)[targets]
    mass = np.divide(size * influence[targets], total, out=np.zeros_like(size), where=total > 0)
    kept = page.evaluate("[...cotrace.results[0].edges]")
    strongest = kept[np.argmax(mass[kept])]
    assert shown_edges(page)[-1][:2] == [int(graph.csr.indices[strongest]), int(targets[strongest])]


# --- pointer --------------------------------------------------------------------------------


def test_hovering_lights_inputs_and_outputs(page, graph):
    source, target = shown_edges(page)[-1][:2]
    name = page.evaluate("(node) => cotrace.files[0].graph.nameOf(node)", target)
    page.evaluate("cotrace.on('hover', (node) => (globalThis.hovered = node))")
    page.mouse.move(*centre(page, name))
    page.wait_for_function("(node) => globalThis.hovered === node", arg=target)
    expected = (
        {target}
        | {s for s, t, _ in shown_edges(page) if t == target}
        | {t for s, t, _ in shown_edges(page) if s == target}
    )
    lit = page.evaluate("cotrace.circuit.lit.map((name) => cotrace.files[0].graph.nodeOf(name))")
    assert set(lit) == expected
    assert source in lit
    page.mouse.move(*np.add(centre(page, name), [0, -5000]).clip(2))
    page.wait_for_function("() => globalThis.hovered === null")
    assert page.evaluate("cotrace.circuit.lit") == []


def test_a_click_pins_a_node_and_copies_its_name(page):
    name = page.evaluate("cotrace.circuit.model.nodes.find(({ kind }) => kind === 'feature').name")
    page.mouse.click(*centre(page, name))
    assert page.evaluate(STATE, "pins") == [name]
    page.wait_for_function("async (name) => (await navigator.clipboard.readText()) === name", arg=name)
    other = page.evaluate("cotrace.circuit.model.nodes.find(({ kind }) => kind === 'token').name")
    page.keyboard.down("Shift")
    page.mouse.click(*centre(page, other))
    page.keyboard.up("Shift")
    assert page.evaluate(STATE, "selected") == [other]
    page.keyboard.press("Escape")
    assert page.evaluate(STATE, "pins") == page.evaluate(STATE, "selected") == []


def test_a_click_on_an_edge_pins_it(page):
    nodes = [centre(page, name) for name in page.evaluate("cotrace.circuit.model.nodes.map(({ name }) => name)")]
    for source, target, _ in reversed(shown_edges(page)):
        names = page.evaluate("(nodes) => nodes.map((node) => cotrace.files[0].graph.nameOf(node))", [source, target])
        middle = np.mean([centre(page, name) for name in names], axis=0)
        if np.abs(np.array(nodes) - middle).max(axis=1).min() > 30:
            break
    page.mouse.click(*middle)
    assert page.evaluate(STATE, "pins") == [" -> ".join(names)]
    assert set(page.evaluate("cotrace.circuit.lit")) == set(names)


def test_the_wheel_zooms_about_the_pointer_and_zero_fits(page):
    name = page.evaluate("cotrace.circuit.model.nodes.find(({ kind }) => kind === 'feature').name")
    before = centre(page, name)
    page.mouse.move(*before)
    page.mouse.wheel(0, -400)
    page.wait_for_function("() => cotrace.store.file(0).view !== null")
    np.testing.assert_allclose(centre(page, name), before, atol=3)
    page.mouse.move(before[0] + 3, before[1])
    page.keyboard.press("0")
    page.wait_for_function("() => cotrace.store.file(0).view === null")
    np.testing.assert_allclose(centre(page, name), before, atol=3)


def test_dragging_the_ground_pans(page):
    name = page.evaluate("cotrace.circuit.model.nodes.find(({ kind }) => kind === 'feature').name")
    before, stage = centre(page, name), page.locator(".circuit-stage").bounding_box()
    start = (stage["x"] + 8, stage["y"] + 8)
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(start[0] + 60, start[1] + 40, steps=4)
    page.mouse.up()
    np.testing.assert_allclose(centre(page, name), np.add(before, [60, 40]), atol=1)


def test_a_node_can_be_dragged_and_put_back(page):
    name = page.evaluate("cotrace.circuit.model.nodes.find(({ kind }) => kind === 'feature').name")
    before = centre(page, name)
    page.mouse.move(*before)
    page.mouse.down()
    page.mouse.move(before[0] + 30, before[1] - 20, steps=4)
    page.mouse.up()
    np.testing.assert_allclose(centre(page, name), np.add(before, [30, -20]), atol=1)
    assert list(page.evaluate(STATE, "moved")) == [name]
    page.evaluate("cotrace.store.undo()")
    np.testing.assert_allclose(centre(page, name), before, atol=1)


# --- keyboard -------------------------------------------------------------------------------


def test_the_keyboard_reaches_pins_and_selects_nodes(page):
    focus = page.locator(".circuit-focus")
    focus.focus()
    start = focus.get_attribute("aria-label")
    assert start.startswith("target ")
    page.keyboard.press("ArrowDown")
    assert focus.get_attribute("aria-label") != start
    page.keyboard.press("Enter")
    (pinned,) = page.evaluate(STATE, "pins")
    assert pinned in focus.get_attribute("aria-label") or pinned.startswith(("token@", "logit:"))
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Space")
    (selected,) = page.evaluate(STATE, "selected")
    assert selected != pinned
    box, place = focus.bounding_box(), centre(page, selected)
    np.testing.assert_allclose([box["x"] + box["width"] / 2, box["y"] + box["height"] / 2], place, atol=1)


# --- groups, cells and spans ----------------------------------------------------------------


def test_a_group_is_one_node_until_it_is_opened(page, graph):
    names = page.evaluate(
        "cotrace.circuit.model.nodes.filter(({ kind }) => kind === 'feature').slice(5, 9).map(({ name }) => name)"
    )
    inside = {page.evaluate("(name) => cotrace.files[0].graph.nodeOf(name)", name) for name in names}
    before = shown_edges(page)
    page.evaluate("(nodes) => cotrace.store.update(0, { groups: [{ name: 'four', nodes }] }, 'group')", names)
    kinds = [shape["kind"] for shape in page.evaluate(SHAPES)]
    assert kinds.count("group") == 1
    ends = [tuple(None if node in inside else node for node in edge[:2]) for edge in before]
    assert {tuple(edge[:2]) for edge in shown_edges(page)} == {edge for edge in ends if edge != (None, None)}
    assert page.evaluate(
        "(name) => cotrace.circuit.rectOf(name).x === cotrace.circuit.rectOf('group:four').x", names[0]
    )
    small = "cotrace.circuit.setView({ ...cotrace.circuit.view, scale: 0.3 * cotrace.circuit.view.scale })"
    page.evaluate(small)
    assert "four" in [
        text.text for text in ElementTree.fromstring(page.evaluate("cotrace.circuit.svg()")).iter(f"{SVG}text")
    ]
    page.evaluate("cotrace.circuit.follow()")
    page.mouse.dblclick(*centre(page, "group:four"))
    page.wait_for_function("() => cotrace.store.file(0).opened.length === 1")
    shapes = {shape["name"]: shape for shape in page.evaluate(SHAPES)}
    frame = shapes["group:four"]
    for name in names:
        assert abs(shapes[name]["x"] - frame["x"]) < frame["w"]
        assert abs(shapes[name]["y"] - frame["y"]) < frame["h"]
    assert sorted(shown_edges(page)) == sorted(before)
    page.evaluate("cotrace.circuit.focus('group:four')")
    page.keyboard.press("O")
    assert page.evaluate(STATE, "opened") == []


def test_a_collapsed_span_is_one_column(page):
    page.evaluate("cotrace.store.update(0, { collapsed: [[1, 3]] }, 'collapse')")
    columns = page.evaluate("cotrace.circuit.scene.columns.map(({ first, last }) => [first, last])")
    assert columns == [[0, 0], [1, 3], [4, 4]]
    box = page.evaluate(
        "(() => { const box = cotrace.circuit.rectOf('token@2'); return [box.x + box.width / 2, box.y + box.height / 2]; })()"
    )
    page.mouse.dblclick(*box)
    assert page.evaluate(STATE, "collapsed") == []


def test_a_full_cell_hides_its_weakest_nodes_and_opens(tmp_path, open_page):
    from benchmarks.synthetic_graphs import GraphSize, synthetic_graph

    crowded = synthetic_graph(GraphSize(layers=2, positions=3, nodes=150, targets=2, edges=4_000))
    page = opened(open_page, write_page([PageFile("a.arrow", crowded)], tmp_path / "a.html"))
    shapes = page.evaluate(SHAPES)
    assert any(shape["kind"] == "more" for shape in shapes)
    hidden = page.evaluate("cotrace.circuit.model.nodes.length") - sum(shape["kind"] != "more" for shape in shapes)
    assert hidden == sum(int(shape["text"][1:]) for shape in shapes if shape["kind"] == "more")
    page.evaluate("cotrace.store.update(0, { opened: ['L0@1', 'L0@2', 'L1@1', 'L1@2'] })")
    assert len(page.evaluate(SHAPES)) == page.evaluate("cotrace.circuit.model.nodes.length")


# --- pictures -------------------------------------------------------------------------------


def test_the_svg_has_every_node_and_edge_as_data(page, graph):
    page.evaluate(
        """cotrace.store.update(0, { labels: { [cotrace.circuit.model.nodes[0].name.split('@')[0]]: '</text><script>"&' } }, 'label')"""
    )
    root = ElementTree.fromstring(page.evaluate("cotrace.circuit.svg({ isWhole: true })"))
    assert len(root.findall(f"{SVG}path")) == len(shown_edges(page))
    assert len(root.findall(f"{SVG}circle")) == sum(shape["kind"] == "feature" for shape in page.evaluate(SHAPES))
    dashed = [path for path in root.findall(f"{SVG}path") if path.get("stroke-dasharray")]
    assert len(dashed) == sum(key % 2 for _, _, key in shown_edges(page))
    assert not root.findall(f".//{SVG}script")
    assert all(re.fullmatch(r"#[0-9a-f]{6}|none", path.get("stroke")) for path in root.findall(f"{SVG}path"))


def test_labels_do_not_cover_each_other(page, tmp_path, open_page):
    svg = tmp_path / "a.svg"
    svg.write_text(page.evaluate("cotrace.circuit.svg({ isWhole: true })"))
    boxes = open_page(svg, wait=False).evaluate("""[...document.querySelectorAll("text")].map((text) => {
        const { x, y, width, height } = text.getBBox();
        return [x, y + height * 0.2, x + width, y + height * 0.8];
    })""")
    box = np.array(boxes)
    assert len(box) > 20
    apart = (box[:, None, 0] >= box[None, :, 2]) | (box[:, None, 1] >= box[None, :, 3])
    apart |= apart.T
    assert (apart | np.eye(len(box), dtype=bool)).all()


def test_a_dark_circuit_has_other_colours(path, open_page):
    light, dark = (opened(open_page, path, color_scheme=scheme) for scheme in ("light", "dark"))
    fill = re.compile(r'<rect[^>]*fill="(#\w+)"')
    papers = [fill.search(each.evaluate("cotrace.circuit.svg()"))[1] for each in (light, dark)]
    assert papers[0] == "#ffffff"
    assert int(papers[1][1:3], 16) < 64


def test_a_click_with_shift_beside_all_nodes_keeps_the_selection(page):
    page.evaluate("cotrace.store.update(0, { selected: ['token@0', 'token@1'] })")
    box = page.locator(".circuit-stage").bounding_box()
    empty = page.evaluate(
        """([left, top, width, height]) => {
        const boxes = cotrace.circuit.scene.shapes.map(({ at }) => cotrace.circuit.model.nodes[at]).filter(Boolean).map(({ name }) => cotrace.circuit.rectOf(name));
        for (let y = top + 30; y < top + height; y += 5) {
            const isFree = boxes.every((each) => Math.abs(each.x + each.width / 2 - left - 20) > each.width / 2 + 30 || Math.abs(each.y + each.height / 2 - y) > each.height / 2 + 30);
            if (isFree) return [left + 20, y];
        }
    }""",
        [box["x"], box["y"], box["width"], box["height"]],
    )
    page.keyboard.down("Shift")
    page.mouse.click(*empty)
    page.keyboard.up("Shift")
    assert page.evaluate(STATE, "selected") == ["token@0", "token@1"]
    page.mouse.click(*empty)
    assert page.evaluate(STATE, "selected") == []


def test_after_a_pinch_the_finger_that_is_left_moves_the_circuit(page):
    views = page.evaluate("""async () => {
        const stage = document.querySelector(".circuit-stage");
        const box = stage.getBoundingClientRect();
        const tell = (type, pointerId, x, y) => stage.dispatchEvent(new PointerEvent(type,
            { pointerId, pointerType: "touch", buttons: Number(type !== "pointerup"), bubbles: true, clientX: box.x + x, clientY: box.y + y }));
        tell("pointerdown", 1, 100, 100);
        tell("pointerdown", 2, 200, 100);
        tell("pointermove", 2, 300, 100);
        const pinched = cotrace.circuit.view;
        tell("pointerup", 2, 300, 100);
        tell("pointermove", 1, 90, 120);
        const moved = cotrace.circuit.view;
        tell("pointerup", 1, 90, 120);
        return [pinched, moved];
    }""")
    pinched, moved = views
    assert moved["scale"] == pinched["scale"]
    assert (moved["x"] - pinched["x"]) * moved["scale"] == pytest.approx(10)
    assert (moved["y"] - pinched["y"]) * moved["scale"] == pytest.approx(-20)


@pytest.mark.parametrize(
    "values", [[0.5] * 9, [0.0] * 9, [0.1, 0.1, 0.3, 0.3, 0.3, 0.2, 0.2], [0.5001, 0.5, 0.5002, 0.5003], [1, 2]]
)
def test_as_many_of_the_strongest_edges_are_drawn_as_may_be(browser, values):
    entry = 'import { cutOff } from "./circuit/strength.js";\nObject.assign(globalThis, { cutOff });'
    opener = Opener(browser)
    page = opener("about:blank", wait=False)
    page.add_script_tag(
        content=link("entry.js", lambda name: entry if name == "entry.js" else (ROOM / "js" / name).read_text())
    )
    found = page.evaluate("values => cutOff(Float32Array.from(values), 3)", values)
    opener.close()
    kept = np.float32(values)
    kept = [*kept[kept > found["least"]], *kept[kept == np.float32(found["least"])][: found["ties"]]]
    assert sorted(kept) == sorted(np.float32(values))[-3:]


# --- clicks and drags that meet a change ------------------------------------------------------


def test_a_double_click_does_one_thing(page):
    feature = page.evaluate("cotrace.circuit.model.nodes.find(({ kind }) => kind === 'feature').name")
    page.mouse.dblclick(*centre(page, feature))
    assert page.evaluate(STATE, "pins") == [feature]
    assert page.evaluate(STATE, "collapsed") == []
    page.mouse.dblclick(*centre(page, "token@2"))
    assert page.evaluate(STATE, "pins") == [feature]
    assert page.evaluate(STATE, "collapsed") == [[2, 2]]


def test_a_double_click_on_hidden_nodes_only_opens_their_cell(tmp_path, open_page):
    from benchmarks.synthetic_graphs import GraphSize, synthetic_graph

    crowded = synthetic_graph(GraphSize(layers=2, positions=3, nodes=150, targets=2, edges=4_000))
    page = opened(open_page, write_page([PageFile("a.arrow", crowded)], tmp_path / "a.html"))
    box = page.locator(".circuit-stage").bounding_box()
    x, y = page.evaluate("""() => {
        const { scene, view } = cotrace.circuit;
        const { x, y } = scene.shapes.find(({ kind }) => kind === "more");
        return [(x - view.x) * view.scale, (y - view.y) * view.scale];
    }""")
    page.mouse.dblclick(box["x"] + box["width"] / 2 + x, box["y"] + box["height"] / 2 + y)
    assert len(page.evaluate(STATE, "opened")) == 1
    assert page.evaluate(STATE, "pins") == page.evaluate(STATE, "collapsed") == []
    page.keyboard.press("Shift+C")
    assert page.evaluate(STATE, "opened") == []
    page.keyboard.press("Control+z")
    assert len(page.evaluate(STATE, "opened")) == 1


def test_a_drag_stays_with_its_node_when_the_layout_changes(page):
    name = page.evaluate("cotrace.circuit.model.nodes.filter(({ kind }) => kind === 'feature').at(-1).name")
    page.mouse.move(*(start := centre(page, name)))
    page.mouse.down()
    page.mouse.move(start[0] + 20, start[1], steps=3)
    others = page.evaluate(
        "cotrace.circuit.model.nodes.filter(({ kind }) => kind === 'feature').slice(0, 3).map(({ name }) => name)"
    )
    page.evaluate("(nodes) => cotrace.store.update(0, { groups: [{ name: 'three', nodes }] }, 'group')", others)
    page.mouse.move(start[0] + 40, start[1], steps=3)
    page.mouse.up()
    moved = page.evaluate(STATE, "moved")
    scale = page.evaluate("cotrace.circuit.view.scale")
    assert list(moved) == [name]
    assert moved[name] == pytest.approx([40 / scale, 0], rel=0.1, abs=0.1)


def test_a_drag_of_a_node_that_is_hidden_meanwhile_ends(page):
    name = page.evaluate("cotrace.circuit.model.nodes.find(({ kind }) => kind === 'feature').name")
    page.mouse.move(*(start := centre(page, name)))
    page.mouse.down()
    page.mouse.move(start[0] + 20, start[1], steps=3)
    page.evaluate("(name) => cotrace.store.update(0, { groups: [{ name: 'one', nodes: [name] }] }, 'group')", name)
    page.mouse.move(start[0] + 40, start[1], steps=3)
    page.mouse.up()
    assert page.evaluate(STATE, "moved") == {}


def test_a_press_that_ends_outside_is_forgotten(page):
    views = page.evaluate("""() => {
        const stage = document.querySelector(".circuit-stage");
        const box = stage.getBoundingClientRect();
        const tell = (type, buttons, x) => stage.dispatchEvent(new PointerEvent(type,
            { pointerId: 1, pointerType: "mouse", buttons, bubbles: true, clientX: box.x + x, clientY: box.y + 9 }));
        const before = cotrace.circuit.view;
        tell("pointerdown", 1, 2);
        tell("pointermove", 0, 90); // the release was not seen
        return [before, cotrace.circuit.view];
    }""")
    assert views[0] == views[1]


@pytest.mark.parametrize(("width", "height"), [(390, 700), (1200, 420)])
def test_targets_and_tokens_of_a_long_prompt_can_be_read(tmp_path, open_page, width, height):
    from benchmarks.synthetic_graphs import GraphSize, synthetic_graph

    long = synthetic_graph(GraphSize(layers=9, positions=60, nodes=1_200, targets=3, edges=5_000))
    path = write_page([PageFile("a.arrow", long)], tmp_path / "a.html")
    page = opened(open_page, path, viewport={"width": width, "height": height})
    stage, strip = (page.locator(name).bounding_box() for name in (".circuit-stage", ".circuit-stage .strip"))
    boxes = [page.evaluate("(name) => cotrace.circuit.rectOf(name).toJSON()", f"logit:{at}") for at in range(3)]
    rows = page.evaluate("cotrace.circuit.scene.rows.at(-1).top")
    y, scale = page.evaluate("[cotrace.circuit.view.y, cotrace.circuit.view.scale]")
    layers = stage["y"] + stage["height"] / 2 + (rows - y) * scale
    assert page.evaluate("cotrace.circuit.view.scale") < 0.6
    for box in boxes:
        assert box["height"] >= 33
        assert box["width"] >= 24
        assert stage["y"] < box["top"]
        assert box["bottom"] < layers
        assert stage["x"] <= box["left"]
        assert box["right"] <= stage["x"] + width
    for a, b in itertools.combinations(boxes, 2):
        assert a["right"] <= b["left"] or b["right"] <= a["left"] or a["bottom"] <= b["top"] or b["bottom"] <= a["top"]
    assert strip["y"] + strip["height"] <= stage["y"] + stage["height"]
