"""Sources, on small files in the formats in which the data sets' authors distribute them."""

import json
import os
import pathlib

import pytest

from pipeline import sources
from pipeline.sources import checks, files
from pipeline.sources.clip import Clip, Listing
from stat_tf import errors


def write(path: pathlib.Path, text: str = "") -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


@pytest.fixture
def ucf101(tmp_path):
    lists = tmp_path / "lists"
    write(lists / "classInd.txt", "1 Archery\r\n2 HandstandPushups\r\n")
    write(
        lists / "trainlist01.txt",
        "Archery/v_Archery_g08_c01.avi 1\r\nHandstandPushups/v_HandStandPushups_g09_c02.avi 2\r\n",
    )
    write(lists / "testlist01.txt", "Archery/v_Archery_g01_c03.avi\r\n")
    (tmp_path / "videos").mkdir()
    return tmp_path


def read_ucf101(root, split=1):
    return sources.read("ucf101", str(root / "videos"), str(root / "lists"), split)


def test_ucf101_lists(ucf101):
    listing = read_ucf101(ucf101)
    assert listing.classes == ("Archery", "HandstandPushups")
    assert listing.clips == (
        Clip("Archery/v_Archery_g08_c01.avi", "Archery", "train", "Archery_g08"),
        Clip("HandstandPushups/v_HandStandPushups_g09_c02.avi", "HandstandPushups", "train", "HandstandPushups_g09"),
        Clip("Archery/v_Archery_g01_c03.avi", "Archery", "test", "Archery_g01"),
    )


def test_ucf101_groups_of_different_classes_are_different(ucf101):
    write(ucf101 / "lists" / "trainlist01.txt", "HandstandPushups/v_HandStandPushups_g01_c02.avi 2\n")
    warnings = checks.check(read_ucf101(ucf101))
    assert not any("both train and test" in warning for warning in warnings)
    write(ucf101 / "lists" / "trainlist01.txt", "Archery/v_Archery_g01_c02.avi 1\n")
    assert "both train and test: Archery_g01." in checks.check(read_ucf101(ucf101))[0]


def test_ucf101_videos_without_class_folders(ucf101):
    write(ucf101 / "videos" / "v_Archery_g08_c01.avi")
    assert read_ucf101(ucf101).clips[0].path == "v_Archery_g08_c01.avi"


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("trainlist01.txt", "Archery/v_Archery_g08_c01.avi 2\n", "trainlist01.txt line 1 gives Archery the index 2"),
        ("trainlist01.txt", "Diving/v_Diving_g08_c01.avi 3\n", "the class Diving, which classInd.txt does not list"),
        ("testlist01.txt", "v_Archery_g08_c01.avi\n", "testlist01.txt line 1 should be"),
        ("classInd.txt", "1 Archery\n3 Diving\n", 'classInd.txt line 2 should be "2 CLASS"'),
        ("classInd.txt", "1 \xff", "UTF-8"),
    ],
)
def test_ucf101_lists_that_contradict_each_other(ucf101, file, text, message):
    (ucf101 / "lists" / file).write_bytes(text.encode("latin-1"))
    with pytest.raises(errors.UserError, match=message):
        read_ucf101(ucf101)


def test_ucf101_missing_list_is_named(ucf101):
    with pytest.raises(errors.UserError, match=r"trainlist02\.txt cannot be read: check --annotations"):
        read_ucf101(ucf101, split=2)


def test_hmdb51_lists(tmp_path):
    lists = tmp_path / "lists"
    write(lists / "climb_stairs_test_split1.txt", "BIG_FISH_climb_stairs_f_nm_np1_fr_med_1.avi 1 \nx.avi 0 \n")
    write(lists / "climb_test_split1.txt", "(HQ)_Rock_-_Dan_climb_f_cm_np1_ba_med_0.avi 2 \n\n")
    write(lists / "climb_test_split2.txt", "y.avi 1 \n")
    (tmp_path / "videos").mkdir()
    listing = sources.read("hmdb51", str(tmp_path / "videos"), str(lists), 1)
    assert listing.classes == ("climb", "climb_stairs")
    assert set(listing.clips) == {
        Clip("climb_stairs/BIG_FISH_climb_stairs_f_nm_np1_fr_med_1.avi", "climb_stairs", "train", "BIG_FISH"),
        Clip("climb/(HQ)_Rock_-_Dan_climb_f_cm_np1_ba_med_0.avi", "climb", "test", "(HQ)_Rock_-_Dan"),
    }
    with pytest.raises(errors.UserError, match="has no CLASS_test_split3.txt"):
        sources.read("hmdb51", str(tmp_path / "videos"), str(lists), 3)


