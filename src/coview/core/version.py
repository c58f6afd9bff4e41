"""The version of this package, where everything below it may read it."""

VERSION = "0.1.0"
