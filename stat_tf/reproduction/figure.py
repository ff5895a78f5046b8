"""Figure 6: the picture, of seed 0, and each run's scores, kept beside its evaluation."""

import os

from stat_tf import processes
from stat_tf.inference import embedding
from stat_tf.reproduction import report, runner
from stat_tf.reproduction.session import Session


def draw(session: Session, commands: processes.Commands) -> None:
    """Draws `FIGURE_NAME` of what is finished of a session, and measures how well the wanted rows separate the classes.

    Raises:
      Stopped: A signal came.
      UserError: A run or the dataset is damaged.
    """
    places, shown, finished = session.places, {}, session.measured()
    for (seed, name), (run,) in session.plan.items():
        if seed not in finished.get(name, {}) or not (seed == 0 or (seed, name) in session.wanted):
            continue
        scored = bool(runner.scores((run,), places))
        if seed and scored:
            continue
        commands.check()
        print(f"      representations of {run.name}", flush=True)
        found = embedding.embed_run(places.run_dir(run), places.data_dir, "test")
        if not scored:
            runner.save_scores((run,), places, embedding.separation(found))
        if seed == 0:
            shown[session.table.row(name).title] = found
    commands.check()
    embedding.draw(os.path.join(places.output, report.FIGURE_NAME), shown, session.planner.info.classes)
