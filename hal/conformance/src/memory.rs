//! Memory: zeroed, copied, and cut into parts.

use core::fmt::Debug;

use adaloss_core::{policy::Cell, statistics::Outcome};

use super::{
    Case, Discrepancy, Failure, Report,
    tensor::{download, upload},
};
use adaloss_hal::{AddressSpace, Error, ErrorKind, Memory, Plain};

pub(super) fn check<D: Memory>(device: &mut D, report: &mut Report) -> Result<(), Failure> {
    let word = |index: usize| (index as u32).wrapping_mul(0x9e37_79b9);
    for length in [0, 1, 2, 31, 33, 256, 1000, 4097] {
        check_copies(device, report, length, |index| word(index) as u8)?;
        check_copies(device, report, length, |index| word(index) as u16)?;
        check_copies(device, report, length, word)?;
        check_copies(device, report, length, |index| u64::from(word(index)) << 17)?;
        check_copies(device, report, length, |index| f32::from_bits(word(index) >> 4))?;
    }
    check_copies(device, report, 3, |index| Outcome { zero: index as u64, ..Outcome::EMPTY })?;
    check_copies(device, report, 3, |index| {
        Cell::at(adaloss_core::scale::Scale::saturating(index as i32))
    })?;
    check_lengths(device, report)?;
    check_two_buffers(device, report)
}

/// Zeroed memory, whole copies, and copies of parts that leave the rest alone.
fn check_copies<T: Plain + PartialEq + Debug, D: Memory>(
    device: &mut D,
    report: &mut Report,
    length: usize,
    value: impl Fn(usize) -> T,
) -> Result<(), Failure> {
    let case = Case::new("zeroed", length);
    let mut buffer = case.succeeds(device.zeroed::<T>(length))?;
    case.number("the length of a buffer", length as i64, D::Space::len(D::view(&buffer)) as i64)?;
    let zero = T::zeroed();
    download(case, device, D::view(&buffer), &mut |_, found: T| {
        case.whole("an element of zeroed memory", &zero, &found)
    })?;

    let case = Case::new("write and read", length);
    upload(case, device, D::view_mut(&mut buffer), &value)?;
    download(case, device, D::view(&buffer), &mut |index, found: T| {
        case.whole("an element that was written", &value(index), &found)
    })?;
    report.operations += 2;
    report.elements += 2 * length as u64;
    check_parts(device, report, &mut buffer, value)
}

/// Parts, parts of parts, and ranges that are none.
fn check_parts<T: Plain + PartialEq + Debug, D: Memory>(
    device: &mut D,
    report: &mut Report,
    buffer: &mut D::Buffer<T>,
    value: impl Fn(usize) -> T,
) -> Result<(), Failure> {
    let length = D::Space::len(D::view(buffer));
    let case = Case::new("part", length);
    let (first, last) = (length / 3, length - length / 4);
    {
        let mut lent = D::view_mut(buffer);
        let outer =
            case.finds(D::Space::part_mut(D::Space::reborrow_mut(&mut lent), first..length))?;
        let mut inner = case.finds(D::Space::part_mut(outer, 0..last - first))?;
        case.number(
            "the length of a part of a part",
            (last - first) as i64,
            D::Space::len(D::Space::shared(&inner)) as i64,
        )?;
        for outside in [last - first + 1, usize::MAX] {
            let range = 0..outside;
            let is_none = D::Space::part_mut(D::Space::reborrow_mut(&mut inner), range.clone())
                .is_none()
                && D::Space::part(D::Space::shared(&inner), range).is_none();
            let part = Discrepancy::Differs { what: "whether there is a part beyond the end" };
            is_none.then_some(()).ok_or(case.fails(part))?;
        }
        upload(case, device, inner, &|index| value(index + 1))?;
    }
    download(case, device, D::view(buffer), &mut |index, found: T| {
        let is_written = (first..last).contains(&index);
        let expected = value(if is_written { index - first + 1 } else { index });
        case.whole("an element in or beside a part that was written", &expected, &found)
    })?;
    let view = D::view(buffer);
    let inner = case.finds(D::Space::part(view, first..length))?;
    let inner = case.finds(D::Space::part(D::Space::reborrow(inner), 0..last - first))?;
    download(case, device, inner, &mut |index, found: T| {
        case.whole("an element of a part", &value(index + 1), &found)
    })?;
    #[expect(clippy::reversed_empty_ranges, reason = "this is the point")]
    let backwards = D::Space::part(view, 2..1).is_none();
    let part =
        Discrepancy::Differs { what: "whether a range that ends before it begins is a part" };
    backwards.then_some(()).ok_or(case.fails(part))?;
    report.operations += 1;
    report.elements += length as u64;
    Ok(())
}

/// Copies between lengths that differ; neither side may change.
fn check_lengths<D: Memory>(device: &mut D, report: &mut Report) -> Result<(), Failure> {
    let case = Case::new("copies of other lengths", 4);
    let mut buffer = case.succeeds(device.zeroed::<u32>(4))?;
    upload(case, device, D::view_mut(&mut buffer), &|index| index as u32)?;
    let mut host = [7_u32; 6];
    for length in [0, 3, 5, 6] {
        let found = device.write(&host[..length], D::view_mut(&mut buffer));
        refused(case, report, found)?;
        let found = device.read(D::view(&buffer), &mut host[..length]);
        refused(case, report, found)?;
    }
    case.whole("the host's memory after a refused copy", &[7; 6], &host)?;
    download(case, device, D::view(&buffer), &mut |index, found: u32| {
        case.whole("the device's memory after a refused copy", &(index as u32), &found)
    })
}

fn refused<E: Error>(
    case: Case,
    report: &mut Report,
    result: Result<(), E>,
) -> Result<(), Failure> {
    let found = result.err().map(|error| error.kind());
    if found == Some(ErrorKind::Shape) {
        report.refusals += 1;
        return Ok(());
    }
    Err(case.fails(Discrepancy::Error { expected: Some(ErrorKind::Shape), found }))
}

/// Two buffers are two; what the host writes may change as soon as `write` returns; a buffer that is
/// dropped takes nothing with it.
fn check_two_buffers<D: Memory>(device: &mut D, report: &mut Report) -> Result<(), Failure> {
    let case = Case::new("two buffers", 9);
    let mut first = case.succeeds(device.zeroed::<u16>(9))?;
    let mut second = case.succeeds(device.zeroed::<u16>(9))?;
    let mut host = [1_u16; 9];
    case.succeeds(device.write(&host, D::view_mut(&mut first)))?;
    host = [2; 9];
    case.succeeds(device.write(&host, D::view_mut(&mut second)))?;
    host = [3; 9];
    case.succeeds(device.read(D::view(&first), &mut host))?;
    case.whole("the first of two buffers", &[1; 9], &host)?;
    drop(first);
    case.succeeds(device.read(D::view(&second), &mut host))?;
    case.whole("the second of two buffers", &[2; 9], &host)?;
    report.operations += 2;
    report.elements += 18;
    Ok(())
}
