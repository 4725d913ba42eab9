/*
 * adaloss: adaptive loss scaling for mixed precision training.
 *
 * Every gradient tensor carries a loss scale of its own, 2^K, chosen while training runs.  A scale is written
 * here as its exponent, `..._log2`, with -126 <= K <= 126.  A gradient passes through these modules, whose names
 * the functions bear:
 *
 *   tensor -> statistics -> policy -> scale -> apply -> propagate -> unscale -> scaler
 *
 * A runtime calls adaloss_scaler_* and is done; one that schedules its own kernels calls the other modules itself.
 *
 * A cell remembers one gradient tensor's scale and what the next one depends on; the caller numbers the cells from 0, and
 * the loss has one of its own in the scaler.  A visit is what happens to one tensor at its cell: one or more passes over its
 * float values, each of which measures or narrows them.  A place says which gradient is meant.  A certificate says, from
 * exact counts, what the scale in use loses; it changes no scale.  docs/terms.md has all terms.
 *
 * Memory is the caller's: nothing here allocates, nothing is kept but the cells given to adaloss_scaler_init.
 * Functions may be called from any thread, as long as nothing they write is used by another at the same time.
 *
 * Every function returns a code; what it computes goes through pointers.  Where a code other than ADALOSS_OK is
 * returned, nothing was written, unless the function says so.  A NULL pointer, one that is not aligned for its type,
 * a number that no enumeration has, a structure that cannot be: each is answered with a code.  An array of no
 * elements may be NULL.  Arrays that are written must not overlap others.
 *
 * Values in memory are of the machine's byte order.  Structures hold no padding: what is reserved is zero.
 */
#ifndef ADALOSS_H
#define ADALOSS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Version and codes ---------------------------------------------------------------------------------------- */

#define ADALOSS_VERSION_MAJOR 0
#define ADALOSS_VERSION_MINOR 1
#define ADALOSS_VERSION_PATCH 0
#define ADALOSS_VERSION ((ADALOSS_VERSION_MAJOR << 16) | (ADALOSS_VERSION_MINOR << 8) | ADALOSS_VERSION_PATCH)

/* What a function returns.  The numbers never change their meaning. */
typedef int32_t adaloss_code;

enum {
    ADALOSS_OK = 0,
    ADALOSS_NONE = 1,                 /* there is no such value: no scale fits, nothing was observed */

    ADALOSS_ERROR_NULL = -1,          /* a pointer is NULL */
    ADALOSS_ERROR_ALIGNMENT = -2,     /* a pointer is not aligned for what it points to */
    ADALOSS_ERROR_LENGTH = -3,        /* a length is wrong, or too large to exist */
    ADALOSS_ERROR_FORMAT = -4,        /* no such encoding, subnormals, rounding or overflow, or not the same */
    ADALOSS_ERROR_SCALE = -5,         /* an exponent outside -126..126, or a shift outside -252..252 */
    ADALOSS_ERROR_ENUM = -6,          /* a number that its enumeration does not have */
    ADALOSS_ERROR_HISTOGRAM = -7,     /* counts that cannot be: not cleared, or overwritten */
    ADALOSS_ERROR_OUTCOME = -8,       /* counts that cannot be: not zero at first, or overwritten; of unscaling, too */
    ADALOSS_ERROR_STATISTICS = -9,    /* counts that cannot be: not cleared, or overwritten */
    ADALOSS_ERROR_CELL = -10,         /* no cell of the configuration has these bytes: not initialised, overwritten */
    ADALOSS_ERROR_FULL = -11,         /* a count would exceed 2^63 */
    ADALOSS_ERROR_BRANCHES = -12,     /* a join of fewer than two branches */
    ADALOSS_ERROR_SHAPE = -13,        /* operands that form no product */

    /* configuration */
    ADALOSS_ERROR_POLICY = -20,       /* no such policy, or not one that does this */
    ADALOSS_ERROR_SHARE = -21,        /* a share is not at least 0 and below 1 */
    ADALOSS_ERROR_PERIOD = -22,       /* the period is 0 */
    ADALOSS_ERROR_MAX_SKIPS = -23,    /* no skipped step is allowed */
    ADALOSS_ERROR_INTERVAL = -24,     /* backoff: the interval is 0 */
    ADALOSS_ERROR_BOUNDS = -25,       /* backoff: floor, initial scale and cap are not in order, or not legal */
    ADALOSS_ERROR_FACTORS = -26,      /* backoff: a factor shrinks that should grow, or the other way round */
    ADALOSS_ERROR_WINDOW = -27,       /* amax: the window is 0 */
    ADALOSS_ERROR_HEADROOM = -29,     /* measured, amax: a headroom or margin of more than 16 binades */
    ADALOSS_ERROR_EXTREMES = -30,     /* normal, range: caps or extremes not positive, or not in order */
    ADALOSS_ERROR_CONFIG = -31,       /* anything else about a configuration */
    ADALOSS_ERROR_NO_HEADROOM = -32,  /* measured: no headroom is allowed */

    /* scaler */
    ADALOSS_ERROR_NOT_INITIALISED = -40, /* this memory is no scaler */
    ADALOSS_ERROR_INITIALISED = -41,  /* this memory is not zero: it may be a scaler already */
    ADALOSS_ERROR_NO_STEP = -42,      /* adaloss_scaler_begin was not called */
    ADALOSS_ERROR_STEP = -43,         /* a step is under way: finish or abandon it first */
    ADALOSS_ERROR_NO_CELL = -45,      /* the scaler has no cell of this number */
    ADALOSS_ERROR_NO_PASS = -46,      /* a pass that is over, or was not asked for yet */
    ADALOSS_ERROR_UNFINISHED = -47,   /* the visit that is open has passes left */
    ADALOSS_ERROR_NO_VISIT = -48,     /* no visit is open */

    /* checkpoints */
    ADALOSS_ERROR_FOREIGN = -50,      /* these bytes are no checkpoint */
    ADALOSS_ERROR_VERSION = -51,      /* a checkpoint of another version: begin with a new scaler */
    ADALOSS_ERROR_CAPACITY = -52,     /* a checkpoint of a scaler with another number of cells */
    ADALOSS_ERROR_DAMAGED = -53,      /* the checksum does not match */
    ADALOSS_ERROR_OTHER_CONFIG = -54, /* a checkpoint that was written under another configuration */
    ADALOSS_ERROR_COUNTS = -55,       /* more steps were skipped than there can have been */

    /* devices */
    ADALOSS_ERROR_MEMORY = -60,       /* the device's memory is exhausted */
    ADALOSS_ERROR_HARDWARE = -61,     /* the device failed, or the connection to it */
    ADALOSS_ERROR_DEVICE = -62,       /* something else is wrong with the device */
    ADALOSS_ERROR_DIFFERS = -63,      /* conformance: the device differs from this library */
    ADALOSS_ERROR_OPERATION = -64,    /* the device's table has no such function */

    /* ranks */
    ADALOSS_ERROR_RANKS_VERSION = -70, /* the ranks run different versions of this library */
    ADALOSS_ERROR_RANKS_CELLS = -71,  /* the ranks have different numbers of cells */
    ADALOSS_ERROR_RANKS_CONFIG = -72, /* the ranks have different configurations */
    ADALOSS_ERROR_RANKS_STEP = -73,   /* the ranks have finished different numbers of steps */
    ADALOSS_ERROR_RANKS_DIGEST = -74, /* the ranks differ in a cell, or in how many steps they skipped in a row */
    ADALOSS_ERROR_MESSAGE = -75,      /* these bytes are no message of ranks that share a step */
    ADALOSS_ERROR_HALTED = -76,       /* another rank has a device on which nothing is done any more */

    ADALOSS_USER = 1000               /* from here on the codes are the caller's, for devices to return */
};

/* Returns the version of the library: ADALOSS_VERSION of the header it was built with. */
uint32_t adaloss_version(void);

/* Returns a sentence on a code; never NULL. */
const char *adaloss_code_text(adaloss_code code);

