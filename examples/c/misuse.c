/*
 * What a caller can get wrong, and the code that each mistake is answered with.  Nothing may be written where a code
 * other than ADALOSS_OK is returned; the sanitizers that this is built with watch the rest.
 */
#include <adaloss.h>

#include <stdint.h>
#include <stdio.h>
#include <string.h>

static int failures = 0, checks = 0;

#define EXPECT(expected, call) expect(expected, call, #call, __LINE__)

static void expect(adaloss_code expected, adaloss_code returned, const char *call, int line)
{
    checks++;
    if (returned != expected) {
        failures++;
        fprintf(stderr, "misuse.c:%d: %s\n    returned %d (%s) instead of %d\n", line, call, (int)returned,
                adaloss_code_text(returned), (int)expected);
    }
}

enum { CELLS = 4, COUNT = 8, NO_ENCODING = 255 };

static const adaloss_format BINARY16 = {ADALOSS_BINARY16, ADALOSS_GRADUAL};
static const adaloss_narrowing NARROWING = {{ADALOSS_BINARY16, ADALOSS_GRADUAL}, 0, 0};
static const adaloss_noise NOISE = {0, 0};
static const float VALUES[COUNT] = {1.0e-9f, -2.0e-9f, 3.0e-8f, 0.0f, 5.0e-9f, 1.0e-7f, -1.0e-8f, 2.0e-9f};

/* A pointer one byte beyond one that is aligned. */
#define MISALIGNED(pointer) ((void *)((uintptr_t)(pointer) | 1u))

static adaloss_config recommended(void)
{
    adaloss_config config;
    EXPECT(ADALOSS_OK, adaloss_policy_recommended(BINARY16, &config));
    return config;
}

static void formats(void)
{
    const adaloss_format no_encoding = {NO_ENCODING, 0}, no_subnormals = {0, 2};
    const adaloss_narrowing no_rounding = {{0, 0}, 3, 0}, no_overflow = {{0, 0}, 0, 2};
    adaloss_limits limits;
    adaloss_shifts shifts;
    uint16_t halves[COUNT + 1] = {0};
    float floats[COUNT];
    uint32_t bits;
    EXPECT(ADALOSS_ERROR_FORMAT, adaloss_format_limits(no_encoding, &limits));
    EXPECT(ADALOSS_ERROR_FORMAT, adaloss_format_limits(no_subnormals, &limits));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_format_limits(BINARY16, NULL));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_format_widen(BINARY16, NULL, COUNT, floats));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_format_widen(BINARY16, halves, COUNT, NULL));
    EXPECT(ADALOSS_OK, adaloss_format_widen(BINARY16, NULL, 0, NULL));
    EXPECT(ADALOSS_ERROR_ALIGNMENT, adaloss_format_widen(BINARY16, MISALIGNED(halves), COUNT, floats));
    EXPECT(ADALOSS_ERROR_LENGTH, adaloss_format_widen(BINARY16, halves, SIZE_MAX, floats));
    EXPECT(ADALOSS_ERROR_LENGTH, adaloss_format_widen(BINARY16, halves, SIZE_MAX / 4, floats));
    EXPECT(ADALOSS_ERROR_FORMAT, adaloss_format_narrow(no_rounding, 1.0f, 0, 0, &bits, NULL));
    EXPECT(ADALOSS_ERROR_FORMAT, adaloss_format_narrow(no_overflow, 1.0f, 0, 0, &bits, NULL));
    EXPECT(ADALOSS_ERROR_SCALE, adaloss_format_narrow(NARROWING, 1.0f, 253, 0, &bits, NULL));
    EXPECT(ADALOSS_ERROR_SCALE, adaloss_format_narrow(NARROWING, 1.0f, INT32_MIN, 0, &bits, NULL));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_format_narrow(NARROWING, 1.0f, 0, 0, NULL, NULL));
    EXPECT(ADALOSS_OK, adaloss_format_narrow(NARROWING, 1.0f, -252, 0, &bits, NULL));
    EXPECT(ADALOSS_NONE, adaloss_format_shifts(NARROWING, 0.0f, &shifts));
    EXPECT(ADALOSS_ERROR_SCALE, adaloss_scale_factor(127, floats));
    EXPECT(ADALOSS_ERROR_SCALE, adaloss_scale_factor(INT32_MIN, floats));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_scale_factor(0, NULL));
}

static void statistics(void)
{
    static adaloss_histogram histogram, other;
    adaloss_outcome outcome = {0, 0, 0, 0, 0, 0, 0, 0}, wrong;
    adaloss_statistics moments;
    uint64_t count;
    int32_t log2;
    double mean;
    memset(&histogram, 0xa5, sizeof histogram);
    EXPECT(ADALOSS_ERROR_HISTOGRAM, adaloss_statistics_histogram_observe(&histogram, VALUES, COUNT, 0));
    EXPECT(ADALOSS_ERROR_HISTOGRAM, adaloss_statistics_histogram_underflow(&histogram, 0, &count));
    EXPECT(ADALOSS_OK, adaloss_statistics_histogram_clear(&histogram, NARROWING));
    EXPECT(ADALOSS_ERROR_SCALE, adaloss_statistics_histogram_observe(&histogram, VALUES, COUNT, 127));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_statistics_histogram_observe(&histogram, NULL, COUNT, 0));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_statistics_histogram_observe(NULL, VALUES, COUNT, 0));
    EXPECT(ADALOSS_ERROR_ALIGNMENT,
           adaloss_statistics_histogram_observe((adaloss_histogram *)MISALIGNED(&histogram), VALUES, COUNT, 0));
    EXPECT(ADALOSS_OK, adaloss_statistics_histogram_observe(&histogram, VALUES, COUNT, 0));
    if (histogram.elements != COUNT || histogram.zero != 1) {
        EXPECT(ADALOSS_OK, ADALOSS_ERROR_HISTOGRAM);
    }
    EXPECT(ADALOSS_ERROR_SCALE, adaloss_statistics_histogram_overflow(&histogram, -127, &count));
    other = histogram;
    other.elements += 1;
    EXPECT(ADALOSS_ERROR_HISTOGRAM, adaloss_statistics_histogram_merge(&histogram, &other));
    other = histogram;
    other.narrowing.format.encoding = ADALOSS_E4M3;
    EXPECT(ADALOSS_ERROR_FORMAT, adaloss_statistics_histogram_merge(&histogram, &other));
    EXPECT(ADALOSS_OK, adaloss_statistics_histogram_clear(&other, NARROWING));
    other.elements = other.nonfinite = (uint64_t)1 << 63;
    EXPECT(ADALOSS_ERROR_FULL, adaloss_statistics_histogram_merge(&histogram, &other));
    other.ceilings[0] = other.floors[253] = 1;
    other.elements = 1;
    other.nonfinite = 0;
    EXPECT(ADALOSS_NONE, adaloss_statistics_histogram_least(&other, 0, &log2));
    EXPECT(ADALOSS_NONE, adaloss_statistics_histogram_greatest(&other, &log2));

    wrong = outcome;
    wrong.underflow = 1;
    EXPECT(ADALOSS_ERROR_OUTCOME, adaloss_statistics_outcome_merge(&outcome, &wrong));
    wrong.underflow = 0;
    wrong.max_bits = 0x7f800000;
    EXPECT(ADALOSS_ERROR_OUTCOME, adaloss_statistics_outcome_merge(&outcome, &wrong));
    wrong.max_bits = 0;
    wrong.elements = outcome.elements = (uint64_t)1 << 63;
    EXPECT(ADALOSS_ERROR_FULL, adaloss_statistics_outcome_merge(&outcome, &wrong));

    memset(&moments, 0xff, sizeof moments);
    EXPECT(ADALOSS_ERROR_STATISTICS, adaloss_statistics_observe(&moments, BINARY16, NULL, 0));
    memset(&moments, 0, sizeof moments);
    EXPECT(ADALOSS_ERROR_STATISTICS, adaloss_statistics_observe(&moments, BINARY16, NULL, 0));
    EXPECT(ADALOSS_OK, adaloss_statistics_clear(&moments));
    EXPECT(ADALOSS_NONE, adaloss_statistics_moments(&moments.moments, &mean, NULL));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_statistics_moments(NULL, &mean, NULL));
}

