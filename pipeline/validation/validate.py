"""The validation: a dataset directory in, a report directory out."""

import dataclasses
import re

from apache_beam.io.filesystems import FileSystems

from pipeline import staging
from pipeline.beam_options import Execution
from pipeline.sources import files
from pipeline.validation import checks, job, judge, page, report, thumbnails
from stat_tf.data import info as info_lib

_REPORT = staging.Kind("report", report.NAME, re.compile(rf"/{re.escape(page.NAME)}$"))


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a validation came to.

    Attributes:
      anomalies: What is wrong, errors first.
      totals: How many anomalies each check found, by name.
    """

    anomalies: list[checks.Anomaly]
    totals: dict[str, int]


def validate(
    data_dir: str,
    info: info_lib.DatasetInfo,
    output: str,
    execution: Execution,
    *,
    policy: checks.Policy,
    thresholds: checks.Thresholds,
    clips_per_class: int = 2,
    overwrite: bool = False,
) -> Outcome:
    """Validates a dataset and writes the report, which appears whole or not at all.

    What is reported depends on the dataset and on these arguments alone, not on where and how the job runs.

    Args:
      data_dir: The dataset directory.
      info: Its description.
      output: The directory to write.
      execution: Where to run.
      policy: Which checks are made, and how bad their findings are.
      thresholds: From where on a clip or the dataset is odd.
      clips_per_class: How many clips of each class and split the page shows.
      overwrite: Whether to replace a report that is there.

    Returns:
      What is wrong.

    Raises:
      UserError: The output is something else than a report, is there already, or cannot be written.
    """
    with staging.writing(output):
        staging.recover(output)
        staging.check_output(output, overwrite, _REPORT)
    with staging.directory(output) as place:
        findings = job.run(data_dir, info, place, execution, thresholds=thresholds, clips_per_class=clips_per_class)
        anomalies, totals = judge.judge(info, findings, policy, thresholds)
        statistics = report.statistics(info, findings, totals)
        pictures = thumbnails.read(data_dir, info, page.wanted(anomalies, findings))
        texts = {
            page.NAME: page.render(info, anomalies, statistics, findings, policy, pictures),
            report.NAME: report.to_json(anomalies, statistics, policy),
        }
        with staging.writing(output):
            for name, text in texts.items():
                files.write(FileSystems.join(place, "dataset", name), text.encode())
        staging.publish(place, output, _REPORT)
    return Outcome(anomalies, totals)
