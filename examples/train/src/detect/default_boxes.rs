//! Default boxes: what a network moves and stretches to objects.

use super::{Bounds, overlap};

/// By what offsets are divided, of centres and of logarithms of sizes: the "variances" of the reference implementation
/// (weiliu89/caffe, branch ssd).
const VARIANCES: [f64; 2] = [0.1, 0.2];

/// The overlap from which on a default box is to find an object.
const MATCHES: f32 = 0.5;

/// The default boxes of one map: as many around each of its pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct MapBoxes {
    /// Rows and columns of the map.
    pub extent: [usize; 2],
    /// From one centre to the next, as a share of the image, down and right; the first is half of it from the edge.
    pub step: [f64; 2],
    /// The side of the small square box, as a share of the image.
    pub scale: f64,
    /// That of the next map: the large square box has the geometric mean of both.
    pub next_scale: f64,
    /// Width over height of a box beside each square one; each has another one upright.
    pub ratios: Vec<f64>,
}

impl MapBoxes {
    /// Returns the number of boxes around each pixel.
    pub fn per_pixel(&self) -> usize {
        2 + 2 * self.ratios.len()
    }

    /// Returns the boxes, pixel by pixel: the small square, the large square, then lying and upright for each ratio.
    fn boxes(&self) -> impl Iterator<Item = Centred> {
        let Self { extent: [rows, columns], step, scale, next_scale, .. } = *self;
        let squares = [scale, (scale * next_scale).sqrt()].map(|side| [side, side]);
        let others = self.ratios.iter().flat_map(move |ratio| {
            let root = ratio.sqrt();
            [[scale * root, scale / root], [scale / root, scale * root]]
        });
        let sizes: Vec<[f64; 2]> = squares.into_iter().chain(others).collect();
        let centres = (0..rows * columns).map(move |pixel| {
            let [row, column] = [pixel / columns, pixel % columns].map(|at| at as f64 + 0.5);
            [column * step[1], row * step[0]]
        });
        centres.flat_map(move |centre| {
            let of_centre: Vec<_> = sizes.iter().map(|&size| Centred { centre, size }).collect();
            of_centre
        })
    }
}

/// A box by its centre and its size: horizontal, then vertical.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Centred {
    centre: [f64; 2],
    size: [f64; 2],
}

impl Centred {
    fn of(bounds: Bounds) -> Self {
        let [left, top, right, bottom] = bounds.map(f64::from);
        Self {
            centre: [(left + right) / 2.0, (top + bottom) / 2.0],
            size: [right - left, bottom - top],
        }
    }

    fn bounds(self) -> Bounds {
        let Self { centre: [x, y], size: [width, height] } = self;
        let [width, height] = [width / 2.0, height / 2.0];
        [x - width, y - height, x + width, y + height].map(|bound| bound as f32)
    }
}

/// The default boxes of a network, map by map, row by row, pixel by pixel.
#[derive(Clone, Debug, PartialEq)]
pub struct DefaultBoxes {
    boxes: Vec<Centred>,
    bounds: Vec<Bounds>,
}

impl DefaultBoxes {
    /// Makes the boxes of some maps, in the order of the network's results.
    ///
    /// Centres and sizes end at the image, as in the reference implementation: a box at the edge may still reach beyond it.
    pub fn new(maps: &[MapBoxes]) -> Self {
        let clamped = |Centred { centre, size }: Centred| Centred {
            centre: centre.map(|x| x.clamp(0.0, 1.0)),
            size: size.map(|x| x.clamp(0.0, 1.0)),
        };
        let boxes: Vec<_> = maps.iter().flat_map(MapBoxes::boxes).map(clamped).collect();
        let bounds = boxes.iter().map(|of| of.bounds()).collect();
        Self { boxes, bounds }
    }

    /// Returns the number of boxes.
    pub fn len(&self) -> usize {
        self.boxes.len()
    }

    /// Tells whether there are none.
    pub fn is_empty(&self) -> bool {
        self.boxes.is_empty()
    }

    /// Returns the boxes by their bounds.
    pub fn bounds(&self) -> &[Bounds] {
        &self.bounds
    }

    /// Returns which object each box is to find, if any.
    ///
    /// Each object is found by the box that overlaps it most, by the first of several; of boxes that more than one object claims
    /// the last object has it.  Every other box finds the object that it overlaps most, if that is by 0.5 or more.
    pub fn matches(&self, objects: &[Bounds]) -> Vec<Option<usize>> {
        let mut found = vec![None; self.len()];
        let mut best = vec![(0.0, 0); objects.len()];
        for (nth, (&of, found)) in self.bounds.iter().zip(&mut found).enumerate() {
            let mut most = 0.0;
            for (object, (&bounds, best)) in objects.iter().zip(&mut best).enumerate() {
                let shared = overlap(of, bounds);
                if shared > most {
                    most = shared;
                    *found = (shared >= MATCHES).then_some(object);
                }
                if shared > best.0 {
                    *best = (shared, nth);
                }
            }
        }
        for (object, &(shared, nth)) in best.iter().enumerate() {
            if shared > 0.0 {
                found[nth] = Some(object);
            }
        }
        found
    }

