"""sampan: the container stack in Python (runtime, container core, engine, command line).

This package root imports nothing: `sampan-runc` and the keeper count every import.
"""

VERSION = "0.1.0"
