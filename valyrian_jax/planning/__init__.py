"""What a run costs: memory, time, checkpoints and communication, before anything is allocated."""
