//! One visit, on the device and on the host.

use adaloss_core::{
    apply::Apply,
    format::{Element, Format},
    policy,
    propagate::Scaled,
    scale::Scale,
    scaler::{OpenVisit, StepError, device::Entry},
    statistics::{Outcome, Statistics},
};
use adaloss_hal::{
    AddressSpace, Device, HasNarrow, Memory, Narrow, Plain, Run, Summarise,
    scaler::{self as on_device, Carried, Describe, Described, HasScaler},
};

use super::{
    drawn::{Drawn, MOST},
    expected::Made,
    walk::{Buffers, ROOM, Walk},
};
use crate::{Case, Failure, bench::Bench, tensor::upload, values};

/// The products of one sum, of every layer.
const FAN_IN: u32 = 24;

/// What a visit is of.
pub(super) enum Of<'l, D: Memory> {
    Loss,
    LossAt(usize),
    Layer(usize, &'l Link<D>),
    Join(usize, [&'l Link<D>; 2]),
}

/// What is done of a visit.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Takes {
    /// Everything.
    All,
    /// Its passes are made up to the first one that stores, and it is finished, whether it needs more or not.
    First,
    /// It is left.
    Left,
    /// Its passes are asked for, and made nowhere.
    Uncounted,
}

/// A gradient that a visit left.
pub(super) struct Link<D: Memory> {
    /// Its scale on the device; `None` of a visit that was left.
    pub(super) carried: Option<Carried<D>>,
    /// Its scale on the host; `None` where there is none, as nothing is done any more or the visit was not finished.
    pub(super) gradient: Option<Scaled<()>>,
    /// The scale that the device has to say it carries.
    pub(super) scale: Scale,
    /// Where its values are.
    source: Source,
}

/// The values that a visit left.
#[derive(Clone, Copy)]
struct Source {
    /// The number of the visit since the last read.
    nth: usize,
    /// Where they lie among all results.
    first: usize,
    elements: usize,
}

/// How operands come to be described on a device.
pub(super) trait Operands<D: Memory> {
    /// Whether they are.
    const ARE_DESCRIBED: bool;

    fn describe<const N: usize>(
        device: &mut D,
        visit: &mut on_device::OpenVisit<'_, D, N>,
        described: &Described<'_, D::Space>,
    ) -> Result<(), D::Error>;
}

/// They are not: the device need not be able to.
pub(super) struct LeavesOut;

/// They are.
pub(super) struct Describes;

impl<D: Memory> Operands<D> for LeavesOut {
    const ARE_DESCRIBED: bool = false;

    fn describe<const N: usize>(
        _: &mut D,
        _: &mut on_device::OpenVisit<'_, D, N>,
        _: &Described<'_, D::Space>,
    ) -> Result<(), D::Error> {
        Ok(())
    }
}

impl<D> Operands<D> for Describes
where
    D: Memory + HasScaler,
    D: for<'r, 'w> Run<Describe<'r, 'w, <D as Device>::Space>>,
{
    const ARE_DESCRIBED: bool = true;

    fn describe<const N: usize>(
        device: &mut D,
        visit: &mut on_device::OpenVisit<'_, D, N>,
        described: &Described<'_, D::Space>,
    ) -> Result<(), D::Error> {
        visit.describe(device, described)
    }
}

/// What the host knows of a visit that it is about to make.
struct Planned {
    case: Case,
    drawn: Drawn,
    /// Where its results begin.
    first: usize,
    takes: Takes,
    /// Whether the device ends the visit by an operation of its own.
    closes: bool,
    /// Statistics of the weight, or of the gradient of a loss.
    weight: Statistics,
    /// The gradient among the operands of a layer.
    source: Option<Source>,
}

/// What became of a visit on the host.
struct Done {
    gradient: Option<Scaled<()>>,
    made: Option<Made>,
}

impl<D: Memory + HasNarrow<F> + HasScaler, F: Element + Plain, S: Operands<D>> Walk<D, F, S> {
    /// Makes a visit on both sides.
    pub(super) fn visit(
        &mut self,
        bench: &mut Bench<'_, D>,
        of: &Of<'_, D>,
        nth: u32,
        elements: usize,
        takes: Takes,
    ) -> Result<Link<D>, Failure> {
        let case = Case { elements, ..self.case("a visit") };
        let word = self.word(nth);
        let (stream, subnormals) = (self.seed << 6 | nth, bench.report.capabilities.subnormals);
        let drawn = Drawn::new(stream, self.steps, elements, subnormals);
        let odd = (word >> 8) as usize % 32;
        let first = self.window.visits * ROOM + odd.saturating_sub(16).min(ROOM - elements);
        let mut weight = Statistics::EMPTY;
        for index in 0..9 {
            weight.observe(values::random(word, index, -9, -2));
        }
        let source = match of {
            Of::Layer(_, from) => Some(from.source),
            Of::Loss | Of::LossAt(_) | Of::Join(..) => None,
        };
        // Once an engine did so, its memory stays where it is: runs do it always or never.
        let closes = self.seed >> 1 & 1 == 1;
        let plan = Planned { case, drawn, first, takes, closes, weight, source };
        let incoming = of.incoming();
        let mut on_host = [0.0; MOST];
        on_host.iter_mut().enumerate().for_each(|(i, x)| *x = drawn.value(i, incoming));

        let Done { gradient, made } = self.on_host(of, &plan, &on_host[..elements])?;
        let carried = self.on_device(bench, of, &plan, &on_host[..elements])?;
        bench.report.operations += 1;
        let nth = self.window.visited(case, made)?;
        let scale = gradient.map_or(Scale::ONE, |gradient| gradient.scale());
        Ok(Link { carried, gradient, scale, source: Source { nth, first, elements } })
    }

    /// Makes a visit on the host, and takes note of what the device has to say of it.
    fn on_host(&mut self, of: &Of<'_, D>, plan: &Planned, values: &[f32]) -> Result<Done, Failure> {
        let Planned { case, drawn, first, takes, .. } = *plan;
        let nothing = Done { gradient: None, made: None };
        if let Some((place, cause)) = self.halted {
            if takes != Takes::Left {
                self.window.expects(case, Entry::Halted { place, cause })?;
            }
            return Ok(nothing);
        }
        let source = plan.source.and_then(|source| self.window.made(source.nth)).copied();
        let mut step = self.state.resume(&mut self.cells);
        let branches;
        let opened = match *of {
            Of::Loss => Ok(step.loss()),
            Of::LossAt(id) => step.loss_at(id),
            Of::Layer(id, from) => step.layer(id, from.scaled()),
            Of::Join(id, from) => {
                branches = from.map(Link::scaled);
                step.join(id, &branches)
            }
        };
        let mut visit = case.finds(opened.ok())?;
        if takes == Takes::Left {
            return Ok(nothing);
        }
        if S::ARE_DESCRIBED && visit.wants_operands() {
            let format = self.config.narrowing().format;
            visit.describe(&plan.operands(format, source.as_ref()));
        }
        let (incoming, apply, is_complete) = store::<F>(case, &mut visit, values, takes)?;
        let made = Made { drawn, first, incoming, apply };
        let made = Some(made).filter(|_| takes != Takes::Uncounted);
        let finished = visit.finish(());
        if !is_complete {
            let is_refused = matches!(finished, Err(StepError::Unfinished { .. }));
            case.whole("a visit that is not finished", &true, &is_refused)?;
            self.window.expects(case, Entry::Refused)?;
            return Ok(Done { gradient: None, made });
        }
        let gradient = case.finds(finished.ok())?;
        let visit = case.finds(self.state.last())?;
        self.window.expects(case, Entry::Visit(visit))?;
        Ok(Done { gradient: Some(gradient), made })
    }

    /// Makes a visit on the device: every pass that might be needed.
    fn on_device(
        &mut self,
        bench: &mut Bench<'_, D>,
        of: &Of<'_, D>,
        plan: &Planned,
        values: &[f32],
    ) -> Result<Option<Carried<D>>, Failure> {
        let (case, device) = (plan.case, &mut *bench.device);
        let elements = plan.drawn.elements;
        let part = D::Space::part_mut(D::view_mut(&mut self.memory.values), 0..elements);
        upload(case, device, case.finds(part)?, &|index| values[index])?;
        let (engine, memory) = (&mut self.engine, &mut self.memory);
        match *of {
            Of::Loss => {
                let visit = case.is_done(engine.loss(device, elements))?;
                passes::<F, D, S, 0>(device, visit, plan, memory)
            }
            Of::LossAt(id) => {
                let visit = case.is_done(engine.loss_at(device, id, elements))?;
                passes::<F, D, S, 0>(device, visit, plan, memory)
            }
            Of::Layer(id, from) => {
                let from = case.finds(from.carried.as_ref())?;
                let visit = case.is_done(engine.layer(device, id, elements, from))?;
                passes::<F, D, S, 1>(device, visit, plan, memory)
            }
            Of::Join(id, [a, b]) => {
                let branches = [case.finds(a.carried.as_ref())?, case.finds(b.carried.as_ref())?];
                let visit = case.is_done(engine.join(device, id, elements, branches))?;
                passes::<F, D, S, 2>(device, visit, plan, memory)
            }
        }
    }
}

/// Makes the passes of a visit on the host; returns how the last one stored, and whether there are no more.
fn store<F: Element>(
    case: Case,
    visit: &mut OpenVisit<'_>,
    values: &[f32],
    takes: Takes,
) -> Result<(Scale, Apply, bool), Failure> {
    let mut narrowed = [F::from_bits(0); MOST];
    let (mut stored, mut is_complete) = (None, true);
    while let Some(mut pass) = visit.next_pass() {
        if takes == Takes::First && stored.is_some() {
            is_complete = false;
            break;
        }
        if takes != Takes::Uncounted {
            case.finds(pass.apply(values, &mut narrowed[..values.len()]).ok())?;
        }
        if pass.stores() {
            let (narrowing, shift, noise) = (pass.narrowing(), pass.shift(), pass.noise());
            stored = Some((pass.incoming(), Apply { narrowing, shift, noise }));
        }
    }
    let (incoming, apply) = case.finds(stored)?;
    Ok((incoming, apply, is_complete))
}

/// Makes every pass of a visit that might be needed, on the device.
fn passes<F, D, S, const N: usize>(
    device: &mut D,
    mut visit: on_device::OpenVisit<'_, D, N>,
    plan: &Planned,
    memory: &mut Buffers<D, F>,
) -> Result<Option<Carried<D>>, Failure>
where
    F: Element + Plain,
    D: Memory + HasNarrow<F> + HasScaler,
    S: Operands<D>,
{
    let Planned { case, drawn: Drawn { elements, .. }, first, takes, closes, .. } = *plan;
    if takes == Takes::Left {
        return Ok(None);
    }
    if S::ARE_DESCRIBED && visit.wants_operands() {
        describe::<F, D, S, N>(device, &mut visit, plan, memory)?;
    }
    while let Some(mut pass) = case.succeeds(visit.next_pass(device))? {
        if takes == Takes::Uncounted {
            continue;
        }
        let input = case.finds(D::Space::part(D::view(&memory.values), 0..elements))?;
        let to = D::view_mut(&mut memory.results);
        let to = case.finds(D::Space::part_mut(to, first..first + elements))?;
        let epilogue = pass.epilogue();
        case.succeeds(device.run(Narrow::<D::Space, F> { input, to, epilogue }))?;
        if takes == Takes::First && pass.stores() {
            break;
        }
    }
    if closes {
        let mut carried = case.succeeds(Carried::new(device))?;
        case.is_done(visit.finish_into(device, &mut carried))?;
        return Ok(Some(carried));
    }
    case.is_done(visit.finish(device)).map(Some)
}

/// Describes the operands of a visit on the device: statistics of a gradient where it lies, and of a weight.
fn describe<F, D, S, const N: usize>(
    device: &mut D,
    visit: &mut on_device::OpenVisit<'_, D, N>,
    plan: &Planned,
    memory: &mut Buffers<D, F>,
) -> Result<(), Failure>
where
    F: Element + Plain,
    D: Memory + HasNarrow<F> + HasScaler,
    S: Operands<D>,
{
    let (case, weight) = (plan.case, &mut memory.weight);
    case.succeeds(device.write(&[plan.weight], D::view_mut(weight)))?;
    let described = match plan.source {
        None => Described::Cast(D::view(weight)),
        Some(Source { first, elements, .. }) => {
            let gradient = &mut memory.gradient;
            case.succeeds(device.write(&[Statistics::EMPTY], D::view_mut(gradient)))?;
            let input = D::Space::part(D::view(&memory.results), first..first + elements);
            let input = case.finds(input)?;
            let (to, when) = (D::view_mut(gradient), Some(visit.operands_predicate()));
            case.succeeds(device.run(Summarise::<D::Space, F> { input, to, when }))?;
            let (gradient, weight) = (D::view(gradient), D::view(weight));
            Described::Product { gradient, weight, fan_in: FAN_IN }
        }
    };
    case.succeeds(S::describe(device, visit, &described))
}

impl Planned {
    /// Returns the operands as the host knows them.
    fn operands(&self, format: Format, source: Option<&Made>) -> policy::Operands {
        if self.source.is_none() {
            return policy::Operands::Cast(self.weight);
        }
        let (mut gradient, mut counted) = (Statistics::EMPTY, Outcome::EMPTY);
        if let Some(made) = source {
            (0..made.drawn.elements)
                .for_each(|index| gradient.observe(format.widen(made.bits(index, &mut counted))));
        }
        policy::Operands::Product { gradient, weight: self.weight, fan_in: FAN_IN }
    }
}

impl<D: Memory> Of<'_, D> {
    /// Returns the scale that the values carry.
    fn incoming(&self) -> Scale {
        match *self {
            Of::Loss | Of::LossAt(_) => Scale::ONE,
            Of::Layer(_, from) => from.scale,
            Of::Join(_, [a, b]) => a.scale.min(b.scale),
        }
    }
}

impl<D: Memory> Link<D> {
    /// Returns the gradient on the host; there is one while anything is done.
    fn scaled(&self) -> Scaled<()> {
        self.gradient.unwrap_or(Scaled::new((), Scale::ONE))
    }
}
