/*
 * A device of one's own: an accelerator for binary16, in software, with memory of its own.  It rounds by hand, as
 * hardware would; what it leaves to the library is what a kernel calls a routine for.
 *
 * The library is asked whether the device is right, and it is; then mistakes are built in, one at a time, each of which
 * was made in some kernel, and the library has to find it.  At last a scaler on the host drives the device.
 */
#include <adaloss.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ARENA_BYTES = 1 << 18, ALL_BLOCKS = 32, BASE = 0x1000 };

typedef enum mistake {
    NONE,
    TIES_AWAY,       /* a tie rounds away from zero, not to the even number */
    NAN_DROPPED,     /* a comparison that drops NaN */
    FLOAT_FACTOR,    /* a multiplication by 2^d in float, and so a second rounding */
    ONE_TOO_FAR,     /* a loop that writes one element more */
    STORES_ANYWAY,   /* a pass that only measures stores too */
    HISTOGRAM_LOST,  /* a pass that stores does not measure */
    BRANCH_UNSCALED, /* a join that sums branches as they are */
    BIAS_FORGOTTEN,  /* sums that begin at 0, whatever the bias */
    BUS_FAILS,       /* one copy in a thousand fails, and the code says so */
    CODE_IGNORED,    /* the same, and nobody looks at the code */
    MISTAKES
} mistake;

static const char *const NAMES[MISTAKES] = {
    "nothing is wrong",   "ties away from zero",       "NaN is dropped",      "2^d as a float factor",
    "one element too far", "a measuring pass stores", "a histogram is lost", "branches keep their scales",
    "a bias is left out", "the bus fails",             "the bus fails in silence",
};

typedef struct block {
    uint64_t address;
    uint64_t bytes;
} block;

typedef struct accelerator {
    unsigned char *arena;
    block blocks[ALL_BLOCKS]; /* what is allocated, in the order of addresses */
    size_t block_count;
    unsigned long copies;
    mistake made;
} accelerator;

/* Where an address is, in this accelerator's memory. */
static void *at(const accelerator *of, uint64_t address)
{
    return of->arena + (address - BASE);
}

/* ---- Memory ---- */

static adaloss_code allocate(void *context, uint64_t bytes, uint64_t *address)
{
    accelerator *of = context;
    uint64_t place = BASE;
    size_t i = 0;
    if (bytes > ARENA_BYTES || of->block_count == ALL_BLOCKS) {
        return ADALOSS_ERROR_MEMORY;
    }
    bytes = (bytes + 7) / 8 * 8;
    for (; i < of->block_count && of->blocks[i].address - place < bytes; i++) {
        place = of->blocks[i].address + of->blocks[i].bytes;
    }
    if (BASE + ARENA_BYTES - place < bytes) {
        return ADALOSS_ERROR_MEMORY;
    }
    memmove(&of->blocks[i + 1], &of->blocks[i], (of->block_count - i) * sizeof(block));
    of->blocks[i].address = place;
    of->blocks[i].bytes = bytes;
    of->block_count++;
    memset(at(of, place), 0, (size_t)bytes);
    *address = place;
    return ADALOSS_OK;
}

static void release(void *context, uint64_t address, uint64_t bytes)
{
    accelerator *of = context;
    (void)bytes;
    for (size_t i = 0; i < of->block_count; i++) {
        if (of->blocks[i].address == address) {
            of->block_count--;
            memmove(&of->blocks[i], &of->blocks[i + 1], (of->block_count - i) * sizeof(block));
        }
    }
}

/* The bus to the host. */
static adaloss_code copy(accelerator *of, void *to, const void *from, size_t bytes)
{
    of->copies++;
    if ((of->made == BUS_FAILS || of->made == CODE_IGNORED) && of->copies % 1000 == 0) {
        return ADALOSS_ERROR_HARDWARE;
    }
    memcpy(to, from, bytes);
    return ADALOSS_OK;
}

