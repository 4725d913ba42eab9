/*
 * A gradient walks the corridor room by room, for a runtime that schedules its own kernels, in C++17.
 *
 * Two branches of a network go back: each is narrowed, noted and certified; they are joined; the sum is unscaled; the
 * step ends.  Then the same is done by a scaler, which has to come to the same scales and bits, and which is saved and
 * restored.  The records of its steps tell the scales again.
 */
#include <adaloss.h>

#include <array>
#include <cmath>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

void must(adaloss_code code) {
    if (code != ADALOSS_OK) {
        throw std::runtime_error(adaloss_code_text(code));
    }
}

void expect(bool condition, const char *what) {
    if (!condition) {
        throw std::runtime_error(std::string("not as expected: ") + what);
    }
}

/* A gradient in binary16 with the scale it carries. */
struct Gradient {
    std::vector<uint16_t> elements;
    int32_t scale_log2 = 0;
};

constexpr adaloss_format binary16{ADALOSS_BINARY16, ADALOSS_GRADUAL};

/* The float results of two layers: one of them is far too small for binary16, the other far too large. */
std::vector<float> results(float magnitude) {
    std::vector<float> values(1000);
    for (std::size_t i = 0; i < values.size(); i++) {
        values[i] = magnitude * std::sin(0.7F * static_cast<float>(i + 1));
    }
    return values;
}

/* Narrows, takes note, narrows once more where that is needed, and certifies: what a scaler does at one visit. */
Gradient narrow(const adaloss_config &config, const std::vector<float> &values, int32_t incoming_log2,
                adaloss_cell &cell) {
    Gradient gradient{std::vector<uint16_t>(values.size()), 0};
    adaloss_outcome outcome{};
    const auto narrow_to = [&](int32_t scale_log2) {
        gradient.scale_log2 = scale_log2;
        outcome = adaloss_outcome{};
        must(adaloss_apply_values(config.narrowing, scale_log2 - incoming_log2, adaloss_noise{}, 0, values.data(),
                                  values.size(), gradient.elements.data(), &outcome));
    };
    int32_t scale_log2 = 0;
    must(adaloss_policy_outgoing(&config, &cell, incoming_log2, &scale_log2));
    narrow_to(scale_log2);
    const adaloss_code noted = adaloss_policy_note(&config, &outcome, incoming_log2, &cell, &scale_log2);
    if (noted != ADALOSS_NONE) {
        must(noted);
        narrow_to(scale_log2);
    }
    expect(outcome.overflow == 0, "nothing overflows, the second time at the latest");

    uint32_t trigger = ADALOSS_TRIGGER_NONE;
    must(adaloss_policy_due(&config, &cell, &trigger));
    if (trigger != ADALOSS_TRIGGER_NONE) {
        static adaloss_histogram histogram;
        adaloss_certificate certificate;
        must(adaloss_statistics_histogram_clear(&histogram, config.narrowing));
        must(adaloss_statistics_histogram_observe(&histogram, values.data(), values.size(), incoming_log2));
        must(adaloss_policy_certify(&config, &histogram, gradient.scale_log2, &cell, &certificate));
        expect(certificate.promised == 1, "at most a thousandth underflows");
        expect(outcome.underflow == certificate.expected[1].underflow, "as many as the certificate says");
    }
    return gradient;
}

Gradient join(const adaloss_config &config, const std::array<Gradient, 2> &branches, adaloss_cell &cell) {
    const std::size_t count = branches[0].elements.size();
    const std::array<adaloss_branch, 2> named{{
        {branches[0].elements.data(), branches[0].scale_log2, 0},
        {branches[1].elements.data(), branches[1].scale_log2, 0},
    }};
    std::vector<float> sum(count);
    int32_t common_log2 = 0;
    must(adaloss_propagate_join(binary16, named.data(), named.size(), sum.data(), count, &common_log2));
    return narrow(config, sum, common_log2, cell);
}

/* Does the same by the passes of a scaler's visit, which was opened. */
Gradient narrow(adaloss_scaler &scaler, const std::vector<float> &values) {
    Gradient gradient{std::vector<uint16_t>(values.size()), 0};
    adaloss_pass *pass = nullptr;
    while (adaloss_scaler_next_pass(&scaler, &pass) == ADALOSS_OK) {
        must(adaloss_apply_pass(pass, values.data(), values.size(), gradient.elements.data()));
    }
    must(adaloss_scaler_finish_visit(&scaler, &gradient.scale_log2));
    return gradient;
}

/* The sum of branches, at the scale that the pass asks for. */
std::vector<float> sum_of(const std::array<Gradient, 2> &branches, int32_t scale_log2) {
    std::vector<float> sum(branches[0].elements.size());
    for (const Gradient &branch : branches) {
        std::vector<float> widened(sum.size());
        must(adaloss_format_widen(binary16, branch.elements.data(), sum.size(), widened.data()));
        for (std::size_t i = 0; i < sum.size(); i++) {
            sum[i] += std::ldexp(widened[i], scale_log2 - branch.scale_log2);
        }
    }
    return sum;
}