static void configurations(void)
{
    adaloss_config config = recommended();
    adaloss_backoff backoff;
    adaloss_normal normal;
    EXPECT(ADALOSS_ERROR_NULL, adaloss_policy_check(NULL));
    EXPECT(ADALOSS_ERROR_ALIGNMENT, adaloss_policy_check((adaloss_config *)MISALIGNED(&config)));
    config.policy = 6;
    EXPECT(ADALOSS_ERROR_POLICY, adaloss_policy_check(&config));
    config = recommended();
    config.recovery = 2;
    EXPECT(ADALOSS_ERROR_ENUM, adaloss_policy_check(&config));
    config = recommended();
    config.narrowing.format.encoding = 200;
    EXPECT(ADALOSS_ERROR_FORMAT, adaloss_policy_check(&config));
    config = recommended();
    config.period = 0;
    EXPECT(ADALOSS_ERROR_PERIOD, adaloss_policy_check(&config));
    config = recommended();
    config.max_skips = 0;
    EXPECT(ADALOSS_ERROR_MAX_SKIPS, adaloss_policy_check(&config));
    config = recommended();
    config.parameters.measured.most_headroom = 0;
    EXPECT(ADALOSS_ERROR_NO_HEADROOM, adaloss_policy_check(&config));
    config.parameters.measured.most_headroom = 17;
    EXPECT(ADALOSS_ERROR_HEADROOM, adaloss_policy_check(&config));
    config.parameters.measured.most_headroom = 16;
    config.period = ADALOSS_NEVER;
    EXPECT(ADALOSS_OK, adaloss_policy_check(&config));
    config.policy = ADALOSS_FIXED;
    config.parameters.fixed_log2 = 127;
    EXPECT(ADALOSS_ERROR_SCALE, adaloss_policy_check(&config));
    config.policy = ADALOSS_AMAX;
    config.parameters.amax.window = 0;
    config.parameters.amax.margin = 0;
    EXPECT(ADALOSS_ERROR_WINDOW, adaloss_policy_check(&config));
    config.parameters.amax.window = 16;
    config.parameters.amax.margin = 17;
    EXPECT(ADALOSS_ERROR_HEADROOM, adaloss_policy_check(&config));
    config.policy = ADALOSS_RANGE;
    EXPECT(ADALOSS_OK, adaloss_policy_range(BINARY16, &config.parameters.range));
    config.parameters.range.smallest = -1.0f;
    EXPECT(ADALOSS_ERROR_EXTREMES, adaloss_policy_check(&config));
    config.policy = ADALOSS_NORMAL;
    EXPECT(ADALOSS_ERROR_SHARE, adaloss_policy_normal(BINARY16, 1.0, &normal));
    EXPECT(ADALOSS_OK, adaloss_policy_normal(BINARY16, 1.0e-3, &config.parameters.normal));
    config.parameters.normal.gaussian_factor = -1.0;
    EXPECT(ADALOSS_ERROR_SHARE, adaloss_policy_check(&config));
    config.policy = ADALOSS_BACKOFF;
    EXPECT(ADALOSS_ERROR_INTERVAL, adaloss_policy_chainer(0, &backoff));
    EXPECT(ADALOSS_OK, adaloss_policy_grad_scaler(&config.parameters.backoff));
    config.parameters.backoff.shrink = 2.0;
    EXPECT(ADALOSS_ERROR_FACTORS, adaloss_policy_check(&config));
    config.parameters.backoff.cap = 1.0;
    EXPECT(ADALOSS_ERROR_BOUNDS, adaloss_policy_check(&config));
}

/* What ends a step of a cell, and what machines exchange before they do. */
static void steps_of_cells(const adaloss_config *measured, const adaloss_config *paper)
{
    const adaloss_record right = {3, 0, 2, 0};
    adaloss_record record = right;
    adaloss_seen seen, other;
    adaloss_cell cell, before;
    uint32_t is_same;
    EXPECT(ADALOSS_OK, adaloss_policy_cell(measured, &cell));
    before = cell;
    EXPECT(ADALOSS_ERROR_NULL, adaloss_policy_finish(NULL, &cell, &record));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_policy_finish(measured, NULL, &record));
    EXPECT(ADALOSS_OK, adaloss_policy_finish(measured, &cell, NULL));

    record.flags = 4;
    EXPECT(ADALOSS_ERROR_ENUM, adaloss_policy_repeat(measured, &record, &cell, &is_same));
    record = right;
    record.reserved = 1;
    EXPECT(ADALOSS_ERROR_ENUM, adaloss_policy_repeat(measured, &record, &cell, &is_same));
    record = right;
    record.scale_log2 = 127;
    EXPECT(ADALOSS_ERROR_SCALE, adaloss_policy_repeat(measured, &record, &cell, &is_same));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_policy_repeat(measured, NULL, &cell, &is_same));
    EXPECT(ADALOSS_ERROR_ALIGNMENT, adaloss_policy_repeat(measured, &right, &cell, MISALIGNED(&is_same)));
    EXPECT(ADALOSS_ERROR_POLICY, adaloss_policy_repeat(paper, &right, &cell, &is_same));
    if (memcmp(&before, &cell, sizeof cell) != 0) {
        EXPECT(ADALOSS_OK, ADALOSS_ERROR_CELL);
    }
    EXPECT(ADALOSS_OK, adaloss_policy_repeat(measured, &right, &cell, NULL));

    EXPECT(ADALOSS_ERROR_NULL, adaloss_policy_seen(&cell, NULL));
    EXPECT(ADALOSS_OK, adaloss_policy_seen(&cell, &seen));
    other = seen;
    other.visited = 2;
    EXPECT(ADALOSS_ERROR_ENUM, adaloss_policy_seen_merge(&seen, &other));
    EXPECT(ADALOSS_ERROR_ENUM, adaloss_policy_set_seen(&other, &cell));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_policy_seen_merge(&seen, NULL));
    EXPECT(ADALOSS_OK, adaloss_policy_set_seen(&seen, &cell));
    memset(&cell, 0xff, sizeof cell);
    EXPECT(ADALOSS_ERROR_CELL, adaloss_policy_seen(&cell, &seen));
    EXPECT(ADALOSS_ERROR_CELL, adaloss_policy_set_seen(&seen, &cell));
}

static void policies(void)
{
    static adaloss_histogram histogram;
    const adaloss_config config = recommended();
    adaloss_config paper;
    const int32_t branches[2] = {0, 200}, fitting[2] = {0, 1};
    adaloss_outcome outcome = {0, 0, 0, 0, 0, 0, 0, 0};
    adaloss_certificate certificate;
    adaloss_operands operands;
    adaloss_terms terms;
    adaloss_cell cell;
    uint32_t trigger;
    int32_t log2;
    EXPECT(ADALOSS_OK, adaloss_policy_paper(BINARY16, &paper));
    memset(&cell, 0, sizeof cell);
    EXPECT(ADALOSS_ERROR_CELL, adaloss_policy_due(&config, &cell, &trigger));
    EXPECT(ADALOSS_OK, adaloss_policy_cell(&config, &cell));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_policy_due(&config, &cell, NULL));
    EXPECT(ADALOSS_OK, adaloss_statistics_histogram_clear(&histogram, NARROWING));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_policy_certify(&config, &histogram, 0, NULL, &certificate));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_policy_certify(&config, NULL, 0, &cell, &certificate));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_policy_certify(NULL, &histogram, 0, &cell, &certificate));
    EXPECT(ADALOSS_ERROR_SCALE, adaloss_policy_certify(&config, &histogram, 127, &cell, &certificate));
    EXPECT(ADALOSS_OK, adaloss_policy_certify(&config, &histogram, 0, &cell, NULL));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_policy_breaks_promise(&config, &outcome, &cell, NULL));
    EXPECT(ADALOSS_ERROR_BRANCHES, adaloss_policy_decide_join(&paper, &outcome, 0, branches, 1, &cell, &certificate));
    EXPECT(ADALOSS_ERROR_SCALE, adaloss_policy_decide_join(&paper, &outcome, 0, branches, 2, &cell, &certificate));
    EXPECT(ADALOSS_ERROR_POLICY, adaloss_policy_decide_join(&config, &outcome, 0, fitting, 2, &cell, &certificate));
    memset(&operands, 0, sizeof operands);
    EXPECT(ADALOSS_ERROR_STATISTICS,
           adaloss_policy_decide_from_operands(&config, &operands, 0, &cell, &certificate));
    operands.kind = 4;
    EXPECT(ADALOSS_ERROR_ENUM, adaloss_policy_decide_from_operands(&config, &operands, 0, &cell, &certificate));
    operands.kind = ADALOSS_TERMS;
    operands.terms.min_abs = -1.0f;
    EXPECT(ADALOSS_ERROR_STATISTICS,
           adaloss_policy_decide_from_operands(&config, &operands, 0, &cell, &certificate));
    EXPECT(ADALOSS_ERROR_SCALE, adaloss_policy_outgoing(&config, &cell, 200, &log2));
    EXPECT(ADALOSS_NONE, adaloss_policy_recover(&config, &outcome, 0, &log2));
    outcome.overflow = 5;
    EXPECT(ADALOSS_ERROR_OUTCOME, adaloss_policy_note(&config, &outcome, 0, &cell, &log2));
    outcome.overflow = 0;
    EXPECT(ADALOSS_ERROR_SCALE, adaloss_policy_note(&config, &outcome, 127, &cell, &log2));
    EXPECT(ADALOSS_ERROR_ALIGNMENT, adaloss_policy_note(&config, &outcome, 0, &cell, MISALIGNED(&log2)));
    EXPECT(ADALOSS_NONE, adaloss_policy_note(&config, &outcome, 0, &cell, NULL));
    steps_of_cells(&config, &paper);
    cell.trigger = 4;
    EXPECT(ADALOSS_ERROR_CELL, adaloss_policy_step(&config, 1, &cell));
    EXPECT(ADALOSS_OK, adaloss_policy_cell(&config, &cell));
    cell.memory[12] = 1;
    EXPECT(ADALOSS_ERROR_CELL, adaloss_policy_finish(&config, &cell, NULL));
    EXPECT(ADALOSS_ERROR_SHAPE,
           adaloss_policy_terms(ADALOSS_BINARY32, VALUES, 8, ADALOSS_BINARY32, VALUES, 8, 3, 3, &terms));
    EXPECT(ADALOSS_ERROR_FORMAT,
           adaloss_policy_terms(NO_ENCODING, VALUES, 8, ADALOSS_BINARY32, VALUES, 8, 2, 2, &terms));
}