static adaloss_code read_to_host(void *context, uint64_t from, void *to, size_t bytes)
{
    accelerator *of = context;
    const adaloss_code code = copy(of, to, at(of, from), bytes);
    return of->made == CODE_IGNORED ? ADALOSS_OK : code;
}

static adaloss_code write_from_host(void *context, const void *from, uint64_t to, size_t bytes)
{
    accelerator *of = context;
    const adaloss_code code = copy(of, at(of, to), from, bytes);
    return of->made == CODE_IGNORED ? ADALOSS_OK : code;
}

/* ---- Narrowing to binary16 by hand ---- */

static int32_t scale_at(const accelerator *of, uint64_t cell)
{
    const adaloss_cell *of_tensor = at(of, cell);
    return of_tensor->scale_log2;
}

/* Rounds 2^shift_log2 * x once, and counts what became of it. */
static uint16_t narrow(const accelerator *of, adaloss_narrowing how, float x, int32_t shift_log2,
                       adaloss_outcome *outcome)
{
    const int truncates = how.rounding == ADALOSS_TOWARD_ZERO, saturates = how.overflow == ADALOSS_SATURATE;
    uint32_t bits, sign, magnitude, significand, dropped, kept, rest, half;
    int32_t exponent, below;
    if (of->made == FLOAT_FACTOR) {
        x *= ldexpf(1.0f, shift_log2);
        shift_log2 = 0;
    }
    memcpy(&bits, &x, sizeof bits);
    sign = bits >> 16 & 0x8000;
    magnitude = bits & 0x7fffffff;
    outcome->elements++;
    if (magnitude > 0x7f800000 && of->made == NAN_DROPPED) {
        return (uint16_t)sign;
    }
    if (magnitude >= 0x7f800000) { /* infinity and NaN are counted first, and apart */
        outcome->nonfinite++;
        return (uint16_t)(sign | (magnitude > 0x7f800000 ? 0x7e00 : saturates ? 0x7bff : 0x7c00));
    }
    if (magnitude > outcome->max_bits) {
        outcome->max_bits = magnitude;
    }
    if (magnitude == 0) {
        outcome->zero++;
        return (uint16_t)sign;
    }

    /* The product is significand * 2^(exponent - 23), with the highest of 24 bits set. */
    exponent = (int32_t)(magnitude >> 23) - 127 + shift_log2;
    significand = (magnitude & 0x7fffff) | 0x800000;
    if (magnitude < 0x800000) {
        for (significand = magnitude, exponent++; significand < 0x800000; exponent--) {
            significand <<= 1;
        }
    }
    if (exponent < -14 && how.format.subnormals == ADALOSS_FLUSH) { /* decided before rounding */
        outcome->underflow++;
        return (uint16_t)sign;
    }
    /* Subnormals have the unit of the smallest normal binade. */
    below = exponent < -14 ? -14 - exponent : 0;
    dropped = below < 17 ? 13 + (uint32_t)below : 30;
    kept = significand >> dropped;
    rest = significand & ((1u << dropped) - 1);
    half = 1u << (dropped - 1);
    if (!truncates && (rest > half || (rest == half && (kept % 2 == 1 || of->made == TIES_AWAY)))) {
        kept++; /* a carry moves into the exponent by itself */
    }
    bits = exponent > 15 ? 0x7c00 : (below > 0 ? 0 : (uint32_t)(exponent + 14) << 10) + kept;
    if (bits >= 0x7c00) {
        outcome->overflow++;
        return (uint16_t)(sign | (truncates || saturates ? 0x7bff : 0x7c00));
    }
    outcome->underflow += bits == 0;
    outcome->subnormal += bits > 0 && bits < 0x400;
    return (uint16_t)(sign | bits);
}

