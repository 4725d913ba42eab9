/*
 * A perceptron on handwritten digits, trained in low precision: activations in binary16, gradients in the format of
 * your choice, weights in float.  adaloss chooses a loss scale for every gradient tensor.
 *
 *     mlp FOLDER [binary16|bfloat16|e5m2|e4m3] [measured|paper|backoff|none] [EPOCHS]
 *
 * FOLDER holds the digits (examples/datasets/data).  Prints the accuracy and what became of the gradients, and checks that
 * each certificate says what became of its tensor.  Needs C99, libm, no heap.
 */
#include <adaloss.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "digits.h"

enum { BATCH = 32, HIDDEN = 48, LAYERS = 3, WIDEST = DIGITS_PIXELS };

/* A linear layer, and a rectifier behind it unless it is the last. */
typedef struct layer {
    size_t inputs, outputs;
    float weight[WIDEST][WIDEST]; /* [output][input] */
    float momentum[WIDEST][WIDEST];
    float gradient[WIDEST][WIDEST]; /* unscaled */
    uint16_t input[BATCH][WIDEST];  /* binary16, kept for the weight gradient */
} layer;

/* Elements of a gradient tensor, in whatever format; of 16 bits at most. */
typedef struct tensor {
    uint16_t elements[BATCH * WIDEST];
    size_t count;
    int32_t scale_log2; /* the scale that the gradient carries */
} tensor;

static const adaloss_format ACTIVATIONS = {ADALOSS_BINARY16, ADALOSS_GRADUAL};

/* Ends the program where adaloss refuses something: here only a mistake of ours can make it. */
static void must(adaloss_code code, const char *what)
{
    if (code != ADALOSS_OK) {
        fprintf(stderr, "%s: %s\n", what, adaloss_code_text(code));
        exit(2);
    }
}

/* A number from a normal distribution, by the sum of twelve uniform ones. */
static float normal(uint64_t *state)
{
    float sum = -6.0f;
    for (int i = 0; i < 12; i++) {
        *state = *state * 6364136223846793005u + 1442695040888963407u;
        sum += (float)(*state >> 40) / 16777216.0f;
    }
    return sum;
}

static void layer_init(layer *of, size_t inputs, size_t outputs, uint64_t *random)
{
    memset(of, 0, sizeof *of);
    of->inputs = inputs;
    of->outputs = outputs;
    for (size_t o = 0; o < outputs; o++) {
        for (size_t i = 0; i < inputs; i++) {
            of->weight[o][i] = normal(random) * sqrtf(2.0f / (float)inputs);
        }
    }
}

/* Stores floats as activations, which carry no scale. */
static void store(const float *values, size_t count, uint16_t *to)
{
    const adaloss_narrowing narrowing = {ACTIVATIONS, ADALOSS_NEAREST_EVEN, ADALOSS_INFINITY};
    const adaloss_noise noise = {0, 0};
    adaloss_outcome outcome = {0, 0, 0, 0, 0, 0, 0, 0};
    must(adaloss_apply_values(narrowing, 0, noise, 0, values, count, to, &outcome), "activations");
    if (outcome.overflow + outcome.nonfinite > 0) {
        fprintf(stderr, "an activation overflows\n");
        exit(1);
    }
}

/* Takes a batch through the network; keeps what the layers need to go back. */
static void forward(layer *layers, const float (*pixels)[DIGITS_PIXELS], size_t batch,
                    float logits[BATCH][DIGITS_CLASSES])
{
    float results[WIDEST], input[WIDEST];
    for (size_t n = 0; n < batch; n++) {
        store(pixels[n], DIGITS_PIXELS, layers[0].input[n]);
        for (size_t l = 0; l < LAYERS; l++) {
            layer *of = &layers[l];
            must(adaloss_format_widen(ACTIVATIONS, of->input[n], of->inputs, input), "input");
            for (size_t o = 0; o < of->outputs; o++) {
                float sum = 0.0f;
                for (size_t i = 0; i < of->inputs; i++) {
                    sum += of->weight[o][i] * input[i];
                }
                results[o] = l + 1 < LAYERS && sum < 0.0f ? 0.0f : sum;
            }
            if (l + 1 < LAYERS) {
                store(results, of->outputs, layers[l + 1].input[n]);
            } else {
                memcpy(logits[n], results, of->outputs * sizeof *results);
            }
        }
    }
}

