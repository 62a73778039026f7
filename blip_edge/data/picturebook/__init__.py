"""Real pictures with short captions, out of packages that Debian and npm distribute.

make_pictures("picturebook", "data/picturebook")
"""

from blip_edge.data.picturebook.make import PictureSet, make_pictures

__all__ = ["PictureSet", "make_pictures"]
