"""What the command says around its verbs: wrong names, -V, -q, -v, completion, width, ratios."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image

from urd.cli import VERBS
from urd.cli.calibrate import print_thresholds
from urd.cli.tables import compared, metrics_table
from urd.inspection.calibration import Calibration
from urd.metrics import METRICS
from urd.metrics.comparison import Difference
from urd.results.compare import Comparison, OtherVerdict
from urd.system.versions import VERSION

WIDTH = 80


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ceck"], "No such command 'ceck'. Did you mean 'check'?"),
        (["fit-al"], "Did you mean 'fit"),
        (["train"], "No such command 'train'. Did you mean 'fit'?"),
        (["store", "exprot"], "No such command 'exprot'. Did you mean 'export'?"),
        (["xyzzy"], "Choose from benchmark, calibrate, check"),
        (["check", "--jsno", "x"], "Did you mean '--json'?"),
        (["-q", "-v", "check", "x"], "give -q or -v, not both"),
    ],
)
def test_a_wrong_name_is_answered_with_the_right_one(urd, words, said):
    code, _, error = urd(*words)
    assert code == 2 and said in error and len(error.splitlines()) == 1


def test_the_version_and_help_of_every_verb(urd):
    for flag in ("-V", "--version"):
        assert urd(flag)[:2] == (0, f"urd, version {VERSION}\n")
    for verb in VERBS:
        code, out, _ = urd(verb, "-h")
        assert code == 0 and out.startswith(f"Usage: urd {verb} ")


@pytest.fixture
def metrics_call(tmp_path):
    """A verb with a result and a note."""
    for kind in ("good", "bad"):
        (tmp_path / "maps" / kind).mkdir(parents=True)
        np.save(tmp_path / "maps" / kind / "0.npy", np.random.default_rng(0).random((9, 9)))
    (tmp_path / "masks" / "bad").mkdir(parents=True)
    Image.fromarray(255 * np.eye(9, dtype=np.uint8)).save(tmp_path / "masks" / "bad" / "0.png")
    (tmp_path / "maps" / "good" / "notes.txt").write_text("x")
    return ["metrics", "--maps", tmp_path / "maps", "--masks", tmp_path / "masks", "--resamples", 0]


def test_quiet_leaves_results_and_errors(urd, metrics_call, tmp_path):
    assert "skipped 1 file that is not" in urd(*metrics_call)[2]
    for call in (["-q", *metrics_call], [*metrics_call, "-q"]):
        code, out, error = urd(*call)
        assert code == 0 and "image AUROC" in out and error == ""
    code, _, error = urd("-q", "check", tmp_path / "nope")
    assert code == 2 and error.startswith("urd: no folder")


def test_verbose_names_versions_threads_and_times(urd, data):
    code, out, error = urd("-v", "check", data)
    assert code == 0 and "no problems" in out
    assert re.search(r"Checking: 20 in \d+\.\d s\n", error)
    assert f"urd {VERSION}, Python 3." in error and "pillow" in error
    assert re.search(r"processors: \d+; \d+\.\d s, \d+\.\d s of processor time", error)
    assert "Checking: " not in urd("check", data)[2]  # the next call in this process is usual again


FAILING = """
import sys
from pathlib import Path
import urd.cli.check
from urd.__main__ import main
def fail(*_, **__):
    raise ZeroDivisionError("nothing to divide by")