/* The gradient of the mean cross entropy. */
static void loss_gradient(float logits[BATCH][DIGITS_CLASSES], const uint8_t *labels, float *results)
{
    for (size_t n = 0; n < BATCH; n++) {
        float largest = logits[n][0], sum = 0.0f;
        for (size_t c = 1; c < DIGITS_CLASSES; c++) {
            largest = fmaxf(largest, logits[n][c]);
        }
        for (size_t c = 0; c < DIGITS_CLASSES; c++) {
            sum += expf(logits[n][c] - largest);
        }
        for (size_t c = 0; c < DIGITS_CLASSES; c++) {
            const float probability = expf(logits[n][c] - largest) / sum;
            results[n * DIGITS_CLASSES + c] = (probability - (c == labels[n] ? 1.0f : 0.0f)) / BATCH;
        }
    }
}

/* The products g * W of a gradient, which is widened and still carries its scale. */
static void input_gradient(const layer *of, const float *gradient, float *results)
{
    for (size_t n = 0; n < BATCH; n++) {
        for (size_t i = 0; i < of->inputs; i++) {
            float sum = 0.0f;
            for (size_t o = 0; o < of->outputs; o++) {
                sum += gradient[n * of->outputs + o] * of->weight[o][i];
            }
            results[n * of->inputs + i] = sum;
        }
    }
}

/* Describes what `paper` decides from, where it asks; the others do not.  There is no layer behind the loss. */
static void describe(adaloss_scaler *scaler, const layer *of, const float *gradient, size_t count)
{
    static adaloss_operands operands;
    const adaloss_format binary32 = {ADALOSS_BINARY32, ADALOSS_GRADUAL};
    uint32_t wants;
    must(adaloss_scaler_wants_operands(scaler, &wants), "operands");
    if (!wants) {
        return;
    }
    must(adaloss_statistics_clear(&operands.gradient), "statistics");
    must(adaloss_statistics_observe(&operands.gradient, binary32, gradient, count), "statistics of a gradient");
    operands.kind = of == NULL ? ADALOSS_CAST : ADALOSS_PRODUCT;
    if (of != NULL) {
        operands.fan_in = (uint32_t)of->outputs;
        must(adaloss_statistics_clear(&operands.weight), "statistics");
        for (size_t o = 0; o < of->outputs; o++) {
            must(adaloss_statistics_observe(&operands.weight, binary32, of->weight[o], of->inputs), "a weight");
        }
    }
    must(adaloss_scaler_describe(scaler, &operands), "operands");
}

/* A certificate says how many elements are lost at the scale that the tensor left with.  It has to be right, to the
 * element. */
static void check_certificate(const adaloss_scaler *scaler, uint64_t *kept)
{
    adaloss_visit visit;
    must(adaloss_scaler_last(scaler, &visit), "last visit");
    if (visit.certified == 0 || visit.certificate.nonzero == 0) {
        return;
    }
    const adaloss_expected *expected = &visit.certificate.expected[1];
    if (visit.outcome.underflow != expected->underflow || visit.outcome.overflow != expected->overflow) {
        fprintf(stderr, "a certificate is wrong\n");
        exit(1);
    }
    *kept += visit.certificate.promised;
}

/* Where sums overflow float, the scale of the gradient that they are made of is too large. */
static void blame(adaloss_scaler *scaler)
{
    adaloss_place bad;
    uint32_t cause;
    if (adaloss_scaler_first_bad(scaler, &bad, &cause) != ADALOSS_OK || cause != ADALOSS_CAUSE_NON_FINITE
        || bad.kind == ADALOSS_LOSS) {
        return;
    }
    /* What is computed for layer l comes from the gradient that left layer l + 1, or the loss. */
    const adaloss_place loss = {ADALOSS_LOSS, 0}, layer = {ADALOSS_LAYER, bad.cell + 1};
    must(adaloss_scaler_sums_overflowed(scaler, bad.cell + 1 == LAYERS ? loss : layer), "sums");
}

/* The weight gradient, from the gradient as it is: scaled, and unscaled when it is whole. */
static void weight_gradient(adaloss_scaler *scaler, uint32_t cell, layer *of, const float *gradient,
                            int32_t scale_log2)
{
    const adaloss_format binary32 = {ADALOSS_BINARY32, ADALOSS_GRADUAL};
    adaloss_unscaled met = {0, 0, 0};
    float input[BATCH][WIDEST], scaled[WIDEST];
    for (size_t n = 0; n < BATCH; n++) {
        must(adaloss_format_widen(ACTIVATIONS, of->input[n], of->inputs, input[n]), "input");
    }
    for (size_t o = 0; o < of->outputs; o++) {
        for (size_t i = 0; i < of->inputs; i++) {
            scaled[i] = 0.0f;
            for (size_t n = 0; n < BATCH; n++) {
                scaled[i] += gradient[n * of->outputs + o] * input[n][i];
            }
        }
        must(adaloss_unscale_values(binary32, scaled, of->inputs, scale_log2, of->gradient[o], &met), "unscale");
    }
    must(adaloss_scaler_unscaled(scaler, cell, &met), "weight gradient");
}

