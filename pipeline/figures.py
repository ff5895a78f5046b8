"""People drawn from joint angles: a 3D skeleton, a camera, anti-aliased limbs."""

import dataclasses

import cv2
import numpy as np

from pipeline import actions

Color = tuple[int, int, int]

_SHIFT = 4  # fractional bits of the coordinates that cv2 draws at
_CIRCLE = np.stack([np.cos(a := np.linspace(0, 2 * np.pi, 12, endpoint=False)), np.sin(a)], axis=-1)
_CAMERA_DISTANCE = 4.5  # body heights; near enough that a limb held forward grows


@dataclasses.dataclass(frozen=True)
class Appearance:
    """What one person looks like, the same in all their clips.

    Attributes:
      build: Factor on the thickness of trunk and limbs.
      legs: Share of the height below the hips.
      arms: Length of an arm, body heights.
      shoulders: Distance between the shoulders, body heights.
      skin, hair, shirt, trousers, shoes: RGB.
      short_sleeves: Forearms are skin, not shirt.
      shorts: Shins are skin, not trousers.
      long_hair: Hair falls to the shoulders.
    """

    build: float
    legs: float
    arms: float
    shoulders: float
    skin: Color
    hair: Color
    shirt: Color
    trousers: Color
    shoes: Color
    short_sleeves: bool
    shorts: bool
    long_hair: bool


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where a person stands in the picture and how the camera sees them.

    Attributes:
      x, y: Where the feet stand, pixels.
      height: Standing height, pixels.
      yaw: Degrees the person is turned from the camera, to the picture's right where positive.
      pitch: Degrees the camera looks down.
    """

    x: float
    y: float
    height: float
    yaw: float
    pitch: float


def _hsv(hue: float, saturation: float, value: float) -> Color:
    pixel = np.uint8([[[hue * 179, saturation * 255, value * 255]]])
    return tuple(int(c) for c in cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0])


def random_appearance(rng: np.random.Generator) -> Appearance:
    """Someone new, all proportions and colours from `rng`."""
    tone = rng.uniform()  # dark to light
    skin = tuple(int(c) for c in (1 - tone) * np.array([92, 58, 40]) + tone * np.array([240, 200, 172]))
    hair_colors = ((25, 20, 18), (60, 40, 25), (120, 78, 40), (205, 170, 100), (150, 150, 150))
    return Appearance(
        build=rng.uniform(0.85, 1.25),
        legs=rng.uniform(0.47, 0.53),
        arms=rng.uniform(0.38, 0.45),
        shoulders=rng.uniform(0.2, 0.26),
        skin=skin,
        hair=hair_colors[rng.integers(len(hair_colors))],
        shirt=_hsv(rng.uniform(), rng.uniform(0.1, 0.8), rng.uniform(0.8, 1.0)),
        trousers=_hsv(rng.uniform(), rng.uniform(0.1, 0.8), rng.uniform(0.7, 1.0)),
        shoes=_hsv(rng.uniform(), rng.uniform(0, 0.6), rng.uniform(0.1, 0.9)),
        short_sleeves=bool(rng.uniform() < 0.5),
        shorts=bool(rng.uniform() < 0.3),
        long_hair=bool(rng.uniform() < 0.4),
    )


def _limb(angles: np.ndarray, side: float) -> np.ndarray:
    swing, spread = np.radians(angles).T
    return np.stack([side * np.sin(spread), -np.cos(spread) * np.cos(swing), np.cos(spread) * np.sin(swing)], axis=-1)


def _upright(angles: np.ndarray) -> np.ndarray:
    lean, tilt = np.radians(angles).T
    return np.stack([np.sin(tilt), np.cos(tilt) * np.cos(lean), np.cos(tilt) * np.sin(lean)], axis=-1)


def joint_positions(pose: actions.Pose, appearance: Appearance) -> dict[str, np.ndarray]:
    """Forward kinematics.

    Args:
      pose: A complete pose (`actions.complete`) of N frames.
      appearance: The proportions.

    Returns:
      Each joint's position, float [N, 3] in body heights: x to the person's left, y up from the
      ground, z forward. The lower foot touches the ground unless the pose jumps.
    """
    lateral = np.array([1.0, 0.0, 0.0])
    trunk = 0.82 - appearance.legs
    joints = {"pelvis": np.zeros_like(_upright(pose["torso"]))}
    joints["neck"] = trunk * _upright(pose["torso"])
    joints["head"] = joints["neck"] + 0.105 * _upright(pose["head"])
    for name, side in zip(actions.SIDES, (1.0, -1.0), strict=True):
        joints[f"{name}_shoulder"] = joints["neck"] * 0.94 + side * appearance.shoulders / 2 * lateral
        joints[f"{name}_hip"] = joints["pelvis"] + side * 0.055 * lateral
        for start, middle, end, upper, lower, length in (
            ("shoulder", "elbow", "hand", "upper_arm", "forearm", appearance.arms),
            ("hip", "knee", "foot", "thigh", "shin", appearance.legs),
        ):
            joints[f"{name}_{middle}"] = joints[f"{name}_{start}"] + length / 2 * _limb(pose[f"{name}_{upper}"], side)
            joints[f"{name}_{end}"] = joints[f"{name}_{middle}"] + length / 2 * _limb(pose[f"{name}_{lower}"], side)
        joints[f"{name}_toe"] = joints[f"{name}_foot"] + np.array([0.0, -0.01, 0.07])
    lowest = np.minimum(joints["left_foot"][:, 1], joints["right_foot"][:, 1])
    step, jump = pose["root"].T
    root = np.stack([step, jump - lowest + 0.025, np.zeros_like(step)], axis=-1)
    return {name: position + root for name, position in joints.items()}


def project(positions: np.ndarray, placement: Placement) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Body coordinates to the picture, by a pinhole camera.

    Args:
      positions: [..., 3], body heights (see `joint_positions`).
      placement: Where the person stands.

    Returns:
      Pixel coordinates [..., 2] (x, y), distances from the camera [...] in body heights, and pixels to
      a body height [...].
    """
    yaw, pitch = np.radians([placement.yaw, placement.pitch])
    x, y, z = np.moveaxis(positions, -1, 0)
    # Someone who faces the camera has their left on the picture's right.
    across, toward = x * np.cos(yaw) + z * np.sin(yaw), z * np.cos(yaw) - x * np.sin(yaw)
    up, toward = y * np.cos(pitch) - toward * np.sin(pitch), toward * np.cos(pitch) + y * np.sin(pitch)
    distance = _CAMERA_DISTANCE - toward
    scale = placement.height * _CAMERA_DISTANCE / distance
    pixels = np.stack([placement.x + across * scale, placement.y - up * scale], axis=-1)
    return pixels, distance, scale


