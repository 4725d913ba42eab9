/*
 * Ranks that take the same step: scalers that each see a part of every batch, beside one that sees all of it.
 *
 * Here all ranks are in one program, and adaloss_share_merge is the reduction.  On a cluster each is a process of its own,
 * and the reduction is MPI_Allreduce with MPI_MAX, say: docs/ranks.md has that program.
 *
 *     ranks
 *
 * Prints how often a step was skipped, and what ranks say that are not alike; ends with 1 where something is not as it is
 * said here.  Needs C99, libm, no heap.
 */
#include <adaloss.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RANKS = 4, CELLS = 3, COUNT = 8, STEPS = 400 };

static const adaloss_format BINARY16 = {ADALOSS_BINARY16, ADALOSS_GRADUAL};

/* Ends the program where something is refused or not as expected. */
static void must(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "not as it should be: %s\n", what);
        exit(1);
    }
}

/* A scaler, its cells, and the message that it brings to the step under way. */
typedef struct rank {
    adaloss_scaler scaler; /* zero before it is initialised */
    adaloss_cell cells[CELLS];
    uint8_t message[ADALOSS_SHARE_BYTES(CELLS)];
} rank;

static adaloss_config recommended(void)
{
    adaloss_config config;
    must(adaloss_policy_recommended(BINARY16, &config) == ADALOSS_OK, "a configuration");
    return config;
}

static void make(rank *of, adaloss_config config)
{
    must(adaloss_scaler_init(&of->scaler, &config, of->cells, CELLS) == ADALOSS_OK, "a scaler");
}

/* A word that looks random: a function of the three numbers, so that each rank finds its part of a batch by itself. */
static uint32_t word(int step, int nth, int what)
{
    const adaloss_noise noise = {(uint32_t)step, (uint32_t)nth};
    return adaloss_format_noise_word(noise, (uint64_t)what);
}

/* Visits one tensor at a cell, or at the loss: values that now and then lie many binades above those before. */
static void visit(rank *of, int step, int nth, int cell)
{
    const uint32_t random = word(step, nth, cell);
    float values[COUNT];
    uint16_t narrowed[COUNT];
    adaloss_pass *pass;
    int32_t log2;
    for (int i = 0; i < COUNT; i++) {
        const int binade = -30 + (int)(random % 8) + (random % 61 == 0 ? 25 : 0) - i;
        values[i] = ldexpf(1.0f + (float)(random >> 16) / 65536.0f, binade);
    }
    if (cell < 0 && step % 37 == 36 && nth == step % RANKS) {
        values[3] = NAN;
    }
    must((cell < 0 ? adaloss_scaler_loss(&of->scaler) : adaloss_scaler_layer(&of->scaler, (uint32_t)cell, 0)) == ADALOSS_OK,
         "a visit");
    while (adaloss_scaler_next_pass(&of->scaler, &pass) == ADALOSS_OK) {
        must(adaloss_apply_pass(pass, values, COUNT, narrowed) == ADALOSS_OK, "narrowing");
    }
    must(adaloss_scaler_finish_visit(&of->scaler, &log2) == ADALOSS_OK, "the end of a visit");
}

/* Goes backward through one rank's part of a batch. */
static void backward(rank *of, int step, int nth)
{
    visit(of, step, nth, -1);
    visit(of, step, nth, 0);
    if (word(step, nth, 99) % 3 == 0) {
        visit(of, step, nth, 1); /* an expert that got no tokens on most ranks, and in some steps on none */
    }
    if (step > STEPS / 2 && nth == 0) {
        visit(of, step, nth, 2); /* a layer that only one rank has, and that comes late */
    }
}

static void begin(rank *of)
{
    must(adaloss_scaler_begin(&of->scaler) == ADALOSS_OK, "the beginning of a step");
}

static adaloss_verdict finish(rank *of)
{
    adaloss_verdict verdict;
    must(adaloss_scaler_finish(&of->scaler, &verdict) == ADALOSS_OK, "the end of a step");
    return verdict;
}

static void pack(rank *of)
{
    must(adaloss_share_pack(&of->scaler, of->message, sizeof of->message) == ADALOSS_OK, "a message");
}

static adaloss_code unpack(rank *of, const uint8_t *message)
{
    return adaloss_share_unpack(&of->scaler, message, sizeof of->message);
}

/* What a library of collective operations does: all ranks' messages into one, or so many bytes of each. */
static void reduce(const rank *ranks, uint8_t *message, size_t bytes)
{
    memcpy(message, ranks[0].message, bytes);
    for (int nth = 1; nth < RANKS; nth++) {
        must(adaloss_share_merge(message, ranks[nth].message, bytes) == ADALOSS_OK, "messages are merged");
    }
}

/* One step of all ranks. */
static adaloss_verdict step_of(rank *ranks, int step)
{
    uint8_t message[ADALOSS_SHARE_BYTES(CELLS)];
    adaloss_verdict verdict = {0, 0, {0, 0}, 0, 0};
    for (int nth = 0; nth < RANKS; nth++) {
        begin(&ranks[nth]);
        backward(&ranks[nth], step, nth);
        pack(&ranks[nth]);
    }
    reduce(ranks, message, sizeof message);
    for (int nth = 0; nth < RANKS; nth++) {
        must(unpack(&ranks[nth], message) == ADALOSS_OK, "ranks that are alike agree");
        const adaloss_verdict its = finish(&ranks[nth]);
        must(nth == 0 || memcmp(&its, &verdict, sizeof its) == 0, "a verdict is everybody's");
        verdict = its;
    }
    return verdict;
}

