"""Trains, calibrates and releases the lung-nodule detector.

    python models/lung_nodule/train.py finder  --data ../shared/data/ct --work DIR --minutes 25
    python models/lung_nodule/train.py judge   --data ../shared/data/ct --work DIR --minutes 10
    python models/lung_nodule/train.py release --data ../shared/data/ct --work DIR --version 1.0.0

`judge` takes its minutes twice: collecting what the finder brings, then learning.
DIR keeps the weights between the steps; a step that finds its own weights there goes on from them.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=["finder", "judge", "release"])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--version", default="1.0.0")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    data = args.data.resolve()
    if args.step == "finder":
        from finder import train_finder

        train_finder(data, args.work, minutes=args.minutes, threads=args.threads, seed=args.seed)
    elif args.step == "judge":
        from judge import collect, train_judge

        collect(data, args.work, minutes=args.minutes, threads=args.threads, seed=args.seed)
        train_judge(data, args.work, minutes=args.minutes, threads=args.threads, seed=args.seed)
    else:
        from release import release

        release(data, args.work, Path(__file__).parent / args.version, threads=args.threads)


if __name__ == "__main__":
    main()
