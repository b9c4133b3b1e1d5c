"""Coverage-guided fuzzing with atheris: `python -m tests.fuzz TARGET SECONDS [CORPUS]`.

    pip install atheris     (not in the lock: nothing of the product or of `make test` needs it)

Each input that fails is left as a file `crash-*`; put it into tests/fuzz/corpus/TARGET, where the replay keeps it.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["triage.dicom"]):
    from tests.fuzz.seeds import seeds
    from tests.fuzz.upper_layer import TARGETS


def main() -> None:
    name, seconds = sys.argv[1], sys.argv[2]
    corpus = sys.argv[3] if len(sys.argv) > 3 else f"/tmp/triage-fuzz-{name}"
    seeds(name, corpus)
    limits = [
        f"-max_total_time={seconds}",
        "-max_len=20000",
        "-rss_limit_mb=2048",
        "-timeout=10",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], corpus, *limits], TARGETS[name])
    atheris.Fuzz()


main()
