"""The scores of `report` in words: five lines, tables, a page, and what stands on a card."""

import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dida_cli.config import PARTS

TITLES = {  # of the sections of a direction that are tables as they are
    "classification": "Attribute classification",
    "guide_type": "Guide fidelity, by kind",
    "retrieval": "Guide fidelity, by retrieval",
    "truth": "Against the true answer",
    "told_apart": "Told apart from real pictures",
    "beside": "Beside the part",
    "realism": "Realism and likeness ({features})",
    "removal": "Removal of both parts",
    "segmentation": "Segmentation by the mask",
    "classifier_accuracy": "The classifier on real pictures",
}
KEPT = ("beard", "hair", "skin", "eyebrows", "eyes")  # that a card tells first
NONE = "-"  # there is no such figure

Row = Mapping[str, Any]  # the sections of one direction
Say = Callable[[Any], str]
Figures = Mapping[str, Callable[[Row], str]]  # what is told of each direction, by name


@dataclass(frozen=True)
class Table:
    """One table for people: a title, column heads, rows of words."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _decibels(value: float) -> str:
    return f"{value:.1f} dB"


def _number(value: float | None) -> str:
    if value is None:
        return NONE
    if float(value).is_integer():
        return str(int(value))
    if abs(value) < 0.01:
        return f"{value:.2g}"
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}"


def _figure(section: str, name: str, beside: str = "", say: Say = percent) -> Callable[[Row], str]:
    """Says a figure of a direction, and in brackets what it is to be held against."""

    def told(row: Row) -> str:
        if not (found := row.get(section)) or name not in found:
            return NONE
        return say(found[name]) + (f" ({say(found[beside])})" if beside else "")

    return told


KIND = _figure("guide_type", "guide_type", "guide_type_chance")
REMOVED = _figure("removal", "removed")
INSIDE = _figure("truth", "psnr_inside", "psnr_inside_of_content", _decibels)
WHOLE = _figure("truth", "psnr", "psnr_of_content", _decibels)
TOLD_APART = _figure("told_apart", "told_apart", "told_apart_of_real")

HEADLINES: Figures = {
    "target domain": _figure("classification", "target"),
    "guide's kind (chance)": KIND,
    "part gone after removal": REMOVED,
    "PSNR inside (copying)": INSIDE,
    "told apart (real from real)": TOLD_APART,
}
SEEN: Figures = {
    "PSNR inside, where it should change or did (copying)": INSIDE,
    "PSNR of the whole picture (copying)": WHOLE,
    "told apart from real pictures, 50 % is perfect (real from real)": TOLD_APART,
}


def headlines(result: Mapping[str, Any]) -> list[str]:
    """Five lines that say what edits are worth, each for every direction."""
    lines = []
    for name, figure in HEADLINES.items():
        cells = [f"{way} {figure(row):<18}" for way, row in result["directions"].items()]
        lines.append(f"{name:<29}{'  '.join(cells)}".rstrip())
    return lines


def _rows(figures: Figures, directions: Iterable[Row]) -> list[list[str]]:
    return [[name, *map(figure, directions)] for name, figure in figures.items()]


def _told(rows: Iterable[list[str]]) -> list[list[str]]:
    """The rows that have any figure."""
    return [row for row in rows if set(row[1:]) != {NONE}]


def tables(result: Mapping[str, Any]) -> list[Table]:
    """The result as tables, a column for each direction; never a mean that hides one."""
    rows, head = [*result["directions"].values()], ["figure", *result["directions"]]
    made = [Table("As people see it", head, _told(_rows(SEEN, rows))), *_domain(result["codes"])]
    for key, title in TITLES.items():
        if names := {name: None for row in rows for name in row.get(key) or ()}:
            figures = {name: _figure(key, name, say=_number) for name in names}
            made.append(Table(title.format(**result), head, _rows(figures, rows)))
    made += _groups(result["directions"])
    if "segmentation" in rows[0] and rows[0]["segmentation"] is None:
        made.append(Table("Segmentation", ["figure"], [["this model has no mask"]]))
    if kept := rows[0].get("preservation"):
        title = "Preserved factors, after (in real contents; in true answers)"
        figures = {name: _kept(name, _number) for name in kept}
        made.append(Table(title, ["factor", *result["directions"]], _rows(figures, rows)))
    return made + (_code_tables(result) if result["codes"] else [])


def _groups(directions: Mapping[str, Row]) -> list[Table]:
    """How many edits worked, by what is known of their contents."""
    if not any(row.get("groups") for row in directions.values()):
        return []
    names = sorted({name for row in directions.values() for name in row["groups"]})

    def told(row: Row, name: str) -> str:
        found = row["groups"].get(name)
        return f"{percent(found['target'])} of {found['pairs']}" if found else NONE

    rows = [[name, *(told(r, name) for r in directions.values())] for name in names]
    return [Table("Given to the target, by group", ["group", *directions], rows)]


def _domain(codes: Mapping[str, Any]) -> list[Table]:
    if "domain" not in codes:
        return []
    head = ["common code", "the pixels themselves", "chance"]
    row = [percent(codes["domain"][name]) for name in ("common", "pixels", "chance")]
    return [Table("The domain as a linear probe names it", head, [row])]


def _kept(factor: str, say: Say) -> Callable[[Row], str]:
    """Says how often one factor is preserved."""

    def told(row: Row) -> str:
        cell = row["preservation"][factor]
        after, before, truth = (say(cell[f"preserved{of}"]) for of in ("", "_real", "_of_truth"))
        return f"{after} ({before}; {truth})"

    return told


def _code_tables(result: Mapping[str, Any]) -> list[Table]:
    """What probes read from codes, and how far these are apart; what a model has no code for is
    left out."""
    codes, domains = result["codes"], result["domains"]
    words = {"common": "common"} | {part: f"{part} ({domains[part]})" for part in PARTS}
    columns = [words[code] for code in next(iter(codes["probes"].values()))]
    read = {code: _figure(code, "accuracy", "chance", _number) for code in words}
    rows = [[factor, *(read[code](row) for code in row)] for factor, row in codes["probes"].items()]
    title = "What a linear probe reads from each code (chance)"
    apart = [["leak", *map(_number, codes["leak"].values())]]
    for kind in next(iter(codes["independence"].values()), ()):
        apart.append(
            [kind, *(_number(codes["independence"][part][kind]) for part in codes["leak"])]
        )
    parts = [words[part] for part in codes["leak"]]
    return [
        Table(title, ["factor", *columns], rows),
        Table("Codes apart", ["figure", *parts], apart),
    ]


def card_tables(result: Mapping[str, Any]) -> str:
    """The scores as they stand on a model's card, in markdown: the first ones, then all tables."""
    return (
        f"## Scores\n\n{_lines(scores(result))}\n\n"
        "## All tables\n\nDefinitions are printed by `dida evaluate --all`.\n\n"
        f"{markdown(tables(result))}"
    )


