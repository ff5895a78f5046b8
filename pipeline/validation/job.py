"""The Beam job of a validation: shards in, a summary of what they hold and what is wrong out."""

import collections
import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Iterator

import apache_beam as beam

from pipeline import failures, progress, summary
from pipeline.beam_options import Execution, running
from pipeline.validation import checks, combine, near_pairs
from pipeline.validation.shard_reader import FACTS, PROBLEMS, SHARDS, Facts, Member, ReadShard
from stat_tf.data import info as info_lib

# Pairs of near-duplicates that reach the report, where those that share a clip become one anomaly.
_MOST_PAIRS = 1000


@dataclasses.dataclass(frozen=True)
class ClipSet:
    """Clips that have in common what they should not: `count` of them in some splits, the first ones listed."""

    splits: list[str]
    count: int
    members: list[Member]


@dataclasses.dataclass
class Findings:
    """What the job found, all of it small.

    Attributes:
      shards: As `shard_reader.ReadShard` describes them, by name.
      problems: (count, first members) by (check, split, reason).
      classes: (count, some members) by (split, class).
      statistics: As of `combine.Distribution`, by (split, measure).
      sets: (how many, the first ones) by check.
      not_compared: Clips that share a band with so many that they were not compared with all of them, at least.
    """

    shards: dict[str, dict] = dataclasses.field(default_factory=dict)
    problems: dict[tuple[str, str, str], tuple[int, list[Member]]] = dataclasses.field(default_factory=dict)
    classes: dict[tuple[str, str], tuple[int, list[Member]]] = dataclasses.field(default_factory=dict)
    statistics: dict[tuple[str, str], dict] = dataclasses.field(default_factory=dict)
    sets: dict[str, tuple[int, list[ClipSet]]] = dataclasses.field(default_factory=dict)
    not_compared: int = 0


def run(
    data_dir: str,
    info: info_lib.DatasetInfo,
    place: str,
    execution: Execution,
    *,
    thresholds: checks.Thresholds,
    clips_per_class: int,
) -> Findings:
    """Runs the pipeline.

    Args:
      data_dir: The dataset directory.
      info: Its description.
      place: The staging directory, for the summary.
      execution: Where to run.
      thresholds: When a clip is blank or frozen.
      clips_per_class: How many clips of each class and split are named.
    """
    count = progress.directory(place, execution.is_local)
    shards = [(split, shard) for split, members in sorted(info.shards.items()) for shard in members]
    read_shard = ReadShard(data_dir, info, thresholds, count)
    with (
        failures.explained(),
        progress.shown(count, info.num_clips(*info.shards)),
        running(execution) as pipeline,
    ):
        read = (
            pipeline
            | "Shards" >> beam.Create(shards)
            | "Spread" >> beam.Reshuffle()
            | "ReadShard" >> beam.ParDo(read_shard)
        )
        # Not Beam's tagged outputs: on Dask, all become one.
        facts, problems, results = (
            read | f"Read {kind}" >> beam.FlatMap(lambda pair, kind=kind: [pair[1]] if pair[0] == kind else [])
            for kind in (FACTS, PROBLEMS, SHARDS)
        )
        problems = problems | "ByReason" >> combine.by_key(checks.MOST_CLIPS)
        sets = [_repeated_ids(facts), _repeated_contents(facts), _shared_groups(facts)]
        bands = near_pairs.bands(facts, thresholds)
        found = [
            results | "ShardResult" >> beam.Map(lambda result: ("shards", result)),
            problems | "Problem" >> beam.Map(lambda item: ("problems", item)),
            _classes(facts, clips_per_class) | "Class" >> beam.Map(lambda item: ("classes", item)),
            *(
                _distribution(facts, measure) | f"Statistics of {measure}" >> beam.Map(lambda i: ("statistics", i))
                for measure in combine.BIN_WIDTHS
            ),
            sets | "Sets" >> beam.Flatten() | "SetsOf" >> combine.by_key(checks.MOST_ANOMALIES) | beam.Map(_as_sets),
            near_pairs.pairs(bands) | "PairsOf" >> combine.by_key(_MOST_PAIRS) | "Pairs" >> beam.Map(_as_sets),
            near_pairs.not_compared(bands),
        ]
        summary.write(found, place)
    return _read_findings(place)


def _as_sets(item: tuple[str, tuple[int, list]]) -> tuple[str, object]:
    return "sets", item


def _classes(facts: beam.PCollection, limit: int) -> beam.PCollection:
    def by_class(clip: Facts) -> Iterator[tuple[tuple[str, str], tuple[str, Member]]]:
        if clip.label is not None:
            # A hash picks clips from all over the split.
            order = hashlib.sha256(clip.clip_id.encode()).hexdigest()
            yield (clip.split, clip.label), (order, clip.member())

    return facts | "ByClass" >> beam.FlatMap(by_class) | "Classes" >> combine.by_key(limit)


