"""Everything rsdata refuses to do, as one small tree.

    RsdataError
    ├── RecipeError (ValueError)      a recipe that says something unknown or impossible
    ├── SceneError (ValueError)       a product that is damaged, incomplete or of the wrong kind
    │   └── CorrectionError           a product that sen2cor did not correct, or not to the end
    ├── GridError (ValueError)        a tile or patch that cannot lie where it says
    ├── LabelError (ValueError)       label polygons, codes or countries that cannot be used
    ├── SplitError (ValueError)       a split that cannot be assigned or audited
    ├── SubsetError (ValueError)      a subset, noise or partition that a table cannot give
    ├── CaptionError (ValueError)     a caption that its facts do not support
    ├── ShardError (ValueError)       a shard that is damaged, incomplete or of another layout
    ├── CatalogError (ValueError)     a table that is not what its schema says
    ├── TrainingError (ValueError)    a training run that its shard cannot serve
    ├── WorkspaceError (OSError)      a folder that cannot be read or written
    ├── DownloadError (OSError)       a product that a catalogue or server does not deliver as promised
    └── BuildFailed (RuntimeError)    a build that ended with failures; ``failures`` lists them

A message says what was found, what was expected and what to do. The values behind it ride along as
keywords and survive pickling between processes.
"""


class RsdataError(Exception):
    """Anything rsdata refuses to do; ``context`` holds the values behind the message."""

    def __init__(self, message: str, **context: object) -> None:
        super().__init__(message)
        self.context = context


class RecipeError(RsdataError, ValueError):
    """A recipe says something unknown or impossible."""


class SceneError(RsdataError, ValueError):
    """A product is damaged, incomplete or of the wrong kind."""


class CorrectionError(SceneError):
    """sen2cor could not be run on a product, or what it left is not a whole Level-2A product."""


class GridError(RsdataError, ValueError):
    """A tile or a patch cannot lie where it says."""


class LabelError(RsdataError, ValueError):
    """Label polygons, class codes or countries cannot be used."""


class SplitError(RsdataError, ValueError):
    """A split cannot be assigned or audited."""


class SubsetError(RsdataError, ValueError):
    """A subset, label noise or partition that a table of patches or of embeddings cannot give."""


class CaptionError(RsdataError, ValueError):
    """A caption states what its facts do not support."""


class ShardError(RsdataError, ValueError):
    """A shard is damaged, incomplete or of another layout."""


class CatalogError(RsdataError, ValueError):
    """A table is not what its schema says."""


class TrainingError(RsdataError, ValueError):
    """A shard cannot serve the training run asked for."""


class WorkspaceError(RsdataError, OSError):
    """A folder or file of the workspace cannot be read or written."""


class DownloadError(RsdataError, OSError):
    """A catalogue or a server does not deliver what was asked, or not as promised."""


class BuildFailed(RsdataError, RuntimeError):
    """A build ended, but not all of it was done; ``context["failures"]`` lists what was not."""
