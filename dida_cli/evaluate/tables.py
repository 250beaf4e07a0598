"""The scores of `report` in words: five lines, tables, a page, and what stands on a card."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dida_cli.config import PARTS

TITLES = {  # of the sections of a direction that are tables as they are
    "classification": "Attribute classification",
    "guide_type": "Guide fidelity, by kind",
    "retrieval": "Guide fidelity, by retrieval",
    "truth": "Against the true answer",
    "told_apart": "Told apart from real pictures",
    "realism": "Realism and likeness ({features})",
    "removal": "Removal of both parts",
    "segmentation": "Segmentation by the mask",
    "classifier_accuracy": "The classifier on real pictures",
}
KEPT = ("beard", "hair", "skin", "eyebrows", "eyes")  # that a card tells first
NONE = "-"  # there is no such figure

Row = Mapping[str, Any]  # the sections of one direction


@dataclass(frozen=True)
class Table:
    """One table for people: a title, column heads, rows of words."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def headlines(result: Mapping[str, Any]) -> list[str]:
    """Five lines that say what edits are worth, each for every direction."""
    lines = []
    for name, figure in {
        "target domain": _target,
        "guide's kind (chance)": _kind,
        "part gone after removal": _removed,
        "PSNR inside (copying)": _inside,
        "told apart (real from real)": _told_apart,
    }.items():
        told = {way: figure(row) for way, row in result["directions"].items()}
        cells = [f"{way} {words:<18}" for way, words in told.items()]
        lines.append(f"{name:<29}{'  '.join(cells)}".rstrip())
    return lines


def _target(row: Row) -> str:
    return _percent(row["classification"]["target"])


def _kind(row: Row) -> str:
    return _pair(row.get("guide_type"), "guide_type", "guide_type_chance", _percent)


def _removed(row: Row) -> str:
    return _percent(row["removal"]["removed"]) if row.get("removal") else NONE


def _inside(row: Row) -> str:
    return _pair(row.get("truth"), "psnr_inside", "psnr_inside_of_content", _decibels)


def _whole(row: Row) -> str:
    return _pair(row.get("truth"), "psnr", "psnr_of_content", _decibels)


def _told_apart(row: Row) -> str:
    return _pair(row["told_apart"], "told_apart", "told_apart_of_real", _percent)


def _pair(section: Row | None, name: str, beside: str, say: Any) -> str:
    """A figure, and in brackets what it is to be held against."""
    return f"{say(section[name])} ({say(section[beside])})" if section else NONE


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _decibels(value: float) -> str:
    return f"{value:.1f} dB"


def tables(result: Mapping[str, Any]) -> list[Table]:
    """The result as tables, a column for each direction; never a mean that hides one."""
    directions = result["directions"]
    made = [_seen(directions), *_domain(result["codes"])]
    for key, title in TITLES.items():
        told = next((row[key] for row in directions.values() if row.get(key)), None)
        if not told:
            continue
        rows = [
            [name, *(_number((row[key] or {}).get(name)) for row in directions.values())]
            for name in told
        ]
        made.append(Table(title.format(**result), ["figure", *directions], rows))
    first = next(iter(directions.values()))
    if "segmentation" in first and first["segmentation"] is None:
        made.append(Table("Segmentation", ["figure"], [["this model has no mask"]]))
    if "preservation" in first:
        made.append(_preservation(directions))
    return made + _code_tables(result)


def _seen(directions: Mapping[str, Row]) -> Table:
    """What people see of edits."""
    figures = {
        "PSNR inside, where it should change or did (copying)": _inside,
        "PSNR of the whole picture (copying)": _whole,
        "told apart from real pictures, 50 % is perfect (real from real)": _told_apart,
    }
    rows = [[name, *map(figure, directions.values())] for name, figure in figures.items()]
    return Table("As people see it", ["figure", *directions], rows)


def _domain(codes: Mapping[str, Any]) -> list[Table]:
    if "domain" not in codes:
        return []
    head = ["common code", "the pixels themselves", "chance"]
    row = [_percent(codes["domain"][name]) for name in ("common", "pixels", "chance")]
    return [Table("The domain as a linear probe names it", head, [row])]


def _preservation(directions: Mapping[str, Row]) -> Table:
    names = next(iter(directions.values()))["preservation"]
    rows = [
        [name, *(_kept(row["preservation"][name], _number) for row in directions.values())]
        for name in names
    ]
    title = "Preserved factors, after (in real contents; in true answers)"
    return Table(title, ["factor", *directions], rows)


def _kept(cell: Mapping[str, float], say: Any) -> str:
    """One factor of one direction, in words."""
    after, before, truth = (
        say(cell[f"preserved{suffix}"]) for suffix in ("", "_real", "_of_truth")
    )
    return f"{after} ({before}; {truth})"


