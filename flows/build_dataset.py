"""From scenes to shards, captions, a baseline and a report: one task per scene and stage, a bounded number of scenes at a time.

Tasks run steps in worker processes (or on a Dask cluster) and pass only records and names. A scene that cannot
be used is set down as a failure and does not stop the others; a full disk stops them all.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner

from rsdata import steps
from rsdata.errors import BuildFailed, DiskFull, RecipeError, RsdataError, WorkspaceError
from rsdata.flows.server import server
from rsdata.flows.stopping import stopping
from rsdata.recipe import Recipe, load_recipe
from rsdata.steps.events import Event, Measured, Ran, on_event
from rsdata.workspace import Workspace

__all__ = ["Event", "build", "build_dataset", "on_event", "scene_task"]

INPUT_STAGES = ("correct",)
SCENE_STAGES = ("scenes", "patches", "labels", "quality")
DATASET_STAGES = ("splits", "captions", "shards", "series", "catalog", "training", "report")
PIXEL_STAGES = ("shards", "series")  # of the dataset, that write as much as scenes do
SCENES_AHEAD = 2  # scenes sent to the workers for each that they work on; the others wait here and cost nothing
_MOST_THREADS = 1024  # that wait for workers; as many are started as there are scenes under way

Tell = Callable[[Event], None]


class Work(Protocol):
    """Where steps run."""

    def submit(self, step: Callable[..., Any], *arguments: Any) -> Any: ...
    def slots(self) -> int: ...


def _worth_another_try(task: Any, run: Any, state: Any) -> bool:
    """Bad input stays bad and a full disk full; a file system may recover."""
    try:
        state.result()
    except RsdataError as error:
        return isinstance(error, WorkspaceError) and not isinstance(error, DiskFull)
    except Exception:
        return True
    return False


def _in_worker(work: Work, step: Callable[..., Any], *arguments: Any) -> Any:
    return work.submit(Measured(step), *arguments).result()


scene_task: Any = task(retries=2, retry_delay_seconds=1, retry_condition_fn=_worth_another_try, cache_policy=NO_CACHE)(_in_worker)


@flow(name="build-dataset", validate_parameters=False)
def build_dataset(recipe_path: Path, root: Path, workers: int = 1, dask: str | None = None, only: Sequence[str] = ()) -> Path:
    """Build the dataset a recipe describes; return the path of its manifest.

    Args:
        workers: scenes worked on at a time.
        dask: address of a running Dask scheduler to work on instead.
        only: stages to do; all if empty. A stage needs those before it to be done.

    Raises: RsdataError if nothing can be built; BuildFailed if some scenes could not be used; Stopped if a signal asked for it.
    """
    recipe = load_recipe(Path(recipe_path))  # a deployment hands over text
    stages = (*SCENE_STAGES, *DATASET_STAGES)
    wanted = tuple(only) or (*INPUT_STAGES, *stages)
    if unknown := sorted(set(wanted) - {*INPUT_STAGES, *stages}):
        raise RecipeError(
            f"there is no stage {', '.join(unknown)}; stages are {', '.join(stages)}, and before them {', '.join(INPUT_STAGES)}"
        )
    workspace = Workspace.create(Path(root))
    with stopping(), steps.building(workspace, recipe.name, workers, on_event.get()) as tell:
        return _build(recipe, workspace, workers, dask, wanted, tell)


def build(recipe_path: Path, root: Path, workers: int = 1, dask: str | None = None, only: Sequence[str] = ()) -> Path:
    """Run ``build_dataset`` here; every scene that is worked on keeps a thread."""
    runner: Any = ThreadPoolTaskRunner(max_workers=_MOST_THREADS)
    with server():
        return build_dataset.with_options(task_runner=runner)(recipe_path, root, workers, dask, only)


def _build(recipe: Recipe, workspace: Workspace, workers: int, dask: str | None, wanted: Sequence[str], tell: Tell) -> Path:
    if made := steps.make_inputs(recipe, workspace, lambda line: tell(Event("inputs", note=line))):
        _tell(tell, made)
    for fetched in steps.fetch_inputs(recipe, workspace, lambda line: tell(Event("inputs", note=line))):
        _tell(tell, fetched)
    failures = _correct(recipe, workspace, workers, dask, tell) if "correct" in wanted else []
    found = steps.find_scenes(recipe, workspace)
    unopened = [item for item in found.failures if item.unit not in {known.unit for known in failures}]
    for item in unopened:
        tell(steps.event_of_failure(item, total=1))
    failures += unopened
    products = len(found.pairs) + len(failures)
    if {*SCENE_STAGES, *PIXEL_STAGES} & set(wanted):
        steps.check_space(found.pairs, recipe, workspace)
    at_once = steps.scenes_at_once(found.pairs, workers)
    with _work(at_once, dask, steps.largest_scene_bytes(found.pairs), workspace, tell) as work:
        threads = 1 if dask else max(1, workers // at_once)
        units, broken = _scene_stages(work, threads, found, recipe, workspace, [s for s in SCENE_STAGES if s in wanted], tell)
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
            _tell(tell, _dataset_task(stage)(Measured(step)))
    if failures:
        raise BuildFailed(f"{len(failures)} of {products} products could not be used", failures=failures)
    return workspace.manifest


def _correct(recipe: Recipe, workspace: Workspace, workers: int, dask: str | None, tell: Tell) -> list[Any]:
    """Correct the Level-1C products of a recipe that says how; return the failures."""
    from rsdata.flows.correct_scenes import run_corrections

    options = steps.sen2cor_options(recipe)
    if options is None or not (sources := steps.uncorrected_products(recipe, workspace)):
        return []
    return run_corrections(sources, options, Workspace.create(workspace.corrected.root), workers, dask, tell)[1]


def _dataset_task(stage: str) -> Any:
    return task(name=stage, cache_policy=NO_CACHE)(lambda step: step())


def _scene_stages(
    work: Work, threads: int, found: steps.Found, recipe: Recipe, workspace: Workspace, stages: Sequence[str], tell: Tell
) -> tuple[list[str], list[Any]]:
    """Send every scene through its stages, each scene at its own pace; return those that came through.

    Raises: DiskFull as soon as one of them says so.
    """
    for stage in stages:
        tell(Event(stage, total=len(found.pairs)))
    ended: SimpleQueue[tuple[Any, int, PrefectFuture[Any]]] = SimpleQueue()

    def begin(pair: Any, number: int) -> None:
        """Begin one stage of a scene; its end is put into ``ended``."""
        stage = stages[number]
        arguments: tuple[Any, ...] = {
            "scenes": (steps.register_scene, pair, recipe, workspace, threads),
            "patches": (steps.cut_scene, pair.unit, recipe, workspace),
            "labels": (steps.label_scene, pair.unit, recipe, workspace),
            "quality": (steps.assess_scene, pair.unit, recipe, workspace, threads),
        }[stage]
        future = scene_task.with_options(name=f"{stage} {pair.unit}").submit(work, *arguments)
        future.add_done_callback(lambda done: ended.put((pair, number, done)))

    failures: dict[str, Any] = {}
    waiting = iter(found.pairs if stages else [])
    under_way = 0
    while True:
        while under_way < SCENES_AHEAD * work.slots() and (pair := next(waiting, None)) is not None:
            begin(pair, 0)
            under_way += 1
        if not under_way:
            break
        pair, number, future = ended.get()
        stage = stages[number]
        try:
            ran = future.result()
        except DiskFull:
            raise
        except Exception as error:
            failures[pair.unit] = steps.failure(stage, pair.unit, error)
            tell(steps.event_of_failure(failures[pair.unit]))
            under_way -= 1
            continue
        _tell(tell, ran)
        if number + 1 < len(stages):
            begin(pair, number + 1)
        else:
            under_way -= 1
    return [pair.unit for pair in found.pairs if pair.unit not in failures], [failures[unit] for unit in sorted(failures)]


def _counter(tell: Tell, stage: str, things: str, every: int = 1000) -> Callable[[int], None]:
    """Count what a long stage has done, and tell now and then."""
    count = 0

    def advance(n: int) -> None:
        nonlocal count
        count += n
        if count % every < n:
            tell(Event(stage, note=f"{count:,} {things}"))

    return advance


def _tell(tell: Tell, done: Ran | steps.Outcome) -> None:
    tell(steps.event_of(done))


@contextmanager
def _work(at_once: int, dask: str | None, scene_bytes: int, workspace: Workspace, tell: Tell) -> Iterator[Work]:
    """Where steps run."""
    if dask is None:
        with steps.LocalWorkers(at_once) as workers:
            yield workers
        return
    from rsdata.steps.cluster import Cluster  # loads Dask

    with Cluster(dask, workspace, scene_bytes, note=lambda line: tell(Event("scenes", note=line))) as cluster:
        tell(Event("scenes", note=str(cluster)))
        yield cluster
