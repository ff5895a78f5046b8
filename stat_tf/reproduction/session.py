"""A table from its first missing training to its files, which are written anew after each row."""

import dataclasses
import functools

from stat_tf import processes
from stat_tf.data import sizes
from stat_tf.reproduction import report, results, runner
from stat_tf.reproduction.plan import Planner, Run, in_order
from stat_tf.reproduction.tables import Table


@dataclasses.dataclass(frozen=True)
class Session:
    """One table on one dataset.

    Attributes:
      table: The table, all of whose rows are written.
      planner: What is the same for all rows.
      places: Where things are.
      seeds: How many seeds, from 0 on.
      chosen: The names of the rows that are run.
    """

    table: Table
    planner: Planner
    places: runner.Places
    seeds: int
    chosen: frozenset[str]

    @functools.cached_property
    def left_out(self) -> dict[str, str]:
        """Why rows cannot be run on this dataset, by row name."""
        reasons = {row.name: self.planner.missing(row) for row in self.table.rows}
        return {name: reason for name, reason in reasons.items() if reason}

    @functools.cached_property
    def plan(self) -> dict[tuple[int, str], tuple[Run, ...]]:
        """The runs in which each seed and row ends, all rows of a seed before the next seed.

        Raises:
          UserError: The configuration lacks a file or holds nonsense.
        """
        return {
            (seed, row.name): self.planner.runs(row, seed)
            for seed in range(self.seeds)
            for row in self.table.rows
            if row.name not in self.left_out
        }

    @functools.cached_property
    def wanted(self) -> dict[tuple[int, str], tuple[Run, ...]]:
        """The part of `plan` that is run."""
        return {(seed, name): runs for (seed, name), runs in self.plan.items() if name in self.chosen}

    def run(self, commands: processes.Commands) -> None:
        """Trains and evaluates what is missing, and keeps the table's files up to date.

        Raises:
          Stopped: A signal came.
          UserError: A training or an evaluation failed, the configuration is of no use, or what a finished run was
            made from has changed since.
        """
        trainings = in_order(run for runs in self.wanted.values() for run in runs)
        for run in trainings:
            runner.check_sources(run, self.places)
        todo = [run for run in trainings if not self.places.is_trained(run)]
        number = {run: position for position, run in enumerate(todo, 1)}
        self.write()
        for (_, name), runs in self.wanted.items():
            for run in in_order(runs):
                if self.places.is_trained(run):
                    # What it was made from may have been trained anew just now.
                    runner.check_sources(run, self.places)
                else:
                    print(f"[{number[run]}/{len(todo)}] {_described(run)} -> {self.places.run_dir(run)}", flush=True)
                    runner.train(run, self.places, commands)
            if not self.places.is_evaluated(runs):
                runner.evaluate(runs, self.places, commands)
                print(f"      {self.table.row(name).title}: {self._measured_text(runs)}", flush=True)
                self.write()

    def measured(self) -> dict[str, dict[int, results.Measured]]:
        """What has been measured so far, by row name and seed."""
        found: dict[str, dict[int, results.Measured]] = {}
        for (seed, name), runs in self.plan.items():
            if measured := results.measure(runs, self.places, scored=self.table.embeddings):
                found.setdefault(name, {})[seed] = measured
        return found

    def write(self) -> list[str]:
        """Writes the table as it stands; returns the paths."""
        summaries = results.summarize(self.table, self.measured(), self.left_out)
        return report.write(self.places.output, self.heading(), self.table, summaries)

    def heading(self) -> report.Heading:
        """What the table's heading says."""
        info, planner = self.planner.info, self.planner
        lr_sizes = ", ".join(sizes.text(size) for size in sorted(info.lr_sizes))
        flags = f" with {' '.join(planner.train_flags)}" if planner.train_flags else ""
        return report.Heading(
            dataset=(
                f"{self.places.data_dir} ({len(info.classes)} classes, {info.num_clips('train'):,} training and "
                f"{info.num_clips('test'):,} test clips, HR {sizes.text(info.hr_size)}, LR {lr_sizes})"
            ),
            settings=f"by the settings of {planner.config_dir}{flags}",
            scale=planner.scale,
            seeds=self.seeds,
            biased=any(run.eval_split == "test" for runs in self.plan.values() for run in runs),
            unlabeled=self.places.unlabeled_dir if any(row.unsupervised for row in self.table.rows) else "",
        )

    def preview(self) -> str:
        """What would be run, a line a training, with its command."""
        lines, trainings = [], in_order(run for runs in self.wanted.values() for run in runs)
        for run in trainings:
            state = "done" if self.places.is_trained(run) else "to do"
            lines.append(f"{state:5}  {_described(run)}\n       {processes.shown(self.places.training(run))}")
        lines += [f"{name}: left out. {reason}" for name, reason in self.left_out.items() if name in self.chosen]
        todo = [run for run in trainings if not self.places.is_trained(run)]
        lines.append(
            f"{len(trainings)} trainings for {len(self.chosen - self.left_out.keys())} rows and {self.seeds} seeds; "
            f"{len(todo)} to do, {sum(run.epochs for run in todo)} epochs, "
            f"{sum(run.epochs * run.clips_per_epoch for run in todo):,} clips."
        )
        return "\n".join(lines)

    def _measured_text(self, runs: tuple[Run, ...]) -> str:
        measured = results.measure(runs, self.places)
        return f"prec@1 {100 * measured.prec1:.1f} %, prec@5 {100 * measured.prec5:.1f} %"


def _described(run: Run) -> str:
    return f"{run.name}: {run.epochs} epochs of {run.clips_per_epoch:,} clips"
