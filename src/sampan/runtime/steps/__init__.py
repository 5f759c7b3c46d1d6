"""What init does, a function a step. The functions by their steps' names: `table`."""
