"""What can be learned from a shard, by short name."""

from rsdata.errors import TrainingError
from rsdata.training.tasks.base import Answer, Maps, Scorer, Task
from rsdata.training.tasks.multilabel import Multilabel
from rsdata.training.tasks.regression import Regression
from rsdata.training.tasks.retrieval import Retrieval
from rsdata.training.tasks.segmentation import Segmentation

TASKS: dict[str, type[Task]] = {each.name: each for each in (Multilabel, Segmentation, Retrieval, Regression)}


def task_named(name: str) -> type[Task]:
    """Raises: TrainingError if no task has that name."""
    if name not in TASKS:
        raise TrainingError(f"there is no task {name!r}; known are {', '.join(sorted(TASKS))}", task=name)
    return TASKS[name]


__all__ = ["TASKS", "Answer", "Maps", "Multilabel", "Regression", "Retrieval", "Scorer", "Segmentation", "Task", "task_named"]
