"""Trains, calibrates and releases the lung-nodule detector.

With `.venv/bin/python models/lung_nodule/` before it, the first command is all it takes on one GPU (25 minutes; 12 to
16 cores feed it), the third on one or two cores:

    train.py both    --luna16 LUNA16 --work DIR --minutes 25 --device cuda --producers 12 --judges 3
    train.py both    --data ../shared/data/ct --work DIR --minutes 25 --device cuda --producers 12
    train.py both    --data ../shared/data/ct --work DIR --minutes 60
    train.py release --luna16 LUNA16 --work DIR --version 2.0.0 --judges 3

--luna16 and --data may be given together. `release` calibrates on the val part of what it is given (LUNA16: subset 8; subset
9 stays unseen), writes models/lung_nodule/VERSION and needs no GPU. `finder` and `judge` train one of the two. `pretrain`
teaches a finder's body to restore lungs, without marks or nodules; a new finder in the same DIR begins with that.
`both --pretrain-minutes 5` does so first, within its minutes.
DIR keeps the weights between the steps; a step that finds its own weights there goes on from them. --minutes counts
from the start of the program, reading included.
"""

from __future__ import annotations

import time

BEGIN = time.monotonic()  # before the heavy imports below

import argparse  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

FINDER_SHARE = 0.58  # of the training's time
PHANTOMS = range(9000, 9005)  # seeds far from those of tests, demo and constancy check


@dataclass(frozen=True)
class Sources:
    """data: shared/data/ct;  luna16: a folder in that challenge's layout. At least one."""

    data: Path | None
    luna16: Path | None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=["both", "pretrain", "finder", "judge", "release"])
    parser.add_argument("--data", type=Path, help="shared/data/ct")
    parser.add_argument("--luna16", type=Path, help="folder with subset0 ... subset9 and annotations.csv")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60.0, help="by the clock")
    parser.add_argument("--pretrain-minutes", type=float, default=0.0, help="of `both`, before the finder")
    parser.add_argument("--threads", type=int, default=1, help="of the process that learns, on a CPU")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--producers", type=int, default=1, help="processes that draw what is learnt from")
    parser.add_argument("--batch", type=int, nargs=2, help="of finder and judges")
    parser.add_argument(
        "--judges", type=int, default=1, help="how many to train, or to release as their mean"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--version", default="1.0.0")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if args.data is None and args.luna16 is None:
        parser.error("give --data, --luna16 or both")
    if args.pretrain_minutes and args.step != "both":
        parser.error("--pretrain-minutes is a part of `both`; alone it is the step `pretrain`")
    sources = Sources(args.data and args.data.resolve(), args.luna16 and args.luna16.resolve())
    if args.step == "release":
        from release import release

        release(sources, args.work, Path(__file__).parent / args.version, args.judges, threads=args.threads)
    else:
        train(sources, args)


def judge_paths(work: Path, count: int) -> list[Path]:
    return [work / f"judge{k}.safetensors" for k in range(1, count + 1)]


def train(sources: Sources, args: Any) -> None:
    """Reads, forks the producers, then trains what `args.step` says."""
    import torch
    from finder import WIDTHS, Whole, train_finder
    from judge import train_judges
    from pretrain import pretrain
    from producers import Producers
    from sampler import open_sampler

    from triage.detectors._nets3d import NoduleFinder
    from triage.detectors._runtime import load_safetensors

    torch.set_num_threads(args.threads)
    torch.backends.cudnn.benchmark = True
    sampler, hosts = open_sampler(
        sources.data, sources.luna16, PHANTOMS, args.seed, max(1, min(args.producers, 12))
    )
    print(f"{len(hosts.scans)} scans read after {time.monotonic() - BEGIN:.0f} s", flush=True)
    producers = Producers(sampler, hosts, sources.luna16, args.producers, args.seed)
    saved, share = args.work / "finder.safetensors", FINDER_SHARE if args.step == "both" else 1.0
    pretrained = args.work / "pretrained.safetensors"
    batch = args.batch or ((32, 96) if args.device == "cuda" else (8, 24))
    early: list[Any] = []

    def left() -> float:
        return max(0.01, args.minutes - (time.monotonic() - BEGIN) / 60)  # a step even if reading took all

    try:
        if args.step == "pretrain" or (args.step == "both" and args.pretrain_minutes and not saved.exists()):
            minutes = left() if args.step == "pretrain" else args.pretrain_minutes
            pretrain(
                producers, pretrained, minutes=minutes, device=args.device, seed=args.seed, batch=batch[0]
            )
        if args.step == "judge":
            module = load_safetensors(NoduleFinder(WIDTHS), saved).to(args.device).eval()
            finder = Whole(module, args.device)
        elif args.step != "pretrain":
            finder, early = train_finder(
                producers,
                saved,
                pretrained,
                minutes=left() * share,
                device=args.device,
                seed=args.seed,
                batch=batch[0],
            )
        if args.step in ("both", "judge"):
            paths = judge_paths(args.work, args.judges)
            train_judges(
                producers,
                finder,
                sampler.crops,
                paths,
                minutes=left(),
                device=args.device,
                seed=args.seed,
                batch=batch[1],
                early=early,
            )
    finally:
        producers.close()
    print(f"trained after {time.monotonic() - BEGIN:.0f} s", flush=True)


if __name__ == "__main__":
    main()
