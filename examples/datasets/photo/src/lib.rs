//! Photographs as people keep them in files, decoded, cut out and resampled.
//!
//! Colours are those of the file's numbers: neither profiles nor gamma are applied, and neither is the orientation that an
//! EXIF segment may ask for.  So do the published loaders (`PIL.Image.open(path).convert("RGB")` in torchvision), and boxes and
//! classes were annotated on images that were seen so.
//!
//! This is a crate of its own because decoders and resampling are generic over what they read: whoever names a reader compiles
//! them, for a minute.

use std::{fs, io::Cursor, path::Path};

use anyhow::{Context, Result, anyhow, bail, ensure};
use fast_image_resize::{
    FilterType, ResizeAlg, ResizeOptions, Resizer,
    images::{TypedCroppedImage, TypedImage, TypedImageRef},
    pixels::U8x3,
};
use zune_jpeg::{
    JpegDecoder,
    zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions},
};

/// The most pixels that are decoded: those of photographs are a tenth of it, and a file of a few bytes may claim more than
/// any memory has.
const MOST_PIXELS: usize = 1 << 27;

/// The bytes that a JPEG file begins with.
const JPEG: [u8; 3] = [0xff, 0xd8, 0xff];
/// The bytes that a PNG file begins with.
const PNG: [u8; 4] = [0x89, b'P', b'N', b'G'];
/// What begins the entropy-coded part of a JPEG file.
const START_OF_SCAN: u8 = 0xda;
/// What ends it.
const END_OF_IMAGE: [u8; 2] = [0xff, 0xd9];

/// A photograph: red, green and blue of each pixel, row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Photo {
    /// Columns; at least one.
    pub width: usize,
    /// Rows; at least one.
    pub height: usize,
    /// `3 * width * height` values from 0 to 255.
    pub pixels: Vec<u8>,
}

