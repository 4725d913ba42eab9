//! Pooling and unpooling.

use adaloss_core::format::{E4M3, Element, f16};
use adaloss_cpu::Cpu;
use adaloss_hal::network::{
    AveragePool, AveragePoolInput, HasPool, MaxPool, MaxPoolInput, Pick, Pooling, Unpool,
};
use adaloss_hal::{AddressSpace, Misfit, MisfitCause, OperationKind, Plain, Run};
use adaloss_hal::{HostError, portable::Portable};

use super::{
    Host, Outcomes, assert_equal, assert_refused, download, ending, in_place, random, upload,
    widened, with_specials,
};

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

fn max_pool<D: Host + HasPool<F>, F: Element + Plain>(
    device: &mut D,
    shape: Pooling,
    input: &[F],
) -> (Outcomes, Vec<u32>) {
    let [_, length] = shape.lengths();
    let input = upload(device, input);
    let mut indices = device.zeroed::<u32>(length).unwrap();
    let to = in_place(device, &vec![F::from_bits(1); length], |device, mut to| {
        let (to, indices) = (D::Space::reborrow_mut(&mut to), D::view_mut(&mut indices));
        device.run(MaxPool { pooling: shape, input: D::view(&input), to, indices })
    });
    (to.map(|to| widened(&to).collect()), download(device, &indices))
}

fn check_max_pool<F: Element + Plain>()
where
    Portable: HasPool<F>,
    Cpu: HasPool<F>,
{
    for shape in poolings() {
        let [of_input, of_output] = shape.lengths();
        let input = with_specials(random::<F>(5, of_input));
        let (_, mut indices) = max_pool(&mut Portable, shape, &input);
        assert_equal!(|device| max_pool(device, shape, &input).0);
        assert_equal!(|device| {
            Ok(max_pool(device, shape, &input).1.iter().map(|&position| position as f32).collect())
        });
        indices.iter_mut().step_by(9).for_each(|position| *position = u32::MAX);
        fn moved<D: Host + HasPool<F>, F: Element + Plain>(
            device: &mut D,
            shape: Pooling,
            from: &[F],
            indices: &[u32],
            picks: bool,
        ) -> Outcomes {
            let length = shape.lengths()[usize::from(picks)];
            let (from, indices) = (upload(device, from), upload(device, indices));
            let to = in_place(device, &vec![F::from_bits(1); length], |device, to| {
                let (pooling, input, indices) = (shape, D::view(&from), D::view(&indices));
                match picks {
                    true => device.run(Pick { pooling, input, indices, to }),
                    false => device.run(Unpool { pooling, input, indices, to }),
                }
            })?;
            Ok(widened(&to).collect())
        }
        let from = with_specials(random::<F>(6, of_output));
        match shape.overlaps() {
            false => assert_equal!(|device| moved(device, shape, &from, &indices, false)),
            true => drop(assert_refused!(|device| moved(device, shape, &from, &indices, false))),
        }
        assert_equal!(|device| moved(device, shape, &input, &indices, true));
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
        let (_, mut indices) = max_pool(&mut Portable, shape, &input);
        indices.iter_mut().step_by(9).for_each(|position| *position = u32::MAX);
        fn pooled<D: Host>(
            device: &mut D,
            shape: Pooling,
            from: &[f16],
            indices: &[u32],
            which: usize,
        ) -> Outcomes {
            let (from, indices) = (upload(device, from), upload(device, indices));
            let length = shape.lengths()[usize::from(which == 0)];
            ending::<D, f16>(device, length, |device, to, epilogue| {
                let (pooling, from, indices) = (shape, D::view(&from), D::view(&indices));
                match which {
                    0 => device.run(AveragePool { pooling, input: from, to, epilogue }),
                    1 => device.run(AveragePoolInput { pooling, gradient: from, to, epilogue }),
                    _ => {
                        let gradient = from;
                        device.run(MaxPoolInput { pooling, gradient, indices, to, epilogue })
                    }
                }
            })
        }
        assert_equal!(|device| pooled(device, shape, &input, &indices, 0));
        assert_equal!(|device| pooled(device, shape, &gradient, &indices, 1));
        assert_equal!(|device| pooled(device, shape, &gradient, &indices, 2));
        if let Some((_, input)) = input.split_first() {
            assert_refused!(|device| pooled(device, shape, input, &indices, 0));
        }
    }
}

#[test]
fn refuses_poolings_that_there_are_none_of() {
    let mut cpu = Cpu::new(2).unwrap();
    let none = Pooling::new(1, [2, 2], 1, [3, 3]);
    let overlapping = Pooling::new(1, [3, 3], 1, [2, 2]).stride([1, 1]);
    let (mut to, mut indices) = ([f16::from_f32(7.0); 9], [7; 4]);
    let [one, four] = [1, 4].map(|length| vec![f16::ONE; length]);
    let misfit = |operation, cause| Err(HostError::Misfit(Misfit { operation, cause }));
    let found = cpu.run(MaxPool {
        pooling: none,
        input: &four[..],
        to: &mut to[..1],
        indices: &mut indices[..1],
    });
    assert_eq!(found, misfit(OperationKind::MaxPool, MisfitCause::Shape));
    let (pooling, input) = (overlapping, &four[..]);
    let found = cpu.run(Unpool { pooling, input, indices: &indices[..], to: &mut to[..] });
    let cause = MisfitCause::Missing("windows that do not overlap");
    assert_eq!(found, misfit(OperationKind::Unpool, cause));
    let (input, to_pick) = (&one[..], &mut to[..4]);
    assert!(cpu.run(Pick { pooling, input, indices: &indices[..], to: to_pick }).is_err());
    assert_eq!((to, indices), ([f16::from_f32(7.0); 9], [7; 4]));
}
