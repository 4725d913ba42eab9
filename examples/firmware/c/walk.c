/*
 * Walks recorded layers with the policy that the command line names, as ../board/src/bin/walk.rs does in Rust: the
 * accelerator narrows and counts, the library decides, replays, unscales and judges.  It prints what the host prints of
 * the same layers.  A word behind the policy asks how deep the stack has been.
 */
#include "accelerator.h"
#include "board.h"

enum { LAYERS = 5, BATCH = 4, ROW = 32, GRADIENT = BATCH * ROW };

/* Elements of a sample and of what every layer makes of it. */
static const uint8_t WIDTHS[LAYERS + 1] = {64, 32, 32, 32, 32, 10};

static const adaloss_format FORMAT = {ADALOSS_BINARY16, ADALOSS_FLUSH};

static adaloss_scaler scaler;
static adaloss_cell cells[LAYERS];
static adaloss_device device;
static int32_t record;

/* Ends the program where something fails that cannot here. */
static void must(adaloss_code code, const char *what)
{
    if (code != ADALOSS_OK) {
        print(what);
        print(": ");
        print(adaloss_code_text(code));
        print("\n");
        board_end(1);
    }
}

static void must_read(void *to, size_t bytes)
{
    if (!board_read(record, to, bytes)) {
        print("the record ends before its last layer\n");
        board_end(1);
    }
}

/* ---- Configurations ---- */

typedef struct policy {
    const char *name;
    uint32_t number;
} policy;

static const policy POLICIES[] = {
    {"fixed", ADALOSS_FIXED}, {"backoff", ADALOSS_BACKOFF}, {"normal", ADALOSS_NORMAL},
    {"range", ADALOSS_RANGE}, {"amax", ADALOSS_AMAX},       {"measured", ADALOSS_MEASURED},
};

static int is_same(const char *one, const char *other)
{
    for (; *one == *other && *one != '\0'; one++) {
        other++;
    }
    return *one == *other;
}

/* Makes the configuration of a policy; ADALOSS_ERROR_POLICY where there is none of that name. */
static adaloss_code configure(const char *name, adaloss_config *config)
{
    /* The quantiles of the model are numbers that a host computed: no logarithm is linked. */
    static const adaloss_normal paper = {
        1.2533144654325549e-3, -3.090232220927857, 6.1035156e-5f, 65504.0f, 16.0f, 1024.0f,
    };
    static const adaloss_amax amax = {12, 1, 0};
    size_t nth = 0;
    adaloss_code code = adaloss_policy_recommended(FORMAT, config);
    config->period = 10; /* often, so that a walk has many certificates, and decisions of range */
    while (nth < sizeof POLICIES / sizeof *POLICIES && !is_same(POLICIES[nth].name, name)) {
        nth++;
    }
    if (code != ADALOSS_OK || nth == sizeof POLICIES / sizeof *POLICIES) {
        return ADALOSS_ERROR_POLICY;
    }
    config->policy = POLICIES[nth].number;
    switch (config->policy) {
    case ADALOSS_FIXED: config->parameters.fixed_log2 = 8; break;
    case ADALOSS_BACKOFF:
        code = adaloss_policy_grad_scaler(&config->parameters.backoff);
        config->parameters.backoff.interval = 20;
        break;
    case ADALOSS_NORMAL:
        config->parameters.normal = paper;
        config->period = 1; /* at every visit, as the authors do */
        break;
    case ADALOSS_RANGE: code = adaloss_policy_range(FORMAT, &config->parameters.range); break;
    case ADALOSS_AMAX: config->parameters.amax = amax; break;
    default: break;
    }
    return code;
}

/* ---- Tensors in the accelerator's memory ---- */

static struct tensors {
    uint64_t pass;         /* an adaloss_device_pass */
    uint64_t results;      /* the float results of a layer, and then what unscaling makes of them */
    uint64_t gradients[2]; /* the one that arrives and the one that leaves, in turn */
    uint64_t cell;
    uint64_t statistics;
    uint64_t met;
} tensors;

static void allocate(uint64_t bytes, uint64_t *address)
{
    must(device.allocate(device.context, bytes, address), "memory");
}

static void read(uint64_t from, void *to, size_t bytes)
{
    must(device.read(device.context, from, to, bytes), "a copy from the accelerator");
}

static void write(const void *from, uint64_t to, size_t bytes)
{
    must(device.write(device.context, from, to, bytes), "a copy to the accelerator");
}

