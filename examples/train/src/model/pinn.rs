//! Physics-informed networks: a field that is learnt from its equation, and from what it is at the boundary.

use std::rc::Rc;

use adaloss_core::format::{Element, Narrowing};
use adaloss_hal::{HasMatmul, HasNarrow, Memory, Plain};
use anyhow::{Context, Result, ensure};

use super::{Build, Heads, Layers};
use crate::layer::{
    Activation, Backward, Forward, Gradient, Jet, JetLinear, JetTanh, LossPass, Machine, Piece,
    Sequence, Shape, Stream, Tensor,
};

/// Linear layers from the coordinates of a point to a field, with tanh between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pinn {
    /// Units of the hidden layers.
    pub hidden: usize,
    /// Hidden layers.
    pub depth: usize,
}

impl Default for Pinn {
    fn default() -> Self {
        Self { hidden: 32, depth: 3 }
    }
}

impl Pinn {
    /// The variance of the first layer's weights, over the fan-in: larger than those of the others, so that units differ over the
    /// square and not only in sign.
    const FIRST_GAIN: f32 = 4.0;

    /// Makes the layers for pairs of points of two coordinates.
    pub(super) fn layers<W, G, D>(
        self,
        build: &mut Build<'_, D>,
        [height, width, channels]: [usize; 3],
        classes: usize,
    ) -> Result<Layers<D, W, G>>
    where
        W: Element + Plain,
        G: Element + Plain,
        D: Machine<W, G>,
    {
        ensure!(
            [height, width, channels] == [1, 2, 2] && classes == 1,
            "a physics-informed network takes pairs of points with two coordinates each and learns one field: use helmholtz-N"
        );
        let mut layers = Vec::new();
        let mut inputs = channels;
        for nth in 1..=self.depth {
            let gain = if nth == 1 { Self::FIRST_GAIN } else { 1.0 };
            layers.push(build.jet_linear(&format!("hidden{nth}"), [inputs, self.hidden], gain)?);
            inputs = self.hidden;
        }
        let last = build.jet_linear("field", [inputs, 1], 1.0)?;
        let field = FieldHeads { layers, last, given: None, equation: None };
        let heads = Heads::Field(Box::new(field));
        Ok(Layers { embedding: None, generator: None, body: Sequence::new(Vec::new()), heads })
    }
}

/// What a network has that learns a field: the whole of it, since each loss has its own way through all layers.
pub struct FieldHeads<D: Memory, W: Plain> {
    layers: Vec<JetLinear<D, W>>,
    last: JetLinear<D, W>,
    given: Option<Trace<D, W>>,
    equation: Option<Trace<D, W>>,
}

/// What a forward pass returns, and what it keeps.
type Passed<D, W> = (Vec<Tensor<D, f32>>, Trace<D, W>);

/// What a forward pass keeps: the inputs of every layer, and what is behind all but the last.
struct Trace<D: Memory, W: Plain> {
    inputs: Vec<Jet<Activation<D, W>>>,
    tanh: Vec<JetTanh>,
}

