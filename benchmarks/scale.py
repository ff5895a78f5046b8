"""What a dataset build takes as its input grows: CPU seconds and peak memory of its processes.

  python -m benchmarks.scale --videos=UCF-101 --num_clips=100,400,1600 --long_hours=2 --missing=100000

One build of each number of clips, spread over the directory's videos and named anew where they are fewer; one of a
single long video as a clip, and one of it cut into clips of four seconds; one of a manifest most of whose videos are
missing. Each runs as users start it, with two worker processes. A line of JSON a build: CPU seconds of all its
processes, and the largest of each kind, resident, in MiB. Clock time is not shown: other work disturbs it.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from fractions import Fraction

from absl import flags

from stat_tf import command

FLAGS = flags.FLAGS

flags.DEFINE_string("videos", None, "Directory of videos, searched to any depth.", required=True)
flags.DEFINE_list("num_clips", ["100", "400", "1600"], "Clips of the builds to compare.")
flags.DEFINE_float("long_hours", 2.0, "Length of the long video, which is made; 0 for none.", lower_bound=0)
flags.DEFINE_integer("missing", 100_000, "Rows of the manifest, 100 of whose videos are there; 0 for none.")
flags.DEFINE_integer("num_workers", 2, "Worker processes.", lower_bound=1)

_KINDS = {"pipeline.decoder_process": "decoder", "pipeline.worker": "worker", "pipeline.build_dataset": "launcher"}
_TICKS = os.sysconf("SC_CLK_TCK")


def _look(process: int, cpu: dict, memory: dict) -> None:
    """Notes the CPU seconds by process, and the peak memory by kind, of a process and its descendants."""
    parents = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat", encoding="utf-8") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(entry))
        cpu_seconds = (int(fields[11]) + int(fields[12])) / _TICKS
        cpu.setdefault("all", {})[int(entry)] = cpu_seconds
    waiting = [process]
    while waiting:
        one = waiting.pop()
        waiting.extend(parents.get(one, []))
        cpu.setdefault("ours", {})[one] = cpu["all"].get(one, 0)
        try:
            with open(f"/proc/{one}/cmdline", encoding="utf-8") as file:
                words = file.read().split("\0")
            with open(f"/proc/{one}/status", encoding="utf-8") as file:
                peak = next((int(line.split()[1]) for line in file if line.startswith("VmHWM")), 0)
        except OSError:
            continue
        for kind in (kind for module, kind in _KINDS.items() if module in words):
            memory[kind] = max(memory.get(kind, 0), peak // 1024)


def measure(*arguments: str) -> dict:
    """Runs a build; returns what it took."""
    cpu, memory = {}, {}
    with tempfile.TemporaryDirectory() as directory, open(f"{directory}/log", "w+", encoding="utf-8") as log:
        build = [sys.executable, "-m", "pipeline.build_dataset", f"--output={directory}/data", "--max_rejected=1"]
        workers = ["--direct_running_mode=multi_processing", f"--direct_num_workers={FLAGS.num_workers}"]
        process = subprocess.Popen([*build, *workers, *arguments], stdout=log, stderr=log)
        while process.poll() is None:
            _look(process.pid, cpu, memory)
            time.sleep(0.2)
        log.seek(0)
        if process.returncode:
            sys.exit(log.read())
        with open(f"{directory}/data/dataset.json", encoding="utf-8") as file:
            description = json.load(file)
    clips = sum(shard["num_clips"] for shards in description["shards"].values() for shard in shards)
    return {
        "clips": clips,
        "rejected": description["num_rejected"],
        "cpu_seconds": round(sum(cpu["ours"].values()), 1),
        **{f"{kind}_mib": memory.get(kind) for kind in _KINDS.values()},
    }


def write_manifest(path: str, videos: list[str], num_clips: int) -> None:
    """Lists videos, spread over all of them; those that come again, by links with other names."""
    with open(path, "w", encoding="utf-8") as file:
        file.write("path,label,split\n")
        for number in range(num_clips):
            source = videos[number * len(videos) // num_clips if num_clips < len(videos) else number % len(videos)]
            link = os.path.join(f"{path}.links", f"{number}{os.path.splitext(source)[1]}")
            os.makedirs(os.path.dirname(link), exist_ok=True)
            os.symlink(source, link)
            file.write(f"{link},class,train\n")


def write_long_video(path: str, source_path: str, hours: float) -> None:
    """Makes a video of noise by repeating the packets of ten seconds of it, which are encoded to `source_path`."""
    import av
    import numpy as np

    from tests import media

    rng = np.random.default_rng(0)
    os.makedirs(os.path.dirname(path))
    media.encode_video(source_path, rng.integers(0, 255, (250, 48, 64, 3), np.uint8), options={"bf": "0"})
    with av.open(source_path) as reader, av.open(path, "w") as writer:
        source = reader.streams.video[0]
        packets = [(bytes(packet), packet.is_keyframe) for packet in reader.demux(source) if packet.size]
        stream = writer.add_stream_from_template(source)
        for number in range(round(hours * 3600 * 25)):
            content, is_key = packets[number % len(packets)]
            packet = av.Packet(content)
            packet.time_base, packet.pts, packet.dts, packet.stream = Fraction(1, 25), number, number, stream
            packet.is_keyframe = is_key
            writer.mux(packet)


def main() -> None:
    """Prints what each build took."""
    from pipeline.sources import files

    paths = [os.path.abspath(os.path.join(FLAGS.videos, name)) for name in files.list_files(FLAGS.videos, "videos")]
    videos = [path for path in paths if path.lower().endswith(files.VIDEO_SUFFIXES)]

    def show(name: str, *arguments: str) -> None:
        print(json.dumps({"build": name} | measure(*arguments)), flush=True)

    with tempfile.TemporaryDirectory() as place:
        for number in ("2", *FLAGS.num_clips):  # two: what a build takes whatever its size
            write_manifest(f"{place}/{number}.csv", videos, int(number))
            show("clips", "--layout=manifest", "--videos=/", f"--annotations={place}/{number}.csv")
        if FLAGS.long_hours:
            write_long_video(f"{place}/long/train/class/long.mp4", f"{place}/source.mp4", FLAGS.long_hours)
            show("long video", "--layout=folders", f"--videos={place}/long", "--hr_size=48x64")
            show("long video, cut", f"--unlabeled_videos={place}/long", "--clip_seconds=4", "--hr_size=48x64")
        if FLAGS.missing:
            write_manifest(f"{place}/missing.csv", videos, 100)
            with open(f"{place}/missing.csv", "a", encoding="utf-8") as file:
                file.writelines(f"/absent/{number}.mp4,class,train\n" for number in range(FLAGS.missing - 100))
            show("missing", "--layout=manifest", "--videos=/", f"--annotations={place}/missing.csv")


if __name__ == "__main__":
    command.run(main)
