"""Figure 6: the picture, of seed 0, and the numbers beside it, of all seeds."""

import os

from stat_tf.inference import embedding
from stat_tf.reproduction import processes, report, statistics
from stat_tf.reproduction.session import Session


def draw(session: Session, commands: processes.Commands) -> report.Scores:
    """Draws `FIGURE_NAME` of the finished runs of a session, and measures how well they separate the classes.

    Returns:
      The scores of `embedding.separation` by row.

    Raises:
      Stopped: A signal came.
      UserError: A run or the dataset is damaged.
    """
    of_rows: dict[str, list[dict[str, float]]] = {}
    shown = {}
    for (seed, name), (run,) in session.plan.items():
        commands.check()
        print(f"      representations of {run.name}", flush=True)
        found = embedding.embed_run(session.places.run_dir(run), session.places.data_dir, "test")
        of_rows.setdefault(name, []).append(embedding.separation(found))
        if seed == 0:
            shown[session.table.row(name).title] = found
    commands.check()
    embedding.draw(os.path.join(session.places.output, report.FIGURE_NAME), shown, session.planner.info.classes)
    return {
        name: {key: statistics.mean_and_deviation([each[key] for each in found]) for key in found[0]}
        for name, found in of_rows.items()
    }
