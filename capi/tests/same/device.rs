//! A table made from the portable device is the portable device: it conforms as that does, and passes that end on it
//! count as core does.

use std::{
    alloc::{Layout, alloc_zeroed, dealloc},
    ffi::{CStr, c_void},
    ptr::copy_nonoverlapping,
    slice,
};

use ::adaloss_conformance::{self as conformance, Report};
use adaloss::*;
use adaloss_core::{
    format::{
        E4M3, E5M2, Element, Encoding, Format, Narrowing, Noise, Overflow, Rounding, Subnormals,
        bf16, f16,
    },
    policy::{Cell, Config},
    propagate::Scaled,
    scaler::LossScaler,
    statistics::{Histogram, Outcome, Statistics},
    unscale::{Unscaled, unscale as unscaled},
    with_element,
};
use adaloss_hal::{
    Branch, Epilogue, HostEpilogue, HostSpace, Matmul, Narrow, OperationKind, Plain, Product,
    Propagate, Run, portable::Portable,
};
use adaloss_oracle::inputs::{SplitMix64, adversarial};

use super::{config_of, made_by, made_or};

/// What is wrong with the device, and what it has allocated.
#[derive(Debug, Default)]
struct Made {
    /// The operation that does nothing.
    drops: Option<OperationKind>,
    /// The address of everything that is allocated.
    always: Option<u64>,
    /// Bytes that histograms are full of.
    histograms: Option<u8>,
    allocated: u64,
}

impl Made {
    fn drops(&self, operation: OperationKind) -> bool {
        self.drops == Some(operation)
    }
}

unsafe fn made<'a>(context: *mut c_void) -> &'a mut Made {
    unsafe { &mut *context.cast() }
}

/// Names values by their address, which is that of the host.
unsafe fn of<'a, T>(address: u64, count: usize) -> &'a [T] {
    unsafe { slice::from_raw_parts(address as *const T, count) }
}

unsafe fn of_mut<'a, T>(address: u64, count: usize) -> &'a mut [T] {
    unsafe { slice::from_raw_parts_mut(address as *mut T, count) }
}

fn layout(bytes: u64) -> Layout {
    Layout::from_size_align(bytes as usize, 8).unwrap()
}

unsafe extern "C" fn allocate(context: *mut c_void, bytes: u64, address: *mut u64) -> adaloss_code {
    let made = unsafe { made(context) };
    assert!(bytes > 0);
    made.allocated += bytes;
    unsafe { *address = made.always.unwrap_or_else(|| alloc_zeroed(layout(bytes)) as u64) };
    ADALOSS_OK
}

unsafe extern "C" fn free(context: *mut c_void, address: u64, bytes: u64) {
    let made = unsafe { made(context) };
    made.allocated -= bytes;
    if made.always.is_none() {
        unsafe { dealloc(address as *mut u8, layout(bytes)) }
    }
}

unsafe extern "C" fn read(
    context: *mut c_void,
    from: u64,
    to: *mut c_void,
    bytes: usize,
) -> adaloss_code {
    unsafe {
        copy_nonoverlapping(from as *const u8, to.cast(), bytes);
        if let (Some(byte), true) = (made(context).histograms, bytes == size_of::<Histogram>()) {
            to.cast::<u8>().write_bytes(byte, bytes);
        }
    }
    ADALOSS_OK
}

unsafe extern "C" fn write(
    _: *mut c_void,
    from: *const c_void,
    to: u64,
    bytes: usize,
) -> adaloss_code {
    unsafe { copy_nonoverlapping(from.cast(), to as *mut u8, bytes) };
    ADALOSS_OK
}

/// Turns around what the library wrote.
fn format(of: adaloss_format) -> Format {
    let subnormals = [Subnormals::Gradual, Subnormals::Flush][usize::from(of.subnormals)];
    Format::new(Encoding::ALL[usize::from(of.encoding)], subnormals)
}

fn narrowing(of: adaloss_narrowing) -> Narrowing {
    Narrowing {
        format: format(of.format),
        rounding: [Rounding::NearestEven, Rounding::TowardZero, Rounding::Stochastic]
            [usize::from(of.rounding)],
        overflow: [Overflow::Infinity, Overflow::Saturate][usize::from(of.overflow)],
    }
}

unsafe fn epilogue<'a>(from: *const adaloss_epilogue) -> Epilogue<'a, HostSpace> {
    unsafe {
        let from = *from;
        Epilogue {
            from: of::<Cell>(from.from, 1),
            to: of::<Cell>(from.to, 1),
            narrowing: narrowing(from.narrowing),
            noise: Noise { seed: from.noise.seed, stream: from.noise.stream },
            stores: from.stores == 1,
            when: None,
            outcome: of_mut::<Outcome>(from.outcome, 1),
            histogram: (from.measures == 1).then(|| of_mut::<Histogram>(from.histogram, 1)),
        }
    }
}

