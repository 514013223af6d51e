"""Device, random states and processes of a run."""
