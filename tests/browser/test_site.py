"""The website from a folder on the disk, in a browser: it reads well, asks nobody, and its latent spaces are right."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from ..conftest import ROOT

sys.path.insert(0, str(ROOT / ".site"))
import decoders

MODELS = {"plane": "06_the_vae", "digits": "06_the_vae", "style": "07_the_conditional_vae"}
each_model = pytest.mark.parametrize("name", MODELS)


@pytest.fixture
def tab(context):
    """A new tab that notes what goes wrong and what it asks the network for."""
    page = context.new_page()
    page.wrong = []
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("console", lambda said: page.wrong.append(said.text) if said.type == "error" else None)
    page.on("request", lambda asked: None if asked.url.startswith(("file:", "data:")) else page.wrong.append(asked.url))
    yield page
    page.close()


def opened(tab, site, name: str):
    tab.goto((site / name).as_uri())
    return tab


def explorer(tab, site, name: str):
    return opened(tab, site, f"{MODELS[name]}.html").locator(f'.explorer[data-model="{name}"]')


def decode(name: str, z: np.ndarray) -> np.ndarray:
    """PyTorch on the stored weights: codes (B, L), and conditions behind them, to pixels (B, 784)."""
    with np.load(decoders.FILE) as file:
        h = torch.from_numpy(z).float()
        for i in range(3):
            weight = torch.from_numpy(file[f"{name}.{i}.weight"] * file[f"{name}.{i}.scale"][:, None])
            h = torch.nn.functional.linear(h, weight, torch.from_numpy(file[f"{name}.{i}.bias"]))
            h = h.relu() if i < 2 else h.sigmoid()
    return h.numpy()


@each_model
def test_the_page_decodes_as_pytorch_does(tab, site, name):
    figure = explorer(tab, site, name)
    z = 1.5 * np.random.default_rng(0).normal(size=(20, 2 if name == "plane" else 10 if name == "digits" else 16))
    pixels = figure.evaluate("(figure, codes) => codes.map(z => [...figure.explorer.decode(z)])", z.tolist())
    assert np.abs(np.array(pixels) - decode(name, z)).max() < 1e-5
    shown, code = figure.evaluate("""figure => {
      const {state, input, change, draw} = figure.explorer;
      change({0: 0.7, 1: -1.2});
      draw();
      const data = figure.querySelector(".made").getContext("2d").getImageData(0, 0, 28, 28).data;
      return [[...data].filter((_, i) => i % 4 === 0), [...input(state.place, state.digit)]];
    }""")
    assert code[:2] == [0.7, -1.2] or name == "style"
    assert np.abs(np.array(shown) / 255 - decode(name, np.array([code]))[0]).max() <= 1 / 255
    assert not tab.wrong


@each_model
def test_thirty_pictures_a_second(tab, site, name):
    figure = explorer(tab, site, name)
    for square in ("false", "true"):  # dragging; and what changes the whole square
        seconds = figure.evaluate(f"""figure => {{
          const {{change, draw}} = figure.explorer, times = [];
          for (let k = 0; k < 40; k++) {{
            const begun = performance.now();
            change({{1: Math.sin(k)}}, {square});
            draw();
            times.push(performance.now() - begun);
          }}
          return times.sort((a, b) => a - b)[8] / 1000;  // other work on the machine lengthens some
        }}""")  # fmt: skip
        assert seconds < 1 / 30


@each_model
def test_it_moves_by_mouse_keys_and_touch(tab, site, name):
    figure = explorer(tab, site, name)
    pad, words = figure.locator(".pad"), figure.locator(".place")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    settled = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"

    def after(action):
        before = words.inner_text(), figure.locator(".made").evaluate("canvas => canvas.toDataURL()")
        action()
        tab.evaluate(settled)
        now = words.inner_text(), figure.locator(".made").evaluate("canvas => canvas.toDataURL()")
        assert now != before
        return now[0]

    def drag():
        tab.mouse.move(box["x"] + 5, box["y"] + 5)
        tab.mouse.down()
        tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 4)
        tab.mouse.up()

    assert "= 0.0" in (said := after(drag)) and "= 1.5" in said
    pad.focus()
    assert "= 0.1" in after(lambda: tab.keyboard.press("ArrowRight"))
    assert "= 1.0" in after(lambda: tab.keyboard.press("Shift+ArrowDown"))
    devtools = tab.context.new_cdp_session(tab)
    devtools.send("Emulation.setTouchEmulationEnabled", {"enabled": True})

    def touch():
        for kind, x in (("touchStart", 30), ("touchMove", 60), ("touchMove", box["width"] * 5 / 6)):
            point = {"x": box["x"] + x, "y": box["y"] + box["height"] / 2}
            devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
        devtools.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    assert "= 2.0" in after(touch)
    for slider in figure.locator("input").all():
        slider.focus()
        after(lambda: tab.keyboard.press("PageUp"))
    figure.locator("button").nth(3).focus()
    after(lambda: tab.keyboard.press("Enter"))
    assert not tab.wrong


def test_every_page_fits_a_telephone_and_needs_no_network(tab, site):
    tab.set_viewport_size({"width": 390, "height": 844})
    for file in sorted(site.glob("*.html")):
        opened(tab, site, file.name)
        tab.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390, file.name
    assert not tab.wrong


def test_the_search_finds_from_a_folder_on_the_disk(tab, site):
    opened(tab, site, "index.html")
    tab.locator(".sidebar-search").fill("posterior collapse")
    tab.keyboard.press("Enter")
    found = tab.locator("#search-results li a")
    found.nth(2).wait_for()
    assert "09" in found.first.inner_text() and not tab.wrong


@pytest.mark.parametrize("words", ["light mode", "Bonferroni"])
def test_a_search_shows_its_words_where_they_stand_and_leaves_formulas_whole(tab, site, words):
    opened(tab, site, "search.html")
    tab.evaluate("words => localStorage.setItem('sphinx_highlight_terms', words)", words)
    opened(tab, site, "06_the_vae.html")
    in_view = """() => {
      const first = document.querySelector("article .highlighted:not(.tip *)");
      return first?.checkVisibility() && Math.abs(first.getBoundingClientRect().top) < innerHeight;
    }"""
    tab.wait_for_function(in_view, timeout=10_000)  # it scrolls smoothly
    assert not tab.locator("math .highlighted").count() and not tab.wrong


def test_an_answer_is_seen_when_asked_for_and_a_term_under_the_pointer(tab, site):
    opened(tab, site, "06_the_vae.html")
    cover = tab.locator("details.prediction").first
    answer = cover.locator(":scope > p").last
    assert not answer.is_visible()
    cover.locator("summary").first.click()
    assert answer.is_visible()
    term = tab.locator(".term").first
    assert not term.locator(".tip").is_visible()
    term.locator("a").first.hover()
    assert term.locator(".tip").is_visible()
    tab.mouse.move(0, 0)
    term.locator("a").first.focus()
    assert term.locator(".tip").is_visible()
    loaded = "document.fonts.ready.then(() => [...document.fonts].map(font => font.family + font.status))"
    assert any("STIX" in font and font.endswith("loaded") for font in tab.evaluate(loaded))


def test_print_shows_answers_and_a_link_opens_what_it_leads_into(tab, site):
    opened(tab, site, "06_the_vae.html")
    tab.emulate_media(media="print")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    shown = [part.is_visible() for part in tab.locator("details:is(.prediction, .appendix) > p").all()]
    assert shown and all(shown) and not tab.locator("details.help").first.is_visible()
    assert not tab.locator(".skip-to-content").is_visible()
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert not tab.locator("details[open]").count()
    heading = tab.locator("section:has(> h2 + details.appendix)").nth(1)
    tab.evaluate("name => { location.hash = name; }", heading.get_attribute("id"))
    tab.wait_for_timeout(200)
    assert tab.locator("details[open]").count() == 1 and heading.locator("details.appendix > p").first.is_visible()


def test_nothing_is_wider_than_a_printed_page(tab, site):
    tab.set_viewport_size({"width": 718, "height": 1000})  # A4 within its margins, at 96 dots an inch
    tab.emulate_media(media="print")
    for file in sorted(site.glob("[01]*.html")):
        opened(tab, site, file.name)
        tab.evaluate("dispatchEvent(new Event('beforeprint'))")
        wide = """[...document.querySelectorAll("article :is(math, table, img, pre)")].filter(part =>
          part.getBoundingClientRect().right > document.querySelector("article").getBoundingClientRect().right + 4)"""
        assert tab.evaluate(f"{wide}.map(part => part.textContent.slice(0, 60))") == [], file.name


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_both_themes(tab, site, scheme):
    tab.emulate_media(color_scheme=scheme)
    opened(tab, site, "06_the_vae.html")
    brightness = """selector => {
      const find = (name) => getComputedStyle(document.querySelector(selector))[name].match(/[\\d.]+/g).slice(0, 3);
      return ["color", "backgroundColor"].map(name => find(name).reduce((sum, part) => sum + +part, 0) / 765);
    }"""
    text, ground = tab.evaluate(brightness, "body")
    assert (text < 0.3 and ground > 0.9) if scheme == "light" else (text > 0.7 and ground < 0.2)
