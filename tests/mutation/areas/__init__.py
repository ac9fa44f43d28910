"""The patches by the part of the package that they are of: each module has its ``PATCHES``."""
