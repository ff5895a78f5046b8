"""CPU time of the dataset build a clip, against the decoding and encoding that no build can do without.

  python -m benchmarks.build --videos=UCF-101 --num_clips=60

Build: all that the Beam job does with a clip, from its path to the staged record. Floor: PyAV decodes
up to the last frame that is needed, libswscale brings those needed to the HR size in one step, and
they are encoded as JPEG. With --streams=rgb,flow it also reads the frames that motion needs, and
estimates their motion once in HR and once in LR. The two take turns on each clip, and the best time
of each is compared, which other work on the machine disturbs least: aim at most 1.5. The job's fixed
cost (starting, tracing, writing shards) is shown apart.
"""

import contextlib
import glob
import json
import os
import resource
import tempfile
import time

from absl import flags

from stat_tf import command

FLAGS = flags.FLAGS

flags.DEFINE_string("videos", None, "Directory of videos, searched to any depth.", required=True)
flags.DEFINE_integer("num_clips", 60, "Videos to measure, spread over the directory.", lower_bound=1)
flags.DEFINE_integer("repeats", 3, "Measurements of each clip.", lower_bound=1)
flags.DEFINE_list("hr_size", ["96", "128"], "Height and width of the HR frames, pixels.")
flags.DEFINE_list("lr_size", ["12", "16"], "Height and width of the LR frames, pixels.")
flags.DEFINE_enum("streams", "rgb", ["rgb", "rgb,flow"], "What is stored of each frame.")
flags.DEFINE_enum("flow_method", "tvl1", ["tvl1", "dis"], "How flow is estimated, with --streams=rgb,flow.")
flags.DEFINE_integer("num_segments", 4, "K, segments a clip.", lower_bound=1)
flags.DEFINE_integer("num_snippets", 5, "S, snippets a segment.", lower_bound=1)
flags.DEFINE_integer("num_frames", 3, "T, frames a snippet.", lower_bound=1)
flags.DEFINE_integer("jpeg_quality", 95, "Quality of the HR frames.", lower_bound=1, upper_bound=100)


def cpu_so_far():
    """CPU seconds of this process and of those that it has started, such as the one that decodes."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = time.process_time() + ended.ru_utime + ended.ru_stime
    for path in glob.glob("/proc/self/task/*/children"):
        with contextlib.suppress(OSError), open(path, encoding="utf-8") as file:  # threads and processes end
            for child in file.read().split():
                # The id of another process's CPU clock, as clock_getcpuclockid(3) of Linux makes it.
                seconds += time.clock_gettime(~int(child) << 3 | 2)
    return seconds


def cpu_seconds(function):
    """CPU seconds of one call, over all threads and processes."""
    start = cpu_so_far()
    function()
    return cpu_so_far() - start


def count_frames(path):
    """Frames of a video that decode; what its header says is often more."""
    import av

    with av.open(path) as container:
        return sum(1 for _ in container.decode(video=0))


def floor(path, count, settings, estimator):
    """Decodes the frames that a record needs, encodes them, estimates their motion if asked, and nothing else."""
    import av
    import cv2

    from stat_tf.data import sampling

    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        shape = settings.num_segments, settings.num_snippets, settings.num_frames
        chosen = sampling.sample_frames(range(count), *shape)
        pairs = set(sampling.motion_pairs(chosen, count)) if estimator else set()
        shown, needed = set(chosen), {*chosen, *(number for pair in pairs for number in pair)}
        last = max(needed)
        (height, width), (lr_height, lr_width) = settings.hr_size, settings.lr_sizes[0]
        quality = [cv2.IMWRITE_JPEG_QUALITY, settings.jpeg_quality]
        pictures = {}
        for number, frame in enumerate(container.decode(stream)):
            if number in needed:
                pictures[number] = frame.to_ndarray(format="bgr24", width=width, height=height, threads=1)
                if number in shown:
                    cv2.imencode(".jpg", pictures[number], quality)
            if number == last:
                break
    for pair in pairs:
        estimator(*(pictures[number] for number in pair))
        estimator(*(cv2.resize(pictures[number], (lr_width, lr_height)) for number in pair))


def main() -> None:
    """Prints CPU milliseconds a clip of the floor and the build, and their ratio."""
    for variable in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(variable, "1")  # as the build's workers
    from pipeline import build, clips_to_records
    from pipeline.beam_options import parse
    from pipeline.sources import files
    from pipeline.sources.clip import Clip, Listing
    from stat_tf.data import degrade, flow
    from stat_tf.data.info import FlowInfo

    camera = degrade.Degradation(tuple(map(int, FLAGS.lr_size)))
    with_flow = FLAGS.streams != "rgb"
    settings = clips_to_records.RecordSettings(
        num_segments=FLAGS.num_segments,
        num_snippets=FLAGS.num_snippets,
        num_frames=FLAGS.num_frames,
        frame_stride=1,
        hr_size=tuple(map(int, FLAGS.hr_size)),
        jpeg_quality=FLAGS.jpeg_quality,
        lr_sizes=(camera.lr_size,),
        lens_blur=camera.lens_blur,
        noise=camera.noise,
        flow=FlowInfo(FLAGS.flow_method, 20.0) if with_flow else None,
    )
    estimator = flow.FlowEstimator(FLAGS.flow_method) if with_flow else None
    paths = [path for path in files.list_files(FLAGS.videos, "videos") if path.lower().endswith(files.VIDEO_SUFFIXES)]
    paths = paths[:: max(1, len(paths) // FLAGS.num_clips)][: FLAGS.num_clips]
    clips = [Clip(path, "class", "train") for path in paths]
    totals = {"floor": 0.0, "build": 0.0}
    with tempfile.TemporaryDirectory() as directory:
        convert = clips_to_records.ClipToRecord(settings, FLAGS.videos, directory, None)
        convert.setup()
        list(convert.process(clips_to_records.ClipTask(clips[0], 0, "shard")))
        for clip in clips:
            task = clips_to_records.ClipTask(clip, 0, "shard")
            path = os.path.join(FLAGS.videos, clip.path)
            count = count_frames(path)
            runs = {
                "floor": lambda path=path, count=count: floor(path, count, settings, estimator),
                "build": lambda task=task: list(convert.process(task)),
            }
            times = [{name: cpu_seconds(run) for name, run in runs.items()} for _ in range(FLAGS.repeats)]
            for name in runs:
                totals[name] += min(time[name] for time in times)
        convert.teardown()
        config = build.BuildConfig(FLAGS.videos, f"{directory}/data", settings)
        listing = Listing(("class",), tuple(clips))
        job = cpu_seconds(lambda: build.build(listing, config, parse(["--direct_running_mode=in_memory"], len(clips))))
    results = {f"{name}_ms_per_clip": round(1e3 * total / len(clips), 2) for name, total in totals.items()}
    results["ratio"] = round(totals["build"] / totals["floor"], 3)
    results["fixed_seconds"] = round(job - totals["build"], 2)
    print(json.dumps({"clips": len(clips), **results}))


if __name__ == "__main__":
    command.run(main)
