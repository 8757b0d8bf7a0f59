"""Files that were damaged or made to do harm: each is opened and used once, in a child."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from fault_injection import mutations
from fault_injection.children import Ended, in_child, verb
from fault_injection.stage import FIT, Stage

_HEADER = "urd_model"


@dataclass(frozen=True)
class Case:
    """One damaged file: how it was damaged, what is done with it.

    `must_refuse`: its checksum was left as it was, so whoever takes it has not looked.
    """

    label: str
    use: Callable[[], str]
    must_refuse: bool = False


def run_cases(cases: Iterator[Case]) -> tuple[dict[str, int], list[str]]:
    """How many cases ended how, and a line about each fault that was found."""
    counts: dict[str, int] = {"files": 0}
    faults: list[str] = []
    for case in cases:
        ended = in_child(case.use)
        kind = _kind(case, ended)
        counts["files"] += 1
        counts[kind] = counts.get(kind, 0) + 1
        if kind not in ("refused", "used, finite"):
            faults.append(f"{kind}: {case.label}: {ended.text[:300]!r}")
    return counts, faults


def _kind(case: Case, ended: Ended) -> str:
    if ended.kind != "said":
        return ended.kind
    if ended.text.startswith("refused"):
        return "refused" if len(ended.text) < 1_000 and "\n" not in ended.text else "long message"
    if ended.text.startswith("not finite"):
        return "not finite, yet judged"
    return "taken unseen" if case.must_refuse else "used, finite"


def _used(work: Callable[[], str]) -> str:
    """What the work says; the project's own errors are a refusal, all others are raw."""
    from urd.errors import UrdError

    try:
        return work()
    except UrdError as error:
        return f"refused: {error}"


def _predict(path: Path, image: Path) -> str:
    from urd import Detector

    def work() -> str:
        detector = Detector.load(path, "auto")
        prediction = detector.predict(image)
        known = [
            prediction.score,
            prediction.calibrated or 0.0,
            float(prediction.anomaly_map.sum()),
        ]
        fine = all(math.isfinite(value) for value in known)
        list(detector.predict_many([image, image]))
        detector.heat_range()
        return f"{'judged' if fine else 'not finite'}: {prediction.verdict}"

    return _used(work)


def models(stage: Stage, count: int, rng: random.Random) -> Iterator[Case]:
    """Half of them with the checksum as it was, half with one that fits the damage."""
    whole = stage.run / "model.safetensors"
    content = whole.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    path, image = stage.root / "damaged.safetensors", stage.data / "test/square/000.png"
    for number in range(count):
        label = f"model {number}"
        if number % 2:
            within = (0, header) if number % 4 == 1 else (header, len(content))
            path.write_bytes(mutations.damaged(content, rng, *within))
        else:
            label += f", signed: {_resign(whole, path, rng)}"
        yield Case(label, lambda: _predict(path, image), must_refuse=bool(number % 2))


def _resign(whole: Path, path: Path, rng: random.Random) -> str:
    """Write a model file with a hostile header or tensors, and a checksum that fits."""
    from safetensors import safe_open

    from urd.system.schema import CHECKSUM
    from urd.system.tensor_file import sign

    tensors = load_file(whole)
    with safe_open(whole, "np") as file:
        metadata = dict(file.metadata())
    if rng.random() < 0.6:
        content = json.loads(metadata[_HEADER])
        first = {CHECKSUM: content.pop(CHECKSUM)}  # where its place is looked for
        metadata[_HEADER] = mutations.as_text(first | mutations.changed(content, rng))
        what = "header"
    else:
        what = _hostile_tensor(tensors, rng)
    save_file(tensors, path, metadata)
    sign(path)
    return what


def _hostile_tensor(tensors: dict[str, np.ndarray], rng: random.Random) -> str:
    name = rng.choice(sorted(tensors))
    value = tensors[name]
    kind = rng.randrange(7)
    if kind == 0:
        del tensors[name]
        return f"without {name}"
    if kind == 1:
        tensors["more"] = np.zeros((3, 3), np.float32)
        return "one more"
    if kind == 2:
        tensors[name] = np.zeros((*value.shape, 2), value.dtype)
        return f"{name} of another shape"
    if kind == 3:
        tensors[name] = value.astype(rng.choice((np.float16, np.float64, np.int32, np.uint8)))
        return f"{name} of another type"
    if value.dtype.kind != "f" or not value.size:
        tensors[name] = np.asarray(value + 1)
        return f"{name} of another count"
    hostile = rng.choice((math.nan, math.inf, -math.inf, 1e38, -1e38, 1e-44, 0.0, 1e20))
    flat = value.flatten()
    flat[:: rng.choice((1, 7, len(flat)))] = hostile
    tensors[name] = flat.reshape(value.shape)
    return f"{name} with {hostile}"


