//! A convolution, and its gradient by the input: every target is a sum over a window of the source.
//!
//! Forward, the targets are the output's pixels and the source is the input; backward, the targets
//! are the input's pixels and the source is the gradient of the output.  Both take the same steps:
//!
//! 1. The weight is widened and arranged in panels (`panels`): for each phase, group and line of 16 target
//!    channels a matrix of terms and lanes.  A phase is a pair of a walk down and a walk right
//!    (`walk`); forward there is one, backward one for each pair of remainders of the strides.
//! 2. The target is divided into chunks (`bands`), which threads take.
//! 3. A chunk copies the part of the source that its windows cover (`window`).
//! 4. For each phase and group the kernel (`kernel::Streams`) adds the terms in the order of kernel row,
//!    kernel column and source channel.  A row of the kernel's tile is a target pixel; a segment is a row of the window,
//!    as the channels of neighbouring pixels are neighbours, or one pixel where there are several groups or taps are apart.
//! 5. The sums, still in the cache, pass the epilogue (`Sink::put`): counted, narrowed, stored.
//!
//! # Example
//!
//! A 1x4x4x1 input, one 3x3 filter, a padding of 1: the output is 4x4, one chunk has all of it, and
//! the window is 6x6 with a pitch of 6 (`window`).  Output pixel (y, x) begins to read at `6 y + x`; the
//! segments are `(from, term, length)` = `(0, 0, 3)`, `(6, 3, 3)` and `(12, 6, 3)`.  With vectors of 16
//! lanes the first register tile has the first eight pixels, rows 0 and 1 of the output, whose streams
//! begin at 0, 1, 2, 3, 6, 7, 8 and 9; its line has the one filter in lane 0 and fifteen unused lanes.
//!
//! With 32 filters a pixel has two whole lines, and the tile adds to the sums where they belong;
//! with one filter, or 20, it adds to lines of 16 set aside, whose used lanes are copied.

use core::ops::Range;
use std::vec::Vec;

use adaloss_core::format::Element;

use super::{
    super::{
        Cpu, Scratch, Sink,
        kernel::{LANES, Row, Segment, Streams, lines},
        widen,
    },
    bands::{Band, Bands},
    walk::{Walk, hull},
    window::{Images, Window, clipped, is_padding},
};
use adaloss_hal::{HostError, host::filled, network::Convolution};

/// How the weight `[filter, kernel row, kernel column, channel]` is indexed: forward, a target channel is a filter and a
/// source channel an input channel; backward it is the other way round.
#[derive(Clone, Copy, Debug)]
struct Sides {
    groups: usize,
    /// Target channels of one group.
    targets: usize,
    /// Source channels of one group.
    sources: usize,
    /// Distances in the weight: from one target channel to the next, and from one source channel to the next.
    steps: [usize; 2],
    /// Distances in the weight: from one group to the next, and from one tap of the kernel to the next.
    group: usize,
    place: usize,
}

/// A convolution of a source with a weight, forward or back.
pub(super) struct Sweep {
    shape: Convolution,
    sides: Sides,
    /// Walks down and walks right.
    walks: [Vec<Walk>; 2],
    /// Height and width of the target and of the source.
    target: [usize; 2],
    source: [usize; 2],
}

/// The targets of one walk down and one walk right, with their panels.
struct Phase<'a> {
    walks: [Walk; 2],
    panels: &'a [f32],
}

impl Sweep {
    /// Convolves the input.
    pub(super) fn forward(shape: Convolution, output: [usize; 2]) -> Self {
        let Convolution { channels, filters, groups, .. } = shape;
        let (targets, sources) = (filters / groups, channels / groups);
        let filter = shape.fan_in();
        let sides = Sides {
            groups,
            targets,
            sources,
            steps: [filter, 1],
            group: targets * filter,
            place: sources,
        };
        let walk = |axis| Vec::from([Walk::forward(&shape, output, axis)]);
        Self { shape, sides, walks: [walk(0), walk(1)], target: output, source: shape.input }
    }

    /// Brings the gradient of the output back to the input.
    pub(super) fn back(shape: Convolution, output: [usize; 2]) -> Self {
        let Convolution { channels, filters, groups, .. } = shape;
        let (targets, sources) = (channels / groups, filters / groups);
        let filter = shape.fan_in();
        let sides = Sides {
            groups,
            targets,
            sources,
            steps: [1, filter],
            group: sources * filter,
            place: targets,
        };
        let walks = |axis| Walk::back(&shape, axis).collect();
        Self { shape, sides, walks: [walks(0), walks(1)], target: shape.input, source: output }
    }

