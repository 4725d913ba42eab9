//! How a scale is decided: from what the steps of a tensor showed to its scale, evidence, and recovery.
//!
//! `measured` and `amax` follow the largest magnitude of each step: [`note`] takes down what narrowing did at
//! a visit and says whether the tensor has to be narrowed once more, [`finish`] ends the step and
//! decides the next one's scale.  Both are pure functions of integers: the same values, the same scale,
//! on any machine, however a step is split.  [`certify`] takes evidence from an exact histogram now and then; it
//! moves nothing.
//!
//! `normal` and `range` decide from [`Operands`] with [`decide_from_operands`], in f64 and through libm
//! only, never the platform's mathematics; they decide, as the paper does, the factor that a layer adds.
//! The other policies decide an absolute scale.  [`outgoing`] turns either into the scale that a
//! tensor leaves with.

mod amax;
mod backoff;
mod cell;
mod certificate;
mod config;
mod erfinv;
mod fixed;
mod measured;
mod normal;
mod operands;
mod range;
mod recipe;
mod recovery;
mod track;

pub use amax::Amax;
pub use backoff::{Backoff, Growth};
pub use cell::{Cell, Seen};
pub use certificate::{Certificate, Expected, Trigger, Window, breaks_promise, certify};
pub use config::{Config, ConfigError, Fraction, Preset, Recovery};
pub use measured::Measured;
pub use normal::Normal;
pub use operands::{Factor, Operands, decide_from_operands, decide_join};
pub use range::{Range, ShapeError, Terms};
pub use recovery::{join_target, paper_join_target, recover};
pub use track::{Record, repeat};

use self::{
    config::Writer,
    fixed::Fixed,
    recipe::{Basis, Description, Recipe, description},
};
use crate::{format::Format, scale::Scale, statistics::Outcome};

/// How scales are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, u8)]
pub enum Policy {
    /// One scale for every tensor, for ever (Micikevicius et al. 2018).
    Fixed(Scale),
    /// One scale for every tensor, by trial and error (the usual dynamic loss scaling).
    Backoff(Backoff),
    /// A scale per layer from a Gaussian model of its products (the paper).
    Normal(Normal),
    /// A scale per layer from the extremes of its products (the authors' code).
    Range(Range),
    /// A scale per tensor from a window of maxima (delayed scaling).
    Amax(Amax),
    /// A scale per tensor from the largest magnitudes of its last steps, as high as they allow: the
    /// default.
    Measured(Measured),
}

/// Does the same with the parameters of whichever policy it is: all that chooses between policies in this crate.
macro_rules! with_recipe {
    ($policy:expr, $recipe:ident => $does:expr) => {
        match $policy {
            Policy::Fixed(scale) => {
                let $recipe = &Fixed(*scale);
                $does
            }
            Policy::Backoff($recipe) => $does,
            Policy::Normal($recipe) => $does,
            Policy::Range($recipe) => $does,
            Policy::Amax($recipe) => $does,
            Policy::Measured($recipe) => $does,
        }
    };
}

impl Policy {
    /// Every policy's [`name`](Self::name), at the place of its [`number`](Self::number).
    pub const NAMES: [&'static str; 6] = [
        Fixed::DESCRIPTION.name,
        Backoff::DESCRIPTION.name,
        Normal::DESCRIPTION.name,
        Range::DESCRIPTION.name,
        Amax::DESCRIPTION.name,
        Measured::DESCRIPTION.name,
    ];

