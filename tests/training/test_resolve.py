"""Settings to a configuration: defaults, and everything that is refused before training starts."""

import dataclasses
import hashlib

import pytest

from stat_tf import errors
from stat_tf.data import info as info_lib
from stat_tf.models import pretrained
from stat_tf.models import recognizer as recognizer_lib
from stat_tf.training import resolve
from stat_tf.weighting import LossWeights
from tests import datasets, runs


def finish(run_dir, config, epochs=2):
    """Makes a run directory with as many epochs done; its best is the first."""
    config.save(str(run_dir))
    for name in [f"last/epoch-{epoch:04d}" for epoch in range(1, epochs + 1)] + ["best/epoch-0001"]:
        (run_dir / "checkpoints" / name).mkdir(parents=True)
        (run_dir / "checkpoints" / name / "recognizer.index").write_text(f"{run_dir.name}/{name}")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    datasets.write_dataset(root / "data")
    datasets.write_dataset(root / "other classes", classes=("jump", "sit"))
    datasets.write_dataset(root / "three segments", num_segments=3)
    datasets.write_dataset(root / "small", lr_sizes=((6, 8),))
    for name, data, changes in (
        ("teacher", "data", {"stage": "teacher"}),
        ("teacher of other classes", "other classes", {"stage": "teacher"}),
        ("teacher of three segments", "three segments", {"stage": "teacher"}),
        ("teacher of small crops", "data", {"stage": "teacher", "crop_size": "18x24"}),
        ("student", "data", {}),
        ("small student", "small", {}),
        ("frozen student", "data", {"frozen_batch_norm": "true"}),
    ):
        finish(root / name, runs.make_config(root / data, **changes))
    teacher, student = (runs.make_config(root / "data", stage=stage) for stage in ("teacher", "student"))
    for name, config, changes in (
        ("teacher of other clips", teacher, {"data_fingerprint": "other", "data_dir": "DATA2"}),
        ("student of other clips", student, {"data_fingerprint": "other", "data_dir": "DATA2"}),
        ("teacher of slow clips", teacher, {"frame_stride": 4}),
        ("student of slow clips", student, {"frame_stride": 4}),
        ("student of blurred clips", student, {"lens_blur": 1.5}),
        ("student of noisy clips", student, {"noise": 2.0}),
        # What the LR frames were made of is nothing to a teacher, who does not read them.
        ("teacher of noisy clips", teacher, {"noise": 2.0, "lens_blur": 1.5}),
    ):
        finish(root / name, dataclasses.replace(config, **changes))
    finish(root / "unfinished teacher", teacher, epochs=1)
    finish(root / "unfinished student", student, epochs=1)
    student.save(str(root / "unstarted student"))
    return root


def make(root, **changes):
    changes |= {name: str(root / changes[name]) for name in ("teacher_run", "init_run") if changes.get(name)}
    return runs.make_config(root / "data", **changes)


def test_sizes_default_to_the_datasets(root):
    config = make(root)
    assert (config.crop_size, config.lr_size) == ((24, 32), (12, 16))
    assert (config.recognizer.num_segments, config.recognizer.num_frames) == (2, 1)
    assert config.classes == ("jump", "run")


def test_network_reads_its_stages_frames(root):
    sizes = {}
    for stage, student_input in (("teacher", "native"), ("student", "native"), ("student", "upsample")):
        recognizer = make(root, stage=stage, student_input=student_input).recognizer
        sizes[stage, student_input] = (recognizer.frame_size, recognizer.network_size, recognizer.native)
    assert sizes == {
        ("teacher", "native"): ((24, 32), (24, 32), False),
        ("student", "native"): ((12, 16), (12, 16), True),
        ("student", "upsample"): ((12, 16), (24, 32), False),
    }


def test_pretrained_weights_freeze_batch_norm(root):
    pretrained = make(root, backbone="efficientnet_lite0", width=1.0)
    assert pretrained.init_from == "imagenet" and pretrained.recognizer.frozen_batch_norm
    thawed = make(root, backbone="efficientnet_lite0", width=1.0, frozen_batch_norm="false")
    assert thawed.init_from == "imagenet" and not thawed.recognizer.frozen_batch_norm
    scratch = make(root)
    assert scratch.init_from == "none" and not scratch.recognizer.frozen_batch_norm


