"""Every model: its parameters, and what a training step costs on one CPU core; as the table in docs/models.md.

A step is forward, loss, backward and AdamW on 8 patches of twelve bands at 120 px, in float32; the least CPU time of three is given,
as other work on the machine only adds to it.
"""

import argparse
import sys
import time
from pathlib import Path

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

sys.path.insert(0, str(Path(__file__).parents[1]))

from torchvision_aside import make_loadable

from rsdata.errors import TrainingError
from rsdata.training.models import MODELS, build_model, count_parameters

BANDS, CLASSES, SIDE_PX, BATCH = 12, 19, 120, 8


def step_s(name: str, steps: int) -> float:
    """CPU seconds of one step."""
    torch.manual_seed(0)
    network = build_model(name, BANDS, CLASSES, 0.15, 0.15, SIDE_PX).train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    pixels = torch.randn(BATCH, BANDS, SIDE_PX, SIDE_PX).to(memory_format=torch.channels_last)
    ground = (SIDE_PX, SIDE_PX) if MODELS[name].answers == "pixel" else ()
    targets = (torch.rand(BATCH, CLASSES, *ground) > 0.8).float()
    times = []
    for _ in range(steps):
        began = time.process_time()
        optimizer.zero_grad()
        binary_cross_entropy_with_logits(network(pixels), targets).backward()
        optimizer.step()
        times.append(time.process_time() - began)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="all if none is named")
    parser.add_argument("--steps", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    make_loadable()
    print("| model | answers for | million parameters | side, px | CPU ms a step | patches a CPU second | extra |")
    print("|---|---|---|---|---|---|---|")
    for name in given.models or sorted(MODELS):
        model = MODELS[name]
        try:
            with torch.device("meta"):
                parameters = count_parameters(build_model(name, BANDS, CLASSES))
            seconds = step_s(name, given.steps)
        except TrainingError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
            continue
        side = f"any from {model.least_px}" + (", the same always" if model.fixed_side else "")
        figures = f"{parameters / 1e6:.2f} | {side} | {1000 * seconds:,.0f} | {BATCH / seconds:.1f}"
        print(f"| `{name}` | {model.answers} | {figures} | `{model.extra}` |", flush=True)


if __name__ == "__main__":
    main()
