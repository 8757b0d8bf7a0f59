"""Judge images on a Ray cluster, and store their rows: `urd predict --on ray`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from urd.bulk.cluster import PATIENCE, Cluster
from urd.bulk.file_systems import is_uri
from urd.bulk.images import ON_DISK, FoundImages, find_images
from urd.bulk.judged_parts import Workers
from urd.bulk.order import Order, model_files
from urd.bulk.parts import Part, parts_of
from urd.bulk.result_folders import result_folder
from urd.bulk.rows import Summary
from urd.bulk.stored import StoredRows
from urd.detector import Detector
from urd.engines.registry import is_exported
from urd.errors import UsageError
from urd.inspection.calibration import Thresholds
from urd.inspection.judge import Inspection
from urd.inspection.pictures import MAX_SIDE
from urd.system.files import absolute, writing
from urd.system.progress import Progress, note
from urd.system.ray_session import ray_session
from urd.system.threads import asked_threads
from urd.system.versions import VERSION


@dataclass(frozen=True)
class Asked:
    """What a user asks for.

    Attributes:
        where: `ray` or `ray:ADDRESS`.
        run: a run folder, a model file or an exported file. images: paths, folders, globs, URIs.
        out: folder or URI of the results.
        device, precision, max_megapixels, page, roi, ignore: as for `urd predict`.
        overlays, overlay_side: as in `urd.bulk.order.Order`.
        overwrite: delete the results that are in `out`.
        workers: how many at once; 0: as many as the cluster holds.
        threads: of each worker; 0: as OMP_NUM_THREADS says, else 1.
        patience: seconds to wait until a worker can run somewhere.
        for_ng: the verdict NG is needed, so a detector without thresholds is refused.
    """

    where: str
    run: Path
    images: Sequence[str]
    out: str
    inspection: Inspection
    device: str = "auto"
    precision: str | None = None
    max_megapixels: int | None = None
    page: int | None = None
    roi: str = ""
    ignore: str = ""
    batch_size: int = 8
    overlays: str = "all"
    overlay_side: int = MAX_SIDE
    overwrite: bool = False
    workers: int = 0
    threads: int = 0
    patience: float = PATIENCE
    for_ng: bool = False

    @property
    def needs_thresholds(self) -> bool:
        """Whether an option makes no sense for a detector without thresholds."""
        return self.for_ng or self.overlays == "rejects" or self.inspection.names_shares

    def detector(self) -> Detector:
        """The detector, opened here to see early whether all options fit it.

        Raises:
            UsageError, UrdError: as `Detector.load`, `Detector.inspect_in` and `Reading.changed`.
        """
        elsewhere = self.device in ("auto", "cuda") and not is_exported(self.run)
        detector = Detector.load(self.run, "cpu" if elsewhere else self.device, self.precision)
        detector.reading = detector.reading.changed(
            max_megapixels=self.max_megapixels, page=self.page
        )
        if self.roi or self.ignore:
            detector.inspect_in(self.roi, self.ignore)
        detector.judging(self.inspection)  # raises if it needs regions and has none
        return detector


@dataclass(frozen=True)
class Outcome:
    """All rows in `out` together, and the thresholds of their verdicts; `None`: there are none."""

    rows: Summary
    thresholds: Thresholds | None


def predict_on_ray(asked: Asked) -> Outcome:
    """Judge the images that have no row in `asked.out` yet, and store their rows.

    Raises:
        UsageError: something does not fit; for example `out` holds rows of another model.
        UrdError: the cluster or the folder of results fails; what is stored stays.
        KeyboardInterrupt: Ctrl-C; the message says how to go on.
    """
    with nullcontext() if is_uri(asked.out) else writing(Path(asked.out)):
        found = find_images(asked.images, asked.out)
        for line in found.skipped:
            note(line)
        detector = asked.detector()
        thresholds = detector.thresholds(asked.inspection)
        if thresholds is None and asked.needs_thresholds:
            raise UsageError(f"{asked.run} has no thresholds: run urd calibrate RUN GOOD")
        _refuse_regions_of_uris(asked, found)
        threads = asked.threads or asked_threads() or 1
        processors = max(os.cpu_count() or 1, threads * max(1, asked.workers))
        with ray_session(asked.where, processors=processors) as ray:
            rows = _judge(asked, found, detector, threads, Cluster(ray, asked.patience))
    return Outcome(rows, thresholds)


def _judge(
    asked: Asked, found: FoundImages, detector: Detector, threads: int, cluster: Cluster
) -> Summary:
    model = model_files(asked.run)
    exported = is_exported(Path(next(iter(model))))
    device = "cpu" if exported else cluster.device(asked.device)
    needs = {"CPU": float(threads)} if device == "cpu" else {"GPU": 1.0}
    precision = None if exported else asked.precision or detector.config.precision
    order = Order(
        uris=tuple(found.uris),
        device=device,
        precision=cluster.try_a_node(needs, device, precision),
        threads=threads,
        batch_size=asked.batch_size,
        inspection=asked.inspection,
        reading=detector.reading,
        roi=_absolute(asked.roi),
        ignore=_absolute(asked.ignore),
        overlays=asked.overlays,
        overlay_side=asked.overlay_side if asked.overlays != "none" else 0,
        missing=_missing_folders(found),
    )
    settings = {"urd": VERSION, **order.settings(model)}
    stored = StoredRows(result_folder(asked.out), settings, overwrite=asked.overwrite)
    parts = parts_of(found.images, stored.summary.paths, asked.batch_size)
    if known := len(stored.summary.paths):
        left = sum(len(part.images) for part in parts)
        note(f"{known} rows are stored in {asked.out}; {left} images are left to judge")
    if parts:
        count = asked.workers or max(1, cluster.workers_that_fit(needs))
        workers = Workers(cluster, order, model, needs, count)
        with _interruptible(asked.out, stored.summary, len(found.images)):
            _store_all(workers, parts, stored, len(found.images))
    return stored.summary


def _store_all(workers: Workers, parts: Sequence[Part], stored: StoredRows, n_images: int) -> None:
    left = sum(len(part.images) for part in parts)
    done = n_images - left
    progress = Progress("Predicting", n_images, start=done)
    try:
        for judged in workers.judged(parts):
            stored.add(judged.part.name, judged.ordered(), judged.pictures)
            done += len(judged.part.images)
            progress.update(done)
    finally:
        progress.close()


@contextmanager
def _interruptible(out: str, rows: Summary, n_images: int) -> Iterator[None]:
    """Say at Ctrl-C how to go on; the command line makes the same of SIGTERM."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(
            f"interrupted; {len(rows.paths)} rows are stored in {out}, for {n_images} images: run "
            "the same command again to go on"
        ) from error


def _refuse_regions_of_uris(asked: Asked, found: FoundImages) -> None:
    if (asked.roi or asked.ignore) and any(image.uri != ON_DISK for image in found.images):
        raise UsageError(
            "--roi and --ignore find the region of an image by its path, and images behind a URI "
            "have none: mount their folder on all nodes, and give its path"
        )


def _missing_folders(found: FoundImages) -> frozenset[str]:
    folders = {str(Path(image.path).parent) for image in found.images if image.uri == ON_DISK}
    return frozenset(folder for folder in folders if not Path(folder).is_dir())


def _absolute(path: str) -> str:
    return str(absolute(path)) if path else ""
