"""What the rendered people do: joint angles over time.

A pose is a dict from joint to two angles in degrees, [N, 2] for N frames. A limb's angles are its
`swing` (0 hangs down, 90 points forward, 180 up) and its `spread` (0 in the body's own plane, 90
straight out to the limb's side). The torso's and the head's are lean forward and tilt to the
left; `root` holds, in body heights rather than degrees, the step to the left and the height of
a jump.
"""

from collections.abc import Callable

import numpy as np

SIDES = ("left", "right")
LIMBS = ("upper_arm", "forearm", "thigh", "shin")

Pose = dict[str, np.ndarray]

_REST = {
    "root": (0, 0),
    "torso": (2, 0),
    "head": (5, 0),
    "upper_arm": (0, 9),
    "forearm": (12, 6),
    "thigh": (2, 4),
    "shin": (-3, 3),
}


def _angles(first: np.ndarray | float, second: np.ndarray | float, like: np.ndarray) -> np.ndarray:
    return np.stack([np.broadcast_to(first, like.shape), np.broadcast_to(second, like.shape)], axis=-1).astype(float)


def _bump(phase: np.ndarray) -> np.ndarray:
    """0 at whole phases, 1 halfway between."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * phase)


def _pulse(phase: np.ndarray) -> np.ndarray:
    """Like `_bump`, with a stay at either end, the longer one at 1."""
    return np.clip(1.8 * _bump(phase) - 0.25, 0, 1)


def _both(**limbs: np.ndarray) -> Pose:
    return {f"{side}_{limb}": angles for limb, angles in limbs.items() for side in SIDES}


def stand(phase: np.ndarray, side: str) -> Pose:
    """Stands still but for breath and the shifting of weight."""
    sway = np.sin(2 * np.pi * 0.4 * phase)
    lean = 1 if side == "left" else -1
    return {
        "torso": _angles(2 + sway, lean * sway, phase),
        "head": _angles(5, 4 * sway, phase),
        **_both(upper_arm=_angles(2 * sway, 9, phase)),
    }


def walk(phase: np.ndarray, side: str) -> Pose:
    """Walks at an easy pace; what passers-by do, and no class."""
    lead, follow = SIDES if side == "left" else SIDES[::-1]
    pose = {"torso": _angles(4, 0, phase)}
    for leg, arm, offset in ((lead, follow, 0.0), (follow, lead, 0.5)):
        swing = np.sin(2 * np.pi * (phase + offset))
        lifted = np.maximum(0, np.cos(2 * np.pi * (phase + offset)))
        pose[f"{leg}_thigh"] = _angles(24 * swing + 4, 3, phase)
        pose[f"{leg}_shin"] = _angles(24 * swing - 6 - 34 * lifted, 2, phase)
        pose[f"{arm}_upper_arm"] = _angles(22 * swing, 8, phase)
        pose[f"{arm}_forearm"] = _angles(22 * swing + 18, 5, phase)
    return pose


def wave(phase: np.ndarray, side: str) -> Pose:
    """One hand above the head, swung from side to side."""
    swing = np.sin(2 * np.pi * 1.5 * phase)
    return {
        f"{side}_upper_arm": _angles(20, 112 + 10 * swing, phase),
        f"{side}_forearm": _angles(10, 160 + 38 * swing, phase),
        "torso": _angles(2, (4 if side == "right" else -4) * swing, phase),
    }


def jumping_jack(phase: np.ndarray, side: str) -> Pose:
    """Jumps to spread legs and raised arms, and back."""
    del side
    spread = _bump(phase)
    return {
        "root": _angles(0, 0.07 * np.abs(np.sin(2 * np.pi * phase)), phase),
        **_both(
            upper_arm=_angles(0, 12 + 138 * spread, phase),
            forearm=_angles(0, 8 + 156 * spread, phase),
            thigh=_angles(0, 4 + 28 * spread, phase),
            shin=_angles(0, 3 + 28 * spread, phase),
        ),
    }


def squat(phase: np.ndarray, side: str) -> Pose:
    """Down to bent knees, arms held forward, and up."""
    del side
    down = _pulse(phase)
    return {
        "torso": _angles(2 + 32 * down, 0, phase),
        **_both(
            upper_arm=_angles(85 * down, 9, phase),
            forearm=_angles(12 + 76 * down, 4, phase),
            thigh=_angles(2 + 92 * down, 4 + 16 * down, phase),
            shin=_angles(-3 - 32 * down, 3 + 6 * down, phase),
        ),
    }


def box(phase: np.ndarray, side: str) -> Pose:
    """Guard up, fists thrown forward by turns."""
    lead, follow = SIDES if side == "left" else SIDES[::-1]
    pose = {
        "torso": _angles(12, 0, phase),
        f"{lead}_thigh": _angles(26, 8, phase),
        f"{lead}_shin": _angles(2, 6, phase),
        f"{follow}_thigh": _angles(-16, 8, phase),
        f"{follow}_shin": _angles(-34, 6, phase),
    }
    for arm, reach in ((lead, _bump(phase) ** 2), (follow, _bump(phase + 0.5) ** 2)):
        pose[f"{arm}_upper_arm"] = _angles(30 + 62 * reach, 20 - 20 * reach, phase)
        pose[f"{arm}_forearm"] = _angles(140 - 48 * reach, -12 + 10 * reach, phase)
    return pose


def march(phase: np.ndarray, side: str) -> Pose:
    """On the spot, each knee lifted high by turns, the arms straight down."""
    lead, follow = SIDES if side == "left" else SIDES[::-1]
    pose = {"torso": _angles(-3, 0, phase)}
    for leg, arm, offset in ((lead, follow, 0.0), (follow, lead, 0.5)):
        raised = np.clip(1.5 * np.sin(2 * np.pi * (phase + offset)), 0, 1)
        pose[f"{leg}_thigh"] = _angles(2 + 108 * raised, 4, phase)
        pose[f"{leg}_shin"] = _angles(-3 - 12 * raised, 3, phase)
        pose[f"{arm}_upper_arm"] = _angles(-8 + 20 * raised, 8, phase)
    return pose


def kick(phase: np.ndarray, side: str) -> Pose:
    """One straight leg swung forward and up, the trunk leaning back."""
    other = SIDES[side == "left"]
    high = _pulse(phase)
    back = np.maximum(0, np.sin(2 * np.pi * phase) * 0.4)
    return {
        "torso": _angles(4 - 26 * high, 0, phase),
        f"{side}_thigh": _angles(2 + 100 * high - 30 * back, 6 + 14 * high, phase),
        f"{side}_shin": _angles(-8 + 108 * high - 60 * back, 6 + 14 * high, phase),
        f"{other}_upper_arm": _angles(40 * high, 15 + 30 * high, phase),
        f"{side}_upper_arm": _angles(-35 * high, 15 + 35 * high, phase),
    }


def bow(phase: np.ndarray, side: str) -> Pose:
    """Bends deep from the hips, arms at the sides, and rises."""
    del side
    down = _pulse(phase)
    return {
        "torso": _angles(2 + 88 * down, 0, phase),
        "head": _angles(5 + 100 * down, 0, phase),
        **_both(upper_arm=_angles(-25 * down, 9, phase), forearm=_angles(12 - 40 * down, 6, phase)),
    }


def overhead_clap(phase: np.ndarray, side: str) -> Pose:
    """Arms held out straight, clapped above the head; the legs stay still."""
    del side
    up = _bump(phase)
    return {
        **_both(
            upper_arm=_angles(0, 92 + 68 * up, phase),
            forearm=_angles(0, 92 + 96 * up, phase),
            thigh=_angles(2, 7, phase),
            shin=_angles(-3, 6, phase),
        )
    }


Action = Callable[[np.ndarray, str], Pose]

# The class names of the rendered data, with the seconds that one cycle takes.
ACTIONS: dict[str, tuple[Action, float]] = {
    "bow": (bow, 1.7),
    "box": (box, 0.8),
    "jumping_jack": (jumping_jack, 1.0),
    "kick": (kick, 1.1),
    "march": (march, 1.0),
    "overhead_clap": (overhead_clap, 0.8),
    "squat": (squat, 1.5),
    "wave": (wave, 1.0),
}


def complete(pose: Pose, num_frames: int) -> Pose:
    """The pose with every joint that it leaves out at rest, each [N, 2]."""
    rest = {name: angles for name, angles in _REST.items() if name not in LIMBS}
    rest |= {f"{side}_{limb}": _REST[limb] for side in SIDES for limb in LIMBS}
    return {joint: pose.get(joint, np.tile(np.float64(angles), (num_frames, 1))) for joint, angles in rest.items()}


def blend(rest: Pose, action: Pose, weight: np.ndarray) -> Pose:
    """Goes over from one complete pose (weight 0) to the other (weight 1), frame by frame; weight is [N]."""
    return {joint: rest[joint] + weight[:, None] * (action[joint] - rest[joint]) for joint in rest}
