"""`config.json`: written, read back, compared."""

import dataclasses

import pytest

from stat_tf import errors
from stat_tf.training.run_config import RunConfig, Source
from tests import datasets, runs


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    datasets.write_dataset(data)
    return runs.make_config(data)


def test_saved_configuration_loads_equal(config, tmp_path):
    config.save(str(tmp_path / "new" / "run"))
    assert RunConfig.load(str(tmp_path / "new" / "run")) == config
    assert [path.name for path in (tmp_path / "new" / "run").iterdir()] == ["config.json"]
    begun = dataclasses.replace(config, init_run="A", init_source=Source(3, "abc"))
    begun.save(str(tmp_path / "new" / "run"))
    assert RunConfig.load(str(tmp_path / "new" / "run")) == begun


def test_view_follows_the_stage(config):
    views = {stage: dataclasses.replace(config, stage=stage).view for stage in ("teacher", "student", "stat")}
    assert views == {"teacher": "hr", "student": "lr", "stat": "lr"}


def test_missing_run_is_named(tmp_path):
    with pytest.raises(errors.UserError, match="nowhere is not a run directory"):
        RunConfig.load(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"recognizer": {"backbone": "vgg"}}', '{"recognizer": 3}'])
def test_bad_configuration_is_one_sentence(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(errors.UserError, match="config.json is not a run's configuration"):
        RunConfig.load(str(tmp_path))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"learning_rate": 0.5}, "learning_rate=0.01, but this command has learning_rate=0.5"),
        ({"scales": (1.0,)}, "scales=1.0,0.75, but this command has scales=1.0"),
        ({"data_fingerprint": "x"}, "data_fingerprint="),
    ],
)
def test_differing_setting_is_named_with_both_values(config, change, expected):
    with pytest.raises(errors.UserError, match=f"RUN holds a run with .*{expected}"):
        dataclasses.replace(config, **change).check_same_run(config, "RUN")


def test_differing_architecture_is_named_with_both_values(config):
    other = dataclasses.replace(config, recognizer=dataclasses.replace(config.recognizer, width=0.5))
    with pytest.raises(errors.UserError, match="width=0.125, but this command has width=0.5"):
        other.check_same_run(config, "RUN")


def test_all_that_differs_is_named_at_once(config):
    now = dataclasses.replace(config, epochs=config.epochs + 1, seed=5, init_run="A", init_source=Source(3, "abc"))
    then = dataclasses.replace(now, epochs=config.epochs, seed=config.seed, init_source=Source(2, "def"))
    with pytest.raises(errors.UserError) as raised:
        now.check_same_run(then, "RUN")
    assert str(raised.value) == (
        f"RUN holds a run with epochs={then.epochs}, seed={then.seed}, but this command has epochs={now.epochs}, "
        "seed=5, and was begun with other weights of --init_run=A (epoch 2, SHA-256 def) than it holds now "
        "(epoch 3, SHA-256 abc): use the same settings and weights to resume it, or another --run_dir."
    )


def test_moved_data_and_other_devices_resume(config):
    moved = dataclasses.replace(config, data_dir="moved", strategy="mirrored", log_steps=7)
    dataclasses.replace(moved, checkpoint_steps=0, max_to_keep=9).check_same_run(config, "RUN")


def test_runs_that_it_builds_on_may_have_moved(config):
    sources = {"teacher_source": Source(3, "abc"), "init_source": Source(2, "def")}
    begun = dataclasses.replace(config, teacher_run="out/teacher", init_run="out/student", **sources)
    moved = dataclasses.replace(begun, teacher_run="/moved/teacher", init_run="out//student")
    moved.check_same_run(begun, "RUN")
    assert moved.identity() == begun.identity()


@pytest.mark.parametrize("flag", ["init_run", "teacher_run"])
@pytest.mark.parametrize("found", [Source(3, "other"), Source(2, "abcdefghijk"), None])
def test_other_weights_in_the_run_begun_with_are_named(config, flag, found):
    source = flag.replace("run", "source")
    now = dataclasses.replace(config, **{flag: "FIRST", source: Source(3, "abcdefghijk")})
    now.check_same_run(now, "RUN")
    with pytest.raises(errors.UserError, match=f"RUN was begun with other weights of --{flag}=FIRST") as raised:
        now.check_same_run(dataclasses.replace(now, **{source: found}), "RUN")
    assert "epoch 3, SHA-256 abcdefgh" in str(raised.value)


def test_unreadable_configuration_is_named(tmp_path):
    (tmp_path / "config.json").mkdir()
    with pytest.raises(errors.UserError, match="config.json cannot be read .*directory"):
        RunConfig.load(str(tmp_path))


def test_place_that_cannot_be_written_to_is_named(config, tmp_path):
    (tmp_path / "file").write_text("")
    for place in ("file", "file/run"):
        with pytest.raises(errors.UserError, match=f"--run_dir=.*{place} cannot be written to"):
            config.save(str(tmp_path / place))
    assert (tmp_path / "file").read_text() == ""