/* What every operation does with one of its float results, the `index`th of `count`. */
static adaloss_code finish(const accelerator *of, float result, size_t index, size_t count, uint64_t to,
                           const adaloss_epilogue *epilogue)
{
    const int32_t from = scale_at(of, epilogue->from), leaving = scale_at(of, epilogue->to);
    uint16_t *elements = at(of, to);
    if (epilogue->measures && !(of->made == HISTOGRAM_LOST && epilogue->stores)) {
        const adaloss_code code = adaloss_statistics_histogram_observe(at(of, epilogue->histogram), &result, 1, from);
        if (code != ADALOSS_OK) {
            return code;
        }
    }
    if (epilogue->stores || of->made == STORES_ANYWAY) {
        elements[index] = narrow(of, epilogue->narrowing, result, leaving - from, at(of, epilogue->outcome));
        if (of->made == ONE_TOO_FAR && index + 1 == count) {
            elements[count] = elements[index];
        }
    }
    return ADALOSS_OK;
}

/* ---- Operations ---- */

static int is_mine(adaloss_format format)
{
    return format.encoding == ADALOSS_BINARY16;
}

static float widen(adaloss_format format, uint16_t element)
{
    float x = 0.0f;
    adaloss_format_widen(format, &element, 1, &x);
    return x;
}

static adaloss_code statistics(void *context, adaloss_format format, uint64_t values, size_t count, uint64_t to)
{
    const accelerator *of = context;
    if (!is_mine(format)) {
        return ADALOSS_ERROR_FORMAT;
    }
    return adaloss_statistics_observe(at(of, to), format, at(of, values), count);
}

static adaloss_code apply(void *context, uint64_t values, size_t count, uint64_t to, const adaloss_epilogue *epilogue)
{
    const accelerator *of = context;
    const float *from = at(of, values);
    adaloss_code code = is_mine(epilogue->narrowing.format) ? ADALOSS_OK : ADALOSS_ERROR_FORMAT;
    for (size_t i = 0; i < count && code == ADALOSS_OK; i++) {
        code = finish(of, from[i], i, count, to, epilogue);
    }
    return code;
}

static adaloss_code propagate(void *context, const adaloss_device_branch *branches, size_t branch_count, size_t count,
                              uint64_t to, const adaloss_epilogue *epilogue)
{
    const accelerator *of = context;
    const int32_t common = scale_at(of, epilogue->from);
    adaloss_code code = is_mine(epilogue->narrowing.format) ? ADALOSS_OK : ADALOSS_ERROR_FORMAT;
    for (size_t i = 0; i < count && code == ADALOSS_OK; i++) {
        float sum = 0.0f;
        for (size_t b = 0; b < branch_count; b++) {
            const uint16_t *elements = at(of, branches[b].gradient);
            const int32_t shift = of->made == BRANCH_UNSCALED ? 0 : common - scale_at(of, branches[b].cell);
            const float x = ldexpf(widen(epilogue->narrowing.format, elements[i]), shift);
            sum = b == 0 ? x : sum + x; /* a sum that began at 0 would lose the sign of -0 */
        }
        code = finish(of, sum, i, count, to, epilogue);
    }
    return code;
}

static adaloss_code unscale(void *context, adaloss_format format, uint64_t gradient, size_t count, uint64_t cell,
                            uint64_t to, uint64_t met)
{
    const accelerator *of = context;
    if (!is_mine(format)) {
        return ADALOSS_ERROR_FORMAT;
    }
    return adaloss_unscale_values(format, at(of, gradient), count, scale_at(of, cell), at(of, to), at(of, met));
}

static adaloss_code matmul(void *context, const adaloss_product *product, uint64_t a, uint64_t b, uint64_t bias,
                           uint64_t to, const adaloss_epilogue *epilogue)
{
    const accelerator *of = context;
    const uint16_t *left = at(of, a), *right = at(of, b);
    const float *start = product->has_bias ? at(of, bias) : NULL;
    const size_t rows = product->rows, inner = product->inner, columns = product->columns;
    adaloss_code code = ADALOSS_OK;
    if (!is_mine(product->a) || !is_mine(product->b) || !is_mine(epilogue->narrowing.format)) {
        return ADALOSS_ERROR_FORMAT;
    }
    for (size_t i = 0; i < rows * columns && code == ADALOSS_OK; i++) {
        const size_t row = i / columns, column = i % columns;
        float sum = start != NULL && of->made != BIAS_FORGOTTEN ? start[column] : 0.0f;
        for (size_t k = 0; k < inner; k++) {
            const uint16_t x = left[product->transpose_a ? k * rows + row : row * inner + k];
            const uint16_t y = right[product->transpose_b ? column * inner + k : k * columns + column];
            /* Exact, fused or not: two significands of 11 bits. */
            sum += widen(product->a, x) * widen(product->b, y);
        }
        code = finish(of, sum, i, rows * columns, to, epilogue);
    }
    return code;
}

