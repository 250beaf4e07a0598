"""A run's folder: what it must hold, and what a resume refuses."""

import json
from pathlib import Path

import pytest
from conftest import TINY
from trained import fit, recipe_for

from dida_cli import run as runs
from dida_cli.errors import DidaError
from dida_cli.training import Training, resumed

RECIPE = recipe_for(TINY)
BEGUN = runs.Begun("dida train", "/pictures", {"with a": {"files": 3, "sha256": "x"}})


def test_a_run_records_what_is_trained_and_on_what(tmp_path: Path) -> None:
    run = tmp_path / "run"
    runs.start(run, RECIPE, BEGUN)
    assert runs.recorded(run) == (RECIPE, BEGUN)
    assert runs.recipe_in(run) == run / "recipe.toml"
    other = recipe_for(TINY, steps=99)
    runs.record(run, other, BEGUN)
    assert runs.recorded(run)[0] == other
    with pytest.raises(DidaError, match="is not empty; go on with --resume"):
        runs.start(run, RECIPE, BEGUN)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DidaError, match=r"holds no recipe\.toml; give the folder of a run"):
        runs.recorded(tmp_path)
    runs.start(tmp_path / "run", RECIPE, BEGUN)
    with pytest.raises(DidaError, match="was stopped before its first save; start it anew"):
        runs.last_of(tmp_path / "run")
    begun = tmp_path / "run" / "begun.json"
    whole = BEGUN.to_json()
    for wrong in ([], whole | {"root": 3}, whole | {"more": 3}, {"root": "x"}):
        begun.write_text(json.dumps(wrong))
        with pytest.raises(DidaError, match=r"begun\.json: "):
            runs.recorded(tmp_path / "run")


def test_time_is_counted_on_by_a_resume(tmp_path: Path) -> None:
    training = Training(RECIPE)
    training.seconds, training.cpu_seconds = 4.5, 8.0
    training.save(tmp_path, "")
    again = Training(RECIPE)
    again.restore(tmp_path / "last")
    assert (again.seconds, again.cpu_seconds) == (4.5, 8.0)
    path = tmp_path / "last" / "progress.json"
    before = json.loads(path.read_text())
    del before["cpu_seconds"]  # as it was saved once
    path.write_text(json.dumps(before))
    again.restore(tmp_path / "last")
    assert (again.seconds, again.cpu_seconds) == (4.5, 0.0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"step": "5"}, "step must be of type int"),
        ({"step": True}, "step must be of type int"),
        ({"step": -1}, "step must be 0 or more"),
        ({"stage": -1}, "stage must be 0 or more"),
        ({"stage": None}, "stage must be of type int"),
        ({"seconds": float("nan")}, "seconds must be a number"),
        ({"seconds": "x"}, "seconds must be of type float"),
        ({"cpu_seconds": float("inf")}, "cpu_seconds must be a number"),
        ({"sums": []}, "sums must be a table"),
        ({"sums": {"zero": "x"}}, r"sums\.zero must be of type float"),
        ({"summed": None}, "summed must be of type int"),
        ({"best": [1]}, "best must be a table"),
        ({"best": {"step": 1, "score": 2}}, "best must hold step, score, since"),
        ({"best": {"step": 1, "score": "x", "since": 0}}, r"best\.score must be of type float"),
        ({"best": {"step": 1, "score": 0.5, "since": -1}}, r"best\.since must be 0 or more"),
        ({"more": 1}, "unknown setting 'more'"),
    ],
)
def test_a_progress_that_is_not_as_it_was_written_is_refused(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    training = Training(RECIPE)
    training.save(tmp_path, "")
    path = tmp_path / "last" / "progress.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DidaError, match=rf"progress\.json: {said}.*to go on from last-1"):
        training.restore(tmp_path / "last")
    assert training.step == 0


def test_a_progress_that_lacks_something_is_refused(tmp_path: Path) -> None:
    training = Training(RECIPE)
    training.save(tmp_path, "")
    path = tmp_path / "last" / "progress.json"
    for text in ('{"step": 3}', "[]", "3", "{"):
        path.write_text(text)
        with pytest.raises(DidaError, match=r"progress\.json: .*to go on from last-1"):
            training.restore(tmp_path / "last")


def test_a_score_below_nothing_is_a_score(tmp_path: Path) -> None:
    training = Training(RECIPE)
    training.compare(-3.5)
    training.save(tmp_path, "")
    assert resumed(RECIPE, tmp_path / "last").best == (0, -3.5, 0)


def test_the_last_but_one_is_gone_on_from_where_the_last_is_not_there(tmp_path: Path) -> None:
    fit(tmp_path, RECIPE, 7)
    assert runs.last_of(tmp_path) == tmp_path / "last"
    (tmp_path / "last" / runs.STATE).unlink()
    assert runs.last_of(tmp_path) == tmp_path / "last-1"


def test_a_torn_last_line_of_a_log_is_dropped(tmp_path: Path) -> None:
    fit(tmp_path, RECIPE, 5)
    log = tmp_path / runs.LOG
    for torn in (b'{"step": 6, "learn', b"{", b"\0\0\0", b"\xff", b"7"):
        log.write_bytes(log.read_bytes() + torn)
        fit(tmp_path, RECIPE, 5)
        assert [line["step"] for line in runs.read_log(tmp_path)] == [2, 4]
    fit(tmp_path, RECIPE)
    assert [line["step"] for line in runs.read_log(tmp_path)] == [2, 4, 6, 8, 10, 12]


def test_a_log_that_is_none_is_refused_in_one_line(tmp_path: Path) -> None:
    fit(tmp_path, RECIPE, 2)
    log = tmp_path / runs.LOG
    log.write_text("nonsense\n" + log.read_text())
    with pytest.raises(DidaError, match=r"log\.jsonl, line 1: no line of a log"):
        fit(tmp_path, RECIPE)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_log_that_does_not_fit_on_the_disk_is_told_in_one_line() -> None:
    with pytest.raises(DidaError, match=r"/dev/full: cannot be written \(No space .*--resume"):
        runs.append(Path("/dev/full"), {"step": 1})


def critic_log(right: float, gradient: float, count: int = 50, **more: float) -> list[runs.Line]:
    figures = {"critic_right": right, "critic_gradient": gradient, "confusion": 0.1, **more}
    return [{"step": 100 + i, **figures} for i in range(count)]


def test_a_critic_has_won_or_died_only_after_many_lines_that_say_so() -> None:
    assert runs.critic_state(critic_log(0.97, 0.5)) == "critic wins"
    assert runs.critic_state(critic_log(0.5, 1e-5)) == "critic dead"
    assert runs.critic_state(critic_log(0.5, 0.5)) is None  # what the encoder wants
    assert runs.critic_state(critic_log(0.85, 1e-5)) is None
    assert runs.critic_state(critic_log(0.97, 0.5, count=49)) is None
    late = [*critic_log(0.97, 0.5, count=49), {"step": 200, "score": 0.5}]
    assert runs.critic_state(late) is None
    assert runs.critic_state([*critic_log(0.97, 0.5), *critic_log(0.9, 0.5, count=1)]) is None
    assert runs.critic_state(critic_log(0.97, 0.5, confusion=0)) is None  # before its start
    assert runs.critic_state([{"step": n, "critic": 1.0} for n in range(99)]) is None
