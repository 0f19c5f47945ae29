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
    ├── ArchiveError (ValueError)     an archive that is damaged, incomplete or not to be trusted
    ├── TrainingError (ValueError)    a training run that its shard cannot serve
    ├── WorkspaceError (OSError)      a folder that cannot be read or written
    │   ├── DiskFull                  no room is left for what is to be written
    │   └── WorkspaceBusy             another build is at work in the folder
    ├── DownloadError (OSError)       a product that a catalogue or server does not deliver as promised
    ├── ClusterError (RuntimeError)   a Dask cluster that cannot do the work, or was lost
    ├── WorkerDied (RuntimeError)     a worker process that was ended from outside
    └── BuildFailed (RuntimeError)    a build that ended with failures; ``failures`` lists them

``Stopped`` stands outside: it is no refusal, but the wish of whoever sent a signal.

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


class ArchiveError(RsdataError, ValueError):
    """An archive is damaged, incomplete or not to be trusted, or files cannot be archived."""


class TrainingError(RsdataError, ValueError):
    """A shard cannot serve the training run asked for."""


class WorkspaceError(RsdataError, OSError):
    """A folder or file of the workspace cannot be read or written."""


class DiskFull(WorkspaceError):
    """No room is left for what is to be written; nothing that is whole is lost, and no other unit can be done either."""


class WorkspaceBusy(WorkspaceError):
    """Another build is at work in the folder."""


class DownloadError(RsdataError, OSError):
    """A catalogue or a server does not deliver what was asked, or not as promised."""


class ClusterError(RsdataError, RuntimeError):
    """A Dask cluster cannot do the work it is given, or was lost and did not come back."""


class WorkerDied(RsdataError, RuntimeError):
    """A worker process was ended from outside, such as for want of memory."""


class BuildFailed(RsdataError, RuntimeError):
    """A build ended, but not all of it was done; ``context["failures"]`` lists what was not."""


class Stopped(KeyboardInterrupt):
    """Whoever runs the program asked it to end, by a signal; ``exit_code`` is what shells expect of it."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.exit_code = 128 + signal_number
