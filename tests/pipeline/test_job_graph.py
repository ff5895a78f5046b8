"""The build's job as a remote runner is given it: what it holds, what it weighs, where its steps are kept apart."""

import base64
import bz2
import collections
import dataclasses
import json

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions, SetupOptions
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.dataflow.dataflow_runner import DataflowRunner
from apache_beam.runners.pipeline_utils import group_by_key_input_visitor
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineRunner
from apache_beam.transforms import environments

from pipeline import beam_options, build, clips_to_records, job, outcome, shards, summary
from pipeline.sources.clip import Clip, Listing
from stat_tf import errors
from stat_tf.data import info, record
from tests import builds, media

SETTINGS = builds.record_settings()
IMAGE = "registry/stat-tf:1"


class Described(Exception):
    pass


class Describe(PipelineRunner):
    """Describes a job as Dataflow's runner does, which cannot be started without Google's packages, and stops."""

    def is_fnapi_compatible(self):
        return True

    def run_pipeline(self, pipeline, options):
        pipeline.visit(DataflowRunner.combinefn_visitor())
        pipeline.visit(DataflowRunner.side_input_visitor())
        pipeline.visit(group_by_key_input_visitor(True))
        container = environments.DockerEnvironment.from_container_image(IMAGE)
        raise Described(pipeline.to_runner_api(default_environment=container))


def tasks_of(num_clips, clip_seconds=0.0):
    split = "unlabeled" if clip_seconds else "train"
    clips = [Clip(f"{split}/{n:06d}.mp4", "", split, clip_seconds=clip_seconds) for n in range(num_clips)]
    return [clips_to_records.ClipTask(clip, record.UNLABELED, "" if clip_seconds else "s") for clip in clips]


def describe(place, tasks, finish=None):
    """The job as a protocol buffer."""
    (place / "tasks").mkdir(exist_ok=True)
    execution = beam_options.Execution(PipelineOptions([], save_main_session=False), Describe())
    with pytest.raises(Described) as described:
        job.run(
            *(tasks, ["s"], str(place), execution),
            **{"videos": "gs://bucket/videos", "settings": SETTINGS, "num_shards": None, "finish": finish},
            clip_timeout=60.0,
        )
    return described.value.args[0]


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    """The job with all its steps: whole clips, videos to cut, and the end on a worker."""
    listed = outcome.Listed(("run",), collections.Counter({("train", "run"): 9}), True, (), ())
    finish = outcome.Finish(listed, build.BuildConfig("gs://bucket/videos", "gs://bucket/data", SETTINGS), "gs://b/p")
    place = tmp_path_factory.mktemp("place")
    return describe(place, tasks_of(3) + tasks_of(2, clip_seconds=4.0), finish)


def pickles(proto):
    """What each step pickles, by the step's name."""
    found = {}
    for transform in proto.components.transforms.values():
        if transform.spec.urn == common_urns.primitives.PAR_DO.urn:
            payload = beam_runner_api_pb2.ParDoPayload.FromString(transform.spec.payload)
            found[transform.unique_name] = bz2.decompress(base64.b64decode(payload.do_fn.payload))
    return found


def test_pickled_steps_are_small_and_hold_neither_tensorflow_nor_the_main_module(described):
    steps = pickles(described)
    assert {"ClipToRecord", "CutVideo", "WriteShards", "Finish"} <= {name.split("/")[0] for name in steps}
    for name, pickled in steps.items():
        assert len(pickled) < 20_000, name
        assert b"tensorflow" not in pickled and b"keras" not in pickled and b"__main__" not in pickled, name


def test_workers_are_the_given_container_and_get_no_main_session(described):
    (environment,) = described.components.environments.values()
    assert environment.urn == common_urns.environments.DOCKER.urn
    assert beam_runner_api_pb2.DockerPayload.FromString(environment.payload).container_image == IMAGE
    options = beam_options.parse(["--runner=DirectRunner"], 1).options
    assert not options.view_as(SetupOptions).save_main_session


def test_decoding_stands_apart_from_what_lists_the_videos(described):
    """Fused with a step that yields many clips, decoding would stay on the worker that this step ran on."""
    _, stages = FnApiRunner().create_stages(described)
    names = [{transform.unique_name.split("/")[0] for transform in stage.transforms} for stage in stages]
    apart = {"ReadClips", "ReadLongVideos", "CutVideo", "ClipToRecord", "WriteShards"}
    apart |= {"WriteSummary", "Finish", "DeleteStaging"}  # a second try of one must not be one of the others too
    for alone in apart:
        (fused,) = [together for together in names if alone in together]
        assert not fused & (apart - {alone}), fused


