use super::*;

/// Two classes, two pixels, one sample.
struct Tiny {
    input: Input,
    judged: Judged,
}

impl Dataset for Tiny {
    fn describe(&self) -> String {
        "tiny".to_owned()
    }

    fn input(&self) -> Input {
        self.input
    }

    fn classes(&self) -> usize {
        2
    }

    fn judged(&self) -> Judged {
        self.judged
    }

    fn train_samples(&self) -> usize {
        1
    }

    fn test_samples(&self) -> usize {
        1
    }

    fn train(&self, _: &[usize], _: View) -> Result<Batch> {
        unreachable!("batches are made by hand")
    }

    fn test(&self, _: Range<usize>) -> Result<Batch> {
        unreachable!("batches are made by hand")
    }
}

const IMAGE: Input = Input::Image { height: 1, width: 2, channels: 1 };
const TOKENS: Input = Input::Tokens { length: 2, vocabulary: 3 };

fn images(values: &[f32], labels: &[u32], samples: usize) -> Batch {
    Batch { labels: labels.to_vec(), ..Batch::of(Inputs::Images(values.to_vec()), samples) }
}

fn tokens(tokens: &[u32], labels: &[u32]) -> Batch {
    Batch { labels: labels.to_vec(), ..Batch::of(Inputs::Tokens(tokens.to_vec()), 1) }
}

fn error(batch: &Batch, input: Input, judged: Judged) -> String {
    batch.check(&Tiny { input, judged }).unwrap_err().to_string()
}

#[test]
fn whole_batches_pass() {
    let per_image = Tiny { input: IMAGE, judged: Judged::PerSample };
    images(&[0.5; 4], &[0, 1], 2).check(&per_image).unwrap();
    images(&[], &[], 0).check(&per_image).unwrap();
    let per_pixel = Tiny { input: IMAGE, judged: Judged::PerPixel };
    images(&[0.5; 4], &[0, 1, IGNORED, 0], 2).check(&per_pixel).unwrap();
    let per_token = Tiny { input: TOKENS, judged: Judged::PerToken };
    tokens(&[0, 2], &[1, 0]).check(&per_token).unwrap();
    assert!(per_token.class_weights().is_empty());
}

#[test]
fn a_value_that_is_no_number_is_found() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let batch = images(&[0.0, 1.0, 2.0, value], &[0, 1], 2);
        assert_eq!(
            error(&batch, IMAGE, Judged::PerSample),
            format!("sample 1 contains {value}, which is no finite number")
        );
    }
}

#[test]
fn what_does_not_fit_is_found() {
    let short = images(&[0.0; 3], &[0, 1], 2);
    assert!(error(&short, IMAGE, Judged::PerSample).contains("3 input values are no 2 samples"));
    let unlabelled = images(&[0.0; 4], &[0, 1], 2);
    assert!(error(&unlabelled, IMAGE, Judged::PerPixel).contains("2 labels are not 2 for each"));
    let foreign = images(&[0.0; 4], &[0, 2], 2);
    assert_eq!(error(&foreign, IMAGE, Judged::PerSample), "sample 1 has label 2 of 2 classes");
    let unknown = tokens(&[1, 3], &[0, 0]);
    assert_eq!(error(&unknown, TOKENS, Judged::PerToken), "sample 0 contains token 3 of 3");
    let other = tokens(&[1, 1], &[0]);
    assert!(error(&other, IMAGE, Judged::PerSample).contains("of another kind"));
}

#[test]
fn every_sample_has_its_quantity_or_none_has() {
    let whole = |quantities: &[f32]| Batch {
        quantities: quantities.to_vec(),
        ..Batch::of(Inputs::Images(vec![0.5; 4]), 2)
    };
    let quantity = Tiny { input: IMAGE, judged: Judged::Quantity };
    whole(&[1.0, -2.0]).check(&quantity).unwrap();
    let missing = error(&whole(&[1.0]), IMAGE, Judged::Quantity);
    assert_eq!(missing, "1 quantities are not the 2 of 2 samples");
    let infinite = error(&whole(&[1.0, f32::INFINITY]), IMAGE, Judged::Quantity);
    assert_eq!(infinite, "sample 1 has the quantity inf, which is no finite number");
    let foreign = Batch { labels: vec![0, 1], ..whole(&[1.0, 2.0]) };
    assert!(error(&foreign, IMAGE, Judged::PerSample).contains("2 quantities are not the 0"));
}

#[test]
fn every_sample_has_its_list_of_objects_or_none_has() {
    let object =
        |class, right| Object { class, bounds: [0.0, 0.0, right, 1.0], is_difficult: false };
    let whole = |objects: &[Vec<Object>]| Batch {
        objects: objects.to_vec(),
        ..Batch::of(Inputs::Images(vec![0.5; 4]), 2)
    };
    let objects = Tiny { input: IMAGE, judged: Judged::Objects };
    whole(&[vec![], vec![object(1, 1.0), object(0, 0.5)]]).check(&objects).unwrap();
    let missing = error(&whole(&[vec![]]), IMAGE, Judged::Objects);
    assert_eq!(missing, "1 lists of objects are not the 2 of 2 samples");
    let unknown = whole(&[vec![object(0, 1.0)], vec![object(0, 1.0), object(2, 1.0)]]);
    let unknown = error(&unknown, IMAGE, Judged::Objects);
    assert_eq!(unknown, "object 1 of sample 1 has class 2 of 2 classes");
    let outside = error(&whole(&[vec![object(0, 1.5)], vec![]]), IMAGE, Judged::Objects);
    assert!(
        outside.starts_with("object 0 of sample 0 has the bounds [0.0, 0.0, 1.5, 1.0]"),
        "{outside}"
    );
    let foreign = Batch { labels: vec![0, 1], ..whole(&[vec![], vec![]]) };
    assert!(error(&foreign, IMAGE, Judged::PerSample).contains("2 lists of objects are not the 0"));
}
