"""The package's shape: which module may import which, and what importing it costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import llmrankers_groupwise

PACKAGE = Path(llmrankers_groupwise.__file__).parent

LAYERS = (
    ("errors", "types", "textfiles", "folders", "records"),
    ("grouping", "conversion", "prompts", "parsing", "orders", "fusion", "runblocks", "runs",
     "trec", "evaluation",
     "significance", "measured", "run_fusion", "manifest",
     "score_models", "calibration", "second_round"),
    ("passages", "candidates", "lucene", "text_sources", "first_stage", "upstream",
     "testsets", "topics", "preparation", "testing", "tally", "background", "signals", "keys",
     "journal_open", "journal_file", "journal_pages",
     "journal_check", "journal_writer", "journal"),
    ("engines.protocol", "engines.adapters", "engines.batching", "engines.tokens",
     "engines.templates", "engines.chat",
     "engines.dialogue", "engines.prompter", "engines.dry", "engines.blanks",
     "engines.formtokens", "engines.cache", "engines.decoding", "engines.identity",
     "engines.pretrained", "engines.loading", "engines.loaded",
     "engines.minilm", "engines.embedded", "engines.estimates",
     "engines.openai_accepted", "engines.openai_format", "engines.openai_server",
     "engines.openai_dialect", "engines.openai_settings", "engines.openai",
     "engines.transformers", "engines.vllm", "engines.vllm_process",
     "engines.replay", "engines.recordings",
     "engines.ray", "engines.ray_workers", "engines.ray_actor", "engines.ray_cluster",
     "engines"),
    ("asking", "methods.judging", "methods.groupwise", "methods.setwise", "methods.listwise",
     "methods.pointwise", "methods.registry", "methods"),
    ("presets", "trained", "method_ranker", "ranker", "sibling_rankers", "results",
     "experiment", "summary", "explanation", "merging",
     "comparison", "comparison_table",
     "report.blocks", "report.pareto", "report.svg", "report.drawing", "report.plots",
     "report.overview", "report.texts", "report.rankings", "report.questions", "report.details",
     "report.page", "report",
     "training.agreement", "training.columns", "training.labels", "training.rewards",
     "training.rows", "training.datasets", "training.teachers", "training.retrieval",
     "training.pools", "training.reasons", "training.lists", "training.student",
     "training.writing", "training.synthesis", "training.inspection", "training.plots",
     "training.arguments", "training.card", "training.curves", "training.fit",
     "training.folder",
     "training.grpo", "training.heldout", "training.models", "training.settings",
     "training.sft", "training.tokens",
     "training"),
    ("worker_options", "options", "option_groups", "method_options", "prompt_command",
     "journal_command",
     "inputs", "reporting", "run_command", "merge_command", "compare_command", "fuse_command",
     "prepare_command", "synthesize_options",
     "synthesize_command", "inspect_command",
     "finetune_options", "finetune_command",
     "train_command"),
    ("cli",),
)  # fmt: skip
LEVEL = {module: level for level, modules in enumerate(LAYERS) for module in modules}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py") if module_name(path)}


def imports_of(path: Path) -> set[str]:
    """The package's modules that a module imports, wherever in its code."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE.name + "."):
            found.add((node.module or "").removeprefix(PACKAGE.name + "."))
        elif isinstance(node, ast.Import):
            names = [
                alias.name for alias in node.names if alias.name.startswith(PACKAGE.name + ".")
            ]
            found.update(name.removeprefix(PACKAGE.name + ".") for name in names)
    return found


def test_every_module_has_its_layer() -> None:
    assert set(MODULES) == set(LEVEL)


@pytest.mark.parametrize("module", sorted(LEVEL))
def test_imports_point_down_or_sideways(module: str) -> None:
    for imported in imports_of(MODULES[module]):
        assert LEVEL[imported] <= LEVEL[module], f"{module} imports {imported}"


def test_no_modules_import_each_other_in_a_ring() -> None:
    remaining = {module: imports_of(path) for module, path in MODULES.items()}
    while remaining:
        free = {module for module, imported in remaining.items() if not imported & set(remaining)}
        assert free, f"a ring among {sorted(remaining)}"
        remaining = {
            module: imported for module, imported in remaining.items() if module not in free
        }


def test_importing_loads_nothing_heavy_and_prints_nothing() -> None:
    program = (
        "import sys, random; state = random.getstate(); import llmrankers_groupwise; "
        "heavy = {'torch', 'transformers', 'vllm', 'openai', 'numpy', 'openvino', 'ir_measures'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules); "
        "assert random.getstate() == state"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


@pytest.mark.parametrize("module", sorted(MODULES))
def test_what_a_module_calls_public_it_defines_itself(module: str) -> None:
    body = ast.parse(MODULES[module].read_text(encoding="utf-8")).body
    targets = [t for each in body if isinstance(each, ast.Assign) for t in each.targets]
    targets += [each.target for each in body if isinstance(each, ast.AnnAssign)]
    defined = {target.id for target in targets if isinstance(target, ast.Name)}
    defined |= {each.name for each in body if isinstance(each, ast.ClassDef | ast.FunctionDef)}
    defined |= {each.name for each in body if isinstance(each, ast.AsyncFunctionDef)}
    public = {
        name
        for each in body
        if isinstance(each, ast.Assign) and getattr(each.targets[0], "id", "") == "__all__"
        for name in ast.literal_eval(each.value)
    }
    assert public <= defined


def test_the_package_has_what_it_exports() -> None:
    missing = [n for n in llmrankers_groupwise.__all__ if not hasattr(llmrankers_groupwise, n)]
    assert missing == []
