"""Rows of finished scenes on the disk, from one process or many."""
