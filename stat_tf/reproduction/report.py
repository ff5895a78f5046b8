"""A table as Markdown, CSV and JSON. The paper's numbers stand in columns of their own, never in ours."""

import csv
import dataclasses
import io
import json
import os
from collections.abc import Sequence

import tabulate

from stat_tf import errors, files
from stat_tf.reproduction import statistics
from stat_tf.reproduction.results import Summary
from stat_tf.reproduction.tables import Row, Table

NOT_RUN = "not run yet"
# Columns of words.
_TEXT = ("row", "compared with")
# Beside the table of a figure.
FIGURE_NAME = "fig6.png"


@dataclasses.dataclass(frozen=True)
class Heading:
    """What a table's heading says.

    Attributes:
      dataset: What the rows were measured on, as a phrase.
      settings: By which settings, as a phrase.
      scale: Factor on the length of every training.
      seeds: How many seeds are asked for.
      biased: Whether the test split picked the best checkpoint.
      unlabeled: The dataset of the unlabelled clips, where it is another one that rows of the table read; else "".
    """

    dataset: str
    settings: str
    scale: float
    seeds: int
    biased: bool = False
    unlabeled: str = ""


def write(output: str, heading: Heading, table: Table, summaries: Sequence[Summary]) -> list[str]:
    """Writes `table-NAME.md`, `.csv` and `.json` (`fig6.md` and so on for the figure), each whole or not at all.

    Returns:
      The paths.

    Raises:
      UserError: The directory cannot be written to.
    """
    stem = os.path.join(output, table.name if table.embeddings else f"table-{table.name}")
    texts = {
        f"{stem}.md": markdown(heading, table, summaries),
        f"{stem}.csv": as_csv(table, summaries),
        f"{stem}.json": as_json(heading, table, summaries),
    }
    try:
        os.makedirs(output, exist_ok=True)
        for path, text in texts.items():
            files.write_text(path, text)
    except OSError as error:
        raise errors.UserError(f"Cannot write to {output}: {error.strerror}.") from error
    return list(texts)


def markdown(heading: Heading, table: Table, summaries: Sequence[Summary]) -> str:
    """The table as a person reads it, with what its columns mean."""
    names = _score_names(summaries)
    headers = ["row", "prec@1 %", "prec@5 %", *names, "seeds", "gap closed %", "gap closed from Student %"]
    headers += ["points", "p", "compared with"]
    headers += ["clips", "steps", "hours", *(f"paper: {column} %" for column in table.paper_columns)]
    rows = [_cells(table, summary, names, heading.seeds) for summary in summaries]
    body = tabulate.tabulate(
        rows,
        headers,
        tablefmt="pipe",
        disable_numparse=True,
        colalign=["left" if name in _TEXT else "right" for name in headers],
    )
    title = f"Figure 6: {table.title}" if table.embeddings else f"Table {table.name}: {table.title}"
    title = table.title if table.name == "beyond" else title
    picture = [f"![Clips by t-SNE, a point each, coloured by class; seed 0]({FIGURE_NAME})"] if names else []
    notes = _notes(heading, table, summaries)
    return "\n\n".join([f"# {title}", _introduction(heading, table), *picture, body, notes]) + "\n"


def as_csv(table: Table, summaries: Sequence[Summary]) -> str:
    """The table for other programs: a line a row, empty where there is nothing, in the units of the Markdown table."""
    text = io.StringIO()
    lines = [_fields(table, summary, _score_names(summaries)) for summary in summaries]
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def as_json(heading: Heading, table: Table, summaries: Sequence[Summary]) -> str:
    """The same with the heading and the directories of the runs."""
    rows = [
        _fields(table, summary, _score_names(summaries))
        | {"run_dirs": {str(seed): dirs for seed, dirs in summary.run_dirs.items()}}
        for summary in summaries
    ]
    return json.dumps({"table": table.name, **dataclasses.asdict(heading), "rows": rows}, indent=2) + "\n"


def _fields(table: Table, summary: Summary, names: Sequence[str]) -> dict[str, object]:
    row = summary.row
    fields = {
        "row": row.name,
        "title": row.title,
        "status": summary.left_out or ("measured" if summary.seeds else NOT_RUN),
        "seeds": len(summary.seeds),
    }
    pairs = {"prec@1": _percent_pair(summary.prec1), "prec@5": _percent_pair(summary.prec5)}
    pairs |= {name: summary.scores.get(name) for name in names}
    for name, pair in pairs.items():
        fields[f"{name}_mean"], fields[f"{name}_sd"] = pair or (None, None)
    fields |= {
        "gap_closed": _times_100(summary.gap_closed),
        "gap_closed_from_student": _times_100(summary.paper_gap_closed),
        "compared_with": row.compared_with,
        "points": summary.points,
        "p_value": summary.p_value,
        "clips": summary.clips,
        "steps": summary.steps,
        "hours": summary.hours,
    }
    for number, column in enumerate(table.paper_columns):
        fields[f"paper {column}"] = _paper(row, number)
        fields[f"paper {column} gap_closed"] = _times_100(_paper_gap(table, row, number))
    return fields