/* Takes the gradient of the loss back through all layers. */
static void backward_pass(adaloss_scaler *scaler, adaloss_format format, layer *layers,
                          float logits[BATCH][DIGITS_CLASSES], const uint8_t *labels, uint64_t *kept)
{
    static tensor tensors[2];
    static float widened[BATCH * WIDEST], results[BATCH * WIDEST];
    tensor *gradient = &tensors[0], *next = &tensors[1];
    adaloss_pass *pass;

    gradient->count = BATCH * DIGITS_CLASSES;
    loss_gradient(logits, labels, results);
    must(adaloss_scaler_loss(scaler), "loss");
    describe(scaler, NULL, results, gradient->count);
    while (adaloss_scaler_next_pass(scaler, &pass) == ADALOSS_OK) {
        must(adaloss_apply_pass(pass, results, gradient->count, gradient->elements), "narrowing");
    }
    must(adaloss_scaler_finish_visit(scaler, &gradient->scale_log2), "loss");
    check_certificate(scaler, kept);

    for (uint32_t l = LAYERS; l-- > 0;) {
        layer *of = &layers[l];
        must(adaloss_format_widen(format, gradient->elements, gradient->count, widened), "gradient");
        weight_gradient(scaler, l, of, widened, gradient->scale_log2);
        if (l == 0) {
            break; /* nobody wants the gradient of the pixels */
        }
        next->count = BATCH * of->inputs;
        must(adaloss_scaler_layer(scaler, l, gradient->scale_log2), "input gradient");
        describe(scaler, of, widened, gradient->count);
        while (adaloss_scaler_next_pass(scaler, &pass) == ADALOSS_OK) {
            input_gradient(of, widened, results); /* each time anew: a kernel need not keep its float results */
            must(adaloss_apply_pass(pass, results, next->count, next->elements), "narrowing");
        }
        must(adaloss_scaler_finish_visit(scaler, &next->scale_log2), "input gradient");
        check_certificate(scaler, kept);
        /* Back through the rectifier, which keeps the scale. */
        for (size_t n = 0; n < BATCH; n++) {
            for (size_t i = 0; i < of->inputs; i++) {
                if (of->input[n][i] == 0) {
                    const size_t at = n * of->inputs + i;
                    if (format.encoding == ADALOSS_E5M2 || format.encoding == ADALOSS_E4M3) {
                        ((uint8_t *)next->elements)[at] = 0;
                    } else {
                        next->elements[at] = 0;
                    }
                }
            }
        }
        tensor *last = gradient;
        gradient = next;
        next = last;
    }
}

static void update(layer *layers)
{
    for (size_t l = 0; l < LAYERS; l++) {
        layer *of = &layers[l];
        for (size_t o = 0; o < of->outputs; o++) {
            for (size_t i = 0; i < of->inputs; i++) {
                of->momentum[o][i] = 0.9f * of->momentum[o][i] + of->gradient[o][i];
                of->weight[o][i] -= 0.05f * of->momentum[o][i];
            }
        }
    }
}

static double accuracy(layer *layers, const digits *data)
{
    size_t right = 0;
    float logits[BATCH][DIGITS_CLASSES];
    for (size_t n = DIGITS_TRAINING; n < DIGITS; n++) {
        forward(layers, &data->pixels[n], 1, logits);
        size_t best = 0;
        for (size_t c = 1; c < DIGITS_CLASSES; c++) {
            best = logits[0][c] > logits[0][best] ? c : best;
        }
        right += best == data->labels[n];
    }
    return 100.0 * (double)right / (DIGITS - DIGITS_TRAINING);
}

/* Puts the training images in a new order (Fisher and Yates). */
static void shuffle(size_t *order, uint64_t *random)
{
    for (size_t n = DIGITS_TRAINING - 1; n > 0; n--) {
        *random = *random * 6364136223846793005u + 1442695040888963407u;
        const size_t other = (size_t)(*random >> 33) % (n + 1);
        const size_t held = order[n];
        order[n] = order[other];
        order[other] = held;
    }
}

