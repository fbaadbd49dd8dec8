"""usage: python -m fashion_lightning.verify [--flag VALUE ...]

Checks that runs are equal to the bit, resume to the same bits, and evaluate alike.
Trains for some seconds, four times. Flags are those of fit, and go to every run.

examples
  python -m fashion_lightning.verify --trainer.precision bf16-mixed
"""

import sys
import time

from fashion_lightning.command_line.command import answer_help
from fashion_lightning.errors import WorkError, reported


def main(args: list[str] | None = None) -> dict[str, list[str]]:
    """Returns promise to the names of what differs; exits with 1 if anything does."""
    answer_help(__doc__, args)
    from fashion_lightning.jobs import verify  # for which `--help` does not wait
    from fashion_lightning.reports.results import print_promises

    with reported():
        start = time.monotonic()
        print("trains four times for some seconds, in real processes")
        found = verify.verify(sys.argv[1:] if args is None else args)
        print_promises(found)
        print(f"in {time.monotonic() - start:.0f} s")
        if any(differs for _, differs in found.values()):
            raise WorkError("not every promise holds on this machine")
    return {promise: differs for promise, (_, differs) in found.items()}


if __name__ == "__main__":
    main()
