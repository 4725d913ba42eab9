use adaloss_core::{
    apply::Pass,
    format::f16,
    policy::{Cell, Config, Operands, Record, Seen},
    propagate::Scaled,
    scale::Scale,
    scaler::{
        self, CheckpointError, Decision, LossScaler, State, StepError, Streams, Totals, Visit,
        device::{Asked, Conclusion, DeviceState, Entry, Evidence, Line},
        share::{self, Share, ShareError},
    },
    statistics::{Histogram, Outcome},
    unscale::{Cause, LossSum, Place, Unscaled, Verdict},
};

use crate::entries;

/// A runtime's tensor, of which the scaler knows nothing.
type Tensor = u64;
type Step = scaler::Step<'static>;
type OpenVisit = scaler::OpenVisit<'static>;
type Opened = Result<OpenVisit, StepError>;
type Narrowed = Result<Scaled<&'static [f16]>, StepError>;

macro_rules! each_capacity {
    (@ $module:ident $cells:literal $($name:literal => $type:ty = $function:expr;)*) => {
        mod $module {
            use super::*;

            const N: usize = $cells;

            entries! {
                $(concat!($name, "<", stringify!($cells), ">") => $type = $function;)*
            }
        }
    };
    ($($entries:tt)*) => {
        each_capacity!(@ one 1 $($entries)*);
        each_capacity!(@ many 64 $($entries)*);
    };
}

