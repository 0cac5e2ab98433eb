"""The loop that every training runs in: steps, optimizers, checkpoints, log."""
