/* The driver: the accelerator narrows, the microcontroller does the rest with the library. */
#include "accelerator.h"
#include "board.h"

enum { BLOCK = 64, CHUNK = 64 };

/* Blocks of its memory that are given out; the first ones are the driver's own, for the sums of a join. */
static uint8_t taken[ACCELERATOR_BLOCKS] = {1, 1, 1, 1};
enum { SUMS = 0 };

static const adaloss_format FORMAT = {ADALOSS_BINARY16, ADALOSS_FLUSH};

/* Waits for the command under way. */
static adaloss_code idle(void)
{
    uint32_t status;
    do {
        status = accelerator_load(REGISTER_STATUS);
    } while (status == STATUS_BUSY);
    return status == STATUS_IDLE ? ADALOSS_OK : ADALOSS_ERROR_HARDWARE;
}

/* ---- Memory ---- */

static adaloss_code from_device(void *context, uint64_t from, void *to, size_t bytes)
{
    const adaloss_code code = idle();
    (void)context;
    if (code != ADALOSS_OK) {
        return code;
    }
    return accelerator_read((uint32_t)from, to, bytes) ? ADALOSS_OK : ADALOSS_ERROR_HARDWARE;
}

static adaloss_code to_device(void *context, const void *from, uint64_t to, size_t bytes)
{
    const adaloss_code code = idle();
    (void)context;
    if (code != ADALOSS_OK) {
        return code;
    }
    return accelerator_write((uint32_t)to, from, bytes) ? ADALOSS_OK : ADALOSS_ERROR_HARDWARE;
}

/* Gives the first blocks that are free and lie together. */
static adaloss_code allocate(void *context, uint64_t bytes, uint64_t *address)
{
    static const uint8_t zeros[BLOCK];
    const uint64_t count = (bytes + BLOCK - 1) / BLOCK;
    uint32_t first = 0;
    for (uint32_t end = 0; end - first < count; end++) {
        if (end == ACCELERATOR_BLOCKS) {
            return ADALOSS_ERROR_MEMORY;
        }
        if (taken[end]) {
            first = end + 1;
        }
    }
    for (uint32_t block = first; block < first + count; block++) {
        const adaloss_code code = to_device(context, zeros, block * BLOCK, BLOCK);
        if (code != ADALOSS_OK) {
            return code;
        }
    }
    memset(&taken[first], 1, (size_t)count);
    *address = first * BLOCK;
    return ADALOSS_OK;
}

static void release(void *context, uint64_t address, uint64_t bytes)
{
    (void)context;
    memset(&taken[address / BLOCK], 0, (size_t)((bytes + BLOCK - 1) / BLOCK));
}

/* ---- Narrowing ---- */

static adaloss_code scale_at(void *context, uint64_t cell, int32_t *scale_log2)
{
    adaloss_cell of_tensor;
    const adaloss_code code = from_device(context, cell, &of_tensor, sizeof of_tensor);
    *scale_log2 = of_tensor.scale_log2;
    return code;
}

/* Starts the one command there is, and returns while it runs. */
static adaloss_code start(void *context, uint64_t values, size_t count, uint64_t to, const adaloss_epilogue *epilogue)
{
    const adaloss_narrowing narrowing = epilogue->narrowing;
    uint32_t options = 0;
    int32_t incoming = 0, outgoing = 0;
    adaloss_code code = scale_at(context, epilogue->from, &incoming);
    if (code == ADALOSS_OK) {
        code = scale_at(context, epilogue->to, &outgoing);
    }
    if (code != ADALOSS_OK) {
        return code;
    }
    options |= epilogue->stores ? OPTION_STORE : 0;
    options |= epilogue->measures ? OPTION_MEASURE : 0;
    options |= narrowing.overflow == ADALOSS_SATURATE ? OPTION_SATURATE : 0;
    options |= narrowing.rounding == ADALOSS_TOWARD_ZERO ? OPTION_TRUNCATE : 0;
    accelerator_store(REGISTER_VALUES, (uint32_t)values);
    accelerator_store(REGISTER_RESULTS, (uint32_t)to);
    accelerator_store(REGISTER_LENGTH, (uint32_t)count);
    accelerator_store(REGISTER_SHIFT, (uint32_t)(outgoing - incoming));
    accelerator_store(REGISTER_INCOMING, (uint32_t)incoming);
    accelerator_store(REGISTER_OPTIONS, options);
    accelerator_store(REGISTER_OUTCOME, (uint32_t)epilogue->outcome);
    accelerator_store(REGISTER_HISTOGRAM, (uint32_t)epilogue->histogram);
    accelerator_store(REGISTER_COMMAND, COMMAND_NARROW);
    return ADALOSS_OK;
}

/* Formats flush subnormals and nothing rounds stochastically, as the capabilities say; the encoding is still open. */
static adaloss_code apply(void *context, uint64_t values, size_t count, uint64_t to, const adaloss_epilogue *epilogue)
{
    if (epilogue->narrowing.format.encoding != ADALOSS_BINARY16) {
        return ADALOSS_ERROR_FORMAT;
    }
    return start(context, values, count, to, epilogue);
}

/* ---- What the microcontroller does, a chunk at a time ---- */

