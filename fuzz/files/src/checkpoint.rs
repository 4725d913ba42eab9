//! Checkpoints of training runs.

use adaloss_fuzz::damage::damage;
use adaloss_train::{checkpoint::Checkpoint, network::Saved};
use arbitrary::{Result, Unstructured};

use crate::Folder;

/// The run that is asked for.
const RUN: &str = "digits-mlp";

/// Checks foreign bytes, damaged checkpoints, and forged ones whose checksum is right.
pub fn checkpoint(bytes: &[u8]) {
    let folder = Folder::new();
    check(&folder, bytes);
    check(&folder, &forge(bytes.to_vec()));
    // Bytes that are too few are no finding.
    let _ = written(&folder, &mut Unstructured::new(bytes));
}

/// What is read can be written and read again.
fn check(folder: &Folder, bytes: &[u8]) {
    let path = folder.write("checkpoint", bytes);
    match Checkpoint::read(&path, RUN) {
        Ok(checkpoint) => {
            checkpoint.write(&path).expect("room for a file");
            let again = Checkpoint::read(&path, RUN).expect("it was just written");
            // Compared as text: NaN is a value like any other in a checkpoint.
            assert_eq!(format!("{again:?}"), format!("{checkpoint:?}"));
        }
        Err(error) => {
            let text = format!("{error:#}");
            assert!(text.contains(&*path.to_string_lossy()), "which file? {text}");
        }
    }
}

/// A checkpoint goes through a file as it is, and no damage goes unnoticed.
fn written(folder: &Folder, u: &mut Unstructured<'_>) -> Result<()> {
    let saved = Checkpoint {
        run: if u.ratio(7, 8)? { RUN.into() } else { u.arbitrary()? },
        step: u.arbitrary()?,
        updates: u.arbitrary()?,
        pieces: vec![Saved { name: u.arbitrary()?, values: u.arbitrary()?, state: u.arbitrary()? }],
        scaler: u.arbitrary()?,
        sums: u.arbitrary()?,
    };
    let path = folder.write("written", b"an older checkpoint");
    saved.write(&path).expect("room for a file");
    let read = Checkpoint::read(&path, RUN);
    assert_eq!(read.is_ok(), saved.run == RUN);
    if let Ok(read) = read {
        assert_eq!(format!("{read:?}"), format!("{saved:?}"));
    }
    let good = std::fs::read(&path).expect("it was just written");
    let damaged = damage(u, &good)?;
    check(folder, &forge(damaged.clone()));
    let path = folder.write("damaged", &damaged);
    assert!(damaged == good || Checkpoint::read(&path, RUN).is_err(), "damage was not noticed");
    Ok(())
}

/// Gives bytes the checksum that they ought to have.
fn forge(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some((body, checksum)) = bytes.split_last_chunk_mut::<4>() {
        *checksum = crc32fast::hash(body).to_le_bytes();
    }
    bytes
}
