//! Detection by default boxes of many sizes in one pass (SSD: Liu et al. 2016), beside the network itself.
//!
//! ```text
//! DefaultBoxes --match, encode--> targets --+
//!                                           +--> MultiboxLoss: hard negative mining, cross entropy, smooth L1
//! network: scores and offsets of each box --+
//!                                           +--> detect: decode, suppress --> AveragePrecision
//! ```
//!
//! Boxes are `[left, top, right, bottom]` as shares of the image's width and height.  Everything here is computed on the host.

mod average_precision;
mod bounds;
mod default_boxes;
mod maps;
mod multibox;
mod suppress;

pub use average_precision::{AveragePrecision, Rule};
pub use bounds::{Bounds, overlap};
pub use default_boxes::{DefaultBoxes, MapBoxes};
pub use maps::{by_map, by_sample};
pub use multibox::{MultiboxLoss, Targets, multibox_loss};
pub use suppress::{Detection, detect};