static adaloss_device table_of(accelerator *of)
{
    adaloss_device device;
    memset(&device, 0, sizeof device);
    device.context = of;
    device.bytes = sizeof device;
    device.capabilities = ADALOSS_SUBNORMALS | ADALOSS_SEQUENTIAL_SUMS;
    device.allocate = allocate;
    device.free = release;
    device.read = read_to_host;
    device.write = write_from_host;
    device.statistics = statistics;
    device.apply = apply;
    device.propagate = propagate;
    device.unscale = unscale;
    device.matmul = matmul;
    return device;
}

/* ---- Is it right? ---- */

/* Asks everything of a device; stops at the first difference. */
static adaloss_code conform(const adaloss_device *device, int prints, adaloss_conformance *report)
{
    static const char *const parts[] = {"memory", "narrow", "matmul"};
    adaloss_code code = ADALOSS_OK;
    for (int part = 0; part < 3 && code == ADALOSS_OK; part++) {
        switch (part) {
        case 0: code = adaloss_device_conform_memory(device, report); break;
        case 1: code = adaloss_device_conform_narrow(device, ADALOSS_BINARY16, report); break;
        default:
            code = adaloss_device_conform_matmul(device, ADALOSS_BINARY16, ADALOSS_BINARY16, ADALOSS_BINARY16, report);
        }
        if (prints && code == ADALOSS_OK) {
            printf("%s: %lu operations agree in %lu elements, %lu were refused\n", parts[part],
                   (unsigned long)report->operations, (unsigned long)report->elements,
                   (unsigned long)report->refusals);
        }
    }
    return code;
}

/* ---- A scaler on the host drives it ---- */

enum { COUNT = 64, LAYERS = 3 };

typedef struct layer {
    const adaloss_device *device; /* NULL: on the host */
    float results[COUNT];
    uint64_t values, elements, memory; /* on the device */
    uint16_t narrowed[COUNT];
} layer;

/* A kernel of one pass: on the device, or on the host. */
static adaloss_code narrow_results(layer *of, adaloss_pass *pass)
{
    const adaloss_device *device = of->device;
    adaloss_epilogue epilogue;
    adaloss_code code;
    if (device == NULL) {
        return adaloss_apply_pass(pass, of->results, COUNT, of->narrowed);
    }
    code = adaloss_device_write_pass(device, pass, of->memory, &epilogue);
    if (code == ADALOSS_OK) {
        /* A runtime launches a kernel of its own here, which ends in the epilogue. */
        code = device->apply(device->context, of->values, COUNT, of->elements, &epilogue);
    }
    return code == ADALOSS_OK ? adaloss_device_read_pass(device, pass, &epilogue) : code;
}

/* Visits a layer; gives the scale that its gradient leaves with. */
static adaloss_code visit(adaloss_scaler *scaler, uint32_t cell, layer *of, int32_t *scale_log2)
{
    adaloss_pass *pass;
    adaloss_code code = adaloss_scaler_layer(scaler, cell, *scale_log2);
    while (code == ADALOSS_OK && adaloss_scaler_next_pass(scaler, &pass) == ADALOSS_OK) {
        code = narrow_results(of, pass);
    }
    return code == ADALOSS_OK ? adaloss_scaler_finish_visit(scaler, scale_log2) : code;
}

