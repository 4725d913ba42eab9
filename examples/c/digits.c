#include "digits.h"

#include <stdio.h>
#include <string.h>

/* Reads a whole file: a header of `dimensions + 1` words, which has to be the one given, and bytes. */
static int read_idx(const char *folder, const char *name, const uint32_t *header, size_t words, uint8_t *bytes,
                    size_t count)
{
    char path[4096];
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path) {
        fprintf(stderr, "%s: the path is too long\n", name);
        return 1;
    }
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        return 1;
    }
    int is_wrong = 0;
    for (size_t i = 0; i < words; i++) {
        uint8_t word[4];
        const uint32_t expected = header[i];
        const uint8_t big_endian[4] = {(uint8_t)(expected >> 24), (uint8_t)(expected >> 16),
                                       (uint8_t)(expected >> 8), (uint8_t)expected};
        is_wrong |= fread(word, 1, 4, file) != 4 || memcmp(word, big_endian, 4) != 0;
    }
    is_wrong |= fread(bytes, 1, count, file) != count || fgetc(file) != EOF;
    fclose(file);
    if (is_wrong) {
        fprintf(stderr, "%s: not the digits that ship with adaloss\n", path);
    }
    return is_wrong;
}

int digits_read(const char *folder, digits *into)
{
    static uint8_t pixels[DIGITS][DIGITS_PIXELS];
    const uint32_t images[4] = {0x803, DIGITS, 8, 8};
    const uint32_t labels[2] = {0x801, DIGITS};
    if (read_idx(folder, "digits-images-idx3-ubyte", images, 4, pixels[0], sizeof pixels) ||
        read_idx(folder, "digits-labels-idx1-ubyte", labels, 2, into->labels, DIGITS)) {
        return 1;
    }
    for (size_t i = 0; i < DIGITS; i++) {
        for (size_t j = 0; j < DIGITS_PIXELS; j++) {
            into->pixels[i][j] = (float)pixels[i][j] / 16.0f;
        }
    }
    return 0;
}
