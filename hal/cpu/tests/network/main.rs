//! The operations of layers on the CPU device: those of the portable device, on any number of threads.

#![forbid(unsafe_code)]

mod attend;
mod normalise;
mod pointwise;
mod pool;
mod training;

use adaloss_core::{
    format::{E4M3, E5M2, Element, Format, Narrowing, Noise, bf16, f16},
    policy::Cell,
    scale::Scale,
    statistics::{Histogram, Outcome},
};
use adaloss_cpu::Cpu;
use adaloss_hal::{
    AddressSpace, Epilogue, HostError, Memory, Mut, Plain,
    network::{
        HasAccumulate, HasAttend, HasDropout, HasEmbed, HasLoss, HasNormalise, HasPool, HasRelu,
        HasUpdate,
    },
    portable::Portable,
};
use adaloss_oracle::{Tolerance, is_same};

type Outcomes = Result<Vec<f32>, HostError>;

/// Host devices: the two that are compared.
trait Host:
    Memory<Error = HostError>
    + HasNormalise<f16, f32>
    + HasNormalise<f32, f32>
    + HasPool<f16>
    + HasPool<E4M3>
    + HasRelu<f16, E5M2>
    + HasRelu<E4M3, f32>
    + HasRelu<bf16, f16>
    + HasDropout<f16>
    + HasAccumulate
    + HasEmbed<f16, f16>
    + HasAttend<f16, f32>
    + HasAttend<f32, f16>
    + HasLoss
    + HasUpdate
{
}

impl Host for Portable {}
impl Host for Cpu {}

/// Runs an operation on the portable device and with several numbers of threads, which all have to
/// give the same bits; returns the results of both devices.
macro_rules! on_both {
    ($run:expr) => {{
        let expected: Outcomes = $run(&mut Portable);
        let mut found: Option<Outcomes> = None;
        for threads in [1, 2, 3, 5] {
            let of_threads: Outcomes = $run(&mut Cpu::new(threads).unwrap());
            let bits = |outcomes: &Outcomes| {
                outcomes.clone().map(|all| all.iter().map(|x| x.to_bits()).collect::<Vec<_>>())
            };
            let first = found.get_or_insert_with(|| of_threads.clone());
            assert_eq!(bits(first), bits(&of_threads), "{threads} threads");
        }
        (expected, found.unwrap())
    }};
}

/// Asserts that an operation gives the same bits on both devices.
macro_rules! assert_equal {
    ($run:expr) => {{
        let (expected, found) = crate::on_both!($run);
        crate::assert_same(&expected.unwrap(), &found.unwrap());
    }};
}

/// Asserts that what the portable device refuses is refused for the same reason.
macro_rules! assert_refused {
    ($run:expr) => {{
        let (expected, found) = crate::on_both!($run);
        assert_eq!(expected.clone().err(), found.err());
        expected.unwrap_err()
    }};
}

/// Asserts that results have the same bits; a NaN equals any other.
fn assert_same(expected: &[f32], found: &[f32]) {
    assert_eq!(expected.len(), found.len());
    for (i, (&a, &b)) in expected.iter().zip(found).enumerate() {
        assert!(is_same(a, b), "place {i}: {b} and not {a}");
    }
}

/// Asserts that results are equal, or differ by a share of the greatest of them that is tolerated.
fn assert_near(expected: &[f32], found: &[f32], tolerance: &Tolerance) {
    let greatest =
        expected.iter().filter(|x| x.is_finite()).fold(0.0_f32, |max, x| max.max(x.abs()));
    assert_eq!(expected.len(), found.len());
    for (i, (&a, &b)) in expected.iter().zip(found).enumerate() {
        let is_near = tolerance.allows_of(f64::from(a) - f64::from(b), greatest.into());
        assert!(is_same(a, b) || is_near, "place {i}: {b} and not {a}, of at most {greatest}");
    }
}

