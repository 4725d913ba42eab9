//! Characters of a text, each to be predicted from those before it.

use std::{ops::Range, path::Path};

use anyhow::{Context, Result, bail, ensure};
use rand::RngExt;

use crate::{Batch, Dataset, Input, Inputs, Judged, View, bytes, sums};

/// Essays; sums follow each of their paragraphs.
const ESSAYS: &str = include_str!("../data/text.txt");

/// A text, of which the first nine tenths train and the rest tests.
#[derive(Clone, Debug)]
pub struct Text {
    /// Places in the vocabulary.
    tokens: Vec<u32>,
    /// Sorted, without repetition.
    vocabulary: Vec<char>,
    /// Tokens from the front that train.
    train: usize,
    /// Tokens of a sample.
    length: usize,
    source: String,
}

impl Text {
    /// The usual number of characters of a sample.
    pub const LENGTH: usize = 64;

    /// Returns the text that ships with this program, in samples of `length` characters.
    ///
    /// # Errors
    ///
    /// The length is 0 or too long for the text.
    pub fn shipped(length: usize) -> Result<Self> {
        let paragraphs = ESSAYS.split_terminator("\n\n").zip(0..);
        let text: String = paragraphs
            .map(|(prose, i)| format!("{}\n\n{}\n\n", prose.trim(), sums::paragraph(i)))
            .collect();
        Self::of(&text, length, "shipped".to_owned()).context("the text that ships")
    }

    /// Reads a text in UTF-8.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is not UTF-8, has only one kind of character, or is too short for
    /// samples of this length.
    pub fn open(path: &Path, length: usize) -> Result<Self> {
        let shown = path.display();
        let bytes = bytes::read(path)?;
        let text = match str::from_utf8(&bytes) {
            Ok(text) => text,
            Err(error) => {
                let at = error.valid_up_to();
                let line = 1 + bytes[..at].iter().filter(|&&byte| byte == b'\n').count();
                bail!(
                    "{shown} is no text in UTF-8: byte {at}, in line {line}, begins no character"
                );
            }
        };
        Self::of(text, length, format!("from {shown}"))
            .with_context(|| format!("{shown} is no text to learn from"))
    }

    fn of(text: &str, length: usize, source: String) -> Result<Self> {
        ensure!(length > 0, "samples need at least one character");
        let characters = text.chars().count();
        let train = characters / 10 * 9 + characters % 10;
        ensure!(
            characters - train > length,
            "{characters} characters are too few: the last tenth has {}, and one sample and the \
             character after it are {}",
            characters - train,
            length.saturating_add(1)
        );
        let mut vocabulary: Vec<char> = text.chars().collect();
        vocabulary.sort_unstable();
        vocabulary.dedup();
        ensure!(vocabulary.len() >= 2, "every character is {:?}", vocabulary[0]);
        let place = |c| vocabulary.binary_search(&c).map(|place| place as u32);
        let tokens = text.chars().flat_map(place).collect();
        Ok(Self { tokens, vocabulary, train, length, source })
    }

    /// Returns the characters that the tokens stand for.
    pub fn vocabulary(&self) -> &[char] {
        &self.vocabulary
    }

    /// Returns windows that begin at these tokens, with what follows each of their tokens.
    fn windows(&self, starts: impl IntoIterator<Item = usize>) -> Batch {
        let (mut tokens, mut labels, mut samples) = (Vec::new(), Vec::new(), 0);
        for start in starts {
            tokens.extend_from_slice(&self.tokens[start..][..self.length]);
            labels.extend_from_slice(&self.tokens[start + 1..][..self.length]);
            samples += 1;
        }
        Batch { labels, ..Batch::of(Inputs::Tokens(tokens), samples) }
    }
}

impl Dataset for Text {
    fn describe(&self) -> String {
        format!(
            "text: {} training and {} test characters of {} kinds, in samples of {}, {}",
            self.train,
            self.tokens.len() - self.train,
            self.vocabulary.len(),
            self.length,
            self.source
        )
    }

    fn input(&self) -> Input {
        Input::Tokens { length: self.length, vocabulary: self.vocabulary.len() }
    }

    fn classes(&self) -> usize {
        self.vocabulary.len()
    }

    fn judged(&self) -> Judged {
        Judged::PerToken
    }

    /// As many as lie side by side in the text.
    fn train_samples(&self) -> usize {
        (self.train - 1) / self.length
    }

    fn test_samples(&self) -> usize {
        (self.tokens.len() - self.train - 1) / self.length
    }

    /// Each sample begins anywhere, in every epoch elsewhere.
    fn train(&self, chosen: &[usize], view: View) -> Result<Batch> {
        let samples = self.train_samples();
        Ok(self.windows(chosen.iter().map(|&index| {
            assert!(index < samples, "{index} of {samples} training samples");
            view.generator(index).random_range(0..self.train - self.length)
        })))
    }

