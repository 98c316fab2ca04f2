"""What a lens needs of the whole training set, kept: another process takes it up, and answers the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attribution import jobs, pipeline, progress, removal
from attribution.debugger import Debugger
from attribution.errors import Cancelled, InvalidInput, StoreError, Unsuited
from attribution.evaluation import leaving, mislabel, patching, removing
from attribution.methods import damped, lens_record, named
from attribution.methods.hessian import Hessian
from attribution.methods.influence import Influence
from attribution.project import Project
from attribution.workspace import Workspace
from tests import disk

LENS = "hessian:ekfac"


def test_kept_factors_are_taken_up_by_another_process_which_then_answers_the_same(tiny_workspace_copy: Path) -> None:
    first = Debugger.open(tiny_workspace_copy)
    assert first.foreseen(LENS) > 0
    assert not first.is_kept(LENS)
    id_ = first.prepare(LENS)
    assert Workspace(tiny_workspace_copy).manifest("factors", id_)["parents"].keys() == {"gradients", "runs"}
    again = Debugger.open(tiny_workspace_copy)
    assert (again.is_kept(LENS), again.foreseen(LENS), again.is_ready(LENS)) == (True, 0.0, False)
    wanted, found = (each.evidence("test:3", method=LENS) for each in (first, again))
    assert np.array_equal(found.scores, wanted.scores)
    assert found.by_method == wanted.by_method
    assert again.is_ready(LENS)
    assert first.prepare(LENS) == id_  # once
    assert not again.is_kept(damped(LENS, 0.5))  # other options are another lens


@pytest.mark.parametrize(
    "lens",
    ["influence", "influence:diagonal", "relatif", "relatif:parameters", "hessian", "trak", "arnoldi", "datainf",
     "representer"],
)  # fmt: skip
def test_every_lens_that_keeps_its_factors_takes_them_up(tiny_workspace_copy: Path, lens: str) -> None:
    first = Debugger.open(tiny_workspace_copy)
    assert first.foreseen(lens) > 0
    first.prepare(lens)
    again = Debugger.open(tiny_workspace_copy)
    wanted, found = (each.evidence("test:3", method=lens) for each in (first, again))
    assert np.array_equal(found.scores, wanted.scores)
    assert np.array_equal(first.self_influence(method=lens), again.self_influence(method=lens))


def test_factors_of_another_weight_decay_are_not_taken_up(
    tiny_workspace_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a run whose checkpoints are named, retrain=… may change under it; the Hessian has the penalty in it."""
    kept = Debugger.open(tiny_workspace_copy).prepare(LENS)
    whole = pipeline.recorded_project

    def decayed(workspace: Workspace) -> Project:
        project = whole(workspace)
        assert project.retrain is not None
        return replace(project, retrain=replace(project.retrain, weight_decay=0.3))

    monkeypatch.setattr(pipeline, "recorded_project", decayed)
    monkeypatch.setattr(pipeline, "refuse_other_settings", lambda *_: None)  # as where checkpoints are named
    changed = Debugger.open(tiny_workspace_copy)
    assert not changed.is_kept(LENS)
    assert changed.prepare(LENS) != kept


JUDGES: dict[str, Callable[[Workspace, Project], str]] = {
    "mislabel": lambda w, p: mislabel.measure(w, pipeline.open_index(w), Influence()),
    "tailpatch": lambda w, p: patching.measure(patching.plan(w, p, patching.Design()), Influence()),
    "loo": lambda w, p: leaving.measure(leaving.plan(w, p, leaving.Design()), Influence()),
    "removal": lambda w, p: removing.measure(removing.plan(w, p, removing.Design(top=(1,))), Influence()),
    "trust --retrain": lambda w, p: removal.make(w, "influence"),
}


@pytest.mark.parametrize("judge", JUDGES)
def test_what_judges_a_lens_takes_its_factors_up_too(
    tiny_workspace_copy: Path, judge: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Debugger.open(tiny_workspace_copy).prepare("influence")
    workspace = Workspace(tiny_workspace_copy)

    def taken_up(*asked: Any) -> None:
        raise Cancelled("They are taken up, and nothing more is asked here.")

    monkeypatch.setattr(Influence, "restore", taken_up)
    with pytest.raises(Cancelled, match="taken up"):
        JUDGES[judge](workspace, pipeline.recorded_project(workspace))


def test_damaged_factors_are_refused_and_made_again(tiny_workspace_copy: Path) -> None:
    debugger = Debugger.open(tiny_workspace_copy)
    id_ = debugger.prepare(LENS)
    (file,) = Workspace(tiny_workspace_copy).folder("factors", id_).glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-8] + bytes(8))
    with pytest.raises(StoreError, match="damaged: its checksum differs"):
        Debugger.open(tiny_workspace_copy).evidence("test:3", method=LENS)
    assert debugger.prepare(LENS) == id_
    Debugger.open(tiny_workspace_copy).evidence("test:3", method=LENS)


