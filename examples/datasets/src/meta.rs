//! The numbers of classes in ImageNet's development kit: `meta.mat`, a file of MATLAB's.
//!
//! Of the format (MathWorks, "MAT-File Format", level 5) what this file needs is read: one array of structures called `synsets`, compressed or
//! not, with the fields `ILSVRC2012_ID`, a number, and `WNID`, a text.

use std::io::Read;

use anyhow::{Context, Result, bail, ensure};
use flate2::read::ZlibDecoder;

/// Bytes in front of the first element.
const HEADER: usize = 128;
/// The most bytes that a compressed element may have when it is unpacked; the published one has less than one million.
const MOST: u64 = 1 << 26;

/// Kinds of elements.
const INT8: u32 = 1;
const UINT8: u32 = 2;
const INT16: u32 = 3;
const UINT16: u32 = 4;
const INT32: u32 = 5;
const UINT32: u32 = 6;
const SINGLE: u32 = 7;
const DOUBLE: u32 = 9;
const MATRIX: u32 = 14;
const COMPRESSED: u32 = 15;
const UTF8: u32 = 16;

/// The class of arrays of structures, among those of arrays.
const STRUCTURES: u32 = 2;

/// Returns the WNIDs of all numbers, from 1, in their order.
///
/// # Errors
///
/// The bytes are no such file, are cut short, or number the same class twice or leave one out.
pub(crate) fn wnids(bytes: &[u8]) -> Result<Vec<String>> {
    let version = bytes.get(124..HEADER).context("it is shorter than the header of a MAT-file")?;
    ensure!(
        version[2..] == *b"IM",
        "it is no MAT-file of level 5, written by a little-endian machine"
    );
    let mut rest = &bytes[HEADER..];
    while !rest.is_empty() {
        let (kind, body) = element(&mut rest)?;
        let unpacked;
        let (kind, body) = match kind {
            COMPRESSED => {
                unpacked = unpack(body)?;
                element(&mut &unpacked[..]).map(|(kind, body)| (kind, body.to_vec()))?
            }
            _ => (kind, body.to_vec()),
        };
        if kind == MATRIX
            && let Some(wnids) = synsets(&body)?
        {
            return Ok(wnids);
        }
    }
    bail!("it has no array called synsets")
}

fn unpack(packed: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    ZlibDecoder::new(packed)
        .take(MOST + 1)
        .read_to_end(&mut bytes)
        .context("a part cannot be unpacked")?;
    ensure!(bytes.len() as u64 <= MOST, "a part unpacks into more than {MOST} bytes");
    Ok(bytes)
}

/// Takes an element off the front: its kind, and its bytes.
fn element<'a>(from: &mut &'a [u8]) -> Result<(u32, &'a [u8])> {
    let [first, second] = [word(from)?, word(from.get(4..).context(SHORT)?)?];
    // Up to four bytes stand in the tag itself, and their number in the upper half of the kind.
    if first >> 16 != 0 {
        let length = (first >> 16) as usize;
        ensure!(length <= 4, "an element of four bytes has {length}");
        let (body, rest) = from[4..].split_at(4);
        *from = rest;
        return Ok((first & 0xffff, &body[..length]));
    }
    let length = second as usize;
    let body = from[8..].get(..length).context(SHORT)?;
    // The next one begins at a multiple of eight bytes, but behind what is compressed.
    let whole = if first == COMPRESSED { length } else { length.next_multiple_of(8) };
    *from = from[8..].get(whole..).unwrap_or_default();
    Ok((first, body))
}

/// What is wrong with a file that ends where more is expected.
const SHORT: &str = "it ends within an element";

/// Returns the first four bytes as a number.
fn word(from: &[u8]) -> Result<u32> {
    from.first_chunk().map(|bytes| u32::from_le_bytes(*bytes)).context(SHORT)
}

