//! The device without a mistake passes the suite, and no mistaken one does.

use adaloss_conformance as conformance;
use adaloss_conformance::{Failure, Report};
use adaloss_core::format::{E4M3, bf16, f16};
use adaloss_hal::Capabilities;

use crate::{device::Mistaken, mistake::Mistake};

#[test]
fn a_device_without_a_mistake_conforms() -> Result<(), Failure> {
    for capabilities in capabilities() {
        let mut device = Mistaken { mistake: Mistake::None, capabilities };
        conformance::network::<f16, f16, _>(&mut device)?;
        conformance::network::<bf16, E4M3, _>(&mut device)?;
    }
    Ok(())
}

/// Everything, sums in any order, and a device that flushes and does not round at random.
fn capabilities() -> [Capabilities; 3] {
    let mut any_order = Capabilities::ALL;
    any_order.sequential_sums = false;
    let mut fewest = any_order;
    (fewest.subnormals, fewest.stochastic_rounding) = (false, false);
    [Capabilities::ALL, any_order, fewest]
}

/// Returns what the suite says to a device, whatever that says it can do.
fn verdict(mistake: Mistake, check: fn(&mut Mistaken) -> Result<Report, Failure>) -> [String; 3] {
    capabilities().map(|capabilities| match check(&mut Mistaken { mistake, capabilities }) {
        Ok(report) => panic!("{mistake:?} passed: {report}"),
        Err(failure) => failure.to_string(),
    })
}

fn convolve(device: &mut Mistaken) -> Result<Report, Failure> {
    conformance::convolve::<f16, f16, f32, _>(device)
}

macro_rules! caught {
    ($($name:ident: $mistake:ident, $check:expr, $says:literal;)+) => {$(
        #[test]
        fn $name() {
            for said in verdict(Mistake::$mistake, $check) {
                assert!(said.starts_with($says), "{said}");
            }
        }
    )+};
}

caught! {
    a_mirrored_kernel: MirrorsKernel, convolve, "convolve of small integers,";
    padding_off_by_one: ShiftsPadding, convolve, "convolve of small integers from a bias,";
    a_group_that_is_ignored: IgnoresGroups, convolve, "convolve of small integers,";
    dilation_that_is_ignored: IgnoresDilation, convolve, "convolve of small integers,";
    a_bias_that_is_left_out: StartsAtZero, convolve, "convolve of small integers from a bias,";
    a_bias_of_each_part: StartsEachPart, convolve, "convolve in ";
    a_convolution_in_16_bits: NarrowAccumulator, convolve, "convolve";
    an_image_that_is_left_out: ForgetsAnImage, convolve, "convolve_weight of small integers,";
    an_impossible_convolution: TakesImpossibleShapes, convolve, "convolve refused,";

    a_maximum_without_nan: DropsNan, conformance::pool::<f16, _>, "max_pool,";
    the_last_of_equal_elements: TakesTheLast, conformance::pool::<f16, _>, "max_pool,";
    padding_that_is_seen: SeesPadding, conformance::pool::<f16, _>, "max_pool,";
    overlaps_that_are_unpooled: UnpoolsOverlaps, conformance::pool::<f16, _>, "unpool,";
    a_mean_without_padding: ForgetsPaddingInMeans, conformance::pool::<f16, _>, "average_pool,";
    a_gradient_overwritten: OverwritesGradients, conformance::pool::<f16, _>, "max_pool_input,";

    an_unbiased_variance: UnbiasedVariance, conformance::normalise::<f16, f16, _>, "moments,";
    a_variance_in_one_pass: OnePassVariance, conformance::normalise::<f16, f16, _>, "moments,";
    a_variance_in_one_pass_of_f32: OnePassVariance, conformance::normalise::<f32, f32, _>,
        "moments,";
    a_mean_in_16_bits: NarrowAccumulator, conformance::normalise::<f16, f16, _>, "moments,";
    moments_about_a_mean: CentresMoments, conformance::normalise::<f16, f16, _>, "moments,";
    a_gradient_about_a_mean: CentresGradients, conformance::normalise::<f16, f16, _>,
        "normalise_input,";
    no_epsilon: ForgetsEpsilon, conformance::normalise::<f16, f16, _>, "normalise,";
    no_offset: ForgetsOffset, conformance::normalise::<f16, f16, _>, "normalise,";
    a_wrong_moment: WrongMoment, conformance::normalise::<f16, f16, _>, "normalise,";
    a_gain_without_mean: SumsWithoutMean, conformance::normalise::<f16, f16, _>, "normalise_sums,";
    a_mean_that_stays: KeepsMeanGradient, conformance::normalise::<f16, f16, _>,
        "normalise_input,";
    a_variance_that_stays: KeepsVarianceGradient, conformance::normalise::<f16, f16, _>,
        "normalise_input,";

    a_zero_with_a_sign: KeepsMinusZero, conformance::pointwise::<f16, f16, _>, "relu,";
    a_nan_that_is_rectified: RectifiesNan, conformance::pointwise::<f16, f16, _>, "relu,";
    a_nan_that_gates: GatesNan, conformance::pointwise::<f16, f16, _>, "relu_input,";
    a_mask_without_gain: ForgetsGain, conformance::dropout::<f16, _>, "dropout,";
    a_mask_that_repeats: RepeatsNoise, conformance::dropout::<f16, _>, "dropout,";
    a_bias_of_one_row: FirstRowOnly, conformance::accumulate, "accumulate,";
    a_blend_of_the_old: SwapsBlend, conformance::accumulate, "blend,";
    a_token_that_is_clamped: ClampsTokens, conformance::embed::<f16, f16, _>, "embed,";
    a_row_overwritten: OverwritesRows, conformance::embed::<f16, f16, _>, "embed_table,";

    a_mask_off_by_one: SeesTheFuture, conformance::attend::<f16, f16, _>, "attend,";
    a_softmax_that_overflows: ForgetsMaximum, conformance::attend::<f16, f16, _>, "attend,";
    scores_over_the_width: DividesByWidth, conformance::attend::<f16, f16, _>, "attend,";
    keys_without_the_root: ForgetsRoot, conformance::attend::<f16, f16, _>, "attend_input,";
    keys_for_values: SwapsKeysAndValues, conformance::attend::<f16, f16, _>, "attend_input,";

    a_gradient_over_all_rows: DividesByRows, conformance::loss, "softmax_cross_entropy,";
    a_tie_that_is_right: CountsTies, conformance::loss, "softmax_cross_entropy,";
    a_row_that_does_not_count: CountsIgnoredRows, conformance::loss, "softmax_cross_entropy,";
    classes_without_weights: ForgetsWeights, conformance::loss, "softmax_cross_entropy,";
    a_nan_that_is_hidden: HidesNan, conformance::loss, "softmax_cross_entropy,";
    a_loss_in_f32: SumsInF32, conformance::loss, "softmax_cross_entropy,";

    a_norm_in_f32: NormInF32, conformance::update, "square_norm";
    a_gradient_unclipped: IgnoresClipping, conformance::update, "sgd,";
    a_gradient_always_clipped: AlwaysClips, conformance::update, "sgd,";
    a_momentum_too_late: OldMomentum, conformance::update, "sgd,";
    a_biased_moment: ForgetsBias, conformance::update, "adamw,";
    a_decay_in_the_moments: CouplesDecay, conformance::update, "adamw,";
    no_epsilon_in_adamw: ForgetsEpsilon, conformance::update, "adamw,";
}
