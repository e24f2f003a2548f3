"""A program that shows its arguments, and what others can see of them."""

import json
import sys

with open("/proc/self/cmdline", "rb") as file:
    print(json.dumps({"argv": sys.argv[1:], "cmdline": file.read().decode().split("\0"), "name": __name__}))
sys.exit(int(sys.argv[-1]) if sys.argv[-1].isdigit() else 0)
