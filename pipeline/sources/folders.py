"""Videos sorted into folders: {train,test}/CLASS/VIDEO, and unlabeled/VIDEO."""

import os

from pipeline.sources import checks, files
from pipeline.sources.clip import Clip, Listing
from stat_tf import errors
from stat_tf.data import info


def _classes(videos: str, clips: list[Clip]) -> tuple[str, ...]:
    """The class folders; an empty one too, so that it can be reported."""
    classes = {clip.label for clip in clips if clip.label}
    for split in ("train", "test"):
        folder = os.path.join(videos, split)
        if os.path.isdir(folder):
            classes.update(e.name for e in os.scandir(folder) if e.is_dir() and not e.name.startswith("."))
    for name in classes:
        if not files.is_utf8(name):
            raise errors.UserError(
                f"The class folder {files.shown(name)} in {videos} has a name that is not UTF-8: rename it."
            )
    return tuple(sorted(classes))


def read(videos: str) -> Listing:
    """Lists a directory of videos.

    Args:
      videos: Directory of train/CLASS/VIDEO, test/CLASS/VIDEO and unlabeled/VIDEO, each optional.
        Deeper folders are allowed. Files that are not named like videos are passed over.

    Returns:
      The clips; classes in alphabetical order; a warning that names other folders beside these that hold videos.

    Raises:
      UserError: The directory is missing or holds no video, a video lies in train or test itself, or a
        class folder's name is not UTF-8.
    """
    clips, others = [], set()
    for path in files.list_files(videos, "videos"):
        folders = path.split("/")[:-1]
        hidden = any(part.startswith(".") for part in path.split("/"))
        if hidden or not path.lower().endswith(files.VIDEO_SUFFIXES) or not folders:
            continue
        if folders[0] not in info.SPLITS:
            others.add(files.shown(folders[0]))
        elif folders[0] == "unlabeled":
            clips.append(Clip(path, "", "unlabeled"))
        elif len(folders) == 1:
            raise errors.UserError(f"{videos}/{path} has no class: move it to {videos}/{folders[0]}/CLASS.")
        else:
            clips.append(Clip(path, folders[1], folders[0]))
    if not clips:
        raise errors.UserError(
            f"{videos} has no videos in train/CLASS, test/CLASS or unlabeled: check --videos and --layout."
        )
    warnings = []
    if others:
        splits = ", ".join(info.SPLITS)
        warnings.append(
            f"Videos in folders that are no split are left out: {checks.some(others)}; splits are {splits}."
        )
    return Listing(_classes(videos, clips), tuple(clips), tuple(warnings))
