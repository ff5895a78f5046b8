"""Runs the rows of one of the paper's tables on a dataset, and writes ours beside the paper's.

  python -m stat_tf.reproduce --table=3 --data_dir=DATA --seeds=3
  python -m stat_tf.reproduce --table=3 --data_dir=DATA --config=configs/ucf101_10 --scale=0.1

Tables 1 to 4, fig6 (t-SNE of the clip representations) and beyond (options that the paper does not have).
Every training and evaluation is a `python -m stat_tf.train` or `stat_tf.evaluate` of its own, in
OUTPUT/runs/; what two rows, two tables or two commands share is trained once. Stop it as you like: the same
command goes on where it was. `table-N.md`, `.csv` and `.json` in OUTPUT are written anew after each row.
"""

import sys

from absl import flags

from stat_tf import command
from stat_tf.reproduction import tables

_TABLE = flags.DEFINE_enum("table", None, tables.TABLES, "Which table.", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "The dataset that pipeline.build_dataset wrote.", required=True)
_UNLABELED_DIR = flags.DEFINE_string(
    "unlabeled_dir", "", "Dataset of the unlabelled clips, for rows with ut; data_dir unless given."
)
_CONFIG = flags.DEFINE_string(
    "config", None, "Directory with teacher.flags, student.flags and stat.flags. Default: the paper's for this table."
)
_TRAIN_FLAG = flags.DEFINE_multi_string(
    "train_flag", [], "A flag for every training, over the configuration's: --train_flag=--batch_size=32. Repeatable."
)
_ROWS = flags.DEFINE_list("rows", [], "Rows to run, by name, with those they are compared with. Default: all.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "How many seeds, from 0 on, each with a teacher of its own.", 1)
_SCALE = flags.DEFINE_float("scale", 1.0, "Factor on epochs, warm-up, decay and rolling period of every training.")
_OUTPUT = flags.DEFINE_string("output", "runs/reproduce", "Directory of the tables and, in runs/, the trainings.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Show what would be run, and run nothing.")


def main() -> int:
    """Plans, runs what is missing and writes the table."""
    from stat_tf import processes
    from stat_tf.reproduction import figure, preparation

    session = preparation.prepare(
        table=_TABLE.value,
        rows=_ROWS.value,
        data_dir=_DATA_DIR.value,
        unlabeled_dir=_UNLABELED_DIR.value,
        config_dir=_CONFIG.value,
        train_flags=_TRAIN_FLAG.value,
        seeds=_SEEDS.value,
        scale=_SCALE.value,
        output=_OUTPUT.value,
    )
    if _DRY_RUN.value:
        print(session.preview())
        return 0
    with processes.locked(_OUTPUT.value, "stat_tf.reproduce") as lock, processes.Commands(lock) as commands:
        try:
            session.run(commands)
            if session.table.embeddings:
                figure.draw(session, commands)
        except processes.Stopped as stopped:
            print("Stopped; the same command goes on from here.", file=sys.stderr)
            return 128 + stopped.signal
        paths = session.write()
    with open(paths[0], encoding="utf-8") as file:
        print(f"\n{file.read()}\nWritten: {', '.join(paths)}")
    return 0


if __name__ == "__main__":
    command.run(main)
