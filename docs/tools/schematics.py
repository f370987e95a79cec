"""Draw the schematics of the documentation as SVG: ``python docs/tools/schematics.py``.

A schematic has lanes of boxes that arrows join from left to right. ``source`` comes before all lanes and ``sink`` after
them, unless a lane begins or ends with a space. ``links`` are further arrows, each given by lane and position.
"""

from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import yaml

DOCS = Path(__file__).parents[1]
WIDTH, HEIGHT, GAP, LANE, MARGIN = 148, 52, 30, 74, 14
FILLS = {"": "#f3f5f8", "flow": "#d8e8f8", "fixed": "#ececec", "loss": "#fde8d8", "score": "#dff2df"}
"""Colours by kind of box: data, trained, frozen, only in training, result."""
HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="{h}" viewBox="0 0 {w} {h}" role="img" '
    'font-family="Helvetica, Arial, sans-serif" font-size="12">\n<title>{title}</title>\n'
    '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0 0 L8 4 L0 8 z" fill="#555"/></marker></defs>\n<rect width="100%" height="100%" fill="#fff"/>\n'
)


@dataclass
class Schematic:
    """What a schematic shows. A box is ``text`` or ``kind: text`` with ``|`` between its lines; ``""`` is a space."""

    title: str
    lanes: list[list[str]]
    source: list[str] = field(default_factory=list)
    sink: list[str] = field(default_factory=list)
    links: list[list[int]] = field(default_factory=list)


def _box(text: str, x: float, y: float) -> str:
    kind, colon, rest = text.partition(": ")
    kind, label = (kind, rest) if colon and kind in FILLS else ("", text)
    lines = label.split("|")
    drawn = f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="{FILLS[kind]}" stroke="#667"/>\n'
    for number, line in enumerate(lines):
        baseline = y + HEIGHT / 2 + 4 + 15 * (number - (len(lines) - 1) / 2)
        drawn += (
            f'<text x="{x + WIDTH / 2}" y="{baseline}" text-anchor="middle" fill="#111">{escape(line.strip())}</text>\n'
        )
    return drawn


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    (x0, y0), (x1, y1) = start, end
    middle = (x0 + x1) / 2
    path = f"M{x0} {y0} C{middle} {y0} {middle} {y1} {x1} {y1}" if x0 != x1 else f"M{x0} {y0} L{x1} {y1}"
    return f'<path d="{path}" fill="none" stroke="#555" stroke-width="1.4" marker-end="url(#a)"/>\n'


def draw(schematic: Schematic) -> str:
    """The schematic as the text of an SVG file."""
    n_lanes, n_boxes = len(schematic.lanes), max(map(len, schematic.lanes))
    left, right = len(schematic.source), len(schematic.sink)
    columns = left + n_boxes + right
    width = 2 * MARGIN + columns * WIDTH + (columns - 1) * GAP
    height = 2 * MARGIN + (n_lanes - 1) * LANE + HEIGHT
    centre = MARGIN + (n_lanes - 1) * LANE / 2
    column_x = [MARGIN + number * (WIDTH + GAP) for number in range(columns)]

    def row(texts: list[str], first: int, y: float) -> list[tuple[float, float]]:
        places = [(column_x[first + number], y) for number in range(len(texts))]
        parts.extend(_box(text, *place) for text, place in zip(texts, places, strict=True) if text)
        for number in range(len(texts) - 1):
            if texts[number] and texts[number + 1]:
                start, end = places[number][0] + WIDTH, places[number + 1][0]
                parts.append(_arrow((start, y + HEIGHT / 2), (end, y + HEIGHT / 2)))
        return places

    parts: list[str] = [HEAD.format(w=width, h=height, title=escape(schematic.title))]
    lanes = [row(texts, left, MARGIN + number * LANE) for number, texts in enumerate(schematic.lanes)]
    source, sink = row(schematic.source, 0, centre), row(schematic.sink, left + n_boxes, centre)
    for texts, lane in zip(schematic.lanes, lanes, strict=True):
        if source and texts[0]:
            parts.append(_arrow((source[-1][0] + WIDTH, centre + HEIGHT / 2), (lane[0][0], lane[0][1] + HEIGHT / 2)))
        if sink and texts[-1]:
            parts.append(_arrow((lane[-1][0] + WIDTH, lane[-1][1] + HEIGHT / 2), (sink[0][0], centre + HEIGHT / 2)))
    for lane, box, to_lane, to_box in schematic.links:
        (x0, y0), (x1, y1) = lanes[lane][box], lanes[to_lane][to_box]
        if x0 == x1:
            edges = (y0 + HEIGHT, y1) if y1 > y0 else (y0, y1 + HEIGHT)
            parts.append(_arrow((x0 + WIDTH / 2, edges[0]), (x1 + WIDTH / 2, edges[1])))
        else:
            parts.append(_arrow((x0 + WIDTH, y0 + HEIGHT / 2), (x1, y1 + HEIGHT / 2)))
    return "".join(parts) + "</svg>\n"


def drawings() -> dict[Path, str]:
    """All schematics by the path of their file."""
    described = yaml.safe_load((DOCS / "tools" / "schematics.yaml").read_text())
    folder = DOCS / "images" / "schematics"
    return {folder / f"{name}.svg": draw(Schematic(**values)) for name, values in described.items()}


def main() -> None:
    """Write all schematics."""
    for path, text in drawings().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