def test_weights_from_a_file_freeze_batch_norm_and_are_recorded_by_their_digest(root, tmp_path):
    source = recognizer_lib.RecognizerConfig("resnet18", 7, 1, 1, (8, 8), (8, 8))
    path = tmp_path / "weights.safetensors"
    pretrained.save(recognizer_lib.build_recognizer(source), str(path), "resnet18.pth")
    config = make(root, init_from=str(path), width=1.0)
    assert config.init_from == str(path) and config.recognizer.frozen_batch_norm
    assert config.init_digest == hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(errors.UserError, match="exclude each other"):
        make(root, init_from=str(path), init_run="student")
    with pytest.raises(errors.UserError, match="resnet18"):
        make(root, init_from=str(path), width=1.0, backbone="resnet34")


def test_flow_runs_record_what_their_flow_is(root, tmp_path):
    datasets.write_dataset(tmp_path / "data", lr_sizes=((12, 16), (6, 8)), flow=info_lib.FlowInfo("dis", 10.0))
    config = runs.make_config(tmp_path / "data", stream="flow", color_jitter=0.0, lr_size="6x8")
    assert (config.stream, config.flow_method, config.flow_bound) == ("flow", "dis", 10.0)
    assert config.recognizer.stream == "flow" and config.recognizer.frame_size == config.lr_size == (6, 8)
    rgb = runs.make_config(tmp_path / "data")
    assert (rgb.stream, rgb.flow_method, rgb.flow_bound) == ("rgb", "", 0.0)
    assert rgb.lr_size == (12, 16)
    with pytest.raises(errors.UserError, match="gray_stack"):
        runs.make_config(tmp_path / "data", stream="flow", color_jitter=0.0, temporal_fusion="gray_stack")
    finish(tmp_path / "rgb teacher", runs.make_config(tmp_path / "data", stage="teacher"))
    with pytest.raises(errors.UserError, match="stream=rgb, not flow"):
        teacher = str(tmp_path / "rgb teacher")
        runs.make_config(tmp_path / "data", stage="stat", teacher_run=teacher, stream="flow", color_jitter=0.0)
    finish(tmp_path / "flow teacher", dataclasses.replace(config, stage="teacher", flow_bound=20.0))
    with pytest.raises(errors.UserError, match="flow_bound=20.0, those of .* have flow_bound=10.0"):
        teacher = str(tmp_path / "flow teacher")
        runs.make_config(tmp_path / "data", stage="stat", teacher_run=teacher, stream="flow", color_jitter=0.0)


def test_stat_stage_takes_its_start_from_the_student(root):
    config = make(root, stage="stat", teacher_run="teacher", init_run="frozen student")
    assert config.init_from == "none" and config.recognizer.frozen_batch_norm


def test_weights_may_be_fractions(root):
    config = make(root, stage="stat", teacher_run="teacher", sat_weights="1/15, 2/15,4/15,8/15", tat_weights="1/3,2/3")
    assert resolve.weights_at(config, 5) == LossWeights(
        1 / 3, 1 / 3, 1 / 3, (1 / 15, 2 / 15, 4 / 15, 8 / 15), (1 / 3, 2 / 3)
    )


def test_rolling_weights_turn_by_the_period(root):
    config = make(root, stage="stat", teacher_run="teacher", weights="rolling", rolling_period=3)
    turns = [resolve.weights_at(config, epoch).sat_stages for epoch in range(7)]
    assert turns[0] == turns[2] != turns[3] == turns[5] != turns[6]


@pytest.mark.parametrize("stage", ["teacher", "student"])
def test_only_stat_transfers(root, stage):
    weights = resolve.weights_at(make(root, stage=stage), 0)
    assert (weights.ce, weights.sat, weights.tat) == (1, 0, 0)


def test_epoch_and_digest_of_the_weights_begun_with_are_recorded(root):
    config = make(root, stage="stat", teacher_run="teacher", init_run="student")
    for source, name in ((config.teacher_source, "teacher"), (config.init_source, "student")):
        assert source.epoch == 1
        assert source.sha256 == hashlib.sha256(f"{name}/best/epoch-0001".encode()).hexdigest()
    assert make(root).teacher_source is None and make(root).init_source is None


