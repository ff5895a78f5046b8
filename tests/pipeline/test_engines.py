"""The build on engines whose workers are other processes, started by others: the same bytes as in this process."""

import contextlib
import os
import pathlib
import socket
import subprocess
import sys
import time

import pytest

from pipeline import beam_options, build, sources
from stat_tf import errors
from tests import builds, media

ROOT = pathlib.Path(__file__).parents[2]
# Runs a module until it ends by itself or the one that started it is gone. Beam's job server gives a job one worker
# process, whatever the job asks for; here two.
SERVER = """
import os, runpy, sys, threading
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
init = FnApiRunner.__init__
def init_with_two_workers(self, *arguments, **named):
    init(self, *arguments, **named)
    assert self._num_workers == 1
    self._num_workers = 2
FnApiRunner.__init__ = init_with_two_workers
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


@contextlib.contextmanager
def server(log, module, *arguments):
    """Another process that serves on loopback; ends with the block, or with this process."""
    environment = dict(
        os.environ,
        PYTHONPATH=str(ROOT),
        PATH=os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]]),
    )
    with open(log, "w") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER, module, *arguments],
            **{"stdin": subprocess.PIPE, "stdout": out, "stderr": out, "env": environment, "cwd": log.parent},
        )
        try:
            yield process
        finally:
            process.stdin.close()
            process.wait(timeout=30)


def free_port():
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        return taken.getsockname()[1]


def await_port(process, port, log):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError):
            return socket.create_connection(("localhost", port), 1).close()
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    for number in range(6):
        name = f"{('train', 'test')[number % 3 == 2]}/{('jump', 'run')[number % 2]}/{number}.mp4"
        media.encode_video(root / name, media.numbered_frames(12 + number)[number:])
    (root / "train" / "run" / "broken.avi").write_text("no video")
    media.encode_video(root.parent / "long" / "film.mp4", media.numbered_frames(60))
    return root


def make(videos, output, arguments):
    """Builds from short videos and a long one that is cut."""
    execution = beam_options.parse(arguments, 7)
    listing = sources.read_all(
        *("folders", str(videos), None, None), unlabeled_videos=str(videos.parent / "long"), clip_seconds=0.5
    )
    config = build.BuildConfig(str(videos), str(output), builds.record_settings(), num_shards=2, max_rejected=0.2)
    return build.build(listing, config, execution)


@pytest.fixture(scope="module")
def in_memory(videos, tmp_path_factory):
    output = tmp_path_factory.mktemp("in_memory") / "data"
    description = make(videos, output, ["--direct_running_mode=in_memory"])
    assert {split: description.num_clips(split) for split in description.shards} == {
        **{"train": 4, "test": 2, "unlabeled": 5}
    }
    assert description.num_rejected == 1
    return contents(output)


@pytest.mark.slow
def test_workers_of_a_job_server_write_the_same_bytes(videos, in_memory, tmp_path):
    port = free_port()
    with (
        server(
            tmp_path / "job_server",
            "apache_beam.runners.portability.local_job_service_main",
            f"--port_file={tmp_path / 'port'}",
        ) as jobs,
        server(tmp_path / "pool", "apache_beam.runners.worker.worker_pool_main", f"--service_port={port}") as pool,
    ):
        await_port(pool, port, tmp_path / "pool")
        while not (tmp_path / "port").exists():
            assert jobs.poll() is None, (tmp_path / "job_server").read_text()
            time.sleep(0.1)
        arguments = ["--runner=PortableRunner", f"--job_endpoint=localhost:{(tmp_path / 'port').read_text()}"]
        arguments += ["--environment_type=EXTERNAL", f"--environment_config=localhost:{port}"]
        make(videos, tmp_path / "data", arguments)
    assert (tmp_path / "pool").read_text().count("Starting worker with command") == 2
    assert contents(tmp_path / "data") == in_memory
    assert not list(tmp_path.glob("data.*"))


@pytest.mark.slow
def test_workers_of_dask_write_the_same_bytes(videos, in_memory, tmp_path):
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(
        **{"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None, "host": "127.0.0.1"},
        local_directory=str(tmp_path / "dask"),
    )
    with cluster:
        arguments = ["--runner=DaskRunner", f"--dask_client_address={cluster.scheduler_address}"]
        make(videos, tmp_path / "data", [*arguments, "--dask_npartitions=2"])
        with distributed.default_client() as client:  # the runner's, which it leaves open
            processes = set(client.run(os.getpid).values())
    assert len(processes) == 2 and os.getpid() not in processes
    assert contents(tmp_path / "data") == in_memory


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--runner=PortableRunner"], "PortableRunner needs --job_endpoint=HOST:PORT"),
        (["--runner=PortableRunner", "--job_endpoint=localhost"], "No job server answers at --job_endpoint=localhost"),
        (["--runner=PortableRunner", "--job_endpoint=localhost:1"], r"No job server .*:1 \(.*refused\)"),
        (["--no_wait_until_finish"], "--no_wait_until_finish leaves nobody to finish"),
        (["--runner=SparkleRunner"], "--runner=SparkleRunner cannot be used: Unexpected pipeline runner"),
        (["--runner=no.such.Runner"], "--runner=no.such.Runner cannot be used: No module named 'no'"),
        (["--runner=apache_beam.Runner"], "--runner=apache_beam.Runner cannot be used: .*no attribute 'Runner'"),
    ],
)
def test_runner_that_cannot_be_had_is_named(arguments, message):
    with pytest.raises(errors.UserError, match=message):
        beam_options.check(arguments, [])
        beam_options.parse(arguments, 1)


@pytest.fixture
def installed(monkeypatch):
    """Says which packages can be found."""
    found = {}
    monkeypatch.setattr(beam_options.importlib.util, "find_spec", found.get)
    return found


def test_dataflow_without_its_packages_is_one_sentence(installed):
    with pytest.raises(errors.UserError, match=r"DataflowRunner needs packages .*: pip install 'stat-tf\[gcp\]'\."):
        beam_options.check(["--runner=DataflowRunner"], [])


def test_dataflows_mistakes_are_told_before_the_job(installed):
    installed["google.cloud.dataflow"] = object()
    arguments = ["--runner=DataflowRunner", "--region=r", "--temp_location=gs://bucket/t"]
    with pytest.raises(errors.UserError, match="Beam does not accept its options: Missing required option: project"):
        beam_options.parse(arguments, 1)
    execution = beam_options.parse([*arguments, "--project=some-project"], 1)
    assert not execution.is_local and not execution.is_template
    execution.check_place("output", "gs://b/data")
    execution.check_place("videos", None)
    with pytest.raises(errors.UserError, match="Dataflow's workers cannot see --videos=/videos: give a path .* gs://"):
        execution.check_place("videos", "/videos")


def test_dask_is_not_given_a_store(tmp_path):
    pytest.importorskip("distributed")
    execution = beam_options.parse(["--runner=DaskRunner"], 1)
    execution.check_place("output", str(tmp_path))
    with pytest.raises(errors.UserError, match="Beam on Dask cannot use a store, as --videos=s3://b/v: give a path"):
        execution.check_place("videos", "s3://b/v")


def test_template_of_a_job_that_leaves_work_to_do_is_refused():
    execution = beam_options.parse(["--template_location=gs://bucket/template"], 1)
    said = "--template_location makes a job to be run later"
    with pytest.raises(errors.UserError, match=said), beam_options.running(execution):
        raise AssertionError


@pytest.mark.parametrize("name", ["DirectRunner", "directrunner", "FnApiRunner"])
def test_direct_runner_is_this_process_by_whatever_name(name):
    assert beam_options.parse([f"--runner={name}"], 1).is_local
