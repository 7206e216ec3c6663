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
ORDER = ["OTHER", "LETTER", "NUMBER", "SPACE", "PUNCTUATION", "MARK", "SYMBOL"]  # as in unicode.h
CLASSES = {"L": "LETTER", "N": "NUMBER", "P": "PUNCTUATION", "M": "MARK", "S": "SYMBOL"}
BLOCK_BITS = 11
BLOCKS = 64  # and one more for all code points from 0x20000 on


def class_of(code_point):
    if code_point in SPACE:
        return "SPACE"
    return CLASSES.get(unicodedata.category(chr(code_point))[0], "OTHER")


def main():
    if unicodedata.unidata_version != VERSION:
        sys.exit(f"unicode_gen.py: this Python has Unicode {unicodedata.unidata_version}, "
                 f"needed is {VERSION} (Python 3.13)")
    starts, runs = [], bytearray()
    for block in range(BLOCKS + 1):
        first = block << BLOCK_BITS
        end = first + (1 << BLOCK_BITS) if block < BLOCKS else 0x110000
        starts.append(len(runs))
        while first < end:
            name, begin = class_of(first), first
            while first < end and class_of(first) == name:
                first += 1
            number = (first - begin) << 3 | ORDER.index(name)
            while number >= 0x80:
                runs.append(number & 0x7F | 0x80)
                number >>= 7
            runs.append(number)
    print("/* Written by unicode_gen.py from Unicode " + VERSION + "; do not edit.\n"
          " * Runs of code points of one class, a block of code points after the other: each is\n"
          " * length << 3 | class, seven bits a byte, the low ones first, the top bit where more follow.\n"
          " * A block begins at its byte of unicode_starts; the last one holds all that is left. */")
    print(f"#define XL_UNICODE_BLOCK_BITS {BLOCK_BITS}")
    print(f"#define XL_UNICODE_BLOCKS {BLOCKS}")
    print("static const uint16_t unicode_starts[XL_UNICODE_BLOCKS + 1] = {")
    for at in range(0, len(starts), 16):
        print("    " + ", ".join(map(str, starts[at:at + 16])) + ",")
    print("};")
    print("static const char unicode_runs[] =")
    lines = [runs[at:at + 23] for at in range(0, len(runs), 23)]
    print("\n".join('    "' + "".join(f"\\x{b:02x}" for b in line) + '"' for line in lines) + ";")


if __name__ == "__main__":
    main()