def test_hmdb51_does_not_walk_the_videos(tmp_path, monkeypatch):
    write(tmp_path / "lists" / "wave_test_split1.txt", "a.avi 1\n")
    with pytest.raises(errors.UserError, match="There is no directory .*videos: check --videos"):
        sources.read("hmdb51", str(tmp_path / "videos"), str(tmp_path / "lists"), 1)
    (tmp_path / "videos").mkdir()
    walked, walk = [], os.walk
    monkeypatch.setattr(os, "walk", lambda root, **kwargs: walked.append(root) or walk(root, **kwargs))
    sources.read("hmdb51", str(tmp_path / "videos"), str(tmp_path / "lists"), 1)
    assert walked == [str(tmp_path / "lists")]


def test_list_with_a_nul_character_is_named(tmp_path):
    write(tmp_path / "wave_test_split1.txt", "a.avi 1\nb\0.avi 1\n")
    with pytest.raises(errors.UserError, match=r"wave_test_split1\.txt line 2 holds a character that no file name can"):
        sources.read("hmdb51", str(tmp_path), str(tmp_path), 1)


def test_class_folder_that_is_not_utf8_is_named(tmp_path):
    folder = os.fsencode(tmp_path / "train") + b"/caf\xe9"
    os.makedirs(folder)
    with pytest.raises(errors.UserError, match=r"class folder caf\\xe9 in .* not UTF-8: rename it") as caught:
        write(tmp_path / "train" / "run" / "a.avi")
        sources.read("folders", str(tmp_path), None, 1)
    str(caught.value).encode()


def test_hmdb51_mark_other_than_0_1_2(tmp_path):
    write(tmp_path / "wave_test_split1.txt", "a.avi 3\n")
    with pytest.raises(errors.UserError, match=r"wave_test_split1\.txt line 1 should be"):
        sources.read("hmdb51", str(tmp_path), str(tmp_path), 1)


def test_folders(tmp_path):
    for name in ("train/run/a.avi", "train/run/b.MP4", "test/jump/deep/c.webm", "unlabeled/d.mkv", "unlabeled/x/e.mov"):
        write(tmp_path / name)
    for name in ("train/run/notes.txt", "train/run/._a.avi", "other/x.avi", "train/.cache/a.avi"):
        write(tmp_path / name)
    (tmp_path / "train" / "swim").mkdir()
    listing = sources.read("folders", str(tmp_path), None, 1)
    assert listing.classes == ("jump", "run", "swim")
    assert set(listing.clips) == {
        Clip("train/run/a.avi", "run", "train"),
        Clip("train/run/b.MP4", "run", "train"),
        Clip("test/jump/deep/c.webm", "jump", "test"),
        Clip("unlabeled/d.mkv", "", "unlabeled"),
        Clip("unlabeled/x/e.mov", "", "unlabeled"),
    }


def test_folders_beside_the_splits_are_warned_of(tmp_path):
    for name in ("train/run/a.avi", "test/run/b.avi", "notes/read.txt", ".cache/run/c.avi", "train/.cache/d.avi"):
        write(tmp_path / name)
    listing = sources.read("folders", str(tmp_path), None, 1)
    assert checks.check(listing) == []
    for name in ("tests/run/c.avi", "val/run/d.avi", "val/jump/e.avi"):
        write(tmp_path / name)
    found = sources.read("folders", str(tmp_path), None, 1)
    assert (found.classes, found.clips) == (listing.classes, listing.clips)
    assert checks.check(found) == [
        "Videos in folders that are no split are left out: tests, val; splits are train, test, unlabeled."
    ]


def test_folders_without_videos_or_classes(tmp_path):
    with pytest.raises(errors.UserError, match="There is no directory .*absent: check --videos"):
        sources.read("folders", str(tmp_path / "absent"), None, 1)
    with pytest.raises(errors.UserError, match="has no videos in train/CLASS"):
        sources.read("folders", str(tmp_path), None, 1)
    write(tmp_path / "train" / "a.avi")
    with pytest.raises(errors.UserError, match=r"train/a\.avi has no class"):
        sources.read("folders", str(tmp_path), None, 1)


ROWS = [
    {"path": "a.mp4", "label": "run", "split": "train", "group": "p1"},
    {"path": "b, c.mp4", "label": "jump", "split": "test", "group": ""},
    {"path": "./d.mp4", "label": "", "split": "", "group": ""},
    {"path": "e.mp4", "label": "", "split": "train", "group": ""},
    {"path": "f.mp4", "label": "run", "split": "unlabeled", "group": ""},
]
CSV = """\
path,label,split,group,note
a.mp4,run,train,p1,x
"b, c.mp4",jump,test,,
./d.mp4,,,,
e.mp4,,train,,
f.mp4,run,unlabeled,,
"""


@pytest.mark.parametrize(
    ("name", "text"),
    [("m.csv", CSV), ("m.csv", "\ufeff" + CSV.replace("\n", "\r\n")), ("m.jsonl", "\n".join(map(json.dumps, ROWS)))],
)
def test_manifest(tmp_path, name, text):
    listing = sources.read("manifest", str(tmp_path), str(write(tmp_path / name, text)), 1)
    assert listing.classes == ("jump", "run")
    assert listing.clips == (
        Clip("a.mp4", "run", "train", "p1"),
        Clip("b, c.mp4", "jump", "test"),
        Clip("d.mp4", "", "unlabeled"),
        Clip("e.mp4", "", "unlabeled"),
        Clip("f.mp4", "", "unlabeled"),
    )