static void tensors(void)
{
    uint16_t halves[COUNT] = {0};
    float floats[COUNT];
    adaloss_outcome outcome = {0, 0, 0, 0, 0, 0, 0, 0};
    adaloss_unscaled met = {0, 0, 0};
    adaloss_branch branches[2] = {{NULL, 0, 0}, {NULL, 0, 0}};
    int32_t log2;
    EXPECT(ADALOSS_ERROR_SCALE, adaloss_apply_values(NARROWING, 300, NOISE, 0, VALUES, COUNT, halves, &outcome));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_apply_values(NARROWING, 0, NOISE, 0, VALUES, COUNT, halves, NULL));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_apply_values(NARROWING, 0, NOISE, 0, VALUES, COUNT, NULL, &outcome));
    EXPECT(ADALOSS_ERROR_ALIGNMENT,
           adaloss_apply_values(NARROWING, 0, NOISE, 0, VALUES, COUNT, MISALIGNED(halves), &outcome));
    outcome.elements = (uint64_t)1 << 63;
    EXPECT(ADALOSS_ERROR_FULL, adaloss_apply_values(NARROWING, 0, NOISE, 0, VALUES, COUNT, halves, &outcome));
    outcome.elements += 1;
    EXPECT(ADALOSS_ERROR_OUTCOME, adaloss_apply_values(NARROWING, 0, NOISE, 0, VALUES, COUNT, halves, &outcome));
    EXPECT(ADALOSS_ERROR_BRANCHES, adaloss_propagate_common(NULL, 0, &log2));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_propagate_join(BINARY16, branches, 2, floats, COUNT, &log2));
    EXPECT(ADALOSS_ERROR_BRANCHES, adaloss_propagate_join(BINARY16, branches, 1, floats, COUNT, &log2));
    branches[0].gradient = branches[1].gradient = halves;
    branches[1].scale_log2 = -127;
    EXPECT(ADALOSS_ERROR_SCALE, adaloss_propagate_join(BINARY16, branches, 2, floats, COUNT, &log2));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_unscale_values(BINARY16, halves, COUNT, 0, floats, NULL));
    EXPECT(ADALOSS_ERROR_SCALE, adaloss_unscale_values(BINARY16, halves, COUNT, 127, floats, &met));
    met.tiny = 1;
    EXPECT(ADALOSS_ERROR_OUTCOME, adaloss_unscale_values(BINARY16, halves, COUNT, 0, floats, &met));
}

/* What a kernel does wrong. */
typedef struct mistake {
    enum {
        NO_MISTAKE,
        FAILS,
        WRONG_BUFFER,
        IGNORES_THE_CODE,
        COUNTS_WRONGLY,
        SPOILS_THE_HISTOGRAM,
        SPOILS_IT_AND_FAILS,
        COUNTS_FOR_ANOTHER,
        SPOILS_AND_GOES_ON,
        NARROWS_NOTHING,
        GROWS
    } kind;
    adaloss_scaler *scaler;
    adaloss_pass *kept;
    size_t count; /* of the values that a tensor that grows has */
} mistake;

static adaloss_code kernel(mistake *made, adaloss_pass *pass)
{
    uint16_t halves[COUNT];
    adaloss_request request;
    adaloss_code code = ADALOSS_OK;
    made->kept = pass;
    switch (made->kind) {
    case NO_MISTAKE:
        return adaloss_apply_pass(pass, VALUES, COUNT, halves);
    case FAILS:
        return ADALOSS_USER + 7;
    case WRONG_BUFFER:
        EXPECT(ADALOSS_ERROR_NULL, adaloss_apply_request(pass, NULL));
        EXPECT(ADALOSS_ERROR_NULL, adaloss_apply_pass(pass, NULL, COUNT, halves));
        code = adaloss_apply_pass(pass, VALUES, COUNT, NULL);
        EXPECT(ADALOSS_ERROR_NULL, code);
        return code;
    case IGNORES_THE_CODE:
        EXPECT(ADALOSS_ERROR_NULL, adaloss_apply_pass(pass, VALUES, COUNT, NULL));
        return adaloss_apply_pass(pass, VALUES, COUNT, halves);
    case COUNTS_WRONGLY:
        EXPECT(ADALOSS_OK, adaloss_apply_request(pass, &request));
        request.outcome->zero = 3;
        return ADALOSS_OK;
    case SPOILS_THE_HISTOGRAM:
        EXPECT(ADALOSS_OK, adaloss_apply_request(pass, &request));
        if (request.histogram != NULL) {
            memset(request.histogram, 0xee, sizeof *request.histogram);
        }
        return ADALOSS_OK;
    case SPOILS_IT_AND_FAILS:
        EXPECT(ADALOSS_OK, adaloss_apply_request(pass, &request));
        if (request.histogram != NULL) {
            memset(request.histogram, 0xee, sizeof *request.histogram);
        }
        return ADALOSS_USER + 7;
    case COUNTS_FOR_ANOTHER:
        EXPECT(ADALOSS_OK, adaloss_apply_request(pass, &request));
        if (request.histogram != NULL) {
            request.histogram->narrowing.format.encoding = ADALOSS_E4M3;
        }
        return ADALOSS_OK;
    case SPOILS_AND_GOES_ON:
        EXPECT(ADALOSS_OK, adaloss_apply_request(pass, &request));
        memset(request.outcome, 0xee, sizeof *request.outcome);
        EXPECT(ADALOSS_ERROR_OUTCOME, adaloss_apply_pass(pass, VALUES, COUNT, halves));
        return ADALOSS_OK;
    case NARROWS_NOTHING:
        return ADALOSS_OK;
    case GROWS:
        return adaloss_apply_pass(pass, VALUES, made->count++, halves);
    }
    return code;
}

/* Runs the kernel in each pass of the visit that is open; where it fails, the visit is left. */
static adaloss_code run(mistake *made, int32_t *log2)
{
    adaloss_pass *pass;
    adaloss_code code;
    while ((code = adaloss_scaler_next_pass(made->scaler, &pass)) == ADALOSS_OK) {
        code = kernel(made, pass);
        if (code != ADALOSS_OK) {
            return code;
        }
    }
    return code == ADALOSS_NONE ? adaloss_scaler_finish_visit(made->scaler, log2) : code;
}

/* Visits the loss. */
static adaloss_code run_loss(mistake *made, int32_t *log2)
{
    EXPECT(ADALOSS_OK, adaloss_scaler_loss(made->scaler));
    return run(made, log2);
}

static void verdict_texts(void)
{
    const char *right = "the step has to be skipped: overflow in layer 3";
    const adaloss_verdict skip = {ADALOSS_VERDICT_SKIP, ADALOSS_CAUSE_OVERFLOW, {ADALOSS_LAYER, 3}, 0, 0};
    const adaloss_verdict longest = {ADALOSS_VERDICT_STOP, ADALOSS_CAUSE_NON_FINITE, {ADALOSS_WEIGHT, UINT32_MAX},
                                     UINT32_MAX, 0};
    const adaloss_verdict longer = {ADALOSS_VERDICT_STOP, ADALOSS_CAUSE_LENGTH, {ADALOSS_WEIGHT, UINT32_MAX},
                                    UINT32_MAX, 0};
    const adaloss_verdict beyond = {ADALOSS_VERDICT_SKIP, ADALOSS_CAUSE_NOTHING + 1, {ADALOSS_LOSS, 0}, 0, 0};
    const adaloss_verdict nothing = {ADALOSS_VERDICT_SKIP, ADALOSS_CAUSE_NOTHING, {ADALOSS_LOSS, 0}, 0, 0};
    const adaloss_verdict none = {3, 0, {ADALOSS_LOSS, 0}, 0, 0};
    const adaloss_verdict without_cause = {ADALOSS_VERDICT_SKIP, ADALOSS_CAUSE_NONE, {ADALOSS_LAYER, 3}, 0, 0};
    char text[ADALOSS_VERDICT_TEXT_BYTES] = "as it was";

    EXPECT(ADALOSS_ERROR_NULL, adaloss_verdict_text(NULL, text, sizeof text));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_verdict_text(&skip, NULL, sizeof text));
    EXPECT(ADALOSS_ERROR_ENUM, adaloss_verdict_text(&none, text, sizeof text));
    EXPECT(ADALOSS_ERROR_ENUM, adaloss_verdict_text(&without_cause, text, sizeof text));
    EXPECT(ADALOSS_ERROR_LENGTH, adaloss_verdict_text(&skip, text, 0));
    EXPECT(ADALOSS_ERROR_LENGTH, adaloss_verdict_text(&skip, text, strlen(right)));
    EXPECT(ADALOSS_OK, strcmp(text, "as it was"));
    EXPECT(ADALOSS_OK, adaloss_verdict_text(&skip, text, strlen(right) + 1));
    EXPECT(ADALOSS_OK, strcmp(text, right));
    EXPECT(ADALOSS_OK, adaloss_verdict_text(&longest, text, sizeof text));
    EXPECT(ADALOSS_OK, adaloss_verdict_text(&longer, text, sizeof text));
    EXPECT(ADALOSS_ERROR_ENUM, adaloss_verdict_text(&beyond, text, sizeof text));
    EXPECT(ADALOSS_OK, adaloss_verdict_text(&nothing, text, sizeof text));
    EXPECT(ADALOSS_OK, strcmp(text, "the step has to be skipped: no gradient was visited"));
}

