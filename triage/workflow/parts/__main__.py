"""`python -m triage.workflow.parts NAME`: one part of the product, as the supervisor starts it."""

import os
import sys


def main() -> int:
    name, workers = sys.argv[1], int(sys.argv[2])
    if name == "receiver":
        from triage.workflow.parts import receiver

        return receiver.main()
    if name == "hl7":
        from triage.workflow.parts import hl7

        return hl7.main()
    if name == "relay":
        from triage.workflow.parts import relay

        return relay.main()
    if name == "scheduler":
        from triage.workflow.parts import scheduler

        return scheduler.main()
    if name == "publisher":
        os.nice(5)  # before its imports: an archive can wait, a patient's study cannot
        from triage.workflow.parts import sender

        return sender.main()
    if name == "collector":
        from triage.workflow.parts import collector

        return collector.main()
    from triage.workflow.parts import worker

    if name == "worker-stat":
        return worker.main(name, "stat", 1)
    assert name == "worker-routine", name
    return worker.main(name, "routine,shadow", workers)


if __name__ == "__main__":
    sys.exit(main())
