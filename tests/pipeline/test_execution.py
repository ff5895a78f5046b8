"""The engine on a graph of small steps that really write files: what runs, what does not, and what --show says."""

import builtins
import dataclasses
import errno
import json
import os
import pathlib
import shutil
import signal

import pytest

from pipeline import code_version, drawing, execution, manifest, states
from pipeline.graph import ArtifactType, Component, Graph, Node
from pipeline.states import Status
from stat_tf import digests, errors, processes

NUMBER = ArtifactType(
    "number",
    lambda directory: digests.of(os.path.join(directory, "value")),
    lambda directory: {"value": int(pathlib.Path(directory, "value").read_text())},
    lambda directory: "half of it is there" if os.path.isdir(directory) else "",
)
OTHER = ArtifactType("other", NUMBER.content)


def _source(call):
    return [["source", call.output, str(call.parameters["value"])]]


def _parity(call):
    return [["prepare", call.output], ["parity", call.output, call.inputs["of"]]]


def _copy(call):
    return [["copy", call.output, call.inputs["of"]]]


SOURCE = Component("Source", {}, NUMBER, {"value": int}, _source)
PARITY = Component("Parity", {"of": NUMBER}, NUMBER, {}, _parity)
COPY = Component("Copy", {"of": NUMBER}, NUMBER, {}, _copy)
GATED = Component(
    "Gated", {"of": NUMBER}, NUMBER, {}, _copy, withheld=lambda inputs: "odd" if _read(inputs["of"]) % 2 else ""
)


def _read(directory):
    return int(pathlib.Path(directory, "value").read_text())


class Steps(processes.Commands):
    """Does the steps in this process; remembers which."""

    def __init__(self, fails="", breaks_off=""):
        super().__init__(lock=-1)
        self.ran, self._fails, self._breaks_off = [], fails, breaks_off

    def run_in_view(self, arguments):
        step, output, *rest = arguments
        self.ran.append(step)
        os.makedirs(output, exist_ok=True)
        if step == "prepare":
            return
        value = int(rest[0]) if step == "source" else _read(rest[0])
        pathlib.Path(output, "value").write_text(str(value % 2 if step == "parity" else value))
        if step == self._fails:
            raise errors.UserError("python -m step failed with exit code 1; what it said stands above.")
        if step == self._breaks_off:
            raise KeyboardInterrupt


@pytest.fixture
def code(monkeypatch):
    """The modules' digests, which a test may change."""
    versions = dict.fromkeys(("source", "prepare", "parity", "copy"), "1")
    monkeypatch.setattr(code_version, "of_modules", lambda names: {name: versions[name] for name in names})
    return versions


@pytest.fixture
def root(tmp_path, code):
    return str(tmp_path / "out")


def graph(value=1, *more):
    return Graph(
        [
            Node("first", SOURCE, {}, {"value": value}),
            Node("parity", PARITY, {"of": "first"}, {}),
            Node("last", COPY, {"of": "parity"}, {}),
            *more,
        ]
    )


def run(root, value=1, *more, keep=False, **behaviour):
    """The steps that were run, and the states."""
    steps = Steps(**behaviour)
    found = execution.run(graph(value, *more), root, steps, keep)
    return steps.ran, found


def statuses(root, value=1, keep=False):
    return {name: state.status for name, state in states.survey(graph(value), root, keep).items()}


def test_everything_is_made_once(root):
    assert set(statuses(root).values()) == {Status.TO_DO}
    ran, found = run(root)
    assert ran == ["source", "prepare", "parity", "copy"]
    assert {state.status for state in found.values()} == {Status.DONE}
    assert run(root)[0] == []


def test_manifest_says_what_an_output_was_made_from(root):
    _, found = run(root, 5)
    fields = json.loads(pathlib.Path(found["last"].directory, "manifest.json").read_text())
    assert fields["lineage"] == {"first": found["first"].output, "parity": found["parity"].output}
    assert fields["metrics"] == {"value": 1} and fields["plan"]["component"] == "Copy"
    assert fields["commands"] == [["copy", found["last"].output, found["parity"].output]]
    assert fields["plan"]["inputs"]["of"]["fingerprint"] == found["parity"].manifest.fingerprint
    assert "tensorflow" in fields["versions"]
    assert manifest.load_manifest(found["last"].directory) == found["last"].manifest