    /// Returns how a box has to be moved and stretched to an object: its centre by shares of the box's size, divided by 0.1, and
    /// the logarithms of its sizes, divided by 0.2.
    pub fn encode(&self, nth: usize, object: Bounds) -> [f64; 4] {
        let (from, to) = (self.boxes[nth], Centred::of(object));
        let moved =
            |axis: usize| (to.centre[axis] - from.centre[axis]) / from.size[axis] / VARIANCES[0];
        let stretched = |axis: usize| (to.size[axis] / from.size[axis]).ln() / VARIANCES[1];
        [moved(0), moved(1), stretched(0), stretched(1)]
    }

    /// Returns the box that offsets say, which [`encode`](Self::encode) undoes.
    pub fn decode(&self, nth: usize, offsets: [f32; 4]) -> Bounds {
        let (from, [x, y, width, height]) = (self.boxes[nth], offsets.map(f64::from));
        let moved = |axis: usize, by: f64| from.centre[axis] + by * VARIANCES[0] * from.size[axis];
        let stretched = |axis: usize, by: f64| from.size[axis] * (by * VARIANCES[1]).exp();
        let to = Centred {
            centre: [moved(0, x), moved(1, y)],
            size: [stretched(0, width), stretched(1, height)],
        };
        to.bounds()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_map() -> DefaultBoxes {
        let (extent, step, ratios) = ([2, 2], [0.5, 0.5], vec![2.0]);
        DefaultBoxes::new(&[MapBoxes { extent, step, scale: 0.2, next_scale: 0.45, ratios }])
    }

    /// Around (0.25, 0.25): squares of 0.2 and sqrt(0.2 x 0.45) = 0.3, and 0.2 sqrt(2) by 0.2 / sqrt(2) both ways.
    #[test]
    fn boxes_lie_around_the_pixels_of_their_map() {
        let boxes = one_map();
        assert_eq!(boxes.len(), 16);
        let close = |found: Bounds, expected: [f64; 4]| {
            let near = |(&x, y): (&f32, f64)| (f64::from(x) - y).abs() < 1e-6;
            assert!(found.iter().zip(expected).all(near), "{found:?} {expected:?}");
        };
        close(boxes.bounds()[0], [0.15, 0.15, 0.35, 0.35]);
        close(boxes.bounds()[1], [0.1, 0.1, 0.4, 0.4]);
        let [long, short] = [0.1 * 2.0_f64.sqrt(), 0.1 / 2.0_f64.sqrt()];
        close(boxes.bounds()[2], [0.25 - long, 0.25 - short, 0.25 + long, 0.25 + short]);
        close(boxes.bounds()[3], [0.25 - short, 0.25 - long, 0.25 + short, 0.25 + long]);
        // The next pixel is to the right.
        close(boxes.bounds()[4], [0.65, 0.15, 0.85, 0.35]);
    }

    #[test]
    fn an_object_is_found_by_its_best_box_and_by_those_that_overlap_it_by_half() {
        let boxes = one_map();
        // Small, within the small square of the first pixel: no box overlaps it by half, and that square most.
        let small = [0.2, 0.2, 0.3, 0.3];
        // The large square of the last pixel, which the others there overlap by less than half, 0.04 of 0.09.
        let large = [0.6, 0.6, 0.9, 0.9];
        let found = boxes.matches(&[small, large]);
        let expected: Vec<_> = (0..16)
            .map(|nth| match nth {
                0 => Some(0),
                13 => Some(1),
                _ => None,
            })
            .collect();
        assert_eq!(found, expected);
        assert_eq!(boxes.matches(&[]), [None; 16]);
        // Nowhere near any box.
        assert_eq!(boxes.matches(&[[0.0, 0.0, 0.05, 0.05]]), [None; 16]);
    }

    #[test]
    fn offsets_lead_back_to_the_object() {
        let boxes = one_map();
        let object = [0.1, 0.2, 0.35, 0.7];
        let offsets = boxes.encode(1, object);
        // From the square of 0.3 around (0.25, 0.25) to one of 0.25 by 0.5 around (0.225, 0.45).
        let expected = [
            -0.025 / 0.3 / 0.1,
            0.2 / 0.3 / 0.1,
            (0.25_f64 / 0.3).ln() / 0.2,
            (0.5_f64 / 0.3).ln() / 0.2,
        ];
        for (found, expected) in offsets.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{offsets:?}");
        }
        let back = boxes.decode(1, offsets.map(|x| x as f32));
        assert!(back.iter().zip(object).all(|(x, y)| (x - y).abs() < 1e-6), "{back:?}");
        assert_eq!(boxes.decode(1, [0.0; 4]), boxes.bounds()[1]);
    }
}
