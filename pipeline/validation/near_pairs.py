"""Which clips of a dataset look alike: those that share a band of the perceptual hash are compared with one another."""

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Iterator

import apache_beam as beam
import numpy as np

from pipeline.validation import checks, combine, near
from pipeline.validation.measures import UNIT
from pipeline.validation.shard_reader import Facts, Member

# Clips of one band of the perceptual hash that are compared with one another, in about a second. More share one only
# where a camera stands still.
_MOST_COMPARED = 4000
# Without and with a leak into test.
CHECKS = ("near_duplicate", "leaked_near_duplicate")


@dataclasses.dataclass(frozen=True, order=True)
class Look:
    """What comparing two clips takes."""

    member: Member
    source: tuple[str, str]
    digest: str
    signature: bytes


def bands(facts: beam.PCollection, thresholds: checks.Thresholds) -> beam.PCollection:
    """Bands: (how many clips share it, the first of them); blank clips all look alike, and are left out."""

    def by_band(clip: Facts) -> Iterator[tuple[str, Look]]:
        if clip.measures and clip.measures.largest_contrast >= thresholds.min_contrast * UNIT:
            # Clips of one scene are alike, and know it by their group or their video.
            look = Look(
                clip.member(clip.split),
                (clip.split, clip.group or clip.path),
                clip.measures.digest,
                clip.measures.signature,
            )
            for band in near.bands(clip.measures.signature):
                yield band, look

    return facts | "ByBand" >> beam.FlatMap(by_band) | "Bands" >> combine.by_key(_MOST_COMPARED) | beam.Values()


def pairs(bands: beam.PCollection) -> beam.PCollection:
    """Pairs of clips that look alike, keyed by the check they fail."""

    def judge(pair: tuple[Member, Member]) -> tuple[str, tuple]:
        splits = sorted({split for *_, split in pair})
        return check_of(splits), (list(pair), splits, 2)

    return (
        bands
        | "Compare" >> beam.FlatMap(lambda band: compare(band[1]))
        | "Once" >> beam.Distinct()
        | "JudgePairs" >> beam.Map(judge)
    )


def not_compared(bands: beam.PCollection) -> beam.PCollection:
    """How many clips the largest band has too many."""
    return (
        bands
        | "TooMany" >> beam.FlatMap(lambda band: [("not_compared", band[0] - len(band[1]))])
        | "Most" >> beam.CombinePerKey(max)
    )


def check_of(splits: list[str]) -> str:
    """Which check clips of these splits fail that look alike."""
    return CHECKS["test" in splits and len(splits) > 1]


def compare(looks: list[Look]) -> Iterator[tuple[Member, Member]]:
    """Compares clips of one band, each with each.

    Yields:
      Pairs that look alike and that no other check tells of; of those that hang together, as many as connect them.
    """
    lengths = sorted({len(look.signature) for look in looks})
    for same in ([look for look in looks if len(look.signature) == length] for length in lengths):
        digests, sources = (_numbered(getattr(look, name) for look in same) for name in ("digest", "source"))
        connected = np.arange(len(same))
        for place, alike in enumerate(near.later_alike([look.signature for look in same])):
            alike = alike[(digests[alike] != digests[place]) & (sources[alike] != sources[place])]
            while (alike := alike[connected[alike] != connected[place]]).size:
                yield same[place].member, same[alike[0]].member
                connected[connected == connected[alike[0]]] = connected[place]


def _numbered(values: Iterable) -> np.ndarray:
    """Numbers for values, equal for equal ones: int64 [n]."""
    numbers = collections.defaultdict(itertools.count().__next__)
    return np.array([numbers[value] for value in values])
