"""The functions of `sampan.runtime` as the keeper's Runtime, with the host's facts gathered once."""