/* ---- Format: what a bit pattern means, and how rounding goes ---------------------------------------------------- */

enum { /* encoding */
    ADALOSS_BINARY16 = 0, /* IEEE 754 binary16, uint16_t */
    ADALOSS_BFLOAT16 = 1, /* bfloat16, uint16_t */
    ADALOSS_E5M2 = 2,     /* FP8 with five exponent bits, uint8_t */
    ADALOSS_E4M3 = 3,     /* FP8 with four exponent bits and no infinity (FN), uint8_t */
    ADALOSS_BINARY32 = 4  /* IEEE 754 binary32, float */
};

enum { /* subnormals */
    ADALOSS_GRADUAL = 0, /* numbers like any other */
    ADALOSS_FLUSH = 1    /* zero, as operands and as results */
};

enum { /* rounding */
    ADALOSS_NEAREST_EVEN = 0,
    ADALOSS_TOWARD_ZERO = 1,
    ADALOSS_STOCHASTIC = 2 /* up with the probability of what is discarded, from a seed */
};

enum { /* overflow */
    ADALOSS_INFINITY = 0, /* or NaN, in an encoding without infinity */
    ADALOSS_SATURATE = 1  /* the largest finite number */
};

enum { /* what became of a value */
    ADALOSS_FATE_ZERO = 0,
    ADALOSS_FATE_NORMAL = 1,
    ADALOSS_FATE_SUBNORMAL = 2,
    ADALOSS_FATE_UNDERFLOW = 3,
    ADALOSS_FATE_OVERFLOW = 4,
    ADALOSS_FATE_NON_FINITE = 5
};

typedef struct adaloss_format {
    uint8_t encoding;
    uint8_t subnormals;
} adaloss_format;

/* Everything that decides which bits a float becomes, but the shift and the random word. */
typedef struct adaloss_narrowing {
    adaloss_format format;
    uint8_t rounding;
    uint8_t overflow;
} adaloss_narrowing;

/* The random words of stochastic rounding: a pure function of both and of an element's index. */
typedef struct adaloss_noise {
    uint32_t seed;   /* one per training run */
    uint32_t stream; /* one per tensor and step */
} adaloss_noise;

typedef struct adaloss_limits {
    uint32_t bits;              /* of one element */
    uint32_t precision;         /* significand bits, the implicit one included */
    int32_t min_subnormal_log2; /* the smallest subnormal number is 2^this, whether it is flushed or not */
    int32_t min_normal_log2;
    int32_t max_log2;           /* the binade of the largest finite number */
    float max_finite;
} adaloss_limits;

/* The shifts at which a value lives: it underflows below `least` and overflows above `greatest`. */
typedef struct adaloss_shifts {
    int32_t least;
    int32_t greatest;
} adaloss_shifts;

/* Describes a format. */
adaloss_code adaloss_format_limits(adaloss_format format, adaloss_limits *limits);

/* Widens `count` elements to float, exactly; a NaN becomes a quiet NaN of the same sign. */
adaloss_code adaloss_format_widen(adaloss_format format, const void *from, size_t count, float *to);

/* Rounds the exact product 2^shift_log2 * x once.  `word` is the random word of stochastic rounding.  `bits` is
 * zero-extended; `fate` may be NULL. */
adaloss_code adaloss_format_narrow(adaloss_narrowing narrowing, float x, int32_t shift_log2, uint32_t word,
                                   uint32_t *bits, uint32_t *fate);

/* Says at which shifts a value neither underflows nor overflows; ADALOSS_NONE for zero, infinity and NaN. */
adaloss_code adaloss_format_shifts(adaloss_narrowing narrowing, float x, adaloss_shifts *shifts);

/* Returns the random word of element `index`: the first output of Philox2x32-10, whose key is the seed, and from 2^32 on
 * the seed exclusive-or 0x85ebca6b times the upper half of the index. */
uint32_t adaloss_format_noise_word(adaloss_noise noise, uint64_t index);

/* ---- Scale: exact powers of two that a float holds with their inverse ------------------------------------------- */

#define ADALOSS_SCALE_MIN_LOG2 (-126)
#define ADALOSS_SCALE_MAX_LOG2 126

/* Gives 2^scale_log2. */
adaloss_code adaloss_scale_factor(int32_t scale_log2, float *factor);

/* ---- Statistics: what is counted, before narrowing and by narrowing --------------------------------------------- */

#define ADALOSS_HISTOGRAM_BINS 254

/* How many elements live at which scales; clear it first.  The counts may be read. */
typedef struct adaloss_histogram {
    adaloss_narrowing narrowing;
    uint32_t reserved;
    uint64_t elements;
    uint64_t nonfinite;
    uint64_t zero;
    uint64_t floors[ADALOSS_HISTOGRAM_BINS];   /* [i]: elements that underflow below 2^(i - 126) */
    uint64_t ceilings[ADALOSS_HISTOGRAM_BINS]; /* [i]: elements that overflow above 2^(i - 127) */
} adaloss_histogram;

/* What narrowing did to a tensor; all zero for an empty one, and before the first part is added. */
typedef struct adaloss_outcome {
    uint64_t elements;
    uint64_t nonfinite; /* infinite or NaN before narrowing */
    uint64_t zero;      /* zero before narrowing */
    uint64_t underflow; /* not zero before, zero after */
    uint64_t subnormal;
    uint64_t overflow;  /* finite and beyond the largest finite number */
    uint32_t max_bits;  /* the bits of the largest finite magnitude before narrowing and shift, as a float */
    uint32_t reserved;
} adaloss_outcome;

typedef struct adaloss_moments {
    uint64_t count;
    uint64_t sum[6];      /* exact, in units of 2^-149, two's complement */
    uint64_t squares[10]; /* exact, in units of 2^-298 */
} adaloss_moments;

/* What `normal` and `range` ask of a tensor; clear it first. */
typedef struct adaloss_statistics {
    uint64_t nonfinite;
    uint64_t zero;
    adaloss_moments moments; /* of the finite elements */
    uint32_t min_bits;       /* the smallest nonzero magnitude, as a float; UINT32_MAX for none */
    uint32_t max_bits;       /* the largest finite magnitude, as a float */
} adaloss_statistics;

/* What the log-normal model asks of a tensor; clear it first. */
typedef struct adaloss_log_statistics {
    uint64_t nonfinite;
    adaloss_moments moments; /* of ln |x| over the finite nonzero elements */
    uint32_t max_bits;
    uint32_t reserved;
} adaloss_log_statistics;

/* Makes the histogram of an empty tensor; what becomes of overflow does not change what is counted. */
adaloss_code adaloss_statistics_histogram_clear(adaloss_histogram *histogram, adaloss_narrowing narrowing);

/* Counts floats that carry the scale 2^incoming_log2, before they are narrowed. */
adaloss_code adaloss_statistics_histogram_observe(adaloss_histogram *histogram, const float *values, size_t count,
                                                  int32_t incoming_log2);

/* Adds the counts of another part of the tensor, of another micro-batch or another rank. */
adaloss_code adaloss_statistics_histogram_merge(adaloss_histogram *into, const adaloss_histogram *from);

/* Says how many elements underflow at a scale; under stochastic rounding, how many can. */
adaloss_code adaloss_statistics_histogram_underflow(const adaloss_histogram *histogram, int32_t scale_log2,
                                                    uint64_t *count);

/* Says how many elements overflow at a scale; under stochastic rounding, how many can. */
adaloss_code adaloss_statistics_histogram_overflow(const adaloss_histogram *histogram, int32_t scale_log2,
                                                   uint64_t *count);

/* Finds the least scale at which at most `allowed` elements underflow; ADALOSS_NONE where no legal one is. */
adaloss_code adaloss_statistics_histogram_least(const adaloss_histogram *histogram, uint64_t allowed,
                                                int32_t *scale_log2);

