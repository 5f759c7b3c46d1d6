"""Real neighbours for tests: a machine of our own, engines, clients, registries and images."""
