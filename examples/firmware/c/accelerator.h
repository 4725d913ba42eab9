/*
 * A small accelerator, and the driver that makes it an adaloss_device: the same as in ../accelerator, in C.
 *
 * It narrows floats to binary16 and counts what becomes of them; that is all it does.  It has integer adders and
 * shifters, no divider and no subnormals, memory of its own, and ten registers.
 */
#ifndef ACCELERATOR_H
#define ACCELERATOR_H

#include <adaloss.h>

/* ---- The hardware: a model here, a few volatile accesses in silicon ---- */

/* Words of 32 bits; an address counts bytes in the accelerator's memory. */
typedef enum accelerator_register {
    REGISTER_COMMAND,   /* writing COMMAND_NARROW starts it; one at a time */
    REGISTER_STATUS,    /* reads as one of STATUS_... */
    REGISTER_VALUES,    /* the address of the floats */
    REGISTER_RESULTS,   /* the address of the binary16 results */
    REGISTER_LENGTH,    /* the number of elements */
    REGISTER_SHIFT,     /* what is added to the exponent of every value before it is rounded, signed */
    REGISTER_INCOMING,  /* the exponent of the scale that the values carry, signed */
    REGISTER_OPTIONS,   /* a sum of OPTION_... */
    REGISTER_OUTCOME,   /* the address of the adaloss_outcome that is added to */
    REGISTER_HISTOGRAM, /* the address of the adaloss_histogram that is added to */
    REGISTERS
} accelerator_register;

enum { COMMAND_NARROW = 1 };
enum { STATUS_IDLE = 0, STATUS_BUSY = 1, STATUS_FAULT = 2 };
enum {
    OPTION_STORE = 1,    /* results are stored and their fates counted */
    OPTION_MEASURE = 2,  /* values are counted in the histogram */
    OPTION_SATURATE = 4, /* what is beyond the format, infinities too, becomes the largest finite number */
    OPTION_TRUNCATE = 8  /* rounds towards zero instead of to the nearest even number */
};

uint32_t accelerator_load(accelerator_register from);
void accelerator_store(accelerator_register to, uint32_t word);

/* Copy from and to its memory, which it must not be working on; 0 where the bytes are not all within it. */
int accelerator_read(uint32_t address, void *to, size_t bytes);
int accelerator_write(uint32_t address, const void *from, size_t bytes);

/* ---- The driver ---- */

/* Makes the table of the one accelerator there is. */
adaloss_device accelerator_device(void);

#endif
