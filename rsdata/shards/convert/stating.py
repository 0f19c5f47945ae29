"""Classes that a dataset states patch by patch: in the names of its folders, or in a small file beside each patch."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rsdata.errors import ShardError
from rsdata.foreign import load_json
from rsdata.shards.convert.planning import Plan, Source, Value


class Statement(NamedTuple):
    """What is stated of one value."""

    key: str
    classes: list[str]
    partner: str | None  # key of the patch of another sensor that it belongs to


def statements(plan: Plan) -> Iterator[Statement]:
    """What is stated of the values of a plan, in the order of their keys; those without a statement are left out.

    Raises: ShardError if a file that states it is damaged.
    """
    for value in plan.values:
        source = plan.sources[value[1]]
        if source.input.labels is not None and (found := _statement(source, value)) is not None:
            yield found


def _statement(source: Source, value: Value) -> Statement | None:
    where = source.input.labels
    known = dict(zip(source.fields, value[2:], strict=True))
    if where is None or where.file is None:
        return Statement(value[0], [known[where.field]] if where and where.field else [], None)
    path = Path(source.folder, where.file.format(**known))
    try:
        said = load_json(path.read_text(encoding="utf-8"))
        classes = said["labels"]
        partner = said[where.partner] if where.partner else None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ShardError(f"{path} cannot be read: {error.strerror}; it states the classes of {value[0]}", path=str(path)) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ShardError(
            f"{path} does not state the classes of {value[0]}: expected a JSON object with `labels`", path=str(path)
        ) from error
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes) or not isinstance(partner, str | None):
        raise ShardError(f"{path} does not state the classes of {value[0]}: expected a list of names", path=str(path))
    return Statement(value[0], classes, partner)
