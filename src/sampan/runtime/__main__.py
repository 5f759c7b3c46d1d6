"""`sampan-runc`: see `runtime.cli`. The first of two interpreters, when a verb comes near a container."""

from __future__ import annotations

import sys

_SEALED_VERBS = ("run", "create", "exec")


def main() -> None:
    """Run the command line and exit with its code."""
    arguments = sys.argv[1:]
    # A flag's value may read like a verb; one start of the interpreter too many is all that costs.
    if any(word in _SEALED_VERBS for word in arguments):
        from sampan.runtime import seal

        if not seal.is_sealed():
            seal.reexec("sampan.runtime.cli", arguments)
    from sampan.runtime import cli

    cli.main(arguments)


if __name__ == "__main__":
    main()
