//! The whole walk: visits, replays, verdicts, accumulation and checkpoints.

mod checkpoint;
mod device;
mod mistakes;
mod never;
mod ranks;
mod recovery;
mod state;
mod sums;
mod verdict;
mod visits;
mod walk;

use adaloss_core::{
    apply::{ApplyError, Pass},
    format::{Element, Format},
    policy::{Amax, Backoff, Config, Normal, Operands, Policy, Preset, Range},
    propagate::Scaled,
    scale::Scale,
    scaler::{LossScaler, OpenVisit, Step, StepError},
    statistics::Statistics,
    with_element,
};

type Scaler = LossScaler<8>;

/// Every low-precision encoding, and two that flush.
const FORMATS: [Format; 6] = [
    Format::BINARY16,
    Format::BINARY16.flushing(),
    Format::BFLOAT16,
    Format::E5M2,
    Format::E4M3,
    Format::E4M3.flushing(),
];

/// A tensor in the gradient format, as bits.
type Bits = Vec<u32>;

fn scale(log2: i32) -> Scale {
    Scale::new(log2).unwrap()
}

/// Narrows through a pass into the configured format, which has to be that of `F`.
fn narrow_as<F: Element>(values: &[f32], pass: &mut Pass<'_>) -> Result<Vec<F>, ApplyError> {
    let mut narrowed = vec![F::from_bits(0); values.len()];
    pass.apply(values, &mut narrowed)?;
    Ok(narrowed)
}

/// Narrows through a pass into whatever the configured format is.
fn narrow(values: &[f32], pass: &mut Pass<'_>) -> Result<Bits, ApplyError> {
    fn into<F: Element>(values: &[f32], pass: &mut Pass<'_>) -> Result<Bits, ApplyError> {
        Ok(narrow_as::<F>(values, pass)?.into_iter().map(F::to_bits).collect())
    }
    with_element!(pass.narrowing().format.encoding, F => into::<F>(values, pass))
}

fn widen(format: Format, bits: &[u32]) -> Vec<f32> {
    bits.iter().map(|&bits| format.widen(bits)).collect()
}

/// Every policy, in a format.
fn configs(format: Format) -> Vec<Config> {
    let measured = Config::for_format(format);
    let policies = [
        Policy::Fixed(scale(4)),
        Policy::Backoff(Backoff { interval: 3, ..Backoff::GRAD_SCALER }),
        Policy::Normal(Normal::new(format, 1e-3).unwrap()),
        Policy::Range(Range::new(format)),
        Policy::Amax(Amax { window: 5, margin: 1 }),
    ];
    let others = policies.map(|policy| measured.with_policy(policy).unwrap());
    let paper = Config::preset(Preset::Paper, format);
    others.into_iter().chain([measured, measured.with_period(3).unwrap(), paper]).collect()
}

/// Runs a function in every pass of a visit; what the last one returned is what the visit stored.
fn run<U, E>(
    mut visit: OpenVisit<'_>,
    mut pass: impl FnMut(&mut Pass<'_>) -> Result<U, E>,
) -> Result<Scaled<U>, E> {
    let mut stored = None;
    while let Some(mut next) = visit.next_pass() {
        stored = Some(pass(&mut next)?);
    }
    let stored = stored.expect("a visit has at least one pass");
    Ok(visit.finish(stored).expect("there are no more passes"))
}

/// Narrows the values in every pass of a visit.
fn visited(visit: OpenVisit<'_>, values: &[f32]) -> Scaled<Bits> {
    run(visit, |pass| narrow(values, pass)).expect("equal lengths")
}

/// Goes back through a layer that multiplies by `weight`, element by element.
fn layer(
    step: &mut Step<'_>,
    id: usize,
    gradient: &Scaled<Bits>,
    weight: f32,
) -> Result<Scaled<Bits>, StepError> {
    let mut visit = step.layer(id, gradient)?;
    if visit.wants_operands() {
        visit.describe(&Operands::Product {
            gradient: Statistics::of(&[1.0e-3_f32, 2.0e-3]),
            weight: Statistics::of(&[weight, -weight]),
            fan_in: 4,
        });
    }
    run(visit, |pass| {
        let bits = gradient.scaled();
        let values = widen(pass.narrowing().format, bits).into_iter().map(|g| g * weight);
        narrow(&values.collect::<Vec<_>>(), pass)
    })
    .map_err(StepError::Apply)
}

fn loss(step: &mut Step<'_>, values: &[f32]) -> Result<Scaled<Bits>, StepError> {
    let mut visit = step.loss();
    if visit.wants_operands() {
        visit.describe(&Operands::Cast(Statistics::of(values)));
    }
    Ok(visited(visit, values))
}

/// A deterministic stream of tensors: log-uniform over many binades, with zeros now and then.
struct Tensors(u64);

impl Tensors {
    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn next(&mut self, length: usize) -> Vec<f32> {
        let centre = -40 + (self.word() % 50) as i32;
        (0..length)
            .map(|_| {
                let word = self.word();
                let exponent = centre + (word % 12) as i32;
                let magnitude = (1.0 + (word >> 40) as f32 / 16_777_216.0) * 2.0_f32.powi(exponent);
                match word >> 32 & 15 {
                    0 => 0.0,
                    bits if bits % 2 == 0 => -magnitude,
                    _ => magnitude,
                }
            })
            .collect()
    }
}
