//! The IDX format of MNIST: a big-endian header, then bytes.

use anyhow::{Context, Result, bail, ensure};

/// Images as they lie in an IDX file.
#[derive(Debug, PartialEq, Eq)]
pub struct Images<'a> {
    /// How many.
    pub count: usize,
    /// Rows of each.
    pub rows: usize,
    /// Columns of each.
    pub columns: usize,
    /// `count * rows * columns` pixels, row-major.
    pub pixels: &'a [u8],
}

/// Reads a file of unsigned bytes with three dimensions.
pub fn images(bytes: &[u8]) -> Result<Images<'_>> {
    let ([count, rows, columns], pixels) = parse(bytes, "images")?;
    Ok(Images { count, rows, columns, pixels })
}

/// Reads a file of unsigned bytes with one dimension.
pub fn labels(bytes: &[u8]) -> Result<&[u8]> {
    let ([_], labels) = parse(bytes, "labels")?;
    Ok(labels)
}

/// Splits a file into its dimensions and its bytes, of which there must be exactly as many as the
/// dimensions say.
fn parse<'a, const RANK: usize>(bytes: &'a [u8], what: &str) -> Result<([usize; RANK], &'a [u8])> {
    let Some((&[zero_a, zero_b, kind, rank], mut rest)) = bytes.split_first_chunk::<4>() else {
        bail!("the file has {} bytes, too few for the magic number of an IDX file", bytes.len());
    };
    ensure!(
        (zero_a, zero_b) == (0, 0),
        "this is no IDX file: it begins with {zero_a:#04x} {zero_b:#04x} instead of two zeros"
    );
    ensure!(
        kind == 8,
        "IDX files of unsigned bytes (type 0x08) can be read, and this one is of type {kind:#04x}"
    );
    ensure!(
        usize::from(rank) == RANK,
        "{what} have {RANK} dimension(s) and this IDX file has {rank}"
    );
    let mut dimensions = [0; RANK];
    for (index, dimension) in dimensions.iter_mut().enumerate() {
        let (word, after) = rest
            .split_first_chunk()
            .with_context(|| format!("the file ends within dimension {index} of its header"))?;
        *dimension = u32::from_be_bytes(*word) as usize;
        rest = after;
    }
    let expected = dimensions
        .iter()
        .try_fold(1_usize, |product, &dimension| product.checked_mul(dimension))
        .with_context(|| format!("the dimensions {dimensions:?} exceed any memory"))?;
    ensure!(
        rest.len() == expected,
        "the dimensions {dimensions:?} ask for {expected} bytes and {} follow the header",
        rest.len()
    );
    Ok((dimensions, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABELS: [u8; 11] = [0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9];

    fn error<T: std::fmt::Debug>(result: Result<T>) -> String {
        format!("{:#}", result.unwrap_err())
    }

    #[test]
    fn a_good_file_is_read() {
        assert_eq!(labels(&LABELS).unwrap(), [7, 8, 9]);
        let mut bytes = vec![0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2];
        bytes.extend([1, 2, 3, 4]);
        let expected = Images { count: 2, rows: 1, columns: 2, pixels: &[1, 2, 3, 4] };
        assert_eq!(images(&bytes).unwrap(), expected);
    }

    #[test]
    fn every_truncation_is_an_error() {
        for length in 0..LABELS.len() {
            assert!(labels(&LABELS[..length]).is_err(), "{length} bytes were taken for a file");
        }
    }

    #[test]
    fn an_oversized_file_is_an_error() {
        let bytes = [&LABELS[..], &[0]].concat();
        assert!(error(labels(&bytes)).contains("ask for 3 bytes and 4 follow"));
    }

    #[test]
    fn a_mislabelled_file_is_an_error() {
        assert!(error(images(&LABELS)).contains("have 3 dimension(s) and this IDX file has 1"));
        let floats = [0, 0, 13, 1, 0, 0, 0, 0];
        assert!(error(labels(&floats)).contains("type 0x0d"));
        assert!(error(labels(b"\x1f\x8b\x08\x00gzip")).contains("no IDX file"));
    }

    #[test]
    fn absurd_dimensions_do_not_overflow() {
        let bytes = [[0, 0, 8, 3], [255; 4], [255; 4], [255; 4]].concat();
        assert!(error(images(&bytes)).contains("exceed any memory"));
    }
}