    /// Computes all targets, from the bias of their channel on or from zero.
    pub(super) fn run<A: Element, B: Element, F: Element>(
        &self,
        cpu: &Cpu,
        source: Images<'_, A>,
        weight: &[B],
        bias: Option<&[f32]>,
        to: &mut [F],
        sink: &Sink<'_, F>,
    ) -> Result<(), HostError> {
        if to.is_empty() {
            return Ok(());
        }
        let Self { target: [height, width], sides, .. } = *self;
        let row = width * sides.targets * sides.groups;
        let source_row = source.extent[1] * source.channels * source.extent[0] / height;
        let bands = Bands::new(self.shape.batch, height, row.max(source_row));
        let mut wide = filled(weight.len(), 0.0)?;
        widen(weight, &mut wide);
        let panels = self.panels(cpu, &wide)?;
        // Padding is multiplied as zero, and 0 times infinity is NaN: with such a weight the taps outside the source
        // are left out, pixel by pixel; and where they are nearly all.
        let [rows, columns] = [0, 1].map(|axis| self.reads(axis, &(0..self.target[axis])));
        let clips =
            is_padding([&rows, &columns], self.source) || !wide.iter().all(|x| x.is_finite());
        cpu.each(bands.divide(to, row), |nth, to| {
            let band = bands.band(nth);
            let mut sums = Scratch::zeroed(to.len().next_multiple_of(LANES));
            if let Some(bias) = bias {
                let pixels = sums[..to.len()].chunks_exact_mut(bias.len());
                pixels.for_each(|sums| sums.copy_from_slice(bias));
            }
            self.sums(source, &panels, bias, &band, clips, &mut sums);
            let first = (band.images.start * height + band.rows.start) * row;
            sink.put(first, &sums[..to.len()], to);
        });
        Ok(())
    }

    /// Returns the part of the source that some targets read along an axis, beyond its edges too.
    fn reads(&self, axis: usize, targets: &Range<usize>) -> Range<isize> {
        hull(self.walks[axis].iter().filter_map(|walk| walk.reads(walk.within(targets))))
    }

    /// Returns the phases with their panels cut from all panels.
    fn phases<'a>(&'a self, panels: &'a [f32]) -> impl Iterator<Item = Phase<'a>> {
        let mut rest = panels;
        let pairs = self.walks[0]
            .iter()
            .flat_map(|&down| self.walks[1].iter().map(move |&right| [down, right]));
        pairs.map(move |walks| {
            let (panels, tail) = rest.split_at(self.sides.panels(&walks));
            rest = tail;
            Phase { walks, panels }
        })
    }

    /// Arranges the weight into panels: for each phase, group and line of targets a matrix of terms
    /// and lanes.
    fn panels(&self, cpu: &Cpu, weight: &[f32]) -> Result<Vec<f32>, HostError> {
        let sides = self.sides;
        let pairs = || {
            let right = &self.walks[1];
            self.walks[0].iter().flat_map(move |&down| right.iter().map(move |&r| [down, r]))
        };
        let mut panels = filled(pairs().map(|walks| sides.panels(&walks)).sum(), 0.0)?;
        let mut parts = Vec::new();
        let mut rest = &mut panels[..];
        for walks in pairs() {
            let (phase, tail) = rest.split_at_mut(sides.panels(&walks));
            rest = tail;
            let panel = (sides.terms(&walks) * LANES).max(1);
            parts.extend(phase.chunks_mut(panel).enumerate().map(|(nth, to)| (walks, nth, to)));
        }
        let columns = self.shape.kernel[1];
        cpu.each(parts, |_, (walks, nth, panel)| {
            sides.fill(&walks, columns, nth, weight, panel);
        });
        Ok(panels)
    }

    /// Adds the terms of the targets of one chunk to what they start at, zeros or the bias.
    fn sums<A: Element>(
        &self,
        source: Images<'_, A>,
        panels: &[f32],
        bias: Option<&[f32]>,
        band: &Band,
        clips: bool,
        to: &mut [f32],
    ) {
        if self.sides.sources == 0 {
            return;
        }
        let mut covered = [self.reads(0, &band.rows), self.reads(1, &(0..self.target[1]))];
        if clips {
            let [rows, columns] = covered;
            covered = [clipped(rows, self.source[0]), clipped(columns, self.source[1])];
        }
        let window = Window::open(source, band.images.clone(), covered);
        let sides = self.sides;
        let width = lines(sides.targets) * LANES;
        let pixel = sides.targets * sides.groups;
        // The kernel adds whole lines.  Pixels of whole lines are summed in the chunk itself, others in lines set aside.
        let is_direct = sides.groups == 1 && width == sides.targets;
        for phase in self.phases(panels) {
            let terms = sides.terms(&phase.walks);
            if terms == 0 {
                continue;
            }
            let pixels = self.pixels(&phase, &window, band);
            for group in 0..sides.groups {
                let panels = &phase.panels[group * terms * width..][..terms * width];
                let source = group * sides.sources;
                if is_direct {
                    let rows = pixels.iter().map(|row| Row { to: row.to * pixel, ..*row });
                    let rows: Vec<_> = rows.collect();
                    self.add(&phase, &window, band, &rows, panels, clips, to);
                    continue;
                }
                let aside = (0..).zip(&pixels).map(|(nth, row): (usize, _)| Row {
                    from: row.from.wrapping_add(source),
                    to: nth * width,
                });
                let aside: Vec<_> = aside.collect();
                let mut sums = Scratch::zeroed(pixels.len() * width);
                if let Some(bias) = bias {
                    let bias = &bias[group * sides.targets..][..sides.targets];
                    let pixels = sums.chunks_mut(width);
                    pixels.for_each(|sums| sums[..sides.targets].copy_from_slice(bias));
                }
                self.add(&phase, &window, band, &aside, panels, clips, &mut sums);
                for (row, sums) in pixels.iter().zip(sums.chunks(width)) {
                    let first = row.to * pixel + group * sides.targets;
                    to[first..first + sides.targets].copy_from_slice(&sums[..sides.targets]);
                }
            }
        }
    }