    /// Samples lie side by side; a rest that is shorter is left out.
    fn test(&self, range: Range<usize>) -> Result<Batch> {
        Ok(self.windows(range.map(|index| self.train + index * self.length)))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const VIEW: View = View { seed: 0, epoch: 0 };

    fn spelt(text: &Text, tokens: &[u32]) -> String {
        tokens.iter().map(|&token| text.vocabulary()[token as usize]).collect()
    }

    fn tokens(batch: &Batch) -> &[u32] {
        let Inputs::Tokens(tokens) = &batch.inputs else { panic!("text is tokens") };
        tokens
    }

    fn error(text: &str, length: usize) -> String {
        Text::of(text, length, String::new()).unwrap_err().to_string()
    }

    #[test]
    fn the_shipped_text_is_what_its_notice_says() {
        let text = Text::shipped(Text::LENGTH).unwrap();
        let kilobytes = text.tokens.len() / 1000;
        assert!((40..60).contains(&kilobytes), "{kilobytes} kB");
        assert!(text.vocabulary().iter().all(char::is_ascii), "{:?}", text.vocabulary());
        assert!(ESSAYS.is_ascii() && ESSAYS.len() > 15_000);
        let test = text.test(0..text.test_samples()).unwrap();
        test.check(&text).unwrap();
        assert!(spelt(&text, &text.tokens).starts_with("A computer that trains a network"));
    }

    #[test]
    fn labels_are_the_characters_that_follow() {
        let text = Text::of(&"hello, world! ".repeat(20), 5, String::new()).unwrap();
        for batch in
            [text.train(&[0, 1, 2], VIEW).unwrap(), text.test(0..text.test_samples()).unwrap()]
        {
            batch.check(&text).unwrap();
            let samples = tokens(&batch).chunks_exact(5).zip(batch.labels.chunks_exact(5));
            for (sample, labels) in samples {
                assert_eq!(sample[1..], labels[..4]);
                assert!("hello, world! hello, world!".contains(&spelt(&text, sample)));
            }
        }
    }

    #[test]
    fn training_and_test_text_do_not_touch() {
        // 90 characters train, and none of them occurs in the last 10.
        let text = Text::of(&("ab".repeat(45) + "xyxyxyxyxy"), 3, String::new()).unwrap();
        let all: Vec<_> = (0..text.train_samples()).collect();
        for epoch in 0..50 {
            let batch = text.train(&all, View { seed: 0, epoch }).unwrap();
            assert!(batch.labels.iter().chain(tokens(&batch)).all(|&token| token < 2));
        }
        let test = text.test(0..3).unwrap();
        assert_eq!(text.test_samples(), 3);
        assert!(test.labels.iter().chain(tokens(&test)).all(|&token| token >= 2));
    }

    #[test]
    fn training_windows_reach_both_ends() {
        let letters: String = (0..40).map(|i| char::from(b'0' + i)).collect();
        let text = Text::of(&letters, 2, String::new()).unwrap();
        let starts: std::collections::BTreeSet<_> = (0..2000)
            .map(|epoch| tokens(&text.train(&[0], View { seed: 5, epoch }).unwrap())[0])
            .collect();
        // The last label is token 35, the last of 36 that train.
        assert_eq!(starts, (0..34).collect());
    }

    #[test]
    fn a_window_is_a_function_of_seed_epoch_and_sample() {
        let text = Text::shipped(16).unwrap();
        let window = |seed, epoch, sample| text.train(&[sample], View { seed, epoch }).unwrap();
        assert_eq!(window(1, 2, 3), window(1, 2, 3));
        assert_ne!(window(1, 2, 3), window(2, 2, 3));
        assert_ne!(window(1, 2, 3), window(1, 3, 3));
        assert_ne!(window(1, 2, 3), window(1, 2, 4));
    }

    #[test]
    fn the_shortest_text_has_one_test_sample() {
        assert!(error("abcdefghijabcdefghi", 1).contains("the last tenth has 1"));
        let text = Text::of("abcdefghijabcdefghij", 1, String::new()).unwrap();
        assert_eq!((text.train_samples(), text.test_samples()), (17, 1));
    }

    #[test]
    fn what_cannot_be_learnt_from_is_an_error() {
        assert!(error("", 1).contains("0 characters are too few"));
        assert!(error("ab", usize::MAX).contains("too few"));
        assert!(error(&"ab".repeat(50), 0).contains("at least one character"));
        assert!(error(&"a".repeat(50), 2).contains("every character is 'a'"));
    }

    #[test]
    fn files_are_read_and_broken_ones_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.txt");
        let open = || Text::open(&path, 4).map_err(|error| format!("{error:#}"));
        assert!(open().unwrap_err().contains("t.txt cannot be read"));
        fs::write(&path, "Größe ist nicht alles. ".repeat(10)).unwrap();
        let text = open().unwrap();
        assert!(text.vocabulary().contains(&'ö'));
        assert!(text.describe().starts_with("text: 207 training and 23 test characters"));
        fs::write(&path, b"fine\nnot \xff fine").unwrap();
        assert!(open().unwrap_err().contains("byte 9, in line 2, begins no character"));
        fs::write(&path, "short").unwrap();
        assert!(open().unwrap_err().contains("t.txt is no text to learn from: 5 characters"));
    }
}
