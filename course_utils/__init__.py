"""The package behind the course: what the notebooks build by hand, in the form that one would use at work.

Nothing is imported here: ``from course_utils.models import Autoencoder`` loads what it names and no more.
"""

__version__ = "0.1.0"
