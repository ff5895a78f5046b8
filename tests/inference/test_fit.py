"""Which runs and datasets go together, by their configurations alone."""

import dataclasses

import pytest

from stat_tf import errors
from stat_tf.data import info as info_lib
from stat_tf.inference import fit
from tests import datasets, runs

FLOW = {"stream": "flow", "color_jitter": 0.0}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A dataset directory with flow and its description."""
    directory = tmp_path_factory.mktemp("stored")
    made = datasets.write_dataset(
        directory, num_frames=2, lr_sizes=((12, 16), (6, 8)), flow=info_lib.FlowInfo("tvl1", 20.0)
    )
    return directory, made


def check(stored, config, **changes):
    directory, info = stored
    fit.check_fits("RUN", config, str(directory), dataclasses.replace(info, **changes), "test")


@pytest.mark.parametrize("settings", [{}, {"lr_size": "6x8"}, FLOW, {"stage": "teacher", **FLOW}])
def test_run_fits_the_dataset_it_was_trained_on(stored, settings):
    check(stored, runs.make_config(stored[0], **settings))


@pytest.mark.parametrize(
    ("settings", "changes", "sentence"),
    [
        (FLOW, {"flow": None}, "RUN reads optical flow, and .* holds none: .* --streams=rgb,flow"),
        (FLOW, {"flow": info_lib.FlowInfo("dis", 20.0)}, "flow by tvl1, but .* has optical flow by dis"),
        (FLOW, {"flow": info_lib.FlowInfo("tvl1", 8.0)}, "up to 20 pixels, but .* has optical flow of up to 8 pixels"),
        ({"lr_size": "6x8"}, {"lr_sizes": ((12, 16), (18, 24))}, "frames of 6x8, but .* of 12x16 and 18x24"),
    ],
)
def test_dataset_without_what_the_run_reads_is_refused(stored, settings, changes, sentence):
    with pytest.raises(errors.UserError, match=sentence):
        check(stored, runs.make_config(stored[0], **settings), **changes)


def test_how_flow_was_made_does_not_matter_to_rgb(stored):
    check(stored, runs.make_config(stored[0]), flow=None)


@pytest.mark.parametrize(
    ("rgb", "flow", "weight", "sentence"),
    [
        ({}, {}, 0.5, "--flow_run_dir=FLOW is a run of stream rgb"),
        (FLOW, FLOW, 0.5, "--run_dir=RGB is a run of stream flow"),
        ({"stage": "teacher"}, FLOW, 0.5, "RGB was trained on clips of view=hr, --flow_run_dir=FLOW .* view=lr"),
        ({}, {"lr_size": "6x8", **FLOW}, 0.5, "frame_size=12x16, .* frame_size=6x8"),
        ({}, FLOW, 1.5, "--flow_weight=1.5 is no share"),
        ({}, FLOW, float("nan"), "--flow_weight=nan is no share"),
    ],
)
def test_runs_that_are_no_two_streams_are_refused(stored, rgb, flow, weight, sentence):
    rgb, flow = (runs.make_config(stored[0], **settings) for settings in (rgb, flow))
    with pytest.raises(errors.UserError, match=sentence):
        fit.check_streams("RGB", rgb, "FLOW", flow, weight)


def test_streams_of_other_classes_are_refused(stored):
    rgb, flow = (runs.make_config(stored[0], **settings) for settings in ({}, FLOW))
    flow = dataclasses.replace(flow, classes=("jump", "swim"))
    with pytest.raises(errors.UserError, match="class 1 on, which is run in the run and swim in the flow run"):
        fit.check_streams("RGB", rgb, "FLOW", flow, 0.5)
