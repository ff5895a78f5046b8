"""What every source yields: clips, with their labels and splits."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Clip:
    """One video of a collection: a clip, or many where it is to be cut.

    Attributes:
      path: Relative to the videos' root, with forward slashes, or absolute where it lies elsewhere.
        It is the clip's id: unique, and the same on every machine.
      label: Class name; "" for an unlabelled clip.
      split: "train", "test" or "unlabeled".
      group: Clips of one group show the same people, place or film, and belong in the same split;
        "" where it is not known.
      file: Where the video lies, if not at `path` below the videos' root.
      clip_seconds: Length of the clips that the video is to be cut into, in seconds; 0 for a video that
        is one clip.
    """

    path: str
    label: str
    split: str
    group: str = ""
    file: str = ""
    clip_seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Listing:
    """A collection of videos.

    Attributes:
      classes: Class names; a label index is a position here.
      clips: The clips, in no particular order.
      warnings: What was odd about the collection, one sentence each.
    """

    classes: tuple[str, ...]
    clips: tuple[Clip, ...]
    warnings: tuple[str, ...] = ()