/// Returns values between -4 and 4, a few of them equal, that a seed determines.
fn random<F: Element>(seed: u32, length: usize) -> Vec<F> {
    let noise = Noise { seed, stream: 0 };
    let narrowing = Narrowing::to(F::ENCODING.into());
    let value = |i: u32| (noise.word(i) >> 16) as f32 / 8192.0 - 4.0;
    (0..length as u32).map(|i| F::narrow(value(i), narrowing, 0, 0)).collect()
}

/// Puts NaNs, infinities, zeros of both signs and subnormals among the elements.
fn with_specials<F: Element>(mut values: Vec<F>) -> Vec<F> {
    let encoding = F::ENCODING;
    let sign = encoding.sign_bit();
    let positive =
        [0, 1, encoding.max_finite_bits(), encoding.overflow_bits(), encoding.nan_bits()];
    let specials: Vec<_> = positive.iter().flat_map(|&bits| [bits, bits | sign]).collect();
    for (i, x) in values.iter_mut().enumerate().filter(|(i, _)| i % 5 == 2) {
        *x = F::from_bits(specials[i / 5 % specials.len()]);
    }
    values
}

fn upload<D: Memory, T: Plain>(device: &mut D, values: &[T]) -> D::Buffer<T> {
    let mut buffer = device.zeroed(values.len()).unwrap();
    device.write(values, D::view_mut(&mut buffer)).unwrap();
    buffer
}

fn download<D: Memory, T: Plain>(device: &mut D, buffer: &D::Buffer<T>) -> Vec<T> {
    let mut values = vec![T::zeroed(); D::Space::len(D::view(buffer))];
    device.read(D::view(buffer), &mut values).unwrap();
    values
}

fn widened<F: Element>(values: &[F]) -> impl Iterator<Item = f32> + '_ {
    values.iter().map(|x| x.widen())
}

/// Runs an operation that ends in an epilogue, storing and then only measuring; returns what was
/// stored and the counts.
fn ending<D: Host, F: Element + Plain>(
    device: &mut D,
    length: usize,
    mut operation: impl for<'w> FnMut(
        &mut D,
        Mut<'w, D, F>,
        Epilogue<'w, D::Space>,
    ) -> Result<(), HostError>,
) -> Outcomes {
    let narrowing = Narrowing::to(Format::from(F::ENCODING));
    let cells = [Scale::new(0), Scale::new(3)].map(|scale| Cell::at(scale.unwrap()));
    let (from, to) = (upload(device, &cells[..1]), upload(device, &cells[1..]));
    let mut results = device.zeroed::<F>(length)?;
    let mut outcome = upload(device, &[Outcome::EMPTY]);
    let mut histogram = upload(device, &[Histogram::new(narrowing)]);
    for stores in [true, false] {
        let epilogue = Epilogue {
            from: D::view(&from),
            to: D::view(&to),
            narrowing,
            noise: Noise::default(),
            stores,
            when: None,
            outcome: D::view_mut(&mut outcome),
            histogram: (!stores).then(|| D::view_mut(&mut histogram)),
        };
        operation(device, D::view_mut(&mut results), epilogue)?;
    }
    let outcome = download(device, &outcome)[0];
    assert_eq!(outcome.elements, length as u64, "counted once, by the pass that stores");
    let histogram = download(device, &histogram)[0];
    assert_eq!(histogram.elements(), length as u64);
    Ok(widened(&download(device, &results)).collect())
}

/// Runs an operation on a copy of some elements in place.
fn in_place<D: Host, T: Plain>(
    device: &mut D,
    values: &[T],
    operation: impl FnOnce(&mut D, Mut<'_, D, T>) -> Result<(), HostError>,
) -> Result<Vec<T>, HostError> {
    let mut buffer = upload(device, values);
    operation(device, D::view_mut(&mut buffer))?;
    Ok(download(device, &buffer))
}

use {assert_equal, assert_refused, on_both};