unsafe extern "C" fn statistics(
    context: *mut c_void,
    as_read: adaloss_format,
    values: u64,
    count: usize,
    to: u64,
) -> adaloss_code {
    let format = format(as_read);
    unsafe {
        if !made(context).drops(OperationKind::Statistics) {
            let to = &mut of_mut::<Statistics>(to, 1)[0];
            with_element!(format.encoding, F => {
                of::<F>(values, count).iter().for_each(|x| to.observe(format.widen(Element::to_bits(*x))));
            });
        }
    }
    ADALOSS_OK
}

unsafe extern "C" fn apply(
    context: *mut c_void,
    values: u64,
    count: usize,
    to: u64,
    ending: *const adaloss_epilogue,
) -> adaloss_code {
    unsafe {
        if !made(context).drops(OperationKind::Apply) {
            let ending = epilogue(ending);
            with_element!(ending.narrowing.format.encoding, F => {
                let (input, to) = (of(values, count), of_mut::<F>(to, count));
                Portable.run(Narrow { input, to, epilogue: ending }).unwrap();
            });
        }
    }
    ADALOSS_OK
}

unsafe extern "C" fn propagate(
    context: *mut c_void,
    branches: *const adaloss_device_branch,
    branch_count: usize,
    count: usize,
    to: u64,
    ending: *const adaloss_epilogue,
) -> adaloss_code {
    unsafe {
        if !made(context).drops(OperationKind::Propagate) {
            let ending = epilogue(ending);
            with_element!(ending.narrowing.format.encoding, F => {
                let named = slice::from_raw_parts(branches, branch_count).iter();
                let branches: Vec<_> = named
                    .map(|branch| Branch { gradient: of::<F>(branch.gradient, count), cell: of(branch.cell, 1) })
                    .collect();
                let to = of_mut::<F>(to, count);
                Portable.run(Propagate { branches: &branches, to, epilogue: ending }).unwrap();
            });
        }
    }
    ADALOSS_OK
}

unsafe extern "C" fn unscale(
    context: *mut c_void,
    as_read: adaloss_format,
    gradient: u64,
    count: usize,
    cell: u64,
    to: u64,
    met: u64,
) -> adaloss_code {
    let format = format(as_read);
    unsafe {
        if !made(context).drops(OperationKind::Unscale) {
            let scale = of::<Cell>(cell, 1)[0].scale();
            with_element!(format.encoding, F => {
                let gradient = Scaled::new(of::<F>(gradient, count), scale);
                let found = unscaled(format, gradient, of_mut(to, count)).unwrap();
                of_mut::<Unscaled>(met, 1)[0].merge(&found);
            });
        }
    }
    ADALOSS_OK
}

unsafe extern "C" fn matmul(
    context: *mut c_void,
    product: *const adaloss_product,
    a: u64,
    b: u64,
    bias: u64,
    to: u64,
    ending: *const adaloss_epilogue,
) -> adaloss_code {
    unsafe {
        if !made(context).drops(OperationKind::Matmul) {
            let (shape, ending) = (*product, epilogue(ending));
            let product = Product {
                rows: shape.rows,
                inner: shape.inner,
                columns: shape.columns,
                transpose_a: shape.transpose_a == 1,
                transpose_b: shape.transpose_b == 1,
            };
            let [left, right, result] = product.lengths();
            with_element!(format(shape.a).encoding, A => with_element!(format(shape.b).encoding, B => {
                with_element!(ending.narrowing.format.encoding, F => {
                    let (a, b) = (of::<A>(a, left), of::<B>(b, right));
                    let bias = (shape.has_bias == 1).then(|| of::<f32>(bias, shape.columns));
                    let (to, epilogue) = (of_mut::<F>(to, result), ending);
                    Portable.run(Matmul { product, a, b, bias, to, epilogue }).unwrap();
                });
            }));
        }
    }
    ADALOSS_OK
}

fn table(made: &mut Made, capabilities: u32) -> adaloss_device {
    adaloss_device {
        context: std::ptr::from_mut(made).cast(),
        bytes: size_of::<adaloss_device>() as u32,
        capabilities,
        allocate: Some(allocate),
        free: Some(free),
        read: Some(read),
        write: Some(write),
        statistics: Some(statistics),
        apply: Some(apply),
        propagate: Some(propagate),
        unscale: Some(unscale),
        matmul: Some(matmul),
    }
}

