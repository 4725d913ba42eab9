//! Tensors in a device's memory, and the shapes of images and sequences.

use std::fmt;

use adaloss_core::format::{Element, Narrowing};
use adaloss_hal::{AddressSpace, Memory, Mut, Plain, Ref};
use anyhow::Result;

use super::Total;
use crate::blocks::{Blocks, Rounded};

/// The shape of a batch: images, or sequences as images of one column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Images or sequences.
    pub samples: usize,
    /// Rows of an image, tokens of a sequence.
    pub height: usize,
    /// Columns of an image; 1 of a sequence.
    pub width: usize,
    /// Channels or features.
    pub channels: usize,
}

impl Shape {
    /// Returns the rows of the tensor as a matrix with a column per channel.
    pub const fn rows(self) -> usize {
        self.samples * self.height * self.width
    }

    /// Returns the number of elements.
    pub const fn elements(self) -> usize {
        self.rows() * self.channels
    }

    /// Returns height and width.
    pub const fn extent(self) -> [usize; 2] {
        [self.height, self.width]
    }

    /// Returns the same shape with other channels.
    pub const fn with_channels(self, channels: usize) -> Self {
        Self { channels, ..self }
    }

    /// Returns the same shape with another height and width.
    pub const fn with_extent(self, [height, width]: [usize; 2]) -> Self {
        Self { height, width, ..self }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { samples, height, width, channels } = self;
        write!(f, "{samples} x {height} x {width} x {channels}")
    }
}

/// Elements in a device's memory and their shape.
pub struct Tensor<D: Memory, T: Plain> {
    buffer: D::Buffer<T>,
    shape: Shape,
}

impl<D: Memory, T: Plain> Tensor<D, T> {
    /// Makes a tensor of zero bytes.
    pub fn zeroed(device: &mut D, shape: Shape) -> Result<Self, D::Error> {
        Ok(Self { buffer: device.zeroed(shape.elements())?, shape })
    }

    /// Makes a tensor of elements from the host, as many as the shape has.
    pub fn of(device: &mut D, shape: Shape, elements: &[T]) -> Result<Self, D::Error> {
        let mut tensor = Self::zeroed(device, shape)?;
        device.write(elements, tensor.view_mut())?;
        Ok(tensor)
    }

    /// Copies the elements to the host, in f32.
    pub fn widened(&self, device: &mut D) -> Result<Vec<f32>, D::Error>
    where
        T: Element,
    {
        let mut elements = vec![T::zeroed(); self.shape.elements()];
        device.read(self.view(), &mut elements)?;
        Ok(elements.into_iter().map(Element::widen).collect())
    }

    /// Returns the shape.
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// Names the elements for reading.
    pub fn view(&self) -> Ref<'_, D, T> {
        D::view::<T>(&self.buffer)
    }

    /// Names the elements for writing.
    pub fn view_mut(&mut self) -> Mut<'_, D, T> {
        D::view_mut::<T>(&mut self.buffer)
    }

    /// Rounds the elements in blocks along the innermost axis, and returns what became of them.
    pub fn round_in_blocks(&mut self, device: &mut D, blocks: Blocks) -> Result<Rounded, D::Error>
    where
        T: Element,
    {
        let mut elements = vec![T::zeroed(); self.shape.elements()];
        device.read(self.view(), &mut elements)?;
        let mut values: Vec<f32> = elements.iter().map(|element| element.widen()).collect();
        let rounded = blocks.round(self.shape.channels, &mut values);
        let exact = Narrowing::to(T::ENCODING.into());
        for (element, value) in elements.iter_mut().zip(values) {
            *element = T::narrow(value, exact, 0, 0);
        }
        device.write(&elements, self.view_mut())?;
        Ok(rounded)
    }

    /// Returns the same elements in another shape of as many.
    pub fn reshaped(self, shape: Shape) -> Self {
        debug_assert_eq!(self.shape.elements(), shape.elements());
        Self { shape, ..self }
    }
}

/// Elements in a device's memory, without a shape.
pub struct Vector<D: Memory, T: Plain> {
    buffer: D::Buffer<T>,
    length: usize,
}

impl<D: Memory, T: Plain> Vector<D, T> {
    /// Makes a vector of zero bytes.
    pub fn zeroed(device: &mut D, length: usize) -> Result<Self, D::Error> {
        Ok(Self { buffer: device.zeroed(length)?, length })
    }

    /// Copies values to the device.
    pub fn of(device: &mut D, values: &[T]) -> Result<Self, D::Error> {
        let mut vector = Self::zeroed(device, values.len())?;
        device.write(values, vector.view_mut())?;
        Ok(vector)
    }

    /// Returns the number of elements.
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Tells whether there are no elements.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Names the elements for reading.
    pub fn view(&self) -> Ref<'_, D, T> {
        D::view::<T>(&self.buffer)
    }

    /// Names the elements for writing.
    pub fn view_mut(&mut self) -> Mut<'_, D, T> {
        D::view_mut::<T>(&mut self.buffer)
    }

    /// Names one element for reading, if there is such a one.
    pub fn element(&self, nth: usize) -> Option<Ref<'_, D, T>> {
        D::Space::part(self.view(), nth..nth + 1)
    }

    /// Names one element for writing, if there is such a one.
    pub fn element_mut(&mut self, nth: usize) -> Option<Mut<'_, D, T>> {
        D::Space::part_mut(self.view_mut(), nth..nth + 1)
    }

    /// Copies the elements to the host.
    pub fn read(&self, device: &mut D) -> Result<Vec<T>, D::Error> {
        let mut values = vec![T::zeroed(); self.length];
        device.read(self.view(), &mut values)?;
        Ok(values)
    }

    /// Copies the only element to the host.
    pub fn read_one(&self, device: &mut D) -> Result<T, D::Error> {
        let mut value = [T::zeroed()];
        device.read(self.view(), &mut value)?;
        Ok(value[0])
    }
}