entries! {
    "scaler::OpenVisit::wants_operands" => fn(&OpenVisit) -> bool = OpenVisit::wants_operands;
    "scaler::OpenVisit::describe" => fn(&mut OpenVisit, &Operands) = OpenVisit::describe;
    "scaler::OpenVisit::next_pass" => fn(&'static mut OpenVisit) -> Option<Pass<'static>> =
        OpenVisit::next_pass;
    "scaler::OpenVisit::pass" => fn(&'static mut OpenVisit) -> Option<Pass<'static>> =
        OpenVisit::pass;
    "scaler::OpenVisit::apply" => fn(OpenVisit, &[f32], &'static mut [f16]) -> Narrowed =
        OpenVisit::apply;
    "scaler::OpenVisit::finish" => fn(OpenVisit, Tensor) -> Result<Scaled<Tensor>, StepError> =
        OpenVisit::finish;

    "scaler::Streams::of_micro_batch" => fn(u32) -> Streams = Streams::of_micro_batch;
    "scaler::Streams::next" => fn(&mut Streams, u64, Place) -> u32 = Streams::next;

    "scaler::DeviceState::new" => fn(&Config) -> DeviceState = DeviceState::new;
    "scaler::DeviceState::of" => fn(&State, u32, u64) -> DeviceState = DeviceState::of;
    "scaler::DeviceState::to_state" => fn(&DeviceState, Config) -> State = DeviceState::to_state;
    "scaler::DeviceState::updates" => fn(&DeviceState) -> u32 = DeviceState::updates;
    "scaler::DeviceState::halted" => fn(&DeviceState) -> Option<(Place, Cause)> =
        DeviceState::halted;
    "scaler::DeviceState::go_on" => fn(&mut DeviceState, u64) = DeviceState::go_on;
    "scaler::DeviceState::numbered" => fn(&'static mut DeviceState, u64) -> &'static mut DeviceState =
        DeviceState::numbered;
    "scaler::DeviceState::begin" => fn(&mut DeviceState, &mut [Cell]) = DeviceState::begin;
    "scaler::DeviceState::advance" => fn(
        &mut DeviceState,
        &Config,
        &[Cell],
        &Asked,
        &[Scale],
        &mut Outcome,
        &mut Histogram,
    ) -> Option<[Scale; 2]> = |state, config, cells, asked, sources, outcome, histogram| {
        state.advance(config, cells, asked, sources.iter().copied(), outcome, histogram)
    };
    "scaler::DeviceState::describe" => fn(&mut DeviceState, &Config, &Operands) =
        DeviceState::describe;
    "scaler::DeviceState::close" => fn(
        &mut DeviceState,
        &Config,
        &mut [Cell],
        &[Place],
        &mut Outcome,
        &Histogram,
        (u64, &mut Line),
    ) -> Scale = |state, config, cells, origins, outcome, histogram, line| {
        state.close(config, cells, origins.iter().copied(), outcome, histogram, line)
    };
    "scaler::DeviceState::judge" => fn(
        &mut DeviceState,
        &Config,
        &mut [Cell],
        &Evidence,
        Option<&DeviceState>,
    ) = DeviceState::judge;
    "scaler::DeviceState::judge_loss" => fn(
        &mut DeviceState,
        u64,
        &LossSum,
        Option<&DeviceState>,
        (u64, &mut Line),
    ) = DeviceState::judge_loss;
    "scaler::DeviceState::finish_cell" => fn(&DeviceState, &Config, usize, &mut Cell) =
        DeviceState::finish_cell;
    "scaler::DeviceState::finish" => fn(
        &mut DeviceState,
        &Config,
        &mut [Cell],
        bool,
        (u64, &mut Line),
    ) -> Conclusion = DeviceState::finish;
    "scaler::DeviceState::share" => fn(
        &'static mut DeviceState,
        &'static Config,
        &'static mut [Cell],
    ) -> Share<'static> = DeviceState::share;
    "scaler::Line::entry" => fn(&Line, u64) -> Option<Entry> = Line::entry;
    "scaler::Line::default" => fn() -> Line = Line::default;

    "scaler::message_bytes" => fn(usize) -> usize = share::message_bytes;
    "scaler::merge" => fn(&mut [u8], &[u8]) -> Result<(), ShareError> = share::merge;
    "scaler::Share::pack" => fn(&Share<'static>, &mut [u8]) -> Result<(), ShareError> = Share::pack;
    "scaler::Share::matches" => fn(&Share<'static>, &[u8]) -> Result<(), ShareError> = Share::matches;
    "scaler::Share::unpack" => fn(&mut Share<'static>, &[u8]) -> Result<(), ShareError> =
        Share::unpack;
    "scaler::Share::step" => fn(&Share<'static>) -> u64 = Share::step;
    "scaler::Share::cell_count" => fn(&Share<'static>) -> u32 = Share::cell_count;
    "scaler::Share::configuration" => fn(&Share<'static>) -> u32 = Share::configuration;
    "scaler::Share::part" => fn(&Share<'static>, usize) -> Option<(Option<Place>, u64)> = Share::part;

    "scaler::State::new" => fn(Config) -> State = State::new;
    "scaler::State::begin" => fn(&'static mut State, &'static mut [Cell]) -> Step = State::begin;
    "scaler::State::resume" => fn(&'static mut State, &'static mut [Cell]) -> Step = State::resume;
    "scaler::State::config" => fn(&State) -> &Config = State::config;
    "scaler::State::cell" => fn(&'static State, &'static [Cell], Place) -> Option<&'static Cell> =
        State::cell;
    "scaler::State::totals" => fn(&State) -> Totals = State::totals;
    "scaler::State::add_counts" => fn(&mut State, u64, u64) = State::add_counts;
    "scaler::State::last" => fn(&State) -> Option<Visit> = State::last;
    "scaler::State::record" => fn(&State, &[Cell], Place) -> Option<Record> = State::record;
    "scaler::State::histogram" => fn(&State) -> &Histogram = State::histogram;
    "scaler::State::digest" => fn(&State, &[Cell]) -> u32 = State::digest;
    "scaler::State::checkpoint_bytes" => fn(usize) -> usize = State::checkpoint_bytes;
    "scaler::State::save" => fn(&State, &[Cell], &mut [u8]) -> Result<(), CheckpointError> =
        State::save;
    "scaler::State::restore" => fn(Config, &[u8], &mut [Cell]) -> Result<State, CheckpointError> =
        State::restore;
    "scaler::State::load" => fn(&mut State, &[u8], &mut [Cell]) -> Result<(), CheckpointError> =
        State::load;

    "scaler::Step::loss" => fn(&'static mut Step) -> OpenVisit = Step::loss;
    "scaler::Step::loss_at" => fn(&'static mut Step, usize) -> Opened = Step::loss_at;
    "scaler::Step::layer" => fn(&'static mut Step, usize, &Scaled<Tensor>) -> Opened =
        |step, id, gradient| step.layer(id, gradient);
    "scaler::Step::join" => fn(&'static mut Step, usize, &'static [Scaled<()>]) -> Opened =
        Step::join;
    "scaler::Step::join_scales" => fn(&'static mut Step, usize, &[Scale]) -> Opened =
        |step, id, scales| step.join_scales(id, scales.iter().copied());
    "scaler::Step::open_visit" => fn(&'static mut Step) -> Option<OpenVisit> = Step::open_visit;
    "scaler::Step::unscale" => fn(
        &mut Step,
        usize,
        &Scaled<Tensor>,
        &mut dyn FnMut(&Tensor, f32) -> (Tensor, Unscaled),
    ) -> Tensor = |step, id, gradient, operation| step.unscale(id, gradient, operation);
    "scaler::Step::unscaled" => fn(&mut Step, usize, &Unscaled) = Step::unscaled;
    "scaler::Step::sums_overflowed" => fn(&mut Step, Place) = Step::sums_overflowed;
    "scaler::Step::reject" => fn(&mut Step, Place, Cause) = Step::reject;
    "scaler::Step::micro_batch" => fn(&mut Step, u32) = Step::micro_batch;
    "scaler::Step::last" => fn(&Step) -> Option<Visit> = Step::last;
    "scaler::Step::histogram" => fn(&Step) -> &Histogram = Step::histogram;
    "scaler::Step::first_bad" => fn(&Step) -> Option<(Place, Cause)> = Step::first_bad;
    "scaler::Step::tiny" => fn(&Step) -> u64 = Step::tiny;
    "scaler::Step::share" => fn(&'static mut Step) -> Share<'static> = Step::share;
    "scaler::Step::seen" => fn(&Step, Place) -> Seen = Step::seen;
    "scaler::Step::set_seen" => fn(&mut Step, Place, Seen) -> Result<(), StepError> =
        Step::set_seen;
    "scaler::Step::finish" => fn(Step) -> Verdict = Step::finish;
    "scaler::Step::record" => fn(&Step, Place) -> Option<Record> = Step::record;
}

each_capacity! {
    "scaler::LossScaler::new" => fn(Config) -> LossScaler<N> = LossScaler::new;
    "scaler::LossScaler::begin" => fn(&'static mut LossScaler<N>) -> Step =
        LossScaler::begin;
    "scaler::LossScaler::config" => fn(&LossScaler<N>) -> &Config = LossScaler::config;
    "scaler::LossScaler::cell" => fn(&LossScaler<N>, Place) -> Option<&Cell> = LossScaler::cell;
    "scaler::LossScaler::totals" => fn(&LossScaler<N>) -> Totals = LossScaler::totals;
    "scaler::LossScaler::decisions" => fn(&LossScaler<N>, &mut dyn FnMut(&Decision)) =
        |scaler, each| scaler.decisions().for_each(each);
    "scaler::LossScaler::histogram" => fn(&LossScaler<N>) -> &Histogram = LossScaler::histogram;
    "scaler::LossScaler::digest" => fn(&LossScaler<N>) -> u32 = LossScaler::digest;
    "scaler::LossScaler::save" => fn(&LossScaler<N>, &mut [u8]) -> Result<(), CheckpointError> =
        LossScaler::save;
    "scaler::LossScaler::restore" => fn(Config, &[u8]) -> Result<LossScaler<N>, CheckpointError> =
        LossScaler::restore;
}