/// A piece of a photograph, in whole pixels; at least one, and within the photograph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The first column.
    pub left: usize,
    /// The first row.
    pub top: usize,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl Photo {
    /// Reads a file; what it holds is told by its first bytes, not by its name.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or [`decode`](Self::decode) refuses it; the error names the file.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
        Self::decode(&bytes).with_context(|| format!("{} is no photograph", path.display()))
    }

    /// Decodes a JPEG file of any usual kind (baseline or progressive; grey, colour, CMYK or YCCK), or a PNG file, whose
    /// transparency is dropped.
    ///
    /// Grey becomes three equal channels.  CMYK and YCCK are taken as Adobe's programs write them, inverted, and become
    /// `255 (1 - ink) (1 - black)` without any profile, as PIL does it.
    ///
    /// # Errors
    ///
    /// The bytes are neither, end before the image does, are damaged in a way that a decoder notices, or claim more than
    /// 2^27 pixels.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        ensure!(!bytes.is_empty(), "the file is empty");
        if bytes.starts_with(&JPEG) {
            return Self::decode_jpeg(bytes);
        }
        let first = &bytes[..bytes.len().min(4)];
        ensure!(bytes.starts_with(&PNG), "it is neither JPEG nor PNG: it begins with {first:02x?}");
        Self::decode_png(bytes).context("as PNG")
    }

    fn decode_jpeg(bytes: &[u8]) -> Result<Self> {
        // Decoders fill what is missing with grey.
        ensure!(has_end(bytes), "it is truncated: no end of the image follows its beginning");
        match Self::decode_strictly(bytes) {
            Ok(Some(photo)) => Ok(photo),
            // What has four components, or is odd: stray bytes between segments are in files that all programs show.
            Ok(None) => Self::decode_any(bytes).context("as JPEG"),
            Err(error) => Self::decode_any(bytes).map_err(|_| error.context("as JPEG")),
        }
    }

    /// Decodes what has one or three components and follows the standard to the letter; returns nothing where there are
    /// four, which zune-jpeg inverts where they are YCCK (<https://github.com/etemesi254/zune-image/issues/442>).
    fn decode_strictly(bytes: &[u8]) -> Result<Option<Self>> {
        let options = DecoderOptions::default()
            .set_strict_mode(true)
            .set_max_width(usize::from(u16::MAX))
            .set_max_height(usize::from(u16::MAX))
            .jpeg_set_out_colorspace(ColorSpace::RGB);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
        decoder.decode_headers().map_err(|error| anyhow!("{error}"))?;
        let info = decoder.info().context("it has no image")?;
        let (width, height) = (usize::from(info.width), usize::from(info.height));
        check_size(width, height)?;
        if info.components == 4 {
            return Ok(None);
        }
        let pixels = decoder.decode().map_err(|error| anyhow!("{error}"))?;
        Self::of(width, height, pixels).map(Some)
    }

    /// Decodes what any program shows, four components included.
    fn decode_any(bytes: &[u8]) -> Result<Self> {
        let mut decoder = jpeg_decoder::Decoder::new(bytes);
        decoder.read_info()?;
        let info = decoder.info().context("it has no image")?;
        let (width, height) = (usize::from(info.width), usize::from(info.height));
        check_size(width, height)?;
        let values = decoder.decode()?;
        let pixels = match info.pixel_format {
            jpeg_decoder::PixelFormat::RGB24 => values,
            jpeg_decoder::PixelFormat::L8 => repeated(&values),
            jpeg_decoder::PixelFormat::CMYK32 => {
                values.as_chunks().0.iter().flat_map(rgb_of_cmyk).collect()
            }
            jpeg_decoder::PixelFormat::L16 => bail!("it has 16 bits per pixel, and 8 can be read"),
        };
        Self::of(width, height, pixels)
    }

    fn decode_png(bytes: &[u8]) -> Result<Self> {
        let mut decoder = png::Decoder::new(Cursor::new(bytes));
        decoder.set_transformations(png::Transformations::normalize_to_color8());
        let (values, info) = png_frame(decoder)?;
        let pixels = match info.color_type {
            png::ColorType::Rgb => values,
            png::ColorType::Grayscale => repeated(&values),
            png::ColorType::GrayscaleAlpha => {
                values.as_chunks().0.iter().flat_map(|&[grey, _]| [grey; 3]).collect()
            }
            png::ColorType::Rgba => {
                values.as_chunks().0.iter().flat_map(|&[r, g, b, _]| [r, g, b]).collect()
            }
            png::ColorType::Indexed => bail!("its palette was not applied"),
        };
        Self::of(info.width as usize, info.height as usize, pixels)
    }

    fn of(width: usize, height: usize, pixels: Vec<u8>) -> Result<Self> {
        ensure!(
            pixels.len() == 3 * width * height,
            "{} values are no {width} x {height} pixels of three",
            pixels.len()
        );
        Ok(Self { width, height, pixels })
    }

    /// Returns all of it as a piece.
    pub fn whole(&self) -> Piece {
        Piece { left: 0, top: 0, width: self.width, height: self.height }
    }

    /// Returns a piece at another size: bilinear and with antialias, that is, by a triangle as wide as the pixels of
    /// whichever is coarser.  Nothing outside the piece is seen.
    ///
    /// This is what PIL calls `BILINEAR` and torchvision `antialias=True`; OpenCV's `INTER_LINEAR` has no antialias.
    ///
    /// # Panics
    ///
    /// If the piece is empty or not within the photograph, or the size is 0.
    pub fn resized(&self, piece: Piece, width: usize, height: usize) -> Self {
        resampled(self, piece, width, height, bilinear())
    }

    /// Returns the `width` by `height` pixels in the middle of what [`resized`](Self::resized) makes of the whole photograph at
    /// `all` pixels, columns and rows; the rest is not computed.  The first column is that at `round((all - width) / 2)`, ties
    /// to even, as torchvision's `CenterCrop` has it.
    ///
    /// # Panics
    ///
    /// If `all` is less than what is wanted of it.
    pub fn middle_of_resized(&self, all: [usize; 2], width: usize, height: usize) -> Self {
        let first = |all: usize, wanted: usize| {
            let margin = all.checked_sub(wanted).expect("the middle is within the whole");
            (margin as f64 / 2.0).round_ties_even()
        };
        let [across, down] =
            [self.width as f64 / all[0] as f64, self.height as f64 / all[1] as f64];
        let (left, top) = (first(all[0], width) * across, first(all[1], height) * down);
        let (wide, high) = (width as f64 * across, height as f64 * down);
        let (wide, high) = (wide.min(self.width as f64 - left), high.min(self.height as f64 - top));
        let options = bilinear().crop(left, top, wide, high);
        resampled(self, self.whole(), width, height, options)
    }

    /// Mirrors it, left to right.
    pub fn mirror(&mut self) {
        for row in self.pixels.chunks_exact_mut(3 * self.width) {
            row.as_chunks_mut::<3>().0.reverse();
        }
    }
}

/// Returns bilinear resampling with antialias.
fn bilinear() -> ResizeOptions {
    ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
}

