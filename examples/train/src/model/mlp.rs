//! Three linear layers.

use adaloss_core::format::Element;
use adaloss_hal::Plain;
use anyhow::Result;

use super::{Build, Layers};
use crate::layer::{AnyLayer, Machine, Relu, Reshape};

/// Makes the layers.
pub(super) fn layers<W, G, D>(
    build: &mut Build<'_, D>,
    inputs: usize,
    hidden: usize,
    classes: usize,
) -> Result<Layers<D, W, G>>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Machine<W, G>,
{
    let body: Vec<AnyLayer<D, W, G>> = vec![
        Box::new(Reshape::to_rows()),
        Box::new(build.linear("stem", [inputs, hidden], 2.0)?.first()),
        Box::new(Relu::new()),
        Box::new(build.linear("hidden", [hidden, hidden], 2.0)?),
        Box::new(Relu::new()),
    ];
    let head = build.head("head", [hidden, classes])?;
    Ok(Layers::in_line(body, head))
}
