"""Long videos to runs of clips: the step before `clips_to_records` for videos that are to be cut."""

import dataclasses
import hashlib
from collections.abc import Iterator

import apache_beam as beam
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from pipeline import clips_to_records, progress
from pipeline.clips_to_records import ClipTask
from stat_tf.data import cutting, video

RUNS = "runs"


class CutVideo(beam.DoFn):
    """Turns the `ClipTask` of a long video into those of its runs.

    Yields (kind, value) pairs: `RUNS`, a `ClipTask`, and what `clips_to_records` yields of a whole video: `REJECTED`
    for one that cannot be cut, `CONTENTS` for one that can, and `FINGERPRINTS`.
    """

    def __init__(self, videos: str, progress: str | None):
        """Creates the function.

        Args:
          videos: Directory that the clips' paths start from.
          progress: As of `clips_to_records.ClipToRecord`.
        """
        self._videos = videos
        self._progress = progress

    def process(self, task: ClipTask) -> Iterator:
        clip = task.clip
        content = ""
        path = clips_to_records.source_path(self._videos, clip)
        try:
            with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
                runs = cutting.cut_video(clip.path, clip.clip_seconds, file)
        except (video.VideoError, OSError) as error:
            reason = clips_to_records.open_error(error)
            yield clips_to_records.REJECTED, clips_to_records.rejection(clip, self._videos, reason)
            progress.report(self._progress, done=1)
        else:
            yield from ((RUNS, dataclasses.replace(task, run=run)) for run in runs)
            yield clips_to_records.CONTENTS, (content, (clip.split, clip.path))
            progress.report(self._progress, added=sum(len(run.parts) for run in runs) - 1)
        yield clips_to_records.FINGERPRINTS, clips_to_records.fingerprint(clip, content)
