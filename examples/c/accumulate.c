/*
 * Gradients accumulated over micro-batches: one step, with a loss and its layers for each micro-batch, on the same cells.
 *
 * The step ends once, and its verdict is about all micro-batches together.  The scales that it leaves are those of a step
 * that has all samples in one batch; one micro-batch that is not finite keeps the whole step from the weight.
 *
 *     accumulate
 *
 * Prints what is learnt, and ends with 1 where something is not as it is said here.  Needs C99, libm, no heap.
 */
#include <adaloss.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { MICRO_BATCHES = 4, SAMPLES = 8, ALL = MICRO_BATCHES * SAMPLES, STEPS = 40 };

static const adaloss_format BINARY16 = {ADALOSS_BINARY16, ADALOSS_GRADUAL};
static const adaloss_format BINARY32 = {ADALOSS_BINARY32, ADALOSS_GRADUAL};

/* Ends the program where something is refused or not as expected. */
static void must(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "not as it should be: %s\n", what);
        exit(1);
    }
}

/* The model y = second * (first * x), its scaler, and the gradients of a step, unscaled and summed. */
typedef struct model {
    adaloss_scaler scaler; /* zero before it is initialised */
    adaloss_cell cells[1]; /* for the gradient that leaves `second`; nobody wants that of x, behind `first` */
    float first, second;
    float gradient_first, gradient_second;
} model;

/* A gradient tensor of a micro-batch: at most all samples. */
typedef struct tensor {
    uint16_t elements[ALL];
    int32_t scale_log2;
} tensor;

/* Narrows a gradient's float results in the visit that was opened. */
static void narrow(adaloss_scaler *scaler, const float *results, size_t count, tensor *to)
{
    adaloss_pass *pass;
    while (adaloss_scaler_next_pass(scaler, &pass) == ADALOSS_OK) {
        must(adaloss_apply_pass(pass, results, count, to->elements) == ADALOSS_OK, "narrowing");
    }
    must(adaloss_scaler_finish_visit(scaler, &to->scale_log2) == ADALOSS_OK, "the end of a visit");
}

/* Adds to a weight's gradient what this micro-batch has, and tells the step whether it is finite. */
static void accumulate(adaloss_scaler *scaler, uint32_t layer, const tensor *gradient, const float *inputs, size_t count,
                       float *sum)
{
    float widened[ALL], scaled = 0.0f, unscaled;
    adaloss_unscaled met = {0};
    must(adaloss_format_widen(BINARY16, gradient->elements, count, widened) == ADALOSS_OK, "widening");
    for (size_t i = 0; i < count; i++) {
        scaled += widened[i] * inputs[i];
    }
    must(adaloss_unscale_values(BINARY32, &scaled, 1, gradient->scale_log2, &unscaled, &met) == ADALOSS_OK, "unscaling");
    must(adaloss_scaler_unscaled(scaler, layer, &met) == ADALOSS_OK, "taking note");
    *sum += unscaled;
}

/* Goes forward and back through one micro-batch.  The loss is the mean over all samples of the step, not of the
 * micro-batch: so the gradients of micro-batches are added, and nothing is divided afterwards. */
static void micro_batch(model *of, const float *x, const float *target, size_t count)
{
    float hidden[ALL] = {0.0f}, loss_gradient[ALL], hidden_gradient[ALL];
    tensor at_output, at_hidden;
    for (size_t i = 0; i < count; i++) {
        hidden[i] = of->first * x[i];
        loss_gradient[i] = 2.0f * (of->second * hidden[i] - target[i]) / ALL;
    }
    must(adaloss_scaler_loss(&of->scaler) == ADALOSS_OK, "the loss");
    narrow(&of->scaler, loss_gradient, count, &at_output);
    accumulate(&of->scaler, 1, &at_output, hidden, count, &of->gradient_second);
    must(adaloss_format_widen(BINARY16, at_output.elements, count, hidden_gradient) == ADALOSS_OK, "widening");
    for (size_t i = 0; i < count; i++) {
        hidden_gradient[i] *= of->second;
    }
    must(adaloss_scaler_layer(&of->scaler, 0, at_output.scale_log2) == ADALOSS_OK, "the layer");
    narrow(&of->scaler, hidden_gradient, count, &at_hidden);
    accumulate(&of->scaler, 0, &at_hidden, x, count, &of->gradient_first);
}

