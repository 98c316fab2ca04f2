"""What people get wrong, through the command line: exit code 2, one or two sentences, nothing lost or half-written."""

from __future__ import annotations

import os
import re
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from attribution.workspace import FORMATS
from tests import disk

QUESTIONS = (["mistakes"], ["query", "--test", "0"], ["score", "--out", "scores.npy"])
STEPS = (["train"], ["embed"], ["index"], ["build"])


@pytest.fixture(scope="module")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A project file and its built workspace, not to be changed."""
    return disk.built(tmp_path_factory.mktemp("stripes"))


@pytest.fixture
def copy(stripes: tuple[Path, Path], tmp_path: Path) -> Path:
    """A workspace that may be changed; its project may not."""
    return Path(shutil.copytree(stripes[1], tmp_path / "work"))


@pytest.fixture
def own(tmp_path: Path) -> tuple[Path, Path]:
    """A project file and its built workspace that may both be changed."""
    return disk.built(tmp_path / "own")


@pytest.fixture
def weights(stripes: tuple[Path, Path], tmp_path: Path) -> dict[str, torch.Tensor]:
    """Weights that fit the model of the project."""
    (run,) = (stripes[1] / "runs").iterdir()
    return load_file(run / "checkpoint-1.safetensors")


def only(workspace: Path, kind: str) -> Path:
    (folder,) = (workspace / kind).iterdir()
    return folder


def assert_refused(answer: disk.Answer, said: str, *, out: str = "") -> None:
    """Exit code 2, and on standard error one line of one or two sentences that `said` matches."""
    assert answer.code == 2, answer
    assert re.search(said, answer.err), answer.err
    assert answer.err.endswith(".\n")
    assert answer.err.count("\n") == 1, answer.err
    assert "Traceback" not in answer.err
    sentences = re.split(r"(?<=[.”)])\s+(?=[A-Z`])", answer.err.strip())
    assert 1 <= len(sentences) <= 2, sentences
    assert bool(answer.out) == bool(out)


def refused(said: str, *arguments: object, workspace: Path) -> None:
    """The command is refused, and the workspace is afterwards what it was: nothing lost, nothing half-written."""
    before = disk.contents(workspace)
    assert_refused(disk.whence(*arguments, "--workspace", workspace), said)
    assert disk.contents(workspace) == before
    assert not list(workspace.glob("drafts/**/*.part"))


def refused_project(tmp_path: Path, said: str, *changes: str) -> None:
    """The project is refused by the doctor and by the step itself, in the same words; no run is published."""
    project = disk.write_project(tmp_path / "project", *changes)
    looked_at = disk.whence("check", project, "--workspace", tmp_path / "check")
    assert_refused(looked_at, r"^1 of \d checks failed, the first on (data|model|loss|gradients): " + said, out="table")
    assert not (tmp_path / "check").exists()  # looking at a project records nothing
    assert_refused(disk.whence("train", project, "--workspace", tmp_path / "train"), "^" + said)
    assert not (tmp_path / "train" / "runs").exists()


# --- the workspace ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [*QUESTIONS, *STEPS, ["check"]], ids=lambda a: a[0])
def test_no_workspace(tmp_path: Path, arguments: list[str]) -> None:
    nowhere = tmp_path / "nowhere"
    said = rf"^There is no (project|trained model) in .*{nowhere.name}.*Run `python -m attribution "
    refused(said, *arguments, workspace=nowhere)
    assert not nowhere.exists()
    assert not Path("scores.npy").exists()


@pytest.mark.parametrize("arguments", QUESTIONS, ids=lambda a: a[0])
@pytest.mark.parametrize(
    ("done", "said"),
    [
        ([], r"There is no project in .*Run `python -m attribution demo fashion`"),
        (["train"], r"There is no index in .* yet\. Run `python -m attribution index --workspace"),
        (["train", "embed"], r"There is no index in .* yet\. Run `python -m attribution index --workspace"),
    ],
)
def test_a_half_built_workspace(tmp_path: Path, arguments: list[str], done: list[str], said: str) -> None:
    project, workspace = disk.write_project(tmp_path), tmp_path / "work"
    assert_refused(disk.whence("mistakes", project, "--workspace", workspace), "There is no trained model")
    for verb in done:
        assert disk.whence(verb, project, "--workspace", workspace).code == 0
    refused(said, *arguments, workspace=workspace)


@pytest.mark.parametrize(
    ("done", "verb", "lacks"), [([], "embed", "trained model"), (["train"], "index", "gradient store")]
)
def test_a_step_whose_parent_is_missing_names_the_command_that_makes_it(
    tmp_path: Path, done: list[str], verb: str, lacks: str
) -> None:
    project, workspace = disk.write_project(tmp_path), tmp_path / "work"
    assert_refused(disk.whence("index", project, "--workspace", workspace), "There is no gradient store")
    for before in done:
        assert disk.whence(before, "--workspace", workspace).code == 0
    needed = {"trained model": "train", "gradient store": "embed"}[lacks]
    refused(rf"no {lacks} in .* yet\. Run `python -m attribution {needed} --workspace", verb, workspace=workspace)


@pytest.mark.parametrize("arguments", [*QUESTIONS, *STEPS, ["status"]], ids=lambda a: a[0])
def test_a_workspace_of_a_newer_format(copy: Path, arguments: list[str]) -> None:
    disk.edit_json(copy / "workspace.json", format=7)
    refused(r"has format 7; this version reads up to 1\. Update Whence", *arguments, workspace=copy)


@pytest.mark.parametrize("kind", disk.OPENED)
def test_an_artefact_of_a_newer_format(copy: Path, kind: str) -> None:
    disk.edit_json(only(copy, kind) / "manifest.json", format=7)
    for arguments in (["query", "--test", "0"], ["build"]):
        refused(
            rf"^{kind}/[0-9a-f]{{12}} has format 7; this version reads up to {FORMATS[kind]}\.",
            *arguments,
            workspace=copy,
        )


def test_a_file_where_a_workspace_should_be(tmp_path: Path) -> None:
    notes = disk.write_text(tmp_path / "notes.txt", "hello")
    for verb in ("status", "mistakes", "train"):
        assert_refused(disk.whence(verb, "--workspace", notes), "notes.txt is a file, and a workspace is a folder")
    assert notes.read_text() == "hello"


def test_a_workspace_below_a_file(tmp_path: Path) -> None:
    project, notes = disk.write_project(tmp_path), disk.write_text(tmp_path / "notes.txt", "hello")
    answer = disk.whence("build", project, "--workspace", notes / "work")
    assert_refused(answer, r"notes\.txt/work cannot be written: Not a directory\. Name a --workspace")


@pytest.fixture
def read_only(copy: Path) -> Iterator[Path]:
    """A workspace that nobody may write to: by its permissions, or for root by a mount."""
    if os.geteuid():
        folders = [copy, *(p for p in copy.rglob("*") if p.is_dir())]
        for folder in folders:
            folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
        yield copy
        for folder in folders:
            folder.chmod(stat.S_IRWXU)
        return
    at = str(copy)
    commands = (["mount", "--bind", at, at], ["mount", "-o", "remount,ro,bind", at])
    if any(subprocess.run(command, capture_output=True).returncode for command in commands):
        subprocess.run(["umount", copy], capture_output=True)
        pytest.skip("root may write everywhere here, and may not mount")
    yield copy
    subprocess.run(["umount", "--lazy", copy], check=True)


def test_a_workspace_that_may_not_be_written(tmp_path: Path, read_only: Path) -> None:
    other = disk.write_project(tmp_path / "other", "OPTIONS['name'] = 'other'")
    for arguments in (["train", other], ["embed", "--dimension", 5], ["demo", "fashion"]):
        refused(rf"^{read_only} cannot be written: .*\. Name a --workspace", *arguments, workspace=read_only)
    assert disk.whence("mistakes", "--workspace", read_only).code == 0  # which only reads


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_a_workspace_that_may_not_be_read(copy: Path) -> None:
    copy.chmod(0o700)
    answer = disk.ask_child(as_nobody, ["status", "--workspace", copy])
    assert_refused(answer, rf"^The workspace {copy} may not be read\. Name another --workspace\.")


def as_nobody(arguments: list[object]) -> disk.Answer:
    disk.whence("status", "--workspace", "nowhere")  # loads what nobody may not read: Python itself may be root's
    os.setuid(65534)
    return disk.whence(*arguments)


# --- stale ------------------------------------------------------------------------------------------------------------


def test_an_index_made_for_another_checkpoint(own: tuple[Path, Path]) -> None:
    project, workspace = own
    first = only(workspace, "runs").name
    disk.write_project(project.parent, "OPTIONS['retrain'] = TrainingRecipe(4, 8, checkpoints=2, seed=1)")
    assert disk.whence("train", "--workspace", workspace).code == 0
    second = next(folder.name for folder in (workspace / "runs").iterdir() if folder.name != first)
    for arguments in QUESTIONS:
        said = rf"^The index was built for another checkpoint \({first} vs {second}\)\. Run `embed`, then `index`\."
        refused(said, *arguments, workspace=workspace)
    said = rf"^The gradients were computed for another checkpoint \({first} vs {second}\)\."
    refused(said, "index", workspace=workspace)
    steps = {step["step"]: step["state"] for step in
             disk.whence("status", "--workspace", workspace, "--json").json()["steps"]}  # fmt: skip
    assert steps == {"load": "done", "train": "done", "embed": "stale", "index": "stale"}
    assert disk.whence("embed", "--workspace", workspace).code == 0
    refused(r"^The index was built for another checkpoint", "mistakes", workspace=workspace)
    assert disk.whence("index", "--workspace", workspace).code == 0
    assert disk.whence("mistakes", "--workspace", workspace).code == 0


def test_a_data_set_whose_content_changed_after_loading(own: tuple[Path, Path]) -> None:
    project, workspace = own
    disk.write_project(project.parent, "TRAIN.pictures[7, 0, 0, 0] += 1")
    said = r"^Row 7 of the train set \(train:7\) is not what was loaded: its content has changed\."
    for arguments in (["query", "--test", "0"], ["score", "--out", "scores.npy"], ["embed", "--dimension", "5"]):
        refused(said, *arguments, workspace=workspace)
    assert not list(Path().iterdir())
    assert disk.whence("build", "--workspace", workspace).code == 0  # loads it again


def test_a_data_set_whose_length_changed_after_loading(own: tuple[Path, Path]) -> None:
    project, workspace = own
    disk.write_project(project.parent, "OPTIONS['test'] = Stripes(1000, 17)")
    refused(r"^The test set has 17 examples now and had 18 when it was loaded\.", "mistakes", workspace=workspace)


def test_a_loss_that_changed_after_training(own: tuple[Path, Path]) -> None:
    project, workspace = own
    disk.write_project(
        project.parent, "OPTIONS['loss'] = lambda x, y: 2 * nn.functional.cross_entropy(x, y, reduction='none')"
    )
    refused(
        r"^The loss of train:0 is ([\d.]+) and was (?!\1)[\d.]+ when the run was made: the model or the loss has",
        "query", "--test", "0", workspace=workspace,
    )  # fmt: skip
    assert disk.whence("build", "--workspace", workspace).code == 0  # another loss is another run
    assert len(list((workspace / "runs").iterdir())) == 2
    assert disk.whence("query", "--test", "0", "--workspace", workspace).code == 0


_BODY = "class Body(nn.Linear):\n    def forward(self, x): return helper(super().forward(x))"
_MODEL = "OPTIONS['model'] = lambda: nn.Sequential(nn.Flatten(), Body(36, 6), nn.ReLU(), nn.Linear(6, 3))"


def test_a_helper_of_the_model_that_changed_after_training(tmp_path: Path) -> None:
    """No recipe sees it: the same class, the same text, the same weights."""
    project, workspace = disk.built(tmp_path, "helper = lambda x: x", _BODY, _MODEL)
    disk.write_project(project.parent, "helper = lambda x: x * 3", _BODY, _MODEL)
    said = r"^The loss of train:0 is .* when the run was made: the model or the loss has changed since\. Undo"
    for arguments in [*QUESTIONS, ["embed"]]:
        refused(said, *arguments, workspace=workspace)
    assert_refused(disk.whence("status", "--workspace", workspace), said, out="the steps")
    assert disk.whence("build", "--workspace", workspace).code == 0
    assert disk.whence("query", "--test", "0", "--workspace", workspace).code == 0
    assert len(list((workspace / "indexes").iterdir())) == 2
    disk.write_project(project.parent, "helper = lambda x: x", _BODY, _MODEL)
    assert disk.whence("build", "--workspace", workspace).code == 0  # undone: what was there is found again
    assert len(list((workspace / "indexes").iterdir())) == 2
    assert disk.whence("status", "--workspace", workspace).code == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("OPTIONS['retrain'] = TrainingRecipe(epochs=5, batch_size=8, learning_rate=0.1, checkpoints=2)", "retrain=…"),
        ("OPTIONS['classes'] = ['a', 'b', 'c']", "names other classes than when its data was loaded"),
    ],
)
def test_a_project_that_says_something_else_than_at_build(own: tuple[Path, Path], change: str, said: str) -> None:
    project, workspace = own
    disk.write_project(project.parent, change)
    for arguments in QUESTIONS:
        refused(said, *arguments, workspace=workspace)
    assert disk.whence("build", "--workspace", workspace).code == 0
    assert disk.whence("query", "--test", "0", "--workspace", workspace).code == 0


def test_checkpoints_that_are_named_otherwise_than_at_build(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    for name, factor in (("a", 0.5), ("b", 1.0)):
        save_file({key: value * factor for key, value in weights.items()}, tmp_path / f"{name}.safetensors")
    first, second = "Checkpoint('a.safetensors', 0.1)", "Checkpoint('b.safetensors', 0.05)"
    project, workspace = disk.built(tmp_path, f"OPTIONS['checkpoints'] = [{first}, {second}]")
    for named, said in (
        (f"[{first}]", "names 1 checkpoints and named 2 at `build`"),
        (f"[{second}, {first}]", r"a\.safetensors|b\.safetensors"),
        (f"[{first}, {second.replace('0.05', '5')}]", r"learning rate or the step of b\.safetensors is another"),
    ):
        disk.write_project(project.parent, f"OPTIONS['checkpoints'] = {named}")
        refused(said, "query", "--test", "0", workspace=workspace)


def test_a_loss_that_changed_for_one_class_alone(tmp_path: Path) -> None:
    """The rows that a run remembers are not only the first few: every class is among them."""
    change = "OPTIONS['loss'] = lambda x, y: nn.functional.cross_entropy(x, y, weight=WEIGHTS, reduction='none')"
    order = "TRAIN.pictures, TRAIN.labels = (side[TRAIN.labels.argsort()] for side in (TRAIN.pictures, TRAIN.labels))"
    project, workspace = disk.built(tmp_path, order, "WEIGHTS = torch.ones(3)", change)
    disk.write_project(project.parent, order, "WEIGHTS = torch.tensor([1.0, 1.0, 9.0])", change)
    refused("the model or the loss has changed since", "query", "--test", "0", workspace=workspace)


@pytest.mark.parametrize("helper", ["def helper(x): raise ValueError('no')", "def helper(x): return x[:, :4]"])
def test_a_model_that_has_stopped_working_after_the_build(tmp_path: Path, helper: str) -> None:
    project, workspace = disk.built(tmp_path, "helper = lambda x: x", _BODY, _MODEL)
    disk.write_project(project.parent, helper, _BODY, _MODEL)
    for arguments in (*QUESTIONS, ["status"], ["build"]):
        answer = disk.whence(*arguments, "--workspace", workspace)
        assert answer.code == 2, arguments
        assert re.search(r"The model( or the loss)? raised (ValueError|RuntimeError)", answer.err), answer.err


# --- questions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("test", "said"),
    [
        (
            "test:18",
            "^There is no example “test:18”; ids look like test:0 .test. and train:0 .training.*list of mistakes",
        ),
        ("", "^There is no example “”"),
        ("--5", "^There is no example “--5”"),
        ("²", "^There is no example “²”"),
        ("1.5", "^There is no example “1.5”"),
        ("18", r"^The test set has 18 rows and no row 18\. Use 0 to 17\."),
        ("-1", r"^The test set has 18 rows and no row -1\. Use 0 to 17\."),
        ("99999999999999999999", "^The test set has 18 rows and no row 99,999,999,999,999,999,999"),
    ],
)
def test_an_unknown_id_or_a_row_out_of_range(copy: Path, test: str, said: str) -> None:
    refused(said, "query", f"--test={test}", workspace=copy)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["query", "--test=0", "--method=magic"], "^The method “magic” is not known. Use tracin"),
        (["query", "--test=0", "--target=truth"], "^The target “truth” is not known. Use predicted or label."),
        (["mistakes", "--sort=size"], "^Mistakes cannot be sorted by “size”. Use loss, margin"),
        (["score", "--out=scores.npy", "--method=magic"], "^The method “magic” is not known"),
        (["score", "--out=scores.npy", "--target=truth"], "^The target “truth” is not known"),
        (["score", "--out=scores.npy", "--measure=size"], "“size” is not known. Use loss, margin or logit."),
        (
            ["embed", "--projection=magic"],
            "^The projection “magic” is not known. Use eigenbasis, dense, count-sketch",
        ),
        (
            ["embed", "--projection=two-sided", "--dimension=64"],
            "^The two-sided projection has no single dimension. Leave --dimension away.",
        ),
        (["score", "--out=no/such/scores.npy"], "^There is no folder no/such to write scores.npy in"),
        (["demo", "cats"], "^There is no demo “cats”. The demos are fashion."),
        (["demo", "fashion", "--noise=1.5"], "^A share of 1.5 of the labels cannot be flipped"),
        (["demo", "fashion", "--noise-kind=rude"], "^The label noise “rude” is not known"),
    ],
)
def test_an_unknown_option(copy: Path, arguments: list[str], said: str) -> None:
    refused(said, *arguments, workspace=copy)
    assert not list(Path().iterdir())  # no scores, and no half of them


@pytest.mark.parametrize(
    "verb", [["embed"], ["index"], ["build"], ["query", "--test", "0"], ["score", "--out", "a.npy"]]
)
@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("cuda", r"^There is no GPU “cuda” here: torch finds \d+\. Leave --device away, or use cpu\.$"),
        ("cuda:7", r"^There is no GPU “cuda:7” here: torch finds \d+\. Leave --device away, or use cpu\.$"),
        ("tpu", r"^The device “tpu” is not known\. Use cpu, cuda, or cuda:0 for the first of several\.$"),
        ("mps", r"^The device “mps” is not known\."),
        ("cpu:", r"^The device “cpu:” is not known\."),
    ],
)
def test_a_device_that_is_not_there(
    copy: Path, verb: list[str], device: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)  # also where there is one
    refused(said, *verb, "--device", device, workspace=copy)


def test_a_device_is_no_part_of_a_recipe(copy: Path) -> None:
    before = disk.contents(copy)
    for verb in ("embed", "index", "build"):
        assert disk.whence(verb, "--device", "cpu", "--workspace", copy).code == 0
    assert disk.contents(copy) == before


def test_scores_that_cannot_be_put_where_they_should(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "folder.npy").mkdir()
    refused(r"folder\.npy cannot be written: Is a directory\. Name another --out\.",
            "score", "--out", tmp_path / "folder.npy", workspace=copy)  # fmt: skip
    assert [p.name for p in tmp_path.glob("folder*")] == ["folder.npy"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["score"],
        ["query", "--test=0", "--top=0"],
        ["mistakes", "--limit=0"],
        ["demo", "fashion", "--epochs=1"],
        ["sing"],
    ],
    ids=" ".join,
)
def test_a_command_that_is_not_one_is_refused_with_its_usage(arguments: list[str]) -> None:
    answer = disk.whence(*arguments)
    assert answer.code == 2
    assert "Usage: " in answer.err
    assert "Traceback" not in answer.err


def test_a_query_whose_gradient_is_zero_is_answered_with_empty_lists_and_the_reason(
    tmp_path: Path, weights: dict[str, torch.Tensor]
) -> None:
    """Logits a million times as large: the softmax is exactly one, so the loss and its gradient are exactly zero."""
    weights["3.weight"] *= 1e6
    save_file(weights, tmp_path / "certain.safetensors")
    _, workspace = disk.built(tmp_path, "OPTIONS['checkpoints'] = [Checkpoint('certain.safetensors', 0.1)]")
    ask = ("query", "--test", "0", "--target", "predicted", "--workspace", workspace)
    answer = disk.whence(*ask, "--json").json()
    assert answer["zero_gradient"] is True
    assert answer["proponents"] == answer["opponents"] == []
    said = disk.whence(*ask)
    assert said.code == 0
    assert "The gradient of this loss is zero, so there is nothing to rank. Try the other --target." in said.out


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_port_in_use(copy: Path, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "execve", lambda *arguments: pytest.fail("the app was started"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = rf"^Port {port} on {host} cannot be used: Address already in use\. Choose another: --port {port + 1}\."
        refused(said, "app", "--port", port, "--address", host, workspace=copy)


def test_an_address_that_is_not_ours(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "execve", lambda *arguments: pytest.fail("the app was started"))
    refused("^Port 8501 on 192.0.2.1 cannot be used: ", "app", "--address", "192.0.2.1", workspace=copy)


# --- the project file -------------------------------------------------------------------------------------------------

_FILE_FAULTS = {
    "syntax error": ("def project(:\n", r"^faulty\.py cannot be run: SyntaxError: .*line 1"),
    "raises when read": ("import nothing_of_that_name\n", r"^faulty\.py cannot be run: ModuleNotFoundError: "),
    "no project()": ("project = 5\n", r"^faulty\.py defines no function project\(\)\. Add `def project"),
    "wrong type": ("def project(): return {'name': 'x'}\n", r"project\(\) in faulty\.py returned dict, not a Project"),
    "raises": (
        "def project():\n    return [][3]\n",
        r"in faulty\.py raised IndexError: list index out of range\. Look at line 2 of faulty\.py\.",
    ),
    "raises several lines": (
        "def project(): raise ValueError('one\\ntwo\\nthree')\n", r"faulty\.py raised ValueError: one two three\.",
    ),
    "takes an argument": ("def project(x): return x\n", r"raised TypeError: project\(\) missing 1 required"),
    "leaves the program": ("raise SystemExit(3)\n", r"^faulty\.py cannot be run: SystemExit: 3\."),
    "unknown option": (
        "from attribution import Project\ndef project(): return Project(size=3)\n", r"raised TypeError: .*'size'",
    ),
    "unknown modality": (
        "from attribution import Project\n"
        "def project(): return Project('x', None, [], [], ['a', 'b'], modality='smell')\n",
        r"^The modality “smell” of project “x” is not known\. Use one of image, text, tabular\.",
    ),
    "one class": (
        "from attribution import Project\ndef project(): return Project('x', None, [], [], ['a'])\n",
        r"^Project “x” names 1 classes, and a classifier has at least 2\.",
    ),
    "paths for checkpoints": (
        "from attribution import Project\ndef project(): return Project('x', None, [], [], ['a', 'b'], ['a.pt'])\n",
        r"^checkpoints=\[…\] of project “x” holds a str\. Write Checkpoint\(path, learning_rate\)\.",
    ),
    "classes that are numbers": (
        "from attribution import Project\ndef project(): return Project('x', None, [], [], [0, 1])\n",
        r"^The classes of project “x” are not all names of their own: \[0, 1\]\. Pass texts that differ",
    ),
    "a class named twice": (
        "from attribution import Project\ndef project(): return Project('x', None, [], [], ['a', 'b', 'a'])\n",
        r"^The classes of project “x” are not all names of their own: \['a', 'b', 'a'\]\.",
    ),
    "a network for model=": (
        "import torch\nfrom attribution import Project\n"
        "def project(): return Project('x', torch.nn.Linear(2, 2), [], [], ['a', 'b'])\n",
        r"^model=… of project “x” is a network \(Linear\), not a function that builds one\. Pass model=lambda: …",
    ),
    "one name for classes": (
        "from attribution import Project\ndef project(): return Project('x', None, [], [], 'ab')\n",
        r"^classes=… of project “x” is 'ab' \(str\), not a list\. Pass a list",
    ),
    "one name for layers": (
        "from attribution import Project\ndef project(): return Project('x', None, [], [], ['a', 'b'], layers='fc')\n",
        r"^layers=… of project “x” is 'fc' \(str\), not a list\.",
    ),
    "a number for loss": (
        "from attribution import Project\ndef project(): return Project('x', None, [], [], ['a', 'b'], loss=0.5)\n",
        r"^loss=… of project “x” is 0\.5 \(float\), not a function\. Pass a function, or leave loss= away",
    ),
    "one checkpoint": (
        "from attribution import Checkpoint, Project\n"
        "def project(): return Project('x', None, [], [], ['a', 'b'], Checkpoint('a.pt', 1))\n",
        r"^checkpoints=… of project “x” is Checkpoint\(.* \(Checkpoint\), not a list\.",
    ),
    "a number for a name": (
        "from attribution import Project\ndef project(): return Project(5, None, [], [], ['a', 'b'])\n",
        r"^The project's name is 5, not a text\.",
    ),
    "a text for a rate": (
        "from attribution import Checkpoint\nCheckpoint('a.pt', '0.1')\n",
        r"^The learning rate of a\.pt is '0\.1'\. Give the rate in force, 0 or more\.",
    ),
    "no learning rate": (
        "from attribution import Checkpoint, Project\n"
        "def project(): return Project('x', None, [], [], ['a', 'b'], [Checkpoint(p, 0) for p in 'ab'])\n",
        r"^Every checkpoint of project “x” has learning rate 0, and scores weight checkpoints by it\. Give the rate",
    ),
    "a seed below nothing": (
        "from attribution import TrainingRecipe\ndef project(): return TrainingRecipe(seed=-1)\n",
        r"^The seed is -1\. Use 0 or more\.",
    ),
    "a name that is a path": (
        "from attribution import Project\ndef project(): return Project('../x', None, [], [], ['a', 'b'])\n",
        r"^The project's name is '\.\./x', and results are kept in a folder of that name\. Use a name without slashes",
    ),
    "a name that cannot be written": (
        "from attribution import Project\ndef project(): return Project('x', None, [], [], ['a', '\\ud800'])\n",
        r"^The classes of project “x” are not all names of their own",
    ),
    "no rate to learn at": (
        "from attribution import TrainingRecipe\ndef project(): return TrainingRecipe(learning_rate=float('nan'))\n",
        r"^The learning rate is nan\. Use a number above 0\.",
    ),
    "batches of nothing": (
        "from attribution import TrainingRecipe\ndef project(): return TrainingRecipe(batch_size=0)\n",
        r"^The batch size is 0\. Use at least 1\.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", _FILE_FAULTS)
def test_a_wrong_project_file(tmp_path: Path, fault: str) -> None:
    text, said = _FILE_FAULTS[fault]
    faulty = disk.write_text(tmp_path / "faulty.py", text)
    for verb in ("check", "build", "mistakes"):
        assert_refused(disk.whence(verb, faulty, "--workspace", tmp_path / "work"), said)
    assert not (tmp_path / "work").exists()


def test_a_project_file_that_is_missing(tmp_path: Path, own: tuple[Path, Path]) -> None:
    assert_refused(disk.whence("train", tmp_path / "pets.py"), rf"^There is no project file at {tmp_path}/pets\.py\.")
    assert not list(Path().iterdir())
    project, workspace = own
    project.unlink()  # the one that a workspace remembers
    refused(rf"^There is no project file at {project}\.", "mistakes", workspace=workspace)


def test_a_project_file_that_is_not_python(tmp_path: Path) -> None:
    notes = disk.write_text(tmp_path / "notes.txt", "hello")
    assert_refused(disk.whence("train", notes), r"^notes\.txt is not a Python file\. A project file ends in \.py\.")


# --- the data ---------------------------------------------------------------------------------------------------------

_DATA_FAULTS = {
    "labels exceed the classes": (
        "TRAIN.labels[5] = 12",
        r"^Labels of the train set run from 0 to 12, but 3 classes are named \(0 to 2\); the first such label is in",
    ),
    "a negative label": ("TEST.labels[4] = -1", r"^Labels of the test set run from -1 to 2, but 3 classes .* in row 4"),
    "NaN in an image": (
        "TRAIN.pictures[9, 0, 2, 2] = float('nan')",
        r"^The train example train:9 \(row 9\) holds NaN or infinite values\.",
    ),
    "infinity in an image": ("TEST.pictures[3] = float('inf')", r"^The test example test:3 \(row 3\) holds NaN or inf"),
    "NaN in an array": (
        "import numpy\nOPTIONS['test'] = [(numpy.full((1, 6, 6), numpy.nan, 'f'), 0)]",
        r"^The test example test:0 \(row 0\) holds NaN",
    ),
    "NaN in a column": (
        "OPTIONS['feature_names'] = ['age', 'income']\n"
        "OPTIONS['test'] = [(torch.tensor([3.0, 4.0]), 0), (torch.tensor([3.0, float('inf')]), 0)]",
        r"^The test example test:1 \(row 1\) holds NaN or infinite values in the column “income”\. Leave it out",
    ),
    "more columns than names": (
        "OPTIONS['feature_names'] = ['age', 'income']\nOPTIONS['train'] = [(torch.zeros(3), 0)]",
        r"^Row 0 of the train set has 3 columns, and feature_names=… names 2\. Name every column that the data set giv",
    ),
    "NaN in a mapping": (
        "OPTIONS['test'] = [({'x': torch.zeros(3), 'y': torch.tensor([float('nan')])}, 0)]",
        r"^The test example test:0 \(row 0\) holds NaN",
    ),
    "an empty training set": ("OPTIONS['train'] = []", r"^The train set is empty\. Pass a data set with at least one"),
    "an empty test set": ("OPTIONS['test'] = Stripes(0, 0)", r"^The test set is empty\."),
    "repeated ids": (
        "OPTIONS['train_ids'] = ['a', 'b'] * 24",
        r"^Rows 0 and 2 of the train set have one id, “a”\. Give every example an id of its own\.",
    ),
    "too few ids": ("OPTIONS['test_ids'] = ['a', 'b']", r"^The test set has 18 examples and 2 ids\. Give every"),
    "ids of both sets": (
        "OPTIONS['train_ids'] = [str(i) for i in range(48)]\nOPTIONS['test_ids'] = [str(i) for i in range(40, 58)]",
        r"^8 ids are used in the training set and in the test set, the first “40”\.",
    ),
    "no length": ("OPTIONS['train'] = iter([])", r"^The train set has no length: .*\. Pass a map-style data set"),
    "no pair": ("OPTIONS['train'] = [torch.zeros(1, 6, 6)]", r"^Row 0 of the train set is not an \(input, label"),
    "a label by name": (
        "OPTIONS['train'] = [(torch.zeros(1, 6, 6), 'cat')]",
        r"^The label in row 0 of the train set is the text “cat”, not a whole number\. Give its position in classes",
    ),
    "no label": ("OPTIONS['train'] = [(torch.zeros(1, 6, 6), None)]", r"^Row 0 of the train set has no label\. Leave"),
    "a label that is NaN": (
        "OPTIONS['test'] = [(torch.zeros(1, 6, 6), float('nan'))]", r"^Row 0 of the test set has no label\.",
    ),
    "an empty text": ("OPTIONS['train'] = [('good', 0), (' ', 1)]", r"^The train example train:1 \(row 1\) is an em"),
    "half a label": ("OPTIONS['train'] = [(torch.zeros(1, 6, 6), 1.5)]", r"^Row 0 of .*: the label is 1\.5\."),
    "a one-hot label": (
        "OPTIONS['train'] = [(torch.zeros(1, 6, 6), torch.tensor([0, 1, 0]))]",
        r"^Row 0 of the train set is not an \(input, label\) pair with a whole-number label",
    ),
    "row 4,711 raises": (
        "class Broken(Stripes):\n"
        "    def __getitem__(self, i):\n"
        "        return super().__getitem__(i) if i != 4711 else (1 / 0)\n"
        "OPTIONS['train'] = Broken(0, 5000)",
        r"^Row 4711 of the train set cannot be read: ZeroDivisionError: division by zero\. Mend the data set\.",
    ),
    "a row that raises": (
        "TRAIN.labels = TRAIN.labels.tolist()\nTRAIN.labels.append(1); TRAIN.pictures = TRAIN.pictures[:48]",
        r"^Row 48 of the train set cannot be read: IndexError: ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", _DATA_FAULTS)
def test_wrong_data(tmp_path: Path, fault: str) -> None:
    change, said = _DATA_FAULTS[fault]
    refused_project(tmp_path, said.removeprefix("^"), change)
    assert not disk.contents(tmp_path / "train")


def test_pictures_that_cannot_be_shown(tmp_path: Path) -> None:
    project = disk.write_project(tmp_path, "OPTIONS['modality'] = 'text'")
    answer = disk.whence("train", project, "--workspace", tmp_path / "work")
    assert_refused(answer, r"^Row 0 cannot be shown as text: expected a text, found Tensor\. Pass preview=")
    assert not disk.contents(tmp_path / "work")


@pytest.mark.parametrize("option", ["preview", "notes"])
def test_a_function_of_the_project_that_fails_is_named_with_the_row(tmp_path: Path, option: str) -> None:
    project = disk.write_project(
        tmp_path, f"OPTIONS[{option!r}] = lambda dataset, i: dataset[i][0] / (i - 3 and 'x' or 1)"
    )
    answer = disk.whence("train", project, "--workspace", tmp_path / "work")
    assert_refused(
        answer, rf"^{option}\(\), given row \d+, raised TypeError: .+ Try it by itself: {option}\(dataset, i\) "
    )
    assert not disk.contents(tmp_path / "work")


# --- the model and the loss -------------------------------------------------------------------------------------------

_OWN = """
class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.norm, self.outer = nn.Linear(36, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)
        self.register_buffer("seen", torch.zeros(()))

    def between(self, h):
        return h

    def forward(self, x):
        return self.outer(self.between(torch.relu(self.inner(x.flatten(1)))))