urd.cli.check.check.callback = fail
main()
"""


@pytest.mark.parametrize("flag", ["-v", None])
def test_an_unexpected_error_is_one_line_and_a_file(tmp_path, flag):
    words = [*filter(None, [flag]), "check", "x"]
    done = subprocess.run(
        [sys.executable, "-c", FAILING, *words],
        capture_output=True,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path), "TEMP": str(tmp_path)},
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("urd: unexpected ZeroDivisionError (nothing to divide by): please rep")
    assert ("Traceback" in done.stderr) == (flag == "-v")
    (file,) = tmp_path.glob("urd-error-*.txt")
    assert last.endswith(str(file)) and "in fail\n" in file.read_text()


SHELLS = {  # how each shell asks, and what it reads
    "bash": ({"COMP_WORDS": "urd che", "COMP_CWORD": "1"}, "plain,check\n"),
    "zsh": ({"COMP_WORDS": "urd che", "COMP_CWORD": "1"}, "plain\ncheck\n"),
    "fish": ({"COMP_WORDS": "urd", "COMP_CWORD": "che"}, "plain,check\t"),
    "powershell": ({"COMP_WORDS": "urd che", "COMP_CWORD": "1"}, "plain\ncheck\n"),
}


def ask(words: dict[str, str], instruction: str) -> str:
    env = {**os.environ, **words, "_URD_COMPLETE": instruction}
    done = subprocess.run([sys.executable, "-m", "urd"], capture_output=True, text=True, env=env)
    return done.stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_gets_completions(shell):
    from click.shell_completion import get_completion_class

    if get_completion_class(shell) is None:
        pytest.skip(f"click here does not know {shell}")
    words, begin = SHELLS[shell]
    assert ask(words, f"{shell}_complete").startswith(begin)
    if shell != "bash":  # click asks the installed bash for its version first
        assert "_URD_COMPLETE" in ask({}, f"{shell}_source")


def test_flags_choices_and_files_are_completed():
    def bash(*words: str) -> str:
        asked = {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
        return ask(asked, "bash_complete")

    assert "plain,--backbone" in bash("urd", "fit", "--back")
    assert bash("urd", "fit", "--preset", "f").splitlines() == ["plain,fast"]
    assert bash("urd", "store", "pr").splitlines() == ["plain,prune"]
    before = (("check",), ("fit",), ("fit", "--textures"), ("predict", "run"), ("evaluate", "run"))
    for words in [(*words, "d") for words in before]:
        assert bash("urd", *words).splitlines() == ["file,d"]


def test_completing_a_verb_imports_no_verb():
    code = (
        "import sys; from urd.cli import cli\n"
        "try: cli.main([], prog_name='urd', standalone_mode=False)\n"
        "except SystemExit: pass\n"
        "loaded = [m for m in sys.modules if m.startswith('urd.cli.')]\n"
        "sys.exit(loaded != ['urd.cli.groups'])"
    )
    env = {**os.environ, "_URD_COMPLETE": "bash_complete", "COMP_WORDS": "urd ", "COMP_CWORD": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == len(VERBS)


def fits(text: str) -> bool:
    """Whether no line is too long, no cell was cut, and no word was broken."""
    return all(len(line.rstrip()) <= WIDTH for line in text.splitlines()) and "…" not in text


def words_of(text: str) -> str:
    return " ".join(re.sub("[┃│]", " ", text).split())


@pytest.fixture
def narrow(monkeypatch):
    monkeypatch.setenv("COLUMNS", str(WIDTH))


def test_thresholds_fit_80_columns(narrow, capsys):
    scores = tuple(number / 7 for number in range(120))
    calibration = Calibration(scores, tuple(1000 + s for s in scores), scores, "x")
    print_thresholds(calibration.thresholds(), calibration.thresholds(0.02, 0.2))
    out = capsys.readouterr().out
    assert fits(out)
    heading = next(line for line in out.splitlines() if "verdict" in line)
    for name in ("before", "now", "target", "expected", "95 % upper bound"):
        assert name in heading
    assert "From 120 good images." in out
    assert len({line.count("│") for line in out.splitlines() if "│" in line}) == 1


def test_metrics_fit_80_columns(narrow, capsys):
    result = {"protocol": "p" * 30, "n_good": 1, "n_defective": 2}
    for name, metric in METRICS.items():
        result |= {name: 0.51234, f"{name}_low": 0.5, f"{name}_high": 0.6}
        for defect in ("scratch", "missing_part_of_the_left_side") if metric.by_type else ():
            result[f"{name}:{defect}"] = 0.5
    metrics_table(f"/a/long/path{'/x' * 40}: 1 good\n{result['protocol']}", result)
    out = capsys.readouterr().out
    assert fits(out)
    for metric in METRICS.values():
        assert metric.title in words_of(out)


def test_a_comparison_fits_80_columns(narrow, capsys):
    from urd.cli.compare import _show

    tabled = [(name, metric) for name, metric in METRICS.items() if metric.tabled]
    found = [Difference(n, m.title, 0.91, 0.9, -0.0222, -0.0111) for n, m in tabled]
    verdicts = [OtherVerdict("a.png", "scratch", "OK", "NG")]
    _show(Comparison(1200, "maps at 64x64 px", 100, found, verdicts), Path("old"), Path("new"))
    out = capsys.readouterr().out
    assert fits(out) and out.count("-0.0222 to -0.0111") == len(tabled)


@pytest.mark.parametrize("verb", [None, *VERBS])
def test_help_fits_80_columns(urd, narrow, verb):
    code, out, _ = urd(*filter(None, [verb]), "-h")
    assert code == 0 and fits(out)


@pytest.mark.parametrize(
    ("ratio", "words"),
    [(0.7, "1.4 times slower"), (2.31, "2.3 times faster"), (1.0, "as fast"), (0.96, "as fast")],
)
def test_ratios_below_one_are_slower(ratio, words):
    assert compared(ratio) == words


def test_a_group_of_another_program_is_not_confused():
    """Options before a verb are not taken for one."""
    from urd.cli.groups import SuggestingGroup

    group = SuggestingGroup("g", commands=[click.Command("go")])
    with pytest.raises(click.UsageError, match="No such option"):
        group.main(["--gone"], standalone_mode=False)