/* Finds the greatest scale at which no element overflows; ADALOSS_NONE where no legal one is. */
adaloss_code adaloss_statistics_histogram_greatest(const adaloss_histogram *histogram, int32_t *scale_log2);

/* Adds the counts of another part of the tensor. */
adaloss_code adaloss_statistics_outcome_merge(adaloss_outcome *into, const adaloss_outcome *from);

/* Makes the statistics of an empty tensor. */
adaloss_code adaloss_statistics_clear(adaloss_statistics *statistics);

/* Adds `count` elements. */
adaloss_code adaloss_statistics_observe(adaloss_statistics *statistics, adaloss_format format, const void *values,
                                        size_t count);

/* Adds the elements of another part of the tensor. */
adaloss_code adaloss_statistics_merge(adaloss_statistics *into, const adaloss_statistics *from);

/* Gives the mean and the population standard deviation; ADALOSS_NONE of no elements.  Either may be NULL. */
adaloss_code adaloss_statistics_moments(const adaloss_moments *moments, double *mean, double *standard_deviation);

/* Makes the statistics of an empty tensor. */
adaloss_code adaloss_statistics_log_clear(adaloss_log_statistics *statistics);

/* Adds `count` elements. */
adaloss_code adaloss_statistics_log_observe(adaloss_log_statistics *statistics, adaloss_format format,
                                            const void *values, size_t count);

/* Adds the elements of another part of the tensor. */
adaloss_code adaloss_statistics_log_merge(adaloss_log_statistics *into, const adaloss_log_statistics *from);

/* ---- Policy: what a tensor deserves ------------------------------------------------------------------------------ */

enum { /* policy */
    ADALOSS_FIXED = 0,    /* one scale for ever */
    ADALOSS_BACKOFF = 1,  /* one scale for the whole model, by trial and error */
    ADALOSS_NORMAL = 2,   /* a scale per layer from a Gaussian model of its products: the paper */
    ADALOSS_RANGE = 3,    /* a scale per layer from the extremes of its products */
    ADALOSS_AMAX = 4,     /* a scale per tensor from a window of maxima */
    ADALOSS_MEASURED = 5  /* a scale per tensor from the largest magnitudes of its last steps: the default */
};

enum { /* recovery */
    ADALOSS_SKIP = 0,  /* a step in which a tensor overflows is skipped */
    ADALOSS_REPLAY = 1 /* the tensor is narrowed once more, at the scale that its largest magnitude shows; where
                          overflow saturates, nothing is replayed, and the scale moves for the next step */
};

enum { /* trigger: why a cell leaves a certificate, or decides */
    ADALOSS_TRIGGER_NONE = 0,    /* nothing but the period */
    ADALOSS_TRIGGER_FIRST = 1,   /* it has never left one */
    ADALOSS_TRIGGER_PERIOD = 2,  /* the period is over */
    ADALOSS_TRIGGER_OVERFLOW = 3 /* normal and range: narrowing overflowed */
};

enum { /* rule: what chose the scale of a certificate */
    ADALOSS_RULE_EMPTY = 0,        /* no element was finite and nonzero: nothing is known, and the scale stays */
    ADALOSS_RULE_NON_FINITE = 1,   /* elements were infinite or NaN: nothing is known, and the scale stays */
    ADALOSS_RULE_UNUSED = 2,       /* the policy does not decide from this kind of evidence: the scale stays */
    ADALOSS_RULE_OTHER_FORMAT = 3, /* the histogram counts for another format or rounding: nothing is known */
    ADALOSS_RULE_MEASURED = 4,     /* measured: the largest magnitudes of the last steps */
    ADALOSS_RULE_AMAX = 5,         /* amax: the largest magnitude of the window, and the margin */
    ADALOSS_RULE_NORMAL = 6,       /* normal: the Gaussian or log-normal model */
    ADALOSS_RULE_RANGE = 7,        /* range: the extremes of the products */
    ADALOSS_RULE_JOIN = 8          /* normal and range at a join: the greatest scale of a branch that the sum fits */
};

typedef struct adaloss_backoff {
    double initial;    /* the scale to begin with */
    double growth;     /* the factor after `interval` clean steps */
    double warm_up;    /* the factor after each clean step before the first bad one; 1 for no warm-up */
    double shrink;     /* the factor after a step that was not clean */
    double floor;      /* the least scale */
    double cap;        /* the greatest scale */
    uint32_t interval; /* clean steps in a row between two growths */
    uint32_t reserved;
} adaloss_backoff;

typedef struct adaloss_normal {
    double gaussian_factor;   /* sqrt(2) erfinv(T) for the share T that may underflow */
    double log_normal_factor; /* sqrt(2) erfinv(2 T - 1) */
    float smallest;           /* u_min */
    float largest;            /* u_max */
    float layer_cap;          /* the greatest factor of one layer, or infinity */
    float accumulated_cap;    /* the greatest accumulated scale, or infinity */
} adaloss_normal;

typedef struct adaloss_range {
    float smallest; /* u_min */
    float largest;  /* u_max */
} adaloss_range;

typedef struct adaloss_amax {
    uint16_t window; /* how many steps a maximum is remembered; not 0 */
    uint8_t margin;  /* binades left free below overflow; at most 16 */
    uint8_t reserved;
} adaloss_amax;

typedef struct adaloss_measured {
    uint32_t tolerance;    /* the share of nonzero elements that a certificate lets underflow, over 2^32 */
    uint8_t most_headroom; /* the most binades left free below overflow, 1 to 16; what leaps further is replayed */
    uint8_t reserved[3];
} adaloss_measured;

/* The parameters of the configured policy. */
typedef union adaloss_parameters {
    int32_t fixed_log2;
    adaloss_backoff backoff;
    adaloss_normal normal;
    adaloss_range range;
    adaloss_amax amax;
    adaloss_measured measured;
} adaloss_parameters;

/* A period that never ends: measured and amax leave no certificates. */
#define ADALOSS_NEVER 4294967295u

/* Everything that decides which scales a run uses.  Make one with adaloss_policy_recommended or adaloss_policy_paper
 * and change what should differ; functions that take it check it. */
typedef struct adaloss_config {
    uint32_t policy;
    adaloss_narrowing narrowing;
    uint32_t period;    /* measured, amax: steps from one certificate to the next; normal, range: visits from one
                           decision to the next; not 0 */
    uint32_t max_skips; /* as many skipped steps in a row end a run */
    uint32_t seed;      /* of stochastic rounding */
    uint32_t recovery;
    adaloss_parameters parameters;
} adaloss_config;

/* One tensor's scale and all that its policy remembers, 28 bytes.  The scale may be read, the rest is the policy's.
 * Functions that are given a configuration refuse a cell that no run with it can have: ADALOSS_ERROR_CELL. */
typedef struct adaloss_cell {
    uint8_t memory[16];
    uint32_t age;
    int16_t scale_log2;
    int16_t limit;
    uint8_t trigger;
    uint8_t flags;
    int8_t seen;
    uint8_t trial;
} adaloss_cell;

/* What a tensor showed in one step: all that a decision of measured or amax depends on.  Machines that share a step
 * exchange these, merge them in any order, and set the same everywhere before they finish it. */
typedef struct adaloss_seen {
    int8_t ceiling;          /* the least over the visits of the greatest scale at which a visit's largest magnitude
                                does not overflow, as the cell keeps it; 127 where no value was finite and nonzero */
    uint8_t overflowed;      /* 1 where a visit overflowed, otherwise 0 */
    uint8_t sums_overflowed; /* 1 where sums in float overflowed although the tensor itself was finite, otherwise 0 */
    uint8_t visited;         /* 1 where there was a visit, otherwise 0 */
} adaloss_seen;

/* What one step of one cell left behind under measured or amax: enough to repeat its decisions. */
typedef struct adaloss_record {
    int8_t ceiling;    /* of the step, as in adaloss_seen */
    uint8_t flags;     /* 1: a visit overflowed; 2: sums in float overflowed; added up */
    int8_t scale_log2; /* the scale that the cell had in the step */
    uint8_t reserved;
} adaloss_record;

