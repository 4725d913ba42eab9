use jpeg_encoder::{ColorType, Encoder};

use super::*;

/// A smooth image, which JPEG changes little.
fn smooth(width: usize, height: usize) -> Photo {
    let value = |place: usize, channel: usize| {
        let (x, y) = (place % width, place / width);
        [255 * x / width, 255 * y / height, 255 * (x + y) / (width + height)][channel] as u8
    };
    let pixels = (0..width * height).flat_map(|i| [0, 1, 2].map(|channel| value(i, channel)));
    Photo { width, height, pixels: pixels.collect() }
}

fn encoded(
    values: &[u8],
    width: usize,
    height: usize,
    kind: ColorType,
    progressive: bool,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, 95);
    encoder.set_progressive(progressive);
    encoder.encode(values, width as u16, height as u16, kind).unwrap();
    bytes
}

fn jpeg(photo: &Photo, progressive: bool) -> Vec<u8> {
    encoded(&photo.pixels, photo.width, photo.height, ColorType::Rgb, progressive)
}

fn png(values: &[u8], width: usize, height: usize, kind: png::ColorType) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width as u32, height as u32);
    encoder.set_color(kind);
    if kind == png::ColorType::Indexed {
        encoder.set_palette((0..=255).flat_map(|i| [i, 255 - i, 7]).collect::<Vec<u8>>());
    }
    encoder.write_header().unwrap().write_image_data(values).unwrap();
    bytes
}

fn error(bytes: &[u8]) -> String {
    format!("{:#}", Photo::decode(bytes).unwrap_err())
}

/// Checks that two images differ by no more than so many levels anywhere.
fn assert_near(found: &Photo, expected: &Photo, levels: u8) {
    assert_eq!((found.width, found.height), (expected.width, expected.height));
    let most =
        found.pixels.iter().zip(&expected.pixels).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
    assert!(most <= levels, "{most} levels apart");
}

#[test]
fn jpeg_files_of_every_usual_kind_are_read() {
    let photo = smooth(67, 45);
    for progressive in [false, true] {
        assert_near(&Photo::decode(&jpeg(&photo, progressive)).unwrap(), &photo, 8);
    }
    let grey: Vec<u8> = photo.pixels.as_chunks().0.iter().map(|&[red, _, _]| red).collect();
    let expected = Photo { pixels: repeated(&grey), ..photo.clone() };
    let found = Photo::decode(&encoded(&grey, 67, 45, ColorType::Luma, false)).unwrap();
    assert_near(&found, &expected, 4);
}

/// Inks that make the smooth image: with a quarter of black in each pixel.
#[test]
fn four_components_are_inks_as_adobe_inverts_them() {
    let photo = smooth(48, 40);
    let inks: Vec<u8> = photo
        .pixels
        .as_chunks()
        .0
        .iter()
        .flat_map(|&[r, g, b]| [255 - r, 255 - g, 255 - b, 64])
        .collect();
    let seen = photo.pixels.iter().map(|&value| ((u32::from(value) * 191 + 127) / 255) as u8);
    let expected = Photo { pixels: seen.collect(), ..photo };
    for kind in [ColorType::Cmyk, ColorType::CmykAsYcck] {
        let found = Photo::decode(&encoded(&inks, 48, 40, kind, false)).unwrap();
        assert_near(&found, &expected, 8);
    }
}

#[test]
fn png_files_are_read_whatever_they_are_called() {
    let photo = smooth(9, 7);
    let values: Vec<[u8; 3]> = photo.pixels.as_chunks().0.to_vec();
    let with_alpha: Vec<u8> = values.iter().flat_map(|&[r, g, b]| [r, g, b, 128]).collect();
    for (values, kind) in
        [(&photo.pixels, png::ColorType::Rgb), (&with_alpha, png::ColorType::Rgba)]
    {
        assert_eq!(Photo::decode(&png(values, 9, 7, kind)).unwrap(), photo);
    }
    let grey: Vec<u8> = (0..63).collect();
    let found = Photo::decode(&png(&grey, 9, 7, png::ColorType::Grayscale)).unwrap();
    assert_eq!(found.pixels, repeated(&grey));
    let two: Vec<u8> = grey.iter().flat_map(|&grey| [grey, 3]).collect();
    assert_eq!(Photo::decode(&png(&two, 9, 7, png::ColorType::GrayscaleAlpha)).unwrap(), found);
    let palette = Photo::decode(&png(&grey, 9, 7, png::ColorType::Indexed)).unwrap();
    assert_eq!(palette.pixels[3..6], [1, 254, 7]);
}

/// Decoders fill what is missing with grey; a photograph of which the half is missing is broken.
#[test]
fn every_truncation_is_an_error() {
    let photo = smooth(40, 33);
    for whole in
        [jpeg(&photo, false), jpeg(&photo, true), png(&photo.pixels, 40, 33, png::ColorType::Rgb)]
    {
        // The last twelve bytes of a PNG file are of a segment that says nothing.
        let ends = if whole.starts_with(&PNG) { whole.len() - 12 } else { whole.len() };
        for length in 0..ends {
            assert!(Photo::decode(&whole[..length]).is_err(), "{length} of {} bytes", whole.len());
        }
    }
    let cut = jpeg(&photo, false);
    assert_eq!(
        error(&cut[..cut.len() / 2]),
        "it is truncated: no end of the image follows its beginning"
    );
    assert_eq!(error(&[]), "the file is empty");
}

