"""A rendered clip's frames: background, things that move, one person acting and perhaps one who does not."""

import dataclasses

import cv2
import numpy as np

from pipeline import actions, figures

FRAME_SIZE = (120, 160)
FRAME_RATE = 25
_MARGIN = 6  # pixels of background beyond each edge, for the camera's shake
_OVERSAMPLING = 2  # drawn this much larger, then averaged


@dataclasses.dataclass(frozen=True)
class Timing:
    """When a clip's action happens, in frames: from `start` to `end` of `num_frames`."""

    num_frames: int
    start: int
    end: int

    def weight(self) -> np.ndarray:
        """0 while the person idles, 1 while they act, smooth between; float [num_frames]."""
        frames = np.arange(self.num_frames)
        ramp = 0.16 * FRAME_RATE
        linear = np.clip(np.minimum(frames - self.start, self.end - frames) / ramp, 0, 1)
        return linear * linear * (3 - 2 * linear)


def random_timing(rng: np.random.Generator) -> Timing:
    """A clip of 2.6 to 3.4 s whose action takes 55-80% of it, anywhere in it."""
    num_frames = int(rng.integers(65, 86))
    length = int(num_frames * rng.uniform(0.55, 0.8))
    start = int(rng.integers(0, num_frames - length + 1))
    return Timing(num_frames, start, start + length)