/* What a histogram promises for one scale. */
typedef struct adaloss_expected {
    uint64_t underflow;
    uint64_t overflow;
} adaloss_expected;

/* The evidence for one tensor at one visit, which decides nothing, under measured and amax; the record of one decision
 * under normal and range, where all is zero from `lost_mass` on and no scale keeps a promise. */
typedef struct adaloss_certificate {
    uint8_t rule;
    uint8_t trigger;
    uint8_t promised;            /* measured: 1 where the scale keeps underflow within the tolerance; otherwise 0 */
    uint8_t reserved;
    int16_t before_log2;         /* the cell's; another where a decision moved it, or the visit was replayed */
    int16_t scale_log2;          /* the scale that the certificate speaks of */
    int16_t least_log2;          /* measured: the scales that keep the promise; 127 where none does */
    int16_t greatest_log2;       /* -127 where every legal scale overflows */
    uint32_t lost_mass;          /* the share of the sum of magnitudes that underflows at the scale, over 2^32 */
    uint64_t nonzero;            /* finite nonzero elements */
    uint64_t allowed;            /* measured: elements that may underflow */
    adaloss_expected expected[3]; /* at K - 1, K and K + 1, where K is scale_log2 */
} adaloss_certificate;

enum { /* kind of operands */
    ADALOSS_PRODUCT = 0,  /* gradient, weight and fan_in of a linear layer or a convolution */
    ADALOSS_CAST = 1,     /* gradient alone, under the Gaussian model */
    ADALOSS_LOG_CAST = 2, /* log_gradient alone, under the log-normal model */
    ADALOSS_TERMS = 3     /* terms alone */
};

/* The smallest and largest nonzero magnitude among the products of two operands. */
typedef struct adaloss_terms {
    float min_abs;
    float max_abs;
    uint64_t nonfinite;
    uint32_t fan_in;
    uint32_t reserved;
} adaloss_terms;

/* What `normal` and `range` decide from; only what `kind` says is read.  Clear statistics before they observe. */
typedef struct adaloss_operands {
    uint32_t kind;
    uint32_t fan_in; /* products in one sum of the input gradient: output features, or channels times kernel area */
    adaloss_statistics gradient; /* scale included */
    adaloss_statistics weight;
    adaloss_log_statistics log_gradient;
    adaloss_terms terms;
} adaloss_operands;

/* Makes the configuration we recommend for gradients in a format: measured, a certificate every hundredth step; what
 * overflows is replayed. */
adaloss_code adaloss_policy_recommended(adaloss_format format, adaloss_config *config);

/* Makes the configuration of the authors' code: normal, every visit, a cap of 16 per layer and 1024 accumulated. */
adaloss_code adaloss_policy_paper(adaloss_format format, adaloss_config *config);

/* Makes the parameters of backoff as in PyTorch's GradScaler. */
adaloss_code adaloss_policy_grad_scaler(adaloss_backoff *backoff);

/* Makes the parameters of backoff as in Chainer's dynamic scaling. */
adaloss_code adaloss_policy_chainer(uint32_t interval, adaloss_backoff *backoff);

/* Makes the parameters of normal for a share `tolerance` that may underflow, without caps.  Firmware computes them
 * on the host: this function needs a logarithm. */
adaloss_code adaloss_policy_normal(adaloss_format format, double tolerance, adaloss_normal *normal);

/* Makes the parameters of range for a format. */
adaloss_code adaloss_policy_range(adaloss_format format, adaloss_range *range);

/* Says whether a configuration is possible, and if not, why. */
adaloss_code adaloss_policy_check(const adaloss_config *config);

/* Makes the cell that a tensor starts with. */
adaloss_code adaloss_policy_cell(const adaloss_config *config, adaloss_cell *cell);

/* Says whether a cell leaves a certificate at this visit, or, under normal and range, decides: the trigger, or
 * ADALOSS_TRIGGER_NONE. */
adaloss_code adaloss_policy_due(const adaloss_config *config, const adaloss_cell *cell, uint32_t *trigger);

/* Certifies what becomes of a tensor at 2^scale_log2, from the histogram of its float results before they are narrowed;
 * moves no scale.  A histogram without nonzero elements, with non-finite ones, or for another format or rounding
 * promises nothing; nor do policies other than measured.  `certificate` may be NULL. */
adaloss_code adaloss_policy_certify(const adaloss_config *config, const adaloss_histogram *histogram,
                                    int32_t scale_log2, adaloss_cell *cell, adaloss_certificate *certificate);

/* Says whether an outcome breaks what the cell's last certificate promised (1) or not (0): more than twice the
 * tolerated share underflowed.  Nothing follows from it. */
adaloss_code adaloss_policy_breaks_promise(const adaloss_config *config, const adaloss_outcome *outcome,
                                           const adaloss_cell *cell, uint32_t *breaks);

/* Decides a cell's factor from the operands of its layer, for normal and range.  `certificate` may be NULL. */
adaloss_code adaloss_policy_decide_from_operands(const adaloss_config *config, const adaloss_operands *operands,
                                                 int32_t incoming_log2, adaloss_cell *cell,
                                                 adaloss_certificate *certificate);

/* Decides the scale of a join under normal and range, from what became of the sum when it was narrowed to
 * 2^incoming_log2, which the branches were brought to: the greatest of the branches' scales that the sum fits.  A sum
 * of zeros fits every scale, and one that is not finite those that its finite elements fit; where none fits, it keeps
 * 2^incoming_log2.  `certificate` may be NULL.  ADALOSS_ERROR_POLICY under other policies. */
adaloss_code adaloss_policy_decide_join(const adaloss_config *config, const adaloss_outcome *outcome,
                                        int32_t incoming_log2, const int32_t *branches_log2, size_t count,
                                        adaloss_cell *cell, adaloss_certificate *certificate);

/* Gives the scale that a tensor leaves with, when its values arrive at 2^incoming_log2. */
adaloss_code adaloss_policy_outgoing(const adaloss_config *config, const adaloss_cell *cell, int32_t incoming_log2,
                                     int32_t *outgoing_log2);

/* Takes note of what narrowing to adaloss_policy_outgoing did at one visit.  Gives the scale to narrow the tensor to
 * once more, if that is needed; ADALOSS_NONE, with the note taken all the same, where it is not.
 *
 * It is needed where the tensor overflowed and that is replayed, and under measured and amax at a first visit, whose
 * scale nobody could know.  Once is enough: nothing overflows then, and its outcome is not to be noted.  An outcome
 * with non-finite elements tells nothing of the scale.  `again_log2` may be NULL. */
adaloss_code adaloss_policy_note(const adaloss_config *config, const adaloss_outcome *outcome, int32_t incoming_log2,
                                 adaloss_cell *cell, int32_t *again_log2);

/* Ends a step of one cell, after its last visit and once, a skipped step too: decides the next step's scale under
 * measured and amax, moves nothing under other policies.  A cell that was not visited, or that had no finite nonzero
 * value, keeps its scale.  `record` may be NULL. */
adaloss_code adaloss_policy_finish(const adaloss_config *config, adaloss_cell *cell, adaloss_record *record);

/* Takes a cell through a step that left a record: a new cell of the same configuration, taken through all records of a
 * run in their order, has its scales again.  `is_same` may be NULL; it gets 1 where the cell had the scale that the
 * record names, as it has where nothing is missing before it, otherwise 0.  ADALOSS_ERROR_POLICY under policies other
 * than measured and amax, which leave no records; ADALOSS_ERROR_ENUM and ADALOSS_ERROR_SCALE for what is no record. */
adaloss_code adaloss_policy_repeat(const adaloss_config *config, const adaloss_record *record, adaloss_cell *cell,
                                   uint32_t *is_same);

/* Gives what a tensor showed in the step under way. */
adaloss_code adaloss_policy_seen(const adaloss_cell *cell, adaloss_seen *seen);