/// Takes the head of an array off: its class, how many elements it has, and its name.
fn head<'a>(from: &mut &'a [u8]) -> Result<(u32, usize, &'a [u8])> {
    let (_, flags) = element(from)?;
    let (_, sides) = element(from)?;
    let (_, name) = element(from)?;
    let sides = sides.as_chunks().0.iter().map(|side| u32::from_le_bytes(*side) as usize);
    let count = sides.fold(1_usize, usize::saturating_mul);
    Ok((word(flags)? & 0xff, count, name))
}

/// Returns the WNIDs, if the array is the one that has them.
fn synsets(mut body: &[u8]) -> Result<Option<Vec<String>>> {
    let from = &mut body;
    let (class, count, name) = head(from)?;
    if class != STRUCTURES || name != b"synsets" {
        return Ok(None);
    }
    let (_, length) = element(from)?;
    let length = (word(length)? as usize).max(1);
    let (_, names) = element(from)?;
    let names: Vec<&[u8]> = names
        .chunks(length)
        .map(|name| name.split(|&byte| byte == 0).next().unwrap_or_default())
        .collect();
    let place = |wanted: &str| {
        let place = names.iter().position(|name| *name == wanted.as_bytes());
        place.with_context(|| format!("synsets have no {wanted}"))
    };
    let (number, wnid) = (place("ILSVRC2012_ID")?, place("WNID")?);
    let mut numbered = Vec::new();
    for nth in 0..count {
        let mut fields = Vec::with_capacity(names.len());
        for _ in &names {
            fields.push(element(from)?.1);
        }
        let parse = || Ok::<_, anyhow::Error>((number_of(fields[number])?, text_of(fields[wnid])?));
        numbered.push(parse().with_context(|| format!("class {nth}"))?);
    }
    // Those behind the thousand that occur are of groups of them.
    numbered.sort_unstable();
    for (nth, (number, wnid)) in numbered.iter().enumerate() {
        ensure!(
            *number == nth as u64 + 1,
            "{wnid} has the number {number}, and {} is due",
            nth + 1
        );
    }
    Ok(Some(numbered.into_iter().map(|(_, wnid)| wnid).collect()))
}

/// Returns the number that an array of one has.
fn number_of(mut array: &[u8]) -> Result<u64> {
    head(&mut array)?;
    let (kind, bytes) = element(&mut array)?;
    let number = match (kind, bytes) {
        (INT8 | UINT8, &[low, ..]) => u64::from(low),
        (INT16 | UINT16, &[a, b, ..]) => u64::from(u16::from_le_bytes([a, b])),
        (INT32 | UINT32, &[a, b, c, d, ..]) => u64::from(u32::from_le_bytes([a, b, c, d])),
        (SINGLE, &[a, b, c, d, ..]) => f32::from_le_bytes([a, b, c, d]) as u64,
        (DOUBLE, bytes) => f64::from_le_bytes(*bytes.first_chunk().context(SHORT)?) as u64,
        _ => bail!("its number is an element of kind {kind} and {} bytes", bytes.len()),
    };
    Ok(number)
}

/// Returns the text that an array of characters has.
fn text_of(mut array: &[u8]) -> Result<String> {
    head(&mut array)?;
    match element(&mut array)? {
        (UINT16, bytes) => {
            let units = bytes.as_chunks().0.iter().map(|unit| u16::from_le_bytes(*unit));
            let text: Result<String, _> = char::decode_utf16(units).collect();
            text.context("its WNID is no text")
        }
        (INT8 | UINT8 | UTF8, bytes) => {
            str::from_utf8(bytes).map(str::to_owned).context("its WNID is no text")
        }
        (kind, _) => bail!("its WNID is an element of kind {kind}"),
    }
}

