"""Settings of small builds for tests."""

from pipeline.clips_to_records import RecordSettings


def record_settings(**changes) -> RecordSettings:
    """Two segments of two snippets of one frame, 24x32 and 12x16, degraded by default; `changes` by field name."""
    settings = {
        **{"num_segments": 2, "num_snippets": 2, "num_frames": 1, "frame_stride": 1},
        **{"hr_size": (24, 32), "lr_sizes": ((12, 16),), "jpeg_quality": 95, "lens_blur": 0.25, "noise": 2.0},
    }
    return RecordSettings(**settings | changes)