def test_changed_parameter_is_named_and_runs_what_follows_from_it(root):
    run(root, 1)
    found = states.survey(graph(2), root)
    assert (found["first"].status, found["first"].reason) == (Status.STALE, "value 1 -> 2")
    assert (found["last"].status, found["last"].reason) == (Status.STALE, "waits for parity")
    assert run(root, 2)[0] == ["source", "prepare", "parity", "copy"]


def test_output_made_anew_that_comes_out_the_same_leaves_what_reads_it(root):
    run(root, 1)
    assert run(root, 3)[0] == ["source", "prepare", "parity"]


def test_earlier_settings_find_their_outputs_again(root):
    run(root, 1)
    run(root, 2)
    assert run(root, 1)[0] == []


def test_failure_names_the_component_and_leaves_no_manifest(root):
    steps = Steps(fails="parity")
    with pytest.raises(errors.UserError, match=r"parity \(Parity\) failed: .* exit code 1"):
        execution.run(graph(), root, steps)
    assert statuses(root) == {"first": Status.DONE, "parity": Status.FAILED, "last": Status.TO_DO}
    assert not list(pathlib.Path(root, "parity").rglob("manifest.json"))


@pytest.mark.parametrize(
    ("how", "status", "told"),
    [
        ("fails", Status.FAILED, "python -m parity ended with an error the last time"),
        ("breaks_off", Status.TO_DO, "begun"),
    ],
)
def test_component_goes_on_with_the_command_that_did_not_end(root, how, status, told):
    with pytest.raises((errors.UserError, KeyboardInterrupt)):
        run(root, **{how: "parity"})
    found = states.survey(graph(), root)
    assert (found["parity"].status, found["parity"].reason) == (status, f"{told}, half of it is there; goes on there")
    sign = "x" if how == "fails" else "."
    assert f"{sign} parity  Parity  {status.value:8}  <- first" in drawing.draw(found, running=False).splitlines()
    assert run(root)[0] == ["parity", "copy"]


def test_output_without_a_whole_manifest_is_not_taken(root):
    _, found = run(root)
    path = pathlib.Path(found["parity"].directory, "manifest.json")
    path.write_text(path.read_text()[:-20])
    assert statuses(root)["parity"] is Status.TO_DO
    os.remove(path)
    assert statuses(root)["parity"] is Status.TO_DO


def test_changed_and_missing_outputs_are_set_aside_and_made_anew(root):
    _, found = run(root)
    pathlib.Path(found["parity"].output, "value").write_text("7")
    assert states.survey(graph(), root)["parity"].reason.startswith("changed since it was made")
    assert run(root)[0] == ["prepare", "parity"]
    shutil.rmtree(found["parity"].output)
    assert states.survey(graph(), root)["parity"].reason.startswith("no longer whole")
    assert run(root)[0] == ["prepare", "parity"]
    # The first is still there beside the second.
    aside = [pathlib.Path(f"{found['parity'].directory}.aside-{number}", "number") for number in (1, 2)]
    assert (aside[0] / "value").read_text() == "7" and not aside[1].exists() and aside[1].parent.exists()


def test_failure_counts_until_the_component_is_tried_again(root):
    with pytest.raises(errors.UserError):
        run(root, fails="parity")
    with pytest.raises(KeyboardInterrupt):
        run(root, breaks_off="parity")
    assert states.survey(graph(), root)["parity"].reason.startswith("begun")


def test_changed_output_of_another_component_is_named_by_it(root):
    run(root, 1)
    with pytest.raises(KeyboardInterrupt):
        run(root, 2, breaks_off="copy")
    assert states.survey(graph(2), root)["last"].reason.startswith("begun")
    shutil.rmtree(os.path.join(root, "last"))
    run(root, 1)
    state = states.survey(graph(2), root)["last"]
    assert (state.status, state.reason) == (Status.STALE, "the output of parity has changed")


