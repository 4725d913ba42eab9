//! The accelerator passes the suite, and no sabotaged one does.

use adaloss_conformance as conformance;
use adaloss_conformance::{self, Failure};
use adaloss_core::format::f16;

use crate::{memory::Accelerator, sabotage::Sabotage};

#[test]
fn an_accelerator_with_a_queue_conforms() -> Result<(), Failure> {
    let mut device = Accelerator::new();
    conformance::memory(&mut device)?;
    conformance::narrow::<f16, _>(&mut device)?;
    conformance::scaler::<f16, _>(&mut device)?;
    conformance::described::<f16, _>(&mut device)?;
    let report = conformance::matmul::<f16, f16, f16, _>(&mut device)?;
    assert!(report.to_string().ends_with("the device has no sums in order"), "{report}");
    Ok(())
}

#[test]
fn an_accelerator_that_can_do_less_conforms_and_refuses_the_rest() -> Result<(), Failure> {
    let mut device = Accelerator::flushing();
    let report = conformance::narrow::<f16, _>(&mut device)?;
    assert!(report.to_string().contains("no subnormals; the device has no stochastic rounding"));
    let all = conformance::narrow::<f16, _>(&mut Accelerator::new())?;
    assert!(report.operations < all.operations && report.refusals > all.refusals);
    conformance::scaler::<f16, _>(&mut device)?;
    conformance::matmul::<f16, f16, f16, _>(&mut device)?;
    Ok(())
}

/// Returns what the suite says to a sabotaged accelerator.
fn verdict(sabotage: Sabotage) -> String {
    let mut device = Accelerator::sabotaged(sabotage);
    let result = conformance::memory(&mut device)
        .and_then(|_| conformance::narrow::<f16, _>(&mut device))
        .and_then(|_| conformance::scaler::<f16, _>(&mut device))
        .and_then(|_| conformance::matmul::<f16, f16, f16, _>(&mut device));
    match result {
        Ok(report) => panic!("{sabotage:?} passed: {report}"),
        Err(failure) => failure.to_string(),
    }
}

macro_rules! caught {
    ($($name:ident: $sabotage:ident, $check:literal, $message:literal;)+) => {$(
        #[test]
        fn $name() {
            let said = verdict(Sabotage::$sabotage);
            assert!(said.starts_with($check), "{said}");
            assert!(said.contains($message), "{said}");
        }
    )+};
}

caught! {
    copies_beside_their_part: IgnoresOffsets, "part,",
        "an element in or beside a part that was written differs";
    // 2^-25 is halfway between zero and the smallest binary16.
    ties_that_round_up: TiesUp, "apply,",
        "NearestEven Infinity, storing: element 4, 2.9802322e-8 (0x33000000), should be 0x0 and the device has 0x1";
    nan_that_passes_unseen: DropsNonFinite, "apply,",
        "the outcome's non-finite elements should be 25769803782 and the device has 25769803775";
    a_shift_that_is_off_by_one: ShiftOffByOne, "apply,",
        "from 2^0 to 2^0 in Binary16 Gradual NearestEven Infinity, storing: element 2,";
    a_shift_that_rounds_twice: MultipliesInF32, "apply,",
        "the outcome's non-finite elements should be 25769803782 and the device has 25769803784";
    a_random_word_used_twice: RepeatsNoise, "apply,", "Stochastic Saturate, storing and measuring: element 27,";
    a_measurement_that_stores: StoresWhenMeasuring, "apply,",
        "element 1 of the buffer should have kept 0x5b5b and the device has 0x0";
    an_outcome_that_forgets: OverwritesOutcome, "apply,",
        "the outcome's elements should be 90194313322 and the device has 107";
    a_counter_that_wraps: NarrowCounters, "apply,",
        "storing: the outcome's elements should be 90194313322 and the device has 90194247786";
    a_statistic_that_wraps: NarrowStatistics, "statistics,", "zero";
    an_unscaled_count_that_wraps: NarrowUnscaled, "unscale,", "the count of tiny results";
    a_histogram_that_is_not_added: ForgetsHistogram, "apply,",
        "the histogram's elements should be 112 and the device has 77";
    a_histogram_of_scaled_values: IgnoresIncomingScale, "apply,",
        "the number of elements whose least scale is 2^-41 should be 2 and the device has 0";
    a_join_of_different_scales: JoinsWithoutScales, "propagate of 1,", "element 0,";
    a_gradient_scaled_twice: UnscalesTheWrongWay, "unscale,",
        "element 1, 5.9604645e-8 (0x33800000), should be 0x72800000 and the device has 0x0";
    a_minimum_that_takes_zero: LeastIsZero, "statistics,", "the least magnitude (bits)";
    a_predicate_that_is_ignored: IgnoresPredicates, "statistics,",
        "with a predicate of 0: the statistics of an operation that is off";
    counts_that_a_scaler_leaves: KeepsCounts, "a visit,", "the outcome's elements should be";
    a_join_at_the_first_scale: JoinsAtTheFirst, "a visit,", "the scale that it arrives with";
    a_visit_without_consequence: ForgetsCells, "a visit,", "the scale that it leaves with";
    a_step_that_ends_for_one_cell: FinishesTheFirst, "the cells of a scaler,",
        "the cell's scale should be";
    weights_that_are_always_updated: AppliesAlways, "two scalers that share the weights,",
        "whether the step applies should be 0 and the device has 1";
    a_scaler_that_hears_of_no_other: IgnoresTheOther, "two scalers that share the weights,",
        "the verdict differs";
    an_operand_read_as_it_lies: IgnoresTranspose, "matmul of small integers,",
        "elements of (2 x 3) (5 x 3)^T from";
    a_bias_that_is_left_out: StartsAtZero, "matmul of small integers from a bias,", "element 0,";
    a_bias_of_each_part: StartsEachPart, "matmul in any order from a bias,", "should be in";
    sums_in_low_precision: NarrowAccumulator, "matmul in any order from a bias,", "should be in";
    an_operand_without_nan: FlushesNan, "matmul with NaN and infinity,",
        "element 0, NaN (0x7fc00000), should be 0x7e00 and the device has";
}
