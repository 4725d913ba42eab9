use adaloss_core::{
    format::{E4M3, E5M2, Fate, Narrowing, bf16, f16},
    scale::Scale,
    statistics::{
        Classes, ExactSum, Histogram, LogStatistics, MergeError, Moments, Outcome, Statistics,
    },
};

use crate::{each_element, entries};

entries! {
    "statistics::Classes::new" => fn(Narrowing) -> Classes = Classes::new;
    "statistics::Classes::of" => fn(Classes, f32) -> Option<usize> = Classes::of;
    "statistics::Classes::example" => fn(Classes, usize) -> f32 = Classes::example;

    "statistics::ExactSum::add<6>" => fn(&mut ExactSum<6>, u64, u32, bool) = ExactSum::add;
    "statistics::ExactSum::add<10>" => fn(&mut ExactSum<10>, u64, u32, bool) = ExactSum::add;
    "statistics::ExactSum::merge<6>" => fn(&mut ExactSum<6>, &ExactSum<6>) = ExactSum::merge;
    "statistics::ExactSum::merge<10>" => fn(&mut ExactSum<10>, &ExactSum<10>) = ExactSum::merge;
    "statistics::ExactSum::is_negative<6>" => fn(&ExactSum<6>) -> bool = ExactSum::is_negative;
    "statistics::ExactSum::is_negative<10>" => fn(&ExactSum<10>) -> bool = ExactSum::is_negative;
    "statistics::ExactSum::magnitude<6>" => fn(&ExactSum<6>) -> [u64; 6] = ExactSum::magnitude;
    "statistics::ExactSum::magnitude<10>" => fn(&ExactSum<10>) -> [u64; 10] = ExactSum::magnitude;
    "statistics::ExactSum::to_f64<6>" => fn(&ExactSum<6>, i32) -> f64 = ExactSum::to_f64;
    "statistics::ExactSum::to_f64<10>" => fn(&ExactSum<10>, i32) -> f64 = ExactSum::to_f64;

    "statistics::Histogram::new" => fn(Narrowing) -> Histogram = Histogram::new;
    "statistics::Histogram::clear" => fn(&mut Histogram) = Histogram::clear;
    "statistics::Histogram::narrowing" => fn(&Histogram) -> Narrowing = Histogram::narrowing;
    "statistics::Histogram::observe" => fn(&mut Histogram, &[f32], Scale) = Histogram::observe;
    "statistics::Histogram::observe_one" => fn(&mut Histogram, f32, Scale) =
        Histogram::observe_one;
    "statistics::Histogram::words_of" => fn(Narrowing, f32, Scale) -> (usize, Option<usize>) =
        Histogram::words_of;
    "statistics::Histogram::merge" => fn(&mut Histogram, &Histogram) -> Result<(), MergeError> =
        Histogram::merge;
    "statistics::Histogram::counts_mut" => fn(&mut Histogram) = |histogram| {
        histogram.counts_mut().for_each(|count| *count = 0);
    };
    "statistics::Histogram::elements" => fn(&Histogram) -> u64 = Histogram::elements;
    "statistics::Histogram::nonfinite" => fn(&Histogram) -> u64 = Histogram::nonfinite;
    "statistics::Histogram::nonzero" => fn(&Histogram) -> u64 = Histogram::nonzero;
    "statistics::Histogram::underflow" => fn(&Histogram, Scale) -> u64 = Histogram::underflow;
    "statistics::Histogram::overflow" => fn(&Histogram, Scale) -> u64 = Histogram::overflow;
    "statistics::Histogram::least_scale" => fn(&Histogram, u64) -> Option<Scale> =
        Histogram::least_scale;
    "statistics::Histogram::greatest_scale" => fn(&Histogram) -> Option<Scale> =
        Histogram::greatest_scale;
    "statistics::Histogram::lost_mass" => fn(&Histogram, Scale) -> u32 = Histogram::lost_mass;
    "statistics::Histogram::least_scale_by_mass" => fn(&Histogram, u32) -> Option<Scale> =
        Histogram::least_scale_by_mass;
    "statistics::Histogram::floors" => fn(&Histogram, &mut dyn FnMut((i32, u64))) =
        |histogram, each| histogram.floors().for_each(each);

    "statistics::Moments::add" => fn(&mut Moments, f32) = Moments::add;
    "statistics::Moments::term" => fn(f32) -> (u32, u32) = Moments::term;
    "statistics::Moments::merge" => fn(&mut Moments, &Moments) = Moments::merge;
    "statistics::Moments::count" => fn(&Moments) -> u64 = Moments::count;
    "statistics::Moments::mean" => fn(&Moments) -> Option<f64> = Moments::mean;
    "statistics::Moments::standard_deviation" => fn(&Moments) -> Option<f64> =
        Moments::standard_deviation;

    "statistics::Statistics::observe" => fn(&mut Statistics, f32) = Statistics::observe;
    "statistics::Statistics::merge" => fn(&mut Statistics, &Statistics) = Statistics::merge;
    "statistics::Statistics::extremes" => fn(&Statistics) -> Option<(f32, f32)> =
        Statistics::extremes;
    "statistics::LogStatistics::observe" => fn(&mut LogStatistics, f32) = LogStatistics::observe;
    "statistics::LogStatistics::merge" => fn(&mut LogStatistics, &LogStatistics) =
        LogStatistics::merge;

    "statistics::Outcome::record" => fn(&mut Outcome, f32, Fate) = Outcome::record;
    "statistics::Outcome::merge" => fn(&mut Outcome, &Outcome) = Outcome::merge;
    "statistics::Outcome::nonzero" => fn(&Outcome) -> u64 = Outcome::nonzero;
    "statistics::Outcome::underflow_fraction" => fn(&Outcome) -> f64 = Outcome::underflow_fraction;
    "statistics::Outcome::max_abs" => fn(&Outcome) -> f32 = Outcome::max_abs;
}

each_element! {
    "statistics::Statistics::of" => fn(&[F]) -> Statistics = Statistics::of;
    "statistics::LogStatistics::of" => fn(&[F]) -> LogStatistics = LogStatistics::of;
}
