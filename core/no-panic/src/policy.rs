use adaloss_core::{
    format::{E4M3, E5M2, Format, Narrowing, Overflow, Rounding, bf16, f16},
    policy::{
        Backoff, Cell, Certificate, Config, ConfigError, Factor, Fraction, Growth, Measured,
        Normal, Operands, Policy, Preset, Range, Record, Recovery, Seen, ShapeError, Terms,
        Trigger, Window, breaks_promise, certify, decide_from_operands, decide_join, due, finish,
        join_target, note, outgoing, paper_join_target, recover, repeat, step,
    },
    scale::Scale,
    statistics::{Histogram, Outcome},
};

use crate::{each_element, entries};

type Fits<'a> = &'a dyn Fn(Scale) -> bool;

// The policy is part of a configuration that is not known here: every entry is for all of them.
entries! {
    "policy::due" => fn(&Config, &Cell) -> Option<Trigger> = due;
    "policy::certify" => fn(&Config, &Histogram, Scale, &mut Cell) -> Certificate = certify;
    "policy::breaks_promise" => fn(&Config, &Outcome, &Cell) -> bool = breaks_promise;
    "policy::decide_from_operands" => fn(&Config, &Operands, Scale, &mut Cell) -> Certificate =
        decide_from_operands;
    "policy::decide_join" => fn(
        &Config,
        &Outcome,
        Scale,
        &dyn Fn(Fits<'_>) -> Option<Scale>,
        &mut Cell,
    ) -> Certificate =
        |config, outcome, incoming, pick, cell| {
            decide_join(config, outcome, incoming, pick, cell)
        };
    "policy::outgoing" => fn(&Config, &Cell, Scale) -> Scale = outgoing;
    "policy::note" => fn(&Config, &Outcome, Scale, &mut Cell) -> Option<Scale> = note;
    "policy::finish" => fn(&Config, &mut Cell) -> Record = finish;
    "policy::repeat" => fn(&Config, &Record, &mut Cell) -> bool = repeat;
    "policy::Record::seen" => fn(Record) -> Seen = Record::seen;
    "policy::Seen::merge" => fn(&mut Seen, &Seen) = Seen::merge;
    "policy::step" => fn(&Config, bool, &mut Cell) = step;
    "policy::recover" => fn(&Config, &Outcome, Scale) -> Option<Scale> = recover;
    "policy::join_target" => fn(&[Scale], Fits<'_>) -> Option<Scale> =
        |scales, fits| join_target(scales.iter().copied(), fits);
    "policy::paper_join_target" => fn(&[(f32, Scale)], f32) -> Option<Scale> =
        |branches, largest| paper_join_target(branches.iter().copied(), largest);

    "policy::Backoff::chainer" => fn(u32) -> Result<Backoff, ConfigError> = Backoff::chainer;
    "policy::Growth::of" => fn(&Cell) -> Growth = Growth::of;
    "policy::Factor::of" => fn(&Cell) -> Factor = Factor::of;
    "policy::Measured::for_format" => fn(Format) -> Measured = Measured::for_format;
    "policy::Measured::window" => fn(&Measured, &Histogram) -> Window = Measured::window;
    "policy::Normal::new" => fn(Format, f64) -> Result<Normal, ConfigError> = Normal::new;
    "policy::Normal::paper" => fn(Format) -> Normal = Normal::paper;
    "policy::Normal::with_paper_caps" => fn(Normal, f32, f32) -> Normal = Normal::with_paper_caps;
    "policy::Normal::factor" => fn(&Normal, &Operands) -> Option<f32> = Normal::factor;
    "policy::Normal::bounded" => fn(&Normal, f32, Scale) -> f32 = Normal::bounded;
    "policy::Range::new" => fn(Format) -> Range = Range::new;
    "policy::Range::factor" => fn(&Range, &Operands) -> Option<f32> = Range::factor;

    "policy::Cell::new" => fn() -> Cell = Cell::new;
    "policy::Cell::default" => fn() -> Cell = Cell::default;
    "policy::Cell::at" => fn(Scale) -> Cell = Cell::at;
    "policy::Cell::scale" => fn(&Cell) -> Scale = Cell::scale;
    "policy::Cell::age" => fn(&Cell) -> u32 = Cell::age;
    "policy::Cell::trigger" => fn(&Cell) -> Trigger = Cell::trigger;
    "policy::Cell::is_calibrated" => fn(&Cell) -> bool = Cell::is_calibrated;
    "policy::Cell::is_promised" => fn(&Cell) -> bool = Cell::is_promised;
    "policy::Cell::is_possible" => fn(&Cell, &Config) -> bool = Cell::is_possible;
    "policy::Cell::seen" => fn(&Cell) -> Seen = Cell::seen;
    "policy::Cell::set_seen" => fn(&mut Cell, Seen) = Cell::set_seen;
    "policy::Cell::sums_overflowed" => fn(&mut Cell) = Cell::sums_overflowed;
    "policy::Cell::to_bytes" => fn(&Cell) -> [u8; Cell::BYTES] = Cell::to_bytes;
    "policy::Cell::from_bytes" => fn(&[u8; Cell::BYTES]) -> Option<Cell> = Cell::from_bytes;
    "policy::Window::width" => fn(Window) -> u32 = Window::width;

    "policy::Fraction::new" => fn(f64) -> Result<Fraction, ConfigError> = Fraction::new;
    "policy::Fraction::from_bits" => fn(u32) -> Fraction = Fraction::from_bits;
    "policy::Fraction::bits" => fn(Fraction) -> u32 = Fraction::bits;
    "policy::Fraction::to_f64" => fn(Fraction) -> f64 = Fraction::to_f64;
    "policy::Fraction::of" => fn(Fraction, u64) -> u64 = Fraction::of;

    "policy::Policy::named" => fn(&str, Format) -> Option<Policy> = Policy::named;
    "policy::Policy::number" => fn(&Policy) -> u8 = Policy::number;
    "policy::Policy::name" => fn(&Policy) -> &'static str = Policy::name;
    "policy::Policy::is_whole_model" => fn(&Policy) -> bool = Policy::is_whole_model;
    "policy::Policy::follows_maxima" => fn(&Policy) -> bool = Policy::follows_maxima;
    "policy::Policy::wants_operands" => fn(&Policy) -> bool = Policy::wants_operands;

    "policy::Config::for_format" => fn(Format) -> Config = Config::for_format;
    "policy::Config::preset" => fn(Preset, Format) -> Config = Config::preset;
    "policy::Config::with_policy" => fn(Config, Policy) -> Result<Config, ConfigError> =
        Config::with_policy;
    "policy::Config::with_period" => fn(Config, u32) -> Result<Config, ConfigError> =
        Config::with_period;
    "policy::Config::with_rounding" => fn(Config, Rounding, u32) -> Config = Config::with_rounding;
    "policy::Config::with_overflow" => fn(Config, Overflow) -> Config = Config::with_overflow;
    "policy::Config::with_recovery" => fn(Config, Recovery) -> Config = Config::with_recovery;
    "policy::Config::with_max_skips" => fn(Config, u32) -> Result<Config, ConfigError> =
        Config::with_max_skips;
    "policy::Config::policy" => fn(&Config) -> &Policy = Config::policy;
    "policy::Config::narrowing" => fn(&Config) -> Narrowing = Config::narrowing;
    "policy::Config::period" => fn(&Config) -> u32 = Config::period;
    "policy::Config::seed" => fn(&Config) -> u32 = Config::seed;
    "policy::Config::recovery" => fn(&Config) -> Recovery = Config::recovery;
    "policy::Config::max_skips" => fn(&Config) -> u32 = Config::max_skips;
    "policy::Config::replays" => fn(&Config) -> bool = Config::replays;
    "policy::Config::cell" => fn(&Config) -> Cell = Config::cell;
    "policy::Config::to_bytes" => fn(&Config) -> [u8; Config::BYTES] = Config::to_bytes;
}

each_element! {
    "policy::Terms::of" => fn(&[F], &[F], usize, u32) -> Result<Terms, ShapeError> = Terms::of;
}
