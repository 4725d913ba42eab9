use crate::view::View;

use super::*;

/// A photograph whose pixels say where they are.
fn plotted(width: usize, height: usize) -> Photo {
    let pixels = (0..width * height).flat_map(|i| [(i % width) as u8, (i / width) as u8, 200]);
    Photo { width, height, pixels: pixels.collect() }
}

fn object(bounds: [f32; 4]) -> Object {
    Object { class: 1, bounds, is_difficult: false }
}

fn generators(count: usize) -> impl Iterator<Item = impl Rng> {
    (0..count).map(|sample| View { seed: 7, epoch: 0 }.generator(sample))
}

#[test]
fn every_result_is_an_image_with_objects_in_it() {
    let photo = plotted(120, 80);
    let objects = [
        object([0.02, 0.05, 0.3, 0.4]),
        object([0.4, 0.4, 0.6, 0.6]),
        object([0.7, 0.6, 0.95, 0.9]),
    ];
    let (mut kept, mut all) = ([0; 4], 0);
    for mut generator in generators(500) {
        let (seen, left) = augmented(&photo, &objects, 30, &mut generator);
        assert_eq!((seen.width, seen.height, seen.pixels.len()), (30, 30, 2700));
        assert!(!left.is_empty());
        left.iter().for_each(|object| object.check(2).unwrap());
        kept[left.len()] += 1;
        all += usize::from(left.len() == 3);
    }
    // All of them are left in some, and each number occurs.
    assert!(kept[1..].iter().all(|&count| count > 40) && all > 100, "{kept:?}");
    let (_, nothing) = augmented(&photo, &[], 30, &mut generators(1).next().unwrap());
    assert!(nothing.is_empty());
}

/// Pixels tell their places in the photograph: bounds have to lie where those of the object came to lie.
#[test]
fn objects_move_with_their_pixels() {
    let photo = plotted(200, 160);
    let bounds = [0.25, 0.25, 0.75, 0.75];
    let mut compared = 0;
    for mut generator in generators(300) {
        let (seen, left) =
            placed(&photo, &[object(bounds)], 100, &Colours::default(), &mut generator);
        // Not the filling of the canvas.
        let is_plain = |pixel: &[u8]| pixel[2].abs_diff(200) <= 1;
        let [from_x, from_y, to_x, to_y] = left[0].bounds;
        let at =
            |x: f32, y: f32| ((y * 100.0) as usize).min(99) * 100 + ((x * 100.0) as usize).min(99);
        let pixel = |place: usize| &seen.pixels[3 * place..][..3];
        let middle = pixel(at((from_x + to_x) / 2.0, (from_y + to_y) / 2.0));
        if !is_plain(middle) {
            continue;
        }
        // Columns 50 to 150 and rows 40 to 120 of the photograph, a pixel and a half more or less.
        let step = 1.5 + 3.0 * 200.0 / 100.0;
        for (x, y) in [(from_x, from_y), (to_x, to_y), (from_x, to_y), (to_x, from_y)] {
            let inwards = |side: f32, other: f32| side + (other - side).signum() * 0.02;
            let (x, y) = (inwards(x, from_x + to_x - x), inwards(y, from_y + to_y - y));
            let pixel = pixel(at(x, y));
            if is_plain(pixel) {
                let (column, row) = (f32::from(pixel[0]), f32::from(pixel[1]));
                assert!((50.0 - step..=150.0 + step).contains(&column), "{column}");
                assert!((40.0 - step..=120.0 + step).contains(&row), "{row}");
                compared += 1;
            }
        }
    }
    assert!(compared > 800, "{compared}");
}

#[test]
fn colours_change_as_their_definitions_say() {
    let pixel = [200, 120, 40];
    let plain = Colours::default();
    assert_eq!(plain.of(pixel), pixel);
    assert_eq!(Colours { is_contrast_last: true, ..plain }.of(pixel), pixel);
    assert_eq!(Colours { brightness: Some(30.0), ..plain }.of([240, 10, 0]), [255, 40, 30]);
    assert_eq!(Colours { brightness: Some(-30.0), ..plain }.of([240, 10, 0]), [210, 0, 0]);
    assert_eq!(Colours { contrast: Some(1.5), ..plain }.of(pixel), [255, 180, 60]);
    // Saturation 0.8 becomes 0.4, and 1 where it would be more.
    assert_eq!(Colours { saturation: Some(0.5), ..plain }.of(pixel), [200, 160, 120]);
    assert_eq!(Colours { saturation: Some(1.5), ..plain }.of(pixel), [200, 100, 0]);
    assert_eq!(Colours { saturation: Some(1.5), ..plain }.of([9, 9, 9]), [9, 9, 9]);
    // A third of the circle from red is green; grey has no hue.
    assert_eq!(turned([255.0, 0.0, 0.0], 2.0), [0.0, 255.0, 0.0]);
    assert_eq!(turned([255.0, 0.0, 0.0], -1.0), [255.0, 0.0, 255.0]);
    assert_eq!(turned([7.0; 3], 0.3), [7.0; 3]);
    for hue in [-0.3, 0.1, 0.3] {
        let there = turned(pixel.map(f32::from), hue);
        let back = turned(there, -hue);
        assert!(back.iter().zip(pixel).all(|(a, b)| (a - f32::from(b)).abs() < 1e-3), "{back:?}");
    }
    // What is clipped depends on the order.
    let both = Colours { contrast: Some(1.5), saturation: Some(0.5), ..plain };
    assert_eq!(both.of(pixel), [255, 218, 158]);
    assert_eq!(Colours { is_contrast_last: true, ..both }.of(pixel), [255, 240, 180]);
}

