"""Lenses: env in, env out."""
