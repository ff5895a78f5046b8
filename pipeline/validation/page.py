"""`report.html`: the report as one page that needs nothing beside it."""

import html
from collections.abc import Iterable, Mapping, Sequence

from pipeline.validation import charts, checks, combine, job, page_style
from pipeline.validation.checks import Anomaly, Place
from pipeline.validation.thumbnails import Thumbnail
from stat_tf.data import info as info_lib
from stat_tf.data import sizes

NAME = "report.html"
# Clips of one anomaly that are shown, and of all anomalies together.
_SHOWN_CLIPS = 6
_SHOWN_CLIPS_OF_ALL = 300
_MEASURES = {
    "brightness": "mean luma of a clip, grey levels",
    "contrast": "standard deviation of a frame's luma, mean over the clip",
    "motion": "largest change from a frame to the next of the area of an LR pixel",
}


def wanted(anomalies: Sequence[Anomaly], findings: job.Findings) -> list[Place]:
    """The places of the clips that the page shows."""
    odd = [place for anomaly in anomalies for place in anomaly.places[:_SHOWN_CLIPS]][:_SHOWN_CLIPS_OF_ALL]
    usual = [Place(shard, offset) for _, members in findings.classes.values() for _, shard, offset, _ in members]
    return odd + usual


def render(
    info: info_lib.DatasetInfo,
    anomalies: Sequence[Anomaly],
    statistics: dict,
    findings: job.Findings,
    policy: checks.Policy,
    thumbnails: Mapping[Place, Thumbnail],
) -> str:
    """The page's text.

    Args:
      info: The dataset's description.
      anomalies: What is wrong, worst first.
      statistics: As of `report.statistics`.
      findings: What the job found; for the clips of each class.
      policy: Which checks are made.
      thumbnails: What can be shown of the places that are `wanted`.
    """
    sections = [
        _verdict(anomalies),
        _tiles(info, statistics),
        _section("Anomalies", _anomalies(anomalies, statistics["anomalies"], thumbnails)) if anomalies else "",
        _section("Checks", _checks(statistics["anomalies"], policy)),
        _section("Clips by class", _class_table(info, statistics["clips"])),
        _section("What the frames are like", _distributions(statistics["measures"])),
        _section("Some clips of each class", samples) if (samples := _samples(findings, thumbnails)) else "",
        _section("Files", _shards(statistics["shards"])),
    ]
    return page_style.PAGE.substitute(title="Validation of a dataset", style=page_style.CSS, body="\n".join(sections))


