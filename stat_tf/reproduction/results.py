"""What has come of a table's rows so far, read from the runs' directories."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from stat_tf import comparison
from stat_tf.reproduction import runner, statistics
from stat_tf.reproduction.plan import Run
from stat_tf.reproduction.tables import Row, Table


@dataclasses.dataclass(frozen=True)
class Measured:
    """One row with one seed, trained and evaluated.

    Attributes:
      prec1: prec@1, 0 to 1.
      prec5: prec@5, 0 to 1.
      correct: Whether each test clip's top class was right, by clip id.
      clips: Clips seen from the initial weights on, repetitions counted.
      steps: Updates from the initial weights on.
      hours: Wall-clock time of these trainings.
      run_dirs: The last training's directory, one a stream.
      scores: How well its representations separate the classes, as far as it was measured.
    """

    prec1: float
    prec5: float
    correct: Mapping[str, bool]
    clips: int
    steps: int
    hours: float
    run_dirs: tuple[str, ...]
    scores: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Summary:
    """One row over its seeds so far. Without seeds, all but the row is None.

    Attributes:
      row: The row.
      left_out: Why it cannot be run on this dataset; "" where it can.
      seeds: Those measured.
      prec1: (mean, sample standard deviation or None), 0 to 1.
      prec5: The same of prec@5.
      points: Mean difference from the row that it is compared with, in points of prec@1, over the seeds of both.
      p_value: Of the paired test of that difference.
      gap_closed: Share of the gap from the row compared with to the teacher, over the seeds of all three.
      paper_gap_closed: The same from the row that the paper compares with, the Student.
      clips: Mean over seeds, as in `Measured`; so are `steps` and `hours`.
      steps: See `clips`.
      hours: See `clips`.
      uneven: Whether it took 5% more or fewer steps than the row that it is compared with.
      run_dirs: By seed.
      scores: As in `Measured`, each like `prec1`, over the seeds that have it.
    """

    row: Row
    left_out: str = ""
    seeds: tuple[int, ...] = ()
    prec1: tuple[float, float | None] | None = None
    prec5: tuple[float, float | None] | None = None
    points: float | None = None
    p_value: float | None = None
    gap_closed: float | None = None
    paper_gap_closed: float | None = None
    clips: float | None = None
    steps: float | None = None
    hours: float | None = None
    uneven: bool = False
    run_dirs: Mapping[int, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    scores: Mapping[str, tuple[float, float | None]] = dataclasses.field(default_factory=dict)


def measure(runs: Sequence[Run], places: runner.Places, scored: bool = False) -> Measured | None:
    """Reads what a row with one seed came to; None where its trainings or its evaluation are not finished.

    Args:
      runs: The trainings that end in it.
      places: Where they are.
      scored: Whether the table shows scores of representations.
    """
    chain = weights_of(runs)
    if not (all(map(places.is_trained, chain)) and places.is_evaluated(runs)):
        return None
    evaluation = comparison.load(places.evaluation_dir(runs))
    histories = {run: runner.history(places.run_dir(run)) for run in chain}
    return Measured(
        prec1=evaluation.metrics["prec@1"],
        prec5=evaluation.metrics["prec@5"],
        correct=evaluation.correct,
        clips=sum(run.clips_per_epoch * len(history) for run, history in histories.items()),
        steps=sum(int(history[-1]["step"]) for history in histories.values()),
        hours=sum(runner.Record.load(places.run_dir(run)).seconds for run in chain) / 3600,
        run_dirs=tuple(places.run_dir(run) for run in runs),
        scores=runner.scores(runs, places) if scored else {},
    )


def weights_of(runs: Sequence[Run]) -> list[Run]:
    """The trainings that a row's weights went through, each once."""
    return list(dict.fromkeys(run for last in runs for run in last.chain()))


def summarize(
    table: Table, measured: Mapping[str, Mapping[int, Measured]], left_out: Mapping[str, str]
) -> list[Summary]:
    """A table's rows over their seeds so far.

    Args:
      table: The table.
      measured: What there is, by row name and seed.
      left_out: Why a row cannot be run, by row name.
    """
    return [_summary(row, measured, left_out.get(row.name, "")) for row in table.rows]


def _summary(row: Row, measured: Mapping[str, Mapping[int, Measured]], left_out: str) -> Summary:
    mine = measured.get(row.name, {})
    if not mine:
        return Summary(row, left_out)
    seeds = tuple(sorted(mine))
    summary = Summary(
        row,
        left_out,
        seeds,
        prec1=statistics.mean_and_deviation([mine[seed].prec1 for seed in seeds]),
        prec5=statistics.mean_and_deviation([mine[seed].prec5 for seed in seeds]),
        run_dirs={seed: mine[seed].run_dirs for seed in seeds},
        scores=_scores([mine[seed].scores for seed in seeds]),
        gap_closed=_gap_closed(measured, row, row.compared_with),
        paper_gap_closed=_gap_closed(measured, row, row.paper_compared_with),
        **{name: sum(getattr(mine[seed], name) for seed in seeds) / len(seeds) for name in ("clips", "steps", "hours")},
    )
    baseline = measured.get(row.compared_with, {})
    common = [seed for seed in seeds if seed in baseline]
    if not common:
        return summary
    points, p_value = comparison.paired_test(
        [baseline[seed].correct for seed in common], [mine[seed].correct for seed in common]
    )
    steps, theirs = (sum(each[seed].steps for seed in common) for each in (mine, baseline))
    return dataclasses.replace(summary, points=points, p_value=p_value, uneven=abs(steps - theirs) > 0.05 * theirs)


def _gap_closed(measured: Mapping[str, Mapping[int, Measured]], row: Row, baseline: str) -> float | None:
    of_each = [measured.get(name, {}) for name in (row.name, baseline, row.teacher)]
    seeds = set.intersection(*(set(found) for found in of_each))
    if not seeds:
        return None
    return statistics.gap_closed(*(math.fsum(found[seed].prec1 for seed in seeds) for found in of_each))


def _scores(of_seeds: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float | None]]:
    of_seeds = [found for found in of_seeds if found]
    names = of_seeds[0] if of_seeds else ()
    return {name: statistics.mean_and_deviation([found[name] for found in of_seeds]) for name in names}
