"""Level-1C products to Level-2A, by the sen2cor that the user has."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import psutil
from pydantic import ValidationError

from rsdata import scenes
from rsdata.errors import CorrectionError, RecipeError, RsdataError, SceneError, WorkspaceError
from rsdata.recipe import Recipe, Sen2cor
from rsdata.records import (
    Correction,
    Quarantine,
    Receipt,
)
from rsdata.steps.inputs import locate_inputs
from rsdata.steps.receipts import Outcome, once, read_receipt
from rsdata.workspace import Workspace, read_record, write_record
from rsdata.writing import writing, writing_folder


def sen2cor_options(recipe: Recipe) -> Sen2cor | None:
    """How a recipe wants Level-1C products corrected, its paths made absolute; None if it does not."""
    if recipe.sen2cor is None:
        return None
    paths = ("gipp", "gipp_sc", "gipp_ac", "gipp_pb", "dem", "home", "tables")
    given = {name: recipe.absolute(path) for name in paths if (path := getattr(recipe.sen2cor, name))}
    program = recipe.sen2cor.program
    if program and "/" in program:
        given["program"] = recipe.absolute(program)
    return recipe.sen2cor.model_copy(update=given)


def make_sen2cor_options(given: Mapping[str, object]) -> Sen2cor:
    """Settings of sen2cor as given on a command line.

    Raises: RecipeError naming the first that cannot be.
    """
    try:
        return Sen2cor.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise RecipeError(f"`{'.'.join(map(str, first['loc']))}` is {first['input']!r}: {first['msg']}") from error


def uncorrected_products(recipe: Recipe, workspace: Workspace) -> list[Path]:
    """The Level-1C products among those a recipe names; what cannot be opened is left for ``find_scenes`` to report."""
    found = []
    for path in scenes.expand(locate_inputs(recipe, workspace).sentinel2) if recipe.sen2cor else []:
        try:
            if scenes.open_sentinel2(path).scene.level == "L1C":
                found.append(path)
        except RsdataError:
            continue
    return found


CORRECTION_BYTES = scenes.sen2cor.MEMORY_BYTES  # of one correction at most


def corrections_at_once(products: int, options: Sen2cor, workers: int) -> int:
    """How many products may be corrected at a time: as set, else by workers and free memory, 8 GiB for each."""
    by_memory = psutil.virtual_memory().available // CORRECTION_BYTES
    return max(1, min(products, options.at_once or min(workers, by_memory)))


def correct_scene(path: Path, options: Sen2cor, workspace: Workspace) -> Outcome:
    """Have sen2cor make a Level-2A product of a Level-1C product, and move it into the workspace once it was found whole.

    A failure leaves the log, the reason and what there is of the output in the workspace's quarantine.

    Args:
        workspace: where ``<Level-2A name>.SAFE``, receipts, logs and the quarantine lie.

    Raises: SceneError if the input cannot be corrected or no attempt gave a whole product.
    """
    source = scenes.sen2cor.open_l1c(path)
    unit = source.scene.product
    program = scenes.sen2cor.installed(options.program)
    record_path = workspace.part("correct", unit, ".json")

    def work() -> tuple[list[Path], dict[str, int]]:
        before = _correction_record(unit, workspace)
        with scenes.sen2cor.scratch_folder(workspace.scratch, unit) as scratch:
            try:
                made = scenes.sen2cor.correct(source, program, options, scratch)
            except SceneError as error:
                folder = _quarantine(error, source, program.version, scratch, workspace)
                raise CorrectionError(f"{error}; what is known lies in {folder}", **error.context) from error
            except WorkspaceError:
                raise
            except OSError as error:
                reason = error.strerror or str(error)
                raise WorkspaceError(f"{scratch} cannot be written: {reason}; free space or name another folder") from error
            target = workspace.root / f"{made.product.scene.product}.SAFE"
            record = Correction(
                source=unit,
                source_sha256=source.files.sha256(),
                product=made.product.scene.product,
                folder=target.name,
                sen2cor_version=program.version,
                resolution=options.resolution,
                command=made.command,
                mended=made.mended,
                attempts=made.attempts,
            )
            # From here on the record names the product that is about to appear, so that a rerun after a kill replaces it.
            write_record(record_path, record)
            with writing(workspace.log("correct", unit)) as aside:
                shutil.copyfile(scratch / "log.txt", aside)
            with writing_folder(target) as aside:
                scenes.sen2cor.settle(Path(made.product.files.path), aside)
        if before is not None and before.folder != target.name:
            shutil.rmtree(workspace.root / Path(before.folder).name, ignore_errors=True)
        shutil.rmtree(workspace.quarantine(unit), ignore_errors=True)
        files = sorted(file for file in target.rglob("*") if file.is_file())
        return [record_path, *files], {"files": len(files), "mended": len(made.mended), "attempts": made.attempts}

    key = {**_correction_key(source, options), "sen2cor": program.version}
    with scenes.sen2cor.held(workspace.scratch, unit):
        return once("correct", unit, workspace, key, work)


def check_sen2cor(options: Sen2cor) -> str:
    """The version of the sen2cor that would run.

    Raises: CorrectionError if there is none, or it does not answer.
    """
    return scenes.sen2cor.installed(options.program).version


def stop_corrections(workspace: Workspace) -> None:
    """End every sen2cor that this process runs for a workspace."""
    scenes.sen2cor.stop_all(workspace.scratch)


def correction_of(receipt: Receipt, workspace: Workspace) -> Correction:
    """How the Level-2A product that a receipt vouches for came about."""
    return read_record(workspace.part("correct", receipt.unit, ".json"), Correction)


def _correction_key(source: scenes.Sentinel2Product, options: Sen2cor) -> dict[str, str]:
    return {"l1c": source.files.signature(), "options": scenes.sen2cor.options_digest(options)}


def _correction_record(unit: str, workspace: Workspace) -> Correction | None:
    try:
        return read_record(workspace.part("correct", unit, ".json"), Correction)
    except WorkspaceError:
        return None


def corrected_product(product: scenes.Sentinel2Product, recipe: Recipe, workspace: Workspace) -> scenes.Sentinel2Product:
    """The Level-2A product made of a Level-1C product, where the recipe corrects; any other product as it is.

    Raises: CorrectionError if it has not been made, or was made of other files or with other settings.
    """
    options = sen2cor_options(recipe)
    if options is None or product.scene.level != "L1C":
        return product
    made, unit = workspace.corrected, product.scene.product
    if made.receipt_path("correct", unit).exists():
        receipt = read_receipt("correct", unit, made)
        as_asked = all(receipt.inputs.get(name) == value for name, value in _correction_key(product, options).items())
        if as_asked and made.finished("correct", unit, receipt.key):
            return scenes.open_sentinel2(made.root / correction_of(receipt, made).folder)
    raise CorrectionError(f"{product.files.path} has not been corrected yet; do the stage `correct` first", path=str(product.files.path))


def _quarantine(error: SceneError, source: scenes.Sentinel2Product, version: str, scratch: Path, workspace: Workspace) -> Path:
    """Keep what a failed correction left, without the copy of its input."""
    unit = source.scene.product
    shutil.rmtree(scratch / "input", ignore_errors=True)
    reason = Quarantine(
        source=unit,
        path=str(source.files.path),
        error=type(error).__name__,
        message=str(error),
        sen2cor_version=version,
        command=list(error.context.get("command", [])),  # type: ignore[call-overload]
        attempts=int(error.context.get("attempts", 0)),  # type: ignore[call-overload]
    )
    with writing_folder(workspace.quarantine(unit)) as aside:
        for item in sorted(scratch.iterdir()):
            if item.name != "lock":
                shutil.move(item, aside / item.name)
        write_record(aside / "reason.json", reason)
    return workspace.quarantine(unit)
