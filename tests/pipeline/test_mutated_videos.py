"""Videos damaged in all the ways that files get damaged, through a build: each is stored, or rejected with a reason."""

import json
import struct

import numpy as np
import pytest
import tensorflow as tf

from pipeline import beam_options, build, sources
from pipeline.outcome import BuildConfig
from stat_tf.data import record
from tests import builds, media

COUNT = 500
CONTAINERS = [
    ("mp4", "libx264", {"bf": "2", "g": "6"}),
    ("mkv", "libx264", {"g": "6"}),
    ("ts", "libx264", {"g": "6"}),
    ("avi", "mpeg4", {}),
    ("webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
    ("mpg", "mpeg2video", {}),
    ("flv", "flv", {}),
    ("mov", "mjpeg", {}),
    ("gif", "gif", {}),
]
PIXELS = {"gif": "rgb8", "mov": "yuvj420p"}
EXTREMES = [0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]


def flip_bits(content, rng, others):
    for position in rng.integers(0, len(content), rng.integers(1, 60)):
        content[position] ^= 1 << rng.integers(8)
    return content


def truncate(content, rng, others):
    return content[: rng.integers(1, len(content))]


def replace_header(content, rng, others):
    size = rng.integers(4, 200)
    header = others[rng.integers(len(others))][:size] if rng.integers(2) else rng.bytes(size)
    return header + content[size:]


def zero_run(content, rng, others):
    start, size = rng.integers(0, len(content)), rng.integers(1, len(content) // 2)
    content[start : start + size] = bytes(min(size, len(content) - start))
    return content


def set_fields(content, rng, others):
    """Puts extreme numbers where containers keep sizes, counts and times: near the file's ends."""
    for _ in range(rng.integers(1, 4)):
        start = rng.integers(0, min(1500, len(content) - 4))
        if rng.integers(2):
            start = len(content) - 4 - start
        field = struct.pack(rng.choice([">I", "<I"]), EXTREMES[rng.integers(len(EXTREMES))])
        content[start : start + 4] = field
    return content


def set_picture_size(content, rng, others):
    """Claims huge pictures where the container states their size: a few bytes that ask for gigabytes."""
    large = int(rng.choice([8192, 16384, 32767, 65535]))
    for order in (">", "<"):
        for kind in ("I", "H"):
            for side in (48, 64):
                content = content.replace(struct.pack(order + kind, side), struct.pack(order + kind, large))
    return content


def swap_chunks(content, rng, others):
    size = rng.integers(1, max(2, len(content) // 4))
    a, b = sorted(rng.integers(0, len(content) - size, 2))
    content[a : a + size], content[b : b + size] = content[b : b + size], content[a : a + size]
    return content


def repeat_chunk(content, rng, others):
    start, size = rng.integers(0, len(content)), rng.integers(1, 2000)
    return content[:start] + content[start : start + size] * int(rng.integers(2, 20)) + content[start:]


MUTATIONS = [
    flip_bits,
    truncate,
    replace_header,
    zero_run,
    set_fields,
    set_picture_size,
    swap_chunks,
    repeat_chunk,
]


@pytest.fixture(scope="module")
def mutated(tmp_path_factory):
    root = tmp_path_factory.mktemp("mutated")
    originals = {}
    for suffix, codec, options in CONTAINERS:
        path = root / "originals" / f"v.{suffix}"
        frames = media.moving_pattern(12, (1.5, -0.5), size=(48, 64))[0]
        media.encode_video(path, frames, 25, codec, pix_fmt=PIXELS.get(suffix), options=options)
        originals[suffix] = path.read_bytes()
    rng = np.random.default_rng(0)
    rows = ["path,label,split"]
    for number in range(COUNT):
        suffix, mutate = list(originals)[number % len(originals)], MUTATIONS[number % len(MUTATIONS)]
        content = mutate(bytearray(originals[suffix]), rng, list(originals.values()))
        name = f"{number:03d}-{mutate.__name__}.{suffix}"
        (root / name).write_bytes(content)
        rows.append(f"{name},c,train")
    (root / "manifest.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.mark.slow
def test_each_mutated_video_is_stored_or_rejected_with_a_reason(mutated, tmp_path):
    settings = builds.record_settings(num_snippets=1, lens_blur=0.0, noise=0.0)
    listing = sources.read("manifest", str(mutated), str(mutated / "manifest.csv"), 1)
    config = BuildConfig(str(mutated), str(tmp_path / "data"), settings, max_rejected=1, clip_timeout=60)
    description = build.build(listing, config, beam_options.parse(["--direct_running_mode=in_memory"], COUNT))
    paths = [str(tmp_path / "data" / shard.name) for shard in description.shards["train"]]
    stored = [
        record.parse(one, {"hr": "", "lr": "LR/"})["id"].numpy().decode() for one in tf.data.TFRecordDataset(paths)
    ]
    lines = (tmp_path / "data" / "rejected.jsonl").read_text().splitlines()
    reasons = {fields["id"]: fields["reason"] for fields in map(json.loads, lines)}
    assert sorted([*stored, *reasons]) == sorted(clip.path for clip in listing.clips)
    assert all(reasons.values()) and description.num_rejected == len(reasons)
    # Damage is neither waved through nor taken for the end of a video.
    assert COUNT // 10 < len(stored) < COUNT * 9 // 10
    assert not any("takes longer" in reason for reason in reasons.values()), reasons
