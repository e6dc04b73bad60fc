"""The tasks by name: those of the core, and cross-modality localization."""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ccln.pipeline.train.tasks import DatasetTask

TaskName = Literal["supervised", "weak", "cml"]


def task_types() -> "dict[TaskName, type[DatasetTask]]":
    """What can be trained and evaluated for."""
    from ccln.pipeline.cml.task import CrossModalityLocalization
    from ccln.pipeline.train.tasks import SupervisedLocalization, WeakLocalization

    return {"supervised": SupervisedLocalization, "weak": WeakLocalization, "cml": CrossModalityLocalization}