def _cells(table: Table, summary: Summary, names: Sequence[str], seeds: int) -> list[str]:
    row = summary.row
    status = "left out, see below" if summary.left_out else NOT_RUN
    return [
        row.title,
        _plus_minus(_percent_pair(summary.prec1), 1) if summary.seeds else status,
        _plus_minus(_percent_pair(summary.prec5), 1),
        *(_plus_minus(summary.scores.get(name), 3) for name in names),
        str(seeds) if len(summary.seeds) == seeds else f"{len(summary.seeds)} of {seeds}",
        _text(_times_100(summary.gap_closed), ".0f"),
        _text(_times_100(summary.paper_gap_closed), ".0f"),
        _text(summary.points, "+.1f"),
        "<0.001" if summary.p_value is not None and summary.p_value < 0.001 else _text(summary.p_value, ".3f"),
        table.row(row.compared_with).title if row.compared_with else "",
        _text(summary.clips, ",.0f"),
        _text(summary.steps, ",.0f") + ("*" if summary.uneven else ""),
        _text(summary.hours, ".2f"),
        *(_paper_cell(table, row, number) for number in range(len(table.paper_columns))),
    ]


def _introduction(heading: Heading, table: Table) -> str:
    lengths = "" if heading.scale == 1 else f", the length of every training times {heading.scale:g}"
    paper = (
        " The columns marked *paper* hold the paper's numbers, of other clips and trainings. They are no results of "
        "this program, and its results cannot be compared with them unless the dataset is the paper's."
        if table.paper_columns
        else ""
    )
    return f"Measured on {heading.dataset}, {heading.settings}{lengths}.{paper}"


def _notes(heading: Heading, table: Table, summaries: Sequence[Summary]) -> str:
    notes = [f"- {summary.row.title}: left out. {summary.left_out}" for summary in summaries if summary.left_out]
    notes += [
        "- prec@1, prec@5: of test clips, centre snippets; mean ± sample standard deviation over the seeds (one has "
        "none). Every seed has its own teacher and student.",
        "- points: mean difference in prec@1 from the row compared with, which has the same initial weights, "
        "augmentation and number of clips and steps. p: of an exact two-sided sign-flip permutation test, paired by "
        "clip, of the number of seeds that got the clip right (with one seed, the exact McNemar test). It asks whether "
        "the choice of test clips could have made the difference between these very networks; how far seeds differ "
        "stands after the ±. Clips cut from one video are not independent, so p is rather too small, and it is not "
        "corrected for the number of rows.",
        "- gap closed: (row - compared with) / (teacher - compared with), of mean prec@1; from Student: the paper's "
        "definition, (row - Student) / (teacher - Student), which counts the longer training too."
        + (" In the paper's columns it is the latter." if table.paper_columns else ""),
        "- clips, steps, hours: a network's own from its initial weights on, the student's training before it "
        "included, its teacher's not; means over seeds. Hours are wall-clock time of the training commands.",
    ]
    if _score_names(summaries):
        notes.append(
            "- silhouette: mean silhouette score, -1 to 1; nearest neighbours: share of test clips whose class most of "
            "their 10 nearest others have. Both by cosine distance of the representations, not of the picture."
        )
    if any(summary.uneven for summary in summaries):
        notes.append("- *: more than 5% more or fewer steps than the row compared with; whole epochs come no nearer.")
    if heading.unlabeled:
        notes.append(
            f"- The unlabelled clips are those of {heading.unlabeled}, another build: they were not compared with the "
            "test clips, which may be among them."
        )
    if table.note:
        notes.append(f"- {table.note}")
    if heading.biased:
        notes.append(
            "- The best checkpoints were picked on the test split: every number here is biased upward by that."
        )
    if heading.scale != 1:
        notes.append("- Trainings of other lengths than the settings' are trials, not results.")
    return "\n".join(notes)


def _paper(row: Row, number: int) -> float | None:
    return row.paper[number] if number < len(row.paper) else None


def _paper_gap(table: Table, row: Row, number: int) -> float | None:
    """The gap closed by the paper's own numbers, from the row that it counts from."""
    if not (row.paper_compared_with and row.teacher):
        return None
    values = [_paper(each, number) for each in (row, table.row(row.paper_compared_with), table.row(row.teacher))]
    return None if None in values else statistics.gap_closed(*values)


def _paper_cell(table: Table, row: Row, number: int) -> str:
    value, gap = _paper(row, number), _paper_gap(table, row, number)
    if value is None:
        return ""
    return f"{value:.2f}" if gap is None else f"{value:.2f} (gap closed: {100 * gap:.0f})"


def _score_names(summaries: Sequence[Summary]) -> list[str]:
    return list(dict.fromkeys(name for summary in summaries for name in summary.scores))


def _percent_pair(pair: tuple[float, float | None] | None) -> tuple[float, float | None] | None:
    return pair and (100 * pair[0], _times_100(pair[1]))


def _times_100(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _text(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _plus_minus(pair: tuple[float, float | None] | None, digits: int) -> str:
    if pair is None:
        return ""
    mean, deviation = pair
    return f"{mean:.{digits}f}" + ("" if deviation is None else f" ± {deviation:.{digits}f}")
