"""Pictures in the report: examples, and the browser by score."""

import pytest

from tests.report.reading import choose, embedded

pytestmark = pytest.mark.slow


def test_pictures_are_shown(opened):
    choose(opened, "backbone", "resnet18.tv_in1k@256")
    choose(opened, "gallery-category", "1")
    images = "Promise.all([...document.querySelectorAll('#gallery .cards img')]"
    shown = opened.run(f"{images}.map(i => i.decode().then(() => [i.alt, i.naturalWidth, i.clientWidth])))")
    assert {alt for alt, _, _ in shown} == {"test image", "ground truth", "anomaly map"}
    assert len(shown) >= 2 * (2 + 5)
    assert all(width > 0 for _, width, _ in shown)
    assert min(width for _, _, width in shown) > 128
    titles = opened.run("[...document.querySelectorAll('#gallery h4')].map(h => h.innerText)")
    assert titles[0] == "Good and each kind of defect"


def test_worst_false_alarms_and_misses_of_the_chosen_method_are_shown(opened, page):
    gallery = embedded(page.read_text())["gallery"]
    place, found = next(
        (place, system)
        for place, category in enumerate(gallery)
        for system in category["systems"]
        if system["alarms"] and system["misses"] and not system["separated"]
    )
    names = [found["method"], found["backbone"]]
    number = opened.run(f"data.systems.findIndex(s => `${{[s.method, s.backbone]}}` === `${{{names}}}`)")
    choose(opened, "gallery-category", str(place))
    choose(opened, "gallery-system", str(number))
    groups = opened.run("""[...document.querySelectorAll('#gallery .group')].map(g => [g.querySelector('h4').innerText,
      ...[...g.querySelectorAll('.cards')].map(c => c.querySelector('figcaption').innerText.split('\\n')[1])])""")
    names = [image["name"] for image in gallery[place]["images"]]
    assert groups[1:] == [
        ["Worst false alarms: the normal images with the highest scores", *(names[i] for i in found["alarms"])],
        ["Worst misses: the anomalous images with the lowest scores", *(names[i] for i in found["misses"])],
    ]


def selected(browser):
    """Place and name of the image that is chosen, and the name under the large picture."""
    label = browser.run("document.querySelector('.thumbs [aria-selected=true]').getAttribute('aria-label')")
    return label, browser.run("document.querySelector('.detail figcaption').innerText").split("\n")[1]


def press(browser, key):
    for kind in ("keyDown", "keyUp"):
        browser._call("Input.dispatchKeyEvent", type=kind, key=key, code=key)


def test_images_are_browsed_by_score_with_clicks_and_keys(opened):
    choose(opened, "gallery-system", "0")
    places = opened.run("[...document.querySelectorAll('.thumbs span')].map(s => Number(s.innerText.slice(1)))")
    assert len(places) == 6
    assert places == sorted(places)
    opened.run("document.querySelectorAll('.thumbs button')[2].click()")
    label, name = selected(opened)
    assert f"place {places[2]}," in label
    assert name in label
    opened.run("document.querySelector('.thumbs [aria-selected=true]').focus()")
    for key, place in (("ArrowRight", 3), ("ArrowLeft", 2), ("End", 5), ("ArrowRight", 5), ("Home", 0)):
        press(opened, key)
        assert f"place {places[place]}," in selected(opened)[0]
        assert opened.run("document.activeElement.getAttribute('aria-label')") == selected(opened)[0]
    choose(opened, "gallery-kind", "good")
    kinds = opened.run("[...document.querySelectorAll('.thumbs button')].map(b => b.className)")
    assert kinds == ["good"] * 3


def test_the_order_of_images_is_that_of_the_chosen_method(opened, page):
    gallery = embedded(page.read_text())["gallery"][0]
    for index in ("0", "3"):
        choose(opened, "gallery-system", index)
        system = opened.run(f"data.systems[{index}]")
        (found,) = [
            s for s in gallery["systems"] if (s["method"], s["backbone"]) == (system["method"], system["backbone"])
        ]
        ranked = sorted(found["results"], key=lambda result: -result[0])
        shown = opened.run("[...document.querySelectorAll('.thumbs span')].map(s => s.innerText)")
        assert shown == [f"#{place}" for _, place, _ in ranked]