    /// Returns the policy of a name with the parameters that its source has by default, for gradients in
    /// a format; `None` where no policy has this name, and of `fixed`, for which no scale is usual.
    ///
    /// `backoff` is [`Backoff::GRAD_SCALER`], `normal` tolerates 0.1 % and has no caps, `range` is
    /// [`Range::new`], `amax` is [`Amax::DELAYED_SCALING`], `measured` is [`Measured::for_format`].
    ///
    /// # Examples
    ///
    /// ```
    /// use adaloss_core::{format::Format, policy::{Amax, Policy}};
    /// let amax = Policy::named("amax", Format::E4M3);
    /// assert_eq!(amax, Some(Policy::Amax(Amax::DELAYED_SCALING)));
    /// assert_eq!(Policy::named("fixed", Format::E4M3), None);
    /// ```
    pub fn named(name: &str, format: Format) -> Option<Self> {
        let usual = [
            Fixed::usual(format).map(|Fixed(scale)| Self::Fixed(scale)),
            Backoff::usual(format).map(Self::Backoff),
            Normal::usual(format).map(Self::Normal),
            Range::usual(format).map(Self::Range),
            Amax::usual(format).map(Self::Amax),
            Measured::usual(format).map(Self::Measured),
        ];
        usual.into_iter().flatten().find(|policy| policy.name() == name)
    }

    const fn description(&self) -> Description {
        with_recipe!(self, recipe => description(recipe))
    }

    /// Returns the method's name as reports print it.
    pub const fn name(&self) -> &'static str {
        self.description().name
    }

    /// Returns the number that stands for the policy in C and in the bytes of a configuration.
    pub const fn number(&self) -> u8 {
        self.description().number
    }

    /// Tells whether one scale serves the whole model, so that layers carry the loss's through.
    pub const fn is_whole_model(&self) -> bool {
        matches!(self.description().basis, Basis::WholeModel)
    }

    /// Tells whether the scale follows the largest magnitudes of a tensor, step by step.
    pub const fn follows_maxima(&self) -> bool {
        matches!(self.description().basis, Basis::Maxima)
    }

    /// Tells whether the policy decides from statistics of the operands.
    pub const fn wants_operands(&self) -> bool {
        matches!(self.description().basis, Basis::Operands)
    }

    const fn rule(&self) -> Rule {
        self.description().rule
    }

    const fn check(&self) -> Result<(), ConfigError> {
        with_recipe!(self, recipe => recipe.check())
    }

    const fn tolerance(&self) -> Option<Fraction> {
        with_recipe!(self, recipe => recipe.tolerance())
    }

    fn write(&self, to: &mut Writer) {
        with_recipe!(self, recipe => recipe.write(to));
    }

    fn cell(&self) -> Cell {
        with_recipe!(self, recipe => recipe.cell())
    }

    fn could_remember(&self, cell: &Cell) -> bool {
        with_recipe!(self, recipe => recipe.could_remember(cell))
    }

    fn outgoing(&self, cell: &Cell, incoming: Scale) -> Scale {
        with_recipe!(self, recipe => recipe.outgoing(cell, incoming))
    }

    fn step(&self, clean: bool, cell: &mut Cell) {
        with_recipe!(self, recipe => recipe.step(clean, cell));
    }

    fn wanted_factor(&self, operands: &Operands) -> Option<f32> {
        with_recipe!(self, recipe => recipe.wanted_factor(operands))
    }

    fn first_headroom(&self) -> u8 {
        with_recipe!(self, recipe => recipe.first_headroom())
    }

    fn greatest_log2(&self, config: &Config, seen: Seen, cell: &mut Cell) -> i32 {
        with_recipe!(self, recipe => recipe.greatest_log2(config, seen, cell))
    }
}

/// Which rule chose the scale of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Rule {
    /// No element was finite and nonzero: nothing is known, and the scale stays.
    Empty = 0,
    /// Elements were infinite or NaN: nothing is known, and the scale stays.
    NonFinite = 1,
    /// The policy does not decide from this kind of evidence: the scale stays.
    Unused = 2,
    /// The histogram counts for another format or rounding than the configuration's: nothing is known.
    OtherFormat = 3,
    /// `measured`: the ceilings of the last steps.
    Measured = 4,
    /// `amax`: the greatest magnitude of the window and the margin.
    Amax = 5,
    /// `normal`: the Gaussian or log-normal model.
    Normal = 6,
    /// `range`: the extremes of the products.
    Range = 7,
    /// `normal` and `range` at a join: the greatest scale of a branch that the sum fits.
    Join = 8,
}

