"""From pairs to cached latents and text embeddings."""
