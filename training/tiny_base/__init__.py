"""The embedded base model: autoencoder, transformer and tokenizers, trained from scratch."""
