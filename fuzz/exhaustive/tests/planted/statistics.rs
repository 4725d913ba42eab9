//! Mistakes in floors, ceilings and their counts.

use adaloss_core::{
    format::{Narrowing, Shifts},
    scale::Scale,
    statistics::Histogram,
};

use super::{Planted, block_of};

#[test]
fn floors_and_ceilings_off_by_one() {
    let shifts: fn(_, _) -> _ = |narrowing: Narrowing, x: f32| {
        let fraction = x.to_bits() & 0x7f_ffff;
        narrowing.shifts(x).map(|Shifts { least, greatest }| Shifts {
            // A power of two loses a tie with zero; 1.875 is where E5M2 begins to overflow.
            least: least - i32::from(fraction == 0),
            greatest: greatest + i32::from(fraction == 0x70_0000),
        })
    };
    let off_by_one = Planted { shifts: Some(shifts), ..Planted::default() };
    let job = "E5M2 nearest even from f32";
    // Both signs, gradual and flushed.
    let described = "the shifts of 0x40000000 (2e0) are Some(Shifts { least: -18, greatest: 14 }) \
                     instead of Some(Shifts { least: -17, greatest: 14 })";
    off_by_one.is_found(job, block_of(2.0), 4, described);
    let described = "the shifts of 0x3ff00000 (1.875e0) are Some(Shifts { least: -17, greatest: 15";
    off_by_one.is_found(job, block_of(1.875), 4, described);
    off_by_one.is_missed(job, block_of(1.5));
}

/// The last value of a slice is lost, or taken for something else.
#[test]
fn histograms_that_count_wrongly() {
    fn but_the_last(histogram: &mut Histogram, values: &[f32], incoming: Scale) {
        let (_, values) = values.split_last().expect("values");
        histogram.observe(values, incoming);
    }
    let wrong: [fn(&mut Histogram, &[f32], Scale); 5] = [
        but_the_last,
        |histogram, values, incoming| {
            but_the_last(histogram, values, incoming);
            histogram.observe_one(0.0, incoming);
        },
        |histogram, values, incoming| {
            but_the_last(histogram, values, incoming);
            histogram.observe_one(f32::NAN, incoming);
        },
        // A binade too low, and the greatest of its own: that has another ceiling in E4M3 alone.
        |histogram, values, incoming| {
            but_the_last(histogram, values, incoming);
            histogram.observe_one(values[0] / 2.0, incoming);
        },
        |histogram, values, incoming| {
            but_the_last(histogram, values, incoming);
            histogram.observe_one(values[0] * 1.9, incoming);
        },
    ];
    for (nth, observe) in wrong.into_iter().enumerate() {
        let planted = Planted { observe: Some(observe), ..Planted::default() };
        let block = block_of(1.5);
        let found = planted.tally("E4M3 toward zero from f32", block);
        assert_eq!(found.mismatches, 2, "{nth}");
        assert!(found.first[0].contains("were counted as Histogram"), "{}", found.first[0]);
    }
}
