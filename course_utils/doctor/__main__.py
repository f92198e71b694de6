"""The command's entrance: ``python -m course_utils.doctor FILE.py:CLASS`` begins here."""

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    sys.path.pop(0)  # the working folder, where a file called random.py would pass for the library's

from course_utils.doctor.command import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
