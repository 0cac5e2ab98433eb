"""The parts of a base model in diffusers' classes: adapter, text encoders, autoencoder, planning pipeline."""