def _parts(look: Appearance) -> list[tuple[tuple[str, ...], tuple[float, ...], Color]]:
    """The body as convex hulls of circles: joints, radii in body heights, colour."""
    sleeve = look.skin if look.short_sleeves else look.shirt
    leg = look.skin if look.shorts else look.trousers
    parts = [
        (("left_shoulder", "right_shoulder", "left_hip", "right_hip"), (0.045, 0.045, 0.05, 0.05), look.shirt),
        (("neck", "head"), (0.03, 0.03), look.skin),
        (("head",), (0.068,), look.skin),
        (("crown", "nape"), (0.066, 0.05), look.hair) if look.long_hair else (("crown",), (0.066,), look.hair),
    ]
    for side in actions.SIDES:
        parts += [
            ((f"{side}_shoulder", f"{side}_elbow"), (0.04, 0.032), look.shirt),
            ((f"{side}_elbow", f"{side}_hand"), (0.03, 0.024), sleeve),
            ((f"{side}_hand",), (0.032,), look.skin),
            ((f"{side}_hip", f"{side}_knee"), (0.056, 0.042), look.trousers),
            ((f"{side}_knee", f"{side}_foot"), (0.04, 0.03), leg),
            ((f"{side}_foot", f"{side}_toe"), (0.032, 0.026), look.shoes),
        ]
    return parts


def _circle_points(centers: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Points on circles: centers [..., C, 2] and radii [..., C] give float32 [..., C * 12, 2]."""
    points = centers[..., None, :] + radii[..., None, None] * _CIRCLE
    return points.reshape(*points.shape[:-3], -1, 2).astype(np.float32)


def _fill(image: np.ndarray, points: np.ndarray, color: Color) -> None:
    hull = cv2.convexHull(points) * (1 << _SHIFT)
    cv2.fillConvexPoly(image, hull.astype(np.int32), color, cv2.LINE_AA, _SHIFT)


def fill_hull(image: np.ndarray, centers: np.ndarray, radii: np.ndarray, color: Color) -> None:
    """Fills the convex hull of circles in place: a disc, a limb or a trunk.

    Args:
      image: uint8 [H, W, 3].
      centers: [C, 2] (x, y), pixels.
      radii: [C], pixels.
      color: RGB.
    """
    _fill(image, _circle_points(centers, radii), color)


class Figure:
    """One person's motion through a clip, ready to be drawn frame by frame."""

    def __init__(
        self,
        pose: actions.Pose,
        appearance: Appearance,
        placement: Placement,
        travel: np.ndarray | float = 0.0,
    ):
        """Works all frames' geometry out at once.

        Args:
          pose: A complete pose of N frames.
          appearance: The person.
          placement: Where they stand.
          travel: [N] pixels to the picture's right of the placement, for someone who walks past.
        """
        joints = joint_positions(pose, appearance)
        joints["crown"] = joints["head"] + np.array([0.0, 0.022, -0.025])
        joints["nape"] = joints["head"] + np.array([0.0, -0.09, -0.045])
        index = {name: i for i, name in enumerate(joints)}
        pixels, distance, scale = project(np.stack(list(joints.values()), axis=1), placement)
        pixels[..., 0] += np.reshape(travel, (-1, 1))
        self._shapes = []  # (colour, points [N, P, 2]), the rim and then the part itself
        depths = []
        for names, sizes, color in _parts(appearance):
            rows = [index[name] for name in names]
            radii = appearance.build * np.array(sizes) * scale[:, rows]
            # A dark rim keeps an arm visible before a trunk of the same colour.
            rim = tuple(int(c * 0.72) for c in color)
            outline = _circle_points(pixels[:, rows], radii + 0.012 * scale[:, rows])
            self._shapes.append(((rim, outline), (color, _circle_points(pixels[:, rows], radii))))
            depths.append(distance[:, rows].mean(axis=1))
        self._order = np.argsort(-np.stack(depths, axis=1), axis=1, kind="stable")

    def draw(self, image: np.ndarray, frame: int, offset: np.ndarray, zoom: float) -> None:
        """Draws the person into `image` in place, the farthest parts first.

        Args:
          image: uint8 [H, W, 3].
          frame: Which of the N frames.
          offset: [2], pixels that the camera's shake adds (before zooming).
          zoom: Pixels of `image` to one pixel of the placement.
        """
        offset = np.float32(offset)
        for part in self._order[frame]:
            for color, points in self._shapes[part]:
                _fill(image, (points[frame] + offset) * zoom, color)
