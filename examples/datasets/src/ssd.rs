//! What SSD does to a training image before it sees it: colours, a larger canvas, a piece that keeps an object, a mirror.
//!
//! Liu et al. (2016), section 2.2, with the numbers of the authors' code (`examples/ssd/ssd_pascal.py` in their branch of Caffe, and
//! `sampler.cpp`, `im_transforms.cpp` there), which chainercv and ssd.pytorch repeat.  Other than there, every image is resampled
//! bilinearly with antialias, where they draw one of five ways; and a piece is taken only if it keeps an object.

use std::array;

use rand::{Rng, RngExt, seq::IndexedRandom};

use crate::{
    object::Object,
    photo::{Photo, Piece},
};

/// The means of VGG's inputs, red, green and blue: what the canvas is filled with.
pub const MEANS: [u8; 3] = [123, 117, 104];

/// The most by which brightness changes, either way, of 255.
const BRIGHTNESS: f32 = 32.0;
/// The factors of contrast and of saturation, least and greatest.
const FACTOR: [f32; 2] = [0.5, 1.5];
/// The most by which hues turn, either way, in sixths of the circle: 18 degrees.
const HUE: f32 = 18.0 / 60.0;
/// The greatest ratio of the canvas's sides to those of the image.
const CANVAS: f64 = 4.0;
/// The least overlaps with an object that a piece may be asked for; the last is any.
const OVERLAPS: [f32; 6] = [0.1, 0.3, 0.5, 0.7, 0.9, 0.0];
/// In how many draws a piece is looked for.
const DRAWS: usize = 50;
/// The least side of a piece, as a share of the canvas's, before its shape.
const LEAST: f64 = 0.3;
/// The most that a piece may be wider than high against the canvas, or the other way round.
const SHAPE: f64 = 2.0;

/// Returns a training image as it is seen, `size` by `size` pixels, and the objects that are left of it.
///
/// In this order, each by what the generator draws: brightness, contrast, saturation and hue, each every other time; every other
/// time the image somewhere in a canvas of up to four times its width and height, filled with [`MEANS`]; all of that or a piece of
/// it, of at least a third of its side, that overlaps with an object by at least 0.1, 0.3, 0.5, 0.7, 0.9 (intersection over union)
/// or anyhow; resampled; and every other time mirrored.  An object is left where its centre is in the piece, and cut to it.
pub fn augmented(
    photo: &Photo,
    objects: &[Object],
    size: usize,
    generator: &mut impl Rng,
) -> (Photo, Vec<Object>) {
    let colours = Colours::draw(generator);
    placed(photo, objects, size, &colours, generator)
}

/// Returns the image in a canvas, cut, resampled and mirrored as the generator draws, and the objects that are left of it.
fn placed(
    photo: &Photo,
    objects: &[Object],
    size: usize,
    colours: &Colours,
    generator: &mut impl Rng,
) -> (Photo, Vec<Object>) {
    let canvas = Canvas::draw(photo, generator);
    let boxes: Vec<[f32; 4]> = objects.iter().map(|object| canvas.bounds(photo, object)).collect();
    let piece = draw_piece([canvas.width, canvas.height], &boxes, generator);
    let cut = canvas.cut(photo, piece, colours);
    let mut seen = cut.resized(cut.whole(), size, size);
    let mut left: Vec<Object> = objects
        .iter()
        .zip(boxes)
        .filter_map(|(&object, bounds)| Some(Object { bounds: within(bounds, piece)?, ..object }))
        .collect();
    if generator.random() {
        seen.mirror();
        for object in &mut left {
            let [from, top, to, bottom] = object.bounds;
            object.bounds = [1.0 - to, top, 1.0 - from, bottom];
        }
    }
    (seen, left)
}

/// Changes of an image's colours; what was not drawn changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Colours {
    brightness: Option<f32>,
    contrast: Option<f32>,
    /// Whether contrast comes after saturation and hue instead of before.
    is_contrast_last: bool,
    saturation: Option<f32>,
    hue: Option<f32>,
}