OPTIONS["model"] = Own
"""

_MODEL_FAULTS = {
    "a loss with a hidden mean": (
        "OPTIONS['loss'] = nn.functional.cross_entropy",
        r"loss\(\) returned the shape \(\) for a batch of 4, not one loss per example\. Use reduction='none'\.",
    ),
    "a loss that is divided by the batch": (
        "OPTIONS['loss'] = lambda x, y: nn.functional.cross_entropy(x, y, reduction='none') / len(y)",
        r"The loss of train:\d is [\d.e-]+ alone and [\d.e-]+ among 4 examples\. Use reduction='none'",
    ),
    "a mean for every example": (
        "OPTIONS['loss'] = lambda x, y: nn.functional.cross_entropy(x, y).expand(len(y))",
        r"The loss of train:\d is [\d.e-]+ alone and [\d.e-]+ among 4 examples\.",
    ),
    "a loss that raises": (
        "OPTIONS['loss'] = lambda x, y: x[:, 7]",
        r"loss\(\) raised IndexError: index 7 is out of bounds for dimension 1 with size 3\.",
    ),
    "random numbers in eval mode": (
        f"{_OWN}\nOwn.between = lambda self, h: nn.functional.dropout(h + 5, 0.5, training=True)",
        r"The loss of train:\d is [\d.]+ and, in the same batch once more, [\d.e-]+: the model draws random numbers",
    ),
    "a model that remembers": (
        f"{_OWN}\nOwn.between = lambda self, h: h + 5 * self.seen.add_(1)",
        r"The loss of train:\d is .* once more, [\d.e-]+: the model draws random numbers, or remembers",
    ),
    "training mode while it predicts": (
        f"{_OWN}\nOwn.between = lambda self, h: self.norm.train()(h)",
        r"The model puts norm into training mode while it predicts\. Leave out train\(\) in forward\(\)\.",
    ),
    "statistics of the batch": (
        f"{_OWN}\nOwn.between = lambda self, h: nn.functional.batch_norm(h, None, None, training=True)",
        r"The model or the loss, given a single example, raised ValueError: Expected more than 1 value",
    ),
    "a layer that mixes the batch": (
        f"{_OWN}\nOwn.between = lambda self, h: h + 5 * h.sum(0)",
        r"The loss of train:\d is [\d.e-]+ alone and [\d.e-]+ among 4 examples\. "
        r"Use reduction='none', divide by nothing",
    ),
    "another way for large batches": (
        f"{_OWN}\nOwn.between = lambda self, h: h + (5 if len(h) < 20 else 10)",
        r"The loss of train:\d is [\d.e-]+ among 4 examples and [\d.e-]+ among 48 examples\.",
    ),
    "outputs that are detached": (
        f"{_OWN}\nOwn.forward = torch.no_grad()(Own.forward)",
        r"The losses do not depend on any tracked parameter that autograd can see\. Leave out no_grad\(\), detach",
    ),
    "outputs by way of numpy": (
        f"{_OWN}\nOwn.between = lambda self, h: torch.from_numpy(h.numpy())",
        r"The model cannot be differentiated: Can't call numpy\(\) on Tensor that requires grad\. .*Leave out no_grad",
    ),
    "a layer's input changed in place": (
        f"{_OWN}\nOwn.forward = lambda self, x: (h := self.inner(x.flatten(1)).sigmoid(), self.outer(h), h.mul_(2))[1]",
        r"The model changes a tensor in place after a layer has read it: .*Use the out-of-place form of the operation",
    ),
    "more outputs than classes": (
        "OPTIONS['model'] = lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 5))",
        r"The model's outputs for 4 examples have the shape \(4, 5\), and 3 classes are named\.",
    ),
    "a model that does not fit the data": (
        "OPTIONS['model'] = lambda: nn.Sequential(nn.Flatten(), nn.Linear(35, 3))",
        r"The model raised RuntimeError: mat1 and mat2 shapes cannot be multiplied \(4x36 and 35x3\)\.",
    ),
    "a model() that raises": (
        "OPTIONS['model'] = lambda: {}['weights']", r"model\(\) raised KeyError: 'weights'\.",
    ),
    "a model() that makes none": (
        "OPTIONS['model'] = dict", r"model\(\) of project “stripes” returned dict, not a torch module\.",
    ),
    "neither weights nor training": (
        "OPTIONS['retrain'] = None", r"Project “stripes” has neither checkpoints=\[…\] nor retrain=…\. Pass the checkp",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", _MODEL_FAULTS)
def test_a_wrong_model_or_loss(tmp_path: Path, fault: str) -> None:
    change, said = _MODEL_FAULTS[fault]
    refused_project(tmp_path, said, change)


def test_a_loss_that_stops_being_finite(tmp_path: Path) -> None:
    project = disk.write_project(
        tmp_path, "OPTIONS['retrain'] = TrainingRecipe(4, 8, learning_rate=1e30, checkpoints=2)"
    )
    answer = disk.whence("train", project, "--workspace", tmp_path / "work")
    assert_refused(answer, r"^The training loss is (nan|inf) in epoch \d\. Lower the learning rate")
    assert not (tmp_path / "work" / "runs").exists()


def test_a_measurement_with_a_hidden_mean(tmp_path: Path) -> None:
    project = disk.write_project(tmp_path, "OPTIONS['measurement'] = nn.functional.cross_entropy")
    answer = disk.whence("build", project, "--workspace", tmp_path / "work")
    assert_refused(answer, r"^measurement\(\) returned the shape \(\) for a batch of 18, not one number per example\.")
    assert not (tmp_path / "work" / "indexes").exists()


def test_layers_that_the_model_has_not(tmp_path: Path) -> None:
    project = disk.write_project(tmp_path, "OPTIONS['layers'] = ['head']")
    answer = disk.whence("build", project, "--workspace", tmp_path / "work")
    assert_refused(answer, r"^The model has no layer “head”\. Its layers with parameters are 1, 3\.")
    assert not (tmp_path / "work" / "gradients").exists()


def test_a_layer_in_which_examples_influence_each_other(tmp_path: Path) -> None:
    project = disk.write_project(
        tmp_path,
        "class Mixed(nn.Module):",
        "    def __init__(self):",
        "        super().__init__()",
        "        self.inner = nn.Linear(36, 3)",
        "    def forward(self, x):",
        "        y = self.inner(x.flatten(1))",
        "        return y - y.mean(0)",
        "OPTIONS['model'] = Mixed",
    )
    answer = disk.whence("train", project, "--workspace", tmp_path / "work")
    assert_refused(answer, r"^The loss of train:\d is [\d.e-]+ alone and [\d.e-]+ among 4 examples\.")


# --- checkpoints ------------------------------------------------------------------------------------------------------


def refused_checkpoints(tmp_path: Path, said: str, *names: str) -> None:
    listed = ", ".join(f"Checkpoint({name!r}, 0.1)" for name in names)
    project = disk.write_project(tmp_path, f"OPTIONS['checkpoints'] = [{listed}]")
    answer = disk.whence("train", project, "--workspace", tmp_path / "work")
    assert_refused(answer, said)
    assert not (tmp_path / "work" / "runs").exists()
    looked_at = disk.whence("check", project)
    assert_refused(looked_at, r"^1 of \d checks failed, the first on model: .*" + said.removeprefix("^"), out="table")


def test_a_checkpoint_that_does_not_exist(tmp_path: Path) -> None:
    said = rf"^There is no checkpoint at {tmp_path}/gone\.safetensors\. Check the path; it is relative to the project"
    refused_checkpoints(tmp_path, said, "gone.safetensors")


def test_a_checkpoint_that_does_not_fit(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    save_file({**weights, "3.weight": torch.zeros(5, 6)}, tmp_path / "other.safetensors")
    said = (
        r"^The checkpoint other\.safetensors does not fit the model: size mismatch for 3\.weight: "
        r".*\[5, 6\]\).*\[3, 6\]\)\. Check model"
    )
    refused_checkpoints(tmp_path, said, "other.safetensors")


def test_a_checkpoint_that_lacks_a_weight(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    del weights["3.bias"]
    save_file(weights, tmp_path / "less.safetensors")
    refused_checkpoints(
        tmp_path, r'does not fit the model: Missing key\(s\) in state_dict: "3\.bias"', "less.safetensors"
    )


class Payload:
    """What a pickle may do to whoever opens it."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch pickle-was-run",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_that_is_a_pickle_with_code_is_refused_and_not_run(
    tmp_path: Path, weights: dict[str, torch.Tensor], zipped: bool
) -> None:
    torch.save({**weights, "3.bias": Payload()}, tmp_path / "evil.pt", _use_new_zipfile_serialization=zipped)
    said = r"^evil\.pt holds more than tensors and is not opened\. Save model\.state_dict\(\) instead\."
    refused_checkpoints(tmp_path, said, "evil.pt")
    assert not Path("pickle-was-run").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("noise.pt", b"\x00\x01 not a checkpoint"),
        ("empty.pt", b""),
        ("noise.safetensors", b"x" * 64),
        ("e.safetensors", b""),
    ],
)
def test_a_checkpoint_that_is_none(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    said = rf"^{re.escape(name)} (cannot be read as weights: .*|holds more than tensors and is not opened)\. Save"
    refused_checkpoints(tmp_path, said, name)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([1, 2], "holds a list, not weights"),
        ({"state_dict": 5}, "holds a int, not weights"),
        ({"epoch": 3}, "does not fit"),
    ],
)
def test_a_checkpoint_of_something_else(tmp_path: Path, value: object, said: str) -> None:
    torch.save(value, tmp_path / "other.pt")
    refused_checkpoints(tmp_path, said, "other.pt")


