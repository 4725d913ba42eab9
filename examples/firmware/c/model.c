/* The accelerator, in software: integers, as they would be wires. */
#include "accelerator.h"
#include "board.h"

/* Blocks of 64 bytes, as the driver gives them out. */
static uint64_t memory[ACCELERATOR_BLOCKS * 8];
static uint32_t registers[REGISTERS];
/* How often the status still reads busy: the work is done at the end of it, and a driver that does not wait reads what
 * was there before. */
static unsigned busy;

static uint8_t *at(uint32_t address)
{
    return (uint8_t *)memory + address;
}

static int has(uint32_t option)
{
    return (registers[REGISTER_OPTIONS] & option) != 0;
}

/* Whether there are so many elements at an address, each of as many bytes as it is aligned to. */
static int has_elements(uint32_t address, uint32_t bytes, uint64_t count)
{
    return address % bytes == 0 && address + bytes * count <= sizeof memory;
}

/* Splits nonzero finite bits into an exponent and the 24 bits of the significand. */
static int32_t split(uint32_t magnitude, uint32_t *significand)
{
    int32_t exponent = (int32_t)(magnitude >> 23) - 127;
    *significand = (magnitude & 0x7fffff) | 0x800000;
    if (magnitude < 0x800000) {
        for (*significand = magnitude, exponent++; *significand < 0x800000; exponent--) {
            *significand <<= 1;
        }
    }
    return exponent;
}

/* What is added before 13 bits are dropped: half of the last bit kept, less one where that bit is even. */
static uint32_t carry(uint32_t significand)
{
    return has(OPTION_TRUNCATE) ? 0 : 0xfff + (significand >> 13 & 1);
}

/* Narrows the bits of a float and counts what became of it. */
static uint16_t narrow(uint32_t bits, adaloss_outcome *outcome)
{
    const uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    const uint32_t infinite = has(OPTION_SATURATE) ? 0x7bff : 0x7c00;
    uint32_t significand, narrowed;
    int32_t exponent;
    outcome->elements++;
    if (magnitude >= 0x7f800000) {
        outcome->nonfinite++;
        return (uint16_t)(sign | (magnitude > 0x7f800000 ? 0x7e00 : infinite));
    }
    if (magnitude > outcome->max_bits) {
        outcome->max_bits = magnitude;
    }
    if (magnitude == 0) {
        outcome->zero++;
        return (uint16_t)sign;
    }
    exponent = split(magnitude, &significand) + (int32_t)registers[REGISTER_SHIFT];
    if (exponent < -14) {
        outcome->underflow++;
        return (uint16_t)sign;
    }
    /* A carry out of the fraction moves into the exponent by itself. */
    narrowed = exponent > 15 ? 0x7c00 : ((uint32_t)(exponent + 14) << 10) + ((significand + carry(significand)) >> 13);
    if (narrowed > 0x7bff) {
        outcome->overflow++;
        narrowed = has(OPTION_TRUNCATE) ? 0x7bff : infinite;
    }
    return (uint16_t)(sign | narrowed);
}

/* The scales 2^-126 to 2^126 have bins, and the last of either kind takes what has none. */
static size_t bin(int32_t label)
{
    return label < 0 ? 0 : label < ADALOSS_HISTOGRAM_BINS ? (size_t)label : ADALOSS_HISTOGRAM_BINS - 1;
}

/* Counts a float by the scales at which it lives. */
static void measure(uint32_t bits, adaloss_histogram *histogram)
{
    const uint32_t magnitude = bits & 0x7fffffff;
    const int32_t incoming = (int32_t)registers[REGISTER_INCOMING];
    uint32_t significand;
    int32_t exponent;
    histogram->elements++;
    if (magnitude == 0 || magnitude >= 0x7f800000) {
        histogram->zero += magnitude == 0;
        histogram->nonfinite += magnitude != 0;
        return;
    }
    exponent = split(magnitude, &significand);
    histogram->floors[bin(-14 - exponent + incoming + 126)]++;
    /* From some fraction on the largest binade rounds out of the format. */
    exponent += significand + carry(significand) >= 1u << 24;
    histogram->ceilings[bin(15 - exponent + incoming + 127)]++;
}

/* Does what the command register says; every address is looked at before anything is written. */
static uint32_t run(void)
{
    const uint32_t values = registers[REGISTER_VALUES], results = registers[REGISTER_RESULTS];
    const uint32_t outcome = registers[REGISTER_OUTCOME], histogram = registers[REGISTER_HISTOGRAM];
    const uint32_t length = registers[REGISTER_LENGTH];
    if (registers[REGISTER_COMMAND] != COMMAND_NARROW || !has_elements(values, 4, length)
        || (has(OPTION_STORE)
            && !(has_elements(results, 2, length) && has_elements(outcome, 8, sizeof(adaloss_outcome) / 8)))
        || (has(OPTION_MEASURE) && !has_elements(histogram, 8, sizeof(adaloss_histogram) / 8))) {
        return STATUS_FAULT;
    }
    for (size_t i = 0; i < length; i++) {
        uint32_t bits;
        uint16_t narrowed;
        memcpy(&bits, at(values) + 4 * i, sizeof bits);
        if (has(OPTION_MEASURE)) {
            measure(bits, (adaloss_histogram *)(void *)at(histogram));
        }
        if (has(OPTION_STORE)) {
            narrowed = narrow(bits, (adaloss_outcome *)(void *)at(outcome));
            memcpy(at(results) + 2 * i, &narrowed, sizeof narrowed);
        }
    }
    return STATUS_IDLE;
}

uint32_t accelerator_load(accelerator_register from)
{
    if (from == REGISTER_STATUS && busy > 0) {
        busy--;
        if (busy == 0) {
            registers[REGISTER_STATUS] = run();
        }
        return STATUS_BUSY;
    }
    return registers[from];
}

void accelerator_store(accelerator_register to, uint32_t word)
{
    registers[to] = word;
    if (to == REGISTER_COMMAND) {
        busy = 3;
    }
}

int accelerator_read(uint32_t address, void *to, size_t bytes)
{
    if (address > sizeof memory || bytes > sizeof memory - address) {
        return 0;
    }
    memcpy(to, at(address), bytes);
    return 1;
}

int accelerator_write(uint32_t address, const void *from, size_t bytes)
{
    if (address > sizeof memory || bytes > sizeof memory - address) {
        return 0;
    }
    memcpy(at(address), from, bytes);
    return 1;
}
