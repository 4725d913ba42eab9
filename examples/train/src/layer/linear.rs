//! Linear layers: `y = x W^T`, with a weight of shape (outputs, inputs).

use adaloss_core::format::{Element, Format, Narrowing};
use adaloss_hal::{AddressSpace, HasMatmul, Matmul, Memory, Plain, Product, Ref};
use anyhow::Result;

use super::{
    Activation, Backward, Forward, Gradient, Layer, Machine, Parameter, Piece, ProductOperands,
    Shape, Tensor, Term, Vector, kept, statistics,
};

/// A linear layer between layers.
pub struct Linear<D: Memory, W: Plain> {
    weight: Parameter<D, W>,
    bias: Option<Parameter<D, W>>,
    inputs: usize,
    outputs: usize,
    /// Whether it is the first layer: the gradient of its input is not computed.
    is_first: bool,
    input: Option<Activation<D, W>>,
}

impl<D: Memory, W: Plain> Linear<D, W> {
    /// Makes a layer without a bias from its weight.
    pub fn new(weight: Parameter<D, W>, inputs: usize, outputs: usize) -> Self {
        Self { weight, bias: None, inputs, outputs, is_first: false, input: None }
    }

    /// Adds a bias, one element per output.
    pub fn with_bias(self, bias: Parameter<D, W>) -> Self {
        Self { bias: Some(bias), ..self }
    }

    /// Makes the layer the first one, for whose input no gradient is computed.
    pub fn first(self) -> Self {
        Self { is_first: true, ..self }
    }
}

impl<D, W, G> Layer<D, W, G> for Linear<D, W>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Machine<W, G>,
{
    fn name(&self) -> &str {
        &self.weight.name
    }

    fn forward(
        &mut self,
        run: &mut Forward<'_, D>,
        input: Activation<D, W>,
    ) -> Result<Activation<D, W>> {
        let sizes = [self.inputs, self.outputs];
        let output = activation(run, &self.weight, self.bias.as_ref(), sizes, &input)?;
        self.input = run.training.then_some(input);
        Ok(output)
    }

    fn backward(
        &mut self,
        run: &mut Backward<'_, D>,
        gradient: Gradient<D, G>,
    ) -> Result<Option<Gradient<D, G>>> {
        let input = run.kept(&mut self.input)?;
        let sizes = [self.inputs, self.outputs];
        fill(run, &mut self.weight, sizes, &gradient, &input, Term::ONLY)?;
        if let Some(bias) = &mut self.bias {
            bias_gradient(run, bias, &gradient)?;
        }
        if self.is_first {
            return Ok(None);
        }
        back(run, &self.weight.name, &self.weight, sizes, &gradient, input.shape()).map(Some)
    }

    fn pieces<'a>(&'a mut self, to: &mut Vec<Piece<'a, D, W>>) {
        to.push(Piece::Parameter(&mut self.weight));
        to.extend(self.bias.as_mut().map(Piece::Parameter));
    }
}

/// The last layer: a weight and a bias, from activations to logits in f32.
pub struct Head<D: Memory, W: Plain> {
    weight: Parameter<D, W>,
    bias: Parameter<D, W>,
    inputs: usize,
    outputs: usize,
    input: Option<Activation<D, W>>,
}

impl<D: Memory, W: Element + Plain> Head<D, W> {
    /// Makes a layer from its weight and its bias.
    pub fn new(
        weight: Parameter<D, W>,
        bias: Parameter<D, W>,
        inputs: usize,
        outputs: usize,
    ) -> Self {
        Self { weight, bias, inputs, outputs, input: None }
    }

    /// Computes the logits, a row per row of the activation.
    pub fn forward(
        &mut self,
        run: &mut Forward<'_, D>,
        input: Activation<D, W>,
    ) -> Result<Tensor<D, f32>>
    where
        D: Memory<Error: Send + Sync + 'static> + HasMatmul<W, W, f32>,
    {
        let sizes = [self.inputs, self.outputs];
        let logits = results(run, &self.weight, Some(&self.bias), sizes, &input)?;
        self.input = run.training.then_some(input);
        Ok(logits)
    }

    /// Takes the narrowed gradient of the logits back.
    pub fn backward<G: Element + Plain>(
        &mut self,
        run: &mut Backward<'_, D>,
        gradient: &Gradient<D, G>,
    ) -> Result<Gradient<D, G>>
    where
        D: Machine<W, G>,
    {
        let input = kept(&mut self.input)?;
        bias_gradient(run, &mut self.bias, gradient)?;
        let sizes = [self.inputs, self.outputs];
        fill(run, &mut self.weight, sizes, gradient, &input, Term::ONLY)?;
        back(run, &self.weight.name, &self.weight, sizes, gradient, input.shape())
    }

    /// Appends weight and bias.
    pub fn pieces<'a>(&'a mut self, to: &mut Vec<Piece<'a, D, W>>) {
        to.extend([&mut self.weight, &mut self.bias].map(Piece::Parameter));
    }
}