const ALL: u32 = ADALOSS_SUBNORMALS | ADALOSS_STOCHASTIC_ROUNDING | ADALOSS_SEQUENTIAL_SUMS;

/// Puts a device through one part of the suite; gives the report or the difference.
fn conforms(
    made: &mut Made,
    capabilities: u32,
    part: impl FnOnce(*const adaloss_device, *mut adaloss_conformance) -> adaloss_code,
) -> Result<adaloss_conformance, String> {
    let device = table(made, capabilities);
    assert_eq!(unsafe { adaloss_device_check(&device) }, ADALOSS_OK);
    let mut report = std::mem::MaybeUninit::<adaloss_conformance>::uninit();
    let code = part(&device, report.as_mut_ptr());
    let report = unsafe { report.assume_init() };
    let difference = unsafe { CStr::from_ptr(report.difference.as_ptr()) }.to_str().unwrap();
    assert_eq!(made.allocated, 0, "everything is freed");
    match code {
        ADALOSS_OK if difference.is_empty() => Ok(report),
        ADALOSS_ERROR_DIFFERS => Err(difference.to_owned()),
        other => panic!("{other}: {difference}"),
    }
}

fn same_report(found: Result<adaloss_conformance, String>, expected: Report) {
    let found = found.unwrap();
    assert_eq!(
        (found.operations, found.refusals, found.elements),
        (expected.operations, expected.refusals, expected.elements)
    );
}

fn narrows<F: Element + Plain>() {
    let expected = conformance::narrow::<F, _>(&mut Portable).unwrap();
    let encoding = F::ENCODING as u32;
    let found = conforms(&mut Made::default(), ALL, |device, report| unsafe {
        adaloss_device_conform_narrow(device, encoding, report)
    });
    same_report(found, expected);
}

fn multiplies<A: Element + Plain, B: Element + Plain, F: Element + Plain>() {
    let expected = conformance::matmul::<A, B, F, _>(&mut Portable).unwrap();
    let [a, b, f] = [A::ENCODING, B::ENCODING, F::ENCODING].map(|encoding| encoding as u32);
    let found = conforms(&mut Made::default(), ALL, |device, report| unsafe {
        adaloss_device_conform_matmul(device, a, b, f, report)
    });
    same_report(found, expected);
}

#[test]
fn the_table_conforms_as_the_device_does() {
    let found = conforms(&mut Made::default(), ALL, |device, report| unsafe {
        adaloss_device_conform_memory(device, report)
    });
    same_report(found, conformance::memory(&mut Portable).unwrap());
    narrows::<f16>();
    narrows::<bf16>();
    narrows::<E5M2>();
    narrows::<E4M3>();
    narrows::<f32>();
    multiplies::<f16, f16, f16>();
    multiplies::<bf16, bf16, f32>();
    multiplies::<E5M2, E4M3, E5M2>();
    multiplies::<E4M3, E5M2, f32>();
    multiplies::<f32, f32, f32>();
}

/// What a device does not have is not asked for, and refused for it.
#[test]
fn a_device_is_asked_for_what_it_has() {
    let report = |capabilities| {
        conforms(&mut Made::default(), capabilities, |device, report| unsafe {
            adaloss_device_conform_narrow(device, Encoding::E5M2 as u32, report)
        })
        .unwrap()
    };
    let (none, all) = (report(0), report(ALL));
    assert!(none.operations < all.operations && none.refusals > all.refusals);
}

/// An operation that does nothing is found, and named.
#[test]
fn what_is_left_out_is_found() {
    let narrow: fn(*const adaloss_device, *mut adaloss_conformance) -> adaloss_code =
        |device, report| unsafe {
            adaloss_device_conform_narrow(device, Encoding::BFloat16 as u32, report)
        };
    for (operation, part) in [
        (OperationKind::Statistics, narrow),
        (OperationKind::Apply, narrow),
        (OperationKind::Propagate, narrow),
        (OperationKind::Unscale, narrow),
        (OperationKind::Matmul, |device, report| unsafe {
            let (half, float) = (Encoding::Binary16 as u32, Encoding::Binary32 as u32);
            adaloss_device_conform_matmul(device, half, half, float, report)
        }),
    ] {
        let mut made = Made { drops: Some(operation), ..Made::default() };
        let difference = conforms(&mut made, ALL, part).unwrap_err();
        assert!(difference.starts_with(operation.name()), "{operation}: {difference}");
    }
}

