"""Every error a person can cause or meet, as one tree.

A message says what was found, what was expected and what to do. Anything that is not a
`PassionSRError` is a bug of ours and keeps its traceback.
"""


class PassionSRError(Exception):
    """Base of all errors that are meant for the person at the keyboard."""


class ConfigError(PassionSRError):
    """A setting, preset or description that cannot be used."""


class ImageError(PassionSRError):
    """An image that cannot be read, is not an image, or cannot be upscaled."""


class ModelError(PassionSRError):
    """A model that is unknown, absent, damaged or of another architecture."""


class DeviceError(PassionSRError):
    """A device or precision that this machine does not offer."""


class TileMemoryError(DeviceError):
    """A tile that is too large for the memory that is left."""


class StoreError(PassionSRError):
    """A file or store entry that cannot be read, written or trusted."""


class OutputError(PassionSRError):
    """An output that exists already or cannot be written."""


class DownloadError(PassionSRError):
    """An address that does not answer with a whole file."""


class DamagedDownloadError(DownloadError):
    """A file that came, but is another one than was expected."""


class FitError(PassionSRError):
    """An optimisation that diverged or cannot go on."""


class DataError(PassionSRError):
    """A data set that is missing, or whose images are not the pairs it should hold."""


class MetricError(PassionSRError):
    """A metric that cannot be computed here, or that gave no number."""
