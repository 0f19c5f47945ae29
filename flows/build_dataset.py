"""From scenes to shards, captions, a baseline and a report: one task per scene and stage, mapped over scenes.

Tasks run steps in worker processes (or on a Dask cluster) and pass only records and names. A scene that cannot
be used is set down as a failure and does not stop the others.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, as_completed
from prefect.task_runners import ThreadPoolTaskRunner

from rsdata import steps
from rsdata.errors import BuildFailed, RecipeError, RsdataError, WorkspaceError
from rsdata.recipe import Recipe, load_recipe
from rsdata.steps.processes import end_with_parent
from rsdata.workspace import Workspace

INPUT_STAGES = ("correct",)
SCENE_STAGES = ("scenes", "patches", "labels", "quality")
DATASET_STAGES = ("splits", "captions", "shards", "series", "catalog", "training", "report")


@dataclass(frozen=True)
class Event:
    """Something a person may want to see: ``total`` units lie ahead in a stage, one is done, or what goes on."""

    stage: str
    unit: str | None = None
    total: int = 0
    skipped: bool = False
    seconds: float = 0.0
    failed: str | None = None
    note: str | None = None


on_event: ContextVar[Callable[[Event], None]] = ContextVar("on_event", default=lambda event: None)


def _worth_another_try(task: Any, run: Any, state: Any) -> bool:
    """Bad input stays bad; a file system may recover."""
    try:
        state.result()
    except RsdataError as error:
        return isinstance(error, WorkspaceError)
    except Exception:
        return True
    return False


def _in_worker(pool: Executor, step: Callable[..., Any], *arguments: Any) -> Any:
    return pool.submit(step, *arguments).result()


scene_task: Any = task(retries=2, retry_delay_seconds=1, retry_condition_fn=_worth_another_try, cache_policy=NO_CACHE)(_in_worker)


@flow(name="build-dataset", validate_parameters=False)
def build_dataset(recipe_path: Path, root: Path, workers: int = 1, dask: str | None = None, only: Sequence[str] = ()) -> Path:
    """Build the dataset a recipe describes; return the path of its manifest.

    Args:
        workers: scenes worked on at a time.
        dask: address of a running Dask scheduler to work on instead.
        only: stages to do; all if empty. A stage needs those before it to be done.

    Raises: RsdataError if nothing can be built; BuildFailed if some scenes could not be used.
    """
    tell = on_event.get()
    recipe, workspace = load_recipe(recipe_path), Workspace.create(root)
    stages = (*SCENE_STAGES, *DATASET_STAGES)
    wanted = tuple(only) or (*INPUT_STAGES, *stages)
    if unknown := sorted(set(wanted) - {*INPUT_STAGES, *stages}):
        raise RecipeError(
            f"there is no stage {', '.join(unknown)}; stages are {', '.join(stages)}, and before them {', '.join(INPUT_STAGES)}"
        )

    if made := steps.make_inputs(recipe, workspace, lambda line: tell(Event("inputs", note=line))):
        _tell(tell, made)
    for fetched in steps.fetch_inputs(recipe, workspace, lambda line: tell(Event("inputs", note=line))):
        _tell(tell, fetched)
    failures = _correct(recipe, workspace, workers, dask) if "correct" in wanted else []
    found = steps.find_scenes(recipe, workspace)
    failures += [item for item in found.failures if item.unit not in {known.unit for known in failures}]
    products = len(found.pairs) + len(failures)
    with _executor(workers, steps.scenes_at_once(found.pairs, workers), dask) as (pool, threads):
        units, broken = _scene_stages(pool, threads, found, recipe, workspace, [s for s in SCENE_STAGES if s in wanted])
    failures += broken
    if not units:
        raise BuildFailed(f"not one scene of {recipe.name} could be used", failures=failures)

    for stage, step in {
        "splits": lambda: steps.assign_splits(units, recipe, workspace),
        "captions": lambda: steps.caption_patches(recipe, workspace, _counter(tell, "captions", "captions"), workers=workers),
        "shards": lambda: steps.pack_shards(units, recipe, workspace, _counter(tell, "shards", "entries")),
        "series": lambda: steps.make_series(units, recipe, workspace, workers, _counter(tell, "series", "places", every=100)),
        "catalog": lambda: steps.write_manifest(units, failures, recipe, workspace),
        "training": lambda: recipe.training and steps.train_baseline(recipe, workspace, recipe.training),
        "report": lambda: steps.write_report(recipe, workspace),
    }.items():
        if stage in wanted and not (stage in ("series", "training") and getattr(recipe, stage) is None):
            tell(Event(stage, total=1))
            _tell(tell, _dataset_task(stage)(step))
    if failures:
        raise BuildFailed(f"{len(failures)} of {products} products could not be used", failures=failures)
    return workspace.manifest


def build(recipe_path: Path, root: Path, workers: int = 1, dask: str | None = None, only: Sequence[str] = ()) -> Path:
    """Run ``build_dataset`` here; every scene that is worked on keeps a thread for each of its stages."""
    runner: Any = ThreadPoolTaskRunner(max_workers=len(SCENE_STAGES) * (workers + 1))
    return build_dataset.with_options(task_runner=runner)(recipe_path, root, workers, dask, only)


def _correct(recipe: Recipe, workspace: Workspace, workers: int, dask: str | None) -> list[Any]:
    """Correct the Level-1C products of a recipe that says how; return the failures."""
    from rsdata.flows.correct_scenes import run_corrections

    options = steps.sen2cor_options(recipe)
    if options is None or not (sources := steps.uncorrected_products(recipe, workspace)):
        return []
    return run_corrections(sources, options, Workspace.create(workspace.corrected.root), workers, dask)[1]


def _dataset_task(stage: str) -> Any:
    return task(name=stage, cache_policy=NO_CACHE)(lambda step: step())


def _scene_stages(
    pool: Executor, threads: int, found: steps.Found, recipe: Recipe, workspace: Workspace, stages: Sequence[str]
) -> tuple[list[str], list[Any]]:
    """Send every scene through its stages, each scene at its own pace; return those that came through."""
    tell = on_event.get()
    for stage in stages:
        tell(Event(stage, total=len(found.pairs)))
    futures: dict[PrefectFuture[Any], tuple[str, str]] = {}
    for pair in found.pairs:
        before: list[PrefectFuture[Any]] = []
        for stage in stages:
            arguments: tuple[Any, ...] = {
                "scenes": (steps.register_scene, pair, recipe, workspace, threads),
                "patches": (steps.cut_scene, pair.unit, recipe, workspace),
                "labels": (steps.label_scene, pair.unit, recipe, workspace),
                "quality": (steps.assess_scene, pair.unit, recipe, workspace, threads),
            }[stage]
            future: PrefectFuture[Any] = scene_task.with_options(name=f"{stage} {pair.unit}").submit(pool, *arguments, wait_for=before)
            futures[future] = (stage, pair.unit)
            before = [future]
    failures = {}
    for future in as_completed(list(futures)):
        stage, unit = futures[future]
        try:
            outcome = future.result()
        except RsdataError as error:
            failures[unit] = steps.failure(stage, unit, error)
            tell(Event(stage, unit, failed=str(error)))
        except Exception as error:  # a later stage of a scene that failed, or a worker that died
            if future.state.name != "NotReady":
                failures[unit] = steps.failure(stage, unit, error)
                tell(Event(stage, unit, failed=str(error)))
        else:
            _tell(tell, outcome)
    return [pair.unit for pair in found.pairs if pair.unit not in failures], [failures[unit] for unit in sorted(failures)]


def _counter(tell: Callable[[Event], None], stage: str, things: str, every: int = 1000) -> Callable[[int], None]:
    """Count what a long stage has done, and tell now and then."""
    count = 0

    def advance(n: int) -> None:
        nonlocal count
        count += n
        if count % every < n:
            tell(Event(stage, note=f"{count:,} {things}"))

    return advance


def _tell(tell: Callable[[Event], None], outcome: steps.Outcome) -> None:
    receipt = outcome.receipt
    tell(Event(receipt.stage, receipt.unit, skipped=outcome.skipped, seconds=receipt.seconds))


@contextmanager
def _executor(workers: int, at_once: int, dask: str | None) -> Iterator[tuple[Executor, int]]:
    """Where steps run, and how many threads each may use to decode bands."""
    if dask is not None:
        from distributed import Client

        with Client(dask) as client:
            yield client.get_executor(pure=False, retries=1), 1
        return
    threads = max(1, workers // at_once)
    if at_once == 1:
        with ThreadPoolExecutor(max_workers=1) as pool:
            yield pool, threads
        return
    with ProcessPoolExecutor(max_workers=at_once, mp_context=get_context("spawn"), initializer=end_with_parent) as processes:
        yield processes, threads