/* Narrows the results in the visit that was opened, into `to`; gives the scale that they leave with. */
static void narrow(size_t count, uint64_t to, int32_t *scale_log2)
{
    adaloss_pass *pass;
    adaloss_epilogue epilogue;
    while (adaloss_scaler_next_pass(&scaler, &pass) == ADALOSS_OK) {
        must(adaloss_device_write_pass(&device, pass, tensors.pass, &epilogue), "a pass");
        must(device.apply(device.context, tensors.results, count, to, &epilogue), "narrowing");
        must(adaloss_device_read_pass(&device, pass, &epilogue), "the counts of a pass");
    }
    must(adaloss_scaler_finish_visit(&scaler, scale_log2), "the end of a visit");
}

/* Tells whether the policy asks for the operands of the visit that was opened. */
static int wants_operands(void)
{
    uint32_t wants;
    must(adaloss_scaler_wants_operands(&scaler, &wants), "operands");
    return wants != 0;
}

/* Describes the operands of a layer: its weight was observed when it was read, the accelerator has the gradient. */
static void describe_product(adaloss_operands *operands, uint64_t gradient, size_t count)
{
    adaloss_statistics *seen = &operands->gradient;
    must(adaloss_statistics_clear(seen), "statistics");
    write(seen, tensors.statistics, sizeof *seen);
    must(device.statistics(device.context, FORMAT, gradient, count, tensors.statistics), "statistics");
    read(tensors.statistics, seen, sizeof *seen);
    must(adaloss_scaler_describe(&scaler, operands), "operands");
}

/* Unscales a gradient, to where its results were. */
static adaloss_unscaled unscale(uint64_t gradient, size_t count, int32_t scale_log2)
{
    adaloss_unscaled met = {0, 0, 0};
    adaloss_cell cell;
    memset(&cell, 0, sizeof cell);
    cell.scale_log2 = (int16_t)scale_log2; /* all of a cell that a device reads */
    write(&cell, tensors.cell, sizeof cell);
    write(&met, tensors.met, sizeof met);
    must(device.unscale(device.context, FORMAT, gradient, count, tensors.cell, tensors.results, tensors.met),
         "unscaling");
    read(tensors.met, &met, sizeof met);
    return met;
}

/* CRC-32 over the bits of a gradient, one byte at a time and without a table. */
static uint32_t checksum(uint64_t gradient, size_t count)
{
    uint16_t elements[GRADIENT];
    const uint8_t *bytes = (const uint8_t *)elements;
    uint32_t sum = UINT32_MAX;
    read(gradient, elements, count * sizeof *elements);
    for (size_t i = 0; i < count * sizeof *elements; i++) {
        sum ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) {
            sum = sum >> 1 ^ (sum & 1 ? 0xedb88320 : 0);
        }
    }
    return ~sum;
}

/* ---- Lines ---- */

static const char *const RULES[] = {
    "Empty", "NonFinite", "Unused", "OtherFormat", "Measured", "Amax", "Normal", "Range", "Join",
};
static const char *const TRIGGERS[] = {"None", "First", "Period", "Overflow"};
static const char *const CAUSES[] = {"None", "NonFinite", "Overflow"};

static void print_counted(uint64_t count, const char *what)
{
    print_count(count);
    print(what);
}

static void print_scale(int32_t scale_log2)
{
    print("2^");
    print_log2(scale_log2);
}

static void print_place(adaloss_place place)
{
    if (place.kind == ADALOSS_LOSS) {
        print("the loss gradient");
    } else {
        print("layer ");
        print_count(place.cell);
    }
}

static void print_certificate(const adaloss_certificate *of)
{
    print("; ");
    print_scale(of->before_log2);
    print(" becomes ");
    print_scale(of->scale_log2);
    print(" by ");
    print(RULES[of->rule]);
    print(" on ");
    print(TRIGGERS[of->trigger]);
    print(of->promised ? ", promised" : "");
    print(", window ");
    print_log2(of->least_log2);
    print(" to ");
    print_log2(of->greatest_log2);
    print(", mass ");
    print_bits(of->lost_mass);
    print(", ");
    print_counted(of->allowed, " of ");
    print_counted(of->nonzero, " may vanish, expected");
    for (int i = 0; i < 3; i++) {
        print(" ");
        print_counted(of->expected[i].underflow, "/");
        print_count(of->expected[i].overflow);
    }
}

