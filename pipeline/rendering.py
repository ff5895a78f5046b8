"""The rendered data set: which clips there are, and their files.

Each clip is a function of (seed, split, class, index) alone: its actor and its scene come from one
stable hash, all else from another. Train, test and unlabelled clips share no actor and no scene.
"""

import concurrent.futures
import dataclasses
import hashlib
import json
import multiprocessing
import os
from collections.abc import Sequence

import av
import cv2
import numpy as np
import tqdm

from pipeline import actions, figures, scenes
from stat_tf import errors, files

SETTINGS_NAME = "synthetic.json"
# To be raised with any change that alters a pixel: old and new clips must not stand side by side.
RENDERER_VERSION = 1
# Actor numbers by split: first and how many.
_ACTORS = {"train": (0, 20), "test": (20, 10), "unlabeled": (30, 20)}
# With B-frames, x264's macroblock tree reads memory it has not set, and the bytes vary from run to run.
_X264 = {"preset": "veryfast", "crf": "20", "x264-params": "mbtree=0"}


@dataclasses.dataclass(frozen=True)
class ClipSpec:
    """One clip to render.

    Attributes:
      split: "train", "test" or "unlabeled".
      action: A key of `actions.ACTIONS`.
      index: Counts the clips of the split and class.
    """

    split: str
    action: str
    index: int

    @property
    def actor(self) -> int:
        """The number of the person who acts; no two splits share one."""
        first, count = _ACTORS[self.split]
        return first + self.index % count

    @property
    def take(self) -> int:
        """Counts the actor's clips of this class; each take has a scene of its own."""
        return self.index // _ACTORS[self.split][1]

    @property
    def path(self) -> str:
        """Where the clip goes, within the output directory."""
        name = f"actor{self.actor:02d}_clip{self.take:02d}.mp4"
        if self.split == "unlabeled":
            return os.path.join(self.split, name)
        return os.path.join(self.split, self.action, f"{self.action}_{name}")


def _generator(*key: str | int) -> np.random.Generator:
    """A generator seeded by a hash of the key, the same in every process and on every machine."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))


def list_clips(train_clips_per_class: int, test_clips_per_class: int, unlabeled_clips: int) -> list[ClipSpec]:
    """All clips of a rendering; smaller numbers give a subset of what larger ones give."""
    classes = list(actions.ACTIONS)
    clips = [
        ClipSpec(split, action, index)
        for split, count in (("train", train_clips_per_class), ("test", test_clips_per_class))
        for action in classes
        for index in range(count)
    ]
    for index in range(unlabeled_clips):
        # By hash, so that the file's number does not tell the class.
        action = classes[_generator("unlabeled", index).integers(len(classes))]
        clips.append(ClipSpec("unlabeled", action, index))
    return clips


def render_clip(clip: ClipSpec, seed: int) -> np.ndarray:
    """The clip's frames, uint8 [N, H, W, 3] RGB; the same in every process."""
    look = figures.random_appearance(_generator(seed, "actor", clip.actor))
    # The scene does not depend on the class: it must not give the class away.
    scene = _generator(seed, "scene", clip.actor, clip.take)
    background, passer_by = scenes.random_background(scene), figures.random_appearance(scene)
    rng = _generator(seed, clip.split, clip.action, clip.index)
    return scenes.render(clip.action, look, passer_by, background, rng)


def write_video(path: str, frames: np.ndarray) -> None:
    """Encodes frames as H.264 in MP4; the same frames always give the same bytes.

    Args:
      path: The file; its directory must exist. It appears whole or not at all.
      frames: uint8 [N, H, W, 3] RGB, H and W even.
    """
    temporary = f"{path}.part"
    try:
        # bitexact keeps the muxer's version out; x264's output varies with its number of threads.
        with av.open(temporary, "w", format="mp4", container_options={"fflags": "+bitexact"}) as container:
            stream = container.add_stream("libx264", rate=scenes.FRAME_RATE, options=_X264)
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = "yuv420p"
            stream.thread_count = 1
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def _render_file(clip: ClipSpec, output: str, seed: int) -> None:
    cv2.setNumThreads(0)  # the processes share the cores already
    write_video(os.path.join(output, clip.path), render_clip(clip, seed))


def _check_settings(output: str, seed: int) -> None:
    """Notes what `output` holds, or refuses to mix it with clips of another seed or renderer."""
    settings = {"seed": seed, "renderer_version": RENDERER_VERSION}
    path = os.path.join(output, SETTINGS_NAME)
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            text = file.read()
        if text != json.dumps(settings) + "\n":
            raise errors.UserError(
                f"{output} holds clips rendered otherwise ({SETTINGS_NAME} says {text.strip()}, "
                f"this would be {json.dumps(settings)}): delete it or give another --output."
            )
        return
    os.makedirs(output, exist_ok=True)
    temporary = f"{path}.part"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(json.dumps(settings) + "\n")
    os.replace(temporary, path)


def _check_strangers(output: str, clips: Sequence[ClipSpec]) -> None:
    """Refuses a directory with videos that are none of this rendering's."""
    expected = {clip.path for clip in clips}
    for folder, _, names in os.walk(output):
        for name in names:
            path = os.path.relpath(os.path.join(folder, name), output)
            if name.endswith(".mp4") and path not in expected:
                raise errors.UserError(
                    f"{output} also holds {path}, which this rendering does not include: delete the directory, "
                    "give another --output or ask for as many clips as before."
                )


def _prepare(output: str, clips: Sequence[ClipSpec], seed: int) -> list[ClipSpec]:
    """Makes the directories and returns the clips that are not there yet. Raises as `render_all`."""
    try:
        _check_settings(output, seed)
        _check_strangers(output, clips)
        missing = [clip for clip in clips if not os.path.exists(os.path.join(output, clip.path))]
        for folder in {os.path.dirname(os.path.join(output, clip.path)) for clip in missing}:
            os.makedirs(folder, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise errors.UserError(f"{output} is not a directory: give --output a new one.") from None
    except OSError as error:
        raise errors.UserError(f"{output} cannot be written ({error.strerror}): give another --output.") from error
    return missing


def render_all(output: str, clips: Sequence[ClipSpec], seed: int, num_workers: int) -> int:
    """Renders the clips that are not there yet.

    Args:
      output: The directory; made if missing.
      clips: From `list_clips`.
      seed: Decides on everything.
      num_workers: Processes to render in.

    Returns:
      The number of clips rendered now; the others were there.

    Raises:
      UserError: The directory cannot be written, or holds clips of another seed, renderer version or clip list.
    """
    files.check_local(output, "output", "the videos are encoded there; copy them when they are done")
    missing = _prepare(output, clips, seed)
    # Spawned, not forked: forking a process that runs other libraries' threads can hang.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(num_workers, mp_context=context) as pool:
        futures = [pool.submit(_render_file, clip, output, seed) for clip in missing]
        try:
            progress = tqdm.tqdm(
                concurrent.futures.as_completed(futures), "render", len(futures), unit="clip", disable=None
            )
            for future in progress:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return len(missing)