    /// Returns where the targets of a phase begin to read, and their numbers in the chunk.
    fn pixels(&self, phase: &Phase<'_>, window: &Window, band: &Band) -> Vec<Row> {
        let [down, right] = phase.walks;
        let mut pixels = Vec::new();
        for image in 0..band.images.len() {
            for row in down.within(&band.rows) {
                let y = down.target[0] + row * down.target[1] - band.rows.start;
                let first = (image * band.rows.len() + y) * self.target[1];
                pixels.extend((0..right.count).map(|column| Row {
                    from: window.place(image, [down.first(row), right.first(column)]),
                    to: first + right.target[0] + column * right.target[1],
                }));
            }
        }
        pixels
    }

    /// Adds the terms of one phase and group to the sums of its pixels.
    #[expect(clippy::too_many_arguments, reason = "one call for the two places that sums are in")]
    fn add(
        &self,
        phase: &Phase<'_>,
        window: &Window,
        band: &Band,
        pixels: &[Row],
        panels: &[f32],
        clips: bool,
        to: &mut [f32],
    ) {
        let [down, right] = phase.walks;
        let terms = self.sides.terms(&phase.walks);
        let left = &window.values;
        if !clips {
            let segments = self.sides.segments(&phase.walks, [0..down.taps, 0..right.taps], window);
            Streams { left, rows: pixels, segments: &segments, panels, terms, to }.add();
            return;
        }
        let rows = (0..band.images.len()).flat_map(|_| down.within(&band.rows));
        let numbers = rows.flat_map(|row| (0..right.count).map(move |column| (row, column)));
        for (pixel, (row, column)) in pixels.iter().zip(numbers) {
            let taps = [down.inside(row, self.source[0]), right.inside(column, self.source[1])];
            let mut segments = self.sides.segments(&phase.walks, taps, window);
            // The pixel itself may be outside of what was copied, and what it reads is not.
            segments
                .iter_mut()
                .for_each(|segment| segment.from = segment.from.wrapping_add(pixel.from));
            let rows = &[Row { from: 0, ..*pixel }];
            Streams { left, rows, segments: &segments, panels, terms, to: &mut *to }.add();
        }
    }
}

impl Sides {
    /// Returns the terms of each sum of a phase.
    fn terms(&self, walks: &[Walk; 2]) -> usize {
        walks[0].taps.saturating_mul(walks[1].taps).saturating_mul(self.sources)
    }

    /// Returns the elements of the panels of a phase.
    fn panels(&self, walks: &[Walk; 2]) -> usize {
        self.terms(walks) * lines(self.targets) * LANES * self.groups
    }

    /// Fills one panel of a phase from a weight whose kernel has so many columns.
    fn fill(
        &self,
        walks: &[Walk; 2],
        columns: usize,
        nth: usize,
        weight: &[f32],
        panel: &mut [f32],
    ) {
        let per_group = lines(self.targets);
        let (group, target) = (nth / per_group, nth % per_group * LANES);
        let width = LANES.min(self.targets - target);
        let taps = (0..walks[0].taps).flat_map(|y| (0..walks[1].taps).map(move |x| [y, x]));
        let sources = taps.flat_map(|tap| (0..self.sources).map(move |source| (tap, source)));
        for (([y, x], source), to) in sources.zip(panel.chunks_mut(LANES)) {
            let place = walks[0].place(y) * columns + walks[1].place(x);
            let first = group * self.group + place * self.place + source * self.steps[1];
            let from = weight[first + target * self.steps[0]..].iter().step_by(self.steps[0]);
            to.iter_mut().zip(from.take(width)).for_each(|(to, x)| *to = *x);
        }
    }

    /// Returns the segments of some taps, down and right.
    fn segments(
        &self,
        walks: &[Walk; 2],
        [down, right]: [Range<usize>; 2],
        window: &Window,
    ) -> Vec<Segment> {
        let mut segments = Vec::new();
        if right.is_empty() {
            return segments;
        }
        for y in down {
            let segment = |x: usize, taps: usize| Segment {
                from: window.distance([y * walks[0].spread, x * walks[1].spread]),
                term: (y * walks[1].taps + x) * self.sources,
                length: taps * self.sources,
            };
            if self.groups == 1 && walks[1].spread == 1 {
                segments.push(segment(right.start, right.len()));
            } else {
                segments.extend(right.clone().map(|x| segment(x, 1)));
            }
        }
        segments
    }
}
