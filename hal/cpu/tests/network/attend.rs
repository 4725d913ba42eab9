//! Attention.

use adaloss_core::format::{Element, Encoding, f16};
use adaloss_cpu::Cpu;
use adaloss_hal::Plain;
use adaloss_hal::network::{Attend, AttendInput, Attention, HasAttend};
use adaloss_hal::portable::Portable;
use adaloss_oracle::tolerance::{CPU_ATTENTION, CPU_ATTENTION_NARROWED, Tolerance};

use super::{Host, Outcomes, assert_near, assert_refused, ending, on_both, random, upload};

fn check_attention<W: Element + Plain, G: Element + Plain>()
where
    Portable: HasAttend<W, G>,
    Cpu: HasAttend<W, G>,
{
    fn attend<D: Host + HasAttend<W, G>, W: Element + Plain, G: Element + Plain>(
        device: &mut D,
        shape: Attention,
        input: &[W],
        gradient: &[G],
    ) -> Outcomes {
        let [of_input, of_output] = shape.lengths();
        let (input, gradient) = (upload(device, input), upload(device, gradient));
        let mut forward = ending::<D, W>(device, of_output, |device, to, epilogue| {
            device.run(Attend { attention: shape, input: D::view(&input), to, epilogue })
        })?;
        let back = ending::<D, G>(device, of_input, |device, to, epilogue| {
            device.run(AttendInput {
                attention: shape,
                gradient: D::view(&gradient),
                input: D::view(&input),
                to,
                epilogue,
            })
        })?;
        forward.extend(back);
        Ok(forward)
    }
    // What is empty may have any number of tokens.
    let empty = [(0, 3, 1, 1), (1, 3, 2, 0), (0, usize::MAX / 2, 1, 1), (1, usize::MAX / 4, 1, 0)];
    let shapes = [(2, 33, 3, 20), (8, 70, 2, 64), (3, 1, 1, 5), (2, 6, 2, 100)];
    for (batch, tokens, heads, width) in shapes.into_iter().chain(empty) {
        let shape = Attention { batch, tokens, heads, width };
        let [of_input, of_output] = shape.lengths();
        let mut input = random::<W>(17, of_input);
        let gradient = random::<G>(18, of_output);
        let (expected, found) = on_both!(|device| attend(device, shape, &input, &gradient));
        assert_attends::<W, G>(of_output, &expected.unwrap(), &found.unwrap());
        // A NaN in the last token reaches no result that does not depend on it.
        if let Some(last) = input.last_mut() {
            *last = W::from_bits(W::ENCODING.nan_bits());
        }
        let (expected, found) = on_both!(|device| attend(device, shape, &input, &gradient));
        assert_attends::<W, G>(of_output, &expected.unwrap(), &found.unwrap());
        assert_refused!(|device| attend(device, shape, &input, &random::<G>(18, of_output + 1)));
    }
}

/// Compares outputs and gradients, each by what they are stored as.
fn assert_attends<W: Element, G: Element>(outputs: usize, expected: &[f32], found: &[f32]) {
    let (expected, found) = (expected.split_at(outputs), found.split_at(outputs));
    assert_near(expected.0, found.0, tolerance::<W>());
    assert_near(expected.1, found.1, tolerance::<G>());
}

fn tolerance<F: Element>() -> &'static Tolerance {
    match F::ENCODING {
        Encoding::Binary16 => &CPU_ATTENTION_NARROWED,
        _ => &CPU_ATTENTION,
    }
}

#[test]
fn attends() {
    check_attention::<f16, f32>();
    check_attention::<f32, f16>();
    CPU_ATTENTION.assert_needed();
    CPU_ATTENTION_NARROWED.assert_needed();
}
