"""Array files: what reading a damaged one raises."""

import zipfile
import zlib

UNREADABLE_ARRAYS = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What `numpy.load` and the arrays of its result raise for a file that is missing, cut off, altered or something else.

numpy names none of them. TypeError comes of a plain array (`.npy`) by another name, RuntimeError (NotImplementedError
among them) of a bit changed in an entry's flags or method, zlib.error of one in its contents.
"""