/// A weight, a bias or another tensor that is learnt: an f32 master and what belongs to it.
pub struct Parameter<D: Memory, W: Plain> {
    /// The name in reports and checkpoints.
    pub name: String,
    /// Its extents: of a convolution (filters, rows, columns, channels), of a linear layer (outputs, inputs), of a table (rows, width); of
    /// what is none of these the number of its elements.
    pub extents: Vec<usize>,
    /// The master.
    pub master: Vector<D, f32>,
    /// The unscaled gradient of the last step.
    pub gradient: Total<D>,
    /// What the optimizer keeps; as long as it needs.
    pub state: Vector<D, f32>,
    /// The master in the format of weights and activations, where operations read that.
    pub narrow: Option<Vector<D, W>>,
    /// What it is to an optimizer.
    pub role: Role,
    /// Which of the networks that learn from one loss it belongs to.
    pub player: Player,
    /// The number of its layer's cell, as the last backward pass counted: where verdicts place it.
    pub cell: usize,
    /// Its number among everything of its network that training changes.
    pub index: usize,
}

/// What a parameter is to an optimizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A factor of products: it decays.
    Weight,
    /// What products begin with.
    Bias,
    /// Gains and offsets of a normalisation.
    Affine,
}

/// A network that learns from a loss, or one of two that learn from the same: one to lessen it, the other to raise it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Player {
    /// There is no other.
    #[default]
    Alone,
    /// It lessens the loss, with a step size of its own (Heusel et al. 2017).
    Generator {
        /// The step size, by that of the critic.
        rate: f32,
    },
    /// It raises the loss, with no parameter beyond a magnitude (Arjovsky et al. 2017, algorithm 1).
    Critic {
        /// The greatest magnitude of a parameter behind an update.
        clip: f32,
    },
}

impl<D: Memory, W: Plain> Parameter<D, W> {
    /// Makes a weight that operations read in the format of weights, and that decays.
    pub fn weight(device: &mut D, name: String, values: &[f32]) -> Result<Self, D::Error> {
        let narrow = Some(Vector::zeroed(device, values.len())?);
        Ok(Self { narrow, ..Self::plain(device, name, values, Role::Weight)? })
    }

    /// Makes a parameter that operations read in f32.
    pub fn plain(
        device: &mut D,
        name: String,
        values: &[f32],
        role: Role,
    ) -> Result<Self, D::Error> {
        Ok(Self {
            name,
            extents: vec![values.len()],
            master: Vector::of(device, values)?,
            gradient: Total::zeroed(device, values.len())?,
            state: Vector::zeroed(device, 0)?,
            narrow: None,
            role,
            player: Player::Alone,
            cell: 0,
            index: 0,
        })
    }

    /// Gives the elements extents, of as many.
    pub fn with_extents(self, extents: &[usize]) -> Self {
        debug_assert_eq!(extents.iter().product::<usize>(), self.master.len());
        Self { extents: extents.to_vec(), ..self }
    }

    /// Keeps the master of a critic within the magnitudes that it may have; what is not finite stays what it is.
    ///
    /// On the host, which waits for the device.
    ///
    /// # Errors
    ///
    /// The device failed.
    pub fn clip(&mut self, device: &mut D) -> Result<(), D::Error> {
        let Player::Critic { clip } = self.player else { return Ok(()) };
        let mut values = self.master.read(device)?;
        let beyond = values.iter_mut().filter(|value| value.is_finite() && value.abs() > clip);
        beyond.for_each(|value| *value = value.clamp(-clip, clip));
        device.write(&values, self.master.view_mut())
    }

    /// Names the narrowed master; of a parameter that has none, an empty range of nothing.
    pub fn narrow(&self) -> Result<Ref<'_, D, W>> {
        match &self.narrow {
            Some(narrow) => Ok(narrow.view()),
            None => anyhow::bail!("{} is kept in f32 only", self.name),
        }
    }
}

/// A running mean, which is not learnt but belongs to the network.
pub struct Running<D: Memory> {
    /// The name in checkpoints.
    pub name: String,
    /// What evaluation uses.
    pub values: Vector<D, f32>,
    /// The mean over the micro-batches of this step, which the values move towards when the step is
    /// usable.
    pub pending: Total<D>,
    /// How far they move.
    pub share: f32,
    /// The number of its layer's cell, as the last backward pass counted.
    pub cell: usize,
}

/// Everything of a layer that training changes.
pub enum Piece<'a, D: Memory, W: Plain> {
    /// Something learnt.
    Parameter(&'a mut Parameter<D, W>),
    /// A running mean.
    Running(&'a mut Running<D>),
}

impl<D: Memory, W: Plain> Piece<'_, D, W> {
    /// Returns the name in reports and checkpoints.
    pub fn name(&self) -> &str {
        match self {
            Self::Parameter(parameter) => &parameter.name,
            Self::Running(running) => &running.name,
        }
    }

    /// Returns what the step at hand summed for it.
    pub const fn total_mut(&mut self) -> &mut Total<D> {
        match self {
            Self::Parameter(parameter) => &mut parameter.gradient,
            Self::Running(running) => &mut running.pending,
        }
    }
}
