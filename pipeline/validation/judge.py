"""What the job found, as anomalies: sentences that name the clips and say what is wrong."""

from collections.abc import Iterable, Iterator

from pipeline.validation import checks, combine, job, near_pairs
from pipeline.validation.checks import Anomaly, Place
from pipeline.validation.shard_reader import Member
from stat_tf.data import info as info_lib

# A drift this small in grey levels, or in standard errors, may be chance.
_LEAST_DRIFT = 1.0
_LEAST_STANDARD_ERRORS = 3.0
# Of fewer clips, the deviation is not known well enough to tell.
_FEWEST_CLIPS = 10

_SET_MESSAGES = {
    "duplicate_id": "{count} clips have the id {first}.",
    "leaked_content": "The same frames are stored {count} times, in {splits}: {ids}.",
    "duplicate_content": "The same frames are stored {count} times: {ids}.",
    "leaked_near_duplicate": "Nearly the same frames are stored {count} times, in {splits}: {ids}.",
    "near_duplicate": "Nearly the same frames are stored {count} times: {ids}.",
    "leaked_group": "The group {detail} has clips in {splits}, {count} in all.",
}


def judge(
    info: info_lib.DatasetInfo, findings: job.Findings, policy: checks.Policy, thresholds: checks.Thresholds
) -> tuple[list[Anomaly], dict[str, int]]:
    """Says what is wrong with a dataset.

    Args:
      info: Its description.
      findings: What the job found.
      policy: Which checks are made, and how bad their findings are.
      thresholds: From where on a dataset is odd.

    Returns:
      The anomalies, errors first and `checks.MOST_ANOMALIES` of a check at most, and how many each check found.
    """
    found = [
        *_shards(findings),
        *_problems(findings),
        *_counts(info, findings),
        *_sets(findings),
        *_not_compared(findings),
        *_balance(info, findings, thresholds.max_imbalance),
        *_drift(findings, thresholds.max_drift),
    ]
    anomalies, totals = [], {}
    for name in checks.CHECKS:
        items = [item for item in found if item[0] == name]
        if items and name in policy.severities:
            num_sets, listed = findings.sets.get(name, (0, []))
            totals[name] = len(items) + num_sets - len(listed)
            for check, split, message, *about in items[: checks.MOST_ANOMALIES]:
                anomalies.append(_anomaly(check, policy.severities[name], split, message, *about))
    anomalies.sort(key=lambda anomaly: anomaly.severity != checks.ERROR)  # stable: else in the order of the checks
    return anomalies, totals


def _anomaly(
    check: str, severity: str, split: str, message: str, members: Iterable[Member] = (), count: int = 0
) -> Anomaly:
    members = list(members)[: checks.MOST_CLIPS]
    return Anomaly(
        check=check,
        severity=severity,
        split=split,
        message=message,
        clips=tuple(clip_id for clip_id, *_ in members),
        num_clips=count,
        places=tuple(Place(shard, offset) for _, shard, offset, _ in members),
    )


# Each finds (check, split, message) or (check, split, message, members, number of clips).


def _shards(findings: job.Findings) -> Iterator[tuple]:
    for name, shard in sorted(findings.shards.items()):
        if shard["problem"]:
            read = f"{shard['num_read']} of its {shard['num_clips']} clips can be read"
            yield "shard", shard["split"], f"{name} {shard['problem']}; {read}."
        elif shard["num_read"] != shard["num_clips"]:
            declared = f"{info_lib.FILE_NAME} states {shard['num_clips']}"
            yield "counts", shard["split"], f"{name} holds {shard['num_read']} clips, {declared}."


def _problems(findings: job.Findings) -> Iterator[tuple]:
    for (check, split, reason), (count, members) in sorted(findings.problems.items()):
        clip_id, _, _, detail = members[0]
        example = f"{clip_id} ({detail})" if detail else clip_id
        message = f"{example}: {reason}." if count == 1 else f"{count} clips, as {example}: {reason}."
        yield check, split, message, members, count