/// Returns a file with these WNIDs, each with its number, as MATLAB would write it without compression.
pub(crate) fn written<'a>(wnids: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    const FIELDS: [&str; 2] = ["ILSVRC2012_ID", "WNID"];
    const DOUBLES: u32 = 6;
    const CHARACTERS: u32 = 4;
    let tagged = |kind: u32, body: &[u8]| {
        let mut bytes = [kind.to_le_bytes(), (body.len() as u32).to_le_bytes()].concat();
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    };
    let array = |class: u32, columns: u32, name: &str, body: &[u8]| {
        let flags = tagged(UINT32, &[class.to_le_bytes(), [0; 4]].concat());
        let sides = tagged(INT32, &[1_u32.to_le_bytes(), columns.to_le_bytes()].concat());
        tagged(MATRIX, &[&flags, &sides, &tagged(INT8, name.as_bytes())[..], body].concat())
    };
    let mut fields = Vec::new();
    let mut count: u32 = 0;
    for wnid in wnids {
        count += 1;
        fields.extend(array(DOUBLES, 1, "", &tagged(DOUBLE, &f64::from(count).to_le_bytes())));
        let text: Vec<u8> = wnid.encode_utf16().flat_map(u16::to_le_bytes).collect();
        fields.extend(array(CHARACTERS, wnid.len() as u32, "", &tagged(UINT16, &text)));
    }
    let mut names = Vec::new();
    for name in FIELDS {
        names.extend(name.as_bytes());
        names.resize(names.len().next_multiple_of(32), 0);
    }
    // A length of four bytes stands in its tag.
    let length = [(4_u32 << 16 | INT32).to_le_bytes(), 32_u32.to_le_bytes()].concat();
    let body = [length, tagged(INT8, &names), fields].concat();
    let mut bytes =
        format!("{:124}", "MATLAB 5.0 MAT-file, written by adaloss-datasets").into_bytes();
    bytes.extend([0, 1, b'I', b'M']);
    bytes.extend(array(STRUCTURES, count, "synsets", &body));
    bytes
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::ZlibEncoder};

    use super::*;

    const WNIDS: [&str; 3] = ["n02119789", "n02100735", "n02110185"];

    fn error(bytes: &[u8]) -> String {
        format!("{:#}", wnids(bytes).unwrap_err())
    }

    #[test]
    fn what_is_written_is_read_compressed_or_not() {
        let plain = written(WNIDS);
        assert_eq!(wnids(&plain).unwrap(), WNIDS);
        let mut packing = ZlibEncoder::new(Vec::new(), Compression::default());
        packing.write_all(&plain[HEADER..]).unwrap();
        let packed = packing.finish().unwrap();
        let mut bytes = plain[..HEADER].to_vec();
        bytes.extend([COMPRESSED.to_le_bytes(), (packed.len() as u32).to_le_bytes()].concat());
        bytes.extend(packed);
        assert_eq!(wnids(&bytes).unwrap(), WNIDS);
        bytes.truncate(bytes.len() - 9);
        assert!(error(&bytes).contains("it ends within an element"));
    }

    /// By `scipy.io.savemat` (1.17.1), with the fields of the development kit's and another array in front.
    #[test]
    fn what_scipy_writes_is_read() {
        let expected = ["n02119789", "n02100735", "n02110185", "n00001740"];
        assert_eq!(wnids(include_bytes!("meta/plain.mat")).unwrap(), expected);
        assert_eq!(wnids(include_bytes!("meta/compressed.mat")).unwrap(), expected);
    }

    #[test]
    fn every_truncation_is_an_error() {
        let plain = written(WNIDS);
        for length in 0..plain.len() {
            assert!(wnids(&plain[..length]).is_err(), "{length} of {} bytes", plain.len());
        }
        assert_eq!(error(&plain[..HEADER]), "it has no array called synsets");
    }

    #[test]
    fn numbers_that_are_no_order_are_errors() {
        let plain = written(WNIDS);
        let three = 3.0_f64.to_le_bytes();
        let at = plain.windows(8).position(|bytes| bytes == three).unwrap();
        let with = |number: f64| {
            let mut bytes = plain.clone();
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
            error(&bytes)
        };
        assert_eq!(with(2.0), "n02110185 has the number 2, and 3 is due");
        assert_eq!(with(4.0), "n02110185 has the number 4, and 3 is due");
        let mut foreign = plain.clone();
        foreign[126..128].copy_from_slice(b"MI");
        assert!(error(&foreign).contains("no MAT-file of level 5"));
    }
}