def _section(title: str, body: str) -> str:
    return f"<section><h2>{title}</h2>{body}</section>"


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the cells are HTML."""
    head = "".join(f"<th>{header}</th>" for header in headers)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _splits(names: Iterable[str]) -> list[str]:
    """Splits in their usual order."""
    return [split for split in info_lib.SPLITS if split in names]


def _verdict(anomalies: Sequence[Anomaly]) -> str:
    verdict = checks.verdict(anomalies)
    num_errors = sum(anomaly.severity == checks.ERROR for anomaly in anomalies)
    parts = [(num_errors, "error"), (len(anomalies) - num_errors, "warning")]
    said = " and ".join(_plural(count, noun) for count, noun in parts if count) or "nothing found"
    return (
        f'<header class="{verdict}"><h1>Validation of a dataset</h1>'
        f'<p><strong class="verdict">{verdict}</strong> {said}</p></header>'
    )


def _tiles(info: info_lib.DatasetInfo, statistics: dict) -> str:
    clips = [(f"{split} clips", str(statistics["num_clips"].get(split, 0))) for split in _splits(info.shards)]
    stored = [
        ("classes", str(len(info.classes))),
        ("segments × snippets × frames", f"{info.num_segments} × {info.num_snippets} × {info.num_frames}"),
        ("HR", sizes.text(info.hr_size)),
        ("LR", ", ".join(map(sizes.text, info.lr_sizes))),
        ("optical flow", info.flow.method if info.flow else "none"),
        ("left out by the build", str(info.num_rejected)),
    ]
    tiles = "".join(
        f'<div class="tile"><b>{html.escape(value)}</b><span>{html.escape(name)}</span></div>'
        for name, value in clips + stored
    )
    return f'<div class="tiles">{tiles}</div>'


def _figure(thumbnail: Thumbnail, caption: str) -> str:
    return (
        f'<figure><img class="hr" src="{thumbnail.hr}" alt="HR frames"><img class="lr" src="{thumbnail.lr}" '
        f'alt="LR frames"><figcaption>{html.escape(caption)}</figcaption></figure>'
    )


def _anomalies(anomalies: Sequence[Anomaly], totals: Mapping[str, int], thumbnails: Mapping[Place, Thumbnail]) -> str:
    cards, shown = [], 0
    for anomaly in anomalies:
        places = anomaly.places[: min(_SHOWN_CLIPS, _SHOWN_CLIPS_OF_ALL - shown)]
        shown += len(places)
        figures = "".join(
            _figure(thumbnails[place], f"{clip_id} · {thumbnails[place].label or 'no label'}")
            for clip_id, place in zip(anomaly.clips, places)
            if place in thumbnails
        )
        ids = "".join(f"<li>{html.escape(clip_id)}</li>" for clip_id in anomaly.clips)
        listed = _plural(anomaly.num_clips, "clip")
        if anomaly.num_clips > len(anomaly.clips):
            listed += f", the first {len(anomaly.clips)}"
        details = f"<details><summary>{listed}</summary><ul>{ids}</ul></details>" if ids else ""
        split = f'<span class="split">{html.escape(anomaly.split)}</span>' if anomaly.split else ""
        cards.append(
            f'<article class="{anomaly.severity}"><p><span class="badge">{anomaly.severity}</span> '
            f"<code>{anomaly.check}</code> {split}</p><p>{html.escape(anomaly.message)}</p>"
            f'<div class="figures">{figures}</div>{details}</article>'
        )
    for name, total in totals.items():
        listed = sum(anomaly.check == name for anomaly in anomalies)
        if total > listed:
            cards.append(f"<p>{total - listed} more of <code>{name}</code> are not listed.</p>")
    return "".join(cards)


def _checks(totals: Mapping[str, int], policy: checks.Policy) -> str:
    rows = []
    for name, (_, meaning) in checks.CHECKS.items():
        severity = policy.severities.get(name)
        found = totals.get(name, 0)
        result = f'<span class="{severity}-text">{found}</span>' if found else '<span class="ok">none</span>'
        rows.append((f"<code>{name}</code>", meaning, severity or "ignored", result if severity else "not made"))
    return _table(("check", "finds that", "severity", "found"), rows)


def _class_table(info: info_lib.DatasetInfo, clips: Mapping[str, Mapping[str, int]]) -> str:
    splits = _splits(info.shards)
    labels = sorted({label for counts in clips.values() for label in counts} | set(info.classes))
    largest = max((count for counts in clips.values() for label, count in counts.items() if label), default=0)
    rows = []
    for label in labels:
        counts = [clips.get(split, {}).get(label, 0) for split in splits]
        # Beside all that have no label, a class would have no bar to speak of.
        cells = [charts.bar(count, largest, split) if label else str(count) for count, split in zip(counts, splits)]
        rows.append((html.escape(label) or "<i>no label</i>", *cells))
    return f'<div class="bars">{_table(("class", *splits), rows)}</div>'


def _distributions(measures: Mapping[str, Mapping[str, dict]]) -> str:
    legend = " ".join(
        f'<span class="key" style="background:{charts.COLORS[split]}"></span>{split}' for split in _splits(measures)
    )
    blocks = []
    for measure, meaning in _MEASURES.items():
        found = {split: measures[split][measure] for split in _splits(measures) if measure in measures[split]}
        if not found:
            continue
        chart = charts.histograms(
            {split: values["histogram"] for split, values in found.items()}, combine.BIN_WIDTHS[measure], measure
        )
        rows = [(split, *(f"{v[name]:.1f}" for name in ("mean", "std", "min", "max"))) for split, v in found.items()]
        table = _table(("", "mean", "std", "min", "max"), rows)
        blocks.append(f"<div><h3>{measure}</h3><p class=note>{meaning}</p>{chart}{table}</div>")
    return f'<p class="note">Share of the clips by value: {legend}</p><div class="charts">{"".join(blocks)}</div>'


def _samples(findings: job.Findings, thumbnails: Mapping[Place, Thumbnail]) -> str:
    blocks = []
    for label in sorted({label for _, label in findings.classes}):
        figures = []
        for split in info_lib.SPLITS:
            for clip_id, shard, offset, _ in findings.classes.get((split, label), (0, []))[1]:
                if thumbnail := thumbnails.get(Place(shard, offset)):
                    figures.append(_figure(thumbnail, f"{split}: {clip_id}"))
        if figures:
            name = html.escape(label) or "<i>no label</i>"
            blocks.append(f'<h3>{name}</h3><div class="figures">{"".join(figures)}</div>')
    note = '<p class="note">HR frames, and beneath them the LR frames as a student sees them.</p>'
    return note + "".join(blocks) if blocks else ""


def _shards(shards: Sequence[dict]) -> str:
    def result(shard: dict) -> str:
        text = html.escape(shard["problem"])
        return f'<span class="error-text">{text}</span>' if text else '<span class="ok">whole</span>'

    rows = [(html.escape(s["name"]), f"{s['num_read']} of {s['num_clips']}", result(s)) for s in shards]
    summary = f"{len(shards)} files, {sum(bool(shard['problem']) for shard in shards)} of them damaged"
    table = _table(("file", "clips read", ""), rows)
    return f"<details><summary>{summary}</summary>{table}</details>"
