#include <adaloss.h>

#include "board.h" /* of examples/firmware/c: startup, printing */

enum { LAYERS = 3, COUNT = 8 };

/* A gradient tensor: binary16 elements, and the scale that they carry. */
typedef struct tensor {
    uint16_t elements[COUNT];
    int32_t scale_log2;
} tensor;

static const adaloss_format FORMAT = {ADALOSS_BINARY16, ADALOSS_GRADUAL};

static adaloss_scaler scaler; /* 5 kB, zero before it is initialised */
static adaloss_cell cells[LAYERS]; /* 28 bytes for each layer */

/* Narrows the float results of a layer, in the visit that was opened. */
static adaloss_code narrow(const float *results, tensor *to)
{
    adaloss_pass *pass;
    while (adaloss_scaler_next_pass(&scaler, &pass) == ADALOSS_OK) {
        adaloss_code code = adaloss_apply_pass(pass, results, COUNT, to->elements);
        if (code != ADALOSS_OK) {
            return code;
        }
    }
    return adaloss_scaler_finish_visit(&scaler, &to->scale_log2);
}

int main(void)
{
    static tensor gradient;
    float results[COUNT] = {1.0e-9f, -2.0e-9f, 3.0e-8f}; /* nothing of this fits binary16 */
    adaloss_config config;
    adaloss_verdict verdict;
    if (adaloss_policy_recommended(FORMAT, &config) != ADALOSS_OK
        || adaloss_scaler_init(&scaler, &config, cells, LAYERS) != ADALOSS_OK
        || adaloss_scaler_begin(&scaler) != ADALOSS_OK
        || adaloss_scaler_loss(&scaler) != ADALOSS_OK || narrow(results, &gradient) != ADALOSS_OK) {
        return 1;
    }
    for (uint32_t l = LAYERS; l-- > 0;) {
        /* Your accelerator's product goes here; this layer has the weight 0.01. */
        if (adaloss_format_widen(FORMAT, gradient.elements, COUNT, results) != ADALOSS_OK) {
            return 1;
        }
        for (int i = 0; i < COUNT; i++) {
            results[i] *= 0.01f;
        }
        if (adaloss_scaler_layer(&scaler, l, gradient.scale_log2) != ADALOSS_OK
            || narrow(results, &gradient) != ADALOSS_OK) {
            return 1;
        }
        print("layer ");
        print_count(l);
        print(" leaves at 2^");
        print_log2(gradient.scale_log2);
        print("\n");
    }
    if (adaloss_scaler_finish(&scaler, &verdict) != ADALOSS_OK) {
        return 1;
    }
    print(verdict.kind == ADALOSS_VERDICT_APPLY ? "the optimizer may step\n" : "the step is skipped\n");
    return 0;
}