/* Prints what happened at the last visit, and the bits that its tensor has now. */
static void print_visit(uint32_t bits, uint64_t tiny)
{
    static adaloss_visit last;
    const adaloss_outcome *outcome = &last.outcome;
    must(adaloss_scaler_last(&scaler, &last), "the last visit");
    print_place(last.place);
    print(": ");
    print_scale(last.incoming_log2);
    print(" to ");
    print_scale(last.outgoing_log2);
    if (last.certified) {
        print_certificate(&last.certificate);
    }
    print("; ");
    print_counted(outcome->elements, " elements, ");
    print_counted(outcome->nonfinite, " not finite, ");
    print_counted(outcome->zero, " zero, ");
    print_counted(outcome->underflow, " lost, ");
    print_counted(outcome->subnormal, " subnormal, ");
    print_counted(outcome->overflow, " beyond, max ");
    print_bits(outcome->max_bits);
    print("; passes ");
    print_counted(last.passes, last.replayed ? ", replayed" : "");
    print(last.broke_promise ? ", promise broken; tiny " : "; tiny ");
    print_counted(tiny, ", bits ");
    print_bits(bits);
    print("\n");
}

/* Prints what the step leaves behind in each cell that was visited: the loss's, and those of the layers. */
static void print_records(void)
{
    adaloss_place place = {ADALOSS_LOSS, 0};
    adaloss_record left;
    for (uint32_t nth = 0; nth <= LAYERS; nth++) {
        if (adaloss_scaler_record(&scaler, place, &left) == ADALOSS_OK) {
            print_place(place);
            print(" had ");
            print_scale(left.scale_log2);
            print(", ceiling ");
            print_log2(left.ceiling);
            print(", flags ");
            print_counted(left.flags, "\n");
        }
        place.kind = ADALOSS_LAYER;
        place.cell = nth;
    }
}

static void print_verdict(const adaloss_verdict *verdict)
{
    static const char *const PLACES[] = {"Loss", "Layer(", "Weight("};
    if (verdict->kind == ADALOSS_VERDICT_APPLY) {
        print("Apply\n");
        return;
    }
    print(verdict->kind == ADALOSS_VERDICT_SKIP ? "Skip { layer: " : "Stop { layer: ");
    print(PLACES[verdict->place.kind]);
    if (verdict->place.kind != ADALOSS_LOSS) {
        print_counted(verdict->place.cell, ")");
    }
    print(", cause: ");
    print(CAUSES[verdict->cause]);
    if (verdict->kind == ADALOSS_VERDICT_STOP) {
        print(", skipped: ");
        print_count(verdict->skipped);
    }
    print(" }\n");
}

static void print_totals(void)
{
    adaloss_totals totals;
    uint32_t digest;
    must(adaloss_scaler_totals(&scaler, &totals), "totals");
    must(adaloss_scaler_digest(&scaler, &digest), "a digest");
    print("Totals { steps: ");
    print_counted(totals.steps, ", skipped: ");
    print_counted(totals.skipped, ", recovered: ");
    print_counted(totals.recovered, ", certificates: ");
    print_counted(totals.certificates, ", broken: ");
    print_counted(totals.broken, " }, digest ");
    print_bits(digest);
    print("\n");
}

/* ---- The walk ---- */

/* Opens the record, which begins with the network that it is of; gives the number of steps. */
static uint32_t open_record(void)
{
    uint8_t magic[16] = "adaloss1", found[16];
    uint32_t steps;
    magic[8] = BATCH;
    memcpy(&magic[9], WIDTHS, sizeof WIDTHS);
    if (!board_open("record", &record)) {
        print("there is no file \"record\"\n");
        board_end(1);
    }
    must_read(found, sizeof found);
    if (memcmp(magic, found, sizeof found) != 0) {
        print("this is no record of the layers of this network\n");
        board_end(1);
    }
    must_read(&steps, sizeof steps);
    return steps;
}

/* Reads a weight, and observes it if that is wanted. */
static void read_weight(size_t elements, int is_wanted, adaloss_statistics *seen)
{
    const adaloss_format format = {ADALOSS_BINARY16, ADALOSS_GRADUAL};
    uint16_t row[ROW];
    must(adaloss_statistics_clear(seen), "statistics");
    for (size_t i = 0; i < elements; i += ROW) {
        must_read(row, sizeof row);
        if (is_wanted) {
            must(adaloss_statistics_observe(seen, format, row, ROW), "statistics of a weight");
        }
    }
}

/* Tells whether values that are not finite were the first reason for which the step is not usable. */
static int is_spoilt(void)
{
    adaloss_place place;
    uint32_t cause;
    return adaloss_scaler_first_bad(&scaler, &place, &cause) == ADALOSS_OK && cause == ADALOSS_CAUSE_NON_FINITE;
}