def test_other_clips_pass_when_allowed(root):
    names = {"teacher_run": "teacher of other clips", "init_run": "student of other clips"}
    config = make(root, stage="stat", allow_other_data=True, **names)
    assert config.data_fingerprint == make(root).data_fingerprint


def test_fingerprint_tells_training_splits_apart(root, tmp_path):
    """Split 2 of the same videos: what one run is tested on, the other was trained on."""
    info = info_lib.load(str(root / "data"))
    other = dataclasses.replace(info, shards={"train": info.shards["test"], "test": info.shards["train"]})
    settings = runs.SETTINGS | {"data_dir": str(root / "data")}
    finish(tmp_path / "split 2", resolve.resolve(settings | {"stage": "teacher"}, other))
    with pytest.raises(errors.UserError, match="split 2 was trained on other clips"):
        make(root, stage="stat", teacher_run=str(tmp_path / "split 2"))


def test_teacher_does_not_mind_what_the_lr_frames_were_made_of(root):
    assert make(root, stage="stat", teacher_run="teacher of noisy clips").noise == 0
    assert make(root, init_run="teacher of noisy clips", student_input="upsample").noise == 0


def test_flag_file_shared_by_the_stages_may_set_the_students_input(root):
    assert not make(root, stage="teacher", student_input="native").recognizer.native


