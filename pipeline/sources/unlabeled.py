"""A directory of videos without labels, of any depth, beside a layout's clips or alone."""

import dataclasses

from apache_beam.io.filesystems import FileSystems

from pipeline.sources import checks, files
from pipeline.sources.clip import Clip, Listing
from stat_tf import errors

SPLIT = "unlabeled"


def read(directory: str, clip_seconds: float) -> tuple[Clip, ...]:
    """Lists the videos below a directory; their ids start with "unlabeled/", as those of --layout=folders do.

    Files that are not named like videos are passed over, hidden files and folders too.

    Args:
      directory: The directory.
      clip_seconds: Length of the clips to cut them into, in seconds; 0: each is one clip.

    Raises:
      UserError: The directory is missing or holds no video.
    """
    names = [
        name
        for name in files.list_files(directory, "unlabeled_videos")
        if name.lower().endswith(files.VIDEO_SUFFIXES) and not any(part.startswith(".") for part in name.split("/"))
    ]
    if not names:
        raise errors.UserError(f"{directory} has no videos: check --unlabeled_videos.")
    return tuple(
        Clip(
            path=f"{SPLIT}/{name}",
            label="",
            split=SPLIT,
            file=FileSystems.join(directory, *name.split("/")),
            clip_seconds=clip_seconds,
        )
        for name in names
    )


def add(listing: Listing, clips: tuple[Clip, ...]) -> Listing:
    """Adds unlabelled clips to a layout's.

    Raises:
      UserError: An id is in both.
    """
    both = {clip.path for clip in listing.clips} & {clip.path for clip in clips}
    if both:
        raise errors.UserError(
            f"--videos and --unlabeled_videos both have {checks.some(both)}: leave it out of one, or rename it."
        )
    return dataclasses.replace(listing, clips=(*listing.clips, *clips))
