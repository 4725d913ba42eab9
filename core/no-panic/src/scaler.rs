use core::convert::Infallible;

use adaloss_core::{
    apply::Pass,
    policy::{Cell, Config, Operands, Record, Seen},
    propagate::Scaled,
    scale::{Scale, Shift},
    scaler::{self, CheckpointError, Decision, LossScaler, State, StepError, Totals, Visit},
    statistics::Histogram,
    unscale::{Cause, Place, Unscaled, Verdict},
};

use crate::entries;

/// A runtime's tensor, of which the scaler knows nothing.
type Tensor = u64;
/// What the caller's pass returns.
type Passed = Result<Tensor, u32>;
type Step = scaler::Step<'static>;
type Branches = scaler::Branches<'static, Tensor>;
type Visited = Result<Scaled<Tensor>, StepError<u32>>;
type Run<'a> = &'a mut dyn FnMut(&Tensor, &mut Pass<'_>) -> Passed;
type Describe<'a> = &'a mut dyn FnMut(&Tensor) -> Operands;

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
    "scaler::Branches::iter" => fn(&Branches, &mut dyn FnMut((&Tensor, Shift))) =
        |branches, each| branches.iter().for_each(each);
    "scaler::Branches::scaled" => fn(&Branches) -> &'static [Scaled<&'static Tensor>] =
        Branches::scaled;

    "scaler::State::new" => fn(Config) -> State = State::new;
    "scaler::State::begin" => fn(&'static mut State, &'static mut [Cell]) -> Step = State::begin;
    "scaler::State::resume" => fn(&'static mut State, &'static mut [Cell]) -> Step = State::resume;
    "scaler::State::config" => fn(&State) -> &Config = State::config;
    "scaler::State::cell" => fn(&'static State, &'static [Cell], Place) -> Option<&'static Cell> =
        State::cell;
    "scaler::State::totals" => fn(&State) -> Totals = State::totals;
    "scaler::State::last" => fn(&State) -> Option<&Visit> = State::last;
    "scaler::State::histogram" => fn(&State) -> &Histogram = State::histogram;
    "scaler::State::digest" => fn(&State, &[Cell]) -> u32 = State::digest;
    "scaler::State::checkpoint_bytes" => fn(usize) -> usize = State::checkpoint_bytes;
    "scaler::State::save" => fn(&State, &[Cell], &mut [u8]) -> Result<(), CheckpointError> =
        State::save;
    "scaler::State::restore" => fn(Config, &[u8], &mut [Cell]) -> Result<State, CheckpointError> =
        State::restore;
    "scaler::State::load" => fn(&mut State, &[u8], &mut [Cell]) -> Result<(), CheckpointError> =
        State::load;

    "scaler::Step::loss" => fn(&mut Step, &Tensor, Run<'_>) -> Visited =
        |step, gradient, run| step.loss(gradient, run);
    "scaler::Step::loss_with" => fn(&mut Step, &Tensor, Describe<'_>, Run<'_>) -> Visited =
        |step, gradient, operands, run| step.loss_with(gradient, operands, run);
    "scaler::Step::loss_at" => fn(&mut Step, usize, &Tensor, Run<'_>) -> Visited =
        |step, id, gradient, run| step.loss_at(id, gradient, run);
    "scaler::Step::loss_at_with" =>
        fn(&mut Step, usize, &Tensor, Describe<'_>, Run<'_>) -> Visited =
        |step, id, gradient, describe, run| step.loss_at_with(id, gradient, describe, run);
    "scaler::Step::layer" => fn(&mut Step, usize, &Scaled<Tensor>, Run<'_>) -> Visited =
        |step, id, gradient, run| step.layer(id, gradient, run);
    "scaler::Step::layer_with" => fn(
        &mut Step,
        usize,
        &Scaled<Tensor>,
        Describe<'_>,
        Run<'_>,
    ) -> Visited = |step, id, gradient, operands, run| step.layer_with(id, gradient, operands, run);
    "scaler::Step::join" => fn(
        &mut Step,
        usize,
        &[Scaled<&Tensor>],
        &mut dyn FnMut(&scaler::Branches<'_, Tensor>, &mut Pass<'_>) -> Passed,
    ) -> Visited = |step, id, branches, run| step.join(id, branches, run);
    "scaler::Step::join_scales" => fn(
        &mut Step,
        usize,
        &[Scale],
        &mut dyn FnMut(&mut Pass<'_>) -> Passed,
    ) -> Visited = |step, id, scales, run| step.join_scales(id, scales.iter().copied(), run);
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
    "scaler::Step::last" => fn(&Step) -> Option<&Visit> = Step::last;
    "scaler::Step::histogram" => fn(&Step) -> &Histogram = Step::histogram;
    "scaler::Step::first_bad" => fn(&Step) -> Option<(Place, Cause)> = Step::first_bad;
    "scaler::Step::tiny" => fn(&Step) -> u64 = Step::tiny;
    "scaler::Step::seen" => fn(&Step, Place) -> Seen = Step::seen;
    "scaler::Step::set_seen" => fn(&mut Step, Place, Seen) -> Result<(), StepError<Infallible>> =
        Step::set_seen;
    "scaler::Step::finish" => fn(Step) -> Verdict = Step::finish;
    "scaler::Step::finish_with" => fn(Step, &mut dyn FnMut(Place, Record)) -> Verdict =
        |step, record| step.finish_with(record);
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