CARD: Figures = {
    "given to the target domain (95 % interval)": lambda row: _target(row["classification"]),
    "the guide's own kind recognised (chance)": KIND,
    "content's part gone after remove-attribute": REMOVED,
    "PSNR to the true answer (of copying the content)": WHOLE,
    "the same inside, where it should change or did": INSIDE,
    "told apart from real pictures, 50 % is perfect (real from real)": TOLD_APART,
    "mask against the true region, IoU (of everything)": _figure(
        "segmentation", "iou", "iou_of_all", "{:.2f}".format
    ),
    "change outside the true region, levels of 255 (foreign drawings)": _figure(
        "segmentation", "changed_outside", "changed_outside_foreign", "{:.2f}".format
    ),
    "largest change where the mask is 0, levels of 255": _figure(
        "segmentation", "changed_unmasked", say=_number
    ),
    "the judge right on these real pictures": _figure("classification", "classifier_accuracy"),
    "the right guide among so many": lambda row: (
        f"{percent(row['retrieval']['retrieval_first'])} of {row['retrieval']['candidates']}"
        if "beside" in row and "retrieval" in row
        else NONE
    ),
    "share of a picture that is painted on": _figure("beside", "painted"),
    "mean change of pictures that lack it, taken off, levels of 255": _figure(
        "beside", "left_alone", say=_number
    ),
}