/* A verdict that names this kind of place and this cause. */
static void unusable(const adaloss_verdict *verdict, uint32_t place, uint32_t cause)
{
    EXPECT(ADALOSS_VERDICT_SKIP, (adaloss_code)verdict->kind);
    EXPECT((adaloss_code)place, (adaloss_code)verdict->place.kind);
    EXPECT((adaloss_code)cause, (adaloss_code)verdict->cause);
}

/* What is called for a visit that is not there, or not yet, or no more. */
static void visits_out_of_order(adaloss_scaler *scaler, mistake *made)
{
    const adaloss_place layer = {ADALOSS_LAYER, 3};
    adaloss_operands operands;
    adaloss_request request;
    adaloss_verdict verdict;
    adaloss_record record;
    adaloss_place bad;
    adaloss_pass *pass = NULL;
    uint16_t halves[COUNT];
    uint32_t wants = 9, cause;
    int32_t log2 = 99;
    memset(&operands, 0, sizeof operands);
    operands.kind = 17;
    made->kind = NO_MISTAKE;

    EXPECT(ADALOSS_ERROR_NO_STEP, adaloss_scaler_next_pass(scaler, &pass));
    EXPECT(ADALOSS_ERROR_NO_STEP, adaloss_scaler_finish_visit(scaler, &log2));
    EXPECT(ADALOSS_ERROR_NO_STEP, adaloss_scaler_wants_operands(scaler, &wants));
    EXPECT(ADALOSS_ERROR_NO_STEP, adaloss_scaler_record(scaler, layer, &record));
    EXPECT(ADALOSS_OK, adaloss_scaler_begin(scaler));
    EXPECT(ADALOSS_ERROR_NO_VISIT, adaloss_scaler_next_pass(scaler, &pass));
    EXPECT(ADALOSS_ERROR_NO_VISIT, adaloss_scaler_finish_visit(scaler, &log2));
    EXPECT(ADALOSS_ERROR_NO_VISIT, adaloss_scaler_wants_operands(scaler, &wants));
    EXPECT(ADALOSS_ERROR_NO_VISIT, adaloss_scaler_describe(scaler, &operands));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_scaler_next_pass(NULL, &pass));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_scaler_finish_visit(NULL, &log2));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_scaler_describe(NULL, &operands));
    EXPECT(ADALOSS_NONE, adaloss_scaler_record(scaler, layer, &record));
    EXPECT(ADALOSS_NONE, adaloss_scaler_first_bad(scaler, &bad, &cause)); /* none of these has a place */

    EXPECT(ADALOSS_OK, run_loss(made, &log2));
    EXPECT(ADALOSS_ERROR_NO_VISIT, adaloss_scaler_next_pass(scaler, &pass));
    EXPECT(ADALOSS_ERROR_NO_VISIT, adaloss_scaler_finish_visit(scaler, &log2));
    EXPECT(ADALOSS_ERROR_NO_PASS, adaloss_apply_pass(made->kept, VALUES, COUNT, halves));
    EXPECT(ADALOSS_ERROR_NO_PASS, adaloss_apply_request(made->kept, &request));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_apply_pass(NULL, VALUES, COUNT, halves));
    EXPECT(ADALOSS_ERROR_ALIGNMENT, adaloss_apply_pass(MISALIGNED(made->kept), VALUES, COUNT, halves));
    EXPECT(ADALOSS_OK, adaloss_scaler_layer(scaler, 3, log2));
    EXPECT(ADALOSS_OK, adaloss_scaler_wants_operands(scaler, &wants));
    EXPECT(0, (adaloss_code)wants);
    EXPECT(ADALOSS_OK, run(made, &log2));
    EXPECT(ADALOSS_OK, adaloss_scaler_record(scaler, layer, &record));
    EXPECT(ADALOSS_OK, adaloss_scaler_finish(scaler, &verdict));
    EXPECT(ADALOSS_VERDICT_APPLY, (adaloss_code)verdict.kind);
    EXPECT(ADALOSS_ERROR_NO_PASS, adaloss_apply_pass(made->kept, VALUES, COUNT, halves));
    if (pass != NULL || log2 == 99) {
        EXPECT(ADALOSS_OK, ADALOSS_ERROR_NO_PASS); /* what was refused wrote nothing */
    }
}

/* Operands under a policy that decides from them. */
static void operands_of_visits(adaloss_scaler *scaler, mistake *made)
{
    const adaloss_format binary32 = {ADALOSS_BINARY32, ADALOSS_GRADUAL};
    const int32_t branches[2] = {0, 1};
    adaloss_operands operands;
    adaloss_visit visit;
    uint32_t wants;
    int32_t log2;
    made->kind = NO_MISTAKE;
    operands.kind = ADALOSS_CAST;
    EXPECT(ADALOSS_OK, adaloss_statistics_clear(&operands.gradient));
    EXPECT(ADALOSS_OK, adaloss_statistics_observe(&operands.gradient, binary32, VALUES, COUNT));

    EXPECT(ADALOSS_OK, adaloss_scaler_loss(scaler));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_scaler_wants_operands(scaler, NULL));
    EXPECT(ADALOSS_OK, adaloss_scaler_wants_operands(scaler, &wants));
    EXPECT(1, (adaloss_code)wants);
    EXPECT(ADALOSS_OK, adaloss_scaler_describe(scaler, &operands));
    EXPECT(ADALOSS_OK, adaloss_scaler_wants_operands(scaler, &wants));
    EXPECT(0, (adaloss_code)wants);
    EXPECT(ADALOSS_OK, adaloss_scaler_describe(scaler, &operands)); /* passed over */
    EXPECT(ADALOSS_OK, run(made, &log2));
    EXPECT(ADALOSS_OK, adaloss_scaler_last(scaler, &visit));
    EXPECT(1, (adaloss_code)visit.certified);

    EXPECT(ADALOSS_OK, adaloss_scaler_join(scaler, 0, branches, 2)); /* which has none */
    EXPECT(ADALOSS_OK, adaloss_scaler_wants_operands(scaler, &wants));
    EXPECT(0, (adaloss_code)wants);
    EXPECT(ADALOSS_OK, adaloss_scaler_describe(scaler, &operands));
    EXPECT(ADALOSS_OK, run(made, &log2));

    operands.kind = 17;
    EXPECT(ADALOSS_OK, adaloss_scaler_layer(scaler, 1, 0));
    EXPECT(ADALOSS_ERROR_ENUM, adaloss_scaler_describe(scaler, &operands));
    operands.kind = ADALOSS_PRODUCT;
    memset(&operands.weight, 0xff, sizeof operands.weight);
    EXPECT(ADALOSS_ERROR_STATISTICS, adaloss_scaler_describe(scaler, &operands));
}