def test_manifest_paths_that_are_absolute(tmp_path):
    text = f"path,label,split\n{tmp_path}/videos/a.mp4,run,train\n/elsewhere/b.mp4,run,test\n"
    manifest = write(tmp_path / "m.csv", text)
    paths = [clip.path for clip in sources.read("manifest", str(tmp_path / "videos"), str(manifest), 1).clips]
    assert paths == ["a.mp4", "/elsewhere/b.mp4"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.csv", "path,split\na.mp4,train\n", "m.csv has no column label"),
        ("m.csv", "path,label,split\na.mp4,run,training\n", "m.csv line 2 has the split training"),
        ("m.csv", "path,label,split\na.mp4,run\n", "line 2 has another number of columns"),
        ("m.csv", "path,label,split\na.mp4,run,\n", "line 2 has the label run but no split"),
        ("m.csv", "path,label,split\na.mp4,,test\n", "line 2 is a test clip without a label"),
        ("m.csv", "path,label,split\n,run,test\n", "line 2 has no path"),
        ("m.csv", "path,label,split\n", "m.csv lists no videos"),
        ("m.jsonl", '{"path": "a.mp4", "label": "run"}', "m.jsonl line 1 has no split"),
        ("m.jsonl", '\n{"path"', "m.jsonl line 2 is not JSON"),
        ("m.jsonl", '{"path": 1, "label": "run", "split": "train"}', "line 1 is not a JSON object of strings"),
        ("m.csv", "path,label,split\na.mp4,run,test\nb\0.mp4,run,test\n", r"m\.csv line 3 holds .*b\\x00\.mp4"),
        ("m.jsonl", '{"path": "\\u0000", "label": "run", "split": "train"}', "m.jsonl line 1 holds a character"),
        ("m.jsonl", '{"path": "a", "label": "\\ud800", "split": "train"}', "m.jsonl line 1 holds a character"),
        ("m.txt", "", "neither a .csv nor a .jsonl"),
    ],
)
def test_manifest_mistakes_are_named(tmp_path, name, text, message):
    with pytest.raises(errors.UserError, match=message):
        sources.read("manifest", str(tmp_path), str(write(tmp_path / name, text)), 1)


def test_missing_manifest_is_named(tmp_path):
    with pytest.raises(errors.UserError, match=r"absent\.csv cannot be read: check --annotations"):
        sources.read("manifest", str(tmp_path), str(tmp_path / "absent.csv"), 1)


def listing_of(*clips, classes=("jump", "run")):
    return Listing(classes, tuple(Clip(*clip) for clip in clips))


def test_video_in_train_and_test_is_named():
    with pytest.raises(errors.UserError, match="a.avi is in test and train"):
        checks.check(listing_of(("a.avi", "run", "train"), ("a.avi", "run", "test")))


def test_video_listed_twice_is_named():
    with pytest.raises(errors.UserError, match="Listed more than once: a.avi"):
        checks.check(listing_of(("a.avi", "run", "train"), ("a.avi", "run", "train")))


def test_empty_listing():
    with pytest.raises(errors.UserError, match="no clip to build a dataset from"):
        checks.check(listing_of())


def test_group_in_train_and_test_and_label_without_video_are_warned_of():
    warnings = checks.check(
        listing_of(
            ("a", "run", "train", "p1"),
            ("b", "run", "test", "p1"),
            ("c", "run", "test", "p2"),
            ("d", "swim", "train", "p3"),
            classes=("jump", "run", "swim"),
        )
    )
    assert len(warnings) == 3
    assert "both train and test: p1." in warnings[0]
    assert warnings[1:] == ["Classes without a video in train: jump.", "Classes without a video in test: jump, swim."]


def test_sound_listing_has_no_warnings():
    clips = [(f"{label}{split}", label, split, split) for label in ("jump", "run") for split in ("train", "test")]
    assert checks.check(listing_of(*clips, ("u", "", "unlabeled"))) == []


def test_link_that_leads_back_to_where_it_is_multiplies_nothing(tmp_path):
    videos, disk = tmp_path / "videos", tmp_path / "disk"
    for path in (videos / "train" / "run" / "a.mp4", disk / "b.mp4"):
        path.parent.mkdir(parents=True)
        path.touch()
    (videos / "train" / "run" / "again").symlink_to(videos)
    (videos / "train" / "run" / "self").symlink_to(".")
    for name in ("jump", "fall"):  # the same directory twice, but not within itself
        (videos / "train" / name).symlink_to(disk)
    (disk / "back").symlink_to(videos / "train")
    found = files.list_files(str(videos), "videos")
    assert {"train/run/a.mp4", "train/jump/b.mp4", "train/fall/b.mp4"} <= set(found)
    assert len(found) == 3 and len(set(found)) == 3
