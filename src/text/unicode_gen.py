#!/usr/bin/env python3
"""Writes unicode_tables.h, the character classes of the pre-tokenizers.

    python3.13 src/text/unicode_gen.py > src/text/unicode_tables.h

Takes the classes from Python's own unicodedata; Python 3.13 has Unicode 15.1,
the version of llama.cpp's tables, and the script insists on it.
"""

import sys
import unicodedata

VERSION = "15.1.0"
# White space as \s of the tokenizers' regular expressions means it: Unicode's White_Space.
SPACE = {*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B),
         0x2028, 0x2029, 0x202F, 0x205F, 0x3000}
CLASSES = {"L": "LETTER", "N": "NUMBER", "P": "PUNCTUATION", "M": "MARK"}


def class_of(code_point):
    if code_point in SPACE:
        return "SPACE"
    return CLASSES.get(unicodedata.category(chr(code_point))[0], "OTHER")


def main():
    if unicodedata.unidata_version != VERSION:
        sys.exit(f"unicode_gen.py: this Python has Unicode {unicodedata.unidata_version}, "
                 f"needed is {VERSION} (Python 3.13)")
    ranges, last = [], None
    for code_point in range(0x110000):
        name = class_of(code_point)
        if name != last:
            ranges.append((code_point, name))
            last = name
    print("/* Written by unicode_gen.py from Unicode " + VERSION + "; do not edit.\n"
          " * A range of code points of one class begins at each entry: the first code point << 3 | class. */")
    print(f"#define XL_UNICODE_RANGES {len(ranges)}")
    print("static const uint32_t unicode_ranges[XL_UNICODE_RANGES] = {")
    order = ["OTHER", "LETTER", "NUMBER", "SPACE", "PUNCTUATION", "MARK"]
    cells = [f"0x{code_point << 3 | order.index(name):x}" for code_point, name in ranges]
    for at in range(0, len(cells), 12):
        print("    " + ", ".join(cells[at:at + 12]) + ",")
    print("};")


if __name__ == "__main__":
    main()