static void same_scales(const rank *of, const rank *other)
{
    for (uint32_t cell = 0; cell <= CELLS; cell++) {
        const adaloss_place loss = {ADALOSS_LOSS, 0}, layer = {ADALOSS_LAYER, cell};
        const adaloss_place place = cell < CELLS ? layer : loss;
        adaloss_cell here, there;
        const adaloss_code code = adaloss_scaler_cell(&of->scaler, place, &here);
        must(adaloss_scaler_cell(&other->scaler, place, &there) == code, "a cell comes to be on all ranks in one step");
        must(code == ADALOSS_NONE || here.scale_log2 == there.scale_log2, "a scale is that of one scaler that saw all");
    }
}

/* What ranks say, before their next step, that are not alike: the same on all of them.  Then each looks at the headers of
 * the others one by one, and at their digests. */
static void differ(rank *ranks, int odd, adaloss_code expected, int expected_digest)
{
    uint8_t header[ADALOSS_SHARE_HEADER_BYTES];
    uint64_t digests[RANKS][ADALOSS_SHARE_DIGESTS(CELLS)];
    for (int nth = 0; nth < RANKS; nth++) {
        begin(&ranks[nth]);
        pack(&ranks[nth]);
        must(adaloss_share_digests(&ranks[nth].scaler, digests[nth], ADALOSS_SHARE_DIGESTS(CELLS)) == ADALOSS_OK, "digests");
    }
    reduce(ranks, header, sizeof header);
    for (int nth = 0; nth < RANKS; nth++) {
        const adaloss_code code = adaloss_share_matches(&ranks[nth].scaler, header, sizeof header);
        must(code == expected, "all ranks find out alike");
    }
    for (int nth = 1; nth < RANKS; nth++) {
        const adaloss_code code = adaloss_share_matches(&ranks[0].scaler, ranks[nth].message, sizeof header);
        must(code == (nth == odd ? expected : ADALOSS_OK), "another rank's header says whether it is the one");
        if (code != ADALOSS_OK) {
            printf("rank %d: %s\n", nth, adaloss_code_text(code));
        }
        for (int i = 0; i < CELLS + 2 && expected_digest >= 0; i++) {
            must((digests[nth][i] != digests[0][i]) == (nth == odd && i == expected_digest), "one digest differs");
        }
    }
    for (int nth = 0; nth < RANKS; nth++) {
        must(adaloss_scaler_abandon(&ranks[nth].scaler) == ADALOSS_OK, "what ranks compare need not become a step");
    }
}

int main(void)
{
    static rank ranks[RANKS], whole;
    adaloss_config config = recommended();
    adaloss_totals totals;
    int skipped = 0;
    make(&whole, config);
    for (int nth = 0; nth < RANKS; nth++) {
        make(&ranks[nth], config);
    }
    differ(ranks, -1, ADALOSS_OK, -1);
    for (int step = 0; step < STEPS; step++) {
        begin(&whole);
        for (int nth = 0; nth < RANKS; nth++) {
            backward(&whole, step, nth);
        }
        const adaloss_verdict expected = finish(&whole), verdict = step_of(ranks, step);
        must(memcmp(&expected, &verdict, sizeof verdict) == 0, "the verdict is that of one scaler that saw all");
        skipped += verdict.kind != ADALOSS_VERDICT_APPLY;
        for (int nth = 0; nth < RANKS; nth++) {
            same_scales(&ranks[nth], &whole);
        }
    }
    must(skipped == STEPS / 37, "a step with NaN on one rank is skipped on all, and no other");
    must(adaloss_scaler_totals(&whole.scaler, &totals) == ADALOSS_OK && totals.recovered > 20, "tensors overflow often");
    printf("%d ranks take %d steps as one scaler does, and skip %d\n", RANKS, STEPS, skipped);
    differ(ranks, -1, ADALOSS_OK, -1);

    /* Mistakes, one at a time.  A bit of memory that flips, in a cell that decides: */
    ranks[2].cells[1].scale_log2 ^= 1;
    differ(ranks, 2, ADALOSS_ERROR_RANKS_DIGEST, 2 + 1);
    ranks[2].cells[1].scale_log2 ^= 1;

    /* A rank that is a step ahead: */
    uint8_t checkpoint[ADALOSS_CHECKPOINT_BYTES(CELLS)];
    must(adaloss_scaler_save(&ranks[1].scaler, checkpoint, sizeof checkpoint) == ADALOSS_OK, "a checkpoint");
    begin(&ranks[1]);
    backward(&ranks[1], STEPS, 1);
    finish(&ranks[1]);
    differ(ranks, 1, ADALOSS_ERROR_RANKS_STEP, -1);
    must(adaloss_scaler_restore(&ranks[1].scaler, checkpoint, sizeof checkpoint) == ADALOSS_OK, "the run goes on");
    differ(ranks, -1, ADALOSS_OK, -1);

    /* A rank with another configuration: */
    must(adaloss_scaler_clear(&ranks[3].scaler) == ADALOSS_OK, "a scaler ends");
    config.seed++;
    make(&ranks[3], config);
    differ(ranks, 3, ADALOSS_ERROR_RANKS_CONFIG, -1);
    return 0;
}