impl Rule {
    /// Every rule, at the place of its number.
    pub const ALL: [Self; 9] = [
        Self::Empty,
        Self::NonFinite,
        Self::Unused,
        Self::OtherFormat,
        Self::Measured,
        Self::Amax,
        Self::Normal,
        Self::Range,
        Self::Join,
    ];
}

/// Returns why a cell leaves a certificate at this visit, or decides; `None` where it does neither.
pub const fn due(config: &Config, cell: &Cell) -> Option<Trigger> {
    let policy = config.policy();
    if policy.is_whole_model() || policy.follows_maxima() && config.period() == Config::NEVER {
        return None;
    }
    match cell.trigger {
        Trigger::None if cell.age < config.period() => None,
        Trigger::None => Some(Trigger::Period),
        trigger => Some(trigger),
    }
}

/// Returns the scale that a tensor leaves with, when its values arrive at `incoming`.
pub fn outgoing(config: &Config, cell: &Cell, incoming: Scale) -> Scale {
    config.policy().outgoing(cell, incoming)
}

/// Takes note of what narrowing to [`outgoing`] did at one visit; returns the scale to narrow the tensor to
/// once more, if that is needed.
///
/// It is needed where the tensor overflowed and the configuration [replays](Config::replays), and, under
/// `measured` and `amax`, at the first visit, whose scale nobody could know.  One more time is enough:
/// nothing overflows then, and its outcome is not to be noted.
///
/// An outcome with non-finite elements tells nothing of the scale.
///
/// # Examples
///
/// Without a scaler, for a device of one's own:
///
/// ```
/// use adaloss_core::{
///     apply::Apply, format::{E4M3, Format, Noise}, scale::Scale, statistics::Outcome,
///     policy::{Config, finish, note, outgoing},
/// };
/// let config = Config::for_format(Format::E4M3);
/// let (mut cell, incoming) = (config.cell(), Scale::ONE);
/// let results = [3.0e-5_f32, -7.0e-6];
///
/// let mut narrowed = [E4M3::ZERO; 2];
/// let mut narrow = |to: Scale| {
///     let mut outcome = Outcome::EMPTY;
///     let apply = Apply { narrowing: config.narrowing(), shift: to / incoming, noise: Noise::default() };
///     apply.slice(&results, &mut narrowed, 0, &mut outcome).map(|()| outcome)
/// };
/// let mut carried = outgoing(&config, &cell, incoming);
/// let outcome = narrow(carried)?;
/// if let Some(scale) = note(&config, &outcome, incoming, &mut cell) {
///     narrow(scale)?;
///     carried = scale;
/// }
/// assert_eq!(carried.log2(), 22); // 3.0e-5 becomes 126, and 448 is the largest E4M3
/// finish(&config, &mut cell); // after the last visit of the step
/// # Ok::<(), adaloss_core::apply::ApplyError>(())
/// ```
pub fn note(config: &Config, outcome: &Outcome, incoming: Scale, cell: &mut Cell) -> Option<Scale> {
    let policy = config.policy();
    if policy.is_whole_model() {
        None
    } else if policy.follows_maxima() {
        track::note(config, outcome, incoming, cell)
    } else {
        operands::note(config, outcome, incoming, cell)
    }
}

/// Ends a step of one cell: decides the next step's scale under `measured` and `amax`, and moves nothing under
/// other policies.
///
/// A step that was skipped is finished too.  A tensor that was not visited in it, or had no finite nonzero
/// value, keeps its scale.
pub fn finish(config: &Config, cell: &mut Cell) -> Record {
    track::finish(config, cell)
}

/// Moves the scale of a policy that serves the whole model, after a step that was clean or not.
///
/// A step is clean where every gradient is finite and none overflowed.  One in which values
/// saturated is usable and not clean: infinities would have shown that the scale is too large.
pub fn step(config: &Config, clean: bool, cell: &mut Cell) {
    config.policy().step(clean, cell);
}