static size_t chunk_of(size_t count, size_t done)
{
    return count - done < CHUNK ? count - done : CHUNK;
}

static adaloss_code statistics(void *context, adaloss_format format, uint64_t values, size_t count, uint64_t to)
{
    adaloss_statistics seen;
    uint16_t elements[CHUNK];
    adaloss_code code = format.encoding == ADALOSS_BINARY16 ? ADALOSS_OK : ADALOSS_ERROR_FORMAT;
    if (code == ADALOSS_OK) {
        code = from_device(context, to, &seen, sizeof seen);
    }
    for (size_t done = 0; done < count && code == ADALOSS_OK; done += CHUNK) {
        const size_t part = chunk_of(count, done);
        code = from_device(context, values + 2 * done, elements, 2 * part);
        if (code == ADALOSS_OK) {
            code = adaloss_statistics_observe(&seen, FORMAT, elements, part);
        }
    }
    return code == ADALOSS_OK ? to_device(context, &seen, to, sizeof seen) : code;
}

/* Adds a branch's elements to sums that carry the scale 2^common_log2. */
static adaloss_code add_branch(void *context, const adaloss_device_branch *branch, size_t first, int is_first,
                               int32_t common_log2, float *sums, size_t count)
{
    const adaloss_narrowing exact = {{ADALOSS_BINARY32, ADALOSS_GRADUAL}, ADALOSS_NEAREST_EVEN, ADALOSS_INFINITY};
    uint16_t elements[CHUNK];
    float widened[CHUNK];
    int32_t scale_log2 = 0;
    adaloss_code code = scale_at(context, branch->cell, &scale_log2);
    if (code == ADALOSS_OK) {
        code = from_device(context, branch->gradient + 2 * first, elements, 2 * count);
    }
    if (code == ADALOSS_OK) {
        code = adaloss_format_widen(FORMAT, elements, count, widened);
    }
    for (size_t i = 0; i < count && code == ADALOSS_OK; i++) {
        uint32_t bits = 0;
        float x;
        code = adaloss_format_narrow(exact, widened[i], common_log2 - scale_log2, 0, &bits, NULL);
        memcpy(&x, &bits, sizeof x);
        sums[i] = is_first ? x : sums[i] + x; /* a sum that began at 0 would lose the sign of -0 */
    }
    return code;
}

static adaloss_code propagate(void *context, const adaloss_device_branch *branches, size_t branch_count, size_t count,
                              uint64_t to, const adaloss_epilogue *epilogue)
{
    float sums[CHUNK];
    int32_t common_log2 = 0;
    adaloss_code code = ADALOSS_ERROR_FORMAT;
    if (epilogue->narrowing.format.encoding == ADALOSS_BINARY16) {
        code = scale_at(context, epilogue->from, &common_log2);
    }
    for (size_t done = 0; done < count && code == ADALOSS_OK; done += CHUNK) {
        const size_t part = chunk_of(count, done);
        for (size_t b = 0; b < branch_count && code == ADALOSS_OK; b++) {
            code = add_branch(context, &branches[b], done, b == 0, common_log2, sums, part);
        }
        if (code == ADALOSS_OK) {
            code = to_device(context, sums, SUMS, part * sizeof *sums);
        }
        if (code == ADALOSS_OK) {
            code = start(context, SUMS, part, to + 2 * done, epilogue);
        }
    }
    return code;
}

static adaloss_code unscale(void *context, adaloss_format format, uint64_t gradient, size_t count, uint64_t cell,
                            uint64_t to, uint64_t met)
{
    adaloss_unscaled total;
    uint16_t elements[CHUNK];
    float unscaled[CHUNK];
    int32_t scale_log2 = 0;
    adaloss_code code = format.encoding == ADALOSS_BINARY16 ? ADALOSS_OK : ADALOSS_ERROR_FORMAT;
    if (code == ADALOSS_OK) {
        code = scale_at(context, cell, &scale_log2);
    }
    if (code == ADALOSS_OK) {
        code = from_device(context, met, &total, sizeof total);
    }
    for (size_t done = 0; done < count && code == ADALOSS_OK; done += CHUNK) {
        const size_t part = chunk_of(count, done);
        code = from_device(context, gradient + 2 * done, elements, 2 * part);
        if (code == ADALOSS_OK) {
            code = adaloss_unscale_values(FORMAT, elements, part, scale_log2, unscaled, &total);
        }
        if (code == ADALOSS_OK) {
            code = to_device(context, unscaled, to + sizeof *unscaled * done, sizeof *unscaled * part);
        }
    }
    return code == ADALOSS_OK ? to_device(context, &total, met, sizeof total) : code;
}

adaloss_device accelerator_device(void)
{
    adaloss_device device;
    memset(&device, 0, sizeof device); /* it does not decide or multiply */
    device.bytes = sizeof device;
    device.capabilities = ADALOSS_SEQUENTIAL_SUMS;
    device.allocate = allocate;
    device.free = release;
    device.read = from_device;
    device.write = to_device;
    device.statistics = statistics;
    device.apply = apply;
    device.propagate = propagate;
    device.unscale = unscale;
    return device;
}
