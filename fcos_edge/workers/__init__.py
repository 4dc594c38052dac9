"""Artifacts in processes of their own, so that memory, threads and crashes are theirs alone."""