/* Does something wrong in the visit of layer 0, or instead of it; returns the cause that the verdict has to name. */
static uint32_t unusable_visit(adaloss_scaler *scaler, mistake *made, int nth, int32_t log2)
{
    const int32_t branches[2] = {0, 1}, illegal[2] = {0, 127};
    adaloss_operands operands;
    adaloss_request request;
    adaloss_pass *pass;
    uint16_t halves[COUNT];
    memset(&operands, 0, sizeof operands);
    operands.kind = 17;
    switch (nth) {
    case 0:
        EXPECT(ADALOSS_ERROR_SCALE, adaloss_scaler_layer(scaler, 0, 127));
        EXPECT(ADALOSS_ERROR_NO_VISIT, adaloss_scaler_next_pass(scaler, &pass));
        return ADALOSS_CAUSE_FAILED;
    case 1:
        EXPECT(ADALOSS_ERROR_SCALE, adaloss_scaler_join(scaler, 0, illegal, 2));
        EXPECT(ADALOSS_ERROR_NO_VISIT, adaloss_scaler_next_pass(scaler, &pass));
        return ADALOSS_CAUSE_FAILED;
    case 2:
        EXPECT(ADALOSS_ERROR_NULL, adaloss_scaler_join(scaler, 0, NULL, 2));
        return ADALOSS_CAUSE_FAILED;
    case 3:
        EXPECT(ADALOSS_ERROR_NO_CELL, adaloss_scaler_join(scaler, CELLS, branches, 2));
        return ADALOSS_CAUSE_FAILED;
    case 4:
        EXPECT(ADALOSS_ERROR_NO_CELL, adaloss_scaler_loss_at(scaler, CELLS));
        return ADALOSS_CAUSE_FAILED;
    default: break;
    }
    EXPECT(ADALOSS_OK, adaloss_scaler_layer(scaler, 0, log2));
    switch (nth) {
    case 5:
        made->kind = FAILS;
        EXPECT(ADALOSS_USER + 7, run(made, &log2));
        return ADALOSS_CAUSE_FAILED;
    case 6:
        made->kind = NARROWS_NOTHING;
        EXPECT(ADALOSS_OK, run(made, &log2));
        return ADALOSS_CAUSE_UNCOUNTED;
    case 7:
        made->kind = GROWS;
        EXPECT(ADALOSS_OK, run(made, &log2));
        return ADALOSS_CAUSE_LENGTH;
    case 8:
        made->kind = IGNORES_THE_CODE;
        EXPECT(ADALOSS_OK, run(made, &log2));
        return ADALOSS_CAUSE_FAILED;
    case 9: /* opened, and nothing else */
        return ADALOSS_CAUSE_FAILED;
    case 10: /* left for another one, in which nothing is wrong */
        EXPECT(ADALOSS_OK, adaloss_scaler_next_pass(scaler, &pass));
        EXPECT(ADALOSS_OK, adaloss_scaler_layer(scaler, 1, log2));
        EXPECT(ADALOSS_OK, run(made, &log2));
        return ADALOSS_CAUSE_FAILED;
    case 11: /* left for another one that is refused */
        EXPECT(ADALOSS_OK, adaloss_scaler_next_pass(scaler, &pass));
        EXPECT(ADALOSS_ERROR_SCALE, adaloss_scaler_layer(scaler, 1, 127));
        EXPECT(ADALOSS_ERROR_NO_VISIT, adaloss_scaler_finish_visit(scaler, &log2));
        EXPECT(ADALOSS_ERROR_NO_PASS, adaloss_apply_pass(pass, VALUES, COUNT, halves));
        return ADALOSS_CAUSE_FAILED;
    case 12: /* finished early, and then in order */
        EXPECT(ADALOSS_ERROR_UNFINISHED, adaloss_scaler_finish_visit(scaler, &log2));
        EXPECT(ADALOSS_OK, run(made, &log2));
        return ADALOSS_CAUSE_FAILED;
    case 13: /* finished in its first pass */
        EXPECT(ADALOSS_OK, adaloss_scaler_next_pass(scaler, &pass));
        EXPECT(ADALOSS_OK, adaloss_apply_pass(pass, VALUES, COUNT, halves));
        EXPECT(ADALOSS_ERROR_UNFINISHED, adaloss_scaler_finish_visit(scaler, &log2));
        return ADALOSS_CAUSE_FAILED;
    case 14:
        EXPECT(ADALOSS_ERROR_NULL, adaloss_scaler_next_pass(scaler, NULL));
        EXPECT(ADALOSS_ERROR_ALIGNMENT, adaloss_scaler_next_pass(scaler, MISALIGNED(&pass)));
        EXPECT(ADALOSS_OK, run(made, &log2));
        return ADALOSS_CAUSE_FAILED;
    case 15: /* nowhere for the scale */
        EXPECT(ADALOSS_ERROR_NULL, run(made, NULL));
        EXPECT(ADALOSS_OK, adaloss_scaler_finish_visit(scaler, &log2));
        return ADALOSS_CAUSE_FAILED;
    case 16: /* operands that are none, be they wanted or not */
        EXPECT(ADALOSS_ERROR_ENUM, adaloss_scaler_describe(scaler, &operands));
        EXPECT(ADALOSS_OK, run(made, &log2));
        return ADALOSS_CAUSE_FAILED;
    case 17:
        EXPECT(ADALOSS_ERROR_NULL, adaloss_scaler_describe(scaler, NULL));
        EXPECT(ADALOSS_OK, run(made, &log2));
        return ADALOSS_CAUSE_FAILED;
    case 18: /* a pass that was not asked for yet */
        EXPECT(ADALOSS_ERROR_NO_PASS, adaloss_apply_pass(made->kept, VALUES, COUNT, halves));
        EXPECT(ADALOSS_OK, run(made, &log2));
        return ADALOSS_CAUSE_FAILED;
    case 19: /* one that is over, although its visit is not finished */
        while (adaloss_scaler_next_pass(scaler, &pass) == ADALOSS_OK) {
            EXPECT(ADALOSS_OK, adaloss_apply_pass(pass, VALUES, COUNT, halves));
        }
        EXPECT(ADALOSS_NONE, adaloss_scaler_next_pass(scaler, &pass));
        EXPECT(ADALOSS_ERROR_NO_PASS, adaloss_apply_pass(pass, VALUES, COUNT, halves));
        EXPECT(ADALOSS_OK, adaloss_scaler_finish_visit(scaler, &log2));
        return ADALOSS_CAUSE_FAILED;
    default: /* counts that cannot be are refused as long as they are there */
        EXPECT(ADALOSS_OK, adaloss_scaler_next_pass(scaler, &pass));
        EXPECT(ADALOSS_OK, adaloss_apply_request(pass, &request));
        request.outcome->zero = 3;
        EXPECT(ADALOSS_ERROR_OUTCOME, adaloss_scaler_next_pass(scaler, &pass));
        EXPECT(ADALOSS_ERROR_OUTCOME, adaloss_scaler_next_pass(scaler, &pass));
        EXPECT(ADALOSS_ERROR_UNFINISHED, adaloss_scaler_finish_visit(scaler, &log2));
        request.outcome->zero = 0;
        EXPECT(ADALOSS_OK, adaloss_apply_pass(pass, VALUES, COUNT, halves));
        EXPECT(ADALOSS_OK, run(made, &log2));
        return ADALOSS_CAUSE_FAILED;
    }
}

/* Visits that are refused or left, or whose passes do not do what they say: the step is not usable, the next one is. */
static void steps_that_must_not_be_used(adaloss_scaler *scaler, mistake *made)
{
    adaloss_verdict verdict;
    uint32_t cause;
    int32_t log2;
    int nth;
    EXPECT(ADALOSS_OK, adaloss_scaler_begin(scaler));
    EXPECT(ADALOSS_OK, adaloss_scaler_finish(scaler, &verdict));
    unusable(&verdict, ADALOSS_LOSS, ADALOSS_CAUSE_NOTHING);
    for (nth = 0; nth <= 20; nth++) {
        EXPECT(ADALOSS_OK, adaloss_scaler_begin(scaler));
        made->kind = NO_MISTAKE;
        EXPECT(ADALOSS_OK, run_loss(made, &log2));
        cause = unusable_visit(scaler, made, nth, log2);
        EXPECT(ADALOSS_OK, adaloss_scaler_finish(scaler, &verdict));
        unusable(&verdict, ADALOSS_LAYER, cause);
        EXPECT(nth == 3 || nth == 4 ? CELLS : 0, (adaloss_code)verdict.place.cell);
        EXPECT(ADALOSS_OK, adaloss_scaler_begin(scaler));
        made->kind = NO_MISTAKE;
        EXPECT(ADALOSS_OK, adaloss_scaler_micro_batch(scaler, 7));
        EXPECT(ADALOSS_OK, run_loss(made, &log2));
        EXPECT(ADALOSS_OK, adaloss_scaler_finish(scaler, &verdict));
        EXPECT(ADALOSS_VERDICT_APPLY, (adaloss_code)verdict.kind);
    }
    /* A step that is abandoned takes the visit that is open with it. */
    EXPECT(ADALOSS_OK, adaloss_scaler_begin(scaler));
    EXPECT(ADALOSS_OK, adaloss_scaler_loss(scaler));
    EXPECT(ADALOSS_OK, adaloss_scaler_abandon(scaler));
    EXPECT(ADALOSS_OK, adaloss_scaler_begin(scaler));
    EXPECT(ADALOSS_OK, run_loss(made, &log2));
    EXPECT(ADALOSS_OK, adaloss_scaler_finish(scaler, &verdict));
    EXPECT(ADALOSS_VERDICT_APPLY, (adaloss_code)verdict.kind);
}

