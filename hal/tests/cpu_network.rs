//! The operations of layers on the CPU device: those of the portable device, on any number of threads.

#![cfg(feature = "std")]
#![forbid(unsafe_code)]

use adaloss_core::{
    format::{E4M3, E5M2, Element, Format, Narrowing, Noise, bf16, f16},
    policy::{Cell, Fraction},
    scale::Scale,
    statistics::{Histogram, Outcome},
};
use adaloss_hal::{
    Epilogue, Memory, Plain,
    cpu::Cpu,
    network::{
        Accumulate, AdamW, Attend, Attention, Axis, Dropout, Embed, Loss, LossSum, Mask, MaxPool,
        Normalisation, Normalise, Normalised, Pointwise, Pooling, Sgd, SumPool, Update,
    },
    portable::{Portable, PortableError},
};

type Outcomes = Result<Vec<f32>, PortableError>;

/// Host devices: the two that are compared.
trait Host:
    Memory<Error = PortableError>
    + Normalise<f16, f32>
    + Normalise<f32, f32>
    + MaxPool<f16>
    + MaxPool<E4M3>
    + SumPool<f16>
    + Pointwise<f16, E5M2>
    + Pointwise<E4M3, f32>
    + Pointwise<bf16, f16>
    + Dropout<f16>
    + Accumulate
    + Embed<f16, f16>
    + Attend<f16, f32>
    + Attend<f32, f16>
    + Loss
    + Update
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
        let (expected, found) = on_both!($run);
        assert_near(&expected.unwrap(), &found.unwrap(), 0.0);
    }};
}

/// Asserts that what the portable device refuses is refused for the same reason.
macro_rules! assert_refused {
    ($run:expr) => {{
        let (expected, found) = on_both!($run);
        assert_eq!(expected.clone().err(), found.err());
        expected.unwrap_err()
    }};
}

