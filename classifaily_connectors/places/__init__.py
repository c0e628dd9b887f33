"""Where bytes lie: on this machine's disk, or anywhere fsspec reaches.

The law of this package: under a place's own name there is never anything half-written. Bytes go to a temporary name
beside it, are forced to the disk, and take the name in one step. The disk needs only the standard library. A name is a
name: `*`, `?`, `[` and `#` in it are letters, never a pattern.
"""

from classifaily_connectors.places.addresses import Address, ObjectPath, is_address, place_of, scheme_of
from classifaily_connectors.places.base import Place, Produce, need
from classifaily_connectors.places.local import LocalPlace
from classifaily_connectors.places.remote import RemotePlace, object_version
from classifaily_connectors.places.several import files_at

__all__ = [
    "Address",
    "LocalPlace",
    "ObjectPath",
    "Place",
    "Produce",
    "RemotePlace",
    "files_at",
    "is_address",
    "need",
    "object_version",
    "place_of",
    "scheme_of",
]
