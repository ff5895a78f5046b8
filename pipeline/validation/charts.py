"""Small charts as inline SVG."""

import html
from collections.abc import Mapping, Sequence

_WIDTH, _HEIGHT = 320, 130
_LEFT, _RIGHT, _TOP, _BOTTOM = 8, 8, 8, 22
_NUMBER = "4em"  # a number's room beside the longest bar
COLORS = {"train": "#2563eb", "test": "#ea580c", "unlabeled": "#6b7280"}


def histograms(counts: Mapping[str, Sequence[int]], bin_width: int, title: str) -> str:
    """Draws one histogram a split over the same axis, each as the share of its split's clips.

    Args:
      counts: Clips by bin, by split; the bins of a split that holds no clips are left out.
      bin_width: Of a bin, in grey levels.
      title: What is counted, for those who cannot see the picture.

    Returns:
      An <svg> element. The axis ends where all histograms do.
    """
    shares = {split: [count / sum(bins) for count in bins] for split, bins in counts.items() if sum(bins)}
    used = max((last for bins in shares.values() for last, share in enumerate(bins, start=1) if share), default=1)
    highest = max((share for bins in shares.values() for share in bins), default=1.0)
    across = (_WIDTH - _LEFT - _RIGHT) / used
    up = (_HEIGHT - _TOP - _BOTTOM) / highest
    floor = _HEIGHT - _BOTTOM
    parts = []
    for split, bins in shares.items():
        points = [(_LEFT, floor)]
        for number, share in enumerate(bins[:used]):
            points += [(_LEFT + (number + end) * across, floor - share * up) for end in (0, 1)]
        points.append((_LEFT + used * across, floor))
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        color = COLORS[split]
        parts.append(
            f'<polygon points="{path}" fill="{color}" fill-opacity=".14" stroke="{color}" stroke-width="1.5"/>'
        )
    for tick in range(5):
        x, value = _LEFT + tick * used * across / 4, tick * used * bin_width / 4
        anchor = ("start", "middle", "middle", "middle", "end")[tick]
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - 7}" text-anchor="{anchor}">{value:g}</text>')
    parts.append(f'<line x1="{_LEFT}" y1="{floor}" x2="{_WIDTH - _RIGHT}" y2="{floor}"/>')
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(title)}">'
        f"{''.join(parts)}</svg>"
    )


def bar(count: int, largest: int, split: str) -> str:
    """A bar and its number, for a table's cell; that of `largest` takes all its width."""
    share = count / largest if largest else 0
    return (
        f'<span class="bar" style="width:calc((100% - {_NUMBER}) * {share:.3f});background:{COLORS[split]}"></span>'
        f'<span class="number">{count}</span>'
    )