/// Returns the product of an activation with a weight, and a bias if there is one, in the format of activations.
pub(super) fn activation<W, D>(
    run: &mut Forward<'_, D>,
    weight: &Parameter<D, W>,
    bias: Option<&Parameter<D, W>>,
    [inputs, outputs]: [usize; 2],
    input: &Tensor<D, W>,
) -> Result<Activation<D, W>>
where
    W: Element + Plain,
    D: Memory<Error: Send + Sync + 'static> + HasMatmul<W, W, W>,
{
    let shape = input.shape();
    let product = Product::new(shape.rows(), inputs, outputs).transpose_b();
    let (a, b) = (input.view(), weight.narrow()?);
    let bias = bias.map(|bias| bias.master.view());
    run.activation(shape.with_channels(outputs), |device, to, epilogue| {
        device.run(Matmul::<_, W, W, W> { product, a, b, bias, to, epilogue })
    })
}

/// Returns the same product in f32.
pub(super) fn results<W, D>(
    run: &mut Forward<'_, D>,
    weight: &Parameter<D, W>,
    bias: Option<&Parameter<D, W>>,
    [inputs, outputs]: [usize; 2],
    input: &Tensor<D, W>,
) -> Result<Tensor<D, f32>>
where
    W: Element + Plain,
    D: Memory<Error: Send + Sync + 'static> + HasMatmul<W, W, f32>,
{
    let shape = input.shape();
    let product = Product::new(shape.rows(), inputs, outputs).transpose_b();
    let mut results = Tensor::zeroed(run.device, shape.with_channels(outputs))?;
    let epilogue = run.buffers.forward(Narrowing::to(Format::BINARY32));
    let (a, b, to) = (input.view(), weight.narrow()?, results.view_mut());
    let bias = bias.map(|bias| bias.master.view());
    run.device.run(Matmul::<_, W, W, f32> { product, a, b, bias, to, epilogue })?;
    Ok(results)
}

/// Fills the gradient of a bias: the product of the gradient with a column of ones.
pub(super) fn bias_gradient<W, G, D>(
    run: &mut Backward<'_, D>,
    bias: &mut Parameter<D, W>,
    gradient: &Gradient<D, G>,
) -> Result<()>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Machine<W, G>,
{
    let Shape { channels, .. } = gradient.value().shape();
    let rows = gradient.value().shape().rows();
    let ones = ones::<W, D>(run.device, rows)?;
    let product = Product::new(channels, rows, 1).transpose_a();
    run.weight_gradient(bias, gradient, |device, gradient, to, epilogue| {
        device.run(Matmul::<_, G, W, f32> {
            product,
            a: D::Space::reborrow(gradient),
            b: ones.view(),
            bias: None,
            to,
            epilogue,
        })
    })
}

/// Fills the gradient of a weight, or adds one of several terms to it.
pub(super) fn fill<W, G, D>(
    run: &mut Backward<'_, D>,
    weight: &mut Parameter<D, W>,
    [inputs, outputs]: [usize; 2],
    gradient: &Gradient<D, G>,
    input: &Tensor<D, W>,
    term: Term,
) -> Result<()>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Machine<W, G>,
{
    let product = Product::new(outputs, input.shape().rows(), inputs).transpose_a();
    run.weight_gradient_term(weight, gradient, term, |device, gradient, to, epilogue| {
        device.run(Matmul::<_, G, W, f32> {
            product,
            a: D::Space::reborrow(gradient),
            b: input.view(),
            bias: None,
            to,
            epilogue,
        })
    })
}

/// Takes a gradient back through a product with a weight, and the cell with the name.
pub(super) fn back<W, G, D>(
    run: &mut Backward<'_, D>,
    name: &str,
    weight: &Parameter<D, W>,
    [inputs, outputs]: [usize; 2],
    gradient: &Gradient<D, G>,
    shape: Shape,
) -> Result<Gradient<D, G>>
where
    W: Element + Plain,
    G: Element + Plain,
    D: Machine<W, G>,
{
    let narrow = weight.narrow()?;
    let product = Product::new(shape.rows(), outputs, inputs);
    let describe = |device: &mut D, gradient: &Tensor<D, G>, when: Option<Ref<'_, D, u32>>| {
        Ok(ProductOperands {
            gradient: statistics(device, gradient.view(), when)?,
            weight: statistics(device, weight.narrow()?, when)?,
            fan_in: outputs as u32,
        })
    };
    run.product(
        name,
        gradient,
        shape,
        &describe,
        &|device, gradient, to, epilogue| {
            let (a, b) = (D::Space::reborrow(gradient), D::Space::reborrow(narrow));
            device.run(Matmul::<_, G, W, G> { product, a, b, bias: None, to, epilogue })
        },
        &|device, gradient, to, epilogue| {
            let (a, b) = (D::Space::reborrow(gradient), D::Space::reborrow(narrow));
            device.run(Matmul::<_, G, W, f32> {
                product,
                a: D::Space::reborrow(a),
                b,
                bias: None,
                to,
                epilogue,
            })
        },
    )
}

/// Returns a column of ones.
fn ones<W: Element + Plain, D: Memory>(
    device: &mut D,
    rows: usize,
) -> Result<Vector<D, W>, D::Error> {
    let one = W::narrow(1.0, Narrowing::to(W::ENCODING.into()), 0, 0);
    Vector::of(device, &vec![one; rows])
}