/* Takes what a tensor showed on all machines instead of what it showed here; or that sums in float of its values
 * overflowed, which makes the scale lower in the next step.  ADALOSS_ERROR_ENUM for a field that is neither 0 nor 1. */
adaloss_code adaloss_policy_set_seen(const adaloss_seen *seen, adaloss_cell *cell);

/* Adds what another micro-batch or another machine saw in the same step. */
adaloss_code adaloss_policy_seen_merge(adaloss_seen *into, const adaloss_seen *from);

/* Gives the scale at which the tensor of an outcome would not have overflowed, one binade less under normal and range;
 * ADALOSS_NONE where no legal one is. */
adaloss_code adaloss_policy_recover(const adaloss_config *config, const adaloss_outcome *outcome,
                                    int32_t incoming_log2, int32_t *scale_log2);

/* Moves the scale of a policy that serves the whole model, after a step that was clean (not 0) or not (0). */
adaloss_code adaloss_policy_step(const adaloss_config *config, int32_t clean, adaloss_cell *cell);

/* Computes the extremes of the products of a gradient of shape (rows, inner) and a weight of shape (inner, columns),
 * both row-major, whose elements number `gradient_count` and `weight_count`. */
adaloss_code adaloss_policy_terms(uint32_t gradient_encoding, const void *gradient, size_t gradient_count,
                                  uint32_t weight_encoding, const void *weight, size_t weight_count,
                                  size_t inner, uint32_t fan_in, adaloss_terms *terms);

/* ---- Apply: into low precision ----------------------------------------------------------------------------------- */

/* One run over all of a tensor's float values, as adaloss_scaler_next_pass hands it out.  It is over when the next one is
 * asked for: the pointer then stands for that one, and for none after the last, after which the functions that take it
 * return ADALOSS_ERROR_NO_PASS.  A function that takes a pass and returns anything but ADALOSS_OK makes the step
 * unusable, as a visit that is left does. */
typedef struct adaloss_pass adaloss_pass;

/* What a pass asks for, for a kernel of one's own. */
typedef struct adaloss_request {
    int32_t incoming_log2;       /* the scale that the float values carry */
    int32_t outgoing_log2;       /* the scale that the narrowed values carry */
    adaloss_narrowing narrowing;
    adaloss_noise noise;
    uint32_t stores;             /* 0 where the pass only measures */
    adaloss_outcome *outcome;    /* takes the counts of what became of the values, where the pass stores */
    adaloss_histogram *histogram; /* takes the counts of the values themselves, where it is not NULL */
} adaloss_request;

/* Narrows 2^shift_log2 times `count` floats, rounded once, and adds what became of them to `outcome`.  `first` is the
 * index of the first value in its tensor, which stochastic rounding depends on. */
adaloss_code adaloss_apply_values(adaloss_narrowing narrowing, int32_t shift_log2, adaloss_noise noise,
                                  uint64_t first, const float *from, size_t count, void *to,
                                  adaloss_outcome *outcome);

/* Does what a pass asks for with the tensor's next `count` values: measures them, or narrows them into `to`.  It is
 * called once with the whole tensor, or for one part after the other; for a tensor without values, with a count of 0. */
adaloss_code adaloss_apply_pass(adaloss_pass *pass, const float *from, size_t count, void *to);

/* Says what a pass asks for.  A kernel of one's own reads it, does that, and adds what it counted to the counters, which
 * lie in the scaler and are the kernel's until the next pass is asked for.  Then they are checked: counts that cannot be
 * are answered with ADALOSS_ERROR_OUTCOME or ADALOSS_ERROR_HISTOGRAM. */
adaloss_code adaloss_apply_request(adaloss_pass *pass, adaloss_request *request);

/* ---- Propagate: on to the next layer ------------------------------------------------------------------------------ */

/* One branch of a join. */
typedef struct adaloss_branch {
    const void *gradient;
    int32_t scale_log2;
    uint32_t reserved;
} adaloss_branch;

/* Gives the scale that branches are brought to before they are summed: the least of theirs. */
adaloss_code adaloss_propagate_common(const int32_t *scales_log2, size_t count, int32_t *common_log2);

/* Brings branches of `count` elements to one scale and sums them as floats, in the order given. */
adaloss_code adaloss_propagate_join(adaloss_format format, const adaloss_branch *branches, size_t branch_count,
                                    float *sum, size_t count, int32_t *common_log2);

/* ---- Unscale: back to float ---------------------------------------------------------------------------------------- */

/* What unscaling met; all zero for an empty tensor, and before the first part is added. */
typedef struct adaloss_unscaled {
    uint64_t elements;
    uint64_t nonfinite;
    uint64_t tiny; /* nonzero elements below 2^-126, which were rounded once; all others are exact */
} adaloss_unscaled;

enum { /* place in a backward pass */
    ADALOSS_LOSS = 0,  /* the gradient of the loss */
    ADALOSS_LAYER = 1, /* the gradient that leaves the layer with this cell */
    ADALOSS_WEIGHT = 2 /* the weight gradient of the layer with this cell */
};

typedef struct adaloss_place {
    uint32_t kind;
    uint32_t cell; /* 0 for the loss */
} adaloss_place;

enum { /* cause: why a step is not usable */
    ADALOSS_CAUSE_NONE = 0,
    ADALOSS_CAUSE_NON_FINITE = 1, /* values were infinite or NaN before they were narrowed */
    ADALOSS_CAUSE_OVERFLOW = 2,   /* finite values overflowed, and no replay was possible */
    ADALOSS_CAUSE_FAILED = 3,     /* a visit was refused, or left before it was finished */
    ADALOSS_CAUSE_UNCOUNTED = 4,  /* a pass was handed out, and neither adaloss_apply_pass nor _request called for it */
    ADALOSS_CAUSE_LENGTH = 5,     /* the passes of one visit were over different numbers of values */
    ADALOSS_CAUSE_NOTHING = 6     /* the step visited no gradient and met no weight gradient; the place is the loss */
};

enum { /* verdict */
    ADALOSS_VERDICT_APPLY = 0, /* every gradient that was visited is finite: update the weights */
    ADALOSS_VERDICT_SKIP = 1,  /* leave weights and optimizer as they are */
    ADALOSS_VERDICT_STOP = 2   /* skip, and end the run: too many steps in a row were skipped */
};

typedef struct adaloss_verdict {
    uint32_t kind;
    uint32_t cause;
    adaloss_place place; /* the first, in backward order, that was not usable */
    uint32_t skipped;    /* in a row, where the run should end */
    uint32_t reserved;
} adaloss_verdict;

/* More than the sentence of any verdict takes, with the zero that ends it. */
#define ADALOSS_VERDICT_TEXT_BYTES 160

/* Writes a sentence on a verdict, its place and its cause to `text`, which has `size` bytes, and ends it with a zero;
 * ADALOSS_ERROR_LENGTH where it does not fit. */
adaloss_code adaloss_verdict_text(const adaloss_verdict *verdict, char *text, size_t size);

/* Widens `count` elements that carry 2^scale_log2, multiplies them by 2^-scale_log2, and adds what was met. */
adaloss_code adaloss_unscale_values(adaloss_format format, const void *from, size_t count, int32_t scale_log2,
                                    float *to, adaloss_unscaled *met);

/* ---- Scaler: the whole model ---------------------------------------------------------------------------------------- */

/* The memory of a scaler, next to one adaloss_cell per tensor.  It has to be zero before adaloss_scaler_init. */
#define ADALOSS_SCALER_WORDS 640
typedef struct adaloss_scaler {
    uint64_t opaque[ADALOSS_SCALER_WORDS];
} adaloss_scaler;

/* The size of a checkpoint of a scaler with so many cells. */
#define ADALOSS_CHECKPOINT_BYTES(cells) (100 + 28 * (size_t)(cells))