static int configure(const char *encoding, const char *method, adaloss_config *config)
{
    static const char *const encodings[] = {"binary16", "bfloat16", "e5m2", "e4m3"};
    adaloss_format format = {0, ADALOSS_GRADUAL};
    while (format.encoding < 4 && strcmp(encodings[format.encoding], encoding) != 0) {
        format.encoding++;
    }
    if (format.encoding == 4) {
        return 1;
    }
    must(adaloss_policy_recommended(format, config), "format");
    if (strcmp(method, "paper") == 0) {
        must(adaloss_policy_paper(format, config), "format");
    } else if (strcmp(method, "backoff") == 0) {
        config->policy = ADALOSS_BACKOFF;
        must(adaloss_policy_grad_scaler(&config->parameters.backoff), "backoff");
    } else if (strcmp(method, "none") == 0) {
        config->policy = ADALOSS_FIXED;
        config->parameters.fixed_log2 = 0;
    } else if (strcmp(method, "measured") != 0) {
        return 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    static digits data;
    static layer layers[LAYERS];
    static adaloss_scaler scaler; /* zero, as adaloss_scaler_init wants it */
    static adaloss_cell cells[LAYERS];
    static size_t order[DIGITS_TRAINING];
    adaloss_config config;
    const char *encoding = argc > 2 ? argv[2] : "binary16", *method = argc > 3 ? argv[3] : "measured";
    const long epochs = argc > 4 ? strtol(argv[4], NULL, 10) : 20;
    if (argc < 2 || argc > 5 || epochs < 1 || configure(encoding, method, &config)) {
        fprintf(stderr, "usage: %s FOLDER [binary16|bfloat16|e5m2|e4m3] [measured|paper|backoff|none] [EPOCHS]\n",
                argv[0]);
        return 2;
    }
    if (digits_read(argv[1], &data)) {
        return 1;
    }

    uint64_t random = 1, kept = 0;
    layer_init(&layers[0], DIGITS_PIXELS, HIDDEN, &random);
    layer_init(&layers[1], HIDDEN, HIDDEN, &random);
    layer_init(&layers[2], HIDDEN, DIGITS_CLASSES, &random);
    must(adaloss_scaler_init(&scaler, &config, cells, LAYERS), "configuration");
    for (size_t n = 0; n < DIGITS_TRAINING; n++) {
        order[n] = n;
    }
    for (long epoch = 0; epoch < epochs; epoch++) {
        shuffle(order, &random);
        for (size_t first = 0; first + BATCH <= DIGITS_TRAINING; first += BATCH) {
            float pixels[BATCH][DIGITS_PIXELS], logits[BATCH][DIGITS_CLASSES];
            uint8_t labels[BATCH];
            for (size_t n = 0; n < BATCH; n++) {
                memcpy(pixels[n], data.pixels[order[first + n]], sizeof pixels[n]);
                labels[n] = data.labels[order[first + n]];
            }
            adaloss_verdict verdict;
            forward(layers, (const float (*)[DIGITS_PIXELS])pixels, BATCH, logits);
            must(adaloss_scaler_begin(&scaler), "begin");
            backward_pass(&scaler, config.narrowing.format, layers, logits, labels, &kept);
            blame(&scaler);
            must(adaloss_scaler_finish(&scaler, &verdict), "finish");
            if (verdict.kind == ADALOSS_VERDICT_APPLY) {
                update(layers);
            } else if (verdict.kind == ADALOSS_VERDICT_STOP) {
                char text[ADALOSS_VERDICT_TEXT_BYTES];
                must(adaloss_verdict_text(&verdict, text, sizeof text), "verdict text");
                fprintf(stderr, "%s\n", text);
                return 1;
            }
        }
    }

    adaloss_totals totals;
    must(adaloss_scaler_totals(&scaler, &totals), "totals");
    printf("%s %s: %.1f %% right, %u steps, %u skipped, %u replays, %u promises kept and %u broken later\n", encoding,
           method, accuracy(layers, &data), (unsigned)totals.steps, (unsigned)totals.skipped,
           (unsigned)totals.recovered, (unsigned)kept, (unsigned)totals.broken);
    for (uint32_t l = 0; l < LAYERS; l++) {
        const adaloss_place place = {ADALOSS_LAYER, l};
        adaloss_cell cell;
        if (adaloss_scaler_cell(&scaler, place, &cell) == ADALOSS_OK && l > 0) {
            printf("  layer %u leaves at 2^%d\n", (unsigned)l, cell.scale_log2);
        }
    }
    return 0;
}
