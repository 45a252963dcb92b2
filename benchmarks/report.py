"""What a report costs to write, and how long a browser takes to open it.

    python benchmarks/report.py [--queries 100] [--runs 5] [--hits 100] [--shots FOLDER]

Makes runs of random words, passages of some 55 words, and for all runs but the first a journal with
replies of some 400 words for groups of 20; writes the report by `run-groupwise compare --html`, and
opens it in Chromium without a window: from the address to the end of the page's script, a click
on a column's head to the table sorted, a query opened to its lists drawn, a passage opened to its
text. Medians of several runs. Needs selenium, Chromium and its driver (CHROME, CHROMEDRIVER).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from llmrankers_groupwise import GroupwiseLlmRanker, Request
from llmrankers_groupwise.data import FirstStage, JsonlPassages, RunFile, read_queries
from llmrankers_groupwise.pipeline import Experiment
from llmrankers_groupwise.testing import ScriptedEngine

TIMES = 7
PASSAGE, REPLY = 55, 400


def make_files(folder: Path, queries: int, hits: int) -> None:
    """queries.tsv, corpus.jsonl, first.trec, qrels.txt."""
    rng = random.Random(0)
    letters = "aeioubcdfglmnprst"
    words = ["".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(20000)]
    passages = 3 * queries * hits // 2
    with (folder / "queries.tsv").open("w") as file:
        file.writelines(f"{n}\t{' '.join(rng.choices(words, k=8))}\n" for n in range(queries))
    with (folder / "corpus.jsonl").open("w") as file:
        for number in range(passages):
            text = " ".join(rng.choices(words, k=PASSAGE))
            file.write(json.dumps({"_id": f"D{number:07}", "title": "", "text": text}) + "\n")
    with (folder / "first.trec").open("w") as run, (folder / "qrels.txt").open("w") as qrels:
        for query in range(queries):
            for rank, number in enumerate(rng.sample(range(passages), hits), start=1):
                run.write(f"{query} Q0 D{number:07} {rank} {hits - rank}.5 first\n")
                if rng.random() < 0.3:
                    qrels.write(f"{query} 0 D{number:07} {rng.randint(0, 3)}\n")


def rerank(folder: Path, number: int) -> Path:
    """A reranked run with its journal, by scores drawn at random."""
    rng = random.Random(number)
    reason = ["because", "label", "passage", "answers", "the", "question", "less", "well"]

    def answer(request: Request) -> str:
        scores = {label: rng.randint(0, 10) for label in request.labels}
        text = " ".join(rng.choices(reason, k=REPLY))
        return f"<reason>{text}</reason><answer>{json.dumps(scores)}</answer>"

    stage = FirstStage(
        RunFile(folder / "first.trec"),
        read_queries(folder / "queries.tsv"),
        JsonlPassages(folder / "corpus.jsonl"),
    )
    path = folder / f"run{number}.trec"
    named = {"query_file": str(folder / "queries.tsv"), "corpus": str(folder / "corpus.jsonl")}
    journal = f"{path}.journal.sqlite"
    with GroupwiseLlmRanker(engine=ScriptedEngine(answer), seed=number, journal=journal) as ranker:
        Experiment(first_stage=stage, ranker=ranker, save_path=path, settings=named).run()
    return path


def write_report(folder: Path, paths: list[Path]) -> tuple[Path, float, float]:
    """The report, the seconds that the command took, and its most resident memory in MB."""
    html = folder / "report.html"
    runs = [each for path in paths for each in ("--run", f"{path.stem}={path}")]
    command = [sys.executable, "-m", "llmrankers_groupwise.cli", "compare", *runs,
               "--qrels", str(folder / "qrels.txt"), "--html", str(html)]  # fmt: skip
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    return html, seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def open_browser() -> Any:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = os.environ.get("CHROME") or shutil.which("chromium") or ""
    for argument in ("--headless=new", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    if os.getuid() == 0:
        options.add_argument("--no-sandbox")
    driver = os.environ.get("CHROMEDRIVER") or shutil.which("chromedriver")
    return webdriver.Chrome(options=options, service=Service(driver))


PAINTED = "await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));"
SORT = f"""
const done = arguments[arguments.length - 1], started = performance.now();
document.querySelector("[data-key=difference-1]").click();
(async () => {{ {PAINTED} done(performance.now() - started); }})();
"""
OPEN = f"""
const done = arguments[arguments.length - 1], started = performance.now();
location.hash = document.querySelectorAll("#queries a")[arguments[0]].getAttribute("href");
(async () => {{
  while (document.getElementById("query").hidden || !document.querySelector("#lists li")) {PAINTED}
  {PAINTED} done(performance.now() - started);
}})();
"""
PASSAGE_OPENED = f"""
const done = arguments[arguments.length - 1], started = performance.now();
const entry = document.querySelector("#lists details");
entry.open = true;
(async () => {{
  while (!entry.querySelector(".passage p:nth-child(2)")) {PAINTED}
  {PAINTED} done(performance.now() - started);
}})();
"""


def measure(driver: Any, html: Path) -> dict[str, list[float]]:
    """Milliseconds of each kind, TIMES of each."""
    took: dict[str, list[float]] = {"opened": [], "sorted": [], "query": [], "passage": []}

    def script(code: str, *arguments: int) -> float:
        return float(driver.execute_async_script(code, *arguments))

    for at in range(TIMES):
        driver.get("about:blank")
        driver.get(html.as_uri())
        while not driver.execute_script("return document.documentElement.dataset.ready"):
            time.sleep(0.01)
        entry = "performance.getEntriesByName('ready')[0].startTime"
        took["opened"].append(float(driver.execute_script(f"return {entry}")))
        took["sorted"].append(script(SORT))
        took["query"].append(script(OPEN, at))
        took["passage"].append(script(PASSAGE_OPENED))
    return took


def screenshots(driver: Any, html: Path, folder: Path) -> None:
    """Pictures of the first page and of a query, in light and dark, wide and narrow."""
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        for width in (1400, 400):
            driver.set_window_size(width, 1000)
            for name, address in (("first", ""), ("query", "#query=0")):
                driver.get("about:blank")
                driver.get(html.as_uri() + address)
                time.sleep(0.5)
                driver.save_screenshot(str(folder / f"{name}-{scheme}-{width}.png"))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--hits", type=int, default=100)
    parser.add_argument("--shots", type=Path, help="save pictures of it in this folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_files(folder, arguments.queries, arguments.hits)
        paths = [folder / "first.trec"]
        paths += [rerank(folder, number) for number in range(1, arguments.runs)]
        html, seconds, memory = write_report(folder, paths)
        print(
            f"{arguments.queries} queries, {arguments.runs} runs, {arguments.hits} documents each"
        )
        print(f"written in {seconds:.1f} s, {memory:.0f} MB; {html.stat().st_size / 1e6:.1f} MB")
        driver = open_browser()
        try:
            for name, took in measure(driver, html).items():
                row = f"{statistics.median(took):.0f} ms ({min(took):.0f}..{max(took):.0f})"
                print(f"{name:<8} {row}")
            if arguments.shots:
                screenshots(driver, html, arguments.shots)
        finally:
            driver.quit()


if __name__ == "__main__":
    main()
