"""Charts as SVG, made here: no script, no style of their own; colours are classes of ``static/app.css``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

WIDTH = 1000
STATES = ("issued", "sending", "retrying", "queued", "dead", "undone")


def states(counts: Mapping[str, int], label: str) -> Markup:
    """Draw how many jobs are in each state, as parts of one bar."""
    total = sum(counts.values())
    parts, at = [], 0.0
    for state in STATES:
        if count := counts.get(state, 0):
            # What there is one of among a million is still seen.
            width = max(4.0, count / total * WIDTH)
            parts.append(
                Markup(
                    '<rect class="of-{}" x="{:.1f}" width="{:.1f}" height="10"><title>{:,} {}</title></rect>'
                ).format(state, at, width, count, state)
            )
            at += width
    return _svg("bar", max(at, 1.0), 10, parts, label)


def use(share: float, label: str) -> Markup:
    """Draw how much of a limit is used: a bar that fills, with a mark at the whole."""
    filled = min(1.0, max(0.0, share)) * WIDTH
    parts = [
        Markup('<rect class="of-use{}" width="{:.1f}" height="10"/>').format(
            " full" if share >= 0.98 else "", filled
        )
    ]
    return _svg("bar use", WIDTH, 10, parts, label)


def minutes(calls: Sequence[int], limit: float | None, label: str) -> Markup:
    """Draw the calls in each of the last sixty minutes as columns, the newest at the right.

    Minutes that nobody saw are empty; a line shows the limit where it is near.
    """
    high = float(max([*calls, 1]))
    is_near = limit is not None and limit <= 2 * high
    high = max(high, limit or 0) if is_near else high
    width = WIDTH / 60
    parts = [
        Markup('<rect class="of-minute" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
            (60 - len(calls[-60:]) + n) * width, 98 - count / high * 94, width * 0.72, count / high * 94 + 2
        )
        for n, count in enumerate(calls[-60:])
    ]
    if is_near:
        at = 98 - (limit or 0) / high * 94
        parts.append(
            Markup('<line class="most" x1="0" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(WIDTH, at, at)
        )
    return _svg("spark", WIDTH, 100, parts, label)


def _svg(kind: str, width: float, height: int, parts: Sequence[Markup], label: str) -> Markup:
    return Markup(
        '<svg class="{}" viewBox="0 0 {:.1f} {}" preserveAspectRatio="none" role="img" '
        'aria-label="{}">{}</svg>'
    ).format(kind, width, height, label, Markup("").join(parts))