def test_description_does_not_grow_with_the_clips(tmp_path):
    few, many = (len(describe(tmp_path, tasks_of(count)).SerializeToString()) for count in (100, 20_000))
    assert many < few + 1000
    assert len(list((tmp_path / "tasks").iterdir())) == 64


def test_interrupted_launcher_cancels_its_job(tmp_path):
    class Remote(PipelineRunner):
        cancelled = False

        def run_pipeline(self, pipeline, options):
            return self

        def wait_until_finish(self):
            raise KeyboardInterrupt

        def cancel(self):
            self.cancelled = True

    (tmp_path / "tasks").mkdir()
    remote = Remote()
    with pytest.raises(KeyboardInterrupt):
        job.run(
            *(tasks_of(1), ["s"], str(tmp_path), beam_options.Execution(PipelineOptions([]), remote)),
            **{"videos": "videos", "settings": SETTINGS, "num_shards": None, "clip_timeout": 60.0},
        )
    assert remote.cancelled


def test_keys_of_shuffles_are_even():
    """No shard, hence no worker that writes it, gets much more than another."""
    named = collections.Counter(
        shards.hashed_shard(f"film{n % 7}.mp4#t={n},{n + 1}", "unlabeled", 8) for n in range(8000)
    )
    assert len(named) == 8 and max(named.values()) < 1.15 * min(named.values())


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture(scope="module")
def listing(tmp_path_factory):
    """A listing of two videos and of one that is missing, and where they are."""
    root = tmp_path_factory.mktemp("videos")
    for number in range(2):
        media.encode_video(root / f"{number}.mp4", media.numbered_frames(12)[number:])
    splits = {"0.mp4": "train", "1.mp4": "test", "absent.mp4": "train"}
    return Listing(("run",), tuple(Clip(name, "run", split) for name, split in splits.items())), str(root)


def as_template(listing, output, **changes):
    """Builds as from a template, except that the job runs at once, and every bundle of it twice."""
    clips, videos = listing
    execution = beam_options.parse(["--direct_runner_bundle_repeat=1"], 3)
    execution.options.view_as(GoogleCloudOptions).template_location = "gs://bucket/template"
    assert build.build(clips, build.BuildConfig(videos, str(output), SETTINGS, **changes), execution) is None


def test_template_finishes_its_dataset_on_a_worker(listing, tmp_path):
    clips, videos = listing
    config = build.BuildConfig(videos, str(tmp_path / "here"), SETTINGS, max_rejected=0.5)
    description = build.build(clips, config, beam_options.parse([], 3))
    assert description.num_rejected == 1 and description.warnings
    as_template(listing, tmp_path / "there", max_rejected=0.5)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "there"]
    assert info.load(str(tmp_path / "there")) == description


def finished_job(place):
    """A staging directory whose job is done, and what its end has to know."""
    (place / "dataset").mkdir(parents=True)
    name = "train-00000-of-00001.tfrecord"
    (place / "dataset" / name).write_bytes(b"clips")
    shard = dataclasses.asdict(info.Shard(name, 9, 5, "sum"))
    (place / "summary.jsonl").write_text(json.dumps(["shards", shard]) + "\n")
    return outcome.Listed(("run",), collections.Counter({("train", "run"): 9}), False, (), ())


def of_one_shard(output, **changes):
    return build.BuildConfig("v", str(output), SETTINGS, num_shards=1, **changes)


def test_second_try_of_the_end_leaves_the_dataset_as_it_is(tmp_path):
    listed = finished_job(tmp_path / "p")
    config = of_one_shard(tmp_path / "data")
    finish = outcome.Finish(listed, config, str(tmp_path / "p"))
    assert list(finish.process("")) == [str(tmp_path / "p")]
    before = contents(tmp_path / "data")
    assert list(finish.process("")) == [str(tmp_path / "p")]  # with nothing left to move
    assert contents(tmp_path / "data") == before and len(before) == 3


