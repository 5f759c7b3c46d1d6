"""`sampan-runc`: see `runtime.cli`. Near a container it runs from an interpreter that is sealed, or starts that one."""

from __future__ import annotations

import sys

# Those that put a process of ours inside a container. `restore` is none of them: the processes that enter are CRIU's,
# and of ours only one is ever in a namespace of the container's, the network's, where no /proc shows it.
_SEALED_VERBS = ("run", "create", "exec")


def main(python: str = "", packages: str = "") -> None:
    """Run the command line and exit with its code.

    `bin/sampan-runc` gives the absolute path of its interpreter, for which one may stand sealed in /run, and the
    directory of packages, "" when it is not known.
    """
    arguments = sys.argv[1:]
    # A flag's value may read like a verb; one start of the interpreter too many is all that costs.
    if any(word in _SEALED_VERBS for word in arguments):
        from sampan.runtime import seal

        if not seal.is_sealed():
            if python:
                _stand(python)
            seal.reexec("sampan.runtime.cli", arguments)
    # A module that `code_file.load` has made has no spec.
    if packages and __spec__ is not None:
        _keep_code(python, packages, arguments)
    from sampan.runtime import cli

    cli.main(arguments)


def _stand(python: str) -> None:
    from sampan.runtime import standing

    try:
        standing.restart(python)
    except OSError:
        pass  # not root, or not a host for it: the seal is then made for this start alone


def _keep_code(python: str, packages: str, arguments: list[str]) -> None:
    from sampan.runtime import code_file, standing

    # By the same rule as in the script: a word that is no verb costs a start some imports.
    verb = next((word for word in arguments if word in code_file.ROOTS), "")
    if verb and standing.may_keep_code(python):
        try:
            code_file.write(standing.code_path(python, verb), packages, verb)
        except OSError:
            pass  # a later start will be as slow as this one


if __name__ == "__main__":
    main()
