#include <adaloss.h>

#include "board.h" /* of examples/firmware/c: startup, printing */

enum { LAYERS = 3, COUNT = 8 };

/* A gradient tensor: binary16 elements, the scale that they carry, and where they come from. */
typedef struct tensor {
    uint16_t elements[COUNT];
    int32_t scale_log2;
    const struct tensor *from;
} tensor;

static adaloss_scaler scaler; /* 5 kB, zero before it is initialised */
static adaloss_cell cells[LAYERS]; /* 28 bytes for each layer */

static adaloss_code loss_gradient(void *context, adaloss_pass *pass)
{
    static float results[COUNT] = {1.0e-9f, -2.0e-9f, 3.0e-8f}; /* nothing of this fits binary16 */
    tensor *to = context;
    return adaloss_apply_pass(pass, results, COUNT, to->elements);
}

/* Your accelerator's product goes here; this layer has the weight 0.01. */
static adaloss_code input_gradient(void *context, adaloss_pass *pass)
{
    const adaloss_format format = {ADALOSS_BINARY16, ADALOSS_GRADUAL};
    tensor *to = context;
    float results[COUNT];
    adaloss_code code = adaloss_format_widen(format, to->from->elements, COUNT, results);
    for (int i = 0; i < COUNT; i++) {
        results[i] *= 0.01f;
    }
    return code == ADALOSS_OK ? adaloss_apply_pass(pass, results, COUNT, to->elements) : code;
}

int main(void)
{
    static tensor gradients[LAYERS + 1];
    const adaloss_format format = {ADALOSS_BINARY16, ADALOSS_GRADUAL};
    adaloss_config config;
    adaloss_verdict verdict;
    if (adaloss_policy_recommended(format, &config) != ADALOSS_OK
        || adaloss_scaler_init(&scaler, &config, cells, LAYERS) != ADALOSS_OK
        || adaloss_scaler_begin(&scaler) != ADALOSS_OK) {
        return 1;
    }
    tensor *loss = &gradients[LAYERS];
    adaloss_code code = adaloss_scaler_loss(&scaler, NULL, loss_gradient, loss, &loss->scale_log2);
    for (uint32_t l = LAYERS; l-- > 0 && code == ADALOSS_OK;) {
        tensor *to = &gradients[l];
        to->from = &gradients[l + 1];
        code = adaloss_scaler_layer(&scaler, l, to->from->scale_log2, NULL, input_gradient, to, &to->scale_log2);
        print("layer ");
        print_count(l);
        print(" leaves at 2^");
        print_log2(to->scale_log2);
        print("\n");
    }
    if (code != ADALOSS_OK || adaloss_scaler_finish(&scaler, &verdict) != ADALOSS_OK) {
        return 1;
    }
    print(verdict.kind == ADALOSS_VERDICT_APPLY ? "the optimizer may step\n" : "the step is skipped\n");
    return 0;
}