@pytest.mark.parametrize("harm", [lambda path: path.unlink(), lambda path: path.write_bytes(b"clip")])
def test_end_without_a_shard_touches_nothing(tmp_path, harm):
    """Be it lost, or deleted with the staging directory by a try that was held for dead."""
    listed = finished_job(tmp_path / "p")
    config = of_one_shard(tmp_path / "data", overwrite=True)
    outcome.finish(listed, job.read_summary(str(tmp_path / "p")), config, str(tmp_path / "p"))
    (tmp_path / "data" / "rejected.jsonl").write_text("old")
    before = contents(tmp_path / "data")
    finished_job(tmp_path / "q")
    harm(tmp_path / "q" / "dataset" / "train-00000-of-00001.tfrecord")
    with pytest.raises(errors.UserError, match=r"q/dataset/train-00000-of-00001.tfrecord is not as the job wrote it"):
        outcome.finish(listed, job.read_summary(str(tmp_path / "q")), config, str(tmp_path / "q"))
    assert contents(tmp_path / "data") == before


def test_template_publishes_no_dataset_that_is_not_good_enough(listing, tmp_path):
    with pytest.raises(errors.UserError, match=r"1 of 3 videos cannot be used.*; --max_rejected allows 5%"):
        as_template(listing, tmp_path / "data")
    assert [path.name for path in tmp_path.iterdir()] == ["data.rejected.jsonl"]


def test_second_try_of_a_clip_or_a_shard_changes_nothing(listing, tmp_path):
    clips, videos = listing
    for folder in ("clips", "shards", "dataset"):
        (tmp_path / folder).mkdir()
    convert = clips_to_records.ClipToRecord(SETTINGS, videos, str(tmp_path / "clips"), None)
    convert.setup()
    task = clips_to_records.ClipTask(clips.clips[0], 0, "train-00000-of-00001.tfrecord")
    (kind, (shard, first)), *_ = convert.process(task)
    (_, (_, second)), *_ = convert.process(task)
    assert kind == clips_to_records.RECORDS and first.path != second.path
    write = shards.WriteShard(str(tmp_path / "shards"), str(tmp_path / "dataset"))
    (once,), (twice,) = (list(write.process((shard, [staged]))) for staged in (first, second))
    assert once == twice and once.num_clips == 1
    assert [path.name for path in (tmp_path / "dataset").iterdir()] == [shard]
    assert dataclasses.asdict(once)["num_bytes"] == (tmp_path / "dataset" / shard).stat().st_size


def test_job_that_leaves_no_summary_publishes_nothing(tmp_path):
    finished_job(tmp_path / "p")
    (tmp_path / "p" / "summary.jsonl").unlink()
    with pytest.raises(errors.UserError, match=r"without its last file, .*p/summary.jsonl: .* all machines share"):
        job.read_summary(str(tmp_path / "p"))


def test_summary_of_nothing_is_there(tmp_path):
    with beam.Pipeline("FnApiRunner") as pipeline:
        summary.write([pipeline | beam.Create([])], str(tmp_path))
    assert summary.read(str(tmp_path)) == []


@pytest.mark.parametrize(
    ("listed", "num_shards", "said"),
    [
        ({("train", "run"): 10}, 1, "Of 10 videos in train, the job has stored 9 clips in 1 of 1 files and rejected 0"),
        ({("train", "run"): 8}, 1, "Of 8 videos in train, the job has stored 9 clips"),
        ({("train", "run"): 9}, 2, "Of 9 videos in train, the job has stored 9 clips in 1 of 2 files"),
        ({("train", "run"): 9, ("test", "run"): 3}, 1, "Of 3 videos in test, the job has stored 0 clips in 0 of 1"),
        ({("train", "run"): 9, ("unlabeled", ""): 1}, 1, "Of 1 videos in unlabeled, the job has stored 0 clips"),
    ],
)
def test_dataset_that_lacks_or_doubles_a_clip_is_not_published(tmp_path, listed, num_shards, said):
    """The last case is of a video to be cut."""
    finished_job(tmp_path / "p")
    config = dataclasses.replace(of_one_shard(tmp_path / "data"), num_shards=num_shards)
    found = job.read_summary(str(tmp_path / "p"))
    with pytest.raises(errors.UserError, match=said):
        outcome.finish(outcome.Listed(("run",), listed, True, (), ()), found, config, str(tmp_path / "p"))
    assert not (tmp_path / "data").exists()


def test_dataset_that_has_come_while_the_job_ran_is_kept(tmp_path):
    listed = finished_job(tmp_path / "p")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dataset.json").write_text("another's")
    finish = outcome.Finish(listed, of_one_shard(tmp_path / "data"), str(tmp_path / "p"))
    with pytest.raises(errors.UserError, match="data already holds a dataset: give --overwrite"):
        list(finish.process(""))
    assert contents(tmp_path / "data") == {"dataset.json": b"another's"}