def test_a_lens_with_nothing_to_keep_says_so(tiny_workspace: Path) -> None:
    debugger = Debugger.open(tiny_workspace)
    assert (debugger.foreseen("tracin"), debugger.is_kept("tracin")) == (0.0, False)
    with pytest.raises(Unsuited, match=r"TracIn has nothing to prepare that is worth keeping\."):
        debugger.prepare("tracin")


def test_a_name_may_say_the_damping() -> None:
    assert named(damped("hessian:cg", 0.5)) == replace(named("hessian:cg"), damping=0.5)  # type: ignore[type-var]
    assert named(damped("influence", 1e-7)) == replace(named("influence"), damping=1e-7)  # type: ignore[type-var]
    assert damped("tracin", None) == "tracin"
    assert lens_record("hessian@0.5") == {**lens_record("hessian"), "damping": 0.5}
    with pytest.raises(InvalidInput, match=r"TracIn has no damping\. Leave it away, or ask by influence"):
        named("tracin@0.5")
    with pytest.raises(InvalidInput, match=r"A damping of “much” was asked for\. Use a number"):
        named("hessian@much")


def test_the_command_line_keeps_what_takes_long_and_says_how_long_before(tiny_workspace_copy: Path) -> None:
    where = "--workspace", tiny_workspace_copy
    made = disk.whence("prepare", "--method", LENS, *where, "--json")
    assert made.err.startswith("About ")
    assert made.json()["method"] == LENS
    asked = disk.whence("query", "--test", "3", "--method", LENS, *where, "--json")
    assert asked.err == ""
    debugger = Debugger.open(tiny_workspace_copy)
    assert asked.json()["proponents"][0]["id"] == debugger.evidence("test:3", target="label", method=LENS).proponents[
        0].item.id  # fmt: skip
    told = disk.whence("prepare", "--method", LENS, *where)
    assert told.out.startswith("influence (Hessian), all parameters, EK-FAC is prepared: it took ")


def test_what_takes_long_is_made_and_kept_by_the_question(
    monkeypatch: pytest.MonkeyPatch, tiny_workspace_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from attribution.cli.opening import make_ready

    monkeypatch.setattr(progress, "LONG", 0.0)
    debugger = Debugger.open(tiny_workspace_copy)
    make_ready(debugger, LENS, tiny_workspace_copy)
    assert "EK-FAC needs of all training examples takes about" in capsys.readouterr().err
    assert debugger.is_kept(LENS)
    make_ready(debugger, LENS, tiny_workspace_copy)
    assert capsys.readouterr().err == ""


def test_damping_on_the_command_line(tiny_workspace: Path) -> None:
    where = "--workspace", tiny_workspace
    refused = disk.whence("query", "--test", "3", "--method", "tracin", "--damping", "1", *where)
    assert (refused.code, "TracIn has no damping." in refused.err) == (2, True)
    little, much = (
        disk.whence("query", "--test", "3", "--method", "influence", "--damping", d, *where, "--json").json()
        for d in ("0.01", "100")
    )
    assert little["method"] == "influence@0.01"
    assert abs(little["proponents"][0]["score"]) > abs(much["proponents"][0]["score"])
    for said in ("nan", "inf", "1e400", "-1", "1e300"):
        for method in ("influence", "hessian"):
            refused = disk.whence("query", "--test", "3", "--method", method, f"--damping={said}", *where)
            wanted = f"A damping of {float(said):g} was asked for. Use 0 to 1e+09"
            assert (refused.code, wanted in refused.err) == (2, True)


def test_a_prepared_lens_is_a_job_that_a_page_can_start(tiny_workspace_copy: Path) -> None:
    with jobs.reporting(tiny_workspace_copy, "prepare", "a-job") as told:
        Debugger.open(tiny_workspace_copy).prepare(LENS, progress=told)
    (job,) = [jobs.latest(tiny_workspace_copy)]
    assert job is not None
    assert (job.verb, job.state) == ("prepare", "done")


def test_a_method_that_does_not_fit_is_refused_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, tiny_workspace: Path
) -> None:
    monkeypatch.setattr(Hessian, "why_not", lambda self, source: "It does not fit.")
    with pytest.raises(Unsuited, match="It does not fit"):
        Debugger.open(tiny_workspace).foreseen(LENS)
