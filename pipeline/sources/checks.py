"""What can be told to be wrong with a listing before any video is opened."""

import collections
from collections.abc import Iterable

from pipeline.sources.clip import Listing
from stat_tf import errors


def some(names: Iterable[str], limit: int = 5) -> str:
    """Names for a message: all of a few, the first ones of many."""
    names = sorted(names)
    shown = ", ".join(names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown


def check(listing: Listing) -> list[str]:
    """Checks a listing.

    Returns:
      Warnings: the listing's own, groups with clips in train and in test, and classes without a clip in one of them.

    Raises:
      UserError: There is no clip, a video is listed twice, or one is in two splits.
    """
    if not listing.clips:
        raise errors.UserError("There is no clip to build a dataset from: check --annotations and --split.")
    splits, groups, labels = (collections.defaultdict(list) for _ in range(3))
    for clip in listing.clips:
        splits[clip.path].append(clip.split)
        if clip.group:
            groups[clip.group].append(clip.split)
        labels[clip.split].append(clip.label)
    for path, where in splits.items():
        if len(set(where)) > 1:
            raise errors.UserError(
                f"{path} is in {' and '.join(sorted(set(where)))}: a video can be in one split only."
            )
    twice = [path for path, where in splits.items() if len(where) > 1]
    if twice:
        raise errors.UserError(f"Listed more than once: {some(twice)}.")
    warnings = list(listing.warnings)
    shared = [group for group, where in groups.items() if {"train", "test"} <= set(where)]
    if shared:
        warnings.append(f"Groups with clips in both train and test: {some(shared)}. Test results may flatter.")
    for split in ("train", "test"):
        absent = set(listing.classes) - set(labels[split])
        if split in labels and absent:
            warnings.append(f"Classes without a video in {split}: {some(absent)}.")
    if not {"train", "test"} & set(labels) and listing.classes:
        warnings.append(f"Classes without a video: {some(listing.classes)}.")
    return warnings
