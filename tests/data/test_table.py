"""Pictures that CSV files tell of, in a folder or in an archive."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_picture

from dida_cli.data import folders, sources, table
from dida_cli.data.batches import Batches
from dida_cli.data.folders import Split
from dida_cli.data.frames import Bank
from dida_cli.errors import DidaError
from dida_cli.players import Pairs

PARTS: folders.Names = {"a": ("smile", "not smile")}
COUNT = 40


def written(root: Path, columns: str = "smile,person", count: int = COUNT) -> Path:
    """A folder with a table: every second picture smiles, every four are of one person."""
    lines = [f"file,{columns}"]
    for index in range(count):
        write_picture(root / "some" / f"{index}.png", seed=index)
        known = {"smile": index % 2, "person": f"p{index // 4}", "partition": index % 3}
        lines.append(",".join([f"{index}.png", *(str(known[c]) for c in columns.split(","))]))
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


def packed(root: Path) -> Path:
    """The same as an archive."""
    archive = root.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w") as made:
        for path in sorted(root.rglob("*.*")):
            made.write(path, path.relative_to(root))
    return archive


def numbers(split: Split) -> dict[str, list[int]]:
    return {
        kind: [int(Path(f.name).stem) for f in sets.files] for kind, sets in split.kinds.items()
    }


@pytest.mark.parametrize("make", [lambda root: root, packed], ids=["folder", "archive"])
def test_pictures_are_chosen_by_a_table(tmp_path: Path, make: object) -> None:
    root = make(written(tmp_path / "set"))  # type: ignore[operator]
    assert sources.is_labelled(root) and not sources.is_drawn(root)
    split = sources.split(root, PARTS)
    train = split.train
    assert all(int(Path(file.name).stem) % 2 for file in train.having("a"))
    assert not any(int(Path(file.name).stem) % 2 for file in train.lacking("a"))
    everyone = sorted(row for rows in numbers(split).values() for row in rows)
    assert everyone == list(range(COUNT))
    assert folders.load(train.files[:3], 32).shape == (3, 3, 32, 32)


def test_nobody_is_both_learned_from_and_held_out(tmp_path: Path) -> None:
    split = numbers(sources.split(written(tmp_path, count=200), PARTS, "person"))
    people = {kind: {row // 4 for row in rows} for kind, rows in split.items()}
    assert sum(map(len, people.values())) == 50  # of 200 pictures, four each
    assert min(len(people["validation"]), len(people["test"])) >= 2
    assert len(people["train"]) > 30


def test_a_column_says_what_a_picture_is_for(tmp_path: Path) -> None:
    split = numbers(sources.split(written(tmp_path, "smile,partition"), PARTS))
    kinds = {"train": 0, "validation": 1, "test": 2}
    assert all({row % 3 for row in rows} == {kinds[kind]} for kind, rows in split.items())


def test_a_partition_of_another_kind_is_refused(tmp_path: Path) -> None:
    root = written(tmp_path, "smile,partition")
    path = root / "labels.csv"
    path.write_text(path.read_text().replace("5.png,1,2", "5.png,1,learn"))
    with pytest.raises(DidaError, match=r"partition of 5\.png is 'learn'; 0 training"):
        sources.split(root, PARTS)


def test_a_batch_takes_as_many_of_each_group(tmp_path: Path) -> None:
    root = written(tmp_path, "smile,person", 80)
    path = root / "labels.csv"
    lines = path.read_text().splitlines()
    kinds = ["kind", *("rare" if index < 8 else "usual" for index in range(80))]
    path.write_text("\n".join(f"{line},{kind}" for line, kind in zip(lines, kinds, strict=True)))
    train = sources.split(root, PARTS, balance="kind").train
    pictures = folders.read(train.files, 32)
    batches = Batches(train, pictures, batch=4, seed=0, flip=False)
    seen: list[int] = []
    for step in range(30):
        taken = [int(Path(train.files[row].name).stem) for row in batches.taken("a", False, step)]
        assert sum(number < 8 for number in taken) == 2
        seen += taken
    assert set(seen) == {int(Path(file.name).stem) for file in train.having("a")}


def test_what_a_table_does_not_have_is_told(tmp_path: Path) -> None:
    root = written(tmp_path)
    for word in ("split_by", "balance"):
        with pytest.raises(DidaError, match=r"no attribute 'who' .*; it has smile, person"):
            sources.split(root, PARTS, **{word: "who"})
    with pytest.raises(DidaError, match="no attribute 'glasses'"):
        sources.split(root, {"a": ("glasses", "smile")})


def test_a_column_to_split_by_needs_a_table(domains: Path) -> None:
    with pytest.raises(DidaError, match=r"has no table with a column 'person'"):
        sources.split(domains, sources.DOMAINS, "person")


def test_folders_of_domains_are_taken_for_that_whatever_else_lies_there(domains: Path) -> None:
    (domains / "labels.csv").write_text("file,smile\n0.png,1\n")
    assert not sources.is_labelled(domains)
    assert len(sources.split(domains, sources.DOMAINS).train.having("a")) == 8


def test_a_listed_picture_that_is_not_there_is_named(tmp_path: Path) -> None:
    root = written(tmp_path)
    (root / "some" / "7.png").unlink()
    with pytest.raises(DidaError, match=r"7\.png is in its table, but no such picture"):
        sources.split(root, PARTS)


def test_a_table_without_pictures_names_is_refused(tmp_path: Path) -> None:
    (tmp_path / "money.csv").write_text("day,sum\n1,2\n")
    with pytest.raises(DidaError, match="no table whose first column names pictures"):
        table.read(tmp_path)


def test_drawn_pairs_are_pictures_without_a_part_and_the_same_with_it(tmp_path: Path) -> None:
    train = sources.split(written(tmp_path), PARTS).train
    pictures, bank = folders.read(train.files, 40), Bank(40, (0.1, 0.1, 0.8), seed=0)
    batches = Batches(train, pictures, batch=4, seed=0, flip=True, vary=32, put={"a": bank})
    batch, again = batches(5), batches(5)
    assert list(batch) == ["a", "a pairs"]
    pairs = batch["a pairs"]
    assert isinstance(pairs, Pairs)
    assert all(torch.equal(x, y) for x, y in zip(pairs, again["a pairs"], strict=True))
    assert pairs.has.shape == pairs.lacks.shape == (4, 3, 32, 32)
    assert torch.equal(pairs.lacks, batch["a"].lacks)
    change = (pairs.has - pairs.lacks).abs().amax(1)
    assert (change.amax((1, 2)) > 0.1).all() and change[:, 25:].max() < 0.02
    plain = Batches(train, pictures, batch=4, seed=0, flip=True, put={"a": bank})(5)["a pairs"]
    assert isinstance(plain, Pairs)
    after, before = (plain.has - plain.guide).abs(), (plain.lacks - plain.lacks.roll(-1, 0)).abs()
    assert (after <= before + 1e-5).all()  # of the next picture, and what is drawn the same on both
    assert (after < 0.7 * before - 0.05).flatten(1).any(1).all()
    assert len(batches.files(5)) == 8  # pairs are of files that are named already


def test_portraits_are_the_repositorys_unless_a_folder_here_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = sources.located(Path("portraits"))
    assert found.is_file() and sources.is_labelled(found)
    assert sources.located(Path("others")) == Path("others")
    monkeypatch.setattr(sources, "_ARCHIVE", tmp_path / "gone.zip")
    with pytest.raises(DidaError, match="portraits: come with dida's repository"):
        sources.located(Path("portraits"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "portraits").mkdir()
    assert sources.located(Path("portraits")) == Path("portraits")


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("prefix", ["", "img_align_celeba\\"])
def test_kaggles_celeba_is_read_as_it_is_unpacked(tmp_path: Path, suffix: str, prefix: str) -> None:
    inner = tmp_path / "img_align_celeba" / "img_align_celeba"
    lists = {"attr": "image_id,Smiling,Eyeglasses", "eval": "image_id,partition"}
    for index in range(12):
        write_picture(inner / f"{index:06d}{suffix}", seed=index)
        name = f"{prefix}{index:06d}.jpg"
        lists["attr"] += f"\n{name},{1 if index % 2 else -1},{-1 if index % 3 else 1}"
        lists["eval"] += f"\n{name},{0 if index < 8 else 1 if index < 10 else 2}"
    (tmp_path / "list_attr_celeba.csv").write_text(lists["attr"])
    parts: folders.Names = {"a": ("Smiling", "not Smiling")}
    whole = sources.split(tmp_path, parts)  # no partition: the last of each are held out
    assert whole.train.files and whole.validation.files
    (tmp_path / "list_eval_partition.csv").write_text(lists["eval"])
    split = sources.split(tmp_path, parts)
    assert [len(sets.files) for sets in split.kinds.values()] == [8, 2, 2]
    assert all(int(Path(file.name).stem) % 2 for file in split.train.having("a"))


def test_groups_are_made_even_by_taking_the_smaller_ones_again() -> None:
    groups = np.array([0, 1, 0, 0, 1, 0, 0])
    even = folders.even(np.array([0, 1, 2, 4, 5, 6]), groups)
    assert sorted(even.tolist()) == [0, 1, 1, 2, 4, 4, 5, 6]
    assert folders.even(np.array([2, 3]), groups).tolist() == [2, 3]
    assert not len(folders.even(np.array([], int), groups))
