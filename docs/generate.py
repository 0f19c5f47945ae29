"""Pages that are made from the code whenever the site is built: every key of a recipe, and every command with its options.

mkdocs runs ``on_files`` as a hook; nothing of it is kept, so nothing can go out of date.
"""

from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from typer.testing import CliRunner

from rsdata.commands import app
from rsdata.recipe import Part, Recipe


def recipe_page() -> str:
    """Every part of a recipe as a table of its keys."""
    lines = [
        "# Recipe reference",
        "",
        "Every key a recipe may have, made from the code that checks it. [Recipes](../recipes.md) shows them in use.",
    ]
    for name, part in parts(Recipe):
        first = " ".join((part.__doc__ or "").strip().split("\n\n")[0].split())
        lines += ["", f"## {name or 'The whole recipe'}", "", first, "", "| key | is | if left out | meaning |", "|---|---|---|---|"]
        for key, field in part.model_fields.items():
            lines.append(f"| `{key}` | {cell(said(field.annotation, field))} | {cell(default(field))} | {cell(field.description or '')} |")
    return "\n".join(lines) + "\n"


def parts(part: type[Part], name: str = "") -> Iterator[tuple[str, type[Part]]]:
    """A part of a recipe and all parts in it, by the keys that lead to them."""
    yield name, part
    for key, field in part.model_fields.items():
        for each in (field.annotation, *get_args(field.annotation)):
            if isinstance(each, type) and issubclass(each, Part):
                yield from parts(each, f"{name}.{key}".lstrip("."))


def said(annotation: Any, field: FieldInfo | None = None) -> str:
    """A type in words."""
    if isinstance(annotation, type) and issubclass(annotation, Part):
        return "a part of its own, below"
    kind, inside = get_origin(annotation), get_args(annotation)
    if kind is Annotated:
        return said(inside[0])
    if kind is Literal:
        words = " or ".join(f"`{each}`" for each in inside)
    elif kind in (Union, UnionType):
        words = ", or ".join(said(each) for each in inside if each is not type(None))
    elif kind is list:
        words = f"list of {said(inside[0])}"
    elif kind is tuple:
        words = f"{len(inside)} of: {said(inside[0])}"
    elif kind is dict:
        words = "names and values"
    else:
        words = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false", "datetime": "date and time"}.get(
            annotation.__name__, annotation.__name__
        )
    return words + (bounds(field) if field is not None else "")


def bounds(field: FieldInfo) -> str:
    """What a number may be, from its field."""
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    found = [f"{sign} {getattr(each, name):g}" for each in field.metadata for name, sign in signs.items() if hasattr(each, name)]
    return f", {' and '.join(found)}" if found else ""


def default(field: FieldInfo) -> str:
    """What a key is if it is left out."""
    if field.is_required():
        return "must be there"
    if field.default is PydanticUndefined or isinstance(field.default, Part):
        return "its own defaults"
    return {None: "none", True: "`true`", False: "`false`", "": "empty"}.get(
        field.default if isinstance(field.default, str | bool | None) else "…", f"`{field.default}`"
    )


def cell(text: str) -> str:
    """Text that may stand in a table."""
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def commands_page() -> str:
    """What every command prints with ``--help``."""
    lines = [
        "# Commands",
        "",
        "What every command of `rsdata` prints with `--help`. With `--json`, where it is listed, JSON takes the place of tables;",
        "a command exits with 0 only if all was done.",
    ]
    for words in verbs(typer.main.get_command(app), ()):
        printed = CliRunner().invoke(app, [*words, "--help"], prog_name="rsdata", env={"COLUMNS": "120", "TERMINAL_WIDTH": "120"}).stdout
        lines += ["", f"## rsdata {' '.join(words)}", "", "```text", *printed.strip().splitlines(), "```"]
    return "\n".join(lines) + "\n"


def verbs(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The words that call each command that does something."""
    inside = getattr(command, "commands", None)
    if inside is None:
        yield words
        return
    for name, each in inside.items():
        if not each.hidden:
            yield from verbs(each, (*words, name))


def on_files(files: Any, config: Any) -> Any:
    """Hook of mkdocs: adds the pages to those of the folder."""
    from mkdocs.structure.files import File

    for path, content in (("reference/recipe.md", recipe_page()), ("reference/commands.md", commands_page())):
        files.append(File.generated(config, path, content=content))
    return files