#[test]
fn a_canvas_holds_the_image_and_fills_the_rest() {
    let photo = plotted(20, 10);
    let mut larger = 0;
    for mut generator in generators(200) {
        let canvas = Canvas::draw(&photo, &mut generator);
        assert!((20..=80).contains(&canvas.width) && (10..=40).contains(&canvas.height));
        assert!(canvas.left + 20 <= canvas.width && canvas.top + 10 <= canvas.height);
        larger += usize::from(canvas.width > 20);
        let all = Piece { left: 0, top: 0, width: canvas.width, height: canvas.height };
        let cut = canvas.cut(&photo, all, &Colours::default());
        for (place, pixel) in cut.pixels.as_chunks::<3>().0.iter().enumerate() {
            let (x, y) = (place % canvas.width, place / canvas.width);
            let inside = x
                .checked_sub(canvas.left)
                .filter(|&x| x < 20)
                .zip(y.checked_sub(canvas.top).filter(|&y| y < 10));
            let expected = inside.map_or(MEANS, |(x, y)| [x as u8, y as u8, 200]);
            assert_eq!(*pixel, expected);
        }
        // A piece beside the image has nothing of it.
        for piece in [
            Piece { left: 0, top: 0, width: canvas.left.max(1), height: 1 },
            Piece { left: canvas.width - 1, top: canvas.height - 1, width: 1, height: 1 },
        ] {
            assert_eq!(
                canvas.cut(&photo, piece, &Colours::default()).pixels.len(),
                3 * piece.width
            );
        }
    }
    assert!((80..=115).contains(&larger), "{larger} of 200");
}

#[test]
fn pieces_keep_an_object_and_overlap_as_asked() {
    let boxes = [[30.0, 30.0, 60.0, 60.0]];
    let mut whole = 0;
    let mut best: f32 = 0.0;
    for mut generator in generators(2000) {
        let piece = draw_piece([100, 90], &boxes, &mut generator);
        assert!(piece.left + piece.width <= 100 && piece.top + piece.height <= 90);
        assert!(within(boxes[0], piece).is_some());
        let shape = piece.width as f64 / 100.0 / (piece.height as f64 / 90.0);
        assert!((0.47..2.1).contains(&shape), "{shape}");
        let is_whole = piece == Piece { left: 0, top: 0, width: 100, height: 90 };
        whole += usize::from(is_whole);
        assert!(
            is_whole
                || (27..=100)
                    .contains(&((piece.width as f64 * piece.height as f64 / 0.9).sqrt() as usize))
        );
        best = best.max(overlap_of(boxes[0], piece));
    }
    // One of up to seven candidates.
    assert!((280..560).contains(&whole), "{whole} of 2000");
    assert!(best > 0.85, "{best}");
    assert_eq!(
        draw_piece([9, 8], &[], &mut generators(1).next().unwrap()),
        Piece { left: 0, top: 0, width: 9, height: 8 }
    );
}

#[test]
fn overlaps_and_cuts_are_those_computed_by_hand() {
    let piece = Piece { left: 10, top: 20, width: 40, height: 20 };
    // A quarter of the piece, and as much outside.
    assert_eq!(overlap_of([40.0, 20.0, 60.0, 40.0], piece), 200.0 / (400.0 + 800.0 - 200.0));
    assert_eq!(overlap_of([60.0, 20.0, 70.0, 40.0], piece), 0.0);
    assert_eq!(within([0.0, 25.0, 30.0, 35.0], piece), Some([0.0, 0.25, 0.5, 0.75]));
    assert_eq!(within([10.0, 20.0, 50.0, 40.0], piece), Some([0.0, 0.0, 1.0, 1.0]));
    // The centre is outside, or on the far edge.
    assert_eq!(within([0.0, 25.0, 19.0, 35.0], piece), None);
    assert_eq!(within([40.0, 25.0, 60.0, 35.0], piece), None);
}
