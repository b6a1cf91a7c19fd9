"""Small charts as inline SVG; colours come from the page's style, so they follow light and dark."""

import math
from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 460, 220
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 14, 38
MOST_POINTS = 300

Points = list[tuple[float, float]]
Mark = tuple[float, str]  # place on the horizontal axis, CSS class


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers between ``low`` and ``high``, both included where they are round."""
    if not high > low:
        return [low]
    raw = (high - low) / about
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(m * unit for m in (1, 2, 2.5, 5, 10) if m * unit >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def thin(points: Points, most: int = MOST_POINTS) -> Points:
    """At most ``most`` points: means of neighbours."""
    size = -(-len(points) // most)
    if size <= 1:
        return points
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(g[-1][0], sum(y for _, y in g) / len(g)) for g in groups]


def number(value: float) -> str:
    """A tick's label: 20k, 0.5, 3."""
    if abs(value) >= 1000:
        return f"{value / 1000:g}k"
    return f"{value:.3g}"


def line_chart(series: Sequence[tuple[str, str, Points]], label: str, x_name: str,
               y_name: str, marks: Sequence[Mark] = ()) -> str:
    """SVG of named lines: (name, CSS class, points). Values that are not finite must be left out.
    marks: vertical lines.

    The vertical axis leaves out the highest 2 % of values, so that the first steps of a training
    do not flatten the rest; lines are clipped there.
    """
    series = [(name, style, thin(points)) for name, style, points in series if points]
    xs = [x for _, _, points in series for x, _ in points]
    ys = sorted(y for _, _, points in series for _, y in points)
    if not ys:
        return ""
    low_x, high_x = min(xs), max(xs)
    low, high = ys[0], ys[min(len(ys) - 1, int(0.98 * len(ys)))]
    margin = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    low, high = low - margin, high + margin
    span_x = (high_x - low_x) or 1.0

    def at(x: float, y: float) -> tuple[float, float]:
        px = LEFT + (x - low_x) / span_x * (WIDTH - LEFT - RIGHT)
        py = TOP + (high - y) / (high - low) * (HEIGHT - TOP - BOTTOM)
        return round(px, 1), round(max(TOP, py), 1)

    out = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">']
    for y in ticks(low, high):
        py = at(low_x, y)[1]
        out.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{py}" y2="{py}"/>'
                   f'<text class="tick" x="{LEFT - 6}" y="{py + 4}" text-anchor="end">'
                   f'{number(y)}</text>')
    for x in ticks(low_x, high_x):
        px = at(x, low)[0]
        out.append(f'<text class="tick" x="{px}" y="{HEIGHT - BOTTOM + 16}" '
                   f'text-anchor="middle">{number(x)}</text>')
    out.append(f'<text class="axis" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 4}" '
               f'text-anchor="middle">{escape(x_name)}</text>'
               f'<text class="axis" transform="translate(11 {(TOP + HEIGHT - BOTTOM) / 2}) '
               f'rotate(-90)" text-anchor="middle">{escape(y_name)}</text>')
    for x, style in marks:
        if low_x <= x <= high_x:
            px = at(x, low)[0]
            out.append(f'<line class="{style}" x1="{px}" x2="{px}" y1="{TOP}" '
                       f'y2="{HEIGHT - BOTTOM}"/>')
    for name, style, points in series:
        if len(points) == 1:
            px, py = at(*points[0])
            out.append(f'<circle class="{style} dot" cx="{px}" cy="{py}" r="3.5">'
                       f'<title>{escape(name)}</title></circle>')
            continue
        path = " ".join(f"{'L' if i else 'M'}{px} {py}"
                        for i, (px, py) in enumerate(at(*p) for p in points))
        out.append(f'<path class="line {style}" d="{path}"><title>{escape(name)}: last '
                   f'{points[-1][1]:.4g}</title></path>')
    return "".join([*out, "</svg>"])


def histogram(counts: Sequence[int], label: str) -> str:
    """SVG of shares sorted from the most used: an even use would be the dashed line."""
    total = sum(counts)
    if not total:
        return ""
    shares = sorted((c / total for c in counts), reverse=True)
    groups = min(len(shares), WIDTH - LEFT - RIGHT)
    edges = [round(i * len(shares) / groups) for i in range(groups + 1)]
    heights = [sum(shares[a:b]) / (b - a) for a, b in zip(edges, edges[1:], strict=False)]
    high = max(heights) * 1.05
    base = HEIGHT - BOTTOM

    def at(share: float) -> float:
        return round(base - share / high * (base - TOP), 1)

    width = (WIDTH - LEFT - RIGHT) / groups
    out = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">']
    for y in ticks(0, high):
        out.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at(y)}" '
                   f'y2="{at(y)}"/><text class="tick" x="{LEFT - 6}" y="{at(y) + 4}" '
                   f'text-anchor="end">{number(100 * y)}</text>')
    path = f"M{LEFT} {base}" + "".join(
        f"L{LEFT + i * width:.1f} {at(h)}L{LEFT + (i + 1) * width:.1f} {at(h)}"
        for i, h in enumerate(heights)) + f"L{WIDTH - RIGHT} {base}Z"
    even = at(1 / len(shares))
    out.append(f'<path class="area" d="{path}"/><line class="even" x1="{LEFT}" '
               f'x2="{WIDTH - RIGHT}" y1="{even}" y2="{even}"><title>even use</title></line>')
    for rank in ticks(0, len(shares)):
        px = LEFT + rank / len(shares) * (WIDTH - LEFT - RIGHT)
        out.append(f'<text class="tick" x="{px:.1f}" y="{base + 16}" text-anchor="middle">'
                   f'{number(rank)}</text>')
    out.append(f'<text class="axis" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 4}" '
               'text-anchor="middle">tokens, most used first</text>'
               f'<text class="axis" transform="translate(11 {(TOP + base) / 2}) rotate(-90)" '
               'text-anchor="middle">share, %</text></svg>')
    return "".join(out)
