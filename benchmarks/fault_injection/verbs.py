"""The verbs that write, as trials that are cut short and then done again."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fault_injection.children import Ended, in_child, verb
from fault_injection.stage import FIT, Stage

SECONDS = 300.0
_Outcome = dict[str, str]


@dataclass(frozen=True)
class WritingVerb:
    """A verb, the folder it writes to, and how to tell that its work is whole.

    Attributes:
        prepare: brings a new folder to where the verb begins.
        arguments: of the verb; `again`: of the call that follows a cut one.
        outcome: what the verb has left, by name, without times; raises where a part is damaged.
        leaves: names that may be in the folder after a good call.
    """

    name: str
    prepare: Callable[[Path], None]
    arguments: Callable[[Path], tuple[object, ...]]
    again: Callable[[Path], tuple[object, ...]]
    outcome: Callable[[Path], _Outcome]

    def fresh(self, folder: Path) -> Path:
        """The folder as it is before the verb."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        self.prepare(folder)
        return folder

    def run(self, folder: Path, kill_after: float | None = None) -> Ended:
        return in_child(
            lambda: verb(*self.arguments(folder)), seconds=SECONDS, kill_after=kill_after
        )

    def finish(self, folder: Path) -> Ended:
        return in_child(lambda: verb(*self.again(folder)), seconds=SECONDS)

    def found(self, folder: Path) -> tuple[str, _Outcome]:
        """What is left, as a child sees it; the first is empty, or says what is damaged."""

        def look() -> str:
            return json.dumps(self.outcome(folder))

        ended = in_child(look, seconds=SECONDS)
        if ended.kind != "said":
            return f"{ended.kind}: {ended.text[:200]}", {}
        return "", json.loads(ended.text)


def names(folder: Path) -> list[str]:
    """All that lies in a folder, hidden files too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def writing_verbs(stage: Stage) -> list[WritingVerb]:
    """Every verb that leaves something."""

    def copy_run(folder: Path) -> None:
        shutil.copytree(stage.run, folder / "run")

    def nothing(folder: Path) -> None:
        pass

    image = stage.data / "test/square/000.png"
    return [
        WritingVerb(
            "fit",
            nothing,
            lambda f: ("fit", stage.data, "--out", f / "run", *FIT),
            lambda f: _fit_again(stage, f / "run"),
            lambda f: _model(f / "run") | _curve(f / "run"),
        ),
        WritingVerb(
            "calibrate",
            copy_run,
            lambda f: ("calibrate", f / "run", stage.good),
            lambda f: ("calibrate", f / "run", stage.good),
            lambda f: _model(f / "run"),
        ),
        WritingVerb(
            "evaluate",
            copy_run,
            lambda f: ("evaluate", f / "run", stage.data, "--resamples", 0),
            lambda f: ("evaluate", f / "run", stage.data, "--resamples", 0),
            lambda f: _documents(f / "run", "evaluation.json", "evaluation_details.json"),
        ),
        WritingVerb(
            "predict",
            nothing,
            lambda f: ("predict", stage.run, stage.data / "test", "--out", f / "out"),
            lambda f: (
                "predict",
                stage.run,
                stage.data / "test",
                "--out",
                f / "out",
                "--overwrite",
            ),
            lambda f: _predictions(f / "out"),
        ),
        WritingVerb(
            "report",
            copy_run,
            lambda f: ("report", f / "run"),
            lambda f: ("report", f / "run"),
            lambda f: _page(f / "run/report.html"),
        ),
        *(
            WritingVerb(
                f"export {form}",
                nothing,
                lambda f, form=form, suffix=suffix: (
                    *("export", stage.run, stage.data, "--format", form, "--size", 64),
                    *("--out", f / f"m{suffix}"),
                ),
                lambda f, form=form, suffix=suffix: (
                    *("export", stage.run, stage.data, "--format", form, "--size", 64),
                    *("--out", f / f"m{suffix}", "--overwrite"),
                ),
                lambda f, suffix=suffix: _exported(f / f"m{suffix}", image),
            )
            for form, suffix in (("onnx", ".onnx"), ("openvino", ".xml"))
        ),
        WritingVerb(
            "benchmark",
            nothing,
            lambda f: ("benchmark", stage.suite, "--out", f / "out", "--root", _root(stage)),
            lambda f: ("benchmark", stage.suite, "--out", f / "out", "--root", _root(stage)),
            lambda f: _results(f / "out"),
        ),
    ]


def _fit_again(stage: Stage, run: Path) -> tuple[object, ...]:
    """The same words, and --resume where the cut call has got as far as the folder."""
    return ("fit", stage.data, "--out", run, *FIT, *(["--resume"] if run.exists() else []))


def _root(stage: Stage) -> str:
    return f"folder={stage.data.parent}"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _model(run: Path) -> _Outcome:
    """The model, if there is one, can be loaded, and is this one."""
    from urd import Detector

    path = run / "model.safetensors"
    if not path.exists():
        return {}
    Detector.load(run)
    return {"model": _digest(path.read_bytes())}


def _curve(run: Path) -> _Outcome:
    """The curve of a finished run has whole lines; its means begin anew where a run was resumed."""
    path = run / "metrics.jsonl"
    if not path.exists() or not (run / "model.safetensors").exists():
        return {}
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {"curve ends at": str(lines[-1]["iteration"])}


def _documents(run: Path, *wanted: str) -> _Outcome:
    """JSON files that are there are whole, and a report can be made of them."""
    from urd.results.report import write_report

    found = {}
    for name in wanted:
        if (run / name).exists():
            found[name] = _digest(json.dumps(json.loads((run / name).read_text())).encode())
    if (run / "model.safetensors").exists():
        write_report(run, run.parent / "try.html").unlink()
    return found


def _predictions(out: Path) -> _Outcome:
    """A table that is there is whole; so are all lines of the listing but the last."""
    found = {}
    listing, table = out / "predictions.jsonl", out / "predictions.csv"
    rows = []
    if listing.exists():
        lines = listing.read_text().split("\n")
        rows = [json.loads(line) for line in lines[:-1]]
        found["rows"] = _digest(json.dumps(rows).encode())
    if table.exists():
        found["table"] = _digest(table.read_bytes())
        if table.read_text().count("\n") != len(rows) + 1:
            raise ValueError("a table with fewer rows than the listing")
    for row in rows:
        if row["overlay"] and not (out / row["overlay"]).read_bytes().endswith(b"IEND\xaeB`\x82"):
            raise ValueError("half a picture")
    return found


def _page(path: Path) -> _Outcome:
    if not path.exists():
        return {}
    if not path.read_text().rstrip().endswith("</html>"):
        raise ValueError("half a page")
    return {"page": _digest(path.read_bytes())}


def _exported(path: Path, image: Path) -> _Outcome:
    """A file that is there gives the score, or is refused (of two files one may be missing)."""
    from urd import Detector
    from urd.errors import UrdError

    if not path.exists():
        return {}
    try:
        return {"score": f"{Detector.load(path).predict(image).score:.5f}"}
    except UrdError as error:
        return {"refused": str(error)[:50]}


def _results(out: Path) -> _Outcome:
    path = out / "results.json"
    if not path.exists():
        return {}
    kept = [
        {k: v for k, v in row.items() if "seconds" not in k} for row in json.loads(path.read_text())
    ]
    return {"results": _digest(json.dumps(kept).encode())} if kept else {}
