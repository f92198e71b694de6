"""`python -m course_utils.training`: see `command`."""

from course_utils.training.command import main

main()
