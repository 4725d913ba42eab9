//! What takes elements one by one or moves them.

use adaloss_core::format::{E4M3, E5M2, Element, Noise, bf16, f16};
use adaloss_core::policy::Fraction;
use adaloss_cpu::Cpu;
use adaloss_hal::Plain;
use adaloss_hal::network::{
    Accumulate, Blend, Dropout, Embed, EmbedTable, HasRelu, Mask, Relu, ReluInput,
};
use adaloss_hal::portable::Portable;

use super::{
    Host, Outcomes, assert_equal, assert_refused, ending, in_place, random, upload, widened,
    with_specials,
};

fn check_relu<W: Element + Plain, G: Element + Plain>()
where
    Portable: HasRelu<W, G>,
    Cpu: HasRelu<W, G>,
{
    fn relu<D: Host + HasRelu<W, G>, W: Element + Plain, G: Element + Plain>(
        device: &mut D,
        values: &[W],
        gradient: &[G],
    ) -> Outcomes {
        let forward =
            in_place(device, values, |device, values| device.run(Relu::<D::Space, W> { values }))?;
        let output = upload(device, values);
        let back = in_place(device, gradient, |device, gradient| {
            device.run(ReluInput::<D::Space, W, G> { output: D::view(&output), gradient })
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
            device.run(Dropout { mask, input: D::view(&input), to, epilogue })
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
        in_place(device, to, |device, to| {
            device.run(Accumulate::<D::Space> { input: D::view(&from), to })
        })
    }
    fn blend<D: Host>(device: &mut D, from: &[f32], to: &[f32]) -> Outcomes {
        let from = upload(device, from);
        in_place(device, to, |device, to| {
            device.run(Blend::<D::Space> { share: 0.1, input: D::view(&from), to, when: None })
        })
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
            device.run(Embed::<D::Space, f16> { width, tokens, table, to })
        })?;
        let gradient = upload(device, &random::<f16>(16, rows.len()));
        let sums = in_place(device, &vec![7.0; table.len()], |device, to| {
            let (tokens, gradient) = (D::view(&tokens_on), D::view(&gradient));
            device.run(EmbedTable::<D::Space, f16> { width, tokens, gradient, to })
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
