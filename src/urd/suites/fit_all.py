"""One model for each category below a folder, on the executors of suites.

OUT/runs/CATEGORY is the run of a category. OUT/models.json and OUT/models.html list all of them.
A training works in OUT/unfinished. Its run replaces the older one of its category only when it is
finished, so a model that is in use never disappears.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from urd.backbones.registry import choose_backbone
from urd.config import FitConfig
from urd.data.categories import categories_below
from urd.errors import UrdError, first_line
from urd.model.run_folder import RunFolder
from urd.suites.executor import Execution, Executor
from urd.suites.fingerprints import Fingerprints
from urd.suites.model_records import (
    LIST_NAME,
    PAGE_NAME,
    Failed,
    ListedModel,
    ModelList,
    read_model_list,
    read_model_result,
)
from urd.suites.models_page import models_page
from urd.suites.places import MACHINE_OPTIONS, Places
from urd.suites.records import RESULT_NAME, RUN_NAME, Identity, JobOrder
from urd.suites.runner import Outcome, ends
from urd.suites.suite import Job, settings_of
from urd.suites.suite_file import PLAIN
from urd.suites.tasks import Task
from urd.system.files import absolute, printable, write_json, write_text, writing
from urd.system.progress import note

RUNS, UNFINISHED = "runs", "unfinished"
_LONGEST_NAME = 100
_JOBS_FOR_A_WRITE = 50  # seconds of jobs for each second of writing the list


def fit_all(root: Path, out: Path, config: FitConfig, execution: Execution) -> Outcome:
    """Train one model for each category below ROOT that has none for its images and settings.

    A failed category does not stop the others. A stopped one continues from its checkpoint. The
    names in the outcome are categories. List and page are written again while models come.

    Raises:
        UsageError: there are no categories, or an option cannot be used.
        NotWritten: another call writes to OUT.
    """
    executor = execution.executor(config.device, out)
    plan = _Plan.of(root, out, config)
    with writing(out):
        return _Call(out, plan).finish(executor)


def missing_categories(root: Path, out: Path | None, config: FitConfig) -> list[str]:
    """The categories that `fit_all` would train; without `out` all that are below ROOT.

    Raises:
        UsageError: as `fit_all`.
    """
    if out is None:
        return categories_below(root)
    plan = _Plan.of(root, out, config)
    call = _Call(out, plan)
    return [name for name in plan.jobs if not call.is_done(name)]


@dataclass(frozen=True)
class _Plan:
    """The jobs by category, their digests, and the categories that cannot be read.

    Attributes:
        refused: reasons by category.
    """

    root: Path
    places: Places
    jobs: dict[str, Job]
    digests: dict[str, str]
    refused: dict[str, str]

    @classmethod
    def of(cls, root: Path, out: Path, config: FitConfig) -> _Plan:
        config = _with_one_backbone(config)
        own = config.to_dict()
        places = Places(
            roots={PLAIN: root},
            weights={config.tag: config.weights},
            options={name: own[name] for name in MACHINE_OPTIONS},
        )
        places.check_files()
        plan = cls(root, places, {}, {}, {})
        fingerprints = Fingerprints(places, test=False)
        for category in categories_below(root, out):
            job = Job(PLAIN, category, "model", settings_of(config))
            try:
                plan.digests[category] = job.digest(fingerprints.of(job))
                plan.jobs[category] = job
            except (UrdError, OSError) as error:
                plan.refused[category] = first_line(error)
        return plan


def _with_one_backbone(config: FitConfig) -> FitConfig:
    """The same settings with the first of the backbones that is available, for all categories."""
    wanted, chosen = config.tag, choose_backbone(config.backbone, config.weights).tag
    if chosen != wanted:
        note(f"The weights of {wanted} are not available here: urd uses {chosen} for all models.")
    return dataclasses.replace(config, backbone=(chosen,))


class _Call:
    """One call of `fit_all`: the models that are there, and the outcome."""

    def __init__(self, out: Path, plan: _Plan) -> None:
        self.out, self.plan = out, plan
        self.outcome = Outcome(failed=dict(plan.refused))
        self._listed_later: list[Path] = []  # folders of jobs whose models are not in the list yet
        self._next_write = 0.0
        path = out / LIST_NAME
        known = read_model_list(path).models if path.exists() else []
        self.models = {model.category: model for model in known}

    def run_of(self, category: str) -> Path:
        return self.out / RUNS / category

    def is_done(self, category: str) -> bool:
        """Whether there is a model of the present images and settings."""
        model = self.models.get(category)
        digest = self.plan.digests[category]
        is_there = RunFolder(self.run_of(category)).is_finished
        return model is not None and model.digest == digest and is_there

    def finish(self, executor: Executor) -> Outcome:
        """Train the missing models."""
        tasks = {category: self._task(category) for category in self.plan.jobs}
        for category, task in tasks.items():
            if not self.is_done(category) and (task.folder / RESULT_NAME).exists():
                self._take(task, None)  # of a job that ended when nobody waited for it
        done = [category for category in tasks if self.is_done(category)]
        now = set(self.outcome.ran)
        self.outcome.kept = [name for name in done if name not in now]
        ended = {*done, *self.outcome.failed}
        missing = [task for name, task in tasks.items() if name not in ended]
        self.outcome.waiting = [task.name for task in missing]
        self._write()
        try:
            with closing(ends(executor, missing, "Models", len(tasks))) as of_executor:
                for end in of_executor:
                    self.outcome.waiting.remove(end.task.name)
                    self._take(end.task, end.error)
                    if time.monotonic() >= self._next_write:
                        self._write()
        finally:
            self._write()
        return self.outcome

    def _task(self, category: str) -> Task:
        job, digest, places = (
            self.plan.jobs[category],
            self.plan.digests[category],
            self.plan.places,
        )
        order = JobOrder(
            data_path=places.data_of(job),
            options=places.options_of(job),
            resamples=0,
            identity=Identity(
                digest=digest,
                data=job.data,
                category=job.category,
                settings=job.settings,
                textures=places.textures_in_words,
                method_version=job.method_version,
            ),
            purpose="model",
        )
        plain = "".join(c if c.isalnum() or c in "._" else "_" for c in category)
        folder = self.out / UNFINISHED / f"{plain[:_LONGEST_NAME]}-{digest}"
        return Task(category, folder, order, keep_run=True)

    def _take(self, task: Task, error: str | None) -> None:
        """Keep the run of a job, or the reason of its failure."""
        try:
            if error is not None:
                raise UrdError(error)
            model = read_model_result(task.folder / RESULT_NAME)
            if model.digest != task.order.identity.digest:
                raise UrdError(f"{task.folder / RESULT_NAME} is the result of another job")
            self._put(task.folder / RUN_NAME, self.run_of(task.name))
            run = f"{RUNS}/{task.name}"
            report = f"{run}/{RunFolder(Path(run)).report.name}"
            self.models[task.name] = ListedModel(**model.model_dump(), run=run, report=report)
            self.outcome.ran.append(task.name)
            self._listed_later.append(task.folder)
        except (UrdError, OSError) as failure:
            self.outcome.failed[task.name] = str(failure)

    def _put(self, run: Path, place: Path) -> None:
        """Move a finished run to its place; an older one is removed."""
        if not RunFolder(run).is_finished:
            if RunFolder(place).is_finished and not run.exists():
                return  # it was moved, and then the call was killed
            raise UrdError(f"there is no model in {run}")
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.exists() and not RunFolder(place).has_begun:
            raise UrdError(f"{place} holds files but no run of urd: move it away")
        older = place.with_name(f".{place.name}.older.urd-part")
        shutil.rmtree(older, ignore_errors=True)
        if place.exists():
            place.rename(older)
        run.rename(place)
        shutil.rmtree(older, ignore_errors=True)

    def _write(self) -> None:
        """Write the list and the page. With ten thousand models this takes its time, so the next
        time comes when the jobs have had fifty times as long.
        """
        began = time.monotonic()
        present = {*self.plan.jobs, *self.plan.refused}
        found = ModelList(
            root=printable(absolute(self.plan.root)),
            models=[self.models[name] for name in sorted(self.models)],
            failed=[Failed(category=k, reason=v) for k, v in sorted(self.outcome.failed.items())],
            waiting=sorted(self.outcome.waiting),
            gone=sorted(self.models.keys() - present),
        )
        write_json(self.out / LIST_NAME, found.model_dump())
        write_text(self.out / PAGE_NAME, models_page(found))
        for folder in self._listed_later:  # its result finds the model again after a stop
            shutil.rmtree(folder, ignore_errors=True)
        self._listed_later.clear()
        now = time.monotonic()
        self._next_write = now + _JOBS_FOR_A_WRITE * (now - began)