/// Bytes that no histogram has, and addresses that no memory has.
#[test]
fn what_a_device_cannot_mean_is_an_error_of_its_own() {
    for made in [
        Made { histograms: Some(0xee), ..Made::default() },
        Made { always: Some(4), ..Made::default() },
        Made { always: Some(u64::MAX - 7), ..Made::default() },
    ] {
        let mut made = made;
        let found = conforms(&mut made, ALL, |device, report| unsafe {
            adaloss_device_conform_narrow(device, Encoding::Binary16 as u32, report)
        });
        let difference = found.unwrap_err();
        assert!(difference.ends_with("should not fail: device error"), "{difference}");
    }
}

/// What a pass on the device is given.
struct OnDevice {
    device: adaloss_device,
    values: Vec<f32>,
    to: Vec<f16>,
    memory: Box<adaloss_device_pass>,
}

fn on_device(of: &mut OnDevice, pass: *mut adaloss_pass) {
    let OnDevice { device, values, to, memory } = of;
    let memory = std::ptr::from_mut(&mut **memory) as u64;
    let ending = made_by(|to| unsafe { adaloss_device_write_pass(device, pass, memory, to) });
    let (from, count) = (values.as_ptr() as u64, values.len());
    let code = unsafe { apply(device.context, from, count, to.as_mut_ptr() as u64, &ending) };
    assert_eq!(code, ADALOSS_OK);
    assert_eq!(unsafe { adaloss_device_read_pass(device, pass, &ending) }, ADALOSS_OK);
}

/// A run whose passes end on the device is one of core's on the portable device.
#[test]
fn passes_on_the_device_are_those_of_core() {
    let (mut generator, mut made) = (SplitMix64(11), Made::default());
    let config = Config::for_format(Format::BINARY16).with_rounding(Rounding::Stochastic, 5);
    let mut scaler = LossScaler::<1>::new(config);
    let mut state = adaloss_scaler { opaque: [0; ADALOSS_SCALER_WORDS] };
    let mut cells = [made_by(|to| unsafe { adaloss_policy_cell(&config_of(&config), to) })];
    let code =
        unsafe { adaloss_scaler_init(&mut state, &config_of(&config), cells.as_mut_ptr(), 1) };
    assert_eq!(code, ADALOSS_OK);
    let zero = std::mem::MaybeUninit::<adaloss_device_pass>::zeroed();
    let mut of = OnDevice {
        device: table(&mut made, ALL),
        values: Vec::new(),
        to: Vec::new(),
        // SAFETY: the structure is made of numbers.
        memory: Box::new(unsafe { zero.assume_init() }),
    };
    for step in 0..40 {
        let mut values = adversarial(Format::BINARY16, 200, generator.word());
        // Now and then something overflows, and now and then something is not finite.
        let factor = [1.0e-6, 1.0e-2, 1.0e4][generator.below(3)];
        values.iter_mut().for_each(|x| *x *= factor);
        values.extend((step % 7 == 3).then_some(f32::NAN));
        let mut expected = vec![f16::from_bits(0); values.len()];
        (of.values, of.to) = (values.clone(), expected.clone());

        let mut core = scaler.begin();
        let mut visit = core.loss();
        while let Some(mut pass) = visit.next_pass() {
            let mut ending = HostEpilogue::new(&mut pass);
            let (to, epilogue) = (&mut expected[..], ending.epilogue());
            Portable.run(Narrow { input: &values[..], to, epilogue }).unwrap();
        }
        let left = visit.finish(()).unwrap().scale();
        let counted = core.last().unwrap().outcome;
        let _ = core.finish();
        assert_eq!(unsafe { adaloss_scaler_begin(&mut state) }, ADALOSS_OK);
        assert_eq!(unsafe { adaloss_scaler_loss(&mut state) }, ADALOSS_OK);
        while let Ok(pass) = made_or(|to| unsafe { adaloss_scaler_next_pass(&mut state, to) }) {
            on_device(&mut of, pass);
        }
        let found = made_by(|to| unsafe { adaloss_scaler_finish_visit(&mut state, to) });
        let visit = made_by(|to| unsafe { adaloss_scaler_last(&state, to) });
        let _: adaloss_verdict = made_by(|to| unsafe { adaloss_scaler_finish(&mut state, to) });

        assert_eq!(found, left.log2(), "step {step}");
        assert_eq!(visit.outcome, super::rooms::outcome_of(&counted), "step {step}");
        let bits = |of: &[f16]| of.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&of.to), bits(&expected), "step {step}");
        let digest = made_by(|to| unsafe { adaloss_scaler_digest(&state, to) });
        assert_eq!(digest, scaler.digest(), "step {step}");
    }
}