/* What happened at one visit of a tensor. */
typedef struct adaloss_visit {
    adaloss_place place;
    int32_t incoming_log2;   /* the scale that its float values carried */
    int32_t outgoing_log2;   /* the scale that it left with */
    adaloss_outcome outcome; /* of narrowing to that scale */
    uint32_t certified;      /* 1 where there is a certificate for that scale, or a decision; otherwise 0 */
    uint32_t replayed;       /* 1 where the tensor overflowed, not at a first visit, and was narrowed once more */
    uint32_t passes;         /* how many there were: 1 to 3 */
    uint32_t broke_promise;  /* 1 where more than twice what the cell's last certificate promised underflowed */
    adaloss_certificate certificate; /* all zero where `certified` is 0 */
} adaloss_visit;

/* What happened since the run began. */
typedef struct adaloss_totals {
    uint64_t steps;        /* finished, skipped ones included */
    uint64_t skipped;      /* whose verdict was not ADALOSS_VERDICT_APPLY */
    uint64_t recovered;    /* visits that were replayed because they overflowed */
    uint64_t certificates; /* visits that left a certificate, or, under normal and range, decided */
    uint64_t broken;       /* visits that broke the promise of their cell's last certificate */
} adaloss_totals;

/* Makes the scaler of a new run, with one cell per tensor, numbered from 0.  The scaler keeps the pointer to the cells,
 * and they are its own until it is cleared. */
adaloss_code adaloss_scaler_init(adaloss_scaler *scaler, const adaloss_config *config, adaloss_cell *cells,
                                 size_t count);

/* Ends a scaler: its memory is zero again, the cells are the caller's. */
adaloss_code adaloss_scaler_clear(adaloss_scaler *scaler);

/* Begins a training step: one backward pass, or several that are accumulated.  A scale moves between steps only, so
 * that the same values give the same scales however a step is split; an overflow is replayed at a scale of its own. */
adaloss_code adaloss_scaler_begin(adaloss_scaler *scaler);

/*
 * A visit is opened, asked for its passes one after the other, and finished:
 *
 *     code = adaloss_scaler_layer(&scaler, cell, gradient_log2);
 *     while (adaloss_scaler_next_pass(&scaler, &pass) == ADALOSS_OK) {
 *         (compute the tensor's float values, and hand them to adaloss_apply_pass(pass, ...))
 *     }
 *     code = adaloss_scaler_finish_visit(&scaler, &gradient_log2);
 *
 * One visit is open at a time.  Where a kernel fails, the loop is left and the visit is not finished: the next visit of the
 * step, or the end of the step, finds it open and makes the step unusable, with the visit's place and
 * ADALOSS_CAUSE_FAILED; the cell is as it was.  So does every call below for a visit that is answered with a code other
 * than ADALOSS_OK and ADALOSS_NONE, even if it is made again and succeeds; but for ADALOSS_ERROR_NO_VISIT, which has no
 * place.
 */

/* Opens the visit of the gradient of the loss, whose float values carry no scale. */
adaloss_code adaloss_scaler_loss(adaloss_scaler *scaler);

/* Opens the visit of the gradient of a further loss, whose float values carry no scale, at `cell`: where several losses
 * are summed, each gradient has a scale of its own.  Under policies that serve the whole model it leaves with that of
 * adaloss_scaler_loss. */
adaloss_code adaloss_scaler_loss_at(adaloss_scaler *scaler, uint32_t cell);

/* Opens the visit of a layer's input gradient, at `cell`.  Its float values are computed from a gradient that carries
 * 2^incoming_log2, and carry that too. */
adaloss_code adaloss_scaler_layer(adaloss_scaler *scaler, uint32_t cell, int32_t incoming_log2);

/* Opens the visit of the sum of branches, which carry these scales, at `cell`.  In each pass the branches are brought to
 * the least of the scales, which its request calls incoming, and summed.  Under normal and range the sum leaves with the
 * greatest of the scales that it fits. */
adaloss_code adaloss_scaler_join(adaloss_scaler *scaler, uint32_t cell, const int32_t *branches_log2, size_t count);

/* Says whether the policy decides now from the operands of the visit that is open, so that they are to be described (1)
 * or not (0).  Only normal and range do, at a loss or a layer, before the first pass, where a decision is due. */
adaloss_code adaloss_scaler_wants_operands(adaloss_scaler *scaler, uint32_t *wants);

/* Describes the operands of the layer, or the gradient of the loss (ADALOSS_CAST); passed over where they are not wanted.
 * Under normal and range a gradient of which nothing was ever described leaves with the scale that it arrived with. */
adaloss_code adaloss_scaler_describe(adaloss_scaler *scaler, const adaloss_operands *operands);

/* Hands out the next pass of the visit that is open; ADALOSS_NONE after the last.  Each pass is over the same values, as
 * many of them.  There is one; one more at a first visit, unless the first scale is 2^0, and where the tensor overflows;
 * and, before that, one to measure where a certificate is due. */
adaloss_code adaloss_scaler_next_pass(adaloss_scaler *scaler, adaloss_pass **pass);

/* Ends the visit, and gives the scale that the narrowed values carry.  ADALOSS_ERROR_UNFINISHED where
 * adaloss_scaler_next_pass did not return ADALOSS_NONE yet. */
adaloss_code adaloss_scaler_finish_visit(adaloss_scaler *scaler, int32_t *outgoing_log2);

/* Takes note of what unscaling the weight gradient of a layer met: a sum of finite products can overflow.  `cell` names
 * the weight in the verdict: the layer's cell, or any other number for a layer without one, such as the first, whose
 * input gradient nobody wants. */
adaloss_code adaloss_scaler_unscaled(adaloss_scaler *scaler, uint32_t cell, const adaloss_unscaled *met);

/* Takes note of something unusable that the caller found, a loss that is not finite, for example; `place` names it in the
 * verdict, and need not have a cell. */
adaloss_code adaloss_scaler_reject(adaloss_scaler *scaler, adaloss_place place, uint32_t cause);

/* Says which micro-batch of the step the next visits belong to, for stochastic rounding: then a micro-batch is rounded
 * alike whether it is the fourth on one machine or the only one on the fourth.  Without this all belong to micro-batch
 * 0.  Two visits of a place in one micro-batch, as a shared weight has them, round with different words.
 *
 * The stream of a visit's noise is h(h(h(h(step) + place) + index) + again), modulo 2^32: `step` counts finished steps,
 * `place` is 0 for the loss and 1 more than its number for a cell, and `again` is 0 unless the place was visited in this
 * micro-batch before, and then counts such visits from 1; places 256 apart are one in this.  h is fmix32 of
 * MurmurHash3. */
adaloss_code adaloss_scaler_micro_batch(adaloss_scaler *scaler, uint32_t index);

/* Says where the step stopped being usable, and the cause; ADALOSS_NONE where it is usable so far.  A visit that is open
 * counts as one that was left. */
adaloss_code adaloss_scaler_first_bad(adaloss_scaler *scaler, adaloss_place *place, uint32_t *cause);

/* Takes note that sums in float of the values that left a cell overflowed, although the values are finite: under measured
 * and amax the cell's scale is lower in the next step.  ADALOSS_NONE where the cell was not visited.  Lost if a visit of
 * the same cell is open, and finished later.
 *
 * The library does not know which cell a gradient came from.  Where adaloss_scaler_first_bad names a layer or a weight
 * that was not finite, call this before the step is finished for the cell whose gradient that layer or weight was
 * computed from, and for each branch's cell at a join; otherwise the next steps overflow as well, until one is finite by
 * itself or the run stops. */
adaloss_code adaloss_scaler_sums_overflowed(adaloss_scaler *scaler, adaloss_place origin);

/* Says what happened at the last visit of this step that was finished; ADALOSS_NONE before the first. */
adaloss_code adaloss_scaler_last(const adaloss_scaler *scaler, adaloss_visit *visit);

/* Gives what a tensor showed in this step so far; nothing of one that was not visited. */
adaloss_code adaloss_scaler_seen(const adaloss_scaler *scaler, adaloss_place place, adaloss_seen *seen);

