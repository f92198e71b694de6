"""Images for the course, always there: MNIST where it can be had, the digits that come with scikit-learn elsewhere."""

from course_utils.data.images import ImageData, Split
from course_utils.data.load import DATASETS, current_dataset, default_root, load_images
from course_utils.data.sprites import Sprites, sprites

__all__ = ["DATASETS", "ImageData", "Split", "Sprites", "current_dataset", "default_root", "load_images", "sprites"]