/* One step in so many micro-batches. */
static adaloss_verdict step(model *of, const float *x, const float *target, size_t micro_batches)
{
    const size_t count = ALL / micro_batches;
    adaloss_verdict verdict;
    of->gradient_first = of->gradient_second = 0.0f;
    must(adaloss_scaler_begin(&of->scaler) == ADALOSS_OK, "the beginning of a step");
    for (uint32_t nth = 0; nth < micro_batches; nth++) {
        /* Only stochastic rounding depends on this. */
        must(adaloss_scaler_micro_batch(&of->scaler, nth) == ADALOSS_OK, "the number of a micro-batch");
        micro_batch(of, x + nth * count, target + nth * count, count);
    }
    must(adaloss_scaler_finish(&of->scaler, &verdict) == ADALOSS_OK, "the end of a step");
    if (verdict.kind == ADALOSS_VERDICT_APPLY) {
        of->first -= 0.1f * of->gradient_first;
        of->second -= 0.1f * of->gradient_second;
    }
    return verdict;
}

static void make(model *of)
{
    adaloss_config config;
    must(adaloss_policy_recommended(BINARY16, &config) == ADALOSS_OK, "a configuration");
    must(adaloss_scaler_init(&of->scaler, &config, of->cells, 1) == ADALOSS_OK, "a scaler");
    of->first = of->second = 1.0f;
}

static int32_t scale_of(const model *of, adaloss_place place)
{
    adaloss_cell cell;
    must(adaloss_scaler_cell(&of->scaler, place, &cell) == ADALOSS_OK, "a cell");
    return cell.scale_log2;
}

int main(void)
{
    static model accumulated, whole;
    const adaloss_place loss = {ADALOSS_LOSS, 0}, layer = {ADALOSS_LAYER, 0};
    float x[ALL], target[ALL];
    make(&accumulated);
    make(&whole);
    for (int i = 0; i < ALL; i++) {
        x[i] = (float)(i - ALL / 2) / ALL;
        target[i] = 3.0f * x[i];
    }
    for (int nth = 0; nth < STEPS; nth++) {
        adaloss_verdict verdict = step(&accumulated, x, target, MICRO_BATCHES);
        must(verdict.kind == ADALOSS_VERDICT_APPLY, "a step of finite values is usable");
        verdict = step(&whole, x, target, 1);
        must(verdict.kind == ADALOSS_VERDICT_APPLY, "a step of finite values is usable");
        must(scale_of(&accumulated, loss) == scale_of(&whole, loss), "the scale of the loss is that of one batch");
        must(scale_of(&accumulated, layer) == scale_of(&whole, layer), "the scale of the layer is that of one batch");
    }
    must(fabsf(accumulated.first - whole.first) < 1.0e-3f, "the weights are those of one batch, up to rounding");
    printf("%d steps of %d micro-batches: the weights multiply to %.2f, which should be 3\n", STEPS, MICRO_BATCHES,
           (double)(accumulated.first * accumulated.second));
    must(fabsf(accumulated.first * accumulated.second - 3.0f) < 0.3f, "the model learns");

    const float before = accumulated.first;
    target[ALL - 1] = NAN;
    adaloss_verdict verdict = step(&accumulated, x, target, MICRO_BATCHES);
    must(verdict.kind == ADALOSS_VERDICT_SKIP, "a step is skipped where its last micro-batch is not finite");
    must(accumulated.first == before, "its weights stay");
    char text[ADALOSS_VERDICT_TEXT_BYTES];
    must(adaloss_verdict_text(&verdict, text, sizeof text) == ADALOSS_OK, "a verdict in words");
    printf("with NaN in the last of them: %s\n", text);
    return 0;
}