static void scalers(void)
{
    static adaloss_scaler scaler, untouched;
    static adaloss_cell cells[CELLS];
    static adaloss_histogram histogram;
    adaloss_config config = recommended();
    const adaloss_place nowhere = {3, 0}, loss = {ADALOSS_LOSS, 0}, layer = {ADALOSS_LAYER, 3};
    const adaloss_place beyond = {ADALOSS_LAYER, CELLS}, weight = {ADALOSS_WEIGHT, 0};
    const int32_t branches[2] = {0, 1};
    adaloss_unscaled met = {0, 1, 0};
    adaloss_record record;
    adaloss_verdict verdict;
    adaloss_totals totals;
    adaloss_visit visit;
    adaloss_place bad;
    adaloss_seen seen;
    adaloss_cell cell;
    uint64_t underflow;
    uint32_t cause;
    int32_t log2 = 99;
    mistake made = {NO_MISTAKE, &scaler, NULL, 1};

    EXPECT(ADALOSS_ERROR_NOT_INITIALISED, adaloss_scaler_begin(&scaler));
    EXPECT(ADALOSS_ERROR_NOT_INITIALISED, adaloss_scaler_clear(&scaler));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_scaler_begin(NULL));
    EXPECT(ADALOSS_ERROR_ALIGNMENT, adaloss_scaler_begin((adaloss_scaler *)MISALIGNED(&scaler)));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_scaler_init(&scaler, NULL, cells, CELLS));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_scaler_init(&scaler, &config, NULL, CELLS));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_scaler_init(NULL, &config, cells, CELLS));
    EXPECT(ADALOSS_ERROR_LENGTH, adaloss_scaler_init(&scaler, &config, cells, SIZE_MAX));
    if (memcmp(&scaler, &untouched, sizeof scaler) != 0) {
        EXPECT(ADALOSS_OK, ADALOSS_ERROR_INITIALISED);
    }
    EXPECT(ADALOSS_OK, adaloss_scaler_init(&scaler, &config, cells, CELLS));
    EXPECT(ADALOSS_ERROR_INITIALISED, adaloss_scaler_init(&scaler, &config, cells, CELLS));

    EXPECT(ADALOSS_ERROR_NO_STEP, adaloss_scaler_loss(&scaler));
    EXPECT(ADALOSS_ERROR_NO_STEP, adaloss_scaler_loss_at(&scaler, 0));
    EXPECT(ADALOSS_ERROR_NO_STEP, adaloss_scaler_layer(&scaler, 0, 0));
    EXPECT(ADALOSS_ERROR_NO_STEP, adaloss_scaler_join(&scaler, 0, branches, 2));
    EXPECT(ADALOSS_ERROR_NO_STEP, adaloss_scaler_finish(&scaler, &verdict));
    verdict_texts();
    EXPECT(ADALOSS_ERROR_NO_STEP, adaloss_scaler_abandon(&scaler));
    EXPECT(ADALOSS_ERROR_NO_STEP, adaloss_scaler_last(&scaler, &visit));
    EXPECT(ADALOSS_ERROR_NO_STEP, adaloss_scaler_seen(&scaler, loss, &seen));
    EXPECT(ADALOSS_ERROR_NO_STEP, adaloss_scaler_first_bad(&scaler, &bad, &cause));
    EXPECT(ADALOSS_ERROR_NO_STEP, adaloss_scaler_sums_overflowed(&scaler, loss));
    EXPECT(ADALOSS_ERROR_NO_STEP, adaloss_scaler_micro_batch(&scaler, 0));
    EXPECT(ADALOSS_OK, adaloss_scaler_begin(&scaler));
    EXPECT(ADALOSS_ERROR_STEP, adaloss_scaler_begin(&scaler));
    EXPECT(ADALOSS_ERROR_ENUM, adaloss_scaler_seen(&scaler, nowhere, &seen));
    EXPECT(ADALOSS_OK, adaloss_scaler_seen(&scaler, layer, &seen));
    EXPECT(ADALOSS_ERROR_NO_CELL, adaloss_scaler_set_seen(&scaler, beyond, &seen));
    EXPECT(ADALOSS_ERROR_NO_CELL, adaloss_scaler_set_seen(&scaler, weight, &seen));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_scaler_set_seen(&scaler, loss, NULL));
    EXPECT(ADALOSS_NONE, adaloss_scaler_sums_overflowed(&scaler, layer));
    EXPECT(ADALOSS_ERROR_ENUM, adaloss_scaler_sums_overflowed(&scaler, nowhere));
    EXPECT(ADALOSS_NONE, adaloss_scaler_first_bad(&scaler, &bad, &cause));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_scaler_first_bad(&scaler, &bad, NULL));
    EXPECT(ADALOSS_NONE, adaloss_scaler_last(&scaler, &visit));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_scaler_loss(NULL));
    EXPECT(ADALOSS_ERROR_ALIGNMENT, adaloss_scaler_loss((adaloss_scaler *)MISALIGNED(&scaler)));
    EXPECT(ADALOSS_ERROR_NO_CELL, adaloss_scaler_layer(&scaler, CELLS, 0));
    EXPECT(ADALOSS_ERROR_NO_CELL, adaloss_scaler_loss_at(&scaler, CELLS));
    EXPECT(ADALOSS_ERROR_SCALE, adaloss_scaler_layer(&scaler, 0, 127));
    EXPECT(ADALOSS_ERROR_BRANCHES, adaloss_scaler_join(&scaler, 0, branches, 1));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_scaler_join(&scaler, 0, NULL, 2));
    EXPECT(ADALOSS_ERROR_LENGTH, adaloss_scaler_join(&scaler, 0, branches, SIZE_MAX));
    made.kind = FAILS;
    EXPECT(ADALOSS_USER + 7, run_loss(&made, &log2));
    made.kind = WRONG_BUFFER;
    EXPECT(ADALOSS_ERROR_NULL, run_loss(&made, &log2));
    made.kind = COUNTS_WRONGLY;
    EXPECT(ADALOSS_ERROR_OUTCOME, run_loss(&made, &log2));
    made.kind = SPOILS_AND_GOES_ON;
    EXPECT(ADALOSS_ERROR_OUTCOME, run_loss(&made, &log2));
    made.kind = SPOILS_THE_HISTOGRAM;
    EXPECT(ADALOSS_ERROR_HISTOGRAM, run_loss(&made, &log2));
    made.kind = COUNTS_FOR_ANOTHER;
    EXPECT(ADALOSS_ERROR_HISTOGRAM, run_loss(&made, &log2));
    made.kind = SPOILS_IT_AND_FAILS;
    EXPECT(ADALOSS_USER + 7, run_loss(&made, &log2));
    EXPECT(ADALOSS_ERROR_UNFINISHED, adaloss_scaler_histogram(&scaler, &histogram));
    if (log2 != 99) {
        EXPECT(ADALOSS_OK, ADALOSS_ERROR_SCALE);
    }
    made.kind = NO_MISTAKE;
    EXPECT(ADALOSS_OK, run_loss(&made, &log2));
    EXPECT(ADALOSS_OK, adaloss_scaler_histogram(&scaler, &histogram));
    EXPECT(ADALOSS_OK, adaloss_statistics_histogram_underflow(&histogram, 0, &underflow));
    made.kind = SPOILS_IT_AND_FAILS;
    EXPECT(ADALOSS_USER + 7, run_loss(&made, &log2));

    EXPECT(ADALOSS_ERROR_ENUM, adaloss_scaler_record(&scaler, nowhere, &record));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_scaler_record(&scaler, loss, NULL));
    EXPECT(ADALOSS_NONE, adaloss_scaler_record(&scaler, beyond, &record));
    EXPECT(ADALOSS_NONE, adaloss_scaler_record(&scaler, weight, &record));
    EXPECT(ADALOSS_OK, adaloss_scaler_record(&scaler, loss, &record));
    EXPECT(ADALOSS_ERROR_OUTCOME, adaloss_scaler_unscaled(&scaler, 0, &met));
    EXPECT(ADALOSS_ERROR_ENUM, adaloss_scaler_reject(&scaler, nowhere, ADALOSS_CAUSE_OVERFLOW));
    EXPECT(ADALOSS_ERROR_ENUM, adaloss_scaler_reject(&scaler, loss, ADALOSS_CAUSE_NONE));
    EXPECT(ADALOSS_NONE, adaloss_scaler_cell(&scaler, layer, &cell));
    EXPECT(ADALOSS_ERROR_ENUM, adaloss_scaler_cell(&scaler, nowhere, &cell));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_scaler_finish(&scaler, NULL));
    EXPECT(ADALOSS_OK, adaloss_scaler_finish(&scaler, &verdict));
    unusable(&verdict, ADALOSS_LAYER, ADALOSS_CAUSE_FAILED);
    EXPECT(CELLS, (adaloss_code)verdict.place.cell);
    EXPECT(ADALOSS_OK, adaloss_scaler_histogram(&scaler, &histogram));
    EXPECT(ADALOSS_OK, adaloss_statistics_histogram_underflow(&histogram, 0, &underflow));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_scaler_totals(&scaler, NULL));
    EXPECT(ADALOSS_OK, adaloss_scaler_totals(&scaler, &totals));
    visits_out_of_order(&scaler, &made);
    steps_that_must_not_be_used(&scaler, &made);

    memset(&cells[2], 0xff, sizeof cells[2]);
    EXPECT(ADALOSS_ERROR_CELL, adaloss_scaler_begin(&scaler));
    EXPECT(ADALOSS_OK, adaloss_scaler_clear(&scaler));
    if (memcmp(&scaler, &untouched, sizeof scaler) != 0) {
        EXPECT(ADALOSS_OK, ADALOSS_ERROR_INITIALISED);
    }
    EXPECT(ADALOSS_ERROR_NO_PASS, adaloss_apply_pass(made.kept, VALUES, COUNT, NULL));

    EXPECT(ADALOSS_OK, adaloss_policy_paper(BINARY16, &config));
    EXPECT(ADALOSS_OK, adaloss_scaler_init(&scaler, &config, cells, CELLS));
    EXPECT(ADALOSS_OK, adaloss_scaler_begin(&scaler));
    operands_of_visits(&scaler, &made);
    EXPECT(ADALOSS_OK, adaloss_scaler_abandon(&scaler));
    EXPECT(ADALOSS_ERROR_NO_PASS, adaloss_apply_pass(made.kept, VALUES, COUNT, NULL));
    EXPECT(ADALOSS_OK, adaloss_scaler_clear(&scaler));
}