def exports(stage: Stage, count: int, rng: random.Random) -> Iterator[Case]:
    """ONNX files and OpenVINO pairs, damaged by bytes; ONNX also in its metadata."""
    image = stage.data / "test/square/000.png"
    folder = stage.root / "damaged_exports"
    folder.mkdir(exist_ok=True)
    for number in range(count):
        kind = ("onnx bytes", "onnx facts", "xml", "bin")[number % 4]
        if kind.startswith("onnx"):
            path = folder / "model.onnx"
            if kind == "onnx bytes":
                path.write_bytes(mutations.damaged(stage.onnx.read_bytes(), rng))
            else:
                _hostile_facts(stage.onnx, path, rng)
        else:
            path = folder / "model.xml"
            for suffix in (".xml", ".bin"):
                source, target = stage.xml.with_suffix(suffix), path.with_suffix(suffix)
                damage = suffix == f".{kind}"
                content = source.read_bytes()
                target.write_bytes(mutations.damaged(content, rng) if damage else content)
        yield Case(f"{kind} {number}", lambda path=path: _predict(path, image), must_refuse=True)


def _hostile_facts(whole: Path, path: Path, rng: random.Random) -> None:
    """One of the texts that the file carries beside the network is another one."""
    import onnx

    model = onnx.load(whole)
    entry = rng.choice(list(model.metadata_props))
    before = entry.value
    while entry.value == before:
        try:
            entry.value = mutations.as_text(mutations.changed(json.loads(before), rng))
        except ValueError:
            entry.value = rng.choice(("", "0x0", "100000x100000", "nan", "-1", "x" * 10**6))
    onnx.save(model, path)


def reports(stage: Stage, count: int, rng: random.Random) -> Iterator[Case]:
    """A run's evaluation and curve, damaged by bytes or by values; then `write_report`."""
    from urd.results.report import write_report

    run = stage.root / "damaged_run"
    for number in range(count):
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(stage.run, run)
        name = ("evaluation.json", "evaluation_details.json", "metrics.jsonl")[number % 3]
        path = run / name
        content = path.read_bytes()
        if rng.random() < 0.5 or name.endswith("jsonl"):
            path.write_bytes(mutations.damaged(content, rng))
        else:
            path.write_text(mutations.as_text(mutations.changed(json.loads(content), rng)))
        yield Case(f"{name} {number}", lambda: _used(lambda: f"wrote {write_report(run)}"))


def checkpoints(stage: Stage, count: int, rng: random.Random) -> Iterator[Case]:
    """A stopped run, its files damaged; then `fit --resume`."""
    run = stage.root / "damaged_stopped"
    names = ("checkpoint/state.safetensors", "checkpoint/expert.safetensors", "config.yaml")
    for number in range(count):
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(stage.stopped, run)
        path = run / names[number % 3]
        path.write_bytes(mutations.damaged(path.read_bytes(), rng))
        yield Case(
            f"{path.name} {number}",
            lambda: _of_verb("fit", stage.data, "--out", run, *FIT, "--iterations", 40, "--resume"),
            must_refuse=path.suffix == ".safetensors",
        )


def yamls(stage: Stage, count: int, rng: random.Random) -> Iterator[Case]:
    """Settings and suites, hostile ones first, then damaged copies of good ones."""
    path, out = stage.root / "damaged.yaml", stage.root / "from_yaml"
    config = (stage.run / "config.yaml").read_bytes()
    suite = stage.suite.read_bytes()
    for number in range(count):
        if number // 2 < len(mutations.YAMLS):
            content = mutations.YAMLS[number // 2].encode(errors="surrogatepass")
        else:
            content = mutations.damaged(config if number % 2 else suite, rng)
        path.write_bytes(content)
        shutil.rmtree(out, ignore_errors=True)
        arguments: tuple[object, ...] = ("benchmark", path, "--dry-run")
        if number % 2:
            arguments = ("fit", stage.data, "--out", out, "--config", path, *FIT)
        yield Case(f"yaml {number}", lambda a=arguments: _of_verb(*a))


def _of_verb(*arguments: object) -> str:
    code, _, said = verb(*arguments).partition("\n")
    if code == "0":
        return "done"
    lines = [line for line in said.splitlines() if line.startswith("urd: ")]
    if code in ("1", "2") and len(lines) == 1 and "Traceback" not in said:
        return f"refused: {lines[0]}"
    raise RuntimeError(f"exit code {code}: {said[-400:]}")
