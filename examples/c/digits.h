/* The digits that ship with adaloss, read from IDX files. */
#ifndef DIGITS_H
#define DIGITS_H

#include <stdint.h>

enum {
    DIGITS = 1797,
    DIGITS_TRAINING = 1400, /* the rest are of other writers */
    DIGITS_PIXELS = 64,
    DIGITS_CLASSES = 10
};

typedef struct digits {
    float pixels[DIGITS][DIGITS_PIXELS]; /* 0 to 1 */
    uint8_t labels[DIGITS];
} digits;

/* Reads both files from a folder.  Returns 0, or says on stderr what is wrong and returns 1. */
int digits_read(const char *folder, digits *into);

#endif