static void checkpoints(void)
{
    static adaloss_scaler scaler, other;
    static adaloss_cell cells[CELLS], of_other[CELLS + 1];
    uint8_t bytes[ADALOSS_CHECKPOINT_BYTES(CELLS)], changed[sizeof bytes];
    adaloss_config config = recommended();
    uint32_t before, after;
    EXPECT(ADALOSS_OK, adaloss_scaler_init(&scaler, &config, cells, CELLS));
    EXPECT(ADALOSS_ERROR_LENGTH, adaloss_scaler_save(&scaler, bytes, sizeof bytes - 1));
    EXPECT(ADALOSS_ERROR_LENGTH, adaloss_scaler_save(&scaler, NULL, 0));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_scaler_save(&scaler, NULL, sizeof bytes));
    EXPECT(ADALOSS_OK, adaloss_scaler_begin(&scaler));
    EXPECT(ADALOSS_ERROR_STEP, adaloss_scaler_save(&scaler, bytes, sizeof bytes));
    EXPECT(ADALOSS_ERROR_STEP, adaloss_scaler_restore(&scaler, bytes, sizeof bytes));
    EXPECT(ADALOSS_OK, adaloss_scaler_abandon(&scaler));
    EXPECT(ADALOSS_OK, adaloss_scaler_save(&scaler, bytes, sizeof bytes));
    EXPECT(ADALOSS_OK, adaloss_scaler_digest(&scaler, &before));

    EXPECT(ADALOSS_ERROR_FOREIGN, adaloss_scaler_restore(&scaler, "PK\3\4 a zip file", 16));
    EXPECT(ADALOSS_ERROR_FOREIGN, adaloss_scaler_restore(&scaler, NULL, 0));
    EXPECT(ADALOSS_ERROR_LENGTH, adaloss_scaler_restore(&scaler, bytes, sizeof bytes - 1));
    memcpy(changed, bytes, sizeof bytes);
    changed[8] = 1;
    EXPECT(ADALOSS_ERROR_VERSION, adaloss_scaler_restore(&scaler, changed, sizeof changed));
    memcpy(changed, bytes, sizeof bytes);
    changed[100] ^= 1;
    EXPECT(ADALOSS_ERROR_DAMAGED, adaloss_scaler_restore(&scaler, changed, sizeof changed));
    EXPECT(ADALOSS_OK, adaloss_scaler_digest(&scaler, &after));
    if (before != after) {
        EXPECT(ADALOSS_OK, ADALOSS_ERROR_DAMAGED);
    }
    EXPECT(ADALOSS_OK, adaloss_scaler_init(&other, &config, of_other, CELLS + 1));
    EXPECT(ADALOSS_ERROR_CAPACITY, adaloss_scaler_restore(&other, bytes, sizeof bytes));
    EXPECT(ADALOSS_OK, adaloss_scaler_clear(&other));
    config.period = 11;
    EXPECT(ADALOSS_OK, adaloss_scaler_init(&other, &config, of_other, CELLS));
    EXPECT(ADALOSS_ERROR_OTHER_CONFIG, adaloss_scaler_restore(&other, bytes, sizeof bytes));
    EXPECT(ADALOSS_OK, adaloss_scaler_restore(&scaler, bytes, sizeof bytes));
}

/* A step that is shared; `made` is a kernel that spoils the histogram of its pass and fails. */
static void steps_of_ranks(adaloss_scaler *scaler, mistake *made)
{
    static adaloss_histogram histogram;
    uint8_t message[ADALOSS_SHARE_BYTES(CELLS)], merged[sizeof message], untouched[sizeof message];
    uint64_t digests[ADALOSS_SHARE_DIGESTS(CELLS) + 1], underflow;
    adaloss_scaler *const misaligned = (adaloss_scaler *)MISALIGNED(scaler);
    adaloss_verdict verdict;
    int32_t log2;
    memset(message, 0xee, sizeof message);
    memcpy(untouched, message, sizeof message);
    EXPECT(ADALOSS_ERROR_NO_STEP, adaloss_share_pack(scaler, message, sizeof message));
    EXPECT(ADALOSS_ERROR_NO_STEP, adaloss_share_matches(scaler, message, sizeof message));
    EXPECT(ADALOSS_ERROR_NO_STEP, adaloss_share_unpack(scaler, message, sizeof message));
    EXPECT(ADALOSS_ERROR_NO_STEP, adaloss_share_digests(scaler, digests, ADALOSS_SHARE_DIGESTS(CELLS)));
    EXPECT(ADALOSS_OK, adaloss_scaler_begin(scaler));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_share_pack(NULL, message, sizeof message));
    EXPECT(ADALOSS_ERROR_ALIGNMENT, adaloss_share_pack(misaligned, message, sizeof message));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_share_pack(scaler, NULL, sizeof message));
    EXPECT(ADALOSS_ERROR_LENGTH, adaloss_share_pack(scaler, NULL, 0));
    EXPECT(ADALOSS_ERROR_LENGTH, adaloss_share_pack(scaler, message, ADALOSS_SHARE_HEADER_BYTES));
    EXPECT(ADALOSS_ERROR_LENGTH, adaloss_share_pack(scaler, message, SIZE_MAX));
    if (memcmp(message, untouched, sizeof message) != 0) {
        EXPECT(ADALOSS_OK, ADALOSS_ERROR_MESSAGE);
    }
    EXPECT(ADALOSS_ERROR_NULL, adaloss_share_digests(NULL, digests, ADALOSS_SHARE_DIGESTS(CELLS)));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_share_digests(scaler, NULL, ADALOSS_SHARE_DIGESTS(CELLS)));
    EXPECT(ADALOSS_ERROR_ALIGNMENT,
           adaloss_share_digests(scaler, (uint64_t *)MISALIGNED(digests), ADALOSS_SHARE_DIGESTS(CELLS)));
    EXPECT(ADALOSS_ERROR_LENGTH, adaloss_share_digests(scaler, digests, CELLS));
    EXPECT(ADALOSS_ERROR_LENGTH, adaloss_share_digests(scaler, digests, ADALOSS_SHARE_DIGESTS(CELLS) + 1));
    EXPECT(ADALOSS_OK, adaloss_share_digests(scaler, digests, ADALOSS_SHARE_DIGESTS(CELLS)));

    EXPECT(ADALOSS_USER + 7, run_loss(made, &log2));
    EXPECT(ADALOSS_OK, adaloss_share_pack(scaler, message, sizeof message));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_share_merge(NULL, message, sizeof message));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_share_merge(message, NULL, sizeof message));
    EXPECT(ADALOSS_ERROR_LENGTH, adaloss_share_merge(merged, message, SIZE_MAX));
    EXPECT(ADALOSS_OK, adaloss_share_merge(NULL, NULL, 0));
    memset(merged, 0, sizeof merged);
    EXPECT(ADALOSS_OK, adaloss_share_merge(merged, message, sizeof message));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_share_matches(scaler, NULL, sizeof merged));
    EXPECT(ADALOSS_ERROR_LENGTH, adaloss_share_matches(scaler, merged, ADALOSS_SHARE_HEADER_BYTES - 1));
    EXPECT(ADALOSS_ERROR_LENGTH, adaloss_share_unpack(scaler, merged, ADALOSS_SHARE_HEADER_BYTES));
    EXPECT(ADALOSS_ERROR_LENGTH, adaloss_share_unpack(scaler, NULL, 0));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_share_unpack(NULL, merged, sizeof merged));
    EXPECT(ADALOSS_ERROR_RANKS_VERSION, adaloss_share_unpack(scaler, untouched, sizeof untouched));
    merged[ADALOSS_SHARE_BYTES(1)] = merged[ADALOSS_SHARE_BYTES(1) + 1] = 0xff;
    EXPECT(ADALOSS_ERROR_MESSAGE, adaloss_share_unpack(scaler, merged, sizeof merged));
    EXPECT(ADALOSS_OK, adaloss_share_matches(scaler, merged, ADALOSS_SHARE_HEADER_BYTES));
    /* What was refused has taken nothing from the kernel that has the counters; what is taken does. */
    EXPECT(ADALOSS_ERROR_UNFINISHED, adaloss_scaler_histogram(scaler, &histogram));
    EXPECT(ADALOSS_OK, adaloss_share_unpack(scaler, message, sizeof message));
    EXPECT(ADALOSS_ERROR_NO_PASS, adaloss_apply_pass(made->kept, VALUES, COUNT, NULL));
    EXPECT(ADALOSS_OK, adaloss_scaler_histogram(scaler, &histogram));
    EXPECT(ADALOSS_OK, adaloss_statistics_histogram_underflow(&histogram, 0, &underflow));
    EXPECT(ADALOSS_OK, adaloss_scaler_finish(scaler, &verdict));
    unusable(&verdict, ADALOSS_LOSS, ADALOSS_CAUSE_FAILED);
    EXPECT(ADALOSS_OK, adaloss_scaler_begin(scaler));
    EXPECT(ADALOSS_ERROR_RANKS_STEP, adaloss_share_unpack(scaler, message, sizeof message));
    EXPECT(ADALOSS_OK, adaloss_scaler_abandon(scaler));
}

static void ranks(void)
{
    static adaloss_scaler scaler, untouched;
    static adaloss_cell cells[CELLS];
    uint8_t message[ADALOSS_SHARE_BYTES(CELLS)];
    adaloss_config config = recommended();
    mistake made = {SPOILS_IT_AND_FAILS, &scaler, NULL, 1};
    EXPECT(ADALOSS_ERROR_NOT_INITIALISED, adaloss_share_pack(&scaler, message, sizeof message));
    if (memcmp(&scaler, &untouched, sizeof scaler) != 0) {
        EXPECT(ADALOSS_OK, ADALOSS_ERROR_INITIALISED);
    }
    EXPECT(ADALOSS_OK, adaloss_scaler_init(&scaler, &config, cells, CELLS));
    steps_of_ranks(&scaler, &made);
    EXPECT(ADALOSS_OK, adaloss_scaler_clear(&scaler));
    EXPECT(ADALOSS_OK, adaloss_policy_paper(BINARY16, &config));
    EXPECT(ADALOSS_OK, adaloss_scaler_init(&scaler, &config, cells, CELLS));
    EXPECT(ADALOSS_OK, adaloss_scaler_begin(&scaler));
    EXPECT(ADALOSS_ERROR_POLICY, adaloss_share_pack(&scaler, message, sizeof message));
    EXPECT(ADALOSS_OK, adaloss_scaler_clear(&scaler));
}

