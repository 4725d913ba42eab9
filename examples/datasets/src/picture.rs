//! A look at the images of a batch, as a PNG file.

use anyhow::{Result, bail, ensure};

use crate::{Batch, Dataset, Input, Inputs, Judged, Object, generate};

/// The least rows of one image on the sheet; smaller ones are magnified.
const LEAST_ROWS: usize = 64;

/// Colours of the classes of pixels, background black, and ignored pixels white; of objects the same but for the first, and
/// difficult ones white.
const COLOURS: [[u8; 3]; 8] = [
    [0, 0, 0],
    [230, 60, 60],
    [60, 200, 60],
    [70, 90, 240],
    [240, 220, 60],
    [220, 80, 220],
    [70, 220, 220],
    [150, 150, 150],
];

/// Images side by side, each with the classes of its pixels beneath if it has them, and its objects framed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sheet {
    /// Pixels of a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Red, green and blue of each pixel.
    pub pixels: Vec<u8>,
}

impl Sheet {
    /// Draws a batch, `columns` images in a row.
    ///
    /// # Errors
    ///
    /// The samples are no images of one or three channels, or there are none.
    pub fn of(dataset: &dyn Dataset, batch: &Batch, columns: usize) -> Result<Self> {
        let (Inputs::Images(values), Input::Image { height, width, channels }) =
            (&batch.inputs, dataset.input())
        else {
            bail!("only images can be drawn, and not {}", dataset.describe());
        };
        let is_picture = dataset.judged() != Judged::Quantity;
        ensure!(is_picture, "only images can be drawn, and not {}", dataset.describe());
        ensure!(
            channels == 1 || channels == 3,
            "images of 1 or 3 channels can be drawn, and these have {channels}"
        );
        ensure!(
            batch.samples > 0 && columns > 0,
            "there is nothing to draw: give at least one sample and one column"
        );
        let mut tiles: Vec<_> = values.chunks_exact(height * width * channels).map(tones).collect();
        if channels == 1 {
            tiles.iter_mut().for_each(|tile| *tile = tile.iter().flat_map(|&x| [x; 3]).collect());
        }
        if dataset.judged() == Judged::PerPixel {
            let classes = batch.labels.chunks_exact(height * width);
            tiles.iter_mut().zip(classes).for_each(|(tile, labels)| tile.extend(paint(labels)));
        }
        for (tile, objects) in tiles.iter_mut().zip(&batch.objects) {
            objects.iter().for_each(|object| frame(tile, [width, height], object));
        }
        Ok(Self::arrange(&tiles, width, columns.min(tiles.len())))
    }

    /// Puts tiles of the same size side by side, magnified.
    fn arrange(tiles: &[Vec<u8>], width: usize, columns: usize) -> Self {
        let rows = tiles[0].len() / width / 3;
        let zoom = LEAST_ROWS.div_ceil(rows);
        let [tile_width, tile_height] = [width, rows].map(|side| side * zoom);
        let (width_all, height_all) =
            (columns * tile_width, tiles.len().div_ceil(columns) * tile_height);
        let mut pixels = vec![0; width_all * height_all * 3];
        for (place, to) in pixels.chunks_exact_mut(3).enumerate() {
            let (x, y) = (place % width_all, place / width_all);
            if let Some(tile) = tiles.get(y / tile_height * columns + x / tile_width) {
                let (row, column) = (y % tile_height / zoom, x % tile_width / zoom);
                to.copy_from_slice(&tile[(row * width + column) * 3..][..3]);
            }
        }
        Self { width: width_all, height: height_all, pixels }
    }

    /// Returns the sheet as a PNG file.
    ///
    /// # Errors
    ///
    /// The sheet is larger than a PNG file can be.
    pub fn png(&self) -> Result<Vec<u8>> {
        generate::png(&self.pixels, self.width, self.height, png::ColorType::Rgb)
    }
}

/// Returns an image from its least value, black, to its greatest.
fn tones(values: &[f32]) -> Vec<u8> {
    let least = values.iter().copied().fold(f32::INFINITY, f32::min);
    let greatest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let scale = 255.0 / (greatest - least).max(f32::MIN_POSITIVE);
    values.iter().map(|value| ((value - least) * scale).round() as u8).collect()
}

