"""UCF101: `classInd.txt`, `trainlist0N.txt` and `testlist0N.txt`, as its authors distribute them."""

import re

from pipeline.sources import files
from pipeline.sources.clip import Clip, Listing
from stat_tf import errors

_GROUP = re.compile(r"_(g\d+)_c\d+\.\w+$")


def _read_classes(path: str) -> tuple[str, ...]:
    classes = []
    for where, words in files.read_lines(path, "annotations"):
        if len(words) != 2 or words[0] != str(len(classes) + 1):
            raise errors.UserError(f'{where} should be "{len(classes) + 1} CLASS".')
        classes.append(words[1])
    return tuple(classes)


def _read_list(path: str, split: str, classes: tuple[str, ...]) -> list[Clip]:
    clips = []
    for where, words in files.read_lines(path, "annotations"):
        label, _, name = words[0].partition("/")
        if not name or len(words) > 2:
            raise errors.UserError(f'{where} should be "CLASS/VIDEO" or "CLASS/VIDEO INDEX".')
        if label not in classes:
            raise errors.UserError(f"{where} has the class {label}, which classInd.txt does not list.")
        if len(words) == 2 and words[1] != str(classes.index(label) + 1):
            raise errors.UserError(
                f"{where} gives {label} the index {words[1]}, classInd.txt {classes.index(label) + 1}."
            )
        match = _GROUP.search(name)
        # Each class counts its groups from 1.
        clips.append(Clip(words[0], label, split, f"{label}_{match.group(1)}" if match else ""))
    return clips


def read(videos: str, annotations: str, split: int) -> Listing:
    """Reads one of the three official splits.

    Args:
      videos: Directory of CLASS/v_CLASS_gNN_cNN.avi, or of these files without the class directories.
      annotations: Directory of the lists.
      split: 1, 2 or 3.

    Returns:
      All clips of the two lists, in the classes' official order; those missing on disk too.

    Raises:
      UserError: A file is missing, or a line is malformed or contradicts `classInd.txt`.
    """
    on_disk = set(files.list_files(videos, "videos"))
    classes = _read_classes(f"{annotations}/classInd.txt")
    clips = [
        *_read_list(f"{annotations}/trainlist{split:02d}.txt", "train", classes),
        *_read_list(f"{annotations}/testlist{split:02d}.txt", "test", classes),
    ]

    def located(clip: Clip) -> Clip:
        flat = clip.path.rpartition("/")[2]
        is_flat = clip.path not in on_disk and flat in on_disk
        return Clip(flat, clip.label, clip.split, clip.group) if is_flat else clip

    return Listing(classes, tuple(located(clip) for clip in clips))
