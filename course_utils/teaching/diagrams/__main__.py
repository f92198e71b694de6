"""`python -m course_utils.teaching.diagrams`: draw the files in images/ again."""

from course_utils.teaching.diagrams import write

if __name__ == "__main__":
    for path in write():
        print(path)
