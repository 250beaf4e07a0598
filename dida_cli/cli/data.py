"""The commands that make training data: avatars, split."""

from pathlib import Path
from typing import Annotated

import typer

from dida_cli.cli import console
from dida_cli.cli.options import WithOpt, WithoutOpt
from dida_cli.errors import DidaError

app = typer.Typer(help="Make and split training pictures.", no_args_is_help=False)


@app.command()
def avatars(
    out: Annotated[Path, typer.Option(help="Folder to draw into.")] = Path("avatars"),
    count: Annotated[int, typer.Option(min=1, max=999_999, help="How many faces.")] = 24_000,
    seed: Annotated[
        int, typer.Option(min=0, help="Which faces; the same seed, the same bytes.")
    ] = 0,
    side: Annotated[int, typer.Option(min=32, max=256, help="Side of a picture in pixels.")] = 128,
) -> None:
    """Draw faces whose smile, glasses and beard are known, in the layout of CelebA.

    Goes on where it was stopped. All cores are used; 24,000 faces take some minutes.
    """
    from dida_cli.data.avatars import write_set

    with console.progress("drawing", "faces") as report:
        write_set(out, count=count, seed=seed, side=side, on_progress=report)
    console.out(str(out))


@app.command()
def split(
    data: Annotated[
        Path, typer.Option(help="Folder with list_attr_celeba.txt and its pictures.")
    ] = Path("avatars"),
    a: Annotated[str, typer.Option(help="What A has: an attribute, or an expression.")] = "Smiling",
    b: Annotated[
        str, typer.Option(help="What B has: an attribute, or an expression.")
    ] = "Eyeglasses",
    having: WithOpt = None,
    lacking: WithoutOpt = None,
    out: Annotated[
        Path, typer.Option(help="New folder to hold trainA, trainB, testA, testB.")
    ] = Path("split"),
    link: Annotated[bool, typer.Option(help="Link to the pictures instead of copying.")] = False,
) -> None:
    """Sort pictures into exclusive domains: A has --a and lacks --b, B the other way round.

    An expression names attributes with not, and, or: --a "Mustache or Goatee or not No_Beard".
    Pictures of the list's validation part are left out, as nothing learned may have seen them.
    """
    from dida_cli.data import celeba, folders

    selection = celeba.Selection(a, b, tuple(having or ()), tuple(lacking or ()))
    parts = celeba.from_attributes(data, selection)
    train, test = parts[celeba.TRAIN], parts[celeba.TEST]
    wanted = {"trainA": train.a, "trainB": train.b, "testA": test.a, "testB": test.b}
    if out.exists() and any(out.iterdir()):
        raise DidaError(f"{out}: is not empty; choose another folder with --out")
    with console.progress("copying", "pictures") as report:
        folders.write_folders(out, wanted, link=link, on_progress=report)
    for name, files in wanted.items():
        console.out(f"{out / name}\t{len(files)}")
