"""Where clips come from: one module a layout, each with a `read` that returns a `clip.Listing`."""

import math

from pipeline.sources import folders, hmdb51, manifest, ucf101, unlabeled
from pipeline.sources.clip import Listing
from stat_tf import errors

_SHORTEST_CLIP = 0.1  # seconds


def read(layout: str, videos: str, annotations: str | None, split: int) -> Listing:
    """Reads a listing.

    Args:
      layout: "folders", "ucf101", "hmdb51" or "manifest".
      videos: Directory of the videos.
      annotations: Directory of the official lists, or the manifest; None for folders.
      split: The official split of UCF101 or HMDB51.

    Raises:
      UserError: As the layout's own `read`.
    """
    match layout:
        case "folders":
            return folders.read(videos)
        case "ucf101":
            return ucf101.read(videos, annotations, split)
        case "hmdb51":
            return hmdb51.read(videos, annotations, split)
        case "manifest":
            return manifest.read(videos, annotations)
    raise ValueError(f"There is no layout {layout}.")


def read_all(
    layout: str | None,
    videos: str | None,
    annotations: str | None,
    split: int | None,
    *,
    unlabeled_videos: str | None,
    clip_seconds: float,
) -> Listing:
    """Reads a layout's listing, a directory of videos without labels, or both.

    Args:
      layout: As of `read`; None for videos without labels alone.
      videos: As of `read`; None without a layout.
      annotations: As of `read`.
      split: As of `read`; None where it is not given.
      unlabeled_videos: Directory of the videos without labels; None for none.
      clip_seconds: Length of the clips to cut these into, in seconds; 0: each is one clip.

    Raises:
      UserError: What is given does not go together, or as the `read` of layouts and of `unlabeled`.
    """
    _check_unlabeled(unlabeled_videos, clip_seconds)
    if layout:
        listing = _read_layout(layout, videos, annotations, split)
    else:
        _check_no_layout(videos, annotations, split, unlabeled_videos)
        listing = Listing((), ())
    if unlabeled_videos is None:
        return listing
    return unlabeled.add(listing, unlabeled.read(unlabeled_videos, clip_seconds))


def _check_unlabeled(unlabeled_videos: str | None, clip_seconds: float) -> None:
    if not clip_seconds:
        return
    if unlabeled_videos is None:
        raise errors.UserError("--clip_seconds has no meaning without --unlabeled_videos: only these are cut.")
    if not _SHORTEST_CLIP <= clip_seconds < math.inf:
        raise errors.UserError(
            f"--clip_seconds={clip_seconds:g} is no length of a clip: give {_SHORTEST_CLIP} seconds or more, or 0 to "
            "cut nothing."
        )


def _check_no_layout(
    videos: str | None, annotations: str | None, split: int | None, unlabeled_videos: str | None
) -> None:
    if videos is not None:
        raise errors.UserError("--videos needs --layout; for videos without labels, give --unlabeled_videos instead.")
    if unlabeled_videos is None:
        raise errors.UserError("There is nothing to build from: give --layout and --videos, or --unlabeled_videos.")
    for flag, value in (("annotations", annotations), ("split", split)):
        if value is not None:
            raise errors.UserError(f"--{flag} has no meaning without --layout: leave it out.")


def _read_layout(layout: str, videos: str | None, annotations: str | None, split: int | None) -> Listing:
    if videos is None:
        raise errors.UserError(f"--layout={layout} needs --videos.")
    if split is not None and layout not in ("ucf101", "hmdb51"):
        raise errors.UserError(f"--split has no meaning for --layout={layout}: leave it out.")
    if (annotations is None) != (layout == "folders"):
        verb = "takes no" if layout == "folders" else "needs"
        raise errors.UserError(f"--layout={layout} {verb} --annotations.")
    return read(layout, videos, annotations, split or 1)
