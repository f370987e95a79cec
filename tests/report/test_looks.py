"""The report at three widths, in light and dark, and on paper."""

import pytest

from tests.report.reading import choose

pytestmark = pytest.mark.slow

CONTRAST = """(() => {
  const luminance = (color) => { const [r, g, b] = color.match(/[\\d.]+/g).map(Number).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = (e) => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if (c !== 'rgba(0, 0, 0, 0)') return c; } return 'rgb(255, 255, 255)'; };
  return [...document.querySelectorAll(`p, li, td, th, a, button, select, label,
    h1, h2, h3, h4, small, span, figcaption, strong, code`)]
    .filter(e => e.getClientRects().length && e.innerText && !e.closest('.none'))
    .map(e => { const [x, y] = [luminance(getComputedStyle(e).color), luminance(behind(e))].sort((a, b) => b - a);
      return [(x + 0.05) / (y + 0.05), `${e.tagName} ${e.className} ${e.innerText.slice(0, 30)}`]; })
    .sort((a, b) => a[0] - b[0])[0];
})()"""


@pytest.mark.parametrize("width", [390, 1280, 1900])
def test_it_is_readable_at_each_width(browser, page, width):
    browser.open(page, width=width, height=800)
    assert browser.errors == []
    assert browser.run("document.documentElement.scrollWidth") <= width
    sizes = browser.run(
        "[...document.querySelectorAll('p, td, th, a, small, span')].map(e => parseFloat(getComputedStyle(e).fontSize))"
    )
    assert min(sizes) >= 12
    wide = browser.run(
        "[...document.querySelectorAll('main table')].filter(t => !t.closest('.scroll')).map(t => t.scrollWidth)"
    )
    assert wide == []
    first = browser.run("document.querySelector('#leaderboard td').getBoundingClientRect().width")
    assert first <= width / 2


@pytest.mark.parametrize("width", [1280, 1900])
def test_no_table_scrolls_sideways_on_a_desktop(browser, page, width):
    browser.open(page, width=width, height=800)
    for backbone in ("", "resnet18.tv_in1k@256"):
        choose(browser, "backbone", backbone)
        scrolling = browser.run("""[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth)
          .map(e => e.closest('section').id)""")
        assert scrolling == []


def test_a_wide_screen_is_used(browser, page):
    browser.open(page, width=1900, height=900)
    box = browser.run("(() => { const b = document.querySelector('main').getBoundingClientRect(); return b.width; })()")
    assert box >= 1800
    tops = [
        browser.run(f"document.getElementById('{name}').getBoundingClientRect().top") for name in ("cost", "inflation")
    ]
    assert tops[0] == tops[1]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_light_and_dark(browser, page, scheme):
    browser._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    try:
        browser.open(page)
        dark = browser.run("getComputedStyle(document.body).backgroundColor")
        assert (dark == "rgb(255, 255, 255)") == (scheme == "light")
        contrast, element = browser.run(CONTRAST)
        assert contrast >= 4.5, element
    finally:
        browser._call("Emulation.setEmulatedMedia", features=[])


def test_print_shows_all_rows_in_light_colours(browser, page):
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.open(page, width=760)
    browser._call("Emulation.setEmulatedMedia", media="print", features=dark)
    try:
        assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        hidden = browser.run(
            "['nav', '#filters', '.choices'].map(s => getComputedStyle(document.querySelector(s)).display)"
        )
        assert hidden == ["none"] * 3
        cut = browser.run(
            "[...document.querySelectorAll('.scroll')].filter(e => e.scrollHeight > e.clientHeight + 1).length"
        )
        assert cut == 0
        browser.run("dispatchEvent(new Event('beforeprint'))")
        assert browser.run("document.querySelectorAll('details:not([open])').length") == 0
        browser.run("dispatchEvent(new Event('afterprint'))")
        assert browser.run("document.querySelectorAll('details[open]').length") == 0
    finally:
        browser._call("Emulation.setEmulatedMedia", media="", features=[])


def test_curves_have_labelled_axes_and_a_legend_inside(opened):
    assert opened.run("document.querySelectorAll('#curves svg').length") == 8
    texts = opened.run("[...document.querySelectorAll('#curves svg:first-of-type text')].map(t => t.textContent)")
    assert {"epoch", "nats per dimension", "percent", "training loss", "held-out loss", "image AUROC"} <= set(texts)
    outside = opened.run("""[...document.querySelectorAll('#curves svg')].flatMap(svg => {
        const box = svg.getBoundingClientRect();
        return [...svg.querySelectorAll('text')].filter(t => { const b = t.getBoundingClientRect();
          return b.left < box.left - 1 || b.right > box.right + 1 || b.top < box.top - 1
            || b.bottom > box.bottom + 1; });
      }).map(t => t.textContent)""")
    assert outside == []
    crossed = opened.run("""[...document.querySelectorAll('#curves svg')].some(svg => {
        const legend = svg.querySelector('.legend').getBoundingClientRect();
        return [...svg.querySelectorAll('polyline')].some(p => p.getBoundingClientRect().top < legend.bottom); })""")
    assert not crossed


def test_bars_of_the_summary_start_at_zero(opened):
    """A bar is as long as its share, so close methods look close."""
    rows = opened.run(
        "[...document.querySelector('.tile').querySelectorAll('li')].map("
        "row => [row.querySelector('.bar').style.width, row.lastChild.innerText])"
    )
    assert len(rows) > 1
    for width, text in rows:
        assert float(width.removesuffix("%")) == pytest.approx(float(text), abs=0.01)