def test_other_code_runs_a_component_again_or_is_let_pass(root, code):
    run(root)
    code["parity"] = "2"
    state = states.survey(graph(), root)["parity"]
    assert (state.status, state.reason) == (Status.STALE, "its code has changed: parity")
    kept = states.survey(graph(), root, keep_other_code=True)
    assert kept["parity"].reason == "kept, though its code has changed: parity"
    assert run(root, keep=True)[0] == []
    _, newer = run(root)
    code["parity"] = "3"
    # Of two that other code has made, the newer.
    assert states.survey(graph(), root, keep_other_code=True)["parity"].directory == newer["parity"].directory


def test_begun_output_is_gone_on_with_by_other_code_if_that_is_let_pass(root, code):
    with pytest.raises(KeyboardInterrupt):
        run(root, breaks_off="parity")
    code["parity"] = "2"
    ran, found = run(root, keep=True)
    assert ran == ["parity", "copy"] and len(os.listdir(os.path.join(root, "parity"))) == 1
    assert found["parity"].manifest.plan.code["parity"] == "1+2"
    assert run(root, keep=True)[0] == [] and run(root)[0] == ["prepare", "parity"]
    # Nor is it what the code that began it would have made.
    code["parity"] = "1"
    state = states.survey(graph(), root)["parity"]
    assert (state.status, state.reason) == (Status.STALE, "its code has changed: parity")
    assert run(root, keep=True)[0] == [] and run(root)[0] == ["prepare", "parity"]
    assert run(root)[1]["parity"].manifest.plan.code["parity"] == "1"


def test_damaged_output_of_other_code_is_made_anew_under_its_own_name(root, code):
    _, old = run(root)
    code["parity"] = "2"
    pathlib.Path(old["parity"].output, "value").write_text("7")
    state = states.survey(graph(), root, keep_other_code=True)["parity"]
    assert state.status is Status.STALE and state.reason.startswith("changed since it was made")
    ran, new = run(root, keep=True)
    assert ran == ["prepare", "parity"] and new["parity"].directory != old["parity"].directory
    assert run(root)[0] == [] and new["parity"].manifest.plan.code["parity"] == "2"
    code["parity"] = "1"
    state = states.survey(graph(), root)["parity"]
    assert state.status is Status.STALE and state.directory == old["parity"].directory
    assert run(root)[0] == ["prepare", "parity"]


def test_manifest_of_other_code_is_not_taken_whatever_its_place(root, code):
    _, found = run(root)
    code["parity"] = "2"
    _, other = run(root)
    shutil.copy(os.path.join(other["parity"].directory, "manifest.json"), found["parity"].directory)
    code["parity"] = "1"
    state = states.survey(graph(), root)["parity"]
    assert (state.status, state.reason) == (Status.STALE, "its code has changed: parity")


@pytest.fixture
def unreadable(monkeypatch):
    """Paths in which a file, whose end it is, cannot be read for now."""
    ends, real = [], builtins.open

    def opened(path, *more, **named):
        if "/parity/" in str(path) and str(path).endswith(tuple(ends)):
            raise OSError(errno.ESTALE, "Stale file handle", path)
        return real(path, *more, **named)

    monkeypatch.setattr(builtins, "open", opened)
    return ends


@pytest.mark.parametrize("name", ["value", "manifest.json"])
def test_output_that_cannot_be_read_now_is_left_as_it_is(root, unreadable, name):
    run(root)
    before = sorted(pathlib.Path(root).rglob("*"))
    unreadable.append(name)
    with pytest.raises(errors.UserError, match=r"/parity/.* cannot be read now \(Stale file handle\)"):
        run(root)
    unreadable.clear()
    assert sorted(pathlib.Path(root).rglob("*")) == before and run(root)[0] == []


