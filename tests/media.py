"""Small videos for tests, really encoded."""

import functools
import operator
import pathlib
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import Interpolation


def encode_video(
    path: pathlib.Path | str,
    frames: np.ndarray,
    fps: int = 25,
    codec: str = "libx264",
    *,
    pix_fmt: str | None = None,
    times: Sequence[int] | None = None,
    rotation: int = 0,
    pixel_aspect: Fraction | None = None,
    options: dict[str, str] | None = None,
) -> pathlib.Path:
    """Encodes frames to a file; its suffix says the container.

    Args:
      path: The file; its folder is made.
      frames: uint8 [N, H, W, 3], RGB.
      fps: Frames a second.
      codec: FFmpeg's name.
      pix_fmt: FFmpeg's name; yuv420p where height and width are even, else yuv444p.
      times: N presentation times in units of 1 / fps; 0, 1, 2, ... when not given.
      rotation: Degrees for the display matrix.
      pixel_aspect: Width over height of a pixel.
      options: The encoder's.

    Returns:
      The path.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = frames.shape[1:3]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options=options or {})
        stream.width, stream.height = width, height
        stream.pix_fmt = pix_fmt or ("yuv420p" if height % 2 == width % 2 == 0 else "yuv444p")
        stream.codec_context.time_base = Fraction(1, fps)
        if pixel_aspect:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        if rotation:
            stream.set_display_rotation(rotation)
        for index, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            picture.pts = index if times is None else times[index]
            picture.time_base = Fraction(1, fps)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def encode_sound(path: pathlib.Path | str) -> pathlib.Path:
    """Writes a file with sound and no picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        for start in range(0, 16000, 1024):
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            sound.rate, sound.pts = 16000, start
            container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    return pathlib.Path(path)


def numbered_frames(count: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """Frames [N, H, W, 3] that tell which side is up (red above, green left) and, in grey, their number."""
    height, width = size
    frames = np.empty((count, height, width, 3), np.uint8)
    frames[...] = (np.arange(count) * 3 % 255)[:, None, None, None]
    frames[:, : height // 3] = (200, 0, 0)
    frames[:, :, : width // 3] = (0, 200, 0)
    return frames


def number_of(frame: np.ndarray) -> int:
    """The number of one of the first 85 numbered frames, upright, at any size."""
    height, width = frame.shape[:2]
    return round(float(frame[height // 2 :, width // 2 :].mean()) / 3)


def decode_all(path: pathlib.Path | str) -> np.ndarray:
    """All frames [N, H, W, 3] in order of presentation, by FFmpeg's own loop: what other readers are compared with."""
    flags = "AREA", "FULL_CHR_H_INP", "FULL_CHR_H_INT", "ACCURATE_RND", "BITEXACT"
    how = functools.reduce(operator.or_, (Interpolation[flag] for flag in flags))
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24", interpolation=how) for frame in container.decode(video=0)])


def moving_pattern(
    count: int, velocity: Sequence[float], degrees: float = 0.0, zoom: float = 1.0, size: tuple[int, int] = (96, 128)
) -> tuple[np.ndarray, np.ndarray]:
    """Frames of a smooth coloured texture that moves, turns and grows, sampled from its formula.

    Args:
      count: N, frames.
      velocity: (x, y) pixels a frame; x to the right, y down.
      degrees: Turn a frame around the centre, clockwise as seen.
      zoom: Growth a frame.
      size: (height, width), pixels.

    Returns:
      uint8 [N, H, W, 3], and the motion from each frame to the next, float [H, W, 2]: (x, y) in pixels.
      Either the velocity, or turn and growth, may differ from nothing, so that the motion stays the same.
    """
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    points = np.stack([columns - (width - 1) / 2, rows - (height - 1) / 2], -1)  # (x, y) from the centre
    angle = np.deg2rad(degrees)
    step = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    rng = np.random.default_rng(0)
    wavelengths, directions = rng.uniform(12, 60, (40, 3)), rng.uniform(0, 2 * np.pi, (40, 3))
    waves = 2 * np.pi / wavelengths * np.stack([np.cos(directions), np.sin(directions)])  # [2, 40, 3]
    phases = rng.uniform(0, 2 * np.pi, (40, 3))
    frames = []
    for number in range(count):
        origins = points @ np.linalg.inv(np.linalg.matrix_power(step, number)).T - number * np.asarray(velocity)
        texture = np.cos(np.einsum("hwa,akc->hwkc", origins, waves) + phases).sum(2)
        frames.append(np.clip(128 + 12 * texture, 0, 255).round().astype(np.uint8))
    return np.stack(frames), points @ step.T - points + np.asarray(velocity)