Gradient join(adaloss_scaler &scaler, uint32_t cell, const std::array<Gradient, 2> &branches) {
    const std::array<int32_t, 2> scales{branches[0].scale_log2, branches[1].scale_log2};
    Gradient gradient{std::vector<uint16_t>(branches[0].elements.size()), 0};
    adaloss_pass *pass = nullptr;
    must(adaloss_scaler_join(&scaler, cell, scales.data(), scales.size()));
    while (adaloss_scaler_next_pass(&scaler, &pass) == ADALOSS_OK) {
        adaloss_request request;
        must(adaloss_apply_request(pass, &request));
        const std::vector<float> sum = sum_of(branches, request.incoming_log2);
        must(adaloss_apply_pass(pass, sum.data(), sum.size(), gradient.elements.data()));
    }
    must(adaloss_scaler_finish_visit(&scaler, &gradient.scale_log2));
    return gradient;
}

void walk() {
    adaloss_config config;
    must(adaloss_policy_recommended(binary16, &config));
    const std::array<std::vector<float>, 2> values{results(1.0e-9F), results(3.0e6F)};

    std::array<adaloss_cell, 3> cells;
    for (adaloss_cell &cell : cells) {
        must(adaloss_policy_cell(&config, &cell));
    }
    const std::array<Gradient, 2> branches{narrow(config, values[0], 0, cells[0]),
                                           narrow(config, values[1], 0, cells[1])};
    expect(branches[0].scale_log2 > 20 && branches[1].scale_log2 < -5, "each branch has a scale of its own");
    const Gradient sum = join(config, branches, cells[2]);
    for (adaloss_cell &cell : cells) {
        must(adaloss_policy_finish(&config, &cell, nullptr));
    }

    std::vector<float> unscaled(sum.elements.size());
    adaloss_unscaled met{};
    must(adaloss_unscale_values(binary16, sum.elements.data(), sum.elements.size(), sum.scale_log2, unscaled.data(),
                                &met));
    expect(met.elements == unscaled.size() && met.nonfinite == 0, "every element is finite");
    for (std::size_t i = 0; i < unscaled.size(); i++) {
        const float exact = values[0][i] + values[1][i];
        expect(std::abs(unscaled[i] - exact) <= std::ldexp(std::abs(exact), -10), "the sum is that of the floats");
    }

    static adaloss_scaler scaler, resumed;
    std::array<adaloss_cell, 3> of_scaler, of_resumed;
    must(adaloss_scaler_init(&scaler, &config, of_scaler.data(), of_scaler.size()));
    must(adaloss_scaler_begin(&scaler));
    std::array<Gradient, 2> visited;
    for (uint32_t i = 0; i < 2; i++) {
        must(adaloss_scaler_layer(&scaler, i, 0));
        visited[i] = narrow(scaler, values[i]);
        expect(visited[i].elements == branches[i].elements, "the scaler narrows to the same bits");
        expect(visited[i].scale_log2 == branches[i].scale_log2, "and at the same scale");
    }
    const Gradient joined = join(scaler, 2, visited);
    expect(joined.elements == sum.elements, "the scaler joins to the same bits");
    expect(joined.scale_log2 == sum.scale_log2, "and at the same scale");
    std::array<adaloss_record, 3> records;
    for (uint32_t i = 0; i < records.size(); i++) {
        must(adaloss_scaler_record(&scaler, adaloss_place{ADALOSS_LAYER, i}, &records[i]));
    }
    adaloss_verdict verdict;
    must(adaloss_scaler_finish(&scaler, &verdict));
    expect(verdict.kind == ADALOSS_VERDICT_APPLY, "the step is usable");
    for (std::size_t i = 0; i < cells.size(); i++) {
        expect(of_scaler[i].scale_log2 == cells[i].scale_log2, "the scales of the next step are the same");
        adaloss_cell repeated;
        must(adaloss_policy_cell(&config, &repeated));
        must(adaloss_policy_repeat(&config, &records[i], &repeated, nullptr));
        expect(repeated.scale_log2 == cells[i].scale_log2, "the record tells the scale again");
    }

    std::array<uint8_t, ADALOSS_CHECKPOINT_BYTES(3)> checkpoint;
    must(adaloss_scaler_save(&scaler, checkpoint.data(), checkpoint.size()));
    must(adaloss_scaler_init(&resumed, &config, of_resumed.data(), of_resumed.size()));
    must(adaloss_scaler_restore(&resumed, checkpoint.data(), checkpoint.size()));
    uint32_t digest = 0, digest_of_resumed = 1;
    must(adaloss_scaler_digest(&scaler, &digest));
    must(adaloss_scaler_digest(&resumed, &digest_of_resumed));
    expect(digest == digest_of_resumed, "a restored scaler is the one that was saved");
    must(adaloss_scaler_clear(&scaler));
    must(adaloss_scaler_clear(&resumed));

    std::printf("branches at 2^%d and 2^%d, their sum at 2^%d; room by room and by a scaler alike\n",
                static_cast<int>(branches[0].scale_log2), static_cast<int>(branches[1].scale_log2),
                static_cast<int>(sum.scale_log2));
}

}  // namespace

int main() {
    try {
        walk();
    } catch (const std::exception &error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
}
