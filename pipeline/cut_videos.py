"""Long videos to runs of clips: the step before `clips_to_records` for videos that are to be cut."""

import dataclasses
from collections.abc import Iterator

import apache_beam as beam

from pipeline import clips_to_records, decoder, progress
from pipeline.clips_to_records import ClipTask
from stat_tf.data import video

RUNS = "runs"


class CutVideo(beam.DoFn):
    """Turns the `ClipTask` of a long video into those of its runs.

    Yields (kind, value) pairs: `RUNS`, a `ClipTask`, and what `clips_to_records` yields of a whole video: `REJECTED`
    for one that cannot be cut, `CONTENTS` for one that can, and `FINGERPRINTS`.
    """

    def __init__(self, videos: str, progress: str | None, clip_timeout: float = decoder.TIMEOUT):
        """Creates the function.

        Args:
          videos: Directory that the clips' paths start from.
          progress: As of `clips_to_records.ClipToRecord`.
          clip_timeout: Seconds that cutting a video may take.
        """
        self._clip_timeout = clip_timeout
        self._videos = videos
        self._progress = progress

    def setup(self):
        self._decoder = decoder.Decoder(self._clip_timeout)

    def teardown(self):
        self._decoder.close()

    def process(self, task: ClipTask) -> Iterator:
        clip = task.clip
        location = clips_to_records.source_path(self._videos, clip)
        content, runs = self._decoder.cut_video(clip.path, location, clip.clip_seconds)
        if isinstance(runs, video.VideoError):
            yield clips_to_records.REJECTED, clips_to_records.rejection(clip, self._videos, runs.reason)
            progress.report(self._progress, done=1)
        else:
            yield from ((RUNS, dataclasses.replace(task, run=run)) for run in runs)
            yield clips_to_records.CONTENTS, (content, (clip.split, clip.path))
            progress.report(self._progress, added=sum(len(run.parts) for run in runs) - 1)
        yield clips_to_records.FINGERPRINTS, clips_to_records.fingerprint(clip, content)
