//! The network, and its backward pass, the same for every device.

use adaloss_core::format::Element;
use arbitrary::{Result, Unstructured};

use crate::input;

/// The most nodes of a chain, layers of a branch, rows of a batch, and features.
pub(super) const NODES: usize = 5;
pub(super) const BRANCH: usize = 3;
const BATCH: usize = 4;
const WIDTH: usize = 9;

/// A linear layer `y = x W^T` with what it saw going forward.
pub(super) struct Linear<G> {
    /// The cell of its input gradient.
    pub(super) id: usize,
    pub(super) batch: usize,
    pub(super) outputs: usize,
    pub(super) inputs: usize,
    /// `(outputs, inputs)`, row-major.
    pub(super) weight: Vec<G>,
    /// `(batch, inputs)`, row-major.
    pub(super) input: Vec<G>,
}

enum Node<G> {
    Linear(Linear<G>),
    /// A branch beside the identity; both are joined through a cell.
    Residual {
        id: usize,
        branch: Vec<Linear<G>>,
    },
}

/// Nodes in forward order.
pub(super) struct Network<G> {
    nodes: Vec<Node<G>>,
    /// Elements of the loss gradient.
    outputs: usize,
}

/// What a backward pass is computed with.
pub(super) trait Arithmetic<G> {
    /// The loss gradient, unscaled.
    type Loss: ?Sized;
    /// A gradient between two layers.
    type Gradient;

    fn loss(&mut self, gradient: &Self::Loss) -> Self::Gradient;
    /// Keeps the weight gradient of a layer.
    fn weight(&mut self, layer: &Linear<G>, gradient: &Self::Gradient);
    fn input(&mut self, layer: &Linear<G>, gradient: &Self::Gradient) -> Self::Gradient;
    fn join(&mut self, id: usize, branches: [&Self::Gradient; 2]) -> Self::Gradient;
}

impl<G: Element> Network<G> {
    pub(super) fn draw(u: &mut Unstructured<'_>) -> Result<Self> {
        let batch = u.int_in_range(1..=BATCH)?;
        let (mut width, mut id) = (u.int_in_range(1..=WIDTH)?, 0);
        let mut nodes = Vec::new();
        for _ in 0..u.int_in_range(1..=NODES)? {
            let mut layer = |u: &mut Unstructured<'_>, inputs, outputs| {
                id += 1;
                let weight = input::elements(u, outputs * inputs)?;
                let input = input::elements(u, batch * inputs)?;
                Ok(Linear { id: id - 1, batch, outputs, inputs, weight, input })
            };
            if u.ratio(1, 3)? {
                let length = u.int_in_range(1..=BRANCH)?;
                let branch = (0..length).map(|_| layer(u, width, width));
                let branch = branch.collect::<Result<_>>()?;
                nodes.push(Node::Residual { id, branch });
                id += 1;
            } else {
                let outputs = u.int_in_range(1..=WIDTH)?;
                nodes.push(Node::Linear(layer(u, width, outputs)?));
                width = outputs;
            }
        }
        Ok(Self { nodes, outputs: batch * width })
    }

    /// A loss gradient for one step.
    pub(super) fn loss_gradient(&self, u: &mut Unstructured<'_>) -> Result<Vec<f32>> {
        let mut values = input::values(u, G::ENCODING.into(), self.outputs)?;
        values.resize(self.outputs, 3.0e-6);
        Ok(values)
    }

    /// Goes back from the loss to the first layer, whose input gradient is computed as well.
    pub(super) fn backward<A: Arithmetic<G>>(&self, arithmetic: &mut A, loss: &A::Loss) {
        let mut gradient = arithmetic.loss(loss);
        for node in self.nodes.iter().rev() {
            gradient = match node {
                Node::Linear(layer) => through(arithmetic, layer, &gradient),
                Node::Residual { id, branch } => {
                    let mut layers = branch.iter().rev();
                    let last = layers.next().expect("a branch has a layer");
                    let start = through(arithmetic, last, &gradient);
                    let end = layers.fold(start, |g, layer| through(arithmetic, layer, &g));
                    arithmetic.join(*id, [&end, &gradient])
                }
            };
        }
    }
}

/// Goes back through one layer.
fn through<G, A: Arithmetic<G>>(
    arithmetic: &mut A,
    layer: &Linear<G>,
    gradient: &A::Gradient,
) -> A::Gradient {
    arithmetic.weight(layer, gradient);
    arithmetic.input(layer, gradient)
}
