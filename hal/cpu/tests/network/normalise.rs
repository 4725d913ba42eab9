//! Normalisation over rows and columns.

use adaloss_core::format::f16;
use adaloss_cpu::Cpu;
use adaloss_hal::Run;
use adaloss_hal::network::{
    Axis, Moments, Normalisation, Normalise, NormaliseInput, NormaliseSums,
};
use adaloss_hal::portable::Portable;
use adaloss_oracle::tolerance::{CPU_NORMALISATION, CPU_SUMS};

use super::{
    Host, Outcomes, assert_equal, assert_near, assert_refused, assert_same, ending, in_place,
    on_both, random, upload, widened,
};

fn normalisations() -> impl Iterator<Item = Normalisation> {
    let sizes = [(3000, 16), (777, 3), (100, 10), (41, 300), (1, 5), (7, 1), (0, 4), (4, 0)];
    sizes.into_iter().flat_map(|(rows, columns)| {
        let kinds = [
            (Axis::Rows, true),
            (Axis::Columns, true),
            (Axis::Rows, false),
            (Axis::Columns, false),
        ];
        kinds.map(|(axis, centred)| Normalisation { rows, columns, axis, centred, epsilon: 1.0e-5 })
    })
}

fn moments<D: Host>(device: &mut D, shape: Normalisation, input: &[f16]) -> Outcomes {
    let input = upload(device, input);
    in_place(device, &vec![7.0; shape.moments()], |device, to| {
        device.run(Moments::<D::Space, f16> { normalisation: shape, input: D::view(&input), to })
    })
}

#[test]
fn normalises() {
    for shape in normalisations() {
        let input = random::<f16>(1, shape.elements());
        let gradient = random::<f32>(2, shape.elements());
        let affine = random::<f32>(3, shape.affine());
        let (expected, found) = on_both!(|device| moments(device, shape, &input));
        assert_near(&expected.clone().unwrap(), &found.unwrap(), &CPU_SUMS);
        let given = expected.unwrap();

        fn normalise<D: Host>(
            device: &mut D,
            shape: Normalisation,
            [input, given, affine]: [&[f32]; 3],
        ) -> Outcomes {
            let [input, given, affine] = [input, given, affine].map(|all| upload(device, all));
            ending::<D, f32>(device, shape.elements(), |device, to, epilogue| {
                device.run(Normalise::<D::Space, f32> {
                    normalisation: shape,
                    input: D::view(&input),
                    moments: D::view(&given),
                    affine: D::view(&affine),
                    to,
                    epilogue,
                })
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
                device.run(NormaliseSums::<D::Space, f32, f16> {
                    normalisation: shape,
                    gradient: D::view(&gradient),
                    input: D::view(&input),
                    moments: D::view(&given),
                    to,
                })
            })
        }
        let (expected, found) = on_both!(|device| sums(device, shape, (&gradient, &input, &given)));
        assert_near(&expected.clone().unwrap(), &found.unwrap(), &CPU_SUMS);
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
                device.run(NormaliseInput::<D::Space, f32, f16> {
                    normalisation: shape,
                    gradient: D::view(&gradient),
                    input: D::view(&input),
                    moments: D::view(&moments),
                    affine: D::view(&affine),
                    sums: D::view(&sums),
                    to,
                    epilogue,
                })
            })
        }
        let (expected, found) =
            on_both!(|device| back(device, shape, &gradient, &input, [&given, &affine, &sums]));
        let (expected, found) = (expected.unwrap(), found.unwrap());
        match shape.axis {
            Axis::Rows => assert_same(&expected, &found),
            Axis::Columns => assert_near(&expected, &found, &CPU_NORMALISATION),
        }
    }
    CPU_SUMS.assert_needed();
    CPU_NORMALISATION.assert_needed();
}

#[test]
fn a_column_far_from_zero_keeps_its_variance() {
    let shape =
        Normalisation { rows: 20_000, columns: 3, axis: Axis::Rows, centred: true, epsilon: 0.0 };
    let input: Vec<_> = (0..shape.elements()).map(|i| 4096.0 + (i / 3 % 2) as f32).collect();
    let (input, mut to) = (upload(&mut Cpu::new(1).unwrap(), &input), vec![0.0; 6]);
    let mut cpu = Cpu::new(2).unwrap();
    cpu.run(Moments { normalisation: shape, input: &input[..], to: &mut to[..] }).unwrap();
    assert_eq!(to, [4096.5, 4096.5, 4096.5, 0.25, 0.25, 0.25]);
}