/// As a camera writes them: the thumbnail is a whole JPEG file in front of the image's own pixels.
#[test]
fn the_end_of_a_thumbnail_is_not_that_of_the_image() {
    let photo = smooth(40, 33);
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, 95);
    encoder.add_exif_metadata(&jpeg(&smooth(8, 8), false)).unwrap();
    encoder.encode(&photo.pixels, 40, 33, ColorType::Rgb).unwrap();
    assert_near(&Photo::decode(&bytes).unwrap(), &photo, 8);
    assert!(error(&bytes[..bytes.len() - 20]).contains("truncated"));
}

#[test]
fn stray_bytes_that_other_programs_skip_are_skipped() {
    let photo = smooth(24, 16);
    let whole = jpeg(&photo, false);
    let expected = Photo::decode(&whole).unwrap();
    // Behind the first segment, and behind the end.
    let first = 4 + usize::from(u16::from_be_bytes([whole[4], whole[5]])) - 2 + 2;
    let strays = [&whole[..first], &[0; 9], &whole[first..], b"more"].concat();
    assert_near(&Photo::decode(&strays).unwrap(), &expected, 2);
}

#[test]
fn what_is_no_photograph_is_an_error() {
    assert_eq!(error(b"GIF89a"), "it is neither JPEG nor PNG: it begins with [47, 49, 46, 38]");
    // A frame of 65,535 by 65,535 pixels in a few bytes.
    let mut huge = jpeg(&smooth(8, 8), false);
    let frame = huge.windows(2).position(|two| two == [0xff, 0xc0]).unwrap();
    huge[frame + 5..frame + 9].fill(0xff);
    assert!(
        error(&huge).contains("65535 x 65535 pixels are more than the 134217728"),
        "{}",
        error(&huge)
    );
    let damaged = [&JPEG[..], &[0xe0, 0, 2], &[0xff, 0xda, 0, 2], &END_OF_IMAGE].concat();
    assert!(error(&damaged).starts_with("as JPEG: "), "{}", error(&damaged));
    let nowhere = Photo::read(Path::new("absent.jpg")).unwrap_err();
    assert!(format!("{nowhere:#}").starts_with("absent.jpg cannot be read: "));
}

#[test]
fn a_mask_has_one_value_per_pixel() {
    let classes: Vec<u8> = (0..12).collect();
    for kind in [png::ColorType::Grayscale, png::ColorType::Indexed] {
        let mask = Mask::decode(&png(&classes, 4, 3, kind)).unwrap();
        assert_eq!(mask, Mask { width: 4, height: 3, classes: classes.clone() });
    }
    let colour = Mask::decode(&png(&[7; 36], 4, 3, png::ColorType::Rgb)).unwrap_err();
    assert_eq!(
        format!("{colour:#}"),
        "its pixels are Rgb of Eight bits, and one value of 8 bits is expected of each"
    );
}

#[test]
fn resampling_is_a_triangle_as_wide_as_the_coarser_pixels() {
    let row = |values: &[u8]| Photo { width: values.len(), height: 1, pixels: repeated(values) };
    let reds = |photo: Photo| photo.pixels.iter().step_by(3).copied().collect::<Vec<u8>>();
    let resized = |from: &Photo, width| reds(from.resized(from.whole(), width, 1));
    // Twice as many: a quarter and three quarters of the neighbours; edges repeat.
    assert_eq!(resized(&row(&[0, 100]), 4), [0, 25, 75, 100]);
    // Half as many: weights 1, 3, 3 and 1 of eight, cut at the edges and made to sum to one.
    assert_eq!(resized(&row(&[0, 0, 80, 160, 80, 0]), 3), [11, 100, 57]);
    // Nothing beyond the piece is seen.
    let piece = Piece { left: 1, top: 0, width: 2, height: 1 };
    assert_eq!(reds(row(&[250, 0, 100, 250]).resized(piece, 4, 1)), [0, 25, 75, 100]);
    assert_eq!(reds(row(&[7, 8, 9, 6]).resized(piece, 2, 1)), [8, 9]);
}

#[test]
fn the_middle_is_that_of_the_whole() {
    let photo = smooth(53, 38);
    for all in [[44, 32], [45, 31], [106, 77]] {
        let whole = photo.resized(photo.whole(), all[0], all[1]);
        let (left, top) = ((all[0] - 30) as f64 / 2.0, (all[1] - 30) as f64 / 2.0);
        let [left, top] = [left, top].map(|first| first.round_ties_even() as usize);
        let piece = whole.resized(Piece { left, top, width: 30, height: 30 }, 30, 30);
        assert_near(&photo.middle_of_resized(all, 30, 30), &piece, 1);
    }
}

#[test]
fn a_mirrored_image_is_mirrored_back() {
    let photo = smooth(5, 3);
    let mut mirrored = photo.clone();
    mirrored.mirror();
    assert_eq!(mirrored.pixels[..3], photo.pixels[12..15]);
    mirrored.mirror();
    assert_eq!(mirrored, photo);
}