def scores(result: Mapping[str, Any]) -> Table:
    """What one wants to know first, a column for each direction; rows without any figure go."""
    directions = list(result["directions"].values())
    rows = _rows(CARD, directions)
    if preserved := directions[0].get("preservation"):
        kept = {
            f"{name} kept (in real pictures; in true answers)": _kept(name, percent)
            for name in KEPT
            if name in preserved
        }
        rows += _rows(kept, directions)
    if domain := result["codes"].get("domain"):
        told = "{common} ({pixels}; {chance})".format(
            **{name: percent(share) for name, share in domain.items()}
        )
        name = "domain named from the common code (from pixels; chance)"
        rows.append([name, *[told] * len(directions)])
    head = [f"{result['pairs']} unseen pairs each way", *result["directions"]]
    return Table("Scores", head, _told(rows))


def _target(found: Mapping[str, float]) -> str:
    low, high = (f"{100 * found[f'target_{end}']:.1f}" for end in ("low", "high"))
    return f"{percent(found['target'])} ({low} - {high})"


def markdown(made: Sequence[Table]) -> str:
    """Tables for a model card, each below its title."""
    return "\n\n".join(f"### {table.title}\n\n{_lines(table)}" for table in made) + "\n"


def _lines(table: Table) -> str:
    head, *rows = ("| " + " | ".join(map(_cell, row)) + " |" for row in (table.head, *table.rows))
    return "\n".join([head, "|" + "---|" * len(table.head), *rows])


def _cell(words: str) -> str:
    """Words, names of people's own among them, in a cell of markdown."""
    shown = html.escape(" ".join(words.split()), quote=False)
    return "".join(f"\\{letter}" if letter in "\\`*[]|" else letter for letter in shown)


def page(result: Mapping[str, Any], made: Sequence[Table], pictures: Mapping[str, str]) -> str:
    """A page of all tables, definitions and pictures; `pictures` maps file names to captions."""
    escape = html.escape
    facts = (f"{name} {result[name]}" for name in ("dida", "torch", "model", "seed", "pairs"))
    shown = (
        f'<figure><img src="{escape(file)}" alt=""><figcaption>{escape(said)}</figcaption></figure>'
        for file, said in pictures.items()
    )
    defined = (
        f"<dt>{escape(f'{section}: {name}')}</dt><dd>{escape(words)}</dd>"
        for section, meanings in result["definitions"].items()
        for name, words in meanings.items()
    )
    return PAGE.format(
        title=f"dida evaluate: {escape(str(result['model']))}",
        facts=escape(", ".join(facts)),
        lines=escape("\n".join(headlines(result))),
        pictures="".join(shown),
        tables="".join(map(_html, made)),
        definitions="".join(defined),
    )


def _html(table: Table) -> str:
    tagged = [("th", table.head), *(("td", row) for row in table.rows)]
    rows = ("".join(f"<{tag}>{html.escape(word)}</{tag}>" for word in row) for tag, row in tagged)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<h2>{html.escape(table.title)}</h2><table>{body}</table>"


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: auto; padding: 1rem }}
table {{ border-collapse: collapse; margin-bottom: 2rem }}
th, td {{ text-align: left; padding: .2rem .8rem; border-bottom: 1px solid #ccc }}
img {{ max-width: 100% }} dt {{ font-weight: 600 }} pre {{ overflow-x: auto }}
</style>
<h1>{title}</h1><p>{facts}</p><pre>{lines}</pre>{pictures}{tables}
<h2>Definitions</h2><dl>{definitions}</dl></html>
"""
