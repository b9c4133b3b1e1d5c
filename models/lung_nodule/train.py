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
    parser.add_argument("--data", type=Path, help="shared/data/ct")
    parser.add_argument("--luna16", type=Path, help="folder with subset0 ... subset9 and annotations.csv")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=20.0, help="by the clock")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--version", default="1.0.0")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if args.data is None and args.luna16 is None:
        parser.error("give --data, --luna16 or both")
    from finder import Sources

    sources = Sources(args.data and args.data.resolve(), args.luna16 and args.luna16.resolve())
    if args.step == "finder":
        from finder import train_finder

        train_finder(sources, args.work, minutes=args.minutes, threads=args.threads, seed=args.seed)
    elif args.step == "judge":
        from judge import collect, train_judge

        collect(sources, args.work, minutes=args.minutes, threads=args.threads, seed=args.seed)
        train_judge(sources, args.work, minutes=args.minutes, threads=args.threads, seed=args.seed)
    else:
        from release import release

        release(sources, args.work, Path(__file__).parent / args.version, threads=args.threads)


if __name__ == "__main__":
    main()