def test_output_that_cannot_be_read_when_it_is_made_is_not_made_again(root, unreadable):
    unreadable.append("number/value")
    with pytest.raises(errors.UserError, match="cannot be read now"):
        run(root)
    unreadable.clear()
    assert run(root)[0] == ["copy"]


def test_what_is_done_when_a_signal_comes_is_noted(root):
    class Signalled(Steps):
        def run_in_view(self, arguments):
            super().run_in_view(arguments)
            if arguments[0] == "parity":
                self._on_signal(signal.SIGTERM, None)

    with pytest.raises(processes.Stopped):
        execution.run(graph(), root, Signalled())
    assert statuses(root) == {"first": Status.DONE, "parity": Status.DONE, "last": Status.TO_DO}


def test_withheld_component_is_no_error(root):
    gated = Node("gated", GATED, {"of": "first"}, {})
    ran, found = run(root, 1, gated)
    assert ran == ["source", "prepare", "parity", "copy"]
    assert (found["gated"].status, found["gated"].reason) == (Status.WITHHELD, "odd")
    assert run(root, 2, gated)[1]["gated"].status is Status.DONE


def test_component_that_leaves_nothing_is_named(root, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Steps, "run_in_view", lambda self, arguments: None)
        with pytest.raises(errors.UserError, match=r"first \(Source\) has left no whole number in .*/number"):
            run(root)
    state = states.survey(graph(), root)["first"]
    assert state.status is Status.FAILED and state.reason.startswith("it left no whole number the last time")
    assert run(root)[0] == ["source", "prepare", "parity", "copy"]


def test_drawing_shows_each_components_state_and_why(root):
    run(root, 1)
    shown = drawing.draw(states.survey(graph(2), root), running=False).splitlines()
    assert shown[0] == "3 components: 3 stale"
    assert shown[2:4] == ["! first   Source  stale", "      value 1 -> 2"]
    assert shown[4] == "! parity  Parity  stale     <- first"
    shown = drawing.draw(states.survey(graph(1), root), running=False).splitlines()
    assert shown[0] == "3 components: 3 done" and shown[2] == "+ first   Source  done"
    assert shown[3].endswith("/number") and shown[4] == "      value 1"


def test_drawing_leaves_paths_whole(root):
    _, found = run(os.path.join(root, "a-b-" * 40))
    assert f"      {found['last'].output}" in drawing.draw(found, running=False).splitlines()
    reason = f"changed: {found['last'].output}"
    damaged = dataclasses.replace(found["last"], status=Status.STALE, reason=reason, manifest=None)
    lines = drawing.draw({"last": damaged}, running=False).splitlines()
    assert found["last"].output in [line.strip() for line in lines]


def test_drawing_shows_what_runs_and_how_far_it_is(root):
    with pytest.raises(KeyboardInterrupt):
        run(root, breaks_off="parity")
    shown = drawing.draw(states.survey(graph(), root), running=True).splitlines()
    assert shown[0] == "3 components: 1 done, 2 to do; parity runs now"
    assert "> parity  Parity  runs now  <- first" in shown
    assert "      begun, half of it is there" in shown


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([Node("a", SOURCE, {}, {"value": 1})] * 2, "Two nodes"),
        ([Node("a", SOURCE, {}, {})], "Node a has the parameters none; a Source takes value"),
        ([Node("a", SOURCE, {}, {"value": "1"})], "Parameter value of node a is no int: '1'"),
        ([Node("a", COPY, {}, {})], "Node a has the inputs none; a Copy takes of"),
        ([Node("a", COPY, {"of": "b"}, {})], "reads the output of b, which does not come before it"),
        (
            [
                Node("a", Component("Maker", {}, OTHER, {}, _source), {}, {}),
                Node("b", COPY, {"of": "a"}, {}),
            ],
            "takes number as of, and a makes other",
        ),
    ],
)
def test_nodes_must_have_what_their_components_declare(nodes, message):
    with pytest.raises(errors.UserError, match=message):
        Graph(nodes)