impl<D, W> FieldHeads<D, W>
where
    D: Memory<Error: Send + Sync + 'static>,
    W: Element + Plain,
{
    /// Takes pairs of points forward: returns the field at the first of each; in training behind it the field and its Laplacian at the
    /// second.
    ///
    /// # Errors
    ///
    /// The device failed.
    pub(super) fn forward(
        &mut self,
        run: &mut Forward<'_, D>,
        points: &Tensor<D, W>,
    ) -> Result<Vec<Tensor<D, f32>>>
    where
        D: HasMatmul<W, W, W> + HasMatmul<W, W, f32> + HasNarrow<W>,
    {
        let [given, inside] = apart(run.device, points)?;
        let shape = given.shape();
        let given = Jet::of([(Stream::Value, given)]);
        let (mut results, trace) = self.through(run, given, &[Stream::Value])?;
        (self.given, self.equation) = (None, None);
        if run.training {
            self.given = Some(trace);
            let x = constant(run.device, shape, [1.0, 0.0])?;
            let y = constant(run.device, shape, [0.0, 1.0])?;
            let inside = Jet::of([(Stream::Value, inside), (Stream::X, x), (Stream::Y, y)]);
            let streams = [Stream::Value, Stream::Laplacian];
            let (of_equation, trace) = self.through(run, inside, &streams)?;
            self.equation = Some(trace);
            results.extend(of_equation);
        }
        Ok(results)
    }

    fn through(
        &self,
        run: &mut Forward<'_, D>,
        mut jet: Jet<Activation<D, W>>,
        streams: &[Stream],
    ) -> Result<Passed<D, W>>
    where
        D: HasMatmul<W, W, W> + HasMatmul<W, W, f32> + HasNarrow<W>,
    {
        let mut trace = Trace { inputs: Vec::new(), tanh: Vec::new() };
        for layer in &self.layers {
            let before = layer.forward(run, &jet)?;
            let (leaving, tanh) = JetTanh::forward(run, &before)?;
            trace.inputs.push(std::mem::replace(&mut jet, leaving));
            trace.tanh.push(tanh);
        }
        let results = self.last.results(run, &jet, streams)?;
        trace.inputs.push(jet);
        Ok((results, trace))
    }

    /// Takes the gradient of the field where it is given back through all layers.
    ///
    /// # Errors
    ///
    /// There was no forward pass in training, or the device failed.
    pub fn given_back<G>(&mut self, run: &mut Backward<'_, D>, value: &Tensor<D, f32>) -> Result<()>
    where
        G: Element + Plain,
        D: Machine<W, G>,
    {
        run.begin_loss(LossPass::First)?;
        let gradients = Jet::of([(Stream::Value, run.loss::<G>(value)?)]);
        let trace = self.given.take();
        self.back(run, "given", gradients, trace)
    }

    /// Takes the gradients of the field and of its Laplacian where the equation holds back through all layers, and adds to the
    /// gradients that are there.
    ///
    /// # Errors
    ///
    /// There was no forward pass in training, or the device failed.
    pub fn equation_back<G>(
        &mut self,
        run: &mut Backward<'_, D>,
        [value, laplacian]: [&Tensor<D, f32>; 2],
    ) -> Result<()>
    where
        G: Element + Plain,
        D: Machine<W, G>,
    {
        run.begin_loss(LossPass::Added)?;
        let value = run.further_loss::<G>("equation.loss", value)?;
        let laplacian = run.further_loss("equation.loss.laplacian", laplacian)?;
        let gradients = Jet::of([(Stream::Value, value), (Stream::Laplacian, laplacian)]);
        let trace = self.equation.take();
        self.back(run, "equation", gradients, trace)
    }

    fn back<G>(
        &mut self,
        run: &mut Backward<'_, D>,
        pass: &str,
        mut gradients: Jet<Gradient<D, G>>,
        trace: Option<Trace<D, W>>,
    ) -> Result<()>
    where
        G: Element + Plain,
        D: Machine<W, G>,
    {
        let Trace { inputs, tanh } = trace.context(
            "the backward pass of a field needs what its forward pass kept: run the forward pass with `training` first",
        )?;
        let mut before = self.layers.iter_mut().zip(tanh).rev();
        let mut layer = &mut self.last;
        for (nth, inputs) in inputs.iter().enumerate().rev() {
            let Some(leaving) = layer.backward(run, pass, &gradients, inputs, nth == 0)? else {
                break;
            };
            let Some((next, tanh)) = before.next() else { break };
            layer = next;
            let name = format!("{pass}.{}.tanh", layer.name());
            gradients = tanh.backward(run, &name, &leaving)?;
        }
        Ok(())
    }

    /// Appends everything that training changes, in a fixed order.
    pub(super) fn pieces<'a>(&'a mut self, to: &mut Vec<Piece<'a, D, W>>) {
        self.layers.iter_mut().for_each(|layer| layer.pieces(to));
        self.last.pieces(to);
    }
}

/// Takes pairs of points apart: returns the first point of each, and the second.
fn apart<D: Memory, W: Element + Plain>(
    device: &mut D,
    pairs: &Tensor<D, W>,
) -> Result<[Activation<D, W>; 2], D::Error> {
    let shape = Shape { width: 1, ..pairs.shape() };
    let mut elements = vec![W::zeroed(); pairs.shape().elements()];
    device.read(pairs.view(), &mut elements)?;
    let coordinates = shape.channels;
    let mut points = |nth: usize| {
        let rows = elements.chunks_exact(coordinates).skip(nth).step_by(2);
        let elements: Vec<_> = rows.flatten().copied().collect();
        Ok(Rc::new(Tensor::of(device, shape, &elements)?))
    };
    Ok([points(0)?, points(1)?])
}

/// Returns a tensor with the same row for every point.
fn constant<D: Memory, W: Element + Plain>(
    device: &mut D,
    shape: Shape,
    row: [f32; 2],
) -> Result<Activation<D, W>, D::Error> {
    let row = row.map(|x| W::narrow(x, Narrowing::to(W::ENCODING.into()), 0, 0));
    Ok(Rc::new(Tensor::of(device, shape, &vec![row; shape.rows()].concat())?))
}