STAT = {"stage": "stat", "teacher_run": "teacher"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stage": "stat"}, "needs --teacher_run"),
        ({"teacher_run": "teacher"}, "--teacher_run belongs to --stage=.*; stage student has no teacher"),
        ({"weights": "rolling"}, "--weights belongs to --stage=unsupervised and stat"),
        ({"overall_weights": "1,0,0"}, "--overall_weights belongs to --stage=unsupervised and stat"),
        ({"sat_weights": "1,1,1,1"}, "--sat_weights belongs to --stage=unsupervised and stat"),
        (
            {"tat_weights": "1,1", "stage": "teacher"},
            "--tat_weights .*; stage teacher has",
        ),
        ({"distance": "squared"}, "--distance belongs to --stage=unsupervised and stat"),
        ({"stage": "stat", "teacher_run": "teacher of other clips"}, r"other clips \(DATA2\) .* --allow_other_data"),
        ({"init_run": "student of other clips"}, r"other clips \(DATA2\) .* --allow_other_data"),
        ({"stage": "stat", "teacher_run": "teacher of slow clips"}, "frame_stride=4, those of .* have frame_stride=1"),
        ({"init_run": "student of slow clips", "allow_other_data": True}, "frame_stride=4, those of .* frame_stride=1"),
        ({"init_run": "student of blurred clips", "allow_other_data": True}, "lens_blur=1.5, .* lens_blur=0.0"),
        ({"init_run": "student of noisy clips", "allow_other_data": True}, "noise=2.0, .* noise=0.0"),
        ({"stage": "stat", "teacher_run": "unfinished teacher"}, "teacher is not finished: 1 of its 2 epochs"),
        ({"init_run": "unfinished student"}, "student is not finished: 1 of its 2 epochs"),
        ({"init_run": "unstarted student"}, "student is not finished: 0 of its 2 epochs"),
        ({"init_from": "imagenet"}, "ImageNet weights for efficientnet_lite0 only, not for resnet18"),
        ({"init_from": "nowhere.safetensors"}, "nowhere.safetensors"),
        ({"stream": "flow", "color_jitter": 0.0}, "holds no optical flow"),
        ({"stream": "flow"}, "--color_jitter changes colours, of which optical flow has none"),
        ({"backbone": "r2plus1d_18", "temporal_fusion": "stack"}, "temporal_fusion"),
        ({"recompute_grad": True}, r"--recompute_grad is for the R\(2\+1\)D backbones, not for resnet18"),
        ({"accumulation_steps": 5}, "--accumulation_steps=5 cuts --batch_size=4 into parts of less than one clip"),
        ({"accumulation_steps": 0}, "--accumulation_steps must be above 0"),
        ({"crop_size": "12x12"}, "--crop_size=12x12 is smaller than the LR frames of 12x16"),
        ({"crop_size": "8x32"}, "--crop_size=8x32 is smaller than the LR frames of 12x16"),
        ({"stage": "stat", "teacher_run": "student"}, "is a run of stage student"),
        ({"stage": "stat", "teacher_run": "nowhere"}, "nowhere is not a run directory"),
        ({"stage": "stat", "teacher_run": "teacher of other classes"}, "knows other classes"),
        ({"stage": "stat", "teacher_run": "teacher of three segments"}, "num_segments=3, not 2"),
        ({"stage": "stat", "teacher_run": "teacher of small crops"}, "use --crop_size=18x24, not 24x32"),
        ({"init_run": "student", "backbone": "resnet34"}, "another architecture: backbone=resnet18, not resnet34"),
        ({"init_run": "student", "width": 0.5}, "another architecture: width=0.125, not 0.5"),
        (
            {"init_run": "student", "backbone": "resnet34", "width": 0.5},
            "another architecture: backbone=resnet18, not resnet34; width=0.125, not 0.5; make the two agree",
        ),
        ({"init_run": "small student"}, "trained on LR frames of 6x8, not 12x16"),
        ({"init_run": "student", "init_from": "imagenet"}, "exclude each other"),
        ({"lr_size": "6x8"}, "LR frames of 12x16, not 6x8"),
        ({"num_segments": 8}, "--num_segments=2, not 8"),
        ({"num_frames": 5}, "--num_frames=1, not 5"),
        ({"crop_size": "48x64"}, "--crop_size=48x64 is larger than the stored HR frames of 24x32"),
        ({"crop_size": "24"}, "--crop_size=24 is not a size"),
        ({"crop_size": "0x8"}, "--crop_size=0x8 is not a size"),
        ({"eval_split": "validation"}, "no clips in split 'validation'; .*. Give --eval_split= to train without"),
        (STAT | {"overall_weights": "1/3,1/3"}, "--overall_weights=1/3,1/3 has 2 numbers, it needs 3"),
        (STAT | {"sat_weights": "1,2,x,4"}, "--sat_weights=1,2,x,4 is no list"),
        (STAT | {"tat_weights": "1/0,1"}, "--tat_weights=1/0,1 is no list"),
        (STAT | {"overall_weights": "-1,1,1"}, "--overall_weights=-1,1,1 must all be finite and at least 0"),
        (STAT | {"overall_weights": "0,0,0"}, "--overall_weights=0,0,0 must .* not all of them 0"),
        (STAT | {"sat_weights": "nan,1,1,1"}, "--sat_weights=nan,1,1,1 must all be finite"),
        (STAT | {"tat_weights": "1e400,1"}, "--tat_weights=1e400,1 must all be finite"),
        (STAT | {"tat_weights": "inf/inf,1"}, "--tat_weights=inf/inf,1 must all be finite"),
        ({"scales": "1e99999999"}, "--scales=1e99999999 must all be finite"),
        ({"scales": "1.5"}, "--scales=1.5 must all be above 0"),
        ({"learning_rate": 0.0}, "--learning_rate must be above 0"),
        ({"learning_rate": float("nan")}, "--learning_rate must be above 0 and finite, got nan"),
        ({"learning_rate": float("inf")}, "--learning_rate must be above 0 and finite, got inf"),
        ({"clip_norm": float("nan")}, "--clip_norm must be at least 0 and finite, got nan"),
        ({"momentum": float("nan")}, "--momentum must be"),
        ({"dropout": float("nan")}, "dropout is at least 0"),
        ({"momentum": 1.0}, "--momentum must be"),
        ({"decay_epochs": -1.0}, "--decay_epochs must be above 0"),
        (
            {"stage": "stat", "teacher_run": "teacher", "weights": "rolling", "tat_weights": "1,1"},
            "leave out --sat_weights and --tat_weights",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_in_a_sentence(root, changes, message):
    with pytest.raises(errors.UserError, match=message) as raised:
        make(root, **changes)
    assert "\n" not in str(raised.value)


def test_unlabelled_training_clips_are_refused(root, tmp_path):
    info = datasets.write_dataset(tmp_path / "data")
    info.counts["train"][""] = 2
    with pytest.raises(errors.UserError, match="has 2 clips without a label"):
        resolve.resolve(runs.SETTINGS | {"data_dir": str(tmp_path / "data")}, info)


def test_missing_dataset_is_named(tmp_path):
    with pytest.raises(errors.UserError, match="There is no directory .*nowhere"):
        runs.make_config(tmp_path / "nowhere")