def _distribution(facts: beam.PCollection, measure: str) -> beam.PCollection:
    return (
        facts
        | f"Take {measure}"
        >> beam.FlatMap(
            lambda clip: [((clip.split, measure), getattr(clip.measures, measure))] if clip.measures else []
        )
        | f"Sum {measure}" >> beam.CombinePerKey(combine.Distribution(combine.BIN_WIDTHS[measure]))
    )


def _repeated_ids(facts: beam.PCollection) -> beam.PCollection:
    def judge(item: tuple[str, tuple[int, list[Member]]]) -> Iterator[tuple[str, tuple]]:
        _, (count, members) = item
        if count > 1:
            yield "duplicate_id", (members, sorted({split for *_, split in members}), count)

    return (
        facts
        | "ById" >> beam.FlatMap(lambda clip: [(clip.clip_id, clip.member(clip.split))] if clip.clip_id else [])
        | "Ids" >> combine.by_key(checks.MOST_CLIPS)
        | "JudgeIds" >> beam.FlatMap(judge)
    )


def _by_key_and_split(facts: beam.PCollection, name: str, key) -> beam.PCollection:
    """For each value of `key` that is not "": (split, (count, members)) of each split it occurs in."""
    return (
        facts
        | f"{name}OfSplit"
        >> beam.FlatMap(lambda clip: [((key(clip), clip.split), clip.member(clip.split))] if key(clip) else [])
        | f"{name}sInSplit" >> combine.by_key(checks.MOST_CLIPS)
        | f"{name}Alone"
        >> beam.MapTuple(lambda key_and_split, counted: (key_and_split[0], (key_and_split[1], counted)))
        | f"{name}s" >> beam.GroupByKey()
    )


def _repeated_contents(facts: beam.PCollection) -> beam.PCollection:
    def judge(item: tuple[str, Iterable]) -> Iterator[tuple[str, tuple]]:
        splits, count, members = _together(item[1])
        # One id is found by its own check, wherever its clips are alike.
        if count > 1 and (len(splits) > 1 or len({clip_id for clip_id, *_ in members}) > 1):
            leaks = "test" in splits and len(splits) > 1
            yield "leaked_content" if leaks else "duplicate_content", (members, splits, count)

    contents = _by_key_and_split(facts, "Content", lambda clip: clip.measures.digest if clip.measures else "")
    return contents | "JudgeContents" >> beam.FlatMap(judge)


def _shared_groups(facts: beam.PCollection) -> beam.PCollection:
    def judge(item: tuple[str, Iterable]) -> Iterator[tuple[str, tuple]]:
        name, counted = item
        splits, count, members = _together(found for found in counted if found[0] in ("train", "test"))
        if len(splits) > 1:
            # The group's name, in the place of a clip's detail.
            yield "leaked_group", ([(*member[:3], name) for member in members], splits, count)

    groups = _by_key_and_split(facts, "Group", lambda clip: clip.group)
    return groups | "JudgeGroups" >> beam.FlatMap(judge)


def _together(counted: Iterable[tuple[str, tuple[int, list[Member]]]]) -> tuple[list[str], int, list[Member]]:
    """Splits, number of clips, and clips of each split in turn."""
    counted = sorted(counted)
    members = _in_turn(members for _, (_, members) in counted)
    return [split for split, _ in counted], sum(count for _, (count, _) in counted), members[: checks.MOST_CLIPS]


def _read_findings(place: str) -> Findings:
    findings = Findings()
    for kind, value in summary.read(place):
        if kind == "shards":
            findings.shards[value["name"]] = value
            continue
        if kind == "not_compared":
            findings.not_compared = value
            continue
        key, found = value
        if kind == "classes":
            count, members = found
            found = count, [tuple(member) for _, member in members]
        elif kind == "problems":
            found = found[0], [tuple(member) for member in found[1]]
        elif kind == "sets":
            found = found[0], [ClipSet(splits, n, [tuple(m) for m in members]) for members, splits, n in found[1]]
        getattr(findings, kind)[key if kind == "sets" else tuple(key)] = found
    return findings


def joined(pairs: Iterable[ClipSet]) -> list[ClipSet]:
    """Makes one set, of all its clips, of all pairs that hang together."""
    root = {}

    def find(member: Member) -> Member:
        while root.setdefault(member, member) != member:
            member = root[member]
        return member

    for pair in pairs:
        one, other = sorted(find(member) for member in pair.members)
        root[other] = one
    sets = collections.defaultdict(lambda: collections.defaultdict(list))
    for member in sorted(root):
        sets[find(member)][member[3]].append(member)
    return [
        ClipSet(sorted(by_split), sum(map(len, by_split.values())), _in_turn(by_split[s] for s in sorted(by_split)))
        for by_split in sets.values()
    ]


def _in_turn(lists: Iterable[list[Member]]) -> list[Member]:
    """The first of each list, then the second of each, so that none is crowded out."""
    return [member for turn in itertools.zip_longest(*lists) for member in turn if member]