/// Returns a piece of a photograph, or what the options name of it, at another size.
fn resampled(
    photo: &Photo,
    piece: Piece,
    width: usize,
    height: usize,
    options: ResizeOptions,
) -> Photo {
    assert!(width > 0 && height > 0, "an image has at least one pixel");
    let [across, down] = [photo.width, photo.height].map(|side| side as u32);
    let all = TypedImageRef::<U8x3>::from_buffer(across, down, &photo.pixels);
    let all = all.expect("three values per pixel");
    let Piece { left, top, width: across, height: down } = piece;
    let [left, top, across, down] = [left, top, across, down].map(|place| place as u32);
    let from = TypedCroppedImage::from_ref(&all, left, top, across, down);
    let from = from.expect("the piece is within the photograph");
    let mut pixels = vec![0; 3 * width * height];
    let mut to = TypedImage::<U8x3>::from_buffer(width as u32, height as u32, &mut pixels)
        .expect("three values per pixel");
    Resizer::new().resize_typed(&from, &mut to, &options).expect("it is within the piece");
    Photo { width, height, pixels }
}

/// Classes of pixels, from a PNG file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// One value per pixel: grey, or the place in the file's palette.
    pub classes: Vec<u8>,
}

impl Mask {
    /// Reads a PNG file of one value per pixel.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is no PNG file, is damaged, or has other pixels than grey ones or places in a palette, of 8
    /// bits; the error names it.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
        Self::decode(&bytes)
            .with_context(|| format!("{} is no image of the classes of pixels", path.display()))
    }

    /// Decodes a PNG file of one value per pixel.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        ensure!(!bytes.is_empty(), "the file is empty");
        let (classes, info) = png_frame(png::Decoder::new(Cursor::new(bytes)))?;
        let is_one = matches!(info.color_type, png::ColorType::Grayscale | png::ColorType::Indexed);
        ensure!(
            is_one && info.bit_depth == png::BitDepth::Eight,
            "its pixels are {:?} of {:?} bits, and one value of 8 bits is expected of each",
            info.color_type,
            info.bit_depth
        );
        Ok(Self { width: info.width as usize, height: info.height as usize, classes })
    }
}

/// Returns the pixels of the first image of a PNG file.
fn png_frame(mut decoder: png::Decoder<Cursor<&[u8]>>) -> Result<(Vec<u8>, png::OutputInfo)> {
    decoder.set_limits(png::Limits { bytes: 8 * MOST_PIXELS });
    let mut reader = decoder.read_info()?;
    check_size(reader.info().width as usize, reader.info().height as usize)?;
    let mut values = vec![0; reader.output_buffer_size().context("it is larger than any memory")?];
    let info = reader.next_frame(&mut values)?;
    values.truncate(info.buffer_size());
    Ok((values, info))
}

/// Checks how many pixels are to be decoded.
fn check_size(width: usize, height: usize) -> Result<()> {
    ensure!(width > 0 && height > 0, "it has no pixels: {width} x {height}");
    ensure!(
        width.saturating_mul(height) <= MOST_PIXELS,
        "{width} x {height} pixels are more than the {MOST_PIXELS} that can be read"
    );
    Ok(())
}

/// Tells whether a JPEG file has the end of the image behind the beginning of its pixels: their code has no such bytes
/// (ITU-T T.81, B.1.1.5), and a thumbnail in front of them may.
fn has_end(bytes: &[u8]) -> bool {
    let mut at = 2;
    loop {
        match bytes.get(at..) {
            Some(&[0xff, START_OF_SCAN, ref rest @ ..]) => {
                return rest.windows(2).rev().any(|two| two == END_OF_IMAGE);
            }
            // Fill bytes, or segments without a length.
            Some(&[0xff, 0xff, ..]) => at += 1,
            Some(&[0xff, 0x01 | 0xd0..=0xd8, ..]) => at += 2,
            Some(&[0xff, _, high, low, ..]) => {
                at += 2 + usize::from(u16::from_be_bytes([high, low]));
            }
            // Stray bytes between segments.
            Some(&[_, _, ..]) => at += 1,
            _ => return false,
        }
    }
}

/// Returns grey pixels in three equal channels.
fn repeated(grey: &[u8]) -> Vec<u8> {
    grey.iter().flat_map(|&value| [value; 3]).collect()
}

/// Returns what is seen of inks on white, without a profile.
fn rgb_of_cmyk(&[cyan, magenta, yellow, black]: &[u8; 4]) -> [u8; 3] {
    let left = |ink: u8| u32::from(255 - ink);
    [cyan, magenta, yellow].map(|ink| ((left(ink) * left(black) + 127) / 255) as u8)
}

#[cfg(test)]
mod tests;
