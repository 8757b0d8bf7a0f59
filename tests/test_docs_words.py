"""The words of the documents: spelling, the length of sentences, links."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
from documents import DOCS, FOR_READERS, LOGS, ROOT, pages, sentences

LONGEST_MEDIAN = 16  # words
SPELLED = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "docs", "notebooks"]
TO_READ = [page for page in pages() if page.parent != LOGS]


def test_no_word_is_misspelled():
    pytest.importorskip("codespell_lib", reason="codespell is not installed")
    command = [sys.executable, "-m", "codespell_lib", *SPELLED, "src", "pretraining"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_codespell_finds_a_word(tmp_path):
    pytest.importorskip("codespell_lib", reason="codespell is not installed")
    (tmp_path / "page.md").write_text("We recieve it.\n")
    command = [sys.executable, "-m", "codespell_lib", str(tmp_path)]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode != 0


@pytest.mark.parametrize("page", TO_READ, ids=lambda page: page.name)
def test_sentences_are_short(page):
    lengths = [len(words) for words in sentences(page)]
    if len(lengths) >= 5:  # of fewer a median says nothing
        assert statistics.median(lengths) < LONGEST_MEDIAN
    longest = max(sentences(page), key=len, default=[])
    assert len(longest) <= 45, " ".join(longest)


def test_the_median_sentence_of_all_is_short():
    lengths = [len(words) for page in TO_READ for words in sentences(page)]
    assert len(lengths) > 500 and statistics.median(lengths) < LONGEST_MEDIAN


def test_sentences_are_counted_fairly(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A heading that counts not\n\nOne two three. Four `code of many words` six!\n\n"
        "| a table | counts not |\n\n```sh\nnor does code.\n```\n\n"
        "- a fragment\n- One [link text](https://x.example/y.z) in 1,000 words.\n"
    )
    assert [len(words) for words in sentences(page)] == [3, 3, 6]


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) < 120


LINK = re.compile(r"\]\(<?([^)>\s]+)>?\)|<(https?://[^>]+)>")


def links_of(text: str) -> list[str]:
    without_code = re.sub(r"^(`{3,}).*?^\1$|`[^`]+`", "", text, flags=re.S | re.M)
    return [a or b for a, b in LINK.findall(without_code)]


def anchors_of(text: str) -> set[str]:
    """The anchors that code hosts and the site make of headings."""
    bare = re.sub(r"^(`{3,}).*?^\1$", "", text, flags=re.S | re.M)
    found = set()
    for heading in re.findall(r"^#+ (.+)$", bare, flags=re.M):
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        found.add(re.sub(r"[^\w\- ]", "", words).replace(" ", "-"))
    return found


LINKING = [*pages(), ROOT / "pretraining/MODEL_CARD.md"]


@pytest.mark.parametrize("page", LINKING, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in links_of(page.read_text()):
        if "://" in target:
            address = urlsplit(target)
            assert (address.scheme in ("https", "http") and "." in (address.hostname or "")) or (
                address.hostname == "127.0.0.1"
            ), target
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor and file.suffix == ".md":
            text = file.read_text()
            if "{include}" in text:  # a page of the site that shows a file of the repository
                included = re.search(r"\{include\} (\S+)", text)[1]
                text = (file.parent / included).read_text()
            assert anchor in anchors_of(text), f"{page.name}: {target}"


def test_every_page_is_in_the_table_of_contents():
    listed = (DOCS / "index.md").read_text()
    for page in pages():
        if page.name not in (*FOR_READERS, "index.md"):
            name = str(page.relative_to(DOCS).with_suffix(""))
            assert re.search(rf"^{re.escape(name)}$", listed, flags=re.M), name