def _counts(info: info_lib.DatasetInfo, findings: job.Findings) -> Iterator[tuple]:
    for split in sorted({*info.counts, *(split for split, _ in findings.classes)}):
        declared = info.counts.get(split, {})
        found = {label: count for (where, label), (count, _) in findings.classes.items() if where == split}
        differ = {c: (found.get(c, 0), declared.get(c, 0)) for c in sorted({*found, *declared})}
        differ = {label: pair for label, pair in differ.items() if pair[0] != pair[1]}
        # Clips that other checks tell of are not missed once more.
        unread = sum(s["num_clips"] for s in findings.shards.values() if s["split"] == split) - sum(found.values())
        if unread > 0 and unread == sum(stated - read for read, stated in differ.values() if read < stated):
            differ = {label: pair for label, pair in differ.items() if pair[0] > pair[1]}
        for label, (read, stated) in differ.items():
            name = f"The class {label}" if label else "Without a label"
            yield "counts", split, f"{name}: {read} clips in {split}, {info_lib.FILE_NAME} states {stated}."


def _sets(findings: job.Findings) -> Iterator[tuple]:
    sets = {check: found for check, (_, found) in sorted(findings.sets.items())}
    # A clip of train may have one copy in train and another in test.
    near = job.joined(pair for check in near_pairs.CHECKS for pair in sets.pop(check, []))
    sets |= {
        check: [found for found in near if near_pairs.check_of(found.splits) == check] for check in near_pairs.CHECKS
    }
    for check, members in sets.items():
        for found in members:
            ids = [clip_id for clip_id, *_ in found.members]
            shown = " = ".join(ids[:4]) + (f" and {found.count - 4} more" if found.count > 4 else "")
            message = _SET_MESSAGES[check].format(
                count=found.count,
                first=ids[0],
                ids=shown,
                splits=" and ".join(found.splits),
                detail=found.members[0][3],
            )
            yield check, ", ".join(found.splits), message, found.members, found.count


def _not_compared(findings: job.Findings) -> Iterator[tuple]:
    if findings.not_compared:
        clips = "1 clip was" if findings.not_compared == 1 else f"{findings.not_compared} clips were"
        yield (
            "not_compared",
            "",
            f"At least {clips} not compared with all that may be nearly the same: too many look much alike.",
        )


def _balance(info: info_lib.DatasetInfo, findings: job.Findings, max_imbalance: float) -> Iterator[tuple]:
    """Looks for classes without clips, or with few, as `dataset.json` states them: what is amiss is said elsewhere."""
    for split in ("train", "test"):
        if info.classes and not any(info.counts.get(split, {}).values()):
            yield "missing_class", split, f"No class has clips in {split}."
            continue
        counts = {name: info.counts.get(split, {}).get(name, 0) for name in info.classes}
        for name in (name for name, count in counts.items() if not count):
            yield "missing_class", split, f"The class {name} has no clips in {split}."
        present = {name: count for name, count in counts.items() if count}
        if split == "train" and present:
            largest, smallest = (pick(present, key=present.get) for pick in (max, min))
            if present[largest] > max_imbalance * present[smallest]:
                yield (
                    "class_imbalance",
                    split,
                    f"The class {largest} has {present[largest]} clips and {smallest} has {present[smallest]}: "
                    f"{present[largest] / present[smallest]:.1f} times as many, more than {max_imbalance:g}.",
                )


def _drift(findings: job.Findings, max_drift: float) -> Iterator[tuple]:
    for measure in ("brightness", "contrast"):
        splits = [findings.statistics.get((split, measure)) for split in ("train", "test")]
        if not all(splits):
            continue
        (train, train_sd), (test, test_sd) = (combine.mean_and_deviation(found) for found in splits)
        counts = [found["count"] for found in splits]
        if min(counts) < _FEWEST_CLIPS:
            continue
        spread = max(((train_sd**2 + test_sd**2) / 2) ** 0.5, _LEAST_DRIFT)
        standard_error = (train_sd**2 / counts[0] + test_sd**2 / counts[1]) ** 0.5
        drift = abs(test - train)
        if drift > max(max_drift * spread, _LEAST_DRIFT, _LEAST_STANDARD_ERRORS * standard_error):
            yield (
                f"{measure}_drift",
                "test, train",
                f"The mean {measure} is {train:.1f} in train and {test:.1f} in test: {drift / spread:.2f} "
                f"standard deviations of a clip apart, more than {max_drift:g}.",
            )