/// Asserts that results are equal, or differ by less than a share of the greatest of them.
fn assert_near(expected: &[f32], found: &[f32], share: f32) {
    let greatest =
        expected.iter().filter(|x| x.is_finite()).fold(0.0_f32, |max, x| max.max(x.abs()));
    assert_eq!(expected.len(), found.len());
    for (i, (a, b)) in expected.iter().zip(found).enumerate() {
        let is_equal = a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
        let is_near = share > 0.0 && (a - b).abs() <= share * greatest;
        assert!(is_equal || is_near, "place {i}: {b} and not {a}, of at most {greatest}");
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
    let mut values = vec![T::zeroed(); D::len(D::view(buffer))];
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
    mut operation: impl FnMut(&mut D, D::Mut<'_, F>, Epilogue<'_, D>) -> Result<(), PortableError>,
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
    operation: impl FnOnce(&mut D, D::Mut<'_, T>) -> Result<(), PortableError>,
) -> Result<Vec<T>, PortableError> {
    let mut buffer = upload(device, values);
    operation(device, D::view_mut(&mut buffer))?;
    Ok(download(device, &buffer))
}

fn normalisations() -> impl Iterator<Item = Normalisation> {
    let sizes = [(3000, 16), (777, 3), (100, 10), (41, 300), (1, 5), (7, 1), (0, 4), (4, 0)];
    sizes.into_iter().flat_map(|(rows, columns)| {
        [Axis::Rows, Axis::Columns].map(|axis| Normalisation {
            rows,
            columns,
            axis,
            epsilon: 1.0e-5,
        })
    })
}

fn moments<D: Host>(device: &mut D, shape: Normalisation, input: &[f16]) -> Outcomes {
    let input = upload(device, input);
    in_place(device, &vec![7.0; shape.moments()], |device, to| {
        Normalise::<f16, f32>::moments(device, shape, D::view(&input), to)
    })
}

#[test]
fn normalises() {
    for shape in normalisations() {
        let input = random::<f16>(1, shape.elements());
        let gradient = random::<f32>(2, shape.elements());
        let affine = random::<f32>(3, shape.affine());
        let (expected, found) = on_both!(|device| moments(device, shape, &input));
        assert_near(&expected.clone().unwrap(), &found.unwrap(), 1.0e-5);
        let given = expected.unwrap();

        fn normalise<D: Host>(
            device: &mut D,
            shape: Normalisation,
            [input, given, affine]: [&[f32]; 3],
        ) -> Outcomes {
            let [input, given, affine] = [input, given, affine].map(|all| upload(device, all));
            ending::<D, f32>(device, shape.elements(), |device, to, epilogue| {
                let (moments, affine) = (D::view(&given), D::view(&affine));
                Normalise::<f32, f32>::normalise(
                    device,
                    shape,
                    D::view(&input),
                    moments,
                    affine,
                    to,
                    epilogue,
                )
            })
        }
        let wide: Vec<_> = widened(&input).collect();
        assert_equal!(|device| normalise(device, shape, [&wide, &given, &affine]));
        if let Some((_, affine)) = affine.split_first() {
            assert_refused!(|device| normalise(device, shape, [&wide, &given, affine]));
        }

        fn sums<D: Host>(
            device: &mut D,
            shape: Normalisation,
            (gradient, input, given): (&[f32], &[f16], &[f32]),
        ) -> Outcomes {
            let [gradient, given] = [gradient, given].map(|all| upload(device, all));
            let input = upload(device, input);
            in_place(device, &vec![7.0; shape.affine()], |device, to| {
                let (gradient, input) = (D::view(&gradient), D::view(&input));
                device.normalise_sums(shape, gradient, input, D::view(&given), to)
            })
        }
        let (expected, found) = on_both!(|device| sums(device, shape, (&gradient, &input, &given)));
        assert_near(&expected.clone().unwrap(), &found.unwrap(), 1.0e-5);
        let sums = expected.unwrap();

        fn back<D: Host>(
            device: &mut D,
            shape: Normalisation,
            gradient: &[f32],
            input: &[f16],
            others: [&[f32]; 3],
        ) -> Outcomes {
            let (gradient, input) = (upload(device, gradient), upload(device, input));
            let [moments, affine, sums] = others.map(|all| upload(device, all));
            ending::<D, f32>(device, shape.elements(), |device, to, epilogue| {
                let forward = Normalised {
                    input: D::view(&input),
                    moments: D::view(&moments),
                    affine: D::view(&affine),
                    sums: D::view(&sums),
                };
                device.normalise_input(shape, D::view(&gradient), forward, to, epilogue)
            })
        }
        let (expected, found) =
            on_both!(|device| back(device, shape, &gradient, &input, [&given, &affine, &sums]));
        let share = if shape.axis == Axis::Rows { 0.0 } else { 1.0e-5 };
        assert_near(&expected.unwrap(), &found.unwrap(), share);
    }
}

#[test]
fn a_column_far_from_zero_keeps_its_variance() {
    let shape = Normalisation { rows: 20_000, columns: 3, axis: Axis::Rows, epsilon: 0.0 };
    let input: Vec<_> = (0..shape.elements()).map(|i| 4096.0 + (i / 3 % 2) as f32).collect();
    let (input, mut to) = (upload(&mut Cpu::new(1).unwrap(), &input), vec![0.0; 6]);
    let mut cpu = Cpu::new(2).unwrap();
    Normalise::<f32, f32>::moments(&mut cpu, shape, &input[..], &mut to[..]).unwrap();
    assert_eq!(to, [4096.5, 4096.5, 4096.5, 0.25, 0.25, 0.25]);
}

fn poolings() -> Vec<Pooling> {
    let mut poolings = Vec::new();
    for channels in [1, 3, 8, 16, 27, 40] {
        poolings.push(Pooling::new(3, [8, 6], channels, [2, 2]));
        poolings.push(Pooling::new(2, [9, 7], channels, [3, 3]).stride([2, 2]).padding([1, 1]));
        poolings.push(Pooling::new(2, [7, 8], channels, [2, 3]).stride([3, 4]).padding([1, 0]));
        poolings.push(Pooling::new(1, [5, 5], channels, [5, 4]).stride([1, 1]).padding([4, 3]));
    }
    poolings.push(Pooling::new(40, [32, 32], 16, [2, 2]));
    poolings.push(Pooling::new(0, [4, 4], 2, [2, 2]));
    poolings.push(Pooling::new(1, [4, 4], 0, [2, 2]));
    poolings
}

fn max_pool<D: Host + MaxPool<F>, F: Element + Plain>(
    device: &mut D,
    shape: Pooling,
    input: &[F],
) -> (Outcomes, Vec<u32>) {
    let [_, length] = shape.lengths();
    let input = upload(device, input);
    let mut places = device.zeroed::<u32>(length).unwrap();
    let to = in_place(device, &vec![F::from_bits(1); length], |device, to| {
        device.max_pool(shape, D::view(&input), to, D::view_mut(&mut places))
    });
    (to.map(|to| widened(&to).collect()), download(device, &places))
}

fn check_max_pool<F: Element + Plain>()
where
    Portable: MaxPool<F>,
    Cpu: MaxPool<F>,
{
    for shape in poolings() {
        let [of_input, of_output] = shape.lengths();
        let input = with_specials(random::<F>(5, of_input));
        let (_, mut places) = max_pool(&mut Portable, shape, &input);
        assert_equal!(|device| max_pool(device, shape, &input).0);
        assert_equal!(|device| {
            Ok(max_pool(device, shape, &input).1.iter().map(|&place| place as f32).collect())
        });
        places.iter_mut().step_by(9).for_each(|place| *place = u32::MAX);
        fn moved<D: Host + MaxPool<F>, F: Element + Plain>(
            device: &mut D,
            shape: Pooling,
            from: &[F],
            places: &[u32],
            picks: bool,
        ) -> Outcomes {
            let length = shape.lengths()[usize::from(picks)];
            let (from, places) = (upload(device, from), upload(device, places));
            let to = in_place(device, &vec![F::from_bits(1); length], |device, to| match picks {
                true => device.pick(shape, D::view(&from), D::view(&places), to),
                false => device.unpool(shape, D::view(&from), D::view(&places), to),
            })?;
            Ok(widened(&to).collect())
        }
        let from = with_specials(random::<F>(6, of_output));
        match shape.overlaps() {
            false => assert_equal!(|device| moved(device, shape, &from, &places, false)),
            true => drop(assert_refused!(|device| moved(device, shape, &from, &places, false))),
        }
        assert_equal!(|device| moved(device, shape, &input, &places, true));
    }
}

#[test]
fn pools_the_greatest() {
    check_max_pool::<f16>();
    check_max_pool::<E4M3>();
}

#[test]
fn pools_sums() {
    for shape in poolings() {
        let [of_input, of_output] = shape.lengths();
        let input = with_specials(random::<f16>(7, of_input));
        let gradient = with_specials(random::<f16>(8, of_output));
        let (_, mut places) = max_pool(&mut Portable, shape, &input);
        places.iter_mut().step_by(9).for_each(|place| *place = u32::MAX);
        fn pooled<D: Host>(
            device: &mut D,
            shape: Pooling,
            from: &[f16],
            places: &[u32],
            which: usize,
        ) -> Outcomes {
            let (from, places) = (upload(device, from), upload(device, places));
            let length = shape.lengths()[usize::from(which == 0)];
            ending::<D, f16>(device, length, |device, to, epilogue| {
                let (from, places) = (D::view(&from), D::view(&places));
                match which {
                    0 => device.average_pool(shape, from, to, epilogue),
                    1 => device.average_pool_input(shape, from, to, epilogue),
                    _ => device.max_pool_input(shape, from, places, to, epilogue),
                }
            })
        }
        assert_equal!(|device| pooled(device, shape, &input, &places, 0));
        assert_equal!(|device| pooled(device, shape, &gradient, &places, 1));
        assert_equal!(|device| pooled(device, shape, &gradient, &places, 2));
        if let Some((_, input)) = input.split_first() {
            assert_refused!(|device| pooled(device, shape, input, &places, 0));
        }
    }
}

#[test]
fn refuses_poolings_that_there_are_none_of() {
    let mut cpu = Cpu::new(2).unwrap();
    let none = Pooling::new(1, [2, 2], 1, [3, 3]);
    let overlapping = Pooling::new(1, [3, 3], 1, [2, 2]).stride([1, 1]);
    let (mut to, mut places) = ([f16::from_f32(7.0); 9], [7; 4]);
    let [one, four] = [1, 4].map(|length| vec![f16::ONE; length]);
    let shape = |what| Err(PortableError::Shape { what });
    let found = cpu.max_pool(none, &four[..], &mut to[..1], &mut places[..1]);
    assert_eq!(found, shape("pooling"));
    let found = cpu.unpool(overlapping, &four[..], &places[..], &mut to[..]);
    assert_eq!(found, shape("unpooling"));
    assert!(cpu.pick(overlapping, &one[..], &places[..], &mut to[..4]).is_err());
    assert_eq!((to, places), ([f16::from_f32(7.0); 9], [7; 4]));
}

fn check_relu<W: Element + Plain, G: Element + Plain>()
where
    Portable: Pointwise<W, G>,
    Cpu: Pointwise<W, G>,
{
    fn relu<D: Host + Pointwise<W, G>, W: Element + Plain, G: Element + Plain>(
        device: &mut D,
        values: &[W],
        gradient: &[G],
    ) -> Outcomes {
        let forward =
            in_place(device, values, |device, values| Pointwise::<W, G>::relu(device, values))?;
        let output = upload(device, values);
        let back = in_place(device, gradient, |device, gradient| {
            device.relu_input(D::view(&output), gradient)
        })?;
        // The bits: a NaN has to stay what it was.
        let forward = forward.iter().map(|x| x.to_bits() as f32);
        Ok(forward.chain(back.iter().map(|x| x.to_bits() as f32)).collect())
    }
    for length in [0, 1, 63, 100_003] {
        let values = with_specials(random::<W>(9, length));
        let gradient = with_specials(random::<G>(10, length));
        assert_equal!(|device| relu(device, &values, &gradient));
    }
    let values = random::<W>(9, 3);
    assert_refused!(|device| relu(device, &values, &random::<G>(10, 4)));
}

#[test]
fn rectifies() {
    check_relu::<f16, E5M2>();
    check_relu::<E4M3, f32>();
    check_relu::<bf16, f16>();
}

#[test]
fn drops() {
    fn dropout<D: Host>(device: &mut D, share: f64, input: &[f16], length: usize) -> Outcomes {
        let noise = Noise { seed: 3, stream: 4 };
        let mask = Mask { share: Fraction::from_bits((share * 2.0_f64.powi(32)) as u32), noise };
        let input = upload(device, input);
        ending::<D, f16>(device, length, |device, to, epilogue| {
            device.dropout(mask, D::view(&input), to, epilogue)
        })
    }
    for length in [0, 1, 9000] {
        let input = with_specials(random::<f16>(11, length));
        assert_equal!(|device| dropout(device, 0.3, &input, length));
        assert_equal!(|device| dropout(device, 0.0, &input, length));
        assert_refused!(|device| dropout(device, 0.3, &input, length + 1));
    }
}

#[test]
fn accumulates() {
    fn accumulate<D: Host>(device: &mut D, from: &[f32], to: &[f32]) -> Outcomes {
        let from = upload(device, from);
        in_place(device, to, |device, to| device.accumulate(D::view(&from), to))
    }
    fn blend<D: Host>(device: &mut D, from: &[f32], to: &[f32]) -> Outcomes {
        let from = upload(device, from);
        in_place(device, to, |device, to| device.blend(0.1, D::view(&from), to))
    }
    for (rows, columns) in
        [(1, 10_000), (3, 5000), (1000, 16), (1001, 3), (77, 10), (4, 300), (0, 3), (0, 0)]
    {
        let (from, to) = (random::<f32>(12, columns), random::<f32>(13, rows * columns));
        assert_equal!(|device| accumulate(device, &from, &to));
        assert_refused!(|device| accumulate(device, &from, &random::<f32>(13, rows * columns + 1)));
        if !to.is_empty() {
            assert_refused!(|device| accumulate(device, &[], &to));
        }
        assert_equal!(|device| blend(device, &random::<f32>(14, to.len()), &to));
        assert_refused!(|device| blend(device, &random::<f32>(14, to.len() + 1), &to));
    }
}

#[test]
fn embeds() {
    fn embed<D: Host>(device: &mut D, width: usize, tokens: &[u32], table: &[f16]) -> Outcomes {
        let tokens_on = upload(device, tokens);
        let table_on = upload(device, table);
        let rows = in_place(device, &vec![f16::ONE; tokens.len() * width], |device, to| {
            let (tokens, table) = (D::view(&tokens_on), D::view(&table_on));
            Embed::<f16, f16>::embed(device, width, tokens, table, to)
        })?;
        let gradient = upload(device, &random::<f16>(16, rows.len()));
        let sums = in_place(device, &vec![7.0; table.len()], |device, to| {
            let (tokens, gradient) = (D::view(&tokens_on), D::view(&gradient));
            Embed::<f16, f16>::embed_table(device, width, tokens, gradient, to)
        })?;
        Ok(widened(&rows).chain(sums).collect())
    }
    for (width, vocabulary, count) in
        [(1, 5, 100), (16, 700, 3000), (96, 65, 512), (3, 4, 0), (3, 0, 4)]
    {
        let noise = Noise { seed: 5, stream: 0 };
        let tokens: Vec<_> = (0..count).map(|i| noise.word(i) % (vocabulary + 2)).collect();
        let table = random::<f16>(15, vocabulary as usize * width);
        assert_equal!(|device| embed(device, width, &tokens, &table));
        assert_refused!(|device| embed(device, 0, &tokens, &table));
    }
    assert_refused!(|device| embed(device, 2, &[0, u32::MAX, 1], &random::<f16>(15, 5)));
}

fn check_attention<W: Element + Plain, G: Element + Plain>(share: f32)
where
    Portable: Attend<W, G>,
    Cpu: Attend<W, G>,
{
    fn attend<D: Host + Attend<W, G>, W: Element + Plain, G: Element + Plain>(
        device: &mut D,
        shape: Attention,
        input: &[W],
        gradient: &[G],
    ) -> Outcomes {
        let [of_input, of_output] = shape.lengths();
        let (input, gradient) = (upload(device, input), upload(device, gradient));
        let mut forward = ending::<D, W>(device, of_output, |device, to, epilogue| {
            Attend::<W, G>::attend(device, shape, D::view(&input), to, epilogue)
        })?;
        let back = ending::<D, G>(device, of_input, |device, to, epilogue| {
            device.attend_input(shape, D::view(&gradient), D::view(&input), to, epilogue)
        })?;
        forward.extend(back);
        Ok(forward)
    }
    for (batch, tokens, heads, width) in
        [(2, 33, 3, 20), (1, 70, 2, 64), (3, 1, 1, 5), (2, 6, 2, 100), (0, 3, 1, 1), (1, 3, 2, 0)]
    {
        let shape = Attention { batch, tokens, heads, width };
        let [of_input, of_output] = shape.lengths();
        let mut input = random::<W>(17, of_input);
        let gradient = random::<G>(18, of_output);
        let (expected, found) = on_both!(|device| attend(device, shape, &input, &gradient));
        assert_near(&expected.unwrap(), &found.unwrap(), share);
        // A NaN in the last token reaches no result that does not depend on it.
        if let Some(last) = input.last_mut() {
            *last = W::from_bits(W::ENCODING.nan_bits());
        }
        let (expected, found) = on_both!(|device| attend(device, shape, &input, &gradient));
        assert_near(&expected.unwrap(), &found.unwrap(), share);
        assert_refused!(|device| attend(device, shape, &input, &random::<G>(18, of_output + 1)));
    }
}

#[test]
fn attends() {
    check_attention::<f16, f32>(1.0e-3);
    check_attention::<f32, f16>(1.0e-3);
}

#[test]
fn loses() {
    fn loss<D: Host>(
        device: &mut D,
        classes: usize,
        labels: &[u32],
        [logits, weights]: [&[f32]; 2],
    ) -> Outcomes {
        let [logits, weights] = [logits, weights].map(|all| upload(device, all));
        let labels_on = upload(device, labels);
        let mut sum = upload(device, &[LossSum { rows: 1, ..LossSum::default() }]);
        let mut to = in_place(device, &vec![7.0; labels.len() * classes], |device, to| {
            let (logits, labels, weights) =
                (D::view(&logits), D::view(&labels_on), D::view(&weights));
            device.softmax_cross_entropy(
                classes,
                logits,
                labels,
                weights,
                to,
                D::view_mut(&mut sum),
            )
        })?;
        // So that gradients are compared apart from the sums.
        to.iter_mut().for_each(|x| *x *= labels.len() as f32);
        let sum = download(device, &sum)[0];
        to.extend([sum.mean() as f32, sum.rows as f32, sum.correct as f32, sum.weight as f32]);
        Ok(to)
    }
    for (classes, rows) in [(10, 1000), (1, 50), (3, 7), (100, 130), (65, 64), (5000, 4), (10, 0)] {
        let noise = Noise { seed: 6, stream: 0 };
        let labels: Vec<_> = (0..rows).map(|i| noise.word(i) % (classes as u32 + 1)).collect();
        let mut logits = random::<f32>(19, labels.len() * classes);
        let weights: Vec<_> = random::<f32>(20, classes).iter().map(|x| x.abs()).collect();
        for weights in [&weights[..], &[]] {
            let (expected, found) =
                on_both!(|device| loss(device, classes, &labels, [&logits, weights]));
            let (expected, found) = (expected.unwrap(), found.unwrap());
            let sums = expected.len() - 4;
            assert_near(&expected[..sums], &found[..sums], 3.0e-6);
            assert_eq!(expected[sums + 1..sums + 3], found[sums + 1..sums + 3]);
            for place in [sums, sums + 3] {
                assert_near(&expected[place..=place], &found[place..=place], 1.0e-6);
            }
        }
        for (i, x) in
            [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN].iter().enumerate()
        {
            logits.iter_mut().skip(classes * i).take(1).for_each(|logit| *logit = *x);
        }
        let (expected, found) = on_both!(|device| loss(device, classes, &labels, [&logits, &[]]));
        assert_near(&expected.unwrap(), &found.unwrap(), 3.0e-6);
        if classes > 1 {
            assert_refused!(|device| loss(device, classes, &labels, [&logits, &weights[1..]]));
        }
    }
}

#[test]
fn updates() {
    const SGD: Sgd =
        Sgd { learning_rate: 0.1, momentum: 0.9, weight_decay: 1.0e-4, max_norm: Some(0.5) };
    const ADAMW: AdamW = AdamW {
        learning_rate: 0.01,
        betas: [0.9, 0.99],
        epsilon: 1.0e-8,
        weight_decay: 0.1,
        step: 3,
        max_norm: None,
    };
    fn update<D: Host>(
        device: &mut D,
        gradient: &[f32],
        weight: &[f32],
        state: &[f32],
        norms: &[f64],
        adam: bool,
    ) -> Outcomes {
        let (gradient, norms) = (upload(device, gradient), upload(device, norms));
        let mut state = upload(device, state);
        let mut weights = in_place(device, weight, |device, weight| {
            let (gradient, norm, state) =
                (D::view(&gradient), D::view(&norms), D::view_mut(&mut state));
            match adam {
                true => device.adamw(&ADAMW, gradient, norm, weight, state),
                false => device.sgd(&SGD, gradient, norm, weight, state),
            }
        })?;
        weights.extend(download(device, &state));
        Ok(weights)
    }
    for length in [0, 1, 10_001] {
        let [gradient, weight] = [21, 22].map(|seed| random::<f32>(seed, length));
        let moments: Vec<_> = random::<f32>(23, 2 * length).iter().map(|x| x.abs()).collect();
        for norm in [0.0, 0.25, 2.0, f64::NAN] {
            assert_equal!(|device| update(device, &gradient, &weight, &moments, &[norm], true));
            assert_equal!(|device| {
                update(device, &gradient, &weight, &moments[length..], &[norm], false)
            });
        }
        assert_refused!(|device| update(device, &gradient, &weight, &moments, &[], true));
        assert_refused!(|device| update(device, &gradient, &weight, &[1.0; 3], &[0.0], false));
    }
}

#[test]
fn squares_norms() {
    fn square<D: Host>(device: &mut D, gradient: &[f32], count: usize) -> Outcomes {
        let gradient = upload(device, gradient);
        let norm = in_place(device, &vec![1.0_f64; count], |device, to| {
            device.square_norm(D::view(&gradient), to)
        })?;
        Ok(norm.iter().map(|&x| x as f32).collect())
    }
    for length in [0, 1, 100, 20_000] {
        let gradient = random::<f32>(24, length);
        assert_equal!(|device| square(device, &gradient, 1));
        assert_refused!(|device| square(device, &gradient, 2));
        let integers: Vec<_> = gradient.iter().map(|x| x.round()).collect();
        assert_equal!(|device| square(device, &integers, 1));
    }
}