impl Colours {
    fn draw(generator: &mut impl Rng) -> Self {
        let [least, most] = FACTOR;
        let mut within = |least: f32, most: f32| {
            let drawn = generator.random_range(least..=most);
            generator.random::<bool>().then_some(drawn)
        };
        let brightness = within(-BRIGHTNESS, BRIGHTNESS);
        let contrast = within(least, most);
        let saturation = within(least, most);
        let hue = within(-HUE, HUE);
        Self { brightness, contrast, is_contrast_last: generator.random(), saturation, hue }
    }

    /// Changes a pixel; each step ends within 0 to 255.
    fn of(&self, pixel: [u8; 3]) -> [u8; 3] {
        if *self == (Self { is_contrast_last: self.is_contrast_last, ..Self::default() }) {
            return pixel;
        }
        let mut pixel = pixel.map(f32::from);
        let scale = |pixel: [f32; 3], factor: Option<f32>| match factor {
            Some(factor) => pixel.map(|x| (x * factor).min(255.0)),
            None => pixel,
        };
        if let Some(brightness) = self.brightness {
            pixel = pixel.map(|x| (x + brightness).clamp(0.0, 255.0));
        }
        if !self.is_contrast_last {
            pixel = scale(pixel, self.contrast);
        }
        if let Some(saturation) = self.saturation {
            pixel = saturated(pixel, saturation);
        }
        if let Some(hue) = self.hue {
            pixel = turned(pixel, hue);
        }
        if self.is_contrast_last {
            pixel = scale(pixel, self.contrast);
        }
        pixel.map(|x| (x + 0.5) as u8)
    }
}

/// Multiplies the saturation of a pixel, in the sense of hue, saturation and value; it ends at 1.
fn saturated(pixel: [f32; 3], factor: f32) -> [f32; 3] {
    let [value, least] = extremes(pixel);
    let chroma = value - least;
    let factor = if chroma * factor > value { value / chroma } else { factor };
    pixel.map(|x| value - (value - x) * factor)
}

/// Turns the hue of a pixel by so many sixths of the circle, at the same saturation and value.
fn turned(pixel: [f32; 3], sixths: f32) -> [f32; 3] {
    let [value, least] = extremes(pixel);
    let chroma = value - least;
    if chroma == 0.0 {
        return pixel;
    }
    let [red, green, blue] = pixel;
    let hue = if value == red {
        (green - blue) / chroma
    } else if value == green {
        2.0 + (blue - red) / chroma
    } else {
        4.0 + (red - green) / chroma
    };
    let hue = hue + sixths;
    [5.0, 3.0, 1.0].map(|offset| {
        // From -2 to 12: one turn is taken off, or added.
        let mut place = hue + offset;
        place -= if place >= 6.0 { 6.0 } else { 0.0 };
        place += if place < 0.0 { 6.0 } else { 0.0 };
        value - chroma * place.min(4.0 - place).clamp(0.0, 1.0)
    })
}

/// Returns the greatest and the least of three.
fn extremes([a, b, c]: [f32; 3]) -> [f32; 2] {
    [a.max(b).max(c), a.min(b).min(c)]
}

/// A canvas with an image in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Canvas {
    width: usize,
    height: usize,
    /// Where the image lies.
    left: usize,
    top: usize,
}

impl Canvas {
    fn draw(photo: &Photo, generator: &mut impl Rng) -> Self {
        let ratio = generator.random_range(1.0..=CANVAS);
        let [x, y] = [(); 2].map(|()| generator.random::<f64>());
        let is_larger: bool = generator.random();
        let grown = |side: usize| if is_larger { (side as f64 * ratio) as usize } else { side };
        let (width, height) = (grown(photo.width), grown(photo.height));
        let place = |share: f64, room: usize| (share * (room + 1) as f64) as usize;
        Self {
            width,
            height,
            left: place(x, width - photo.width),
            top: place(y, height - photo.height),
        }
    }

    /// Returns the bounds of an object, in pixels of the canvas.
    fn bounds(&self, photo: &Photo, object: &Object) -> [f32; 4] {
        let [left, top, right, bottom] = object.bounds;
        let x = |share: f32| self.left as f32 + share * photo.width as f32;
        let y = |share: f32| self.top as f32 + share * photo.height as f32;
        [x(left), y(top), x(right), y(bottom)]
    }