/* Takes shrinking gradients back through a few layers, and gives the scales and bits that they leave with. */
static adaloss_code backward(const adaloss_device *device, int32_t scales[LAYERS], uint16_t bits[LAYERS][COUNT])
{
    static adaloss_scaler scaler;
    static adaloss_cell cells[LAYERS];
    const adaloss_format binary16 = {ADALOSS_BINARY16, ADALOSS_GRADUAL};
    adaloss_config config;
    adaloss_verdict verdict;
    int32_t scale_log2 = 0;
    layer of;
    adaloss_code code = adaloss_policy_recommended(binary16, &config);
    memset(&of, 0, sizeof of);
    of.device = device;
    if (code == ADALOSS_OK && device != NULL) {
        device->allocate(device->context, sizeof of.results, &of.values);
        device->allocate(device->context, sizeof of.narrowed, &of.elements);
        code = device->allocate(device->context, sizeof(adaloss_device_pass), &of.memory);
    }
    code = code == ADALOSS_OK ? adaloss_scaler_init(&scaler, &config, cells, LAYERS) : code;
    code = code == ADALOSS_OK ? adaloss_scaler_begin(&scaler) : code;
    for (uint32_t l = 0; l < LAYERS && code == ADALOSS_OK; l++) {
        for (int i = 0; i < COUNT; i++) {
            of.results[i] = ldexpf((float)(i * 37 % 101 - 50) * 1.0e-9f, scale_log2 - 5 * (int)l);
        }
        if (device != NULL) {
            code = device->write(device->context, of.results, of.values, sizeof of.results);
        }
        if (code == ADALOSS_OK) {
            code = visit(&scaler, l, &of, &scale_log2);
        }
        if (code == ADALOSS_OK && device != NULL) {
            code = device->read(device->context, of.elements, of.narrowed, sizeof of.narrowed);
        }
        scales[l] = scale_log2;
        memcpy(bits[l], of.narrowed, sizeof of.narrowed);
    }
    code = code == ADALOSS_OK ? adaloss_scaler_finish(&scaler, &verdict) : code;
    adaloss_scaler_clear(&scaler);
    return code;
}

/* Checks the device as it is, unless the only argument is the word "mistakes"; then with each mistake; then drives it. */
int main(int argc, char **argv)
{
    const int is_whole = argc < 2 || strcmp(argv[1], "mistakes") != 0;
    accelerator of;
    adaloss_device device;
    adaloss_conformance report;
    int32_t on_host[LAYERS], on_device[LAYERS];
    uint16_t host_bits[LAYERS][COUNT], device_bits[LAYERS][COUNT];
    adaloss_code code;
    int failures = 0;
    memset(&of, 0, sizeof of);
    of.arena = malloc(ARENA_BYTES);
    if (of.arena == NULL) {
        return 1;
    }
    device = table_of(&of);

    code = is_whole ? conform(&device, 1, &report) : ADALOSS_OK;
    if (code != ADALOSS_OK) {
        printf("%s: %s\n", adaloss_code_text(code), report.difference);
        failures++;
    }
    for (int made = NONE + 1; made < MISTAKES; made++) {
        of.made = (mistake)made;
        code = conform(&device, 0, &report);
        printf("%s: %s\n", NAMES[made], code == ADALOSS_ERROR_DIFFERS ? report.difference : "was not found");
        failures += code != ADALOSS_ERROR_DIFFERS;
    }
    of.made = NONE;
    code = adaloss_device_conform_narrow(&device, ADALOSS_E4M3, &report);
    printf("another format: %s\n", report.difference);
    failures += code != ADALOSS_ERROR_DIFFERS;

    code = backward(NULL, on_host, host_bits);
    code = code == ADALOSS_OK ? backward(&device, on_device, device_bits) : code;
    if (code != ADALOSS_OK || memcmp(on_host, on_device, sizeof on_host) != 0
        || memcmp(host_bits, device_bits, sizeof host_bits) != 0) {
        printf("the scaler on the device: %s\n", adaloss_code_text(code));
        failures++;
    } else {
        printf("gradients leave the device at 2^%d, 2^%d, 2^%d, as they do the host\n", (int)on_device[0],
               (int)on_device[1], (int)on_device[2]);
    }
    free(of.arena);
    return failures != 0;
}