def _code_tables(result: Mapping[str, Any]) -> list[Table]:
    """What probes read from codes, and how far these are apart; what a model has no code for is
    left out."""
    codes, domains = result["codes"], result["domains"]
    columns = list(next(iter(codes["probes"].values())))
    words = {"common": "common"} | {part: f"{part} ({domains[part]})" for part in PARTS}
    rows = [
        [
            factor,
            *(f"{_number(row[c]['accuracy'])} ({_number(row[c]['chance'])})" for c in columns),
        ]
        for factor, row in codes["probes"].items()
    ]
    probed = Table(
        "What a linear probe reads from each code (chance)",
        ["factor", *(words[c] for c in columns)],
        rows,
    )
    parts = list(codes["leak"])
    rows = [["leak", *(_number(codes["leak"][part]) for part in parts)]]
    for kind in next(iter(codes["independence"].values()), ()):
        rows.append([kind, *(_number(codes["independence"][part][kind]) for part in parts)])
    return [probed, Table("Codes apart", ["figure", *(words[part] for part in parts)], rows)]


def _number(value: float | None) -> str:
    if value is None:
        return NONE
    if float(value).is_integer():
        return str(int(value))
    if abs(value) < 0.01:
        return f"{value:.2g}"
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}"


def card_tables(result: Mapping[str, Any]) -> str:
    """The scores as they stand on a model's card, in markdown: the first ones, then all tables."""
    return (
        f"## Scores\n\n{_lines(scores(result))}\n\n"
        "## All tables\n\nDefinitions are printed by `dida evaluate --all`.\n\n"
        f"{markdown(tables(result))}"
    )


def scores(result: Mapping[str, Any]) -> Table:
    """What one wants to know first, a column for each direction; rows without any figure go."""
    directions = list(result["directions"].values())
    figures: dict[str, Any] = {
        "given to the target domain (95 % interval)": _target_between,
        "the guide's own kind recognised (chance)": _kind,
        "content's part gone after remove-attribute": _removed,
        "PSNR to the true answer (of copying the content)": _whole,
        "the same inside, where it should change or did": _inside,
        "told apart from real pictures, 50 % is perfect (real from real)": _told_apart,
        "mask against the true region, IoU (of everything)": _overlap,
        "change outside the true region, levels of 255 (foreign drawings)": _outside,
        "largest change where the mask is 0, levels of 255": _unmasked,
    }
    rows = [[name, *map(figure, directions)] for name, figure in figures.items()]
    if all("preservation" in row for row in directions):
        rows += [
            [
                f"{name} kept (in real pictures; in true answers)",
                *(_kept(row["preservation"][name], _percent) for row in directions),
            ]
            for name in KEPT
            if name in directions[0]["preservation"]
        ]
    if domain := result["codes"].get("domain"):
        told = "{common} ({pixels}; {chance})".format(
            **{name: _percent(share) for name, share in domain.items()}
        )
        rows.append(
            ["domain named from the common code (from pixels; chance)", *[told] * len(directions)]
        )
    head = [f"{result['pairs']} unseen pairs each way", *result["directions"]]
    return Table("Scores", head, [row for row in rows if set(row[1:]) != {NONE}])


def _target_between(row: Row) -> str:
    found = row["classification"]
    low, high = (f"{100 * found[f'target_{end}']:.1f}" for end in ("low", "high"))
    return f"{_percent(found['target'])} ({low} - {high})"


def _overlap(row: Row) -> str:
    return _pair(row.get("segmentation"), "iou", "iou_of_all", "{:.2f}".format)


def _outside(row: Row) -> str:
    found = row.get("segmentation")
    return _pair(found, "changed_outside", "changed_outside_foreign", "{:.2f}".format)


def _unmasked(row: Row) -> str:
    return _number(row["segmentation"]["changed_unmasked"]) if row.get("segmentation") else NONE


def markdown(made: Sequence[Table]) -> str:
    """Tables for a model card, each below its title."""
    return "\n\n".join(f"### {table.title}\n\n{_lines(table)}" for table in made) + "\n"


def _lines(table: Table) -> str:
    rows = [table.head, ["---"] * len(table.head), *table.rows]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines[1] = "|" + "---|" * len(table.head)
    return "\n".join(lines)


def page(result: Mapping[str, Any], made: Sequence[Table], pictures: Mapping[str, str]) -> str:
    """A page of all tables, definitions and pictures; `pictures` maps file names to captions."""
    sections = []
    for table in made:
        head = "".join(f"<th>{html.escape(word)}</th>" for word in table.head)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(word)}</td>" for word in row) + "</tr>"
            for row in table.rows
        )
        title = html.escape(table.title)
        sections.append(f"<h2>{title}</h2><table><tr>{head}</tr>{body}</table>")
    shown = "".join(
        f'<figure><img src="{html.escape(file)}" alt=""><figcaption>{html.escape(words)}'
        "</figcaption></figure>"
        for file, words in pictures.items()
    )
    defined = "".join(
        f"<dt>{html.escape(f'{section}: {name}')}</dt><dd>{html.escape(words)}</dd>"
        for section, meanings in result["definitions"].items()
        for name, words in meanings.items()
    )
    facts = ", ".join(
        f"{name} {result[name]}" for name in ("dida", "torch", "model", "seed", "pairs")
    )
    return PAGE.format(
        title=f"dida evaluate: {html.escape(str(result['model']))}",
        facts=html.escape(facts),
        lines=html.escape("\n".join(headlines(result))),
        pictures=shown,
        tables="".join(sections),
        definitions=defined,
    )


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
