"""What a configuration may say: one YAML file, one section per command."""
