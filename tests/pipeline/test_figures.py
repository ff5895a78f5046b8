"""The rendered people: lengths of limbs, the ground, the camera and what their actions look like."""

import cv2
import numpy as np
import pytest

from pipeline import actions, figures

PHASE = np.linspace(0, 2, 41)
LOOK = figures.random_appearance(np.random.default_rng(3))
FRONT = figures.Placement(x=80.0, y=110.0, height=90.0, yaw=0.0, pitch=0.0)


def joints_of(action, side="left"):
    move, _ = actions.ACTIONS[action]
    return figures.joint_positions(actions.complete(move(PHASE, side), len(PHASE)), LOOK)


def length(joints, first, second):
    return np.linalg.norm(joints[first] - joints[second], axis=-1)


@pytest.mark.parametrize("action", actions.ACTIONS)
def test_bones_keep_their_length_and_no_foot_sinks_into_the_ground(action):
    joints = joints_of(action)
    for side in actions.SIDES:
        np.testing.assert_allclose(length(joints, f"{side}_shoulder", f"{side}_elbow"), LOOK.arms / 2)
        np.testing.assert_allclose(length(joints, f"{side}_elbow", f"{side}_hand"), LOOK.arms / 2)
        np.testing.assert_allclose(length(joints, f"{side}_hip", f"{side}_knee"), LOOK.legs / 2)
        np.testing.assert_allclose(length(joints, f"{side}_knee", f"{side}_foot"), LOOK.legs / 2)
    lowest = np.minimum(joints["left_foot"][:, 1], joints["right_foot"][:, 1])
    assert lowest.min() >= 0.02
    assert (lowest.max() > 0.05) == (action == "jumping_jack")


def test_someone_standing_is_one_body_height_tall():
    pose = actions.complete(actions.stand(PHASE, "left"), len(PHASE))
    head = figures.joint_positions(pose, LOOK)["head"][:, 1]
    # The circle that is the head adds 0.068 to its centre.
    assert np.all(np.abs(head + 0.068 - 1) < 0.03)


@pytest.mark.parametrize(
    "action, what, reaches",
    [
        ("bow", lambda j: j["pelvis"][:, 1] - j["head"][:, 1], 0.0),
        ("box", lambda j: j["left_hand"][:, 2] - j["left_shoulder"][:, 2], 0.35),
        ("jumping_jack", lambda j: j["left_foot"][:, 0] - j["right_foot"][:, 0], 0.5),
        ("kick", lambda j: j["left_foot"][:, 1], 0.45),
        ("march", lambda j: j["right_knee"][:, 1], 0.45),
        ("overhead_clap", lambda j: j["left_hand"][:, 1], 1.05),
        ("squat", lambda j: 0.35 - j["pelvis"][:, 1], 0.0),
        ("wave", lambda j: j["left_hand"][:, 1], 1.0),
    ],
)
def test_each_action_does_what_its_name_says_and_standing_does_not(action, what, reaches):
    assert what(joints_of(action)).max() > reaches
    still = actions.complete(actions.stand(PHASE, "left"), len(PHASE))
    assert what(figures.joint_positions(still, LOOK)).max() < reaches - 0.05


def test_marching_keeps_one_leg_straight_and_squatting_does_not():
    # With both knees up at once a march would look like a squat.
    assert joints_of("march")["pelvis"][:, 1].min() > 0.97 * LOOK.legs
    assert joints_of("squat")["pelvis"][:, 1].min() < 0.7 * LOOK.legs


@pytest.mark.parametrize("action", ["wave", "kick"])
def test_the_other_side_is_the_mirror_image(action):
    left, right = joints_of(action, "left"), joints_of(action, "right")
    mirrored = right["right_hand"] * [-1, 1, 1]
    np.testing.assert_allclose(left["left_hand"], mirrored, atol=1e-9)


def test_camera_matches_a_pinhole_worked_out_by_hand():
    # Straight ahead, the plane of the body keeps the placement's scale: 0.5 up is 45 pixels.
    pixels, distance, scale = figures.project(np.array([0.1, 0.5, 0.0]), FRONT)
    np.testing.assert_allclose(pixels, [89.0, 65.0])
    np.testing.assert_allclose([distance, scale], [4.5, 90.0])
    # Turned by 90 degrees, forward is to the right, and the left hand points away from the camera.
    side_on = figures.Placement(80.0, 110.0, 90.0, yaw=90.0, pitch=0.0)
    pixels, distance, _ = figures.project(np.array([0.5, 0.0, 0.2]), side_on)
    np.testing.assert_allclose(distance, 5.0)
    np.testing.assert_allclose(pixels, [80.0 + 0.2 * 90 * 4.5 / 5.0, 110.0])
    # Seen from above, what is nearer to the camera is lower in the picture.
    above = figures.Placement(80.0, 110.0, 90.0, yaw=0.0, pitch=30.0)
    pixels, _, _ = figures.project(np.array([0.0, 0.0, 0.5]), above)
    assert pixels[1] > 115


def test_nearer_parts_cover_farther_ones():
    # Seen from behind, hair covers the face: no skin of the head is left in its middle.
    pose = actions.complete({}, 1)
    middle = {}
    for name, yaw in (("front", 0.0), ("back", 180.0)):
        image = np.zeros((240, 320, 3), np.uint8)
        placement = figures.Placement(80.0, 110.0, 90.0, yaw, 0.0)
        figures.Figure(pose, LOOK, placement).draw(image, 0, np.zeros(2), 2)
        top, _, _ = figures.project(figures.joint_positions(pose, LOOK)["head"], placement)
        x, y = np.round(2 * top[0]).astype(int)
        middle[name] = tuple(image[y + 2, x].tolist())
    assert middle == {"front": LOOK.skin, "back": LOOK.hair}


def test_drawn_figure_is_as_tall_and_stands_where_it_was_put_whatever_the_zoom():
    pose = actions.complete({}, 1)
    for zoom in (1, 2):
        image = np.zeros((120 * zoom, 160 * zoom, 3), np.uint8)
        figures.Figure(pose, LOOK, FRONT).draw(image, 0, np.array([3.0, -2.0]), zoom)
        rows, columns = np.nonzero(image.sum(axis=-1))
        # The feet, nearer to the camera than the body's axis, reach below the place they stand on.
        assert rows.max() / zoom == pytest.approx(111, abs=3)
        assert (rows.max() - rows.min()) / zoom == pytest.approx(94, abs=5)
        assert (columns.max() + columns.min()) / 2 / zoom == pytest.approx(83, abs=2)


def test_hull_of_two_circles_has_the_area_of_a_capsule():
    image = np.zeros((320, 480, 3), np.uint8)
    figures.fill_hull(image, np.array([[120.0, 160.0], [320.0, 160.0]]), np.array([48.0, 48.0]), (255, 0, 0))
    area = image[..., 0].sum() / 255
    # The half circles are drawn as twelve-sided polygons, 4.5% smaller than discs.
    assert area == pytest.approx(200 * 96 + 0.955 * np.pi * 48**2, rel=0.02)
    assert cv2.countNonZero(image[..., 1]) == 0


def test_people_differ():
    looks = [figures.random_appearance(np.random.default_rng(seed)) for seed in range(20)]
    assert len({look.shirt for look in looks}) == 20
    assert {look.shorts for look in looks} == {look.long_hair for look in looks} == {True, False}
