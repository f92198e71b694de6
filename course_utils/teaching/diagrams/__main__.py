"""`python -m course_utils.teaching.diagrams`: draw the files in images/ again."""

import argparse
from pathlib import Path

from course_utils._files import print_anything
from course_utils.teaching.diagrams import IMAGES, write

if __name__ == "__main__":
    print_anything()
    parser = argparse.ArgumentParser(prog="python -m course_utils.teaching.diagrams", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=IMAGES, help="where to, default images/")
    for path in write(parser.parse_args().folder):
        print(path)
