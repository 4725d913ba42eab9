//! Corpora: the inputs of one target in one tar file, which every tool can list and unpack.
//!
//! The same inputs always make the same file: they are sorted by name, a name is the SHA-1 of an
//! input's bytes, as libFuzzer names what it finds, and owner and time are zero.  `fuzz/corpus.sh`
//! makes such files; what differs from that is refused, so that a damaged file is never taken for a
//! smaller corpus.

use std::{fs, io::Read, path::Path};

use anyhow::{Context, Result, ensure};
use sha1::{Digest, Sha1};
use tar::{Archive, EntryType};

/// Bytes of which a tar file is made: each input has one in front and fills up its last.
const BLOCK: u64 = 512;

/// One input of a target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Input {
    /// The SHA-1 of the bytes, in lower case.
    pub name: String,
    pub bytes: Vec<u8>,
}

/// Reads the inputs of a pack, in the order of their names.
///
/// # Errors
///
/// The file is missing, damaged or cut short, has no input, or is not what `fuzz/corpus.sh` makes.
pub(crate) fn read(pack: &Path) -> Result<Vec<Input>> {
    fs::read(pack).map_err(Into::into).and_then(|bytes| unpacked(&bytes)).with_context(|| {
        let target = pack.file_stem().unwrap_or_default().display();
        format!(
            "{} is no corpus: restore it with git, or make it anew with `fuzz/corpus.sh pack {target}`",
            pack.display()
        )
    })
}

/// Returns the inputs in the bytes of a pack.
fn unpacked(bytes: &[u8]) -> Result<Vec<Input>> {
    let mut inputs: Vec<Input> = Vec::new();
    let mut end = 0;
    for entry in Archive::new(bytes).entries()? {
        let mut entry = entry.context("after the last readable input")?;
        let name = entry.path()?.display().to_string();
        end = entry.raw_file_position() + entry.size().next_multiple_of(BLOCK);
        let input = input(&mut entry, name.clone()).with_context(|| format!("input {name}"))?;
        if let Some(before) = inputs.last() {
            ensure!(before.name < name, "input {name} stands behind {}: not sorted", before.name);
        }
        inputs.push(input);
    }
    let rest = bytes.get(end as usize..).context("it ends within an input")?;
    ensure!(rest.len() as u64 == 2 * BLOCK, "{} bytes stand behind the last input", rest.len());
    ensure!(rest.iter().all(|&byte| byte == 0), "something stands behind the last input");
    ensure!(!inputs.is_empty(), "it has no input");
    Ok(inputs)
}

/// Reads one input, whose name has to be that of its bytes.
fn input(entry: &mut tar::Entry<'_, &[u8]>, name: String) -> Result<Input> {
    let header = entry.header();
    ensure!(header.entry_type() == EntryType::Regular, "it is no file");
    let written = (header.mode()?, header.uid()?, header.gid()?, header.mtime()?);
    ensure!(written == (0o644, 0, 0, 0), "mode, owner, group and time are {written:?}");
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes)?;
    ensure!(named(&bytes) == name, "its bytes have another SHA-1: {}", named(&bytes));
    Ok(Input { name, bytes })
}

/// Returns the name of an input.
fn named(bytes: &[u8]) -> String {
    Sha1::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packs inputs as `fuzz/corpus.sh` does, in the order and under the names given.
    fn packed(inputs: &[(&str, &[u8])], mode: u32, mtime: u64) -> Vec<u8> {
        let mut pack = tar::Builder::new(Vec::new());
        for (name, bytes) in inputs {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(mode);
            header.set_mtime(mtime);
            header.set_uid(0);
            header.set_gid(0);
            pack.append_data(&mut header, name, *bytes).expect("a short name");
        }
        pack.into_inner().expect("a vector grows")
    }

    /// The SHA-1 of 600 zeros, of "a" and of nothing, sorted.
    const ZEROS: &str = "720000ea5ddbfc70968bf120481ee163dce6067c";
    const A: &str = "86f7e437faa5a7fce15d1ddcb9eaeaea377667b8";
    const NOTHING: &str = "da39a3ee5e6b4b0d3255bfef95601890afd80709";

    fn three() -> Vec<u8> {
        packed(&[(ZEROS, &[0; 600]), (A, b"a"), (NOTHING, b"")], 0o644, 0)
    }

    fn refused(pack: &[u8]) -> String {
        format!("{:#}", unpacked(pack).expect_err("no pack"))
    }

    #[test]
    fn inputs_come_back() {
        let inputs = unpacked(&three()).expect("a pack");
        let found: Vec<_> = inputs.iter().map(|input| (&*input.name, &*input.bytes)).collect();
        assert_eq!(found, [(ZEROS, &[0; 600][..]), (A, b"a"), (NOTHING, b"")]);
    }

    #[test]
    fn a_pack_that_is_cut_short_anywhere_is_refused() {
        let pack = three();
        for length in 0..pack.len() {
            assert!(unpacked(&pack[..length]).is_err(), "{length} of {} bytes", pack.len());
        }
    }

    /// Some bits say nothing, such as those that fill up a block: then the inputs are the same.
    #[test]
    fn a_bit_that_is_wrong_changes_no_input_unnoticed() {
        let (pack, inputs) = (three(), unpacked(&three()).expect("a pack"));
        let mut noticed = 0;
        for bit in 0..pack.len() * 8 {
            let mut damaged = pack.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            match unpacked(&damaged) {
                Ok(found) => assert_eq!(found, inputs, "bit {bit}"),
                Err(_) => noticed += 1,
            }
        }
        assert!(noticed > 3 * 8 * 500, "headers have a sum: {noticed} bits were noticed");
    }

    #[test]
    fn what_the_script_does_not_make_is_refused() {
        let no_input = packed(&[], 0o644, 0);
        assert!(refused(&no_input).contains("no input"));
        let unsorted = packed(&[(NOTHING, b""), (A, b"a")], 0o644, 0);
        assert!(refused(&unsorted).contains("not sorted"));
        let twice = packed(&[(A, b"a"), (A, b"a")], 0o644, 0);
        assert!(refused(&twice).contains("not sorted"));
        let misnamed = packed(&[(A, b"b")], 0o644, 0);
        assert!(refused(&misnamed).contains("another SHA-1"));
        assert!(refused(&packed(&[(A, b"a")], 0o600, 0)).contains("mode"));
        assert!(refused(&packed(&[(A, b"a")], 0o644, 1)).contains("time"));
        let two_packs = [three(), three()].concat();
        assert!(refused(&two_packs).contains("behind the last input"));
    }

    #[test]
    fn an_error_names_the_file_and_what_to_do() {
        let folder = std::env::temp_dir().join("adaloss-no-such-folder");
        let error = format!("{:#}", read(&folder.join("apply.tar")).expect_err("no file"));
        assert!(error.contains("apply.tar") && error.contains("corpus.sh pack apply"), "{error}");
    }
}