/* Takes what a tensor showed on all machines instead of what it showed here; ADALOSS_ERROR_NO_CELL for a weight.
 * Machines that share a step do this for the same places everywhere before they finish it, with the same result of
 * adaloss_policy_seen_merge; then they have the same scales, and each its own verdict: adaloss_share_unpack takes that from
 * all of them, too.  Lost if a visit of the same cell is open, and finished later. */
adaloss_code adaloss_scaler_set_seen(adaloss_scaler *scaler, adaloss_place place, const adaloss_seen *seen);

/* Gives what finishing the step now leaves behind in the cell of the loss or of a layer; asked for after the step's last
 * visit, before adaloss_scaler_finish.  See adaloss_policy_repeat.  ADALOSS_NONE where there is none: of a tensor that was
 * not visited, of a weight, and under policies other than measured and amax. */
adaloss_code adaloss_scaler_record(const adaloss_scaler *scaler, adaloss_place place, adaloss_record *record);

/* Ends the step: decides the scales of the next one, and judges this one.  A step that is not usable must not reach the
 * weights. */
adaloss_code adaloss_scaler_finish(adaloss_scaler *scaler, adaloss_verdict *verdict);

/* Forgets the step under way, and what its tensors showed; the first scales that it found stay, as do the decisions of
 * normal and range, and certificates. */
adaloss_code adaloss_scaler_abandon(adaloss_scaler *scaler);

/* Copies the cell of the loss or of a layer; ADALOSS_NONE where it was not visited. */
adaloss_code adaloss_scaler_cell(const adaloss_scaler *scaler, adaloss_place place, adaloss_cell *cell);

/* Says what happened since the run began. */
adaloss_code adaloss_scaler_totals(const adaloss_scaler *scaler, adaloss_totals *totals);

/* Copies the histogram of the last visit that measured one; ADALOSS_ERROR_UNFINISHED while a kernel has the counters of a
 * pass. */
adaloss_code adaloss_scaler_histogram(const adaloss_scaler *scaler, adaloss_histogram *histogram);

/* Gives a checksum over the configuration and every cell: equal on two ranks only where their scales are. */
adaloss_code adaloss_scaler_digest(const adaloss_scaler *scaler, uint32_t *digest);

/* Writes everything that the next steps depend on: ADALOSS_CHECKPOINT_BYTES of them, little endian. */
adaloss_code adaloss_scaler_save(const adaloss_scaler *scaler, void *to, size_t bytes);

/* Reads a checkpoint into a scaler with the same configuration and number of cells; the run goes on bit for bit. */
adaloss_code adaloss_scaler_restore(adaloss_scaler *scaler, const void *from, size_t bytes);

/* ---- Share: ranks that take the same step ------------------------------------------------------------------------ */

/*
 * Ranks are the processes, machines or devices that train one model.  Each has a scaler of the same configuration and number
 * of cells, and visits what it has.  Then, once a step, they merge one message by a reduction of the caller's own: the
 * greatest of the bytes at each place, which is MPI_MAX of MPI_UINT8_T, ncclMax of ncclUint8, or adaloss_share_merge.
 *
 *     code = adaloss_share_pack(&scaler, message, ADALOSS_SHARE_BYTES(cells));
 *     (merge the messages of all ranks)
 *     code = adaloss_share_unpack(&scaler, message, ADALOSS_SHARE_BYTES(cells));
 *     code = adaloss_scaler_finish(&scaler, &verdict);
 *
 * The verdict and the cells are then the same on all ranks: those of one scaler that saw all of their visits.  Every rank
 * does this in every step, also one that had nothing to visit, or whose kernel failed.  What is visited between pack and
 * unpack is lost.
 *
 * Before the first step, and after a checkpoint was read, ranks find out whether they are alike: they begin a step, pack,
 * merge the first ADALOSS_SHARE_HEADER_BYTES bytes of their messages, which is possible whatever their numbers of cells
 * are, and ask adaloss_share_matches.  The step then goes on, or is abandoned.
 *
 * What stays a rank's own: certificates, with when the next one is due; the counts of adaloss_totals but for `steps`.  normal
 * and range cannot be shared, since they decide at each visit, before there could be an agreement: ADALOSS_ERROR_POLICY.
 *
 * A message has the same bytes on every machine, and is what adaloss_core::scaler::share of Rust's makes of the same step.
 */

/* The bytes of a message that ranks compare before their first step: its first ones, whatever the number of cells. */
#define ADALOSS_SHARE_HEADER_BYTES 80

/* The size of a message of scalers with so many cells. */
#define ADALOSS_SHARE_BYTES(cells) (ADALOSS_SHARE_HEADER_BYTES + 6 * (size_t)(cells))

/* How many digests adaloss_share_digests gives of a scaler with so many cells. */
#define ADALOSS_SHARE_DIGESTS(cells) (2 + (size_t)(cells))

/* Writes what this rank brings to the step under way: ADALOSS_SHARE_BYTES of them, ADALOSS_ERROR_LENGTH for another number.
 * The step stays as it is; a visit that is open counts as one that was left. */
adaloss_code adaloss_share_pack(adaloss_scaler *scaler, void *to, size_t bytes);

/* Merges the message of another rank, or a part of it, into the same part of one's own: the greater byte at each place, in
 * any order and as often as one likes. */
adaloss_code adaloss_share_merge(void *into, const void *from, size_t bytes);

/* Says whether a message is of ranks that can share the step under way: one that was merged of all ranks, or that of a
 * single one.  Only its first ADALOSS_SHARE_HEADER_BYTES bytes are looked at; ADALOSS_ERROR_LENGTH where there are fewer.
 * Where the ranks differ, the code is the first of ADALOSS_ERROR_RANKS_VERSION, _CELLS, _CONFIG, _STEP and _DIGEST in which
 * they do: of a message that was merged of all ranks, the same on all of them.  ADALOSS_ERROR_MESSAGE for bytes that are no
 * message. */
adaloss_code adaloss_share_matches(adaloss_scaler *scaler, const void *message, size_t bytes);

/* Takes what all ranks brought instead of what this one did; a visit that is open is over.  ADALOSS_ERROR_LENGTH for another
 * number of bytes than ADALOSS_SHARE_BYTES, and all codes of adaloss_share_matches; ADALOSS_ERROR_HALTED where another rank's
 * device does nothing any more, which only devices of Rust's do.  Where the code is not ADALOSS_OK the step is not to be
 * finished, since other ranks may not do the same: the run ends, and goes on from a checkpoint. */
adaloss_code adaloss_share_unpack(adaloss_scaler *scaler, const void *from, size_t bytes);

/* Gives a digest of each thing that is the same on ranks that share the step under way, to find what differs where
 * adaloss_share_matches or _unpack says ADALOSS_ERROR_RANKS_DIGEST: [0] of how many steps were skipped in a row, [1] of the
 * cell of the loss, [2 + i] of cell i.  `count` is ADALOSS_SHARE_DIGESTS of the scaler's cells; ADALOSS_ERROR_LENGTH for
 * another.  Cells that differ in one bit of what decides have different digests.  Nothing in a step moves them before it is
 * finished. */
adaloss_code adaloss_share_digests(adaloss_scaler *scaler, uint64_t *digests, size_t count);

/* ---- Device: an accelerator of the caller's own -------------------------------------------------------------------- */

/*
 * A device is a table of functions over memory of its own.  Memory is named by addresses of bytes; an address plus a
 * number of bytes names what lies behind it.  Values there have the bytes that they have here: elements of an encoding,
 * floats, adaloss_cell, adaloss_outcome, adaloss_histogram, adaloss_statistics, adaloss_unscaled.
 *
 * Functions of the table are called with shapes and formats that fit, from the thread that called this library.  They
 * return ADALOSS_OK, or a code that is handed on.  They may return before their work is done: work is done in the order
 * of the calls, and only `read` waits for it.
 *
 * The scaler stays on the host: adaloss_device_write_pass and adaloss_device_read_pass take the scales and counts of each
 * of its passes to the device and back.
 */