    /// Returns a piece of the canvas, with the colours of the image in it changed.
    fn cut(&self, photo: &Photo, piece: Piece, colours: &Colours) -> Photo {
        let mut pixels = MEANS.repeat(piece.width * piece.height);
        let inside = |first: usize, length: usize, at: usize, side: usize| {
            first.max(at)..(first + length).min(at + side)
        };
        let columns = inside(piece.left, piece.width, self.left, photo.width);
        if columns.is_empty() {
            return Photo { width: piece.width, height: piece.height, pixels };
        }
        for row in inside(piece.top, piece.height, self.top, photo.height) {
            let from = (row - self.top) * photo.width + columns.start - self.left;
            let to = (row - piece.top) * piece.width + columns.start - piece.left;
            let from = &photo.pixels[3 * from..][..3 * columns.len()];
            let to = &mut pixels[3 * to..][..3 * columns.len()];
            for (to, &from) in to.as_chunks_mut().0.iter_mut().zip(from.as_chunks().0) {
                *to = colours.of(from);
            }
        }
        Photo { width: piece.width, height: piece.height, pixels }
    }
}

/// Draws a piece of a canvas: all of it, or one of those that were found for each overlap, with the same chance each.
fn draw_piece([width, height]: [usize; 2], boxes: &[[f32; 4]], generator: &mut impl Rng) -> Piece {
    let mut candidates = vec![Piece { left: 0, top: 0, width, height }];
    for overlap in OVERLAPS {
        for _ in 0..if boxes.is_empty() { 0 } else { DRAWS } {
            let scale: f64 = generator.random_range(LEAST..=1.0);
            let shapes = (scale * scale).max(1.0 / SHAPE)..=SHAPE.min(1.0 / (scale * scale));
            let shape = generator.random_range(shapes).sqrt();
            let side = |all: usize, share: f64| ((all as f64 * share) as usize).clamp(1, all);
            let (across, down) = (side(width, scale * shape), side(height, scale / shape));
            let left = generator.random_range(0..=width - across);
            let top = generator.random_range(0..=height - down);
            let piece = Piece { left, top, width: across, height: down };
            let is_enough = boxes.iter().any(|&bounds| overlap_of(bounds, piece) >= overlap);
            if is_enough && boxes.iter().any(|&bounds| within(bounds, piece).is_some()) {
                candidates.push(piece);
                break;
            }
        }
    }
    *candidates.choose(generator).expect("all of the canvas is one")
}

/// Returns left, top, right and bottom of a piece.
fn sides(piece: Piece) -> [f32; 4] {
    let Piece { left, top, width, height } = piece;
    [left, top, left + width, top + height].map(|side| side as f32)
}

/// Returns the intersection over union of an area with a piece.
fn overlap_of(bounds: [f32; 4], piece: Piece) -> f32 {
    let area =
        |[left, top, right, bottom]: [f32; 4]| (right - left).max(0.0) * (bottom - top).max(0.0);
    let both = area(cut(bounds, piece));
    both / (area(bounds) + area(sides(piece)) - both)
}

/// Returns what of an area is in a piece.
fn cut(bounds: [f32; 4], piece: Piece) -> [f32; 4] {
    let within = sides(piece);
    array::from_fn(|i| if i < 2 { bounds[i].max(within[i]) } else { bounds[i].min(within[i]) })
}

/// Returns what of an area is in a piece, in shares of the piece; nothing where its centre is not.
fn within(bounds: [f32; 4], piece: Piece) -> Option<[f32; 4]> {
    let [left, top, right, bottom] = sides(piece);
    let [x, y] = [0, 1].map(|i| (bounds[i] + bounds[i + 2]) / 2.0);
    if !(left <= x && x < right && top <= y && y < bottom) {
        return None;
    }
    let [width, height] = [right - left, bottom - top];
    let cut = cut(bounds, piece);
    let shares = [
        (cut[0] - left) / width,
        (cut[1] - top) / height,
        ((cut[2] - left) / width).min(1.0),
        ((cut[3] - top) / height).min(1.0),
    ];
    (shares[0] < shares[2] && shares[1] < shares[3]).then_some(shares)
}

#[cfg(test)]
mod tests;