def _muted(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(50, 125) + rng.uniform(-22, 22, size=3)


def _texture(rng: np.random.Generator, shape: tuple[int, int], cell: int) -> np.ndarray:
    """Smooth noise in [-1, 1] of the given grain, float32 [H, W, 1]."""
    height, width = shape
    coarse = rng.uniform(-1, 1, size=(height // cell + 2, width // cell + 2)).astype(np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)[..., None]


def random_background(rng: np.random.Generator) -> np.ndarray:
    """A wall or a sky over a floor, with texture and clutter.

    Returns:
      uint8 [H, W, 3], larger than the frame by the shake's margin on every side, oversampled.
    """
    height, width = (_OVERSAMPLING * (side + 2 * _MARGIN) for side in FRAME_SIZE)
    rows = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    image = np.broadcast_to((1 - rows) * _muted(rng) + rows * _muted(rng), (height, width, 3)).astype(
        np.float32, order="C"
    )
    horizon = int(height * rng.uniform(0.5, 0.75))
    if rng.uniform() < 0.75:
        image[horizon:] = _muted(rng) * (0.8 + 0.3 * rows[: height - horizon])
        if rng.uniform() < 0.5:
            image[horizon : horizon + 4] *= 0.6  # a skirting board
    image += rng.uniform(2, 10) * _texture(rng, (height, width), int(rng.integers(6, 40)))
    if rng.uniform() < 0.3:
        step = int(rng.integers(24, 48))
        image[:horizon:step] *= 0.82
        image[:horizon, :: 2 * step] *= 0.82
    for _ in range(rng.integers(0, 4)):
        w, h = rng.integers(16, 90), rng.integers(16, 110)
        x, y = rng.integers(-20, width - 10), rng.integers(0, max(1, horizon - h // 2))
        color = _muted(rng)
        cv2.rectangle(image, (int(x), int(y)), (int(x + w), int(y + h)), color.tolist(), cv2.FILLED)
        cv2.rectangle(image, (int(x), int(y)), (int(x + w), int(y + h)), (0.7 * color).tolist(), 2)
    return np.clip(image, 0, 255).astype(np.uint8)


class _Ball:
    """Rolls or bounces through the picture."""

    def __init__(self, rng: np.random.Generator, num_frames: int):
        height, width = FRAME_SIZE
        time = np.arange(num_frames) / FRAME_RATE
        ground, bounce = height * rng.uniform(0.6, 0.97), height * rng.uniform(0, 0.4)
        x = rng.uniform(0, width) + rng.uniform(-70, 70) * time
        y = ground - bounce * np.abs(np.sin(np.pi * rng.uniform(0.7, 1.6) * time + rng.uniform(0, 3)))
        self._path = np.stack([x, y], axis=-1)
        self._radius = rng.uniform(3, 8)
        self._color = tuple(int(c) for c in rng.integers(20, 255, size=3))

    def draw(self, image: np.ndarray, frame: int, offset: np.ndarray, zoom: float) -> None:
        center = zoom * (self._path[frame : frame + 1] + offset)
        figures.fill_hull(image, center, zoom * np.array([self._radius]), self._color)


class _Car:
    """Drives across, behind everyone."""

    def __init__(self, rng: np.random.Generator, num_frames: int):
        height, width = FRAME_SIZE
        self._length = rng.uniform(28, 52)
        speed = rng.uniform(30, 80) * rng.choice([-1, 1])
        self._x = rng.uniform(0, width) + speed * (np.arange(num_frames) / FRAME_RATE - 1)
        self._y = height * rng.uniform(0.5, 0.72)
        self._color = tuple(int(c) for c in rng.integers(20, 235, size=3))

    def draw(self, image: np.ndarray, frame: int, offset: np.ndarray, zoom: float) -> None:
        unit = self._length / 4
        origin = np.array([self._x[frame], self._y]) + offset

        def part(points, radius, color):
            centers = origin + unit * np.array(points)
            figures.fill_hull(image, zoom * centers, np.full(len(centers), zoom * unit * radius), color)

        part([(-1.7, 0), (1.7, 0), (-1.7, -0.4), (1.7, -0.4)], 0.25, self._color)
        part([(-0.9, -0.5), (0.9, -0.5), (-0.6, -1.1), (0.6, -1.1)], 0.15, self._color)
        for wheel in (-1.1, 1.1):
            part([(wheel, 0.25)], 0.38, (25, 25, 28))


class _Screen:
    """Hangs on the wall and changes its picture a few times a second."""

    def __init__(self, rng: np.random.Generator, num_frames: int):
        height, width = FRAME_SIZE
        center = np.array([rng.uniform(0.1, 0.9) * width, rng.uniform(0.1, 0.4) * height])
        half = rng.uniform(6, 14)
        self._corners = center + half * np.array([(-1.3, -1), (1.3, -1), (1.3, 1), (-1.3, 1)])
        pictures = rng.integers(0, 255, size=(8, 3))
        changes = np.cumsum(rng.uniform(size=num_frames) < rng.uniform(2, 8) / FRAME_RATE)
        self._colors = pictures[changes % len(pictures)]

    def draw(self, image: np.ndarray, frame: int, offset: np.ndarray, zoom: float) -> None:
        corners = zoom * (self._corners + offset)
        figures.fill_hull(image, corners, np.full(4, zoom * 1.5), (20, 20, 22))
        figures.fill_hull(image, corners, np.full(4, zoom * 0.1), tuple(int(c) for c in self._colors[frame]))


def _clock(rng: np.random.Generator, timing: Timing, cycle: float) -> np.ndarray:
    """Cycles since the action began, at this person's own speed; float [num_frames]."""
    speed = rng.uniform(0.85, 1.2) / cycle
    return speed * (np.arange(timing.num_frames) - timing.start) / FRAME_RATE


def _bystander(
    rng: np.random.Generator, look: figures.Appearance, actor: figures.Placement, num_frames: int
) -> figures.Figure:
    """Someone beside or behind the actor who idles or walks past."""
    height, width = FRAME_SIZE
    tall = actor.height * rng.uniform(0.6, 0.9)
    # Farther people are smaller and stand higher in the picture.
    y = min(actor.y, height) - rng.uniform(0.05, 0.2) * actor.height
    side = rng.choice(actions.SIDES)
    if rng.uniform() < 0.5:
        away = rng.uniform(0.45, 0.7) * actor.height
        x = actor.x + (away if actor.x < width / 2 else -away)
        placement = figures.Placement(x, y, tall, rng.uniform(-90, 90), actor.pitch)
        pose = actions.stand(np.arange(num_frames) / FRAME_RATE + rng.uniform(0, 3), side)
        return figures.Figure(actions.complete(pose, num_frames), look, placement)
    # Seen from the side, a step forward is a step across the picture.
    direction = rng.choice([-1.0, 1.0])
    placement = figures.Placement(rng.uniform(0.1, 0.9) * width, y, tall, 80.0 * direction, actor.pitch)
    time = np.arange(num_frames) / FRAME_RATE
    pose = actions.complete(actions.walk(1.1 * time + rng.uniform(), side), num_frames)
    return figures.Figure(pose, look, placement, travel=0.55 * tall * direction * (time - time.mean()))


def _random_placement(rng: np.random.Generator) -> figures.Placement:
    height, width = FRAME_SIZE
    far = rng.uniform() < 0.15
    tall = height * (rng.uniform(0.48, 0.6) if far else rng.uniform(0.7, 0.85))
    low = height * (0.8 if far else 0.92)
    return figures.Placement(
        x=width / 2 + rng.uniform(-0.2, 0.2) * width,
        y=rng.uniform(low, 0.98 * height),
        height=tall,
        yaw=rng.choice([-1, 1]) * rng.uniform(10, 45),
        pitch=rng.uniform(0, 12),
    )


def _shake(rng: np.random.Generator, num_frames: int) -> np.ndarray:
    """A hand-held camera's drift and tremor, whole oversampled pixels; float [num_frames, 2] in pixels."""
    time = np.arange(num_frames)[:, None] / FRAME_RATE
    slow, fast = rng.uniform(0.2, 0.5, size=2), rng.uniform(1, 2.5, size=2)
    start = rng.uniform(0, 2 * np.pi, size=(2, 2))
    drift, tremor = rng.uniform(0, 4), rng.uniform(0, 0.7)
    path = drift * np.sin(2 * np.pi * slow * time + start[0]) + tremor * np.sin(2 * np.pi * fast * time + start[1])
    return np.round(path * _OVERSAMPLING) / _OVERSAMPLING


def render(
    action: str,
    look: figures.Appearance,
    passer_by: figures.Appearance,
    background: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Renders one clip.

    Args:
      action: A key of `actions.ACTIONS`.
      look: The person who acts.
      passer_by: Another person; a third of the clips show them, doing nothing to speak of.
      background: From `random_background`.
      rng: Decides on all else: place, view, timing, speed, shake, light and distractors.

    Returns:
      uint8 [N, H, W, 3] RGB of `FRAME_SIZE`, some three seconds at `FRAME_RATE`.
    """
    timing, placement = random_timing(rng), _random_placement(rng)
    move, cycle = actions.ACTIONS[action]
    side = rng.choice(actions.SIDES)
    clock = _clock(rng, timing, cycle)
    idle = actions.complete(actions.stand(clock * cycle + rng.uniform(0, 3), side), timing.num_frames)
    acting = actions.complete(move(clock, side), timing.num_frames)
    cast = [figures.Figure(actions.blend(idle, acting, timing.weight()), look, placement)]
    if rng.uniform() < 0.3:
        cast.insert(0, _bystander(rng, passer_by, placement, timing.num_frames))
    props = [kind(rng, timing.num_frames) for kind in (_Screen, _Car, _Ball) if rng.uniform() < 0.2]
    shake, light = _shake(rng, timing.num_frames), rng.uniform(0.8, 1.15)

    height, width = FRAME_SIZE
    frames = np.empty((timing.num_frames, height, width, 3), np.uint8)
    for frame, offset in enumerate(shake):
        left, top = (_OVERSAMPLING * (_MARGIN - offset)).astype(int)
        canvas = background[top : top + _OVERSAMPLING * height, left : left + _OVERSAMPLING * width].copy()
        for thing in props + cast:
            thing.draw(canvas, frame, offset, _OVERSAMPLING)
        frames[frame] = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    return cv2.convertScaleAbs(frames.reshape(-1, width, 3), alpha=light).reshape(frames.shape)
