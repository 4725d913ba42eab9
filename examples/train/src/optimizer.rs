//! How parameters are updated.

use std::{fmt, str::FromStr};

use adaloss_hal::{
    Plain,
    network::{AdamW, AdamWStep, HasUpdate, Sgd, SgdStep},
};
use anyhow::{Result, bail};

use crate::layer::{HasBackward, Parameter, Player, Role, Scaler, Vector};

/// An optimizer and its constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Optimizer {
    /// Stochastic gradient descent with momentum.
    Sgd {
        /// Share of the last update that is repeated.
        momentum: f32,
        /// Decay of weights.
        weight_decay: f32,
        /// Whether gains, offsets and biases decay as well.
        decays_all: bool,
        /// The step size of biases, by that of all others.
        bias_rate: f32,
    },
    /// Adam with decoupled weight decay.
    AdamW {
        /// Decay rates of the two moments.
        betas: [f32; 2],
        /// Decay of weights, in units of the step size.
        weight_decay: f32,
    },
}

/// What changes from one update to the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// Step size.
    pub learning_rate: f32,
    /// The greatest norm of all gradients together, if it is clipped.
    pub max_norm: Option<f32>,
}

impl Optimizer {
    /// The usual constants of SGD.
    pub const SGD: Self =
        Self::Sgd { momentum: 0.9, weight_decay: 5e-4, decays_all: false, bias_rate: 1.0 };
    /// RMSprop, with its usual decay rate: Adam without a first moment, whose second one is corrected in the first steps.
    pub const RMSPROP: Self = Self::AdamW { betas: [0.0, 0.99], weight_decay: 0.0 };
    /// The usual constants of AdamW.
    pub const ADAMW: Self = Self::AdamW { betas: [0.9, 0.98], weight_decay: 0.01 };

    /// Returns how many values are kept per value of a parameter.
    const fn state(&self) -> usize {
        match self {
            Self::Sgd { .. } => 1,
            Self::AdamW { .. } => 2,
        }
    }

    /// Updates a parameter if the scaler's last step may reach the weights: it knows that, the number of the update, and the sum
    /// of the squares of all gradients.
    ///
    /// A critic goes up the loss, where its weights decay all the same, and is clipped behind the update.
    pub fn update<D: HasBackward + HasUpdate, W: Plain>(
        &self,
        device: &mut D,
        update: Update,
        scaler: &Scaler<D>,
        parameter: &mut Parameter<D, W>,
    ) -> Result<(), D::Error> {
        let Update { learning_rate, max_norm } = update;
        let Parameter { master, gradient, state, role, player, .. } = &mut *parameter;
        let (direction, by) = match *player {
            Player::Alone => (1.0, 1.0),
            Player::Generator { rate } => (1.0, rate),
            Player::Critic { .. } => (-1.0, 1.0),
        };
        let learning_rate = direction * by * learning_rate;
        if state.is_empty() {
            *state = Vector::zeroed(device, self.state() * master.len())?;
        }
        let is_weight = *role == Role::Weight;
        let decay = |weight_decay, is_decaying: bool| {
            if is_decaying { direction * weight_decay } else { 0.0 }
        };
        let (gradient, square_norm) = (gradient.value().view(), scaler.square_norm());
        let when = Some(scaler.applies());
        let (weight, state) = (master.view_mut(), state.view_mut());
        match *self {
            Self::Sgd { momentum, weight_decay, decays_all, bias_rate } => {
                let weight_decay = decay(weight_decay, is_weight || decays_all);
                let rate = if *role == Role::Bias { bias_rate } else { 1.0 };
                let learning_rate = learning_rate * rate;
                let sgd = Sgd { learning_rate, momentum, weight_decay, max_norm };
                device.run(SgdStep {
                    sgd,
                    gradient,
                    square_norm,
                    weight,
                    momentum: state,
                    when,
                })?;
            }
            Self::AdamW { betas, weight_decay } => {
                let (weight_decay, update) = (decay(weight_decay, is_weight), scaler.updates());
                let adamw = AdamW { learning_rate, betas, epsilon: 1e-8, weight_decay, max_norm };
                device.run(AdamWStep {
                    adamw,
                    gradient,
                    square_norm,
                    update,
                    weight,
                    moments: state,
                    when,
                })?;
            }
        }
        parameter.clip(device)
    }
}

impl fmt::Display for Optimizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sgd { momentum, weight_decay, decays_all, bias_rate } => {
                write!(f, "SGD, momentum {momentum}, weight decay {weight_decay}")?;
                if *decays_all {
                    write!(f, " of everything")?;
                }
                if *bias_rate == 1.0 {
                    Ok(())
                } else {
                    write!(f, ", biases {bias_rate} times as fast")
                }
            }
            Self::AdamW { betas, weight_decay } => {
                write!(f, "AdamW, betas {betas:?}, weight decay {weight_decay}")
            }
        }
    }
}

impl FromStr for Optimizer {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "sgd" => Ok(Self::SGD),
            "adamw" => Ok(Self::ADAMW),
            _ => bail!("unknown optimizer \"{name}\": one of sgd, adamw"),
        }
    }
}
