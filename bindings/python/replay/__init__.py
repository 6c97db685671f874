"""Replays operation scripts (docs/SCRIPTS.md) over the package kvc."""