/* Tells whether the step is usable so far. */
static int is_usable(void)
{
    adaloss_place place;
    uint32_t cause;
    return adaloss_scaler_first_bad(&scaler, &place, &cause) == ADALOSS_NONE;
}

/* One step; `asks` tells whether the policy may ask for operands, so that weights are observed as they are read. */
static void step(int asks)
{
    static float results[GRADIENT];
    static adaloss_operands operands;
    const adaloss_format single = {ADALOSS_BINARY32, ADALOSS_GRADUAL};
    adaloss_verdict verdict;
    uint64_t tiny = 0, gradient = tensors.gradients[0];
    size_t count = BATCH * WIDTHS[LAYERS];
    int32_t scale_log2 = 0;
    adaloss_place origin = {ADALOSS_LOSS, 0};
    must(adaloss_scaler_begin(&scaler), "a step");

    must_read(results, count * sizeof *results);
    write(results, tensors.results, count * sizeof *results);
    must(adaloss_scaler_loss(&scaler), "the loss");
    if (wants_operands()) {
        operands.kind = ADALOSS_CAST;
        must(adaloss_statistics_clear(&operands.gradient), "statistics");
        must(adaloss_statistics_observe(&operands.gradient, single, results, count), "statistics of the loss");
        must(adaloss_scaler_describe(&scaler, &operands), "operands");
    }
    narrow(count, gradient, &scale_log2);
    print_visit(checksum(gradient, count), tiny);

    for (uint32_t layer = LAYERS - 1; layer > 0; layer--) {
        const size_t inputs = WIDTHS[layer], outputs = WIDTHS[layer + 1];
        const uint64_t from = gradient;
        const size_t from_count = count;
        adaloss_unscaled met;
        float factor = 0.0f;
        gradient = tensors.gradients[from == tensors.gradients[0]];
        count = BATCH * inputs;
        read_weight(inputs * outputs, asks, &operands.weight);
        operands.kind = ADALOSS_PRODUCT;
        operands.fan_in = (uint32_t)outputs;

        must_read(results, count * sizeof *results);
        /* What a product of the scaled gradient and the weight would have given. */
        must(adaloss_scale_factor(scale_log2, &factor), "a scale");
        for (size_t i = 0; i < count; i++) {
            results[i] *= factor;
        }
        write(results, tensors.results, count * sizeof *results);
        const int was_usable = is_usable();
        must(adaloss_scaler_layer(&scaler, layer, scale_log2), "a layer");
        if (wants_operands()) {
            describe_product(&operands, from, from_count);
        }
        narrow(count, gradient, &scale_log2);
        if (was_usable && is_spoilt()) {
            must(adaloss_scaler_sums_overflowed(&scaler, origin), "the cell that the layer's gradient came from");
        }
        origin.kind = ADALOSS_LAYER;
        origin.cell = layer;

        const uint32_t bits = checksum(gradient, count);
        met = unscale(gradient, count, scale_log2);
        must(adaloss_scaler_unscaled(&scaler, layer, &met), "what unscaling met");
        tiny += met.tiny;
        print_visit(bits, tiny);
    }
    print_records();
    must(adaloss_scaler_finish(&scaler, &verdict), "the verdict");
    print_verdict(&verdict);
}

int main(void)
{
    static adaloss_config config;
    char word[16];
    uint32_t steps;
    if (!board_argument(1, word, sizeof word) || configure(word, &config) != ADALOSS_OK) {
        print("name a policy\n");
        return 1;
    }
    device = accelerator_device();
    must(adaloss_device_check(&device), "the device");
    allocate(sizeof(adaloss_device_pass), &tensors.pass);
    allocate(GRADIENT * sizeof(float), &tensors.results);
    allocate(GRADIENT * sizeof(uint16_t), &tensors.gradients[0]);
    allocate(GRADIENT * sizeof(uint16_t), &tensors.gradients[1]);
    allocate(sizeof(adaloss_cell), &tensors.cell);
    allocate(sizeof(adaloss_statistics), &tensors.statistics);
    allocate(sizeof(adaloss_unscaled), &tensors.met);
    must(adaloss_scaler_init(&scaler, &config, cells, LAYERS), "the scaler");

    steps = open_record();
    for (uint32_t nth = 0; nth < steps; nth++) {
        print("step ");
        print_counted(nth, "\n");
        step(config.policy == ADALOSS_NORMAL || config.policy == ADALOSS_RANGE);
    }
    print_totals();
    if (board_argument(2, word, sizeof word)) {
        print("stack ");
        print_counted(board_stack(), "\n");
    }
    return 0;
}