def test_a_checkpoint_named_twice(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    save_file(weights, tmp_path / "a.safetensors")
    said = (
        r"^Checkpoints 0 and 1 \(a\.safetensors, a\.safetensors\) hold the same weights\. Name each checkpoint once\."
    )
    refused_checkpoints(tmp_path, said, "a.safetensors", "a.safetensors")


def test_two_equal_checkpoints_in_files_of_different_bytes(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    save_file({**weights, "3.bias": weights["3.bias"] + 1}, tmp_path / "a.safetensors")
    save_file(weights, tmp_path / "b.safetensors")
    torch.save({"state_dict": weights}, tmp_path / "c.pt")
    said = r"^Checkpoints 1 and 2 \(b\.safetensors, c\.pt\) hold the same weights\."
    refused_checkpoints(tmp_path, said, "a.safetensors", "b.safetensors", "c.pt")


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "model._orig_mod."])
def test_the_names_that_a_trainer_gives_weights(tmp_path: Path, weights: dict[str, torch.Tensor], prefix: str) -> None:
    """Data-parallel training, a Lightning module, torch.compile; with something of the trainer's own beside them."""
    named = {prefix + name: value for name, value in weights.items()} | {"metric.total": torch.zeros(1)}
    torch.save({"state_dict": named, "epoch": 3}, tmp_path / "a.ckpt")
    disk.built(tmp_path, "OPTIONS['checkpoints'] = [Checkpoint('a.ckpt', 0.1)]")