enum { /* capabilities, added up */
    ADALOSS_SUBNORMALS = 1,          /* subnormals are numbers like any other; otherwise no format is ADALOSS_GRADUAL */
    ADALOSS_STOCHASTIC_ROUNDING = 2, /* otherwise no narrowing is ADALOSS_STOCHASTIC */
    ADALOSS_SEQUENTIAL_SUMS = 4      /* sums in the order of the index, each product and each sum rounded to float */
};

/* The most branches of a join that a device is asked for. */
#define ADALOSS_DEVICE_BRANCHES 16

/* Where the float results of an operation go, which carry the scale of the cell `from`. */
typedef struct adaloss_epilogue {
    uint64_t from;       /* address of the cell whose scale the results carry */
    uint64_t to;         /* address of the cell whose scale the narrowed results carry */
    uint64_t outcome;    /* address of an adaloss_outcome, which takes the counts of what became of the results */
    uint64_t histogram;  /* address of an adaloss_histogram, which takes the counts of the results themselves */
    adaloss_narrowing narrowing;
    adaloss_noise noise; /* the index of an element is that in the result */
    uint32_t stores;     /* 0: nothing is narrowed or stored, and the outcome stays as it is */
    uint32_t measures;   /* 0: there is no histogram */
    uint32_t reserved;
} adaloss_epilogue;

/* One branch of a join in the device's memory. */
typedef struct adaloss_device_branch {
    uint64_t gradient;
    uint64_t cell; /* its scale is that of the gradient */
} adaloss_device_branch;

/* The matrix product op(A) op(B), all row-major. */
typedef struct adaloss_product {
    size_t rows;         /* of op(A) and of the result */
    size_t inner;        /* columns of op(A), rows of op(B) */
    size_t columns;      /* of op(B) and of the result */
    uint8_t transpose_a; /* not 0: A is stored as (inner, rows) */
    uint8_t transpose_b; /* not 0: B is stored as (columns, inner) */
    adaloss_format a;
    adaloss_format b;
    uint8_t has_bias;    /* not 0: sums begin at the bias of their column */
    uint8_t reserved;
} adaloss_product;

/* Gives memory of zero bytes, at an address that is a multiple of 8; `bytes` is never 0. */
typedef adaloss_code (*adaloss_device_allocate_function)(void *context, uint64_t bytes, uint64_t *address);

/* Takes back what was allocated. */
typedef void (*adaloss_device_free_function)(void *context, uint64_t address, uint64_t bytes);

/* Waits for all work on the bytes from this address on, and copies them to the host; `bytes` is never 0. */
typedef adaloss_code (*adaloss_device_read_function)(void *context, uint64_t from, void *to, size_t bytes);

/* Copies from the host, whose memory may change when this returns; `bytes` is never 0. */
typedef adaloss_code (*adaloss_device_write_function)(void *context, const void *from, uint64_t to, size_t bytes);

/* Adds `count` elements to the adaloss_statistics at an address. */
typedef adaloss_code (*adaloss_device_statistics_function)(void *context, adaloss_format format, uint64_t values,
                                                           size_t count, uint64_t statistics);

/* Narrows `count` floats as the epilogue says. */
typedef adaloss_code (*adaloss_device_apply_function)(void *context, uint64_t values, size_t count, uint64_t to,
                                                      const adaloss_epilogue *epilogue);

/* Sums 1 to ADALOSS_DEVICE_BRANCHES branches of `count` elements as floats, in the order given, each brought from the
 * scale of its cell to that of the epilogue's `from`, and narrows the sums as the epilogue says.  The elements of the
 * branches have the format of the results. */
typedef adaloss_code (*adaloss_device_propagate_function)(void *context, const adaloss_device_branch *branches,
                                                          size_t branch_count, size_t count, uint64_t to,
                                                          const adaloss_epilogue *epilogue);

/* Widens `count` elements that carry the scale of a cell to floats without it, and adds what was met to the
 * adaloss_unscaled at an address. */
typedef adaloss_code (*adaloss_device_unscale_function)(void *context, adaloss_format format, uint64_t gradient,
                                                        size_t count, uint64_t cell, uint64_t to, uint64_t met);

/* Multiplies matrices and narrows the sums as the epilogue says.  Sums are float, and begin at 0 or, where the product has a
 * bias, at one of the `columns` floats at `bias`, that of their column; otherwise `bias` is 0 and no address. */
typedef adaloss_code (*adaloss_device_matmul_function)(void *context, const adaloss_product *product, uint64_t a,
                                                       uint64_t b, uint64_t bias, uint64_t to,
                                                       const adaloss_epilogue *epilogue);

/* A device.  The functions from `statistics` on may be NULL where there is no such operation. */
typedef struct adaloss_device {
    void *context;         /* what every function is given first; may be NULL */
    uint32_t bytes;        /* sizeof(adaloss_device) */
    uint32_t capabilities;
    adaloss_device_allocate_function allocate;
    adaloss_device_free_function free;
    adaloss_device_read_function read;
    adaloss_device_write_function write;
    adaloss_device_statistics_function statistics;
    adaloss_device_apply_function apply;
    adaloss_device_propagate_function propagate;
    adaloss_device_unscale_function unscale;
    adaloss_device_matmul_function matmul;
} adaloss_device;

/* What a pass has in the device's memory: allocate so many bytes once, for any number of passes one after the other. */
typedef struct adaloss_device_pass {
    adaloss_cell from;
    adaloss_cell to;
    adaloss_outcome outcome;
    adaloss_histogram histogram;
} adaloss_device_pass;

#define ADALOSS_DIFFERENCE_BYTES 256

/* What was compared, or where a device differs. */
typedef struct adaloss_conformance {
    uint64_t operations; /* whose results agreed */
    uint64_t refusals;   /* operations that had to be refused, and were */
    uint64_t elements;   /* that agreed */
    char difference[ADALOSS_DIFFERENCE_BYTES]; /* the first one, in words; empty where there is none */
} adaloss_conformance;

/* Says whether a table can be used, and if not, why: ADALOSS_ERROR_LENGTH for `bytes`, ADALOSS_ERROR_NULL where one of
 * the four functions for memory is missing. */
adaloss_code adaloss_device_check(const adaloss_device *device);

/* Copies the scales and counts of a pass to the device, where `memory` is the address of an adaloss_device_pass, and
 * makes the epilogue that the device's operation ends in. */
adaloss_code adaloss_device_write_pass(const adaloss_device *device, adaloss_pass *pass, uint64_t memory,
                                       adaloss_epilogue *epilogue);

/* Waits for the operation, and copies its counts back into the pass; where it fails, the pass has counted nothing. */
adaloss_code adaloss_device_read_pass(const adaloss_device *device, adaloss_pass *pass,
                                      const adaloss_epilogue *epilogue);

/* The functions below compare a device with this library, element by element and counter by counter, on values where
 * implementations go wrong.  They return ADALOSS_OK, or ADALOSS_ERROR_DIFFERS with the first difference; both write the
 * report.  They need 96 KiB of stack, and 128 KiB of the device's memory. */

/* Checks that memory is zeroed and copied; the other checks rely on this one. */
adaloss_code adaloss_device_conform_memory(const adaloss_device *device, adaloss_conformance *report);

/* Checks statistics, apply, propagate and unscale with elements of an encoding, which the device has to have;
 * ADALOSS_ERROR_OPERATION where one of the four functions is NULL. */
adaloss_code adaloss_device_conform_narrow(const adaloss_device *device, uint32_t encoding,
                                           adaloss_conformance *report);

/* Checks products of two encodings of one width, narrowed to one of them or to binary32; ADALOSS_ERROR_FORMAT for
 * others. */
adaloss_code adaloss_device_conform_matmul(const adaloss_device *device, uint32_t a_encoding, uint32_t b_encoding,
                                           uint32_t encoding, adaloss_conformance *report);

#ifdef __cplusplus
}
#endif

#endif
