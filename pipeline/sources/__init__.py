"""Where clips come from: one module a layout, each with a `read` that returns a `clip.Listing`."""

from pipeline.sources import folders, hmdb51, manifest, ucf101
from pipeline.sources.clip import Listing


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