def test_one_network_returned_for_every_checkpoint(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    """Loading the second checkpoint would change the model of the first."""
    save_file(weights, tmp_path / "a.safetensors")
    said = r"model\(\) of project “stripes” returned the same network twice\. Build a new one at each call"
    changes = ("NETWORK = model()", "OPTIONS['model'] = lambda: NETWORK",
               f"OPTIONS['checkpoints'] = [Checkpoint({str(tmp_path / 'a.safetensors')!r}, 0.1)]")  # fmt: skip
    refused_project(tmp_path, said, *changes)


# --- damage -----------------------------------------------------------------------------------------------------------


def test_a_corrupted_block(copy: Path) -> None:
    disk.flip_byte(only(copy, "gradients") / "checkpoint-0" / "vectors.npy", -1)
    said = (
        r"^Rows 0 to 47 of checkpoint 0 in the gradient store are damaged: their checksum differs\. Run `embed` again"
    )
    for arguments in QUESTIONS:
        refused(said, *arguments, workspace=copy)


# --- through a process of its own -------------------------------------------------------------------------------------


def test_a_real_process_says_the_same_and_exits_with_2(tmp_path: Path, copy: Path) -> None:
    command = [sys.executable, "-m", "attribution", "query", "--test", "99", "--workspace", str(copy)]
    found = subprocess.run(command, capture_output=True, text=True, cwd=disk.ROOT)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr == "The test set has 18 rows and no row 99. Use 0 to 17.\n"


def test_numbers_in_the_scores_file_are_finite(copy: Path) -> None:
    assert disk.whence("score", "--out", "scores.npy", "--workspace", copy).code == 0
    assert np.isfinite(np.load("scores.npy")).all()
