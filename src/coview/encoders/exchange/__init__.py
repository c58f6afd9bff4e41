"""Encoders as files: export, load, convert."""
