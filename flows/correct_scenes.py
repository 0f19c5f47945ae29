"""From Level-1C to Level-2A: one task per product, as many at a time as memory bears.

sen2cor works in processes of its own, so tasks only wait for it; if the flow is left by an error, such as Ctrl-C, they
are ended before anything else happens.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.futures import PrefectFuture, as_completed
from prefect.task_runners import ThreadPoolTaskRunner

from rsdata import steps
from rsdata.errors import BuildFailed, DiskFull
from rsdata.flows.build_dataset import Tell, scene_task
from rsdata.flows.server import server
from rsdata.flows.stopping import stopping
from rsdata.recipe import Sen2cor
from rsdata.steps.events import Event, on_event
from rsdata.workspace import Workspace


def run_corrections(
    sources: Sequence[Path], options: Sen2cor, workspace: Workspace, workers: int, dask: str | None, tell: Tell
) -> tuple[dict[Path, steps.Outcome], list[Any]]:
    """Correct products within a flow; return the outcome of each that was, and the failures of the others.

    Args:
        dask: address of a running Dask scheduler, whose workers say by the resource ``memory`` how many they bear at a time.

    Raises: DiskFull; ClusterError if the cluster cannot be used.
    """
    if not sources:
        return {}, []
    tell(Event("correct", total=len(sources)))
    done, failures = {}, {}
    with _work(steps.corrections_at_once(len(sources), options, workers), dask, workspace, tell) as work:
        futures: dict[PrefectFuture[Any], Path] = {
            scene_task.with_options(name=f"correct {path.name}").submit(work, steps.correct_scene, path, options, workspace): path
            for path in sources
        }
        for future in as_completed(list(futures)):
            path = futures[future]
            try:
                ran = future.result()
            except DiskFull:
                raise
            except Exception as error:
                failures[path] = steps.failure("correct", path.name, error)
                tell(steps.event_of_failure(failures[path]))
                continue
            done[path] = outcome = ran.outcome
            for line in [] if outcome.skipped else steps.correction_of(outcome.receipt, workspace).mended:
                tell(Event("correct", note=f"{path.name}: {line}"))
            tell(replace(steps.event_of(ran), unit=path.name))
    return {path: done[path] for path in sources if path in done}, [failures[path] for path in sources if path in failures]


@contextmanager
def _work(at_once: int, dask: str | None, workspace: Workspace, tell: Tell) -> Iterator[Any]:
    """Where corrections run; those under way are ended if the flow is left by an error."""
    if dask is None:
        with ThreadPoolExecutor(max_workers=at_once) as pool:
            try:
                yield pool
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                steps.stop_corrections(workspace)
                raise
        return
    from rsdata.steps.cluster import Cluster  # loads Dask

    with Cluster(dask, workspace, steps.CORRECTION_BYTES, "memory", note=lambda line: tell(Event("correct", note=line))) as cluster:
        tell(Event("correct", note=str(cluster)))
        try:
            yield cluster
        except BaseException:
            cluster.end_steps(steps.stop_corrections, workspace)
            raise


@flow(name="correct-scenes", validate_parameters=False)
def correct_scenes(sources: Sequence[Path], root: Path, options: Sen2cor, workers: int = 1) -> list[Path]:
    """Correct Level-1C products by sen2cor; return the Level-2A products, in the order of their sources.

    Args:
        sources: folders or zips.
        root: where the products, their receipts and logs are put.
        workers: products at a time, if memory bears it; ``options.at_once`` overrides both.

    Raises: RsdataError if sen2cor cannot be run; BuildFailed if some products could not be corrected.
    """
    workspace = Workspace.create(root)
    with stopping():
        done, failures = run_corrections(list(dict.fromkeys(sources)), options, workspace, workers, None, on_event.get())
    if failures:
        raise BuildFailed(f"{len(failures)} of {len(failures) + len(done)} products could not be corrected", failures=failures)
    return [workspace.root / steps.correction_of(outcome.receipt, workspace).folder for outcome in done.values()]


def correct(sources: Sequence[Path], root: Path, options: Sen2cor, workers: int = 1) -> list[Path]:
    """Run ``correct_scenes`` here, with a thread for every product that is worked on."""
    steps.check_sen2cor(options)
    runner: Any = ThreadPoolTaskRunner(max_workers=len(sources) + 1)
    with server():
        return correct_scenes.with_options(task_runner=runner)(sources, root, options, workers)
