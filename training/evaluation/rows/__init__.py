"""Rows of finished scenes on disk, from one process or many."""
