//! The bytes of a user's file, compressed by gzip or not.

use std::{fs, io::Read, path::Path};

use anyhow::{Context, Result, ensure};
use flate2::read::MultiGzDecoder;

/// The first bytes of a file that gzip has made.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The most bytes that a compressed file may have when it is unpacked.
const MOST: u64 = 1 << 32;

/// Reads a file, and unpacks it if gzip has packed it, as MNIST's are when they come.
///
/// # Errors
///
/// The file cannot be read, is truncated or damaged where it is compressed, or unpacks into more than 4 GiB.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    let shown = path.display();
    let packed = fs::read(path).with_context(|| format!("{shown} cannot be read"))?;
    if !packed.starts_with(&GZIP) {
        return Ok(packed);
    }
    let mut bytes = Vec::new();
    let mut unpacking = MultiGzDecoder::new(&packed[..]).take(MOST + 1);
    unpacking
        .read_to_end(&mut bytes)
        .with_context(|| format!("{shown} is compressed by gzip, and truncated or damaged"))?;
    ensure!(bytes.len() as u64 <= MOST, "{shown} unpacks into more than {MOST} bytes");
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    #[test]
    fn what_is_packed_is_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bytes");
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&[7; 100_000]).unwrap();
        let packed = encoder.finish().unwrap();
        fs::write(&path, &packed).unwrap();
        assert_eq!(read(&path).unwrap(), [7; 100_000]);
        fs::write(&path, &packed[..packed.len() - 9]).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(
            error.ends_with("bytes is compressed by gzip, and truncated or damaged"),
            "{error}"
        );
        fs::write(&path, [0, 1]).unwrap();
        assert_eq!(read(&path).unwrap(), [0, 1]);
    }
}
