//! A random little network goes backward on two devices and in f64.
//!
//! Linear layers in a chain, some of them in the branch of a residual connection.  Scales are chosen
//! while the gradients flow.  The unscaled weight gradients of each device are compared, element by
//! element, with the derivatives in f64, within what the roundings on the way add up to (`bound.rs`
//! states the formula).  Two devices that sum in the order of the index have to agree bit for bit, and so have a scaler on the
//! host and one in a device's memory.

mod bound;
mod network;
mod on_device;
mod on_engine;

use adaloss_core::{
    format::{Element, bf16, f16},
    policy::Cell,
    scaler::LossScaler,
};
use adaloss_hal::{
    Capabilities, HasMatmul, Memory, Plain,
    portable::Portable,
    scaler::{Engine, HasScaler},
};

use self::{bound::Bound, network::Network, on_device::OnDevice, on_engine::OnEngine};
use crate::{
    config::config_for,
    cpu,
    device::{succeeds, upload},
    input,
};

/// Cells for every layer and join.
const CELLS: usize = 2 * network::NODES * network::BRANCH;

/// The most steps of one network.
const STEPS: usize = 3;

/// Checks our devices against f64.
pub fn check(bytes: &[u8]) {
    let Some((&first, rest)) = bytes.split_first() else { return };
    match first % 2 {
        0 => {
            check_on::<f16, _, _>(&mut Portable, &mut cpu(), rest);
            check_scaler_on::<f16, _>(&mut Portable, rest);
        }
        _ => {
            check_on::<bf16, _, _>(&mut Portable, &mut cpu(), rest);
            check_scaler_on::<bf16, _>(&mut cpu(), rest);
        }
    }
}

/// Checks that a scaler in a device's memory makes the visits, the weight gradients and the verdicts of one on the host.
pub fn check_scaler_on<G, D>(device: &mut D, bytes: &[u8])
where
    G: Element + Plain,
    D: Memory + HasMatmul<G, G, G> + HasMatmul<G, G, f32> + HasScaler,
{
    input::run(bytes, |u| {
        let config = config_for(u, G::ENCODING, device.capabilities())?;
        let network = Network::<G>::draw(u)?;
        let mut scaler = LossScaler::<CELLS>::new(config);
        // The loss has a visit, each layer and join has one, and the end of a step has a line.
        let mut engine = succeeds(Engine::new(device, config, CELLS, CELLS + 2));
        for _ in 0..u.int_in_range(1..=STEPS)? {
            let loss = network.loss_gradient(u)?;
            let uploaded = upload(device, &loss);
            let mut on_host = OnDevice::new(device, &mut scaler);
            network.backward(&mut on_host, &uploaded);
            let (visits, expected) = on_host.finish();
            let mut on_engine = OnEngine::new(device, &mut engine);
            network.backward(&mut on_engine, &uploaded);
            let (found_visits, found, _) = on_engine.finish();
            assert_eq!(visits, found_visits, "{config:?}");
            assert_eq!(bits(&expected), bits(&found), "{config:?}");
            let mut cells = [Cell::new(); CELLS];
            let (state, _) = succeeds(engine.save(device, &mut cells));
            assert_eq!(scaler.digest(), state.digest(&cells), "{config:?}");
            assert_eq!(scaler.totals(), state.totals(), "{config:?}");
        }
        Ok(())
    });
}

fn bits(gradients: &[Vec<f32>]) -> Vec<Vec<u32>> {
    gradients.iter().map(|gradient| gradient.iter().map(|x| x.to_bits()).collect()).collect()
}

/// Checks two devices with weights, activations and gradients of type `G`, and weight gradients in
/// f32.
pub fn check_on<G, A, B>(one: &mut A, other: &mut B, bytes: &[u8])
where
    G: Element + Plain,
    A: Memory + HasMatmul<G, G, G> + HasMatmul<G, G, f32>,
    B: Memory + HasMatmul<G, G, G> + HasMatmul<G, G, f32>,
{
    input::run(bytes, |u| {
        let shared = both(one.capabilities(), other.capabilities());
        let config = config_for(u, G::ENCODING, shared)?;
        let network = Network::<G>::draw(u)?;
        let mut on_one = LossScaler::new(config);
        let mut on_other = LossScaler::new(config);
        for _ in 0..u.int_in_range(1..=STEPS)? {
            let loss = network.loss_gradient(u)?;
            let left = [
                step(one, &mut on_one, &network, &loss),
                step(other, &mut on_other, &network, &loss),
            ];
            if shared.sequential_sums {
                assert_eq!(left[0], left[1], "{config:?}");
                assert_eq!(on_one.digest(), on_other.digest(), "{config:?}");
            }
        }
        Ok(())
    });
}

/// Makes one step on a device, compares its weight gradients, and returns their bits.
fn step<G, D>(
    device: &mut D,
    scaler: &mut LossScaler<CELLS>,
    network: &Network<G>,
    loss: &[f32],
) -> Vec<Vec<u32>>
where
    G: Element + Plain,
    D: Memory + HasMatmul<G, G, G> + HasMatmul<G, G, f32>,
{
    let config = *scaler.config();
    let uploaded = upload(device, loss);
    let mut arithmetic = OnDevice::new(device, scaler);
    network.backward(&mut arithmetic, &uploaded);
    let (visits, found) = arithmetic.finish();
    let mut bound = Bound::new(&config, visits);
    network.backward(&mut bound, loss);
    bound.check(&found);
    bits(&found)
}

/// What two devices have in common.
fn both(one: Capabilities, other: Capabilities) -> Capabilities {
    let mut shared = one;
    shared.subnormals &= other.subnormals;
    shared.stochastic_rounding &= other.stochastic_rounding;
    shared.sequential_sums &= other.sequential_sums;
    shared
}
