"""The one place the version is written; the build, the User-Agent and every home read it from here."""

__version__ = "0.1.0"