/* What a device's functions return, the address that it allocates, and the byte that its memory is full of. */
typedef struct trouble {
    adaloss_code allocate, read, write;
    uint64_t address;
    int byte, byte_of_histograms;
    adaloss_pass *kept;
} trouble;

static adaloss_code allocate(void *context, uint64_t bytes, uint64_t *address)
{
    const trouble *of = context;
    (void)bytes;
    *address = of->address;
    return of->allocate;
}

static void release(void *context, uint64_t address, uint64_t bytes)
{
    (void)context;
    (void)address;
    (void)bytes;
}

static adaloss_code read_bytes(void *context, uint64_t from, void *to, size_t bytes)
{
    const trouble *of = context;
    (void)from;
    memset(to, bytes == sizeof(adaloss_histogram) ? of->byte_of_histograms : of->byte, bytes);
    return of->read;
}

static adaloss_code write_bytes(void *context, const void *from, uint64_t to, size_t bytes)
{
    const trouble *of = context;
    (void)from;
    (void)to;
    (void)bytes;
    return of->write;
}

/* A device without a context, which is no mistake. */
static adaloss_code nothing_to_allocate(void *context, uint64_t bytes, uint64_t *address)
{
    (void)bytes;
    *address = 0;
    return context == NULL ? ADALOSS_ERROR_MEMORY : ADALOSS_ERROR_DEVICE;
}

static void differs(const char *expected, const adaloss_conformance *report)
{
    checks++;
    if (strstr(report->difference, expected) == NULL) {
        failures++;
        fprintf(stderr, "misuse.c: \"%s\" instead of \"%s\"\n", report->difference, expected);
    }
}

static adaloss_device device_in(trouble *context)
{
    adaloss_device device;
    memset(&device, 0, sizeof device);
    device.context = context;
    device.bytes = sizeof device;
    device.allocate = allocate;
    device.free = release;
    device.read = read_bytes;
    device.write = write_bytes;
    return device;
}

static adaloss_code kernel_on_device(trouble *in, adaloss_pass *running)
{
    const adaloss_device device = device_in(in);
    adaloss_epilogue epilogue;
    in->kept = running;
    EXPECT(ADALOSS_ERROR_NULL, adaloss_device_write_pass(NULL, running, 0, &epilogue));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_device_write_pass(&device, NULL, 0, &epilogue));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_device_write_pass(&device, running, 0, NULL));
    EXPECT(ADALOSS_ERROR_ALIGNMENT, adaloss_device_write_pass(&device, running, 4, &epilogue));
    EXPECT(ADALOSS_ERROR_LENGTH, adaloss_device_write_pass(&device, running, 0 - (uint64_t)8, &epilogue));
    in->write = ADALOSS_USER + 2;
    EXPECT(ADALOSS_USER + 2, adaloss_device_write_pass(&device, running, 0, &epilogue));
    in->write = ADALOSS_OK;
    EXPECT(ADALOSS_OK, adaloss_device_write_pass(&device, running, 0, &epilogue));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_device_read_pass(NULL, running, &epilogue));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_device_read_pass(&device, NULL, &epilogue));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_device_read_pass(&device, running, NULL));
    in->read = ADALOSS_ERROR_HARDWARE;
    EXPECT(ADALOSS_ERROR_HARDWARE, adaloss_device_read_pass(&device, running, &epilogue));
    in->read = ADALOSS_OK;
    in->byte = 0xee;
    EXPECT(ADALOSS_ERROR_OUTCOME, adaloss_device_read_pass(&device, running, &epilogue));
    in->byte = 0;
    if (epilogue.measures) {
        in->byte_of_histograms = 0xee;
        EXPECT(ADALOSS_ERROR_HISTOGRAM, adaloss_device_read_pass(&device, running, &epilogue));
        in->byte_of_histograms = 0;
    }
    return adaloss_device_read_pass(&device, running, &epilogue);
}

static void passes_on_devices(void)
{
    static adaloss_scaler scaler;
    static adaloss_cell cells[CELLS];
    const adaloss_config config = recommended();
    trouble in = {ADALOSS_OK, ADALOSS_OK, ADALOSS_OK, 0, 0, 0, NULL};
    const adaloss_device device = device_in(&in);
    adaloss_epilogue epilogue;
    adaloss_verdict verdict;
    adaloss_pass *pass;
    int32_t log2;
    EXPECT(ADALOSS_OK, adaloss_scaler_init(&scaler, &config, cells, CELLS));
    EXPECT(ADALOSS_OK, adaloss_scaler_begin(&scaler));
    EXPECT(ADALOSS_OK, adaloss_scaler_loss(&scaler));
    while (adaloss_scaler_next_pass(&scaler, &pass) == ADALOSS_OK) {
        EXPECT(ADALOSS_OK, kernel_on_device(&in, pass));
    }
    EXPECT(ADALOSS_OK, adaloss_scaler_finish_visit(&scaler, &log2));
    EXPECT(ADALOSS_ERROR_NO_PASS, adaloss_device_write_pass(&device, in.kept, 0, &epilogue));
    EXPECT(ADALOSS_ERROR_NO_PASS, adaloss_device_read_pass(&device, in.kept, &epilogue));
    /* What failed once is not made good by what succeeded later. */
    EXPECT(ADALOSS_OK, adaloss_scaler_finish(&scaler, &verdict));
    unusable(&verdict, ADALOSS_LOSS, ADALOSS_CAUSE_FAILED);
    EXPECT(ADALOSS_OK, adaloss_scaler_clear(&scaler));
}

static void devices(void)
{
    trouble in = {ADALOSS_OK, ADALOSS_OK, ADALOSS_OK, 0, 0, 0, NULL};
    const adaloss_device right = device_in(&in);
    adaloss_device device = right;
    adaloss_conformance report;
    memset(&report, 0xee, sizeof report);
    EXPECT(ADALOSS_OK, adaloss_device_check(&device));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_device_check(NULL));
    EXPECT(ADALOSS_ERROR_ALIGNMENT, adaloss_device_check((adaloss_device *)MISALIGNED(&device)));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_device_conform_memory(NULL, &report));
    EXPECT(ADALOSS_ERROR_NULL, adaloss_device_conform_memory(&device, NULL));
    device.bytes = 0;
    EXPECT(ADALOSS_ERROR_LENGTH, adaloss_device_check(&device));
    device = right;
    device.capabilities = 8;
    EXPECT(ADALOSS_ERROR_ENUM, adaloss_device_check(&device));
    device = right;
    device.allocate = NULL;
    EXPECT(ADALOSS_ERROR_NULL, adaloss_device_check(&device));
    device = right;
    device.free = NULL;
    EXPECT(ADALOSS_ERROR_NULL, adaloss_device_check(&device));
    device = right;
    device.read = NULL;
    EXPECT(ADALOSS_ERROR_NULL, adaloss_device_check(&device));
    device = right;
    device.write = NULL;
    EXPECT(ADALOSS_ERROR_NULL, adaloss_device_conform_memory(&device, &report));

    device = right;
    EXPECT(ADALOSS_ERROR_FORMAT, adaloss_device_conform_narrow(&device, NO_ENCODING, &report));
    EXPECT(ADALOSS_ERROR_OPERATION, adaloss_device_conform_narrow(&device, ADALOSS_BINARY16, &report));
    EXPECT(ADALOSS_ERROR_OPERATION, adaloss_device_conform_matmul(&device, ADALOSS_E4M3, ADALOSS_E5M2,
                                                                  ADALOSS_BINARY32, &report));
    EXPECT(ADALOSS_ERROR_FORMAT, adaloss_device_conform_matmul(&device, ADALOSS_E4M3, ADALOSS_BINARY16,
                                                               ADALOSS_BINARY32, &report));
    if (report.operations != 0xeeeeeeeeeeeeeeeeu) {
        EXPECT(ADALOSS_OK, ADALOSS_ERROR_DIFFERS); /* what was not asked wrote nothing */
    }

    in.allocate = ADALOSS_ERROR_MEMORY;
    EXPECT(ADALOSS_ERROR_DIFFERS, adaloss_device_conform_memory(&device, &report));
    differs("out of device memory", &report);
    device.context = NULL;
    device.allocate = nothing_to_allocate;
    EXPECT(ADALOSS_ERROR_DIFFERS, adaloss_device_conform_memory(&device, &report));
    differs("out of device memory", &report);
    device = right;
    in.allocate = ADALOSS_OK;
    in.address = 4;
    EXPECT(ADALOSS_ERROR_DIFFERS, adaloss_device_conform_memory(&device, &report));
    differs("device error", &report);
    in.address = 0;
    in.read = ADALOSS_ERROR_HARDWARE;
    EXPECT(ADALOSS_ERROR_DIFFERS, adaloss_device_conform_memory(&device, &report));
    differs("device failure", &report);
    in.read = ADALOSS_USER + 1;
    EXPECT(ADALOSS_ERROR_DIFFERS, adaloss_device_conform_memory(&device, &report));
    differs("device error", &report);
    in.read = ADALOSS_OK;
    in.byte = 0xee;
    EXPECT(ADALOSS_ERROR_DIFFERS, adaloss_device_conform_memory(&device, &report));
    differs("zeroed memory", &report);
}

int main(void)
{
    formats();
    statistics();
    configurations();
    policies();
    tensors();
    scalers();
    checkpoints();
    ranks();
    devices();
    passes_on_devices();
    printf("%d of %d mistakes were answered as they should be\n", checks - failures, checks);
    return failures != 0;
}