/// Returns the colours of classes.
fn paint(labels: &[u32]) -> impl Iterator<Item = u8> {
    let colour = |&label: &u32| match label {
        crate::IGNORED => [255; 3],
        _ => COLOURS[label as usize % COLOURS.len()],
    };
    labels.iter().flat_map(colour)
}

/// Draws a frame about an object, in its outermost pixels.
fn frame(tile: &mut [u8], [width, height]: [usize; 2], object: &Object) {
    let colour = match object.is_difficult {
        true => [255; 3],
        false => COLOURS[1 + object.class as usize % (COLOURS.len() - 1)],
    };
    let [left, top, right, bottom] = object.bounds;
    let columns = first_and_last(left, right, width);
    let rows = first_and_last(top, bottom, height);
    let mut paint = |row, column| tile[(row * width + column) * 3..][..3].copy_from_slice(&colour);
    for column in columns[0]..=columns[1] {
        rows.into_iter().for_each(|row| paint(row, column));
    }
    for row in rows[0]..=rows[1] {
        columns.into_iter().for_each(|column| paint(row, column));
    }
}

/// Returns the first and the last pixel of a stretch that is given in shares of `size`.
fn first_and_last(from: f32, to: f32, size: usize) -> [usize; 2] {
    let last = (to * size as f32).ceil() as usize;
    [(from * size as f32) as usize, last.saturating_sub(1)].map(|place| place.min(size - 1))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::{
        digits::{Digits, Options},
        objects::Objects,
        scenes::{Plan, Scenes},
        text::Text,
    };

    #[test]
    fn a_sheet_survives_its_file() {
        let scenes = Scenes::generate(Plan { size: 16, train: 2, test: 5, seed: 0 }).unwrap();
        let sheet = Sheet::of(&scenes, &scenes.test(0..5).unwrap(), 2).unwrap();
        // Twice 16 rows, twice as large; three rows of tiles.
        assert_eq!((sheet.width, sheet.height), (2 * 32, 3 * 64));
        let decoder = png::Decoder::new(Cursor::new(sheet.png().unwrap()));
        let mut reader = decoder.read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        assert_eq!(pixels, sheet.pixels);
    }

    #[test]
    fn digits_are_grey_and_magnified() {
        let digits = Digits::embedded(Options::default()).unwrap();
        let sheet = Sheet::of(&digits, &digits.test(0..3).unwrap(), 8).unwrap();
        assert_eq!((sheet.width, sheet.height), (3 * 64, 64));
        assert!(sheet.pixels.chunks_exact(3).all(|p| p[0] == p[1] && p[1] == p[2]));
        assert!(sheet.pixels.contains(&0) && sheet.pixels.contains(&255));
    }

    #[test]
    fn objects_are_framed() {
        let mut tile = vec![0; 8 * 6 * 3];
        let bounds = [0.25, 0.5, 0.625, 1.0];
        frame(&mut tile, [8, 6], &Object { class: 2, bounds, is_difficult: false });
        let is_painted = |place: usize| tile[place * 3..][..3] == COLOURS[3];
        let painted: Vec<_> = (0..48).filter(|&place| is_painted(place)).collect();
        // Rows 3 to 5, columns 2 to 4, without the pixel in the middle.
        assert_eq!(painted, [26, 27, 28, 34, 36, 42, 43, 44]);
        let objects = Objects::generate(Plan { size: 16, train: 1, test: 2, seed: 0 }).unwrap();
        let batch = objects.test(0..2).unwrap();
        let plain = Batch { objects: Vec::new(), ..batch.clone() };
        assert_ne!(
            Sheet::of(&objects, &batch, 2).unwrap(),
            Sheet::of(&objects, &plain, 2).unwrap()
        );
    }

    #[test]
    fn what_is_no_image_is_an_error() {
        let text = Text::shipped(8).unwrap();
        assert!(Sheet::of(&text, &text.test(0..1).unwrap(), 1).is_err());
        let digits = Digits::embedded(Options::default()).unwrap();
        assert!(Sheet::of(&digits, &digits.test(0..0).unwrap(), 1).is_err());
    }
}
