//! What verdicts and networks rely on: results that were computed, and weights that are numbers.

use std::fmt;

use adaloss_core::{
    format::{Element, Narrowing, Overflow},
    statistics::Outcome,
    unscale::Cause,
};
use adaloss_hal::{
    HasNarrow, Memory, Narrow, Plain, Ref,
    network::{HasUpdate, SquareNorm},
    scaler::Evidence,
};
use anyhow::{Context, Error, Result, ensure};

use super::{EpilogueBuffers, Parameter, Piece, Vector};

/// Something that training changes is not finite any more, or beyond the format of weights: no step can
/// be made with it, and none mends it.
///
/// The context of the error says what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Diverged(pub Cause);

impl fmt::Display for Diverged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, and the network is lost", self.0)
    }
}

impl std::error::Error for Diverged {}

/// What became of the pieces of a network, in the memory of the device: of each the counts of its narrowing, or the sum of its
/// squares, which is finite where each value is, as neither the square of an f32 nor a sum of such squares leaves f64.
pub struct Checks<D: Memory> {
    outcomes: Vector<D, Outcome>,
    squares: Vector<D, f64>,
}

impl<D: Memory<Error: Send + Sync + 'static>> Checks<D> {
    /// Makes room for so many pieces.
    ///
    /// # Errors
    ///
    /// The device's memory is exhausted.
    pub fn new(device: &mut D, pieces: usize) -> Result<Self, D::Error> {
        let (outcomes, squares) =
            (Vector::zeroed(device, pieces)?, Vector::zeroed(device, pieces)?);
        Ok(Self { outcomes, squares })
    }

    /// Forgets what was counted.
    ///
    /// # Errors
    ///
    /// The device failed.
    pub fn clear(&mut self, device: &mut D) -> Result<(), D::Error> {
        device.write(&vec![Outcome::EMPTY; self.outcomes.len()], self.outcomes.view_mut())?;
        device.write(&vec![0.0; self.squares.len()], self.squares.view_mut())
    }

    /// Narrows the masters of the pieces, and counts.
    ///
    /// # Errors
    ///
    /// The device failed.
    pub fn narrow<W>(
        &mut self,
        device: &mut D,
        buffers: &EpilogueBuffers<D>,
        narrowing: Narrowing,
        pieces: &mut [Piece<'_, D, W>],
    ) -> Result<()>
    where
        W: Element + Plain,
        D: HasNarrow<W> + HasUpdate,
    {
        self.clear(device)?;
        for (nth, piece) in pieces.iter_mut().enumerate() {
            let narrowed = self.narrow_piece(device, buffers, narrowing, (nth, piece));
            narrowed.with_context(|| piece.name().to_owned())?;
        }
        Ok(())
    }

    fn narrow_piece<W>(
        &mut self,
        device: &mut D,
        buffers: &EpilogueBuffers<D>,
        narrowing: Narrowing,
        (nth, piece): (usize, &mut Piece<'_, D, W>),
    ) -> Result<()>
    where
        W: Element + Plain,
        D: HasNarrow<W> + HasUpdate,
    {
        match piece {
            Piece::Parameter(Parameter { master, narrow: Some(narrow), .. }) => {
                let outcome = self.outcomes.element_mut(nth).context(LOST)?;
                let (to, epilogue) = (narrow.view_mut(), buffers.counting(narrowing, outcome));
                Ok(device.run(Narrow::<_, W> { input: master.view(), to, epilogue })?)
            }
            Piece::Parameter(parameter) => self.add_squares(device, nth, &parameter.master),
            Piece::Running(running) => self.add_squares(device, nth, &running.values),
        }
    }

    /// Adds up the squares of a piece's values.
    ///
    /// # Errors
    ///
    /// The device failed.
    pub fn add_squares(&mut self, device: &mut D, nth: usize, values: &Vector<D, f32>) -> Result<()>
    where
        D: HasUpdate,
    {
        let to = self.squares.element_mut(nth).context(LOST)?;
        Ok(device.run(SquareNorm { gradient: values.view(), to })?)
    }

    /// Names the sum of a piece's squares; one element.
    ///
    /// # Errors
    ///
    /// There is no such piece.
    pub fn squares(&self, nth: usize) -> Result<Ref<'_, D, f64>> {
        self.squares.element(nth).context(LOST)
    }

    /// Returns what a scaler on the device is to judge of a piece that was narrowed.
    ///
    /// # Errors
    ///
    /// There is no such piece.
    pub fn evidence<W: Plain>(
        &self,
        nth: usize,
        piece: &Piece<'_, D, W>,
        narrowing: Narrowing,
    ) -> Result<Evidence<'_, '_, D::Space>> {
        Ok(match piece {
            Piece::Parameter(Parameter { master, narrow: Some(_), .. }) => Evidence::Weight {
                id: nth,
                elements: master.len() as u64,
                saturates: narrowing.overflow == Overflow::Saturate,
                outcome: self.outcomes.element(nth).context(LOST)?,
            },
            _ => Evidence::WeightSquares { id: nth, sum: self.squares(nth)? },
        })
    }

    /// Checks on the host what was counted of the pieces that were narrowed.
    ///
    /// # Errors
    ///
    /// A piece is not finite, or becomes infinite in the format of weights, which is [`Diverged`]; or the device failed or left
    /// an operation out.
    pub fn check<W: Plain>(
        &self,
        device: &mut D,
        narrowing: Narrowing,
        pieces: &[Piece<'_, D, W>],
    ) -> Result<()> {
        let (outcomes, squares) = (self.outcomes.read(device)?, self.squares.read(device)?);
        for (piece, (outcome, squares)) in pieces.iter().zip(outcomes.iter().zip(squares)) {
            let found = match piece {
                Piece::Parameter(Parameter { master, narrow: Some(_), .. }) => {
                    complete("results", outcome.elements, master.len())?;
                    let saturates = narrowing.overflow == Overflow::Saturate;
                    match outcome {
                        Outcome { nonfinite: 1.., .. } => Some(Cause::NonFinite),
                        Outcome { overflow: 1.., .. } if !saturates => Some(Cause::Overflow),
                        _ => None,
                    }
                }
                _ => Some(Cause::NonFinite).filter(|_| !squares.is_finite()),
            };
            if let Some(cause) = found {
                return Err(Error::new(Diverged(cause)).context(piece.name().to_owned()));
            }
        }
        Ok(())
    }
}

/// A network has as many pieces as its checks have room for.
const LOST: &str = "the checks of a network are for another number of pieces";

/// Checks that an operation counted each of its results: one that was left out counts none, and a
/// verdict from its counts would mean nothing.
pub fn complete(what: &str, counted: u64, all: usize) -> Result<()> {
    ensure!(
        counted == all as u64,
        "of {all} {what} {counted} were counted: the device left out an operation"
    );
    Ok(())
}
