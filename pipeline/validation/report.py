"""`report.json`: the verdict, what is wrong, and the numbers."""

import json

from pipeline.validation import checks, combine, job
from pipeline.validation.checks import Anomaly
from pipeline.validation.measures import UNIT
from stat_tf.data import info as info_lib

NAME = "report.json"


def statistics(info: info_lib.DatasetInfo, findings: job.Findings, totals: dict[str, int]) -> dict:
    """The numbers of a report.

    Args:
      info: The dataset's description.
      findings: What the job found.
      totals: How many anomalies each check found.

    Returns:
      `num_clips` and `clips` (by split and class, "" for none) as they are stored; `measures` by split and name:
      `count` of the clips that could be measured, `mean`, `std`, `min`, `max` over them, in grey levels, and
      `histogram` with its `bin_width`; `shards`; `anomalies`, by check, those that are not listed too.
    """
    clips = {}
    for (split, label), (count, _) in sorted(findings.classes.items()):
        clips.setdefault(split, {})[label] = count
    measures = {}
    for (split, measure), found in sorted(findings.statistics.items()):
        mean, deviation = combine.mean_and_deviation(found)
        measures.setdefault(split, {})[measure] = {
            "count": found["count"],
            "mean": round(mean, 4),
            "std": round(deviation, 4),
            "min": found["min"] / UNIT,
            "max": found["max"] / UNIT,
            "histogram": found["histogram"],
            "bin_width": combine.BIN_WIDTHS[measure],
        }
    return {
        "num_clips": {split: sum(counts.values()) for split, counts in clips.items()},
        "clips": clips,
        "measures": measures,
        "shards": [findings.shards[name] for name in sorted(findings.shards)],
        "anomalies": totals,
        "source_fingerprint": info.source_fingerprint,
    }


def to_json(anomalies: list[Anomaly], statistics: dict, policy: checks.Policy) -> str:
    """The text of `report.json`."""
    fields = {
        "verdict": checks.verdict(anomalies),
        "anomalies": [anomaly.to_dict() for anomaly in anomalies],
        "statistics": statistics,
        "checks": {name: policy.severities.get(name, "ignored") for name in checks.CHECKS},
    }
    return json.dumps(fields, indent=2, sort_keys=True) + "\n"


def sentence(anomalies: list[Anomaly], totals: dict[str, int], report: str) -> str:
    """Why the verdict is "fail"; `report` is where the page is."""
    first = next(anomaly for anomaly in anomalies if anomaly.severity == checks.ERROR)
    failed = [name for name in checks.CHECKS if any(a.check == name and a.severity == checks.ERROR for a in anomalies)]
    more = ", ".join(f"{name} ({totals[name]})" for name in failed)
    return f"The dataset fails its validation, {more}, first: {first.message} All is in {report}."
