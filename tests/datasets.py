"""Small datasets for tests, written record by record without the Beam job."""

import hashlib
import pathlib

import numpy as np
import tensorflow as tf

from stat_tf.data import info as info_lib
from stat_tf.data import record


def blue(clip_number: int, frame: int) -> int:
    """The blue level that tells frame and clip apart, JPEG's error notwithstanding."""
    return 20 + 20 * clip_number + 12 * frame


def frames_of(clip_number: int, count: int, size: tuple[int, int]) -> np.ndarray:
    """Smooth uint8 frames [count, H, W, 3]; frame n of clip c has the blue level `blue(c, n)`."""
    height, width = size
    rows = np.linspace(0, 200, height)[:, None] * np.ones((1, width))
    columns = np.ones((height, 1)) * np.linspace(0, 200, width)[None]
    frames = np.stack([np.stack([rows, columns, np.full_like(rows, blue(clip_number, n))], -1) for n in range(count)])
    return frames.clip(0, 255).astype(np.uint8)


def fields_of(clip_number: int, count: int, size: tuple[int, int]) -> np.ndarray:
    """Quantised flow [count, H, W, 2]: x grows to the right, y tells frame and clip apart."""
    height, width = size
    x = np.broadcast_to(np.linspace(60, 180, width), (count, height, width))
    y = np.stack([np.full((height, width), blue(clip_number, n)) for n in range(count)])
    return np.stack([x, y], -1).round().astype(np.uint8)


def write_dataset(
    directory: pathlib.Path,
    *,
    clips: dict[str, int] | None = None,
    classes: tuple[str, ...] = ("jump", "run"),
    num_segments: int = 2,
    num_snippets: int = 3,
    num_frames: int = 1,
    hr_size: tuple[int, int] = (24, 32),
    lr_sizes: tuple[tuple[int, int], ...] = ((12, 16),),
    flow: info_lib.FlowInfo | None = None,
    num_shards: int = 2,
    make_frames=frames_of,
) -> info_lib.DatasetInfo:
    """Writes a dataset whose clip n has class n modulo the number of classes; returns its info."""
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    clips = clips or {"train": 6, "test": 4}
    per_clip = num_segments * num_snippets * num_frames
    shards, counts = {}, {}
    for split, number in clips.items():
        counts[split], shards[split] = {}, []
        serialized = [[] for _ in range(num_shards)]
        for clip in range(number):
            label = "" if split == "unlabeled" else classes[clip % len(classes)]
            counts[split][label] = counts[split].get(label, 0) + 1
            frames = make_frames(clip, per_clip, hr_size)
            serialized[clip % num_shards].append(
                record.encode(
                    record.ClipRecord(
                        clip_id=f"{split}/{clip:03d}.mp4",
                        path=f"{split}/{clip:03d}.mp4",
                        group="",
                        label=label,
                        label_index=classes.index(label) if label else record.UNLABELED,
                        hr_frames=[tf.io.encode_jpeg(frame, quality=100).numpy() for frame in frames],
                        lr_frames={size: _pngs(_shrunk(frames, size)) for size in lr_sizes},
                        timestamps=[40000 * n for n in range(per_clip)],
                        hr_size=hr_size,
                        frame_rate=25.0,
                        hr_flow=_flow_pngs(clip, per_clip, hr_size) if flow else None,
                        lr_flow={size: _flow_pngs(clip, per_clip, size) for size in lr_sizes} if flow else None,
                    )
                )
            )
        for number, records in enumerate(serialized):
            path = directory / f"{split}-{number:05d}-of-{num_shards:05d}.tfrecord"
            with tf.io.TFRecordWriter(str(path)) as writer:
                for example in records:
                    writer.write(example)
            data = path.read_bytes()
            digest = hashlib.sha256(data).hexdigest()
            shards[split].append(info_lib.Shard(path.name, len(records), len(data), digest))
    info = info_lib.DatasetInfo(
        classes=classes,
        num_segments=num_segments,
        num_snippets=num_snippets,
        num_frames=num_frames,
        frame_stride=1,
        hr_size=hr_size,
        lr_sizes=lr_sizes,
        lens_blur=0.0,
        noise=0.0,
        shards={split: tuple(names) for split, names in shards.items()},
        counts=counts,
        num_rejected=0,
        source_fingerprint="test",
        flow=flow,
    )
    (directory / info_lib.FILE_NAME).write_text(info.to_json())
    return info


def _shrunk(frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return tf.cast(tf.round(tf.image.resize(frames, size, method="area")), tf.uint8).numpy()


def _pngs(images: np.ndarray) -> list[bytes]:
    return [tf.io.encode_png(image).numpy() for image in images]


def _flow_pngs(clip_number: int, count: int, size: tuple[int, int]) -> list[bytes]:
    """The fields as a record keeps them: x, y and a channel of zeros."""
    return _pngs(np.pad(fields_of(clip_number, count, size), [(0, 0)] * 3 + [(0, 1)]))
